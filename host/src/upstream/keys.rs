//! A provider's keys: which one a request is sent with, and what each may still do at each endpoint.
//!
//! The key with the largest remaining share of its limits is taken. One that a request would use up, that an endpoint has refused (429) or does
//! not accept (401), is left, and the others go on; when all are, the endpoint counts as open until the first is back.
//!
//! What it does not do: it shows no key; [`Key::name`] says where one was found.
//!
//! **Invariant:** with one key, and as long as no answer has said anything of limits, nothing is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use tokio::time::Instant;

use super::endpoint::Endpoint;
use super::quota::{self, Mark, Quota};

/// For how long a key that is not accepted is left: somebody may correct it where it was made.
const DENIED: Duration = Duration::from_secs(300);

/// One key.
#[derive(Clone)]
pub struct Key {
    /// Where it was found, `env:NAME` or `file:PATH`.
    pub name: Arc<str>,
    /// The header that carries it.
    pub header: (HeaderName, HeaderValue),
}

/// The keys of a pool at each of its endpoints.
pub struct Keys {
    keys: Vec<Key>,
    /// Those of the first endpoint, then those of the next. Where there is no key, each endpoint has one all the same.
    quotas: Vec<Arc<Quota>>,
    /// Anything is known of any of them.
    known: AtomicBool,
}

/// Which key a request is sent with, and where.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticket {
    slot: usize,
    mark: Mark,
    tokens: u64,
}

impl Keys {
    /// What is known of a key that stays at an endpoint that stays is kept.
    pub(super) fn new(
        keys: Vec<Key>,
        endpoints: &[Arc<Endpoint>],
        previous: Option<(&Self, &[Arc<Endpoint>])>,
        now: Instant,
    ) -> Self {
        let kept = |endpoint: &Arc<Endpoint>, key: Option<&Key>| {
            let (before, theirs) = previous?;
            let place = theirs.iter().position(|known| Arc::ptr_eq(known, endpoint))?;
            let index = match key {
                Some(key) => before.keys.iter().position(|known| known.header == key.header)?,
                None => before.keys.is_empty().then_some(0)?,
            };
            before.quotas.get(place * before.count() + index).cloned()
        };
        let each: Vec<Option<&Key>> = if keys.is_empty() { vec![None] } else { keys.iter().map(Some).collect() };
        let slots = endpoints.iter().flat_map(|endpoint| each.iter().map(move |key| (endpoint, *key)));
        let quotas = slots.map(|(endpoint, key)| kept(endpoint, key).unwrap_or_else(|| Arc::new(Quota::new(now)))).collect();
        let known = previous.is_some_and(|(before, _)| before.known.load(Ordering::Relaxed));
        Self { keys, quotas, known: AtomicBool::new(known) }
    }

    /// Keys of an endpoint.
    fn count(&self) -> usize {
        self.keys.len().max(1)
    }

    fn at(&self, place: usize) -> &[Arc<Quota>] {
        self.quotas.get(place * self.count()..(place + 1) * self.count()).unwrap_or_default()
    }

    /// For how long no key of an endpoint can bear a request of so many tokens; none: one can.
    pub(super) fn used_up(&self, place: usize, tokens: u64, now: Instant) -> Option<Duration> {
        if !self.known.load(Ordering::Relaxed) {
            return None;
        }
        let mut soonest = None;
        for quota in self.at(place) {
            let wait = quota.room(tokens, now).err()?;
            soonest = Some(soonest.map_or(wait, |soonest: Duration| soonest.min(wait)));
        }
        soonest
    }

    /// A request of so many tokens is sent to an endpoint: with the key that has most room, or the first that will have some.
    pub(super) fn take(&self, place: usize, tokens: u64, now: Instant) -> Ticket {
        let (count, known) = (self.count(), self.known.load(Ordering::Relaxed));
        let first = place * count;
        if !known {
            // Nobody has said anything: each as often as the others.
            return Ticket { slot: first + if count > 1 { fastrand::usize(..count) } else { 0 }, ..Ticket::default() };
        }
        let rank = |quota: &Quota| quota.room(tokens, now).unwrap_or_else(|wait| -1.0 - wait.as_secs_f32());
        let from = if count > 1 { fastrand::usize(..count) } else { 0 };
        let each = (0..count).map(|turn| (from + turn) % count).filter_map(|at| Some((at, rank(self.at(place).get(at)?))));
        let at = each.reduce(|best, next| if next.1 > best.1 { next } else { best }).map_or(0, |(at, _)| at);
        let mark = self.quotas.get(first + at).map_or(Mark::default(), |quota| quota.send(tokens));
        Ticket { slot: first + at, mark, tokens }
    }

    /// The key of a ticket; none where the provider has none.
    pub(super) fn key(&self, ticket: Ticket) -> Option<&Key> {
        self.keys.get(ticket.slot % self.count())
    }

    /// What an answer's head says of limits.
    pub(super) fn told(&self, ticket: Ticket, headers: &HeaderMap, now: Instant) {
        if let Some(quota) = self.quotas.get(ticket.slot).filter(|_| quota::is_told(headers)) {
            quota.told(headers, ticket.mark, now);
            self.known.store(true, Ordering::Relaxed);
        }
    }

    /// The endpoint has refused this key, for so long. Is there another that it may bear?
    pub(super) fn refused(&self, ticket: Ticket, time: Duration, now: Instant) -> bool {
        // Of one key alone a refusal may be about that one request: the breaker counts them.
        if self.count() < 2 {
            return false;
        }
        self.quotas.get(ticket.slot).iter().for_each(|quota| quota.leave(time, now));
        self.known.store(true, Ordering::Relaxed);
        self.used_up(ticket.slot / self.count(), ticket.tokens, now).is_none()
    }

    /// The endpoint does not accept this key. Is there another?
    pub(super) fn denied(&self, ticket: Ticket, endpoint: &Endpoint, now: Instant) -> bool {
        let others = self.refused(ticket, DENIED, now);
        if let (Some(key), Some(quota)) = (self.key(ticket), self.quotas.get(ticket.slot))
            && quota.denied(true)
        {
            let (endpoint, key) = (&**endpoint.authority(), &*key.name);
            tracing::error!(endpoint, key, "the endpoint does not accept this key");
        }
        others
    }

    /// It does.
    pub(super) fn accepted(&self, ticket: Ticket) {
        self.quotas.get(ticket.slot).iter().for_each(|quota| _ = quota.denied(false));
    }

    /// The keys at an endpoint by their names, where there is more to tell than that there is one.
    pub fn view(&self, place: usize, now: Instant) -> Vec<(&str, quota::View)> {
        if !self.known.load(Ordering::Relaxed) && self.keys.len() < 2 {
            return Vec::new();
        }
        let names = self.keys.iter().map(|key| &*key.name).chain(self.keys.is_empty().then_some(""));
        names.zip(self.at(place)).map(|(name, quota)| (name, quota.view(now))).collect()
    }
}
