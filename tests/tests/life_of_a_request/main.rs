//! The life of a request: what goes up, what comes down, who is refused and how, and what becomes of an exchange whose upstream
//! or client fails on the way.
//!
//! Plugins and the cache have themes of their own; here there are none.

mod embeddings;
mod failures;
mod leaving;
mod pass_through;
mod prompts;
mod records;
mod refusals;
mod switches;
