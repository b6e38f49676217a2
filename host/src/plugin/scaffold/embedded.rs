//! The SDKs and the contract as they were when this binary was made; `build.rs` gathers them.
//!
//! What it does not do: it knows nothing of languages (`scaffold`).
//!
//! **Invariant:** paths are those of the repository, in order.

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
