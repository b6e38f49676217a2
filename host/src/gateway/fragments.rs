//! The stage `fragments`: where a prompt has fragments, each is asked for by itself, and the answer is put together of theirs.
//!
//! A part is an exchange of its own, with the prompt's other parts left out, that belongs to the client's: it is looked up, shared with whoever asks
//! the same, routed, asked upstream and kept like any other. All of them go at the same time, so the client waits for the slowest one.
//!
//! They are not asked for in one call. In one, a value that stands in one part could tell the model what to say in another one; and that
//! would be kept under a key that has nothing of the value in it, for everybody who asks for the other part.
//!
//! What it does not do: it looks for no part among near hits: texts of one template differ in a name, and are near one another for all the rest.
//!
//! **Invariant:** what is kept of a part depends on nothing but what its key has.
//! **Invariant:** where one part has no answer, the client gets what that one got, and no half of an answer.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};

use super::course::Course;
use super::key;
use super::reply::{self, Reply};
use crate::dialect::Invalid;
use crate::dialect::answer::{Answer, Sense, Usage};
use crate::dialect::openai_chat::ChatRequest;
use crate::error::{Error, Kind, Source};
use crate::record::CacheOutcome;

/// What a part of the answer is called, and how it is asked for.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) request: ChatRequest,
}

/// What became of a part.
struct Got {
    status: StatusCode,
    retry_after: Option<HeaderValue>,
    body: Bytes,
    cache: CacheOutcome,
    model: Option<Arc<str>>,
    degraded: Option<&'static str>,
    escalated: Vec<&'static str>,
    plugins: Vec<String>,
}

/// A part of the answer.
struct Said {
    name: String,
    cache: CacheOutcome,
    sense: Sense,
    usage: Usage,
}

/// The answer, put together. None: the prompt has no parts, or they are of no use to this request, so it is asked as a whole.
pub(super) async fn stage(course: &mut Course, request: &Arc<ChatRequest>) -> Result<Option<Reply>, Error> {
    let parts = std::mem::take(&mut course.parts);
    if parts.is_empty() || course.exchange.state.cache.is_none() || key::is_not_to_be_kept(&course.exchange.headers) {
        return Ok(None);
    }
    let as_json = request.wants_json_object();
    let free = |part: Part| Ok::<_, Invalid>(if as_json { Part { request: part.request.without_form()?, ..part } } else { part });
    let parts = parts.into_iter().map(free).collect::<Result<Vec<_>, _>>()?;
    if !parts.iter().all(|part| part.request.is_plain_text()) {
        return Ok(None);
    }
    let (names, requests): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.name, part.request)).unzip();
    let got = join_all(requests.into_iter().map(|request| Box::pin(ask(course, Arc::new(request))))).await;
    let mut all = Vec::with_capacity(names.len());
    for (name, got) in names.into_iter().zip(got) {
        let Got { status, retry_after, body, cache, model, degraded, escalated, plugins } = got?;
        let record = &mut course.record;
        record.model = record.model.take().or(model);
        record.degraded = record.degraded.or(degraded);
        record.escalated.extend(escalated);
        for plugin in plugins {
            if !record.plugins.contains(&plugin) {
                record.plugins.push(plugin);
            }
        }
        if status != StatusCode::OK {
            return Ok(Some(reply::passed_on(status, retry_after, body)));
        }
        let answer = Answer::read(body.clone());
        let sense = answer.as_ref().and_then(Answer::sense).filter(|sense| !sense.refused && !sense.text.trim().is_empty());
        let Some(sense) = sense else {
            // Whatever it is, it is no part of an answer.
            return Ok(Some(reply::stored(course, request, &body).unwrap_or_else(|| reply::json(body))));
        };
        let usage = answer.as_ref().and_then(Answer::usage).unwrap_or_default();
        all.push(Said { name, cache, sense, usage });
    }
    let from: Vec<_> = all.iter().map(|part| format!("{}={}", part.name, part.cache.name())).collect();
    course.record.fragments = Some(from.join(", "));
    course.record.cache = CacheOutcome::Fragments;
    let answer = Bytes::from(put_together(course, &all, as_json).to_string());
    let unreadable = || Error::internal("an answer of its own cannot be read");
    reply::stored(course, request, &answer).map(Some).ok_or_else(unreadable)
}

fn put_together(course: &Course, parts: &[Said], as_json: bool) -> Value {
    let text = if as_json {
        let texts = parts.iter().map(|part| (part.name.clone(), part.sense.text.as_str().into()));
        Value::Object(texts.collect::<Map<_, _>>()).to_string()
    } else {
        parts.iter().map(|part| part.sense.text.trim()).collect::<Vec<_>>().join("\n\n")
    };
    // The first that did not end of its own accord says how it did.
    let mut reasons = parts.iter().map(|part| part.sense.finish_reason.as_deref().unwrap_or("stop"));
    let finish_reason = reasons.find(|reason| *reason != "stop").unwrap_or("stop");
    let sum = |count: fn(&Usage) -> u64| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(count(&part.usage)));
    let (prompt, completion) = (sum(|usage| usage.prompt_tokens), sum(|usage| usage.completion_tokens));
    let is_kept = |cache| matches!(cache, CacheOutcome::Exact | CacheOutcome::Stale | CacheOutcome::Flight);
    let cached: Map<_, _> = parts.iter().map(|part| (part.name.clone(), is_kept(part.cache).into())).collect();
    json!({
        "id": format!("chatcmpl-{}", course.exchange.id),
        "object": "chat.completion",
        "created": course.exchange.received_at / 1000,
        "model": course.record.model,
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text, "refusal": null }, "logprobs": null, "finish_reason": finish_reason }],
        "usage": {
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt.saturating_add(completion),
            "x_pointsman": { "cached": cached.values().all(|cached| cached == true), "fragments": cached },
        },
    })
}

/// A part's answer, or what the client gets in its place.
async fn ask(of: &Course, request: Arc<ChatRequest>) -> Result<Got, Error> {
    let mut course = Course::beside(of, &request, Some(of.exchange.deadline));
    course.record.part_of = Some(of.exchange.id.clone());
    course.has_memory()?;
    course.meet_plugins(&request);
    let (mut course, answer) = of.gateway.clone().part(course, request).await;
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => {
            drop(reply::refused(&mut course, &error, None));
            return Err(error);
        }
    };
    let record = &course.record;
    let (cache, model, degraded) = (record.cache, record.model.clone(), record.degraded);
    let (escalated, plugins) = (record.escalated.clone(), record.plugins.clone());
    let response = reply.into_response(course);
    let (status, retry_after) = (response.status(), response.headers().get(RETRY_AFTER).cloned());
    match response.into_body().collect().await {
        Ok(body) => Ok(Got { status, retry_after, body: body.to_bytes(), cache, model, degraded, escalated, plugins }),
        Err(error) => {
            let message = format!("A part of the answer broke off: {error}.");
            Err(Error::new(Kind::UpstreamBroken, Source::Gateway, message))
        }
    }
}
