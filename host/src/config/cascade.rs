//! `[models.NAME.cascade]`: what is demanded of a small model's answer before a client gets it.
//!
//! Does not judge: `route/judge` does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::unit::Duration;

/// The rules of a cascade; at least one. Each is off where it is not written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Cascade {
    /// The least mean log-probability of the answer's tokens, 0 or less, such as -0.5. Models that can say it are asked to; the client sees it
    /// only if it asked itself. Answers without are not judged by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_logprob: Option<f64>,
    /// The least length of the answer's text, in characters. Default 0.
    pub min_chars: usize,
    /// Refusals are doubted: answers that begin as models begin that will not answer, in English. Default false.
    pub refusals: bool,
    /// Where the request wants JSON (`response_format`), text that is none is doubted. Default false.
    pub json: bool,
    /// A model is asked whether the answer is good. A streamed answer is then held back whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_check: Option<SelfCheck>,
    /// Events of a stream after which the rules judge what has come, about one a token; until then it is held back. Its end is
    /// the latest moment. From 1 to 4096; with `refusals` at least 16 are of use. Default 64.
    pub tokens: u32,
}

impl Default for Cascade {
    fn default() -> Self {
        Self { min_logprob: None, min_chars: 0, refusals: false, json: false, self_check: None, tokens: 64 }
    }
}

/// A question about an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfCheck {
    /// The chat model that is asked; its own answer costs as well.
    pub model: String,
    /// What it is asked. `{question}` and `{answer}` stand for the last user message and the answer. An answer that begins with
    /// "yes", whatever marks stand around it, accepts. Default: the two, and "Does the answer answer the question correctly and completely? Say
    /// only yes or no."
    #[serde(default = "ask")]
    pub ask: String,
    /// How long the answer to that is waited for; without one the judged answer passes. Default 10s.
    #[serde(default = "timeout")]
    pub timeout: Duration,
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

fn ask() -> String {
    "Question:\n{question}\n\nAnswer:\n{answer}\n\nDoes the answer answer the question correctly and completely? Say only yes or no.".to_owned()
}
