//! Write pointsman plugins in Rust: one trait implementation and one macro line.
//!
//! A plugin is a small WebAssembly component that decides about each inference request. It has one or more hooks:
//!
//! | hook | it decides | trait |
//! |---|---|---|
//! | `routing` | which model answers, and whether its answer is good enough | [`Routing`] |
//! | `prompting` | which version of which prompt, and what else changes in the request | [`Prompting`] |
//! | `caching` | which requests may share an answer | [`Caching`] |
//!
//! ```
//! use pointsman_plugin::{Decision, Plan, Request, RequestHead, Result, Routing};
//!
//! struct ShortIsCheap;
//!
//! impl Routing for ShortIsCheap {
//!     fn route(head: &RequestHead, _: &Request) -> Result<Decision> {
//!         if head.prompt_tokens > 400 {
//!             return Ok(Decision::Pass);
//!         }
//!         Ok(Plan::to("small").then("large").because("short").into())
//!     }
//! }
//!
//! pointsman_plugin::export!(ShortIsCheap: routing);
//! ```
//!
//! `Cargo.toml` names this crate as a dependency and says `[lib] crate-type = ["cdylib"]`; `pointsman plugin build DIR` makes the
//! component. Worked examples are in the repository's `plugins/`, and `docs/plugins.md` says how one is deployed.
//!
//! # What a plugin can ask
//!
//! The small [`RequestHead`] comes with each call. [`Request`] reads headers, messages and body, and costs what is read. All else
//! needs its grant in the configuration: [`config`], [`mod@log`], [`metrics`], [`upstreams`], [`embeddings`], [`clock`],
//! [`random`], [`kv`], [`http`]. A component imports what its code calls, and nothing more.
//!
//! # What to know
//!
//! - One instance serves one exchange up to the model's answer: what a `static` holds is gone with it, and no other exchange sees
//!   it; what is to be kept goes into [`kv`]. [`Routing::after_attempt`], [`Routing::on_chunk`] and [`Caching::admit`] come with an answer, each call to an instance of its own.
//! - A plugin that panics, errs or takes too long is left out: the request goes on without it, unless its owner wrote
//!   `on_failure = "fail"`. The host's log has what it panicked with, and where.
//! - The host's functions exist in the host. Natively, in a `#[test]`, the [`mock`] host stands in for it: it has what the test says, and calls
//!   the hooks. `pointsman plugin test` runs a plugin's cases against the component itself.
//!
//! What this crate does not do: it decides nothing, and it keeps no state between calls.
//!
//! **Invariant:** what it adds to the contract in `wit/` is convenience; nothing can be said with it that the contract does not have.

#[doc(hidden)]
pub mod bindings;
pub mod caching;
pub mod config;
mod error;
#[doc(hidden)]
pub mod export;
mod flat;
mod imports;
pub mod kv;
#[doc(hidden)]
pub mod last_words;
pub mod log;
#[cfg(target_arch = "wasm32")]
mod memory;
#[cfg(not(target_arch = "wasm32"))]
pub mod mock;
pub mod prompting;
mod request;
pub mod routing;

#[doc(inline)]
pub use bindings::host::pointsman::plugin::{
    request_data::{Chunk, Request, Response},
    types::{Labels, Message, Operation, PluginError, PromptRef, Rejection, RequestHead, Role, Target},
};
#[doc(no_inline)]
pub use caching::{Admission, CacheKey, Caching, Candidate, Directive, Scope, SemanticKey, Verdict};
pub use error::Result;
pub use imports::{clock, embeddings, http, metrics, random, upstreams};
#[doc(no_inline)]
pub use prompting::{Edit, Outcome, PromptChoice, Prompting, Rewrite};
#[doc(no_inline)]
pub use routing::{Attempt, Batch, ChunkStep, Decision, Ending, NextStep, Observe, Observed, Plan, Review, Routing};

/// The project's pages hold examples of plugins; here they are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/cascades.md")]
struct Cascades;

/// As above.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/observing.md")]
struct Observing;
