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
mod lanes;
pub mod pool;
pub mod provider;
mod send;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use crate::error::{Error, Kind, Retry};
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
/// When no attempt got an answer; the message lists what was tried. Where an upstream said itself that it cannot (429,
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
    conclude(last, tries)
}

/// Nothing worked: the upstream's own words where there are any, else ours.
fn conclude(last: Option<Failure>, tries: Vec<Try>) -> Result<Reply, Error> {
    let Some(failure) = last else {
        return Err(Error::internal("a plan without attempts"));
    };
    if let (Some((status, headers, body)), Some((model, endpoint))) = (failure.answer, failure.of) {
        return Ok(Reply { status, headers, model, endpoint, tries, body: Body::Whole(body) });
    }
    let listed: Vec<String> = tries.iter().map(|tried| format!("{}: {}", tried.endpoint, tried.outcome)).collect();
    if listed.len() < 2 {
        return Err(failure.error);
    }
    let message = format!("No upstream answered. Tried {}.", listed.join("; "));
    let source = failure.error.source().clone();
    let again = failure.error.comes_back_after();
    let error = Error::new(failure.error.kind(), source, message);
    Err(match again {
        Some(after) => error.retry_after(after),
        None => error,
    })
}
