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
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};

use super::course::Course;
use super::key;
use super::reply::{self, Reply};
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::error::{Error, Kind, Source};
use crate::record::CacheOutcome;

/// What a part of the answer is called, and how it is asked for.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) request: Arc<ChatRequest>,
}

/// What became of a part.
struct Got {
    status: StatusCode,
    body: Bytes,
    cache: CacheOutcome,
    model: Option<Arc<str>>,
}

/// The answer, put together. None: the prompt has no parts, or they are of no use to this request, so it is asked as a whole.
pub(super) async fn stage(course: &mut Course, request: &Arc<ChatRequest>) -> Result<Option<Reply>, Error> {
    let parts = std::mem::take(&mut course.parts);
    if parts.is_empty() || course.exchange.state.cache.is_none() || key::is_not_to_be_kept(&course.exchange.headers) {
        return Ok(None);
    }
    let as_json = request.wants_json_object();
    let asked = parts.iter().map(|part| if as_json { part.request.without_form()?.plain() } else { part.request.plain() });
    let asked: Vec<_> = asked.collect::<Result<_, _>>()?;
    if !asked.iter().all(ChatRequest::is_plain_text) {
        return Ok(None);
    }
    let got = join_all(asked.into_iter().map(|request| Box::pin(ask(course, Arc::new(request))))).await;
    let mut whole = Vec::with_capacity(parts.len());
    for (part, got) in parts.into_iter().zip(got) {
        let got = got?;
        let answer = Answer::read(got.body.clone()).filter(|_| got.status == StatusCode::OK);
        let Some(sense) = answer.as_ref().and_then(Answer::sense) else {
            course.record.model = got.model;
            return Ok(Some(reply::passed_on(got.status, got.body)));
        };
        let usage = answer.as_ref().and_then(Answer::usage).unwrap_or_default();
        whole.push((part.name, got.cache, got.model, sense, usage));
    }
    let from: Vec<_> = whole.iter().map(|(name, cache, ..)| format!("{name}={}", cache.name())).collect();
    course.record.fragments = Some(from.join(", "));
    course.record.cache = CacheOutcome::Fragments;
    course.record.model = whole.iter().find_map(|(_, _, model, ..)| model.clone());
    let text = if as_json {
        let texts = whole.iter().map(|(name, _, _, sense, _)| (name.clone(), sense.text.as_str().into()));
        Value::Object(texts.collect::<Map<_, _>>()).to_string()
    } else {
        whole.iter().map(|(_, _, _, sense, _)| sense.text.trim()).collect::<Vec<_>>().join("\n\n")
    };
    // The first that did not end of its own accord says how it did.
    let reasons = || whole.iter().map(|(_, _, _, sense, _)| sense.finish_reason.as_deref().unwrap_or("stop"));
    let finish_reason = reasons().find(|reason| *reason != "stop").unwrap_or("stop");
    let (prompt, completion) = whole
        .iter()
        .fold((0, 0), |(prompt, completion), (.., usage)| (prompt + usage.prompt_tokens, completion + usage.completion_tokens));
    let is_kept = |cache| matches!(cache, CacheOutcome::Exact | CacheOutcome::Stale | CacheOutcome::Flight);
    let cached: Map<_, _> = whole.iter().map(|(name, cache, ..)| (name.clone(), is_kept(*cache).into())).collect();
    let answer = json!({
        "id": format!("chatcmpl-{}", course.exchange.id),
        "object": "chat.completion",
        "created": course.exchange.received_at / 1000,
        "model": course.record.model,
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text, "refusal": null }, "logprobs": null, "finish_reason": finish_reason }],
        "usage": {
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "x_pointsman": { "cached": cached.values().all(|cached| cached == true), "fragments": cached },
        },
    });
    reply::stored(course, request, &Bytes::from(answer.to_string()))
        .map(Some)
        .ok_or_else(|| Error::internal("an answer of its own cannot be read"))
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
    let (cache, model) = (course.record.cache, course.record.model.clone());
    let response = reply.into_response(course);
    let status = response.status();
    match response.into_body().collect().await {
        Ok(body) => Ok(Got { status, body: body.to_bytes(), cache, model }),
        Err(error) => {
            let message = format!("A part of the answer broke off: {error}.");
            Err(Error::new(Kind::UpstreamBroken, Source::Gateway, message))
        }
    }
}
