//! The tests' harness: a host under test, and everything that it meets: upstreams that misbehave, links that fail, clients
//! that do not keep to the protocol, plugins that do what they are told.
//!
//! ```no_run
//! use tests::{FakeUpstream, Host};
//! let fake = FakeUpstream::start();
//! let host = Host::new().upstream(&fake).start();
//! let answer = host.chat("hello");
//! assert_eq!((answer.status, fake.count()), (200, 1));
//! ```
//!
//! Blocking sockets and threads throughout: a test reads from top to bottom, and the host's own runtime is the only one that
//! is measured. A helper that cannot do its work panics, which fails the test that asked for it.
//!
//! What it does not do: it asserts nothing about the host; the themes under `tests/` do.
//!
//! **Invariant:** everything listens on loopback, and everything that is started ends with the value that started it.
//! **Invariant:** nothing waits for ever: each wait has a bound, and says what it waited for when the bound is reached.

#![allow(clippy::missing_panics_doc, reason = "a harness that cannot do its work must fail the test")]

pub mod binary;
pub mod client;
pub mod deaf;
pub mod door;
pub mod fleet;
pub mod front;
pub mod guests;
pub mod h2;
pub mod host;
pub mod installed;
pub mod link;
pub mod metrics;
pub mod pairs;
pub mod redis;
pub mod registry;
pub mod sse;
pub mod tls;
pub mod upstream;

use std::time::{Duration, Instant};

pub use binary::Binary;
pub use client::{Answer, Connection};
pub use deaf::{Deaf, Nobody};
pub use door::Door;
pub use front::Front;
pub use host::{Host, Plugin, Running};
pub use installed::{installed, models};
pub use link::FaultLink;
pub use redis::Redis;
pub use registry::Registry;
pub use upstream::{Act, FakeUpstream, Fault, Gate, Place};

/// The longest that a test waits for something that ought to happen soon. The machine may be slow and shared.
pub const SOON: Duration = Duration::from_secs(20);

/// Waits until `happens` gives something, and fails the test after [`SOON`].
pub fn eventually<T>(what: &str, happens: impl FnMut() -> Option<T>) -> T {
    within(SOON, happens).unwrap_or_else(|| panic!("{what}: not within {SOON:?}"))
}

/// Asks again and again until `happens` gives something, at most for `limit`.
pub fn within<T>(limit: Duration, mut happens: impl FnMut() -> Option<T>) -> Option<T> {
    let ends = Instant::now() + limit;
    loop {
        if let Some(found) = happens() {
            return Some(found);
        }
        if Instant::now() >= ends {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
