//! How many files may be open: each connection is one, and each request upstream another.
//!
//! **Invariant:** the hard limit is the owner's and is left alone.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files beside connections: listeners, components, the log, runtimes, connections that are being refused.
const BESIDE: u64 = 256;

/// Raises the limit as far as it goes, and says so where that is not far enough.
pub(super) fn raise(max_connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // None is no limit at all.
    let mut limit = current;
    if current.is_some_and(|current| maximum.is_none_or(|maximum| current < maximum)) {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => limit = maximum,
            Err(error) => tracing::warn!(%error, ?current, ?maximum, "the limit of open files could not be raised"),
        }
    }
    let needed = needed(max_connections);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            "not as many files may be open as listen.max_connections = {max_connections} can need; raise the hard limit (`ulimit -Hn`, LimitNOFILE), or lower it"
        );
    }
}

/// A connection of a client, and one to an upstream for it.
fn needed(max_connections: usize) -> u64 {
    (max_connections as u64).saturating_mul(2).saturating_add(BESIDE)
}
