//! A provider's endpoints: who is how busy, who has just failed, who gets the next request.
//!
//! Least loaded first, ties by chance. An endpoint that has failed just now is left aside for a moment, longer each time it
//! fails again, unless all have: a pool is never empty because of its own caution.
//!
//! What it does not do: it sends nothing, probes nothing and scrapes nothing.
//!
//! **Invariant:** a permit is held until the last byte of the answer, and counts against `in_flight`.
//! **Invariant:** a pool does not change but for its counters; a reload builds another one and takes over the endpoints
//! that stay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Uri;
use tokio::time::Instant;

use super::connect::{Client, Connector};
use super::lanes::{Lanes, Place};
use super::provider::{Operation, Provider};

/// How long each phase may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name and TCP.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// From the request's last byte to the answer's head.
    pub headers: Duration,
    /// From the answer's head to its first content.
    pub first_token: Duration,
    /// Between two pieces of an answer.
    pub between_tokens: Duration,
    /// The whole try.
    pub total: Duration,
}

/// What the owner has written about a provider.
pub struct Settings {
    /// Its name in the configuration.
    pub name: String,
    /// Its protocol.
    pub provider: &'static Provider,
    /// Base URLs.
    pub endpoints: Vec<String>,
    /// The header that carries the key.
    pub key: Option<(HeaderName, HeaderValue)>,
    /// Headers that are sent with every request.
    pub headers: HeaderMap,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// Further tries after one that failed.
    pub retries: u32,
    /// Requests that one endpoint may have at a time.
    pub in_flight: Option<u32>,
}

/// The endpoints of one provider.
pub struct Pool {
    settings: Settings,
    endpoints: Vec<Arc<Endpoint>>,
    /// Where the search for the least loaded begins, so that ties go round.
    next: AtomicU32,
}

/// What plugins and the administrator see of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// How many endpoints.
    pub endpoints: u32,
    /// Requests running there.
    pub in_flight: u32,
    /// The share of the last requests that failed, 0 to 1.
    pub failing: f32,
    /// Time to the first byte in milliseconds.
    pub first_byte_ms: Option<u32>,
}

impl Pool {
    /// Builds a pool for `workers` cores; endpoints of `previous` that connect alike are taken over, with their
    /// connections and their history.
    ///
    /// # Errors
    /// When a base URL cannot be used.
    pub fn build(settings: Settings, workers: usize, previous: Option<&Self>) -> Result<Self, String> {
        let kept = previous.filter(|previous| {
            let (a, b) = (&previous.settings.timeouts, &settings.timeouts);
            (a.connect, a.tls) == (b.connect, b.tls) && previous.settings.provider.name == settings.provider.name
        });
        let endpoints = settings
            .endpoints
            .iter()
            .map(|base| match kept.and_then(|previous| previous.endpoints.iter().find(|endpoint| endpoint.base == *base)) {
                Some(endpoint) => Ok(endpoint.clone()),
                None => Endpoint::new(base, settings.provider, &settings.timeouts, workers).map(Arc::new),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { settings, endpoints, next: AtomicU32::new(0) })
    }

    /// The provider's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What the owner has written.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The least loaded endpoint that is not in `avoid` (unless all are), and a permit for one request there. None if all
    /// are at their limit.
    pub fn choose(&self, avoid: &[Arc<Endpoint>]) -> Option<(Arc<Endpoint>, Permit)> {
        let count = self.endpoints.len();
        let start = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let rank = |endpoint: &Arc<Endpoint>| {
            let avoided = avoid.iter().any(|avoided| Arc::ptr_eq(avoided, endpoint));
            (avoided, endpoint.is_aside(), endpoint.in_flight.load(Ordering::Relaxed))
        };
        let limit = self.settings.in_flight.unwrap_or(u32::MAX);
        // A second look is needed only if another core took the last place in between.
        for _ in 0..=count {
            let best = (0..count)
                .map(|step| &self.endpoints[(start + step) % count])
                .filter(|endpoint| endpoint.in_flight.load(Ordering::Relaxed) < limit)
                .min_by_key(|endpoint| rank(endpoint))?;
            if let Some(permit) = Permit::take(best, limit) {
                return Some((best.clone(), permit));
            }
        }
        None
    }

    /// The pool as plugins see it.
    pub fn view(&self) -> View {
        let mean = |of: fn(&Endpoint) -> Option<f32>| {
            let known: Vec<f32> = self.endpoints.iter().filter_map(|endpoint| of(endpoint)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f32>() / known.len() as f32)
        };
        View {
            endpoints: self.endpoints.len() as u32,
            in_flight: self.endpoints.iter().map(|endpoint| endpoint.in_flight.load(Ordering::Relaxed)).sum(),
            failing: mean(|endpoint| Some(endpoint.failing.get().unwrap_or(0.0))).unwrap_or(0.0),
            first_byte_ms: mean(|endpoint| endpoint.first_byte_ms.get()).map(|ms| ms.round() as u32),
        }
    }
}

/// One address of a provider.
pub struct Endpoint {
    base: String,
    authority: Arc<str>,
    chat: Uri,
    embeddings: Uri,
    /// Those of each core: a connection stays on the runtime that made it.
    lanes: Vec<Arc<Lanes>>,
    in_flight: AtomicU32,
    failing: Mean,
    first_byte_ms: Mean,
    /// Failures in a row, and until when it is left aside (milliseconds since `epoch`).
    failures: AtomicU32,
    aside_until: AtomicU64,
    epoch: Instant,
}

impl Endpoint {
    fn new(base: &str, provider: &'static Provider, timeouts: &Timeouts, workers: usize) -> Result<Self, String> {
        let uri = |operation| -> Result<Uri, String> {
            let text = format!("{}{}", base.trim_end_matches('/'), (provider.path)(operation));
            text.parse().map_err(|error| format!("`{base}` is not a URL that can be used: {error}"))
        };
        let chat = uri(Operation::Chat)?;
        let authority: Arc<str> = chat.authority().map_or("", |authority| authority.as_str()).into();
        let connector = Connector::new(timeouts.connect, timeouts.tls);
        Ok(Self {
            base: base.to_owned(),
            authority,
            chat,
            embeddings: uri(Operation::Embeddings)?,
            lanes: (0..workers).map(|_| Lanes::new(connector.clone())).collect(),
            in_flight: AtomicU32::new(0),
            failing: Mean::default(),
            first_byte_ms: Mean::default(),
            failures: AtomicU32::new(0),
            aside_until: AtomicU64::new(0),
            epoch: Instant::now(),
        })
    }

    /// Host and port.
    pub fn authority(&self) -> &Arc<str> {
        &self.authority
    }

    pub(super) fn uri(&self, operation: Operation) -> &Uri {
        match operation {
            Operation::Chat => &self.chat,
            Operation::Embeddings => &self.embeddings,
        }
    }

    /// A try has failed: leave it aside for 1, 2, 4, … up to 30 seconds.
    pub(super) fn failed(&self) {
        self.failing.add(1.0);
        let row = self.failures.fetch_add(1, Ordering::Relaxed).min(5);
        let aside = Duration::from_secs(1 << row).min(Duration::from_secs(30));
        self.aside_until.store((self.epoch.elapsed() + aside).as_millis() as u64, Ordering::Relaxed);
    }

    /// An answer has begun.
    pub(super) fn answered(&self, first_byte: Duration) {
        self.failing.add(0.0);
        self.first_byte_ms.add(first_byte.as_secs_f32() * 1e3);
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.aside_until.store(0, Ordering::Relaxed);
        }
    }

    fn is_aside(&self) -> bool {
        let until = self.aside_until.load(Ordering::Relaxed);
        until != 0 && (self.epoch.elapsed().as_millis() as u64) < until
    }
}

/// One request at an endpoint, from the choice to the answer's last byte.
pub struct Permit {
    endpoint: Arc<Endpoint>,
    place: Option<Place>,
}

impl Permit {
    fn take(endpoint: &Arc<Endpoint>, limit: u32) -> Option<Self> {
        let taken = endpoint.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < limit).then_some(now + 1));
        taken.is_ok().then(|| Self { endpoint: endpoint.clone(), place: None })
    }

    /// What the request is sent with on this core.
    pub(super) fn client(&mut self, worker: usize) -> Option<&Client> {
        let lanes = self.endpoint.lanes.get(worker).or_else(|| self.endpoint.lanes.last())?;
        Some(self.place.insert(lanes.enter()).client())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An exponentially weighted mean of the last thirty or so values. Cores may overwrite one another's last value; a mean
/// does not mind.
#[derive(Default)]
struct Mean(AtomicU64);

impl Mean {
    const WEIGHT: f32 = 1.0 / 16.0;
    /// Set in the upper half as soon as there is a value.
    const KNOWN: u64 = 1 << 32;

    fn add(&self, value: f32) {
        let mean = match self.get() {
            Some(mean) => mean + (value - mean) * Self::WEIGHT,
            None => value,
        };
        self.0.store(Self::KNOWN | u64::from(mean.to_bits()), Ordering::Relaxed);
    }

    fn get(&self) -> Option<f32> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits & Self::KNOWN != 0).then(|| f32::from_bits(bits as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::provider;

    fn pool(endpoints: usize, in_flight: Option<u32>) -> Pool {
        let second = Duration::from_secs(1);
        let timeouts = Timeouts {
            connect: second,
            tls: second,
            headers: second,
            first_token: second,
            between_tokens: second,
            total: second,
        };
        let endpoints = (0..endpoints).map(|port| format!("http://127.0.0.1:{}/v1", 9000 + port)).collect();
        let provider = provider::named("openai").unwrap();
        Pool::build(
            Settings {
                name: "p".into(),
                provider,
                endpoints,
                key: None,
                headers: HeaderMap::new(),
                timeouts,
                retries: 1,
                in_flight,
            },
            1,
            None,
        )
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_least_loaded_that_did_not_just_fail() {
        let pool = pool(3, None);
        let held: Vec<_> = (0..6).filter_map(|_| pool.choose(&[])).collect();
        assert!(pool.endpoints.iter().all(|endpoint| endpoint.in_flight.load(Ordering::Relaxed) == 2));
        drop(held);
        assert_eq!(pool.view().in_flight, 0);

        pool.endpoints[0].failed();
        for _ in 0..10 {
            assert!(!Arc::ptr_eq(&pool.choose(&[]).unwrap().0, &pool.endpoints[0]));
        }
        pool.endpoints[1].failed();
        pool.endpoints[2].failed();
        assert!(pool.choose(&[]).is_some(), "a pool is never empty because of its own caution");
        tokio::time::advance(Duration::from_secs(2)).await;
        let seen: Vec<_> = (0..3).map(|_| pool.choose(&[]).unwrap()).collect();
        assert!(pool.endpoints.iter().all(|endpoint| seen.iter().any(|(chosen, _)| Arc::ptr_eq(chosen, endpoint))));
    }

    #[tokio::test]
    async fn a_limit_holds_and_a_retry_goes_elsewhere() {
        let pool = pool(2, Some(1));
        let first = pool.choose(&[]).unwrap();
        let second = pool.choose(std::slice::from_ref(&first.0)).unwrap();
        assert!(!Arc::ptr_eq(&first.0, &second.0));
        assert!(pool.choose(&[]).is_none());
        drop(first);
        assert!(pool.choose(&[]).is_some());
    }
}
