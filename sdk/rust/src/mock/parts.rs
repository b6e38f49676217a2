//! What a hook is told beside the request: models, attempts, answers, near hits. Each begins as something plain, to be changed where a
//! test wants it otherwise.
//!
//! What it does not do: it is no part of the request (`request`), and nothing is asked here (`imports`).
//!
//! **Invariant:** whatever is made here is something that a host could have made.

use serde_json::{Value, json};

use crate::upstreams::{Circuit, Status, Upstream};
use crate::{Attempt, Batch, Candidate};

/// A model of that name: one endpoint, idle and sound, no price, no answer so far.
///
/// ```
/// use pointsman_plugin::mock::upstream;
/// use pointsman_plugin::upstreams::{Price, Upstream};
///
/// let busy = Upstream { in_flight: 40, price: Some(Price { input: 50_000, output: 100_000 }), ..upstream("small") };
/// assert_eq!((busy.model.as_str(), busy.failing), ("small", 0.0));
/// ```
pub fn upstream(model: &str) -> Upstream {
    Upstream {
        model: model.to_owned(),
        provider: "local".to_owned(),
        price: None,
        endpoints: 1,
        in_flight: 0,
        failing: 0.0,
        first_byte_ms: None,
    }
}

/// The first attempt of an exchange, with an answer (200) after 100 ms; nothing is left of the plan.
///
/// ```
/// use pointsman_plugin::{Attempt, mock::attempt};
///
/// let first_of_two = Attempt { left: 1, ..attempt("small") };
/// assert_eq!((first_of_two.number, first_of_two.status), (1, Some(200)));
/// ```
pub fn attempt(model: &str) -> Attempt {
    Attempt { number: 1, model: model.to_owned(), failure: None, status: Some(200), latency_ms: 100, cost: None, left: 0 }
}

/// How a provider fares that has one endpoint, idle and sound, and of which nobody has said more.
pub fn status() -> Status {
    Status {
        circuit: Circuit::Closed,
        available: 1,
        endpoints: 1,
        retry_after_ms: None,
        in_flight: 0,
        waiting: 0,
        limit: None,
        running: None,
        queued: None,
        memory: None,
        first_byte: None,
        whole: None,
        requests_left: None,
        tokens_left: None,
    }
}

/// The first batch of an answer of that model, of which nothing has gone to the client, and more is to come. Its events are counted by
/// [`Host::on_chunk`](super::Host::on_chunk).
pub fn batch(model: &str) -> Batch {
    Batch {
        index: 0,
        events: 0,
        before: 0,
        model: model.to_owned(),
        elapsed_ms: 100,
        committed: false,
        last: false,
        missed: false,
    }
}

/// A near hit: the answer to another text, ten seconds old when the clock has not been moved, of the model `small`, at a similarity of 0.95.
pub fn candidate(text: &str, answer: &str) -> Candidate {
    Candidate {
        similarity: 0.95,
        text: text.to_owned(),
        answer: answer.to_owned(),
        created_at: super::state::BEGAN - 10_000,
        model: "small".to_owned(),
        prompt: None,
        hits: 0,
    }
}

/// A model's answer, or the beginning of one.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub(super) body: Value,
    pub(super) mean_logprob: Option<f32>,
    pub(super) whole: bool,
}

impl Answer {
    /// A finished answer with this text, as OpenAI's API has it; its model has not said how sure it was.
    pub fn of(text: &str) -> Self {
        Self::body(json!({
            "object": "chat.completion",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
        }))
    }

    /// A finished answer with this body.
    pub fn body(body: Value) -> Self {
        Self { body, mean_logprob: None, whole: true }
    }

    /// The mean log-probability of its tokens.
    pub fn mean_logprob(mut self, mean: f32) -> Self {
        self.mean_logprob = Some(mean);
        self
    }

    /// More of it is to come: the beginning of a stream.
    pub fn begun(mut self) -> Self {
        self.whole = false;
        self
    }
}
