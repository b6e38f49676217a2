//! Upstreams: from an ordered plan to an answer whose first byte has arrived.
//!
//! Per attempt of the plan: the least loaded endpoint of the pool, and, where that fails before the commit point in a way
//! that another can mend, one more try elsewhere (`retries`). Then the next attempt. The commit point is a type: what `run`
//! gives back is a [`Reply`] that nobody can start over.
//!
//! What it does not do: it chooses no model (`gateway` has the plan) and translates nothing.
//!
//! **Invariant:** before the commit point a failure is retried or reported; after it, it is reported in the body.
//! **Invariant:** a request whose bytes an upstream may have acted on is sent again only where the answer said, the connection's
//! end showed, or a bound on time was passed, that no answer will come. `retries = 0` sends each request once.

pub mod body;
pub mod connect;
pub mod pool;
pub mod provider;
mod send;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::error::{Asked, Error, Kind, Retry};
pub use body::UpstreamBody;
use pool::{Endpoint, Pool};
use provider::Operation;

/// One entry of a plan.
pub struct Attempt {
    /// The model's name in the configuration.
    pub model: Arc<str>,
    /// Where it is served.
    pub pool: Arc<Pool>,
    /// The body as that upstream is to get it.
    pub body: Bytes,
    /// Time for the whole answer, where the plan says less than the pool does.
    pub total: Option<Duration>,
    /// Time until the first byte of the answer's body, where the plan says so.
    pub first_byte: Option<Duration>,
}

/// What all attempts of an exchange have in common.
pub struct Context<'a> {
    /// The exchange's id.
    pub id: &'a str,
    /// The core that asks; connections are kept per core.
    pub worker: usize,
    /// When the exchange must be over.
    pub deadline: Instant,
    /// What is asked for.
    pub operation: Operation,
    /// Headers of the client's request that go upstream.
    pub headers: HeaderMap,
}

/// One try, for the record.
#[derive(Clone, Debug)]
pub struct Try {
    /// The endpoint's authority.
    pub endpoint: Arc<str>,
    /// What became of it.
    pub outcome: String,
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
    /// What was tried before, and this one.
    pub tries: Vec<Try>,
    /// The body.
    pub body: Body,
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
    /// The model that was asked, and the endpoint.
    of: Option<(Arc<str>, Arc<str>)>,
}

/// Runs a plan.
///
/// # Errors
/// When no attempt got an answer; the message names models and providers, the detail what became of each try. Where an upstream said itself that it cannot (429,
/// 5xx), its answer is the reply.
pub async fn run(plan: &[Attempt], context: &Context<'_>) -> Result<Reply, Error> {
    let mut tries: Vec<Try> = Vec::with_capacity(2);
    let mut last = None;
    for attempt in plan {
        let mut avoid: Vec<Arc<Endpoint>> = Vec::new();
        for _ in 0..=attempt.pool.settings().retries {
            let Some((endpoint, permit)) = attempt.pool.choose(&avoid) else {
                let error = Error::upstream(
                    Kind::Overloaded,
                    attempt.pool.name(),
                    Retry::Elsewhere,
                    format!("Every endpoint of `{}` is at its limit. Try again shortly.", attempt.pool.name()),
                );
                last.get_or_insert(Failure { error: error.retry_after(Duration::from_secs(1)), answer: None, of: None });
                break;
            };
            match send::send(attempt, &endpoint, permit, context).await {
                Ok((status, headers, body)) => {
                    tries.push(Try { endpoint: endpoint.authority().clone(), outcome: status.as_u16().to_string() });
                    return Ok(Reply {
                        status,
                        headers,
                        model: attempt.model.clone(),
                        endpoint: endpoint.authority().clone(),
                        tries,
                        body,
                    });
                }
                Err(mut failure) => {
                    failure.of = Some((attempt.model.clone(), endpoint.authority().clone()));
                    endpoint.failed();
                    tries.push(Try { endpoint: endpoint.authority().clone(), outcome: failure.error.message().to_owned() });
                    tracing::debug!(exchange = context.id, endpoint = &**endpoint.authority(), error = %failure.error, "a try failed");
                    let again = failure.error.retry() != Retry::Never && Instant::now() < context.deadline;
                    // A later "unreachable" does not hide an earlier answer.
                    if last.as_ref().is_none_or(|last: &Failure| last.answer.is_none() || failure.answer.is_some()) {
                        last = Some(failure);
                    }
                    if !again {
                        break;
                    }
                    avoid.push(endpoint);
                }
            }
        }
    }
    conclude(plan, last, tries)
}

/// What a client is told of a failure: the configuration's names, and no address.
pub fn told(kind: Kind, model: &str, provider: &str) -> String {
    let what = match kind {
        Kind::UpstreamUnreachable => "cannot be reached",
        Kind::UpstreamTimeout => "took too long to answer",
        Kind::UpstreamDenied => "does not accept the gateway's key. Its owner must correct `key` of that provider",
        Kind::Overloaded => "has no room just now. Try again shortly",
        _ => "gave no whole answer that can be passed on",
    };
    format!("The provider `{provider}` of the model `{model}` {what}.")
}

/// Nothing worked: the upstream's own words where there are any, else ours.
fn conclude(plan: &[Attempt], last: Option<Failure>, tries: Vec<Try>) -> Result<Reply, Error> {
    let Some(failure) = last else {
        return Err(Error::internal("a plan without attempts"));
    };
    // Nobody could be asked: every place was taken.
    let Some((model, endpoint)) = failure.of else { return Err(failure.error) };
    if let Some((status, headers, body)) = failure.answer {
        return Ok(Reply { status, headers, model, endpoint, tries, body: Body::Whole(body) });
    }
    let provider = plan.iter().find(|attempt| attempt.model == model).map_or("", |attempt| attempt.pool.name());
    let mut message = told(failure.error.kind(), &model, provider);
    if let [_, _, ..] = plan {
        let models: Vec<String> = plan.iter().map(|attempt| format!("`{}`", attempt.model)).collect();
        message = format!("No model answered of {}. {message}", models.join(", "));
    }
    let detail: Vec<&str> = tries.iter().map(|tried| tried.outcome.trim_end_matches('.')).collect();
    let asked = Asked { model, endpoint, tries: tries.len() as u32 };
    Err(failure.error.told(message, detail.join("; ")).having_asked(asked))
}
