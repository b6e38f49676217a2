//! How endpoints are, found out without a client's request.
//!
//! Bad answers in a row open an endpoint's breaker and keep it open while they go on; good ones in a row end its pause early, so that the
//! next request is its probation. What the endpoint has asked for itself is kept to.
//!
//! What it does not do: it closes no breaker. That a server answers here does not say that it can answer a request, so one request
//! decides, as ever.
//!
//! **Invariant:** what was good before an endpoint failed says nothing about it after.
//! **Invariant:** the provider's key goes nowhere but below the base URL.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::header::HeaderMap;
use tokio::time::{Instant, timeout};

use super::breaker::Breaker;
use super::connect::Client;
use super::endpoint::Endpoint;
use super::pool::Pool;
use super::{retry, watch};
use crate::config;
use crate::numbers::Count;

/// The largest answer; who says more is not asked how it is.
const SIZE: usize = 1 << 20;

/// What the owner has written.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// The path at the endpoint's host.
    pub path: String,
    /// How often.
    pub interval: Duration,
    /// How soon the answer must be there.
    pub timeout: Duration,
    /// Good answers in a row.
    pub healthy: u32,
    /// Bad ones.
    pub unhealthy: u32,
}

impl From<&config::Probe> for Rules {
    fn from(probe: &config::Probe) -> Self {
        Self {
            path: probe.path.clone(),
            interval: probe.interval.get(),
            timeout: probe.timeout.get(),
            healthy: probe.healthy,
            unhealthy: probe.unhealthy,
        }
    }
}

/// What is known of an endpoint. One task writes it.
#[derive(Default)]
pub struct Health {
    /// Good and bad answers in a row; one of them is 0.
    good: AtomicU32,
    bad: AtomicU32,
    ill: AtomicBool,
    /// The breaker's, when a good answer was last counted.
    era: AtomicU64,
    /// All bad answers.
    pub failures: Count,
}

impl Health {
    /// So many bad answers in a row that it is left alone, and not enough good ones since. Before the first answer it is well.
    pub fn is_ill(&self) -> bool {
        self.ill.load(Ordering::Relaxed)
    }

    /// An answer to what was asked then. Did its state change?
    fn good(&self, rules: &Rules, breaker: &Breaker, asked_at: Instant, now: Instant) -> bool {
        let goes_on = self.era.swap(breaker.era(), Ordering::Relaxed) == breaker.era();
        let before = if goes_on { self.good.load(Ordering::Relaxed) } else { 0 };
        let good = if breaker.is_old(asked_at) { 0 } else { before.saturating_add(1) };
        self.good.store(good, Ordering::Relaxed);
        self.bad.store(0, Ordering::Relaxed);
        if good < rules.healthy {
            return false;
        }
        breaker.found_well(now);
        self.ill.swap(false, Ordering::Relaxed)
    }

    fn bad(&self, rules: &Rules, breaker: &Breaker, asked: Option<Duration>, now: Instant) -> bool {
        self.failures.add(1);
        self.good.store(0, Ordering::Relaxed);
        let bad = self.bad.load(Ordering::Relaxed).saturating_add(1);
        self.bad.store(bad, Ordering::Relaxed);
        if bad < rules.unhealthy {
            return false;
        }
        // Until the next answer, and where there is none for a while.
        breaker.found_ill(now, asked, rules.interval * 2 + rules.timeout);
        !self.ill.swap(true, Ordering::Relaxed)
    }
}

/// Asks an endpoint how it is.
pub(super) async fn ask(client: &Client, pool: &Pool, endpoint: &Endpoint) {
    let Some(rules) = &pool.settings().probe else { return };
    let Some(uri) = watch::address(endpoint, &rules.path) else { return };
    let headers = if is_below(&rules.path, endpoint.base()) { watch::headers(pool) } else { HeaderMap::new() };
    let asked_at = Instant::now();
    let answer = timeout(rules.timeout, watch::get(client, uri, headers, SIZE)).await.ok().flatten();
    let (now, health, breaker) = (Instant::now(), &endpoint.health, &endpoint.breaker);
    let status = answer.as_ref().map(http::Response::status);
    let asked = answer.as_ref().and_then(|answer| retry::asked(answer.status(), answer.headers()));
    let changed = match status {
        Some(status) if status.is_success() => health.good(rules, breaker, asked_at, now),
        // That says something about our key, and there may be others.
        Some(http::StatusCode::UNAUTHORIZED | http::StatusCode::FORBIDDEN) => false,
        _ => health.bad(rules, breaker, asked, now),
    };
    if health.is_ill() {
        endpoint.tally.is_told(breaker);
    }
    let (provider, address, status) = (pool.name(), &**endpoint.authority(), status.map_or(0, |status| status.as_u16()));
    match (changed, health.is_ill()) {
        (true, true) => {
            tracing::warn!(provider, endpoint = address, path = rules.path, status, "its probes fail: it is left alone")
        }
        (true, false) => tracing::info!(provider, endpoint = address, "its probes succeed: it may be tried"),
        (false, _) => tracing::trace!(endpoint = address, status, "probed"),
    }
}

/// Is a path at the host below the base URL?
fn is_below(path: &str, base: &str) -> bool {
    let base = base.parse::<http::Uri>();
    let base = base.as_ref().map_or("/", |base| base.path()).trim_end_matches('/');
    let path = path.split('?').next().unwrap_or_default();
    // `..` is the server's to make sense of.
    let rest = path.strip_prefix(base).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    rest.is_some_and(|rest| !rest.contains("..") && !rest.contains('%'))
}

#[cfg(test)]
mod tests {
    use super::super::breaker::{self, Standing};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A breaker that opens after three failures for ten seconds; probes every second, of which two decide.
    fn start() -> (Breaker, Health, Rules, Instant) {
        let breaker = config::Breaker { failures: 3, open: config::Duration::from_secs(10), ..Default::default() };
        let second = config::Duration::from_secs(1);
        let probe = config::Probe { interval: second, timeout: second, unhealthy: 2, ..Default::default() };
        let now = Instant::now();
        (Breaker::new(breaker::Rules::from(&breaker), now), Health::default(), (&probe).into(), now)
    }

    #[tokio::test(start_paused = true)]
    async fn bad_answers_open_it_and_good_ones_end_its_pause() {
        let (breaker, health, rules, now) = start();
        assert!(!health.bad(&rules, &breaker, None, now) && breaker.standing(now) == Standing::Closed, "once is no row");
        assert!(!health.good(&rules, &breaker, now, now));
        health.bad(&rules, &breaker, None, now);
        assert!(health.bad(&rules, &breaker, None, now) && health.is_ill(), "and this changes its state");
        assert_eq!(breaker.standing(now), Standing::Open(10 * SECOND));
        let later = now + 9 * SECOND;
        assert!(!health.bad(&rules, &breaker, None, later), "it is known already");
        assert_eq!(breaker.standing(later), Standing::Open(3 * SECOND), "it is left alone until the next one");
        assert!(!health.good(&rules, &breaker, later, later) && health.is_ill());
        assert!(health.good(&rules, &breaker, later, later) && !health.is_ill());
        assert_eq!(breaker.standing(later), Standing::Probation, "one request decides");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_good_before_it_failed_says_nothing() {
        let (breaker, health, rules, now) = start();
        (0..5).for_each(|_| _ = health.good(&rules, &breaker, now, now));
        let failed = now + SECOND;
        (0..3).for_each(|_| breaker.failed(failed, failed, None));
        let later = failed + SECOND;
        health.good(&rules, &breaker, now, later);
        assert_eq!(breaker.standing(later), Standing::Open(9 * SECOND), "this one was asked before");
        health.good(&rules, &breaker, later, later);
        assert_eq!(breaker.standing(later), Standing::Open(9 * SECOND));
        health.good(&rules, &breaker, later, later);
        assert_eq!(breaker.standing(later), Standing::Probation);
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_has_asked_for_itself_is_kept_to() {
        let (breaker, health, rules, now) = start();
        (0..3).for_each(|_| breaker.failed(now, now, Some(30 * SECOND)));
        (0..5).for_each(|_| _ = health.good(&rules, &breaker, now, now));
        assert_eq!(breaker.standing(now), Standing::Open(30 * SECOND), "by a request");
        let (breaker, health, rules, now) = start();
        (0..2).for_each(|_| _ = health.bad(&rules, &breaker, None, now));
        health.bad(&rules, &breaker, Some(40 * SECOND), now);
        (0..5).for_each(|_| _ = health.good(&rules, &breaker, now, now));
        assert_eq!(breaker.standing(now), Standing::Open(40 * SECOND), "by a probe");
    }

    #[test]
    fn the_key_goes_below_the_base_url_alone() {
        for (path, base, expect) in [
            ("/v1/models", "http://h/v1", true),
            ("/v1", "http://h/v1/", true),
            ("/v1/health?full=1", "http://h/v1", true),
            ("/v10/models", "http://h/v1", false),
            ("/health", "http://h/v1", false),
            ("/v1/../admin", "http://h/v1", false),
            ("/v1/%2e%2e/admin", "http://h/v1", false),
            ("/health", "https://h", true),
        ] {
            assert_eq!(is_below(path, base), expect, "{path} {base}");
        }
    }
}
