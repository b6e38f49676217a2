//! The straight line: every exchange goes through these stages, in this order. Read this file first.
//!
//! ```text
//! admit → parse → prompt → key → lookup → flight → plan → run → reply → fill, record
//! ```
//!
//! It composes; it has no policy of its own. Who may call is `identity`'s, what is said is `dialect`'s, what is decided is the
//! plugins' and the configuration's, where it goes is `upstream`'s, what is kept is `cache`'s and `record`'s.
//!
//! **Invariant:** an exchange sees one snapshot of configuration, plugins and models, from its beginning to its end.
//! **Invariant:** every exchange is recorded once, however it ends; one whose client leaves is dropped where it stands.

mod audit;
mod body;
mod continuation;
mod course;
mod deadline;
pub mod degrade;
mod embeddings;
mod exchange;
pub mod explain;
mod fill;
pub mod flight;
mod fragments;
mod key;
pub mod models;
mod outbound;
mod plan;
pub mod pressure;
mod prompt;
mod recording;
pub mod refresh;
pub mod releases;
mod reply;
mod run;
pub mod state;
mod switches;
pub mod vectors;
mod watch;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use futures_util::FutureExt;
use http::header::{CONTENT_ENCODING, HOST};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::dialect::Invalid;
use crate::dialect::openai_chat::ChatRequest;
use crate::error::{Error, Kind};
use crate::identity::{AuthError, Principal};
use crate::listen::drain::Drain;
use crate::listen::{BodyError, Counters, Handler, Peer, RequestBody};
use crate::record::{CacheOutcome, Numbers, Stage};
use course::Course;
use degrade::{Degrade, effects};
pub use exchange::Exchange;
use flight::board::{self, Boarded};
use flight::{Board, Line, Seat};
use key::Keys;
use pressure::Memory;
use refresh::Refreshes;
use reply::Reply;
pub use reply::ReplyBody;
use run::Answered;
use state::{Lasting, State};
pub use switches::NoModel;

/// What answers requests.
pub struct Gateway {
    state: ArcSwap<State>,
    numbers: Numbers,
    reloads: Mutex<Reloads>,
    /// Models that the administrator has switched on or off. Held while a snapshot is put into force.
    switched: Mutex<BTreeMap<String, bool>>,
    draining: AtomicBool,
    /// Versions that were taken back, by plugin and why.
    pub taken_back: releases::TakenBack,
    /// What outlives a snapshot, for whoever makes one that differs in its plugins alone; set at the start.
    pub lasting: OnceLock<Arc<Lasting>>,
    /// The levels of degradation.
    pub degrade: Degrade,
    /// Equal requests that are under way.
    pub flights: Board,
    /// What is asked for anew behind what is served.
    pub refreshes: Refreshes,
    /// Whether there is memory for one more request.
    pub memory: Memory,
    /// What the listener counts, for /metrics; set once it is bound.
    pub counters: OnceLock<Arc<Counters>>,
    /// The process's end, for exchanges that it cuts; set once there is a listener.
    pub drain: OnceLock<Drain>,
    /// What the log had to drop, for /metrics; set where its lines are written by a thread of their own.
    pub log: OnceLock<tracing_appender::non_blocking::ErrorCounter>,
}

/// What became of reloads.
#[derive(Clone, Debug, Default)]
pub struct Reloads {
    /// Snapshots that were put into force.
    pub done: u64,
    /// Snapshots that could not be built.
    pub failed: u64,
    /// Why the last one could not; none if it could.
    pub last_failure: Option<String>,
}

/// How far an exchange has come where it is known whether anything is asked upstream.
enum Met {
    Answered(Reply),
    Asks(Arc<ChatRequest>, Option<Keys>, Option<Seat>),
}

/// What a path and method ask for.
enum Operation {
    Chat,
    Embeddings,
    Models,
    Model(String),
}

impl Gateway {
    /// A gateway with its first snapshot.
    pub fn new(state: State) -> Self {
        state.start();
        Self {
            state: ArcSwap::from_pointee(state),
            numbers: Numbers::default(),
            reloads: Mutex::default(),
            switched: Mutex::default(),
            draining: AtomicBool::new(false),
            taken_back: Default::default(),
            lasting: OnceLock::new(),
            degrade: Degrade::default(),
            flights: Board::default(),
            refreshes: Refreshes::default(),
            memory: Memory::default(),
            counters: OnceLock::new(),
            drain: OnceLock::new(),
            log: OnceLock::new(),
        }
    }

    /// The snapshot in force.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Puts the next snapshot into force, if the plugins are still those beside which it was built: a version may have been released or
    /// taken back meanwhile, and then it is to be built anew. Exchanges in flight keep theirs.
    #[must_use]
    pub fn swap(&self, mut state: State, beside: &State) -> bool {
        let switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&self.state.load().plugins, &beside.plugins) {
            return false;
        }
        for problem in &*state.problems {
            tracing::error!("the version before it stays in force: {problem}");
        }
        for (slot, refusal) in state.plugins.taken_back() {
            tracing::error!(plugin = slot.serving.name(), "the version before it stays in force: it {refusal}");
        }
        for problem in &state.prompt_problems {
            tracing::warn!("{problem}");
        }
        let plugins: Vec<&str> = state.plugins.all().iter().map(|plugin| plugin.label()).collect();
        tracing::info!(plugins = plugins.join(", "), "reloaded");
        releases::tell_all(&beside.plugins, &state.plugins);
        state.models.switch(&switched);
        self.keep(&state.plugins);
        state.start();
        self.state.store(Arc::new(state));
        drop(switched);
        self.degrade.changed();
        self.note(|reloads| {
            reloads.done += 1;
            reloads.last_failure = None;
        });
        true
    }

    /// The next snapshot could not be built; the running one stays.
    pub fn reload_failed(&self, reason: String) {
        tracing::error!("the configuration before it stays in force: {reason}");
        self.note(|reloads| {
            reloads.failed += 1;
            reloads.last_failure = Some(reason);
        });
    }

    /// What became of reloads so far.
    pub fn reloads(&self) -> Reloads {
        self.reloads.lock().map(|reloads| reloads.clone()).unwrap_or_default()
    }

    fn note(&self, change: impl FnOnce(&mut Reloads)) {
        if let Ok(mut reloads) = self.reloads.lock() {
            change(&mut reloads);
        }
    }

    /// The process is about to end: /readyz says so from now on.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Is the process about to end?
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Is what is still running being cut?
    fn is_cut(&self) -> bool {
        self.drain.get().is_some_and(Drain::has_expired)
    }

    /// Waits until it is.
    fn cut(&self) -> Option<WaitForCancellationFutureOwned> {
        self.drain.get().map(Drain::expired)
    }

    /// The numbers of all exchanges.
    pub fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    /// The line. An exchange that others wait for goes down its second half whether its client is there or not.
    async fn chat(self: &Arc<Self>, mut course: Box<Course>, body: RequestBody) -> (Box<Course>, Result<Reply, Error>) {
        let met = guarded(self.meet(&mut course, body)).await;
        self.answer(course, met).await
    }

    /// The line for a part of a prompt, which is there already.
    async fn part(self: Arc<Self>, mut course: Box<Course>, request: Arc<ChatRequest>) -> (Box<Course>, Result<Reply, Error>) {
        let met = guarded(self.find(&mut course, request)).await;
        self.answer(course, met).await
    }

    async fn answer(self: &Arc<Self>, course: Box<Course>, met: Result<Met, Error>) -> (Box<Course>, Result<Reply, Error>) {
        let (request, keys, seat) = match met {
            Ok(Met::Asks(request, keys, seat)) => (request, keys, seat),
            Ok(Met::Answered(reply)) => return (course, Ok(reply)),
            Err(error) => return (course, Err(error)),
        };
        match seat {
            Some(seat) => seat.leads(|seat| self.clone().line(course, request, keys, Some(seat))).await,
            None => self.clone().line(course, request, keys, None).await,
        }
    }

    /// The second half. It is by far the larger one, so it is not carried by exchanges that the cache answers.
    fn line(self: Arc<Self>, mut course: Box<Course>, request: Arc<ChatRequest>, keys: Option<Keys>, seat: Option<Seat>) -> Line {
        Box::pin(async move {
            let answer = guarded(self.ask(&mut course, &request, keys, seat)).await;
            (course, answer)
        })
    }

    /// Until it is known whether anything is asked upstream.
    async fn meet(&self, course: &mut Course, body: RequestBody) -> Result<Met, Error> {
        let request = self.parse(course, body).await?;
        let request = self.prompt(course, request).await?;
        if !course.parts.is_empty()
            && let Some(reply) = Box::pin(fragments::stage(course, &request)).await?
        {
            return Ok(Met::Answered(reply));
        }
        self.find(course, request).await
    }

    /// What the cache has, or who asks for it.
    async fn find(&self, course: &mut Course, request: Arc<ChatRequest>) -> Result<Met, Error> {
        let keys = self.key(course, &request).await?;
        if let Some(hit) = self.lookup(course, &request, &keys).await {
            return Ok(Met::Answered(hit));
        }
        key::may_ask(course)?;
        Ok(match board::stage(course, &request, keys.as_ref()).await? {
            Boarded::Answered(reply) => Met::Answered(reply),
            Boarded::Leads(seat) => Met::Asks(request, keys, Some(seat)),
            Boarded::Alone => Met::Asks(request, keys, None),
        })
    }

    /// Asks upstream. Where it comes to nothing that can be shared, `seat` is dropped, and somebody else asks for those who wait.
    async fn ask(
        &self,
        course: &mut Course,
        request: &Arc<ChatRequest>,
        keys: Option<Keys>,
        mut seat: Option<Seat>,
    ) -> Result<Reply, Error> {
        let mut plan = self.plan(course, request).await?;
        let stale = effects::before(course, request, &mut plan)?;
        // What a level spares, or plugins look at, is no other's answer, nor would another leader's be.
        if stale.is_some() || !plan.observers.is_empty() {
            seat.take().into_iter().for_each(Seat::dissolve);
        }
        if let Some(stale) = stale {
            return Ok(stale);
        }
        let answer = self.run(course, request, plan).await;
        if let Some(stale) = effects::after(course, request, answer.as_ref().map(|answer| answer.reply.means())) {
            return Ok(stale);
        }
        let answer = answer?;
        // What takes the place of an answer is not kept as one.
        let keys = keys.filter(|_| answer.storable && course.degraded.is_none());
        self.reply(course, request, keys, answer, seat).await
    }

    /// Who is asking?
    fn admit(state: &State, head: &Parts) -> Result<Principal, Error> {
        let host = head.uri.authority().map(|authority| authority.as_str());
        let host = host.or_else(|| head.headers.get(HOST)?.to_str().ok()).unwrap_or_default();
        state.keys.authenticate(&head.headers, host).map_err(|error| {
            let text = error.to_string();
            let kind = if error == AuthError::Page { Kind::OriginNotAllowed } else { Kind::InvalidKey };
            Error::downstream(kind, format!("{}{}.", text[..1].to_uppercase(), &text[1..]))
        })
    }

    /// From bytes to a request. What it asks for must exist, and be allowed.
    async fn parse(&self, course: &mut Course, body: RequestBody) -> Result<Arc<ChatRequest>, Error> {
        course.set_priority()?;
        let bytes = collect(course, body).await?;
        let mut request = ChatRequest::parse(bytes)?;
        course.asks_for(request.model());
        course.record.streamed = request.stream();
        course.set_preference()?;
        course.may_use(request.model())?;
        if let Some(other) = course.substitute(request.model()) {
            request = request.asking_for(&other)?;
        }
        course.exchange.asks_for(request.model());
        let models = &course.exchange.state.models;
        if !models.is_on(request.model()) || models.choices(request.model()).is_empty() {
            return Err(models::not_found(course, request.model(), "chat completions"));
        }
        course.meet_plugins(&request);
        course.done(Stage::Parse);
        Ok(Arc::new(request))
    }

    /// A prompt's version and text, where the client or a plugin asks for one.
    async fn prompt(&self, course: &mut Course, request: Arc<ChatRequest>) -> Result<Arc<ChatRequest>, Error> {
        let request = prompt::stage(course, request).await?;
        course.done(Stage::Prompt);
        Ok(request)
    }

    /// What another request must have in common with this one to get its answer. None: nobody shall share it.
    async fn key(&self, course: &mut Course, request: &Arc<ChatRequest>) -> Result<Option<Keys>, Error> {
        let keys = key::stage(course, request).await?;
        if course.is_told() {
            course.record.cache_key = keys.as_ref().map(|keys| keys.exact.to_string());
            course.record.cache_partition = keys.as_ref().and_then(|keys| Some(keys.near.as_ref()?.partition.to_string()));
        }
        course.done(Stage::Key);
        Ok(keys)
    }

    /// An answer that is there already: of the same request, else of one that means the same.
    async fn lookup(&self, course: &mut Course, request: &Arc<ChatRequest>, keys: &Option<Keys>) -> Option<Reply> {
        let (Some(keys), Some(cache)) = (keys, course.exchange.state.cache.clone()) else { return None };
        let found = if keys.look_up { key::look_up(course, request, keys, &cache).await } else { None };
        course.done(Stage::Lookup);
        course.record.cache = CacheOutcome::Miss;
        if found.is_none() {
            course.stale = key::stale(course, keys, &cache);
        }
        let (outcome, entry, score) = found?;
        let reply = reply::cached(course, request, &entry, score)?;
        course.record.cache_score = score;
        course.record.saved = Some(entry.worth);
        course.record.cache = outcome;
        course.record.model = Some(entry.model.clone());
        if outcome != CacheOutcome::Semantic {
            refresh::behind(course, request, keys, &cache, &entry);
        }
        Some(reply)
    }

    /// Which models, in which order.
    async fn plan(&self, course: &mut Course, request: &Arc<ChatRequest>) -> Result<plan::Plan, Error> {
        let plan = plan::stage(course, request).await?;
        course.done(Stage::Plan);
        Ok(plan)
    }

    /// Until an answer that may go to the client has begun: the commit point.
    async fn run(&self, course: &mut Course, request: &Arc<ChatRequest>, plan: plan::Plan) -> Result<Answered, Error> {
        let answer = run::stage(course, request, plan).await;
        course.done(Stage::Run);
        answer
    }

    /// The answer to the client; the cache takes its copy before the last byte has gone.
    async fn reply(
        &self,
        course: &mut Course,
        request: &Arc<ChatRequest>,
        keys: Option<Keys>,
        answer: Answered,
        seat: Option<Seat>,
    ) -> Result<Reply, Error> {
        let reply = &answer.reply;
        let fill = keys
            .filter(|keys| keys.store && reply.status == StatusCode::OK && !reply.headers.contains_key(CONTENT_ENCODING))
            .and_then(|keys| fill::Fill::new(course, request, keys, reply.model.clone()));
        reply::upstream(course, fill, answer, seat).await
    }
}

impl From<Invalid> for Error {
    fn from(invalid: Invalid) -> Self {
        Self::bad_request(invalid.param, invalid.message)
    }
}

/// Whatever is half done where a stage panics is its exchange's own.
fn guarded<T>(stages: impl Future<Output = Result<T, Error>>) -> impl Future<Output = Result<T, Error>> {
    AssertUnwindSafe(stages).catch_unwind().map(|done| done.unwrap_or_else(|_| Err(Error::internal("it panicked"))))
}

/// A request's body, whole, if there is memory for it.
async fn collect(course: &mut Course, body: RequestBody) -> Result<bytes::Bytes, Error> {
    course.has_memory()?;
    let encoding = course.exchange.headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(Error::bad_request(None, "The body is compressed. Send it without Content-Encoding."));
    }
    let bytes = body.collect().await.map_err(|error| {
        let kind = match &error {
            BodyError::TooLarge { .. } => Kind::BodyTooLarge,
            BodyError::Idle(_) | BodyError::Total(_) => Kind::BodyTimeout,
            BodyError::Broken(_) => Kind::InvalidRequest,
        };
        Error::downstream(kind, error.to_string())
    })?;
    // How long the client took to send is not the parser's time.
    course.received()?;
    Ok(bytes)
}

/// What is asked for, by path and method; the error's second part is the value of `allow`.
fn operation(method: &Method, path: &str) -> Result<Operation, (Error, Option<&'static str>)> {
    let (allowed, operation) = match path {
        "/v1/chat/completions" => (Method::POST, Operation::Chat),
        "/v1/embeddings" => (Method::POST, Operation::Embeddings),
        "/v1/models" => (Method::GET, Operation::Models),
        _ => match path.strip_prefix("/v1/models/").filter(|name| !name.is_empty()) {
            Some(name) => (Method::GET, Operation::Model(models::unescape(name))),
            None => {
                let message = format!(
                    "There is no `{path:.200}` here. pointsman serves /v1/chat/completions, /v1/embeddings and /v1/models. Set the SDK's base URL to http://HOST:PORT/v1."
                );
                return Err((Error::downstream(Kind::UnknownPath, message), None));
            }
        },
    };
    if *method == allowed {
        return Ok(operation);
    }
    let allow = if allowed == Method::POST { "POST" } else { "GET" };
    Err((
        Error::downstream(Kind::MethodNotAllowed, format!("`{path:.200}` is not asked for with {method}. Use {allow}.")),
        Some(allow),
    ))
}

impl Handler for Gateway {
    type Body = ReplyBody;

    async fn handle(self: Arc<Self>, request: Request<RequestBody>, peer: Peer) -> Response<ReplyBody> {
        let (head, body) = request.into_parts();
        let state = self.state();
        let admitted = Self::admit(&state, &head);
        let principal = admitted.as_ref().map_or_else(|_| Principal::nobody(), Clone::clone);
        let operation = operation(&head.method, head.uri.path());
        let mut course = Course::new(self.clone(), Exchange::new(state, principal, head.headers, peer.worker));
        let (answer, allow) = match (admitted, operation) {
            (Err(error), _) => (Err(error), None),
            (_, Err((error, allow))) => (Err(error), allow),
            (_, Ok(operation)) => {
                course.done(Stage::Admit);
                let answer = match operation {
                    Operation::Chat => {
                        let (led, answer) = self.chat(course, body).await;
                        course = led;
                        answer
                    }
                    // Boxed, so that a chat does not carry it.
                    Operation::Embeddings => guarded(Box::pin(embeddings::answer(&mut course, body))).await,
                    Operation::Models => guarded(async { Ok(models::list(&course)) }).await,
                    Operation::Model(name) => guarded(async { models::one(&course, &name) }).await,
                };
                (answer, None)
            }
        };
        let answer = answer.unwrap_or_else(|error| reply::refused(&mut course, &error, allow));
        answer.into_response(course)
    }
}
