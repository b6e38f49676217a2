//! Upstreams: which endpoint is asked, TLS and whom it trusts, HTTP/2 and what it has that HTTP/1.1 has not, and each phase's bound on
//! time.
//!
//! What becomes of an exchange whose upstream fails over plain HTTP/1.1 is told in `life_of_a_request/failures.rs`.

mod balance;
mod breakers;
mod continuation;
mod deadlines;
mod degradation;
mod gates;
mod hedges;
mod http_2;
mod idle;
mod keys;
mod lies;
mod pools;
mod probes;
mod timeouts;
mod tls;
