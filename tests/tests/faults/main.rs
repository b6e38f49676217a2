//! Everything that can go wrong on the way to an upstream and back: each fault, in each phase of an exchange, under each policy,
//! plain and streamed.
//!
//! `table` says what the client is to see, and `docs/faults.md` is made of it; `cell` lets one fault happen, and `seen` holds what came
//! of it to the table; the other files go through all of them.
//!
//! **Invariant:** before the commit point a client sees one whole answer, or an error with its code; after it whole events and one
//! error, no `[DONE]`, and no reason to finish that the upstream has not given.
//! **Invariant:** where a stream is gone on with, a seam stands between its halves, and each word is there once.
//! **Invariant:** what was paid for and reaches no client is in the cost.
//! **Invariant:** never more tries than the policy has, and nothing left that still runs.

mod attempts;
mod cell;
mod doors;
mod halves;
mod hedges;
mod http_2;
mod matrix;
mod seen;
mod sweep;
mod table;
