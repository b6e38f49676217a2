//! An exchange that is not one: what a case gives, shown to a plugin as the gateway shows a request.
//!
//! What it does not do: it judges nothing, and it is asked by the engine alone.
//!
//! **Invariant:** whatever a plugin learns here comes from the case: no clock, no chance, nothing of the machine.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::file::{self, Given};
use crate::config::allow::Allowed;
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::stream::part::Part;
use crate::plugin::bindings::{caching, routing, types};
use crate::plugin::hooks::Reviewed;
use crate::plugin::http::{Inbound, Outbound};
use crate::plugin::imports::{Circuit, EmbedError, HttpError, Latency, Price, Status, Surroundings, Upstream};

/// 2026-01-01T12:00:00Z.
const NOW: u64 = 1_767_268_800_000;
/// What stands for the vector of a text whose nearest labels are given.
const SOME_VECTOR: [f32; 1] = [1.0];

/// What a case gives.
pub(super) struct StandIn {
    given: Given,
    headers: HeaderMap,
    began: Instant,
    left: Mutex<Vec<(String, String)>>,
}

impl StandIn {
    /// # Errors
    /// The header that is none.
    pub(super) fn new(given: Given) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in &given.request.headers {
            let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value));
            let (Ok(name), Ok(value)) = parsed else { return Err(format!("`{name}` is no header, or its value is none")) };
            headers.append(name, value);
        }
        Ok(Self { given, headers, began: Instant::now(), left: Mutex::default() })
    }

    /// The labels that calls have left.
    pub(super) fn labels(&self) -> Vec<(String, String)> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The request, as the client would have sent it.
    ///
    /// # Errors
    /// What is wrong with its body.
    pub(super) fn request(&self) -> Result<Arc<ChatRequest>, String> {
        let asked = &self.given.request;
        let mut body: serde_json::Map<String, Value> =
            asked.body.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let model = asked.model.as_deref().or(body.get("model").and_then(Value::as_str)).unwrap_or("auto");
        body.insert("model".to_owned(), model.into());
        let messages =
            asked.messages.clone().or_else(|| Some(vec![json!({ "role": "user", "content": asked.message.as_ref()? })]));
        if let Some(messages) = messages {
            body.insert("messages".to_owned(), messages.into());
        }
        if !body.contains_key("messages") && !body.contains_key("prompt") {
            body.insert("messages".to_owned(), json!([]));
        }
        let bytes = Bytes::from(Value::Object(body).to_string());
        ChatRequest::parse(bytes).map(Arc::new).map_err(|invalid| invalid.to_string())
    }

    /// The eager part of the request.
    pub(super) fn head(&self, request: &ChatRequest) -> types::RequestHead {
        let asked = &self.given.request;
        types::RequestHead {
            id: self.id().to_owned(),
            tenant: self.tenant().to_owned(),
            principal: asked.principal.clone(),
            operation: types::Operation::Chat,
            model: request.model().to_owned(),
            prompt_tokens: asked.prompt_tokens.unwrap_or_else(|| request.estimated_tokens()),
            max_tokens: request.max_tokens(),
            temperature: request.temperature(),
            streaming: request.stream(),
            has_tools: request.has_tools(),
            prompt: request.prompt().map(|prompt| types::PromptRef { name: prompt.id.clone(), version: prompt.version.clone() }),
            deadline_ms: asked.deadline.map_or(300_000, |time| u32::try_from(time.get().as_millis()).unwrap_or(u32::MAX)),
            received_at: self.received_at(),
        }
    }

    pub(super) fn attempt(&self) -> routing::Attempt {
        let given = self.given.attempt.clone().unwrap_or_default();
        let answered = given.failure.is_none();
        routing::Attempt {
            number: given.number.unwrap_or(1),
            model: given.model.or_else(|| self.first_model()).unwrap_or_else(|| "small".to_owned()),
            failure: given.failure.map(|failure| routing::Failure {
                code: failure.code,
                status: failure.status,
                retry_after_ms: failure.retry_after_ms,
            }),
            status: given.status.or(answered.then_some(200)),
            latency_ms: given.latency_ms.unwrap_or(100),
            cost: given.cost,
            left: given.left.unwrap_or(0),
        }
    }

    pub(super) fn reviewed(&self) -> Option<Reviewed> {
        let given = self.given.answer.as_ref()?;
        Some(Reviewed { answer: Arc::new(Answer::read(Bytes::from(body(given).to_string()))?), whole: !given.begun })
    }

    /// The part of an answer, where it stands, and what the plugin gave back before it.
    pub(super) fn batch(&self) -> Option<(routing::Batch, Arc<Part>, &str)> {
        let given = self.given.batch.as_ref()?;
        let event = |text: &String| json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
        let events = given.events.clone().unwrap_or_else(|| given.texts.iter().flatten().map(event).collect());
        let pieces = events.iter().map(|event| Bytes::from(format!("data: {event}\n\n"))).collect();
        let batch = routing::Batch {
            index: given.index,
            events: events.len() as u32,
            before: given.before,
            model: given.model.clone().or_else(|| self.first_model()).unwrap_or_else(|| "small".to_owned()),
            elapsed_ms: given.elapsed_ms.unwrap_or(100),
            committed: given.committed,
            last: given.last,
            missed: given.missed,
        };
        Some((batch, Arc::new(Part::of_stream(pieces)), &given.state))
    }

    fn first_model(&self) -> Option<String> {
        self.given.models.as_ref()?.first().map(|model| model.model.clone())
    }

    pub(super) fn hit(&self) -> Option<caching::Candidate> {
        let hit = self.given.hit.clone()?;
        let age = hit.age.map_or(10_000, |age| age.get().as_millis() as u64);
        Some(caching::Candidate {
            similarity: hit.similarity.unwrap_or(0.95),
            text: hit.text,
            answer: hit.answer,
            created_at: self.received_at().saturating_sub(age),
            model: hit.model.unwrap_or_else(|| "small".to_owned()),
            prompt: None,
            hits: hit.hits,
        })
    }

    fn vector(&self, text: &str, otherwise: Option<&[f32]>) -> Result<Arc<[f32]>, EmbedError> {
        match self.given.embedder {
            Some(file::Embedder::Unavailable) => return Err(EmbedError::Unavailable),
            Some(file::Embedder::Busy) => return Err(EmbedError::Busy),
            None if text.is_empty() => return Err(EmbedError::Empty),
            None => {}
        }
        let Some(given) = self.given.embeddings.get(text).map(Vec::as_slice).or(otherwise) else {
            return Err(EmbedError::Unavailable);
        };
        let length = given.iter().map(|part| part * part).sum::<f32>().sqrt();
        Ok(given.iter().map(|part| part / length).collect())
    }
}

/// An answer's body, as OpenAI's API has it.
fn body(given: &file::Answer) -> Value {
    let text = given.text.as_deref().unwrap_or_default();
    let mut body = match &given.body {
        Some(body) => Value::Object(body.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
        None => json!({
            "object": "chat.completion",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": if given.begun { None } else { Some("stop") } }],
        }),
    };
    if let (Some(mean), Some(choice)) = (given.mean_logprob, body.pointer_mut("/choices/0")) {
        choice["logprobs"] = json!({ "content": [{ "token": text, "logprob": mean }] });
    }
    body
}

/// Where a service stands that a case gives.
///
/// # Errors
/// What is wrong with its URL.
pub(super) fn allowed(url: &str) -> Result<Allowed, &'static str> {
    Allowed::parse(url.split('?').next().unwrap_or(url))
}

fn status(given: &file::Status) -> Status {
    let latency = |given: file::Latency| Latency { p50_ms: given.p50_ms, p95_ms: given.p95_ms };
    let endpoints = given.endpoints.unwrap_or(1);
    let (circuit, available) = match given.circuit {
        file::Circuit::Closed => (Circuit::Closed, endpoints),
        file::Circuit::Probation => (Circuit::Probation, 0),
        file::Circuit::Open => (Circuit::Open, 0),
    };
    Status {
        circuit,
        available: given.available.unwrap_or(available),
        endpoints,
        retry_after_ms: given.retry_after_ms,
        in_flight: given.in_flight,
        waiting: given.waiting,
        limit: given.limit,
        running: given.running,
        queued: given.queued,
        memory: given.memory,
        first_byte: given.first_byte.map(latency),
        whole: given.whole.map(latency),
        requests_left: given.requests_left,
        tokens_left: given.tokens_left,
    }
}

fn served(given: &file::Service) -> Result<Inbound, HttpError> {
    match given.fails {
        Some(file::Trouble::Timeout) => return Err(HttpError::Timeout),
        Some(file::Trouble::TooLarge) => return Err(HttpError::TooLarge),
        Some(file::Trouble::Unreachable) => return Err(HttpError::Unreachable),
        None => {}
    }
    let body = match &given.body {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(json) => json.to_string(),
    };
    Ok(Inbound {
        status: given.status.unwrap_or(200),
        headers: given.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect(),
        body: body.into_bytes(),
    })
}

fn upstream(given: &file::Model) -> Upstream {
    let micros = |dollars: f64| (dollars * 1e6).round() as u64;
    Upstream {
        model: given.model.clone(),
        provider: given.provider.clone().unwrap_or_else(|| "local".to_owned()),
        price: given.price.map(|price| Price { input: micros(price.input), output: micros(price.output) }),
        endpoints: given.endpoints.unwrap_or(1),
        in_flight: given.in_flight.unwrap_or(0),
        failing: given.failing.unwrap_or(0.0),
        first_byte_ms: given.first_byte_ms,
    }
}

impl Surroundings for StandIn {
    fn id(&self) -> &str {
        self.given.request.id.as_deref().unwrap_or("case")
    }

    fn tenant(&self) -> &str {
        self.given.request.tenant.as_deref().unwrap_or("default")
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn received_at(&self) -> u64 {
        self.given.now.map_or(NOW, |moment| moment.0)
    }

    fn started(&self) -> Instant {
        self.began
    }

    fn elapsed(&self) -> Duration {
        self.given.elapsed.map_or(Duration::ZERO, |time| time.get())
    }

    fn candidates(&self) -> Vec<Upstream> {
        self.given.models.iter().flatten().map(upstream).collect()
    }

    fn model(&self, name: &str) -> Option<Upstream> {
        self.given.models.iter().flatten().find(|model| model.model == name).map(upstream)
    }

    fn status(&self, name: &str) -> Option<Status> {
        self.given.statuses.get(&self.model(name)?.provider).map(status)
    }

    fn fetch(&self, request: Outbound) -> BoxFuture<'_, Result<Inbound, HttpError>> {
        let is_asked = |url: &str| url.parse::<http::Uri>().is_ok_and(|uri| uri == request.uri);
        let found = self.given.services.iter().find(|(url, _)| is_asked(url));
        Box::pin(std::future::ready(found.map_or(Err(HttpError::Unreachable), |(_, service)| served(service))))
    }

    fn may_choose(&self, model: &str) -> bool {
        self.given.models.as_ref().is_none_or(|models| models.iter().any(|own| own.model == model))
    }

    fn label(&self, name: &str) -> Option<String> {
        let left = self.labels();
        let own = left.iter().rev().find(|(label, _)| label == name).map(|(_, value)| value.clone());
        own.or_else(|| self.given.labels.get(name).cloned())
    }

    fn leave(&self, labels: Vec<(String, String)>) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).extend(labels);
    }

    fn prompt_vector<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        let otherwise = (!self.given.examples.is_empty()).then_some(&SOME_VECTOR[..]);
        Box::pin(std::future::ready(self.vector(text, otherwise)))
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        Box::pin(std::future::ready(self.vector(text, None)))
    }

    fn classify(&self, examples: &str, _: &[f32], k: usize) -> Option<Vec<(String, f32)>> {
        let mut found: Vec<(String, f32)> =
            self.given.examples.get(examples)?.iter().map(|(label, score)| (label.clone(), *score)).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.truncate(k);
        Some(found)
    }
}
