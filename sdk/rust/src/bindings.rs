//! The Rust side of `wit/`, generated beforehand (`tests/bindings.rs` makes and checks it).
//!
//! What it does not do: it adds nothing to the contract; the conveniences are in the other files.
//!
//! **Invariant:** each hook has a file, and its export macro alone writes that hook into a component. So a component says that it
//! has the hooks that it has, and no others.

#![allow(unsafe_code, reason = "generated: the canonical ABI passes pointers and lengths")]
#![allow(clippy::all, clippy::unwrap_used, clippy::panic, reason = "generated: for what the ABI rules out")]
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated from wit/, where the documentation is")]

#[rustfmt::skip]
pub mod caching;
#[rustfmt::skip]
pub mod host;
#[rustfmt::skip]
pub mod lifecycle;
#[rustfmt::skip]
pub mod prompting;
#[rustfmt::skip]
pub mod routing;
