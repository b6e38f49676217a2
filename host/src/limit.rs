//! How much is too much, and what follows: pressure on a pool, and the levels to which answers are degraded because of it.
//!
//! Pure: numbers and the time come in, a level goes out. `gateway::degrade` brings the numbers and does what a level says.
//!
//! What it does not do: it sheds nothing itself; the queue before a pool is `upstream::gate`'s.
//!
//! **Invariant:** no clock is read here, so that a test's time is the only one.

pub mod ladder;
pub mod pressure;
