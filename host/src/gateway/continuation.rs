//! Going on with a stream that broke off after the commit point: another endpoint of the same model gets the request with what was
//! said already, and its words follow behind a seam that says so.
//!
//! What it does not do: it goes on with no other model, and with nothing but text (`dialect/stream/said`).
//!
//! **Invariant:** only where the owner has written that the provider's servers can do it: others would begin anew.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use tokio::time::Instant;

use super::Exchange;
use super::course::Course;
use crate::config::Continuation as How;
use crate::dialect::openai_chat::{ChatRequest, Edit};
use crate::dialect::sse;
use crate::error::{Error, Kind, Retry};
use crate::upstream::{self, After, Attempt, Body, Context, UpstreamBody};

/// What is needed to ask again.
pub(super) struct Continuation {
    exchange: Arc<Exchange>,
    request: Arc<ChatRequest>,
    attempt: Attempt,
    how: How,
    upstream_name: Arc<str>,
    headers: http::HeaderMap,
    priority: crate::config::Priority,
    /// How often it may be.
    left: u32,
}

/// An endpoint that goes on.
pub(super) struct GoesOn {
    pub(super) body: Box<UpstreamBody>,
    pub(super) endpoint: Arc<str>,
    pub(super) tries: u32,
    /// Tokens of the prompt, about.
    pub(super) prompt: u64,
    /// Another endpoint was asked for nothing.
    pub(super) cancelled: bool,
}

pub(super) type Asked = BoxFuture<'static, Result<GoesOn, Error>>;

impl Continuation {
    /// None where the provider cannot, or the answer may have more in it than text.
    pub(super) fn of(course: &Course, request: &Arc<ChatRequest>, attempt: &Attempt, context: &Context<'_>) -> Option<Box<Self>> {
        let how = attempt.pool.settings().continuation.filter(|_| context.streamed && request.is_plain_text())?;
        let upstream_name = course.exchange.state.models.chat(&attempt.model)?.upstream_name.clone();
        Some(Box::new(Self {
            exchange: course.exchange.clone(),
            request: request.clone(),
            attempt: attempt.clone(),
            how,
            upstream_name,
            headers: context.headers.clone(),
            priority: context.priority,
            left: attempt.pool.settings().retries,
        }))
    }

    /// Asks another endpoint than the one that broke off, if there is one. None where that may not be.
    pub(super) fn ask(&mut self, said: &str, tokens: u32, broke: &Arc<str>) -> Option<Asked> {
        self.left = self.left.checked_sub(1)?;
        if Instant::now() >= self.exchange.deadline.ends() {
            return None;
        }
        let body = self.body(said, tokens)?;
        let after = After { endpoint: broke.clone(), retries: self.left };
        let attempt = Attempt { body, after: Some(after), ..self.attempt.clone() };
        let prompt = u64::from(self.request.estimated_tokens());
        let (exchange, headers, priority) = (self.exchange.clone(), self.headers.clone(), self.priority);
        Some(Box::pin(async move {
            let context = Context {
                id: &exchange.id,
                worker: exchange.worker,
                deadline: exchange.deadline.begun(),
                operation: upstream::provider::Operation::Chat,
                streamed: true,
                tenant: exchange.principal.tenant.clone(),
                priority,
                headers,
            };
            let Some(token) = attempt.pool.further_try() else {
                return Err(Error::internal("the retry budget is spent"));
            };
            let answer = upstream::run(&attempt, &context).await;
            if answer.as_ref().map_or_else(|error| error.asked().is_some(), |_| true) {
                token.spent();
            }
            let upstream::Reply { status, headers, endpoint, tries, cancelled, body, .. } = answer?;
            let is_events = headers.get(CONTENT_TYPE).is_some_and(|value| sse::is_events(value.as_bytes()));
            match body {
                Body::Stream(body) if status.is_success() && is_events => Ok(GoesOn { body, endpoint, tries, prompt, cancelled }),
                _ => {
                    let message = format!("{endpoint} answered {}, and did not go on.", status.as_u16());
                    Err(Error::upstream(Kind::UpstreamBroken, &endpoint, Retry::Never, message))
                }
            }
        }))
    }

    /// So many tries were made until another endpoint went on.
    pub(super) fn took(&mut self, tries: u32) {
        self.left = self.left.saturating_sub(tries.saturating_sub(1));
    }

    /// The request, with what was said as the beginning of the answer; as it is where nothing was.
    fn body(&self, said: &str, tokens: u32) -> Option<Bytes> {
        if said.is_empty() {
            return Some(self.request.to_upstream(&self.upstream_name, false));
        }
        let mut edits = vec![Edit::Append { role: "assistant", text: said.to_owned() }];
        let mut set = |name: &str, value: String| edits.push(Edit::SetParameter(name.into(), value));
        if self.how == How::Vllm {
            set("continue_final_message", "true".into());
            set("add_generation_prompt", "false".into());
        }
        for name in ["max_completion_tokens", "max_tokens"] {
            let most = self.request.pointer(&format!("/{name}")).and_then(|most| most.parse::<u32>().ok());
            if let Some(most) = most {
                set(name, most.saturating_sub(tokens).max(1).to_string());
            }
        }
        Some(self.request.edit(&edits).ok()?.to_upstream(&self.upstream_name, false))
    }
}
