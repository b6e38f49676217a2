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

use super::Failure;
use super::balance::{Choice, Seen};
use super::breaker::{Breaker, Standing};
use super::connect::{Client, Connector};
use super::gate::Pass;
use super::gauges::Gauges;
use super::keys::Ticket;
use super::lanes::{Lanes, Place};
use super::load::Cost;
use super::loaded::Said;
use super::pool::Settings;
use super::probe::Health;
use super::provider::{Operation, Provider};
use super::tally::Tally;
use super::watch::{Question, Turn};
use crate::dialect::prefix;

/// One address of a provider.
pub struct Endpoint {
    base: String,
    /// The provider's name, for the log.
    provider: Arc<str>,
    authority: Arc<str>,
    chat: Uri,
    embeddings: Uri,
    /// Those of each core: a connection stays on the runtime that made it.
    lanes: Vec<Arc<Lanes>>,
    /// What tells it from others, the same on every gateway.
    salt: u64,
    in_flight: AtomicU32,
    /// Bytes of prompts whose answers have not begun, less what is cached there.
    work: AtomicU64,
    /// The share of the last requests that failed, and their time to the first byte: for plugins and the administrator.
    pub(super) failing: Mean,
    pub(super) first_byte_ms: Mean,
    /// What it costs to ask here, and what each byte of work costs.
    cost: Cost,
    pace: Cost,
    /// What it says of itself, where it is asked.
    pub gauges: Gauges,
    /// Which models it says that it has.
    pub said: Said,
    /// How it is, where it is asked.
    pub health: Health,
    /// When it was last asked each of the questions.
    turns: [Turn; Question::ALL.len()],
    epoch: Instant,
    /// May it be asked?
    pub breaker: Breaker,
    /// What it was asked, and what failed.
    pub tally: Tally,
}

impl Endpoint {
    pub(super) fn new(base: &str, settings: &Settings, workers: usize, now: Instant) -> Result<Self, String> {
        let provider: &Provider = settings.provider;
        let uri = |operation| -> Result<Uri, String> {
            let text = format!("{}{}", base.trim_end_matches('/'), (provider.path)(operation));
            text.parse().map_err(|error| format!("`{base}` is not a URL that can be used: {error}"))
        };
        let chat = uri(Operation::Chat)?;
        let authority: Arc<str> = chat.authority().map_or("", |authority| authority.as_str()).into();
        let connector = Connector::new(settings.timeouts.connect, settings.timeouts.tls);
        Ok(Self {
            base: base.to_owned(),
            provider: settings.name.as_str().into(),
            authority,
            chat,
            embeddings: uri(Operation::Embeddings)?,
            lanes: (0..workers).map(|_| Lanes::new(connector.clone())).collect(),
            salt: prefix::hash(0, base.as_bytes()),
            in_flight: AtomicU32::new(0),
            work: AtomicU64::new(0),
            failing: Mean::default(),
            first_byte_ms: Mean::default(),
            cost: Cost::new(now),
            pace: Cost::new(now),
            gauges: Gauges::new(now),
            said: Said::default(),
            health: Health::default(),
            turns: Default::default(),
            epoch: now,
            breaker: Breaker::new(settings.breaker, now),
            tally: Tally::new(now),
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

    pub(super) fn salt(&self) -> u64 {
        self.salt
    }

    /// What can be seen of it.
    pub(super) fn seen(&self, now: Instant) -> Seen {
        let (others, waiting, kv) = self.gauges.others(now);
        Seen {
            pending: self.in_flight() as f32 + others,
            work: self.work.load(Ordering::Relaxed) as f32 + waiting * USUAL_PROMPT,
            cost: self.cost.at(now),
            pace: self.pace.at(now),
            share: self.breaker.share(now),
            kv,
            fit: 1.0,
        }
    }

    /// How long answers have taken to begin of late, in milliseconds; none where nothing was measured for some seconds.
    pub(super) fn lately(&self, now: Instant) -> Option<f32> {
        self.cost.unfaded(now)
    }

    /// Requests there, those of other gateways included where its metrics tell.
    pub(super) fn pending(&self, now: Instant) -> f32 {
        self.in_flight() as f32 + self.gauges.others(now).0
    }

    /// When it is asked this again.
    pub(super) fn turn(&self, question: Question) -> &Turn {
        &self.turns[question as usize]
    }

    /// What its times are counted from.
    pub(super) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// A try that began then has failed.
    pub(super) fn failed(&self, began: Instant, failure: &Failure) {
        self.tally.failed(failure);
        if failure.blames {
            let now = Instant::now();
            self.failed_at(began, failure.asked, now);
            self.tell(now);
        } else {
            self.kept_waiting(began.elapsed());
        }
    }

    /// Tells the log if the breaker has opened or closed.
    fn tell(&self, now: Instant) {
        self.tally.look(&self.breaker, &self.provider, &self.authority, now);
    }

    /// The endpoint may have said for how long it is to be left alone. At a time that a simulation may say.
    pub fn failed_at(&self, began: Instant, asked: Option<Duration>, now: Instant) {
        self.failing.add(1.0);
        self.breaker.failed(now, began, asked);
    }

    /// An answer that has begun to a request that began then has broken off.
    pub(super) fn broke(&self, began: Instant) {
        let now = Instant::now();
        self.tally.cut();
        self.failing.add(1.0);
        self.breaker.broke(now, began);
        self.tell(now);
    }

    /// An answer has begun to a request that began then. How long a refusal took says nothing about answers.
    pub(super) fn answered(&self, began: Instant, is_success: bool) {
        let now = Instant::now();
        self.answered_at(began, is_success, now);
        self.tell(now);
    }

    /// The same, at a time that a simulation may say.
    pub fn answered_at(&self, began: Instant, is_success: bool, now: Instant) {
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

/// Bytes of a prompt of which nothing is known but that it waits.
const USUAL_PROMPT: f32 = 4_096.0;

/// One request at an endpoint, from the choice to the answer's last byte.
pub struct Permit {
    endpoint: Arc<Endpoint>,
    /// It is the one request of a probation.
    probes: bool,
    place: Option<Place>,
    /// Leave to be at work in the pool, where that is bounded.
    pub(super) pass: Option<Pass>,
    /// The key that it is sent with.
    pub(super) ticket: Ticket,
    /// What waits there because of it until its answer begins, and all that did when it came.
    work: u32,
    ahead: f32,
    since: Instant,
}

impl Permit {
    /// None where it is at its limit, or on probation with a request under way.
    pub(super) fn take(endpoint: &Arc<Endpoint>, limit: u32, standing: Standing, choice: Choice, now: Instant) -> Option<Self> {
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
        endpoint.work.fetch_add(u64::from(choice.work), Ordering::Relaxed);
        Some(Self {
            endpoint: endpoint.clone(),
            probes,
            place: None,
            pass: None,
            ticket: Ticket::default(),
            work: choice.work,
            ahead: choice.ahead,
            since: now,
        })
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Since when.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// What the request is sent with on this core.
    pub(super) fn client(&mut self, worker: usize) -> Option<&Client> {
        let lanes = self.endpoint.lanes.get(worker).or_else(|| self.endpoint.lanes.last())?;
        Some(self.place.insert(lanes.enter()).client())
    }

    /// Its answer has begun.
    pub(super) fn begun(&mut self, streamed: bool, after: Duration) {
        if !streamed {
            // A plain answer begins when all of it is said, which is no measure of the prompts before it.
            self.ahead = 0.0;
        }
        self.decided();
        self.pass.iter_mut().for_each(|pass| pass.began(streamed, after));
    }

    /// Its answer has begun: what follows decides nothing more, and its prompt waits no more.
    pub(super) fn decided(&mut self) {
        self.begun_at(Instant::now());
    }

    /// The same, at a time that a simulation may say.
    pub fn begun_at(&mut self, now: Instant) {
        let ahead = std::mem::take(&mut self.ahead);
        if ahead > 0.0 {
            let took = now.saturating_duration_since(self.since).as_secs_f32() * 1e3;
            self.endpoint.pace.observe_ms(took / ahead, now);
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.endpoint.work.fetch_sub(u64::from(std::mem::take(&mut self.work)), Ordering::Relaxed);
        if std::mem::take(&mut self.probes) {
            self.endpoint.breaker.end_probe();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if std::mem::take(&mut self.probes) {
            self.endpoint.breaker.give_up_probe(Instant::now(), self.since);
        }
        self.settle();
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
