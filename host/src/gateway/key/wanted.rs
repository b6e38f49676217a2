//! What a client's `cache-control` asks of the cache (RFC 9111, 5.2.1; `stale-if-error` is RFC 5861's).
//!
//! | directive | |
//! |---|---|
//! | `no-store` | nothing is looked up or stored |
//! | `no-cache` | nothing is looked up; the answer is stored |
//! | `only-if-cached` | nobody is asked: 504 `not_cached` where nothing is found |
//! | `max-age=SECONDS` | nothing that is older |
//! | `min-fresh=SECONDS` | nothing whose time is over before then |
//! | `max-stale`, `max-stale=SECONDS` | also what has been over for so long, as far as it is kept |
//! | `stale-if-error=SECONDS` | in the place of an error nothing that has been over for longer |
//!
//! What it does not do: it looks nothing up. What cannot be read is as if it were not there, as HTTP has it.

use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

use crate::cache::Entry;

/// What the client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::gateway) struct Wanted {
    pub(super) no_cache: bool,
    pub(super) no_store: bool,
    pub(in crate::gateway) only_if_cached: bool,
    /// Seconds, here and below.
    pub(in crate::gateway) max_age: Option<u64>,
    min_fresh: Option<u64>,
    max_stale: Option<u64>,
    stale_if_error: Option<u64>,
}

impl Wanted {
    pub(in crate::gateway) fn read(headers: &HeaderMap) -> Self {
        let mut wanted = Self::default();
        let values: Vec<_> = headers
            .get_all(CACHE_CONTROL)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase())
            .collect();
        for directive in values.iter().flat_map(|value| value.split(',')).map(str::trim) {
            let (name, seconds) = match directive.split_once('=') {
                Some((name, seconds)) => (name, seconds.trim_matches('"').parse::<u64>().ok()),
                None => (directive, None),
            };
            match (name, seconds, directive.len() == name.len()) {
                ("no-cache", _, true) => wanted.no_cache = true,
                ("no-store", _, true) => wanted.no_store = true,
                ("only-if-cached", _, true) => wanted.only_if_cached = true,
                ("max-stale", None, true) => wanted.max_stale = Some(u64::MAX),
                ("max-stale", Some(seconds), _) => wanted.max_stale = Some(seconds),
                ("max-age", Some(seconds), _) => wanted.max_age = Some(seconds),
                ("min-fresh", Some(seconds), _) => wanted.min_fresh = Some(seconds),
                ("stale-if-error", Some(seconds), _) => wanted.stale_if_error = Some(seconds),
                _ => {}
            }
        }
        wanted
    }

    /// Does it take an answer whose time is not over, at this moment of the wall clock?
    pub(super) fn takes(&self, entry: &Entry, now: u64) -> bool {
        let lasts = |seconds| entry.fresh_for() >= Duration::from_secs(seconds);
        !self.no_cache && self.is_young_enough(entry, now) && self.min_fresh.is_none_or(lasts)
    }

    /// Is it no older than wanted?
    pub(super) fn is_young_enough(&self, entry: &Entry, now: u64) -> bool {
        self.max_age.is_none_or(|seconds| entry.age(now) <= seconds)
    }

    /// For how long after its time an answer may be served at once, where the owner has said `own`. Who says how fresh it must be does
    /// not take a stale one, unless he says so, too.
    pub(super) fn stale_for(&self, own: Duration) -> Duration {
        match self.max_stale {
            _ if self.no_cache => Duration::ZERO,
            Some(seconds) => Duration::from_secs(seconds),
            None if self.max_age.is_some() || self.min_fresh.is_some() => Duration::ZERO,
            None => own,
        }
    }

    /// May it take the place of an error?
    pub(super) fn takes_for_an_error(&self, entry: &Entry) -> bool {
        self.stale_if_error.is_none_or(|seconds| entry.stale_by() <= Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_control() {
        let none = Wanted::default();
        let cases = [
            (vec![], none),
            (vec!["no-cache"], Wanted { no_cache: true, ..none }),
            (vec!["No-Store, max-age=\"60\""], Wanted { no_store: true, max_age: Some(60), ..none }),
            (vec!["max-age=0", "no-cache"], Wanted { no_cache: true, max_age: Some(0), ..none }),
            (vec!["max-age=x, private"], none),
            (vec!["max-age", "min-fresh", "stale-if-error"], none),
            (vec!["no-store, x=\"é\""], Wanted { no_store: true, ..none }),
            (vec!["only-if-cached, max-stale"], Wanted { only_if_cached: true, max_stale: Some(u64::MAX), ..none }),
            (vec!["max-stale=30,min-fresh=5"], Wanted { max_stale: Some(30), min_fresh: Some(5), ..none }),
            (vec!["max-stale=soon"], none),
            (vec!["stale-if-error=0"], Wanted { stale_if_error: Some(0), ..none }),
            (vec!["no-cache=\"set-cookie\""], none),
        ];
        for (values, expect) in &cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(Wanted::read(&headers), *expect, "{values:?}");
        }
    }

    #[test]
    fn who_takes_what_is_over() {
        let none = Wanted::default();
        let own = Duration::from_secs(60);
        for (wanted, expect) in [
            (none, 60),
            (Wanted { max_stale: Some(5), ..none }, 5),
            (Wanted { max_stale: Some(500), max_age: Some(1), ..none }, 500),
            (Wanted { max_age: Some(500), ..none }, 0),
            (Wanted { min_fresh: Some(1), ..none }, 0),
            (Wanted { no_cache: true, max_stale: Some(5), ..none }, 0),
        ] {
            assert_eq!(wanted.stale_for(own), Duration::from_secs(expect), "{wanted:?}");
        }
    }
}
