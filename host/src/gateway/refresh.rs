//! Asking anew for what the cache has, behind the answer that was served: because its time is over (`stale_while_revalidate`), or will
//! be soon and it is used often (`refresh_ahead`).
//!
//! A refresh is an exchange of its own, with the request, the key and the headers of the one that it follows, and goes down the line
//! from the plan on: so plugins route it, and it fills the cache as any other. It leads a flight, so that whoever comes meanwhile and
//! finds nothing waits for it.
//!
//! What it does not do: it answers nobody, and is in no number of those that tell how clients fare; what it costs is in the costs.
//!
//! **Invariant:** at most one refresh of an answer is under way, and one that came to nothing is not tried again for `PAUSE`.
//! **Invariant:** it has the priority `batch`: where a provider has no room for more, clients go first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::Instant;

use super::course::Course;
use super::key::Keys;
use super::{Gateway, reply};
use crate::cache::{Cache, Entry, ExactKey};
use crate::config::{Priority, RefreshAhead};
use crate::dialect::openai_chat::ChatRequest;
use crate::numbers::{Count, Exposition};
use crate::record::CacheOutcome;

/// How long an answer that could not be had is left alone.
const PAUSE: Duration = Duration::from_secs(5);
/// Refreshes that are remembered. Beyond that none begins.
const MOST: usize = 10_000;

/// Why an answer is asked for anew.
#[derive(Clone, Copy, Debug)]
enum Why {
    Stale,
    Ahead,
}

impl Why {
    const ALL: [Self; 2] = [Self::Stale, Self::Ahead];

    fn name(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Ahead => "ahead",
        }
    }
}

/// What is being asked for anew, and what became of it.
#[derive(Default)]
pub struct Refreshes {
    under_way: Mutex<HashMap<ExactKey, Standing>>,
    /// How many more may begin ahead of their time, and since when that is known.
    allowance: Mutex<Option<(f64, Instant)>>,
    done: [Count; Why::ALL.len()],
    failed: [Count; Why::ALL.len()],
}

#[derive(Clone, Copy)]
enum Standing {
    UnderWay,
    /// It came to nothing.
    Rests(Instant),
}

impl Refreshes {
    /// Its numbers for /metrics.
    pub fn expose(&self, text: &mut Exposition) {
        for why in Why::ALL {
            for (outcome, counts) in [("done", &self.done), ("failed", &self.failed)] {
                text.counter(
                    "pointsman_cache_refreshes_total",
                    "Answers that were asked for anew behind one that was served, by why and what became of it.",
                    &[("why", why.name()), ("outcome", outcome)],
                    counts[why as usize].get(),
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ExactKey, Standing>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// May one begin?
    fn begins(&self, key: ExactKey, now: Instant) -> bool {
        let mut under_way = self.lock();
        let rests = |standing: &Standing| match standing {
            Standing::UnderWay => true,
            Standing::Rests(until) => *until > now,
        };
        if under_way.get(&key).is_some_and(rests) {
            return false;
        }
        if under_way.len() >= MOST {
            under_way.retain(|_, standing| rests(standing));
        }
        if under_way.len() >= MOST {
            return false;
        }
        under_way.insert(key, Standing::UnderWay);
        true
    }

    fn ends(&self, key: &ExactKey, why: Why, done: bool) {
        let mut under_way = self.lock();
        if done {
            under_way.remove(key);
        } else {
            under_way.insert(*key, Standing::Rests(Instant::now() + PAUSE));
        }
        drop(under_way);
        let counts = if done { &self.done } else { &self.failed };
        counts[why as usize].add(1);
    }

    /// Is there one left of those that may begin ahead of their time?
    fn is_allowed(&self, per_second: f64, now: Instant) -> bool {
        let most = per_second.max(1.0);
        let mut allowance = self.allowance.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, since) = allowance.unwrap_or((most, now));
        let left = (left + (now - since).as_secs_f64() * per_second).min(most);
        let is_allowed = left >= 1.0;
        *allowance = Some((if is_allowed { left - 1.0 } else { left }, now));
        is_allowed
    }
}

/// Is it used often, and about to end?
fn is_due(wanted: &RefreshAhead, entry: &Entry) -> bool {
    entry.hits.load(std::sync::atomic::Ordering::Relaxed) >= wanted.hits && entry.fresh_for() < entry.ttl.mul_f64(wanted.share)
}

/// An answer was served to the very same request: it is asked for anew where it is time.
pub(super) fn behind(course: &Course, request: &Arc<ChatRequest>, keys: &Keys, cache: &Cache, entry: &Entry) {
    let ahead = course.exchange.state.config.cache.as_ref().and_then(|cache| cache.refresh_ahead);
    let why = match entry.is_over() {
        true if entry.stale_by() < cache.revalidates_for() => Why::Stale,
        false if ahead.is_some_and(|ahead| is_due(&ahead, entry)) => Why::Ahead,
        _ => return,
    };
    let gateway = &course.gateway;
    let now = Instant::now();
    if !keys.store || gateway.flights.has(&keys.exact) || !gateway.refreshes.begins(keys.exact, now) {
        return;
    }
    let is_allowed =
        ahead.filter(|_| matches!(why, Why::Ahead)).is_none_or(|ahead| gateway.refreshes.is_allowed(ahead.per_second, now));
    let drain = gateway.drain.get().filter(|_| is_allowed);
    let (Some(drain), Some(anew)) = (drain, Anew::of(course, request, keys, why)) else {
        gateway.refreshes.lock().remove(&keys.exact);
        return;
    };
    drain.spawn(anew.ask());
}

/// A refresh on its way.
struct Anew {
    gateway: Arc<Gateway>,
    course: Box<Course>,
    request: Arc<ChatRequest>,
    keys: Keys,
    ended: Ended,
}

/// Notes how it ended, also where the process ends first.
struct Ended {
    gateway: Arc<Gateway>,
    key: ExactKey,
    why: Why,
    done: bool,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.gateway.refreshes.ends(&self.key, self.why, self.done);
    }
}

impl Anew {
    /// None where there is no memory for it.
    fn of(behind: &Course, request: &Arc<ChatRequest>, keys: &Keys, why: Why) -> Option<Self> {
        let gateway = behind.gateway.clone();
        let mut course = Course::beside(behind, request, None);
        (course.record.cache, course.priority) = (CacheOutcome::Refresh, Priority::Batch);
        let ended = Ended { gateway: gateway.clone(), key: keys.exact, why, done: false };
        course.has_memory().ok()?;
        course.meet_plugins(request);
        Some(Self { gateway, course, request: request.clone(), keys: keys.clone(), ended })
    }

    async fn ask(self) {
        let Self { gateway, course, request, keys, mut ended } = self;
        let (cache, began) = (course.exchange.state.cache.clone(), Instant::now());
        let (mut course, answer) = match gateway.flights.lead(&course, &request, &keys) {
            Some(seat) => seat.leads(|seat| gateway.clone().line(course, request, Some(keys), Some(seat))).await,
            None => gateway.clone().line(course, request, Some(keys), None).await,
        };
        let reply = answer.unwrap_or_else(|error| reply::refused(&mut course, &error, None));
        // It is stored as its bytes pass.
        let mut body = reply.into_response(course).into_body();
        while let Some(Ok(_)) = body.frame().await {}
        drop(body);
        ended.done = cache.is_some_and(|cache| cache.was_stored_since(&ended.key, began));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::KeyBuilder;

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_a_pause_after_a_failure() {
        let refreshes = Refreshes::default();
        let (key, other) = (KeyBuilder::new("t").exact(), KeyBuilder::new("u").exact());
        let begins = |key| refreshes.begins(key, Instant::now());
        assert!(begins(key) && !begins(key) && begins(other));
        refreshes.ends(&key, Why::Stale, true);
        assert!(begins(key));
        refreshes.ends(&key, Why::Stale, false);
        assert!(!begins(key));
        tokio::time::advance(PAUSE).await;
        assert!(begins(key));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_a_second() {
        let refreshes = Refreshes::default();
        let allowed = |rate| (0..10).filter(|_| refreshes.is_allowed(rate, Instant::now())).count();
        assert_eq!(allowed(2.0), 2);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(allowed(2.0), 2);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(allowed(2.0), 2, "none are saved up");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(allowed(0.1), 1, "a slow rate allows single ones");
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(allowed(0.1), 0);
    }
}
