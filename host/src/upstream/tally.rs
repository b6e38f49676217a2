//! What an endpoint was asked, what its tries failed of, and what the log is told of its breaker.
//!
//! What it does not do: it decides nothing; `breaker` does.
//!
//! **Invariant:** where nothing fails, a request costs it one count and one look at whether the breaker has changed.
//! **Invariant:** an endpoint that comes and goes writes at most [`LINES`] lines a minute.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::breaker::{Breaker, Standing};
use super::{Failure, Kind};
use crate::numbers::Count;

/// Lines about one endpoint's breaker in each minute.
const LINES: u32 = 6;
const MINUTE: Duration = Duration::from_secs(60);

/// What a try has failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// There was no connection.
    Unreachable,
    /// One of `timeouts` was passed.
    Timeout,
    /// The client's time was over, or a plugin's; the endpoint is not blamed.
    Deadline,
    /// It said that it has no room: 429, 503, 529.
    Busy,
    /// It said that it has failed: 408, 425, other 5xx, a stream that begins with an error.
    Failing,
    /// It does not accept the key: 401, 403.
    Denied,
    /// The answer broke off before the client had any of it, or is none.
    Broken,
    /// The answer broke off, or stopped, after the client had the beginning of it.
    Cut,
}

impl Fault {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 8] =
        [Self::Unreachable, Self::Timeout, Self::Deadline, Self::Busy, Self::Failing, Self::Denied, Self::Broken, Self::Cut];

    /// The name in metrics and in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Busy => "busy",
            Self::Failing => "failing",
            Self::Denied => "denied",
            Self::Broken => "broken",
            Self::Cut => "cut",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Unreachable => "it could not be reached",
            Self::Timeout => "it passed one of `timeouts`",
            Self::Deadline => "it took longer than the request had time",
            Self::Busy => "it was busy",
            Self::Failing => "it said that it had failed",
            Self::Denied => "it did not accept the key",
            Self::Broken => "its answer broke off before it had begun",
            Self::Cut => "its answer broke off after it had begun",
        }
    }

    fn of(failure: &Failure) -> Self {
        let status = failure.status.map_or(0, |status| status.as_u16());
        match failure.error.kind() {
            Kind::UpstreamUnreachable => Self::Unreachable,
            Kind::UpstreamTimeout if failure.blames => Self::Timeout,
            Kind::UpstreamTimeout => Self::Deadline,
            Kind::UpstreamDenied => Self::Denied,
            _ if matches!(status, 429 | 503 | 529) => Self::Busy,
            // What came as an answer says more than that none did.
            _ if failure.answer.is_some() || status >= 400 => Self::Failing,
            _ => Self::Broken,
        }
    }
}

/// What is counted of one endpoint.
pub struct Tally {
    /// Tries that were sent there.
    pub requests: Count,
    failures: [Count; Fault::ALL.len()],
    /// The newest failure's number and one (upper half), and its status or 0; 0: there was none.
    last: AtomicU32,
    /// The breaker's era that the log has been told of, or was not to be told of.
    told: AtomicU64,
    lines: Mutex<Lines>,
}

/// What was written of late.
struct Lines {
    since: Instant,
    written: u32,
    untold: u64,
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            requests: Count::default(),
            failures: Default::default(),
            last: AtomicU32::new(0),
            told: AtomicU64::new(0),
            lines: Mutex::new(Lines { since: now, written: 0, untold: 0 }),
        }
    }

    /// How many tries have failed of this.
    pub fn failures(&self, fault: Fault) -> u64 {
        self.failures[fault as usize].get()
    }

    /// The newest failure, in words.
    pub fn last(&self) -> Option<String> {
        let last = self.last.load(Ordering::Relaxed);
        let fault = *Fault::ALL.get(((last >> 16) as usize).checked_sub(1)?)?;
        Some(match (last & 0xffff, fault) {
            (0, fault) => fault.says().to_owned(),
            (status, _) => format!("it answered {status}"),
        })
    }

    /// A try has failed.
    pub(super) fn failed(&self, failure: &Failure) {
        self.note(Fault::of(failure), failure.status);
    }

    /// An answer has broken off after it had begun.
    pub(super) fn cut(&self) {
        self.note(Fault::Cut, None);
    }

    fn note(&self, fault: Fault, status: Option<StatusCode>) {
        self.failures[fault as usize].add(1);
        let status = status.map_or(0, |status| u32::from(status.as_u16()));
        self.last.store((fault as u32 + 1) << 16 | status, Ordering::Relaxed);
    }

    /// Somebody else has told the log why the breaker is open.
    pub(super) fn is_told(&self, breaker: &Breaker) {
        self.told.store(breaker.era(), Ordering::Relaxed);
    }

    /// Tells the log if the breaker has opened or closed.
    pub(super) fn look(&self, breaker: &Breaker, provider: &str, endpoint: &str, now: Instant) {
        let era = breaker.era();
        // One of those that look at the same moment swaps first.
        if self.told.load(Ordering::Relaxed) == era || self.told.swap(era, Ordering::Relaxed) == era {
            return;
        }
        let Some(untold) = self.may_write(now) else { return };
        let untold = (untold > 0).then_some(untold);
        match breaker.standing(now) {
            Standing::Closed => tracing::info!(provider, endpoint, untold, "in service again: a request has succeeded there"),
            open => {
                let left = if let Standing::Open(left) = open { left } else { Duration::ZERO };
                let (why, last, for_ms) = (breaker.why(), self.last(), left.as_millis() as u64);
                tracing::warn!(
                    provider,
                    endpoint,
                    why,
                    last,
                    for_ms,
                    untold,
                    "an endpoint is left alone: its breaker has opened"
                );
            }
        }
    }

    /// Lines that were left out before this one; none where this one is left out as well.
    fn may_write(&self, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(lines.since) >= MINUTE {
            (lines.since, lines.written) = (now, 0);
        }
        if lines.written >= LINES {
            lines.untold += 1;
            return None;
        }
        lines.written += 1;
        Some(std::mem::take(&mut lines.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Retry};

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_comes_and_goes_does_not_fill_the_log() {
        let now = Instant::now();
        let tally = Tally::new(now);
        let written = |at: Instant| (0..100).filter(|_| tally.may_write(at).is_some()).count() as u32;
        assert_eq!((written(now), written(now + MINUTE / 2)), (LINES, 0));
        assert_eq!(tally.may_write(now + MINUTE), Some(194), "and the next line says how many were left out");
        assert_eq!(tally.may_write(now + MINUTE), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_failure_is_said_in_words() {
        let tally = Tally::new(Instant::now());
        assert_eq!(tally.last(), None);
        let failure = |kind, blames, status: Option<u16>| Failure {
            blames,
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            ..Failure::from(Error::upstream(kind, "h", Retry::Never, String::new()))
        };
        for (kind, blames, status, fault, says) in [
            (Kind::UpstreamUnreachable, true, None, Fault::Unreachable, "it could not be reached"),
            (Kind::UpstreamTimeout, true, None, Fault::Timeout, "it passed one of `timeouts`"),
            (Kind::UpstreamTimeout, false, None, Fault::Deadline, "it took longer than the request had time"),
            (Kind::Overloaded, true, Some(429), Fault::Busy, "it answered 429"),
            (Kind::UpstreamBroken, true, Some(503), Fault::Busy, "it answered 503"),
            (Kind::UpstreamBroken, true, Some(500), Fault::Failing, "it answered 500"),
            (Kind::UpstreamDenied, false, Some(401), Fault::Denied, "it answered 401"),
            (Kind::UpstreamBroken, false, Some(302), Fault::Broken, "it answered 302"),
            (Kind::UpstreamBroken, true, None, Fault::Broken, "its answer broke off before it had begun"),
        ] {
            let before = tally.failures(fault);
            tally.failed(&failure(kind, blames, status));
            assert_eq!((tally.failures(fault), tally.last().as_deref()), (before + 1, Some(says)), "{kind:?} {status:?}");
        }
        tally.cut();
        assert_eq!((tally.failures(Fault::Cut), tally.last().as_deref()), (1, Some(Fault::Cut.says())));
    }
}
