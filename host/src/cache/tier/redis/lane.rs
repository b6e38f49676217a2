//! One core's way to Redis, or the writer's: a connection that many requests share at a time, and a breaker before it.
//!
//! After [`TRIPS`] failures in a row nobody is sent for a while; then one request asks, which costs it the deadline at most. The connection
//! is made anew behind the requests' backs.
//!
//! What it does not do: it asks nothing twice.
//!
//! **Invariant:** whoever asks waits no longer than the deadline; with an open breaker, not at all.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, ErrorKind, FromRedisValue, Pipeline, RedisResult};
use tokio::time::{Instant, timeout};

use super::Shared;

/// Failures in a row that open the breaker.
const TRIPS: u32 = 3;
/// For how long it is open at first, and at most.
const OPEN: Duration = Duration::from_millis(100);
const OPEN_AT_MOST: Duration = Duration::from_secs(2);
/// How long the making of a connection may take, behind the requests' backs.
const CONNECTS: Duration = Duration::from_secs(2);
/// Requests that wait for the connection's task at a time.
const IN_LINE: usize = 1_024;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum No {
    /// The deadline has passed.
    Late,
    /// It was not asked, or has failed.
    Away,
}

/// The way.
pub(super) struct Lane {
    deadline: Duration,
    way: Mutex<Way>,
}

#[derive(Default)]
struct Way {
    manager: Option<ConnectionManager>,
    breaker: Breaker,
}

#[derive(Default)]
struct Breaker {
    failures: u32,
    /// When it has opened last. Whoever asked before that says nothing new.
    since: Option<Instant>,
    /// When somebody may ask again.
    opens_at: Option<Instant>,
    open: Duration,
}

impl Breaker {
    /// May this request go?
    fn admits(&mut self, now: Instant) -> bool {
        match self.opens_at {
            None => true,
            Some(at) if now < at => false,
            Some(_) => {
                // The one that decides; the next ones wait for what it finds.
                self.opens_at = Some(now + self.open);
                true
            }
        }
    }

    fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Somebody who has asked then has no answer. True: it is open.
    fn failed(&mut self, now: Instant, asked: Instant) -> bool {
        if self.since.is_some_and(|since| asked < since) {
            return true;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= TRIPS {
            self.open = (self.open * 2).clamp(OPEN, OPEN_AT_MOST);
            (self.since, self.opens_at) = (Some(now), Some(now + self.open));
        }
        self.opens_at.is_some()
    }
}

impl Lane {
    pub(super) fn new(deadline: Duration) -> Self {
        Self { deadline, way: Mutex::default() }
    }

    /// Has it answered the last time?
    pub(super) fn is_well(&self) -> bool {
        self.lock().breaker.failures == 0
    }

    /// One command's answer.
    pub(super) async fn ask<T: FromRedisValue>(&self, shared: &Shared, command: &Cmd) -> Result<T, No> {
        let mut manager = self.admitted(shared)?;
        self.answered(shared, command.query_async(&mut manager)).await
    }

    /// Several commands in one round trip.
    pub(super) async fn send<T: FromRedisValue>(&self, shared: &Shared, commands: &Pipeline) -> Result<T, No> {
        let mut manager = self.admitted(shared)?;
        self.answered(shared, commands.query_async(&mut manager)).await
    }

    /// The connection, for whoever the breaker lets ask.
    fn admitted(&self, shared: &Shared) -> Result<ConnectionManager, No> {
        let mut way = self.lock();
        if !way.breaker.admits(Instant::now()) {
            return Err(No::Away);
        }
        if way.manager.is_none() {
            // Made on the runtime that will use it.
            way.manager = connect(shared);
        }
        way.manager.clone().ok_or(No::Away)
    }

    async fn answered<T>(&self, shared: &Shared, answer: impl Future<Output = RedisResult<T>>) -> Result<T, No> {
        let asked = Instant::now();
        let (no, why) = match timeout(self.deadline, answer).await {
            Ok(Ok(answer)) => {
                self.lock().breaker.succeeded();
                shared.turns(true, &"");
                return Ok(answer);
            }
            // It is well, but has no room, or is a copy of another.
            Ok(Err(error)) if matches!(error.code(), Some("OOM" | "READONLY")) => {
                self.lock().breaker.succeeded();
                shared.turns(true, &"");
                return Err(No::Away);
            }
            Ok(Err(error)) => {
                if matches!(error.kind(), ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig) {
                    // The manager takes this for its last word; a password may be set right meanwhile.
                    self.lock().manager = None;
                }
                (No::Away, error.to_string())
            }
            Err(_) => (No::Late, "not in time".to_owned()),
        };
        if self.lock().breaker.failed(Instant::now(), asked) {
            shared.turns(false, &why);
        }
        Err(no)
    }

    /// One core's own, so nobody else waits for it.
    fn lock(&self) -> MutexGuard<'_, Way> {
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that is made at the first request, and anew whenever it breaks.
fn connect(shared: &Shared) -> Option<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(CONNECTS))
        // The lane has its own.
        .set_response_timeout(None)
        // When there is another try is the breaker's to say.
        .set_number_of_retries(0)
        .set_pipeline_buffer_size(IN_LINE);
    match shared.client.get_connection_manager_lazy(config) {
        Ok(manager) => Some(manager),
        Err(error) => {
            tracing::error!(%error, redis = shared.shown, "the cache cannot use Redis");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_and_lets_one_ask() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        assert!(breaker.admits(now) && !breaker.failed(now, now) && !breaker.failed(now, now) && breaker.failed(now, now));
        assert!(!breaker.admits(now + OPEN / 2));
        let later = now + OPEN;
        assert!(breaker.admits(later) && !breaker.admits(later), "one asks");
        assert!(breaker.failed(later, later));
        assert!(!breaker.admits(later + OPEN) && breaker.admits(later + 2 * OPEN), "twice as long");
        for _ in 0..20 {
            breaker.failed(later, later);
        }
        assert!(breaker.admits(later + OPEN_AT_MOST));
        breaker.succeeded();
        assert!(breaker.admits(later) && !breaker.failed(later, later));
    }

    /// Many are under way when Redis stalls: all of them fail, and that is one stall.
    #[tokio::test(start_paused = true)]
    async fn those_who_asked_before_it_opened_open_it_no_further() {
        let mut breaker = Breaker::default();
        let (asked, late) = (Instant::now(), Instant::now() + OPEN / 4);
        for _ in 0..20 {
            breaker.failed(late, asked);
        }
        assert!(!breaker.admits(late + OPEN / 2) && breaker.admits(late + OPEN));
    }
}
