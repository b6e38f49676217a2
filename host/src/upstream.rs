//! Upstreams: from an attempt of a plan to an answer that has begun.
//!
//! Per attempt: an endpoint of the pool (`pool`), and, where that fails before the commit point in a way that another
//! try can mend, further ones within `retries` and the pool's budget, elsewhere if there is another endpoint. One that is busy or
//! silent is not asked again: it may still be at work on the first request. Where the pool hedges, an answer that is late is asked
//! of a second endpoint too. What follows an attempt, `gateway/run` says. The commit point is a type: nobody starts over what an
//! attempt gives back, a [`Reply`]; who does not want it asks another model, before a byte of it has gone to the client.
//!
//! What it does not do: it chooses no model (`gateway` has the plan) and translates nothing.
//!
//! **Invariant:** before the commit point a failure is retried or reported; after it, it is reported in the body.
//! **Invariant:** a request whose bytes an upstream may have acted on is sent again only where the answer said, or the connection's
//! end showed, that no answer will come from there; after a bound on time was passed, elsewhere. `retries = 0` sends each request
//! once.
//! **Invariant:** of two endpoints that were asked at once, one answers the client; the other is cancelled.

pub mod balance;
mod begin;
pub mod body;
pub mod breaker;
pub mod connect;
pub mod deadline;
pub mod endpoint;
pub mod gate;
pub mod gauges;
pub mod hedge;
pub mod holders;
pub mod keys;
mod lanes;
pub mod load;
pub mod loaded;
pub mod pool;
pub mod probe;
pub mod provider;
pub mod quota;
pub mod retry;
mod scrape;
mod secret;
mod send;
pub mod tally;
pub mod watch;
mod whole;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::config::Priority;
use crate::dialect::sse;
use crate::error::{Asked, Error, Kind, Retry, Source};
use balance::Affinity;
pub use body::UpstreamBody;
use deadline::Deadline;
use endpoint::{Endpoint, Permit};
use pool::{Ask, Busy, Pool};
use provider::Operation;
use retry::Token;

/// One entry of a plan.
#[derive(Clone)]
pub struct Attempt {
    /// The model's name in the configuration.
    pub model: Arc<str>,
    /// The provider's name for it.
    pub name: Arc<str>,
    /// Where it is served.
    pub pool: Arc<Pool>,
    /// The body as that upstream is to get it.
    pub body: Bytes,
    /// Which endpoint would be best for it, beside the least loaded one.
    pub affinity: Affinity,
    /// Time for the whole answer, where the plan says less than the pool does.
    pub total: Option<Duration>,
    /// Time until the first byte of the answer's body, where the plan says so.
    pub first_byte: Option<Duration>,
    /// It is a further try itself, of an answer that has begun.
    pub after: Option<After>,
}

/// What an attempt comes after.
#[derive(Clone)]
pub struct After {
    /// The endpoint that has failed at it already: it is asked only where there is no other.
    pub endpoint: Arc<str>,
    /// Further tries that are left, where the pool would allow more.
    pub retries: u32,
}

/// Bytes of a request for each of its tokens, by and large.
const BYTES_OF_TOKEN: u64 = 4;

impl Attempt {
    /// What its pool is asked for.
    fn ask(&self) -> Ask<'_> {
        let tokens = self.body.len() as u64 / BYTES_OF_TOKEN;
        Ask { avoid: &[], again: false, last: false, affinity: &self.affinity, tokens, model: &self.name }
    }
}

/// What all attempts of an exchange have in common.
pub struct Context<'a> {
    /// The exchange's id.
    pub id: &'a str,
    /// The core that asks; connections are kept per core.
    pub worker: usize,
    /// When the exchange must be over.
    pub deadline: Deadline,
    /// What is asked for.
    pub operation: Operation,
    /// The answer is to be streamed.
    pub streamed: bool,
    /// Who asks, and how urgently, where requests must wait.
    pub tenant: Arc<str>,
    /// See `tenant`.
    pub priority: Priority,
    /// Headers of the client's request that go upstream.
    pub headers: HeaderMap,
}

/// An answer that has begun. Its status and first bytes are here; nobody can start over.
pub struct Reply {
    /// The upstream's status.
    pub status: StatusCode,
    /// Its headers that go to the client.
    pub headers: HeaderMap,
    /// The model that answers.
    pub model: Arc<str>,
    /// The endpoint's authority.
    pub endpoint: Arc<str>,
    /// Tries that were made, with this one.
    pub tries: u32,
    /// An endpoint was asked beside another one.
    pub hedged: bool,
    /// One that was asked for nothing: it was cancelled when another had begun.
    pub cancelled: bool,
    /// The body.
    pub body: Body,
}

impl Reply {
    /// Its status, or what it would be if a stream that is nothing but an error had one that says so.
    pub fn means(&self) -> StatusCode {
        let is_events = self.headers.get(CONTENT_TYPE).is_some_and(|value| sse::is_events(value.as_bytes()));
        match self.body {
            Body::Whole(_) if is_events && self.status.is_success() => StatusCode::BAD_GATEWAY,
            _ => self.status,
        }
    }
}

/// An answer's body.
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// It is still coming: a stream of events, or an answer too large to be held.
    Stream(Box<UpstreamBody>),
}

/// How one try failed.
struct Failure {
    error: Error,
    /// An answer of the upstream's own that says so; it is passed on if nothing better comes.
    answer: Option<(StatusCode, HeaderMap, Bytes)>,
    /// The upstream's status, where it is what failed.
    status: Option<StatusCode>,
    /// For how long the endpoint asks to be left alone.
    asked: Option<Duration>,
    /// It says something about the endpoint, and not about this request alone.
    blames: bool,
    /// The model that was asked, and the endpoint.
    of: Option<(Arc<str>, Arc<str>)>,
}

/// Runs one attempt, where there is no other.
///
/// # Errors
/// As [`Run::conclude`].
pub async fn run(attempt: &Attempt, context: &Context<'_>) -> Result<Reply, Error> {
    let mut run = Run::new(context);
    match run.attempt(attempt, true).await {
        Some(reply) => Ok(reply),
        None => run.conclude(),
    }
}

/// A plan on its way.
pub struct Run<'a> {
    context: &'a Context<'a>,
    /// By when; sooner than the exchange's where another answer is there already.
    deadline: Deadline,
    tries: u32,
    /// Endpoints that gave no answer, and pools none of whose could be asked.
    asked: Vec<Arc<str>>,
    /// What became of each, in words for the client, and for the log.
    reasons: Vec<String>,
    detail: Vec<String>,
    hedged: bool,
    /// Another try might have helped, and the pool's budget had none left.
    is_spent: bool,
    /// An endpoint that was asked beside another one was cancelled.
    cancelled: bool,
    /// The failure that the client is told of, if nothing better comes.
    last: Option<Failure>,
    /// What the newest attempt failed of.
    why: Option<Why>,
}

/// One try that is under way.
struct Call {
    endpoint: Arc<Endpoint>,
    began: Instant,
    /// It was made because another was late.
    is_hedge: bool,
}

impl Call {
    fn new(permit: &Permit, is_hedge: bool) -> Self {
        Self { endpoint: permit.endpoint().clone(), began: permit.since(), is_hedge }
    }
}

/// Why an attempt has no answer, in short.
#[derive(Clone, Copy, Debug)]
pub struct Why {
    /// The kind of its last failure.
    pub kind: Kind,
    /// The upstream's status, where it answered.
    pub status: Option<StatusCode>,
    /// How long it asks to be left alone.
    pub after: Option<Duration>,
}

impl<'a> Run<'a> {
    /// Nothing has been tried yet.
    pub fn new(context: &'a Context<'a>) -> Self {
        let (asked, reasons, detail) = Default::default();
        let deadline = context.deadline;
        Self {
            context,
            deadline,
            tries: 0,
            asked,
            reasons,
            detail,
            hedged: false,
            is_spent: false,
            cancelled: false,
            last: None,
            why: None,
        }
    }

    /// An answer has broken off after it had begun, and before the client got any of it.
    pub fn broke(&mut self, attempt: &Attempt, endpoint: &Arc<str>, error: Error) {
        self.noted(attempt, endpoint, Failure::from(error));
    }

    /// Another answer is there: what comes later must leave time to give it to the client.
    pub fn has_another(&mut self) {
        self.deadline = self.context.deadline.with_reserve();
    }

    /// When an answer must have begun.
    pub fn begins(&self) -> Instant {
        self.deadline.begins()
    }

    /// Tries so far.
    pub fn tries(&self) -> u32 {
        self.tries
    }

    /// Why the newest attempt has no answer.
    pub fn why(&self) -> Option<Why> {
        self.why
    }

    /// One entry of the plan; none where it gave no answer. `last`: no other will follow.
    pub async fn attempt(&mut self, attempt: &Attempt, last: bool) -> Option<Reply> {
        let pool = &attempt.pool;
        self.why = None;
        if self.deadline.left().is_some_and(|left| left.is_zero()) || (self.tries > 0 && !self.has_time(pool, Duration::ZERO)) {
            return None;
        }
        pool.retries.pay_in();
        if pool.settings().hedge.is_some() {
            pool.hedges.pay_in();
        }
        let has_failed =
            |endpoint: &&Arc<Endpoint>| attempt.after.as_ref().is_some_and(|after| after.endpoint == *endpoint.authority());
        let mut avoid: Vec<Arc<Endpoint>> = pool.endpoints().iter().filter(has_failed).cloned().collect();
        let mut again = !avoid.is_empty();
        let retries = attempt.after.as_ref().map_or(pool.settings().retries, |after| after.retries);
        for turn in 0..=retries {
            let token = if turn > 0 { pool.further_try() } else { None };
            if turn > 0 && token.is_none() {
                self.spent(pool);
                break;
            }
            let permit = match self.admitted(pool, Ask { avoid: &avoid, again, last, ..attempt.ask() }).await {
                Ok(permit) => permit,
                Err(busy) => {
                    self.none_chosen(attempt, busy);
                    break;
                }
            };
            token.into_iter().for_each(Token::spent);
            match self.ask(attempt, permit, &mut avoid).await {
                Ok(reply) => return Some(reply),
                Err(Retry::Never) => break,
                Err(Retry::Elsewhere) => again = false,
                Err(Retry::Same(_)) => {
                    again = true;
                    if !pool.has_other(&avoid) && turn < retries {
                        let pause = retry::pause(turn);
                        if !self.has_time(pool, pause) {
                            break;
                        }
                        tokio::time::sleep(pause).await;
                    }
                }
            }
            if Instant::now() >= self.deadline.begins() || !self.has_time(pool, Duration::ZERO) {
                break;
            }
        }
        None
    }

    /// Can a further try that begins after a pause still have an answer before the client's time is over?
    fn has_time(&self, pool: &Pool, pause: Duration) -> bool {
        let Some(left) = self.deadline.left() else { return true };
        let has = left > pause + pool.quickest(self.context.streamed);
        if !has {
            tracing::debug!(
                exchange = self.context.id,
                pool = pool.name(),
                ?left,
                "the client's time is too short for a further try"
            );
        }
        has
    }

    /// Through the pool's gate, where it has one, to an endpoint.
    async fn admitted(&self, pool: &Pool, ask: Ask<'_>) -> Result<Permit, Busy> {
        let Context { priority, tenant, .. } = self.context;
        let pass = match &pool.gate {
            Some(gate) => {
                Some(gate.enter(*priority, tenant, self.deadline.begins()).await.map_err(|gate::Shed(after)| Busy::Shed(after))?)
            }
            None => None,
        };
        let mut permit = pool.choose(ask, Instant::now())?;
        permit.pass = pass;
        Ok(permit)
    }

    /// For a second request beside the first: nobody waits for that.
    fn admitted_beside(&self, pool: &Pool, ask: Ask<'_>) -> Option<Permit> {
        let pass = match &pool.gate {
            Some(gate) => Some(gate.try_enter(self.context.priority)?),
            None => None,
        };
        let token = pool.hedges.take_out()?;
        let mut permit = pool.choose(ask, Instant::now()).ok()?;
        token.spent();
        permit.pass = pass;
        Some(permit)
    }

    /// Asks an endpoint, and where its answer is late a second one beside it.
    async fn ask(&mut self, attempt: &Attempt, first: Permit, avoid: &mut Vec<Arc<Endpoint>>) -> Result<Reply, Retry> {
        let pool = &attempt.pool;
        let one = Call::new(&first, false);
        avoid.push(one.endpoint.clone());
        let asked = std::pin::pin!(send::send(attempt, first, self.context, self.deadline));
        let wait = pool.hedge_after(self.context.streamed).filter(|_| pool.has_other(avoid));
        let Some(wait) = wait else { return self.settle(attempt, &one, asked.await) };
        let asked = match select(asked, std::pin::pin!(tokio::time::sleep(wait))).await {
            Either::Left((answer, _)) => return self.settle(attempt, &one, answer),
            Either::Right(((), asked)) => asked,
        };
        let second = Ask { avoid, ..attempt.ask() };
        let permit = self.has_time(pool, Duration::ZERO).then(|| self.admitted_beside(pool, second)).flatten();
        let Some(permit) = permit else {
            return self.settle(attempt, &one, asked.await);
        };
        self.hedged = true;
        let other = Call::new(&permit, true);
        avoid.push(other.endpoint.clone());
        let also_asked = Box::pin(send::send(attempt, permit, self.context, self.deadline));
        match select(asked, also_asked).await {
            Either::Left((Ok(answer), _)) => {
                self.lost(attempt, &other);
                self.settle(attempt, &one, Ok(answer))
            }
            Either::Right((Ok(answer), _)) => {
                self.lost(attempt, &one);
                self.settle(attempt, &other, Ok(answer))
            }
            Either::Left((failed, also_asked)) => {
                let _ = self.settle(attempt, &one, failed);
                self.settle(attempt, &other, also_asked.await)
            }
            Either::Right((failed, asked)) => {
                let _ = self.settle(attempt, &other, failed);
                self.settle(attempt, &one, asked.await)
            }
        }
    }

    /// The other endpoint was quicker.
    fn lost(&mut self, attempt: &Attempt, call: &Call) {
        let waited = call.began.elapsed();
        call.endpoint.kept_waiting(waited);
        self.cancelled = true;
        if !call.is_hedge {
            // At least so long. Left out, late answers would be those that nobody knows of, and others would be hedged in their place.
            attempt.pool.begun(self.context.streamed, waited);
        }
        self.tries += 1;
        let authority = call.endpoint.authority();
        self.detail.push(format!("{authority} had not begun after {} ms, when another did", waited.as_millis()));
    }

    fn settle(&mut self, attempt: &Attempt, call: &Call, asked: Result<send::Answer, Failure>) -> Result<Reply, Retry> {
        let Call { endpoint, began, is_hedge } = call;
        let authority = endpoint.authority().clone();
        self.tries += 1;
        match asked {
            Ok((status, headers, body)) => {
                if status.is_success() && !is_hedge {
                    attempt.pool.begun(self.context.streamed, began.elapsed());
                }
                let model = attempt.model.clone();
                let (tries, hedged, cancelled) = (self.tries, self.hedged, std::mem::take(&mut self.cancelled));
                Ok(Reply { status, headers, model, endpoint: authority, tries, hedged, cancelled, body })
            }
            Err(failure) => {
                endpoint.failed(*began, &failure);
                let retry = failure.error.retry();
                self.noted(attempt, &authority, failure);
                Err(retry)
            }
        }
    }

    fn noted(&mut self, attempt: &Attempt, endpoint: &Arc<str>, mut failure: Failure) {
        failure.of = Some((attempt.model.clone(), endpoint.clone()));
        tracing::debug!(exchange = self.context.id, endpoint = &**endpoint, error = %failure.error, "a try failed");
        self.asked.push(endpoint.clone());
        self.detail.push(failure.error.message().trim_end_matches('.').to_owned());
        self.reasons.push(told(&failure.error, endpoint, &attempt.model, attempt.pool.name()));
        let status = failure.status.or(failure.answer.as_ref().map(|(status, ..)| *status));
        self.why = Some(Why { kind: failure.error.kind(), status, after: failure.asked });
        self.keep(failure);
    }

    /// A later "unreachable" does not hide an earlier answer.
    fn keep(&mut self, failure: Failure) {
        if self.last.as_ref().is_none_or(|last| last.answer.is_none() || failure.answer.is_some()) {
            self.last = Some(failure);
        }
    }

    fn none_chosen(&mut self, attempt: &Attempt, busy: Busy) {
        let name = attempt.pool.name();
        let is_left_alone = matches!(busy, Busy::Open(_));
        let (outcome, after) = match busy {
            // The failure that led here says more.
            Busy::NoOther => return,
            Busy::Shed(after) => (format!("`{name}` has as many requests as it bears, and as many wait"), after),
            Busy::Full => (format!("Every endpoint of `{name}` is at its limit"), Duration::from_secs(1)),
            Busy::Open(pause) => (
                format!(
                    "Every endpoint of `{name}` is left alone, after failures or at its limits, the first for {} ms",
                    pause.as_millis()
                ),
                pause,
            ),
        };
        self.asked.push(name.into());
        self.detail.push(outcome.clone());
        let error = Error::upstream(Kind::Overloaded, name, Retry::Elsewhere, String::new()).retry_after(after);
        self.why = Some(Why { kind: Kind::Overloaded, status: None, after: Some(after) });
        let reason = if is_left_alone {
            let seconds = after.as_secs_f32().ceil().max(1.0);
            format!(
                "Every endpoint of the provider `{name}` of the model `{}` is left alone just now, after failures or at its limits. Try again in {seconds} s.",
                attempt.model
            )
        } else {
            told(&error, name, &attempt.model, name)
        };
        self.reasons.push(reason.clone());
        if self.last.is_none() {
            self.last = Some(Failure::from(error.told(reason, outcome)));
        }
    }

    /// Whoever might have answered was not asked: it is said, so that nobody looks for the reason at the one that was.
    fn spent(&mut self, pool: &Pool) {
        tracing::debug!(exchange = self.context.id, pool = pool.name(), "the retry budget is spent");
        if pool.settings().retry_budget > 0.0 {
            self.is_spent = true;
            self.reasons.push(format!(
                "The provider `{}` is asked no more for now: further tries are at its `retry_budget`.",
                pool.name()
            ));
        }
    }

    /// Nothing worked: the upstream's own words where there are any (429, 5xx), else ours.
    ///
    /// # Errors
    /// The message names models and providers, the detail what became of each try.
    pub fn conclude(self) -> Result<Reply, Error> {
        if let Some(over) = self.deadline.over() {
            return Err(self.out_of_time(over));
        }
        let Self { tries, asked, mut reasons, detail, hedged, is_spent, last, .. } = self;
        let Some(failure) = last else {
            return Err(Error::internal("a plan without attempts"));
        };
        // Nobody could be asked.
        let Some((model, endpoint)) = failure.of else { return Err(failure.error) };
        if let Some((status, headers, body)) = failure.answer {
            return Ok(Reply { status, headers, model, endpoint, tries, hedged, cancelled: false, body: Body::Whole(body) });
        }
        let one_asked = asked.windows(2).all(|pair| pair[0] == pair[1]);
        let detail = detail.join("; ");
        reasons.dedup();
        let message = reasons.join(" ");
        let again = failure.error.comes_back_after();
        let error = if one_asked && !is_spent {
            failure.error.told(message, detail)
        } else {
            Error::new(Kind::NoUpstream, Source::Gateway, String::new()).told(format!("No upstream answered. {message}"), detail)
        };
        Err(match again {
            Some(after) => error.retry_after(after),
            None => error,
        }
        .having_asked(Asked { model, endpoint, tries }))
    }

    /// The client's time is over; what became of it until then.
    fn out_of_time(self, over: Error) -> Error {
        let Self { tries, mut reasons, detail, last, .. } = self;
        reasons.dedup();
        let message = [&[over.message().to_owned()], &*reasons].concat().join(" ");
        let detail = [&[over.message().trim_end_matches('.').to_owned()], &*detail].concat().join("; ");
        let over = over.told(message, detail);
        match last.and_then(|last| last.of) {
            Some((model, endpoint)) => over.having_asked(Asked { model, endpoint, tries }),
            None => over,
        }
    }
}

/// What a client is told of a failure: the configuration's names, which bound on time was passed, the upstream's status, and no address.
pub fn told(error: &Error, endpoint: &str, model: &str, provider: &str) -> String {
    let said = error.message().strip_prefix(endpoint).filter(|said| said.starts_with(" answered "));
    let what = match error.kind() {
        Kind::UpstreamUnreachable => "cannot be reached.",
        Kind::UpstreamTimeout => {
            let bound = error.message().strip_prefix(endpoint).unwrap_or(".");
            return format!("The provider `{provider}` of the model `{model}` took too long: it{bound}");
        }
        Kind::UpstreamDenied => "does not accept the gateway's key. Its owner must correct `key`, or `keys`, of that provider.",
        Kind::Rejected => "gave no answer that a plugin lets pass.",
        Kind::Overloaded if said.is_some() => "answered 429: it has no room just now. Try again shortly.",
        Kind::Overloaded => "has no room just now. Try again shortly.",
        _ => said.map_or("gave no whole answer that can be passed on.", str::trim_start),
    };
    format!("The provider `{provider}` of the model `{model}` {what}")
}
