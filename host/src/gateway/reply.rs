//! The stage `reply`: from whatever answers (an upstream, the cache, an error) to the response that the client gets.
//!
//! What it does not do: it translates nothing yet; client and upstream speak the same dialect.
//!
//! **Invariant:** the headers say where the answer comes from: `x-pointsman-model`, `-cache`, `-prompt`, `-plugin`, `-reason`,
//! and `x-request-id`, under which log and record have it.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

mod body;
mod paced;

use super::body::{ERROR_EVENT, Stream};
use super::course::Course;
use super::fill::Fill;
use super::flight::{Follows, Head, Listener, Seat};
use super::run::Answered;
use crate::cache::Entry;
use crate::dialect;
use crate::dialect::answer::Answer;
use crate::dialect::logprobs;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::sse;
use crate::dialect::stream::replay::{self, replay};
use crate::error::{Error, Kind, Source};
use crate::record::{CacheOutcome, Ending, Stage};
use crate::upstream::{self, Body};
pub use body::ReplyBody;
use paced::Paced;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENTS: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");

/// Bytes of a header's value that came from a plugin.
const MAX_VALUE: usize = 256;

/// An answer, before it meets the client.
pub(super) struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: Content,
    /// Where others wait for it, and it may be shared.
    seat: Option<Seat>,
}

enum Content {
    Whole(Bytes),
    /// All of a stream, which goes out at a set rate.
    Paced(Box<Paced>),
    Stream(Box<Stream>),
    /// A stream that another exchange has asked for.
    Shared(Listener),
}

impl From<Content> for Reply {
    fn from(body: Content) -> Self {
        Self { status: StatusCode::OK, headers: HeaderMap::with_capacity(12), body, seat: None }
    }
}

/// An answer of our own, in JSON.
pub(super) fn json(body: Bytes) -> Reply {
    Reply::from(Content::Whole(body)).of(JSON)
}

/// The answer of an equal request, as it comes.
pub(super) fn shared(head: &Head, listener: Listener) -> Reply {
    Reply::from(Content::Shared(listener)).of(head.content_type.clone())
}

/// The same where all of it has come.
pub(super) fn whole(head: &Head, bytes: Bytes) -> Reply {
    Reply::from(Content::Whole(bytes)).of(head.content_type.clone())
}

/// An upstream's answer. Those who wait for it get it too, if it may be kept.
pub(super) async fn upstream(
    course: &mut Course,
    fill: Option<Fill>,
    answer: Answered,
    seat: Option<Seat>,
) -> Result<Reply, Error> {
    let Answered { reply, choices, strip, continuation, watch, .. } = answer;
    let upstream::Reply { status, headers, endpoint, body, .. } = reply;
    let is_events = sse::is_readable(&headers);
    let mut is_shareable = fill.is_some() && headers.contains_key(header::CONTENT_TYPE) && watch.is_none();
    let body = match body {
        // A stream that began with an error, for which no other model could make up: it is all there.
        Body::Whole(bytes) if is_events && status.is_success() => {
            course.record.ending = Ending::Broken;
            course.record.error = Some(ERROR_EVENT.to_owned());
            is_shareable = false;
            Content::Whole(bytes)
        }
        Body::Whole(bytes) => {
            let bytes = if strip { logprobs::strip(&bytes) } else { bytes };
            let answer = Answer::read(bytes.clone()).filter(|_| status.is_success());
            is_shareable = is_shareable && answer.as_ref().is_some_and(Answer::is_one);
            if let Some(answer) = answer {
                if let Some(usage) = answer.usage() {
                    course.used(usage);
                }
                if let Some(fill) = fill {
                    fill.answer(Arc::new(answer)).await;
                    course.done(Stage::Fill);
                }
            }
            Content::Whole(bytes)
        }
        Body::Stream(body) => {
            let stream = Stream::new(body, is_events, fill, endpoint, choices, strip, continuation).watched(watch);
            is_shareable &= stream.is_shareable();
            Content::Stream(Box::new(stream))
        }
    };
    Ok(Reply { status, headers, body, seat: seat.filter(|_| is_shareable) })
}

/// A stored answer, in the form that was asked for. None if it cannot be read any more.
pub(super) fn cached(course: &Course, request: &ChatRequest, entry: &Entry, score: Option<f32>) -> Option<Reply> {
    let mut reply = stored(course, request, &entry.answer)?;
    let headers = &mut reply.headers;
    headers.insert(header::AGE, entry.age(course.exchange.received_at).into());
    set(headers, "x-pointsman-cache-entry", &entry.key.to_string());
    if let Some(score) = score {
        set(headers, "x-pointsman-cache-score", &format!("{score:.3}"));
    }
    if let Some((name, version)) = &entry.prompt {
        set(headers, "x-pointsman-prompt", &format!("{name}@{version}"));
    }
    Some(reply)
}

/// An answer that is all there, in the form that was asked for. None if it cannot be read.
pub(super) fn stored(course: &Course, request: &ChatRequest, answer: &Bytes) -> Option<Reply> {
    if !request.stream() {
        return Some(json(answer.clone()));
    }
    let rate = course.exchange.state.cache.as_ref().map_or(0, |cache| cache.replay_rate());
    let piece = if rate > 0 { replay::WORD } else { replay::WORDS };
    let events = replay(answer, request.include_usage(), piece)?;
    let content = match rate {
        0 => Content::Whole(events),
        rate => Content::Paced(Box::new(Paced::new(course, events, answer, rate))),
    };
    Some(Reply::from(content).of(EVENTS))
}

/// What another exchange was answered.
pub(super) fn passed_on(status: StatusCode, retry_after: Option<HeaderValue>, body: Bytes) -> Reply {
    let mut reply = Reply { status, ..json(body) };
    reply.headers.extend(retry_after.map(|after| (header::RETRY_AFTER, after)));
    reply
}

/// An error, in the shape from which OpenAI's SDKs make a typed exception.
pub(super) fn refused(course: &mut Course, error: &Error, allow: Option<&'static str>) -> Reply {
    course.record.ending = Ending::Refused;
    course.failed(error);
    // Who refused, or failed and must not be gone without. A canary that refused has been noted where it did.
    let is_noted =
        |name: &str| course.record.plugins.iter().any(|label| label.rsplit_once('@').is_some_and(|(own, _)| own == name));
    if let Source::Plugin(name) = error.source()
        && !is_noted(name)
        && let Some(by) = course.exchange.state.plugins.all().iter().find(|plugin| plugin.name() == name).cloned()
    {
        course.decided(&by, Vec::new());
    }
    match error.kind() {
        Kind::Internal => tracing::error!(
            exchange = course.exchange.id,
            cause = error.cause().map(tracing::field::display),
            "the gateway failed"
        ),
        _ => tracing::debug!(exchange = course.exchange.id, code = error.code(), source = ?error.source(), "{}", error.detail()),
    }
    let status = error.status();
    let body = dialect::error::body(status.as_u16(), error.message(), error.param(), Some(error.code()));
    let mut reply = Reply { status, ..Reply::from(Content::Whole(body)).of(JSON) };
    let headers = &mut reply.headers;
    if let Some(after) = error.comes_back_after() {
        headers.insert(
            header::RETRY_AFTER,
            after.as_millis().div_ceil(1000).max(1).to_string().parse().unwrap_or(HeaderValue::from_static("1")),
        );
    }
    if error.kind() == Kind::InvalidKey {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(allow) = allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    reply
}

impl Reply {
    /// Of this kind.
    fn of(mut self, content_type: HeaderValue) -> Self {
        self.headers.insert(header::CONTENT_TYPE, content_type);
        self
    }

    /// The response. Its body takes the course along, and books it at its end.
    pub(super) fn into_response(self, mut course: Box<Course>) -> Response<ReplyBody> {
        let Self { status, mut headers, body, seat } = self;
        course.record.status = status.as_u16();
        describe(&course, &mut headers);
        course.done(Stage::Reply);
        let seat = seat.zip(Head::of(&course, &headers, matches!(body, Content::Stream(_))));
        let body = match (body, seat) {
            (Content::Whole(bytes), seat) => {
                if let Some((seat, head)) = seat {
                    seat.lands(head, bytes.clone());
                }
                ReplyBody::whole(bytes, course)
            }
            (Content::Paced(paced), _) => ReplyBody::paced(paced, course),
            (Content::Stream(stream), Some((seat, head))) => ReplyBody::leads(seat.flies(head, stream, course)),
            (Content::Stream(stream), None) => ReplyBody::stream(stream, course),
            (Content::Shared(listener), _) => ReplyBody::follows(Box::new(Follows::new(listener, &course)), course),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

/// Where the answer comes from, for whoever reads headers.
fn describe(course: &Course, headers: &mut HeaderMap) {
    let record = &course.record;
    if let Some(theirs) = headers.remove("x-request-id") {
        headers.insert(HeaderName::from_static("x-pointsman-upstream-request-id"), theirs);
    }
    set(headers, "x-request-id", &record.id);
    if let Some(model) = &record.model {
        set(headers, "x-pointsman-model", model);
    }
    if let Some(asked) = &record.substitute_for {
        set(headers, "x-pointsman-substitute", asked);
    }
    if let Some(level) = record.degraded {
        headers.insert(HeaderName::from_static("x-pointsman-degraded"), HeaderValue::from_static(level));
    }
    if record.cache != CacheOutcome::Off {
        headers.insert(HeaderName::from_static("x-pointsman-cache"), HeaderValue::from_static(record.cache.name()));
    }
    if let Some(tier) = record.cache_tier {
        headers.insert(HeaderName::from_static("x-pointsman-cache-tier"), HeaderValue::from_static(tier));
    }
    if let Some(prompt) = &record.prompt {
        set(headers, "x-pointsman-prompt", prompt);
    }
    if let Some(fragments) = &record.fragments {
        set(headers, "x-pointsman-fragments", fragments);
    }
    if !record.plugins.is_empty() {
        set(headers, "x-pointsman-plugin", &record.plugins.join(", "));
    }
    if !record.escalated.is_empty() {
        set(headers, "x-pointsman-escalated", &record.escalated.join(", "));
    }
    if let Some(reason) = record.reason.as_deref().filter(|reason| !reason.is_empty()) {
        set(headers, "x-pointsman-reason", reason);
    }
}

/// Sets a header; what may not stand in one becomes `?`.
fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let safe = |byte: u8| if byte == b' ' || byte.is_ascii_graphic() { byte } else { b'?' };
    let value = match HeaderValue::from_str(value) {
        Ok(value) if value.len() <= MAX_VALUE && value.to_str().is_ok() => Ok(value),
        _ => HeaderValue::from_bytes(&value.bytes().take(MAX_VALUE).map(safe).collect::<Vec<u8>>()),
    };
    if let Ok(value) = value {
        headers.insert(HeaderName::from_static(name), value);
    }
}
