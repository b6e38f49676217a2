//! One address of a provider: its connections, how busy it is, whether it may be asked.
//!
//! What it does not do: it is chosen by nobody here (`pool`) and sends nothing (`send`).
//!
//! **Invariant:** a permit is held until the last byte of the answer, and counts as a request that waits there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::uri::Uri;
use tokio::time::Instant;

use super::breaker::{Breaker, Standing};
use super::connect::{Client, Connector};
use super::gate::Pass;
use super::lanes::{Lanes, Place};
use super::load::Cost;
use super::pool::Settings;
use super::provider::{Operation, Provider};

/// One address of a provider.
pub struct Endpoint {
    base: String,
    authority: Arc<str>,
    chat: Uri,
    embeddings: Uri,
    /// Those of each core: a connection stays on the runtime that made it.
    lanes: Vec<Arc<Lanes>>,
    in_flight: AtomicU32,
    /// The share of the last requests that failed, and their time to the first byte: for plugins and the administrator.
    pub(super) failing: Mean,
    pub(super) first_byte_ms: Mean,
    /// What it costs to ask here.
    cost: Cost,
    /// May it be asked?
    pub breaker: Breaker,
}

impl Endpoint {
    pub(super) fn new(base: &str, settings: &Settings, workers: usize) -> Result<Self, String> {
        let provider: &Provider = settings.provider;
        let uri = |operation| -> Result<Uri, String> {
            let text = format!("{}{}", base.trim_end_matches('/'), (provider.path)(operation));
            text.parse().map_err(|error| format!("`{base}` is not a URL that can be used: {error}"))
        };
        let chat = uri(Operation::Chat)?;
        let authority: Arc<str> = chat.authority().map_or("", |authority| authority.as_str()).into();
        let connector = Connector::new(settings.timeouts.connect, settings.timeouts.tls);
        let now = Instant::now();
        Ok(Self {
            base: base.to_owned(),
            authority,
            chat,
            embeddings: uri(Operation::Embeddings)?,
            lanes: (0..workers).map(|_| Lanes::new(connector.clone())).collect(),
            in_flight: AtomicU32::new(0),
            failing: Mean::default(),
            first_byte_ms: Mean::default(),
            cost: Cost::new(now),
            breaker: Breaker::new(settings.breaker, now),
        })
    }

    /// The base URL, as the owner wrote it.
    pub(super) fn base(&self) -> &str {
        &self.base
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

    /// Requests that are under way here.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What one request more would cost, compared with the pool's other endpoints; `usual` is for one of which nothing is known.
    pub(super) fn load(&self, now: Instant, usual: f32) -> f32 {
        let pending = self.in_flight() as f32 + 1.0;
        self.cost.at(now).unwrap_or(usual).max(COST_MIN) * pending / self.breaker.share(now)
    }

    pub(super) fn cost(&self, now: Instant) -> Option<f32> {
        self.cost.at(now)
    }

    /// A try has failed; the endpoint may have said for how long it is to be left alone.
    pub(super) fn failed(&self, began: Instant, asked: Option<Duration>) {
        self.failing.add(1.0);
        self.breaker.failed(Instant::now(), began, asked);
    }

    /// An answer has begun to a request that began then. How long a refusal took says nothing about answers.
    pub(super) fn answered(&self, began: Instant, is_success: bool) {
        let now = Instant::now();
        self.failing.add(0.0);
        if is_success {
            let first_byte = now.saturating_duration_since(began);
            self.first_byte_ms.add(first_byte.as_secs_f32() * 1e3);
            self.cost.observe(first_byte, now);
        }
        self.breaker.succeeded(now, began);
    }

    /// No answer has begun for so long, and nobody waits any more. That is no failure.
    pub(super) fn kept_waiting(&self, so_far: Duration) {
        let now = Instant::now();
        if self.cost.at(now).is_none_or(|cost| cost < so_far.as_secs_f32() * 1e3) {
            self.cost.observe(so_far, now);
        }
    }
}

/// Milliseconds below which endpoints are equally near: what is forgotten is no reason to crowd an endpoint.
const COST_MIN: f32 = 1.0;

/// One request at an endpoint, from the choice to the answer's last byte.
pub struct Permit {
    endpoint: Arc<Endpoint>,
    began: Instant,
    /// It is the one request of a probation.
    probes: bool,
    place: Option<Place>,
    /// Leave to be at work in the pool, where that is bounded.
    pub(super) pass: Option<Pass>,
}

impl Permit {
    /// None where it is at its limit, or on probation with a request under way.
    pub(super) fn take(endpoint: &Arc<Endpoint>, limit: u32, standing: Standing) -> Option<Self> {
        let probes = standing == Standing::Probation;
        if probes && !endpoint.breaker.begin_probe() {
            return None;
        }
        let counter = &endpoint.in_flight;
        if counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |now| (now < limit).then_some(now + 1)).is_err() {
            if probes {
                endpoint.breaker.end_probe();
            }
            return None;
        }
        Some(Self { endpoint: endpoint.clone(), began: Instant::now(), probes, place: None, pass: None })
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Its answer has broken off: too late for this request, but not for the next.
    pub(super) fn broke(self) {
        self.endpoint.failed(self.began, None);
    }

    /// What the request is sent with on this core.
    pub(super) fn client(&mut self, worker: usize) -> Option<&Client> {
        let lanes = self.endpoint.lanes.get(worker).or_else(|| self.endpoint.lanes.last())?;
        Some(self.place.insert(lanes.enter()).client())
    }

    /// Its answer has begun.
    pub(super) fn begun(&mut self, streamed: bool, after: Duration) {
        self.decided();
        self.pass.iter_mut().for_each(|pass| pass.began(streamed, after));
    }

    /// The probation's request has its answer; what follows of it decides nothing more.
    pub(super) fn decided(&mut self) {
        if std::mem::take(&mut self.probes) {
            self.endpoint.breaker.end_probe();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probes {
            self.endpoint.breaker.give_up_probe(Instant::now());
        }
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An exponentially weighted mean of the last thirty or so values. Cores may overwrite one another's last value; a mean
/// does not mind.
#[derive(Default)]
pub(super) struct Mean(AtomicU64);

impl Mean {
    const WEIGHT: f32 = 1.0 / 16.0;
    /// Set in the upper half as soon as there is a value.
    const KNOWN: u64 = 1 << 32;

    pub(super) fn add(&self, value: f32) {
        let mean = match self.get() {
            Some(mean) => mean + (value - mean) * Self::WEIGHT,
            None => value,
        };
        self.0.store(Self::KNOWN | u64::from(mean.to_bits()), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<f32> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits & Self::KNOWN != 0).then(|| f32::from_bits(bits as u32))
    }
}
