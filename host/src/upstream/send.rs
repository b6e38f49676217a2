//! One try: send the request, wait for the head, then for the first event; each with its own bound.
//!
//! A plain answer is collected whole before it counts, so that one that is cut can be asked for again; a stream counts from
//! its first whole event (`begin`). Both are the commit point: what this file gives back has begun downstream.
//!
//! **Invariant:** a plain answer that was cut is a failure, never a short answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Version, response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout_at};

use super::begin::{self, Beginning};
use super::body::Bounds;
use super::connect::{self, ConnectError};
use super::deadline::Deadline;
use super::endpoint::{Endpoint, Permit};
use super::gate::Pass;
use super::keys::Key;
use super::pool::{Pool, Timeouts};
use super::secret::Secret;
use super::{Attempt, Body, Context, Failure, UpstreamBody, provider, retry};
use crate::dialect::{self, sse};
use crate::error::{Error, Kind, Retry};

/// The largest plain answer that is held before it is passed on. A larger one passes through as it comes.
const MAX_HELD: usize = 16 << 20;

/// No answer will come from there, and the same endpoint may well give one: to a connection that was just being closed, say.
const AT_ONCE: Retry = Retry::Same(Duration::ZERO);

/// Kept connections that may end in a request's face before that is a failure: servers close idle ones when they like, several at a time,
/// and are not ill for that.
const OTHER_CONNECTIONS: u32 = 3;
/// Within which such an end comes. What ends later may have been at work on the request.
const AT_AN_END: Duration = Duration::from_secs(1);

pub(super) type Answer = (StatusCode, HeaderMap, Body);

/// The bounds of one try.
struct Clock<'a> {
    endpoint: &'a Endpoint,
    pool: &'a Pool,
    timeouts: &'a Timeouts,
    streamed: bool,
    began: Instant,
    /// When it must be over by what its owner has written, or the plan.
    total: Instant,
    /// When the try as a whole must be over.
    ends: Instant,
    /// When its answer must have begun, as the plan or the client says.
    first_byte: Instant,
    /// The client's header that says when the try must be over; none where something else does.
    ends_by: Option<&'static str>,
}

pub(super) async fn send(
    attempt: &Attempt,
    mut permit: Permit,
    context: &Context<'_>,
    deadline: Deadline,
) -> Result<Answer, Failure> {
    let endpoint = &*permit.endpoint().clone();
    let settings = attempt.pool.settings();
    let began = Instant::now();
    let total = began + attempt.total.unwrap_or(settings.timeouts.total);
    let begins = deadline.begins();
    let clock = Clock {
        endpoint,
        pool: &attempt.pool,
        timeouts: &settings.timeouts,
        streamed: context.streamed,
        began,
        total,
        ends: total.min(deadline.ends()),
        first_byte: attempt.first_byte.map_or(begins, |first| begins.min(began + first)),
        ends_by: deadline.ends_as_said_in().filter(|_| deadline.ends() < total),
    };
    let (keys, ticket) = (&attempt.pool.keys, permit.ticket);

    endpoint.tally.requests.add(1);
    let Some(client) = permit.client(context.worker) else { return Err(Error::internal("an endpoint without clients").into()) };
    // Who wants nothing sent twice has no retries, and not these either.
    let mut others = if settings.retries > 0 && settings.retry_budget > 0.0 { OTHER_CONNECTIONS } else { 0 };
    let response = loop {
        let mut request = Request::new(Full::new(attempt.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.uri(context.operation).clone();
        *request.headers_mut() = headers(attempt, keys.key(ticket), context);
        deadline.tell(request.headers_mut(), clock.ends);
        let sent = Instant::now();
        match clock.bounded("the answer's head", settings.timeouts.headers, client.request(request)).await {
            Ok(Ok(response)) => break response,
            Ok(Err(error)) if others > 0 && sent.elapsed() < AT_AN_END && connect::met_an_end(&error, sent) => others -= 1,
            Ok(Err(error)) => return Err(unsent(endpoint, &error)),
            Err(late) => {
                if late.blames {
                    permit.pass.iter_mut().for_each(Pass::overloaded);
                }
                return Err(late);
            }
        }
    };
    let (mut head, mut body) = response.into_parts();
    if context.streamed && head.status.is_success() && !is_json(&head.headers) {
        // A stream was asked for, and read as anything else nobody would see where it is cut.
        head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    }
    let secret = keys.key(ticket).map(|key| Secret::of(&key.header.1));
    keys.told(ticket, &head.headers, Instant::now());
    let mut headers = provider::downwards(&head.headers);
    if let Some(secret) = &secret {
        secret.leave_out_of(&mut headers);
    }
    if matches!(head.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        // Passed on, it would read as if the client's key were wrong, and may quote part of ours.
        let message = format!(
            "{} does not accept the gateway's key. Its owner must correct `key`, or `keys`, of that provider.",
            endpoint.authority()
        );
        let is_key = head.status == StatusCode::UNAUTHORIZED;
        let again = if is_key && keys.denied(ticket, endpoint, Instant::now()) { AT_ONCE } else { Retry::Never };
        let error = Error::upstream(Kind::UpstreamDenied, endpoint.authority(), again, message);
        // A prompt that a firewall does not like gets this, too.
        return Err(Failure { blames: false, status: Some(head.status), ..error.into() });
    }
    if head.status.is_informational() || head.status.is_redirection() {
        let message =
            format!("{} answered {}, which is no answer to a request for one.", endpoint.authority(), head.status.as_u16());
        let error = Error::upstream(Kind::UpstreamBroken, endpoint.authority(), Retry::Elsewhere, message);
        return Err(Failure { blames: false, status: Some(head.status), ..error.into() });
    }
    if is_elsewhere(head.status) {
        let asked = retry::asked(head.status, &headers);
        let time = asked.unwrap_or(settings.breaker.open).min(settings.breaker.open_max);
        // It may be one key that has no more room, and neither the endpoint nor the pool.
        let another = head.status == StatusCode::TOO_MANY_REQUESTS && keys.refused(ticket, time, Instant::now());
        if !another && matches!(head.status.as_u16(), 429 | 503 | 529) {
            permit.pass.iter_mut().for_each(Pass::overloaded);
        }
        let mut failure = refused(&clock, head.status, headers, body).await;
        failure.asked = asked;
        if another {
            failure = Failure { blames: false, error: failure.error.again(AT_ONCE), ..failure };
        }
        return Err(failure.without(secret.as_ref()));
    }
    let has_begun = |permit: &mut Permit, streamed| {
        // Told before a probation's place is free again: until then nobody else may have it.
        endpoint.answered(began, head.status.is_success());
        permit.begun(streamed, began.elapsed());
    };
    let going_on = |first, rest, permit| UpstreamBody::new(first, rest, permit, endpoint.authority().clone(), clock.bounds());
    let body = if is_stream(&head.headers) {
        if sse::is_compressed(&head.headers) {
            return Err(clock.failed("sends a compressed stream (`content-encoding`), though it is asked for none"));
        }
        let first = stream(&clock, (head.status, &headers), &mut body).await;
        let first = first.map_err(|failure| failure.without(secret.as_ref()))?;
        has_begun(&mut permit, true);
        Body::Stream(Box::new(going_on(first, body, permit).until_close(is_until_close(&head)).without(secret)))
    } else {
        match whole(&clock, &mut body).await? {
            Collected::Whole(answer) => {
                let answer = plain(&clock, &head, &headers, answer, secret.as_ref()).map_err(|failure| *failure)?;
                has_begun(&mut permit, false);
                Body::Whole(answer)
            }
            // What nobody holds can only be watched.
            Collected::Large(first) => {
                has_begun(&mut permit, false);
                let body = going_on(first, body, permit);
                let ends_anywhere = is_until_close(&head) && !sse::is_compressed(&head.headers);
                Body::Stream(Box::new(if ends_anywhere { body.until_whole() } else { body }.without(secret)))
            }
        }
    };
    keys.accepted(ticket);
    Ok((head.status, headers, body))
}

fn headers(attempt: &Attempt, key: Option<&Key>, context: &Context<'_>) -> HeaderMap {
    let settings = attempt.pool.settings();
    let mut headers = context.headers.clone();
    for (name, value) in settings.headers.iter().chain(key.map(|key| (&key.header.0, &key.header.1))) {
        headers.insert(name.clone(), value.clone());
    }
    headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
    // Saying nothing would allow whatever there is (RFC 9110, 12.5.3), and of what is compressed nobody sees where it is cut.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers
}

impl Clock<'_> {
    /// A phase ends at its own bound, the plan's for the first byte, or the try's, whichever is first.
    async fn bounded<T>(&self, waiting_for: &str, at_most: Duration, phase: impl Future<Output = T>) -> Result<T, Failure> {
        let began = Instant::now();
        let own = (began + at_most).min(self.began + self.timeouts.total);
        let until = own.min(self.ends).min(self.first_byte);
        timeout_at(until, phase).await.map_err(|_| {
            let waited = began.elapsed().as_secs_f32();
            let error = Error::upstream(
                Kind::UpstreamTimeout,
                self.endpoint.authority(),
                Retry::Elsewhere,
                format!("{} did not send {waiting_for} within {waited:.1} s.", self.endpoint.authority()),
            );
            // A bound that the request brought along, or what earlier tries have left of its time, is not the endpoint's to keep;
            // but one that says nothing for much longer than any other takes is ill, however patient its clients are.
            let blames = until >= own || self.pool.is_overdue(self.streamed, self.began.elapsed());
            Failure { blames, ..error.into() }
        })
    }

    /// What holds for the rest of an answer that has begun.
    fn bounds(&self) -> Bounds {
        let Self { timeouts, total, ends, ends_by, .. } = *self;
        Bounds { between: timeouts.between_tokens, ends, ends_by, own: total, is_own: ends == self.began + timeouts.total }
    }

    fn broken(&self, error: &hyper::Error) -> Failure {
        let message = format!("The answer of {} was cut: {error}.", self.endpoint.authority());
        Error::upstream(Kind::UpstreamBroken, self.endpoint.authority(), AT_ONCE, message).into()
    }

    /// What came is no answer; another one may be.
    fn failed(&self, what: &str) -> Failure {
        let endpoint = self.endpoint.authority();
        Error::upstream(Kind::UpstreamBroken, endpoint, AT_ONCE, format!("{endpoint} {what}.")).into()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, answer: None, status: None, asked: None, blames: true, of: None }
    }
}

/// No answer's head: the connection could not be made, or it ended first. Either way no answer will come from there.
fn unsent(endpoint: &Endpoint, error: &legacy::Error) -> Failure {
    let mut source = std::error::Error::source(error);
    let mut connect = None;
    let mut deepest = error.to_string();
    while let Some(cause) = source {
        connect = connect.or(cause.downcast_ref::<ConnectError>());
        deepest = cause.to_string();
        source = cause.source();
    }
    let (kind, again) = match connect {
        Some(ConnectError::ConnectTimeout(_) | ConnectError::TlsTimeout(_)) => (Kind::UpstreamTimeout, Retry::Elsewhere),
        Some(_) => (Kind::UpstreamUnreachable, AT_ONCE),
        None if error.is_connect() => (Kind::UpstreamUnreachable, AT_ONCE),
        None => (Kind::UpstreamBroken, AT_ONCE),
    };
    let reason = connect.map_or(deepest, ToString::to_string);
    Error::upstream(kind, endpoint.authority(), again, format!("{} cannot be reached: {reason}.", endpoint.authority())).into()
}

/// Statuses with which a server says that it cannot just now; another one may. Those that say that it never will (501, 505) are
/// answers.
fn is_elsewhere(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || (status.is_server_error() && !matches!(status.as_u16(), 501 | 505))
}

impl Failure {
    /// The same with the key taken out of the upstream's own words.
    fn without(mut self, secret: Option<&Secret>) -> Self {
        if let (Some(secret), Some((_, _, answer))) = (secret, &mut self.answer) {
            *answer = secret.covered(std::mem::take(answer));
        }
        self
    }
}

/// The server's own words are kept: if nothing better comes, the client gets them.
async fn refused(clock: &Clock<'_>, status: StatusCode, headers: HeaderMap, mut body: Incoming) -> Failure {
    let collected = clock.bounded("its answer", clock.timeouts.first_token, collect(&mut body)).await;
    let answer = match collected {
        Ok(Ok(Collected::Whole(bytes))) if !bytes.is_empty() => Some((status, headers, bytes)),
        _ => None,
    };
    let kind = if status == StatusCode::TOO_MANY_REQUESTS { Kind::Overloaded } else { Kind::UpstreamBroken };
    // Who says that it is busy is not asked again at once, nor is one whose own upstream may still be at work.
    let again = if matches!(status.as_u16(), 429 | 503 | 504 | 529) { Retry::Elsewhere } else { AT_ONCE };
    let message = format!("{} answered {}.", clock.endpoint.authority(), status.as_u16());
    Failure {
        error: Error::upstream(kind, clock.endpoint.authority(), again, message),
        answer,
        status: Some(status),
        asked: None,
        blames: true,
        of: None,
    }
}

fn is_stream(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| sse::is_events(value.as_bytes()))
}

/// Is the connection's end the only sign of the body's? Then a connection that breaks looks like one that has done its work.
fn is_until_close(head: &response::Parts) -> bool {
    let framed = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|name| head.headers.contains_key(name));
    head.version < Version::HTTP_2 && !framed
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/json"))
}

/// A plain answer, all of it, if it is one: to what is asked of a model any success is an object in JSON.
fn plain(
    clock: &Clock<'_>,
    head: &response::Parts,
    headers: &HeaderMap,
    answer: Bytes,
    secret: Option<&Secret>,
) -> Result<Bytes, Box<Failure>> {
    let answer = if let Some(secret) = secret { secret.covered(answer) } else { answer };
    if !head.status.is_success() {
        return Ok(answer);
    }
    let (status, text) = (head.status.as_u16(), answer.trim_ascii());
    if text.is_empty() {
        return Err(Box::new(clock.failed(&format!("answered {status} with nothing"))));
    }
    if sse::is_compressed(&head.headers) {
        return Ok(answer);
    }
    if !text.starts_with(b"{") {
        return Err(Box::new(clock.failed(&format!("answered {status} with what is no object in JSON"))));
    }
    if !text.ends_with(b"}") || (is_until_close(head) && serde_json::from_slice::<IgnoredAny>(text).is_err()) {
        return Err(Box::new(clock.failed("ended its answer in the middle of it")));
    }
    if let Some(is_servers) = dialect::stream::error(text) {
        // Where nothing better comes the client gets these words, under a status of which its SDK makes an exception.
        let status = if is_servers { StatusCode::BAD_GATEWAY } else { StatusCode::BAD_REQUEST };
        let what = format!("answered {status} with an error");
        return Err(Box::new(says_error(clock, is_servers, &what, (status, headers.clone(), answer))));
    }
    Ok(answer)
}

/// An answer that is an error, whatever its status. One of the request's own would come of it anywhere, and is no fault of the endpoint's.
fn says_error(clock: &Clock<'_>, is_servers: bool, what: &str, said: (StatusCode, HeaderMap, Bytes)) -> Failure {
    let again = if is_servers { AT_ONCE } else { Retry::Never };
    let message = format!("{} {what}.", clock.endpoint.authority());
    let error = Error::upstream(Kind::UpstreamBroken, clock.endpoint.authority(), again, message);
    Failure { answer: Some(said), blames: is_servers, ..error.into() }
}

/// A stream up to its first whole event. One that ends before that, or says that it has failed, is a failure like any other.
async fn stream(clock: &Clock<'_>, (status, headers): (StatusCode, &HeaderMap), body: &mut Incoming) -> Result<Bytes, Failure> {
    let beginning = clock.bounded("the first event of its answer", clock.timeouts.first_token, begin::read(body)).await?;
    match beginning.map_err(|error| clock.broken(&error))? {
        Beginning::Answer(first) => Ok(first),
        Beginning::Error(said, is_servers) => {
            Err(says_error(clock, is_servers, "began with an error", (status, headers.clone(), said)))
        }
        Beginning::Nothing => Err(clock.failed("ended its stream before it began")),
    }
}

/// All of a plain answer, or as much of it as is held.
async fn whole(clock: &Clock<'_>, body: &mut Incoming) -> Result<Collected, Failure> {
    // A plain answer comes when the model has said everything, so its bytes follow closely on one another.
    let at_most = clock.timeouts.first_token.max(clock.timeouts.between_tokens);
    clock.bounded("its whole answer", at_most, collect(body)).await?.map_err(|error| clock.broken(&error))
}

enum Collected {
    Whole(Bytes),
    /// What has come so far of one that is too long to be held.
    Large(Bytes),
}

async fn collect(body: &mut Incoming) -> Result<Collected, hyper::Error> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() && all.is_empty() {
            // Most answers are one piece: no copy.
            first = data;
            continue;
        }
        if all.is_empty() {
            all.extend_from_slice(&first);
            first = Bytes::new();
        }
        all.extend_from_slice(&data);
        if all.len() > MAX_HELD {
            return Ok(Collected::Large(all.freeze()));
        }
    }
    Ok(Collected::Whole(if all.is_empty() { first } else { all.freeze() }))
}
