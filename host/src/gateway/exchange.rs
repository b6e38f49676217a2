//! One request and its answer: what is known from the beginning, what the plugins may see of it, what is noted on the way.
//!
//! What it does not do: it goes through no stage; `gateway.rs` does.
//!
//! **Invariant:** the snapshot of configuration, plugins and fleet is taken once, at the beginning.
//! **Invariant:** at most one embedding of the last user message is computed in an exchange.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::time::Instant;

use super::models::Model;
use super::state::State;
use crate::embed::EmbedError;
use crate::identity::Principal;
use crate::plugin::http::{Inbound, Outbound};
use crate::plugin::imports::{self, Circuit, HttpError, Latency, Price, Surroundings, Upstream};
use crate::plugin::registry::Whose;
use crate::plugin::release::figures::Fate;
use crate::plugin::tape::{Seen, Tape};
use crate::record::Record;
use crate::upstream::deadline::Deadline;
use crate::upstream::pool::{self, Pool};
use crate::vector::Vector;

/// What is known when the request's head has been read.
pub struct Exchange {
    /// UUID v7: sorts by time.
    pub id: String,
    /// The snapshot that this exchange sees.
    pub state: Arc<State>,
    /// Who is asking.
    pub principal: Principal,
    /// The request's headers.
    pub headers: HeaderMap,
    /// The core that serves it.
    pub worker: usize,
    /// Wall clock, milliseconds since the Unix epoch.
    pub received_at: u64,
    /// The same moment, monotonic.
    pub started: Instant,
    /// When it must be over; the client has had its say when its body is here.
    pub deadline: Deadline,
    /// The models among which the client left the choice, set when the body has been parsed.
    asked: Mutex<Arc<str>>,
    labels: Mutex<Vec<(String, String)>>,
    /// A text and its vector, or why there is none.
    vector: Mutex<Option<(String, Result<Vector, EmbedError>)>>,
    /// What plugins are told and say, where somebody wants to know.
    pub(super) tape: OnceLock<Box<Tape>>,
    /// The fleet as plugins see it, from the first time that one has looked.
    fleet: Fleet,
    /// Outbound calls so far, by plugin.
    calls: Mutex<Vec<(String, u32)>>,
    /// Lines in the log so far, by version.
    lines: Mutex<Vec<(String, u32)>>,
}

/// What plugins were told of each pool, by its name. They are told the same again.
#[derive(Default)]
struct Fleet {
    views: OnceLock<Vec<(String, pool::View)>>,
    statuses: OnceLock<Vec<(String, pool::Status)>>,
}

impl Fleet {
    fn of<T: Copy>(told: &OnceLock<Vec<(String, T)>>, state: &State, name: &str, look: fn(&Pool) -> T) -> Option<T> {
        let all = told.get_or_init(|| state.pools.iter().map(|(name, pool)| (name.clone(), look(pool))).collect());
        all.iter().find(|(known, _)| known == name).map(|(_, told)| *told)
    }
}

impl Exchange {
    /// Begins an exchange.
    pub fn new(state: Arc<State>, principal: Principal, headers: HeaderMap, worker: usize) -> Self {
        let received_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
        let started = Instant::now();
        let deadline = Deadline::new(started + state.longest);
        Self {
            id: id(received_at),
            state,
            principal,
            headers,
            worker,
            received_at,
            started,
            deadline,
            asked: Mutex::default(),
            labels: Mutex::default(),
            vector: Mutex::default(),
            tape: OnceLock::new(),
            fleet: Fleet::default(),
            calls: Mutex::default(),
            lines: Mutex::default(),
        }
    }

    /// A record with what is known at the beginning.
    pub fn record(&self) -> Record {
        Record { id: self.id.clone(), tenant: Some(self.principal.tenant.clone()), ..Record::default() }
    }

    /// Notes which model the client asked for.
    pub fn asks_for(&self, model: &str) {
        if let Ok(mut asked) = self.asked.lock() {
            *asked = model.into();
        }
    }

    /// The model that the client asked for.
    fn asked(&self) -> Arc<str> {
        self.asked.lock().map(|asked| asked.clone()).unwrap_or_default()
    }

    /// The exchange is over: it counts for the versions of plugins that it had to do with.
    pub fn count_for_plugins(&self, whose: &Whose, fate: Fate, cost: u64) {
        if let Ok(asked) = self.asked.lock() {
            self.state.plugins.book(&self.principal.tenant, &asked, whose, fate, cost);
        }
    }

    /// Adds what a plugin wants to be recorded; later plugins see it.
    pub fn add_labels(&self, labels: Vec<(String, String)>) {
        // A plugin's labels are its owner's, but bounded all the same: they travel in every record.
        let bounded = labels.into_iter().take(16).filter(|(name, value)| name.len() <= 64 && value.len() <= 256);
        if let Ok(mut own) = self.labels.lock() {
            own.extend(bounded);
            own.truncate(64);
        }
    }

    /// The labels so far.
    pub fn labels(&self) -> Vec<(String, String)> {
        self.labels.lock().map(|labels| labels.clone()).unwrap_or_default()
    }

    /// The vector of a text, taken from the last call where the text is the same. Where there was none then there is none now: an embedder
    /// that has too much to do is not asked for the same once more.
    ///
    /// # Errors
    /// Where there is no embedder, its queue is full, or it fails.
    pub async fn vector(&self, text: &str) -> Result<Vector, EmbedError> {
        let known = |kept: &Option<(String, Result<Vector, EmbedError>)>| {
            kept.as_ref().filter(|(of, _)| of == text).map(|(_, found)| found.clone())
        };
        if let Some(found) = self.vector.lock().ok().and_then(|kept| known(&kept)) {
            return found;
        }
        let Some(embedder) = &self.state.embedder else {
            return Err(EmbedError::Unavailable("no embedder is configured".into()));
        };
        let found = embedder.embed_from(self.worker, text).await;
        if let Ok(mut kept) = self.vector.lock() {
            *kept = Some((text.to_owned(), found.clone()));
        }
        found
    }

    /// Whether an exchange is recorded is decided when plugins first see it. From then on they see the models as they are now.
    pub(super) fn keeps(&self, tape: Tape) {
        if tape.is_recording() {
            // From now on all questions are answered from what is seen here.
            let _ = self.fleet();
        }
        let _ = self.tape.set(Box::new(tape));
    }

    /// The models as plugins see them, by the names that they may ask for.
    pub(super) fn fleet(&self) -> Vec<Seen> {
        let models = &self.state.models;
        let seen = models.names().filter_map(|(name, _)| Some((name, models.chat(name)?)));
        seen.map(|(name, model)| Seen {
            name: name.to_owned(),
            may_choose: self.may_choose(name),
            upstream: self.view(model),
            status: Surroundings::status(self, name),
        })
        .collect()
    }

    fn may_use(&self, model: &str) -> bool {
        self.principal.models.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == model))
    }

    fn view(&self, model: &Model) -> Upstream {
        let known = Fleet::of(&self.fleet.views, &self.state, &model.provider, Pool::view);
        let pool = known.unwrap_or_else(|| model.pool.view());
        let micros = |dollars: f64| (dollars * 1e6).round() as u64;
        Upstream {
            model: model.name.to_string(),
            provider: model.provider.to_string(),
            price: model.price.map(|price| Price { input: micros(price.input), output: micros(price.output) }),
            endpoints: pool.endpoints,
            in_flight: pool.in_flight,
            failing: pool.failing,
            first_byte_ms: pool.first_byte_ms,
        }
    }
}

/// A UUID v7. It is a name and no secret, so its random part is not worth a system call.
fn id(received_at: u64) -> String {
    let mut random = [0; 10];
    random.copy_from_slice(&fastrand::u128(..).to_le_bytes()[..10]);
    uuid::Builder::from_unix_timestamp_millis(received_at, &random).into_uuid().to_string()
}

impl Surroundings for Exchange {
    fn id(&self) -> &str {
        &self.id
    }

    fn tenant(&self) -> &str {
        &self.principal.tenant
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn received_at(&self) -> u64 {
        self.received_at
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn candidates(&self) -> Vec<Upstream> {
        let asked = self.asked();
        self.state
            .models
            .choices(&asked)
            .into_iter()
            .filter(|model| self.may_use(&model.name) || self.may_use(&asked))
            .map(|model| self.view(model))
            .collect()
    }

    fn model(&self, name: &str) -> Option<Upstream> {
        self.state.models.chat(name).map(|model| self.view(model))
    }

    fn status(&self, name: &str) -> Option<imports::Status> {
        let model = self.state.models.chat(name)?;
        Fleet::of(&self.fleet.statuses, &self.state, &model.provider, Pool::status).map(told)
    }

    fn may_choose(&self, name: &str) -> bool {
        // A key that may ask for a virtual model may get whatever the owner's plugins choose for it.
        let asked = self.asked();
        let models = &self.state.models;
        models.is_chat(name) && (self.may_use(name) || models.is_choice(&asked, name))
    }

    fn label(&self, name: &str) -> Option<String> {
        self.labels.lock().ok()?.iter().rev().find(|(label, _)| label == name).map(|(_, value)| value.clone())
    }

    fn leave(&self, labels: Vec<(String, String)>) {
        self.add_labels(labels);
    }

    fn labels(&self) -> Vec<(String, String)> {
        Self::labels(self)
    }

    fn tape(&self) -> Option<&Tape> {
        self.tape.get().map(Box::as_ref)
    }

    fn prompt_vector<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vector, imports::EmbedError>> {
        Box::pin(async move { self.vector(text).await.map_err(|error| for_guest(&error)) })
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vector, imports::EmbedError>> {
        Box::pin(async move {
            let Some(embedder) = &self.state.embedder else { return Err(imports::EmbedError::Unavailable) };
            embedder.embed_from(self.worker, text).await.map_err(|error| for_guest(&error))
        })
    }

    fn next_call(&self, plugin: &str) -> u32 {
        count(&self.calls, plugin, 1)
    }

    fn logged(&self, version: &str, more: u32) -> u32 {
        count(&self.lines, version, more)
    }

    fn fetch(&self, request: Outbound) -> BoxFuture<'_, Result<Inbound, HttpError>> {
        Box::pin(async move {
            let Some(lanes) = &self.state.outbound else { return Err(HttpError::Unavailable) };
            lanes.send(&self.id, self.worker, request).await
        })
    }

    fn classify(&self, examples: &str, vector: &[f32], k: usize) -> Option<Vec<(String, f32)>> {
        self.state.examples.classify(examples, vector, k)
    }
}

/// Adds to the count under a name, and says what it is now.
fn count(counts: &Mutex<Vec<(String, u32)>>, name: &str, more: u32) -> u32 {
    let Ok(mut counts) = counts.lock() else { return u32::MAX };
    match counts.iter_mut().find(|(own, _)| own == name) {
        Some((_, count)) => {
            *count = count.saturating_add(more);
            *count
        }
        None if more == 0 => 0,
        None => {
            counts.push((name.to_owned(), more));
            more
        }
    }
}

fn told(status: pool::Status) -> imports::Status {
    let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
    let latency = |(half, most): (Duration, Duration)| Latency { p50_ms: ms(half), p95_ms: ms(most) };
    imports::Status {
        circuit: match status {
            pool::Status { available: 1.., .. } => Circuit::Closed,
            pool::Status { on_probation: true, .. } => Circuit::Probation,
            _ => Circuit::Open,
        },
        available: status.available,
        endpoints: status.endpoints,
        retry_after_ms: status.pause.map(ms),
        in_flight: status.in_flight,
        waiting: status.waiting,
        limit: status.limit,
        running: status.running,
        queued: status.queued,
        memory: status.memory,
        first_byte: status.first_byte.map(latency),
        whole: status.whole.map(latency),
        requests_left: status.requests_left,
        tokens_left: status.tokens_left,
    }
}

fn for_guest(error: &EmbedError) -> imports::EmbedError {
    match error {
        EmbedError::Full | EmbedError::Late => imports::EmbedError::Busy,
        EmbedError::Empty => imports::EmbedError::Empty,
        EmbedError::Unavailable(_) | EmbedError::LeftAlone => imports::EmbedError::Unavailable,
    }
}
