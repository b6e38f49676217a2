//! How a virtual model's choice is made where no routing plugin makes it: `prefer`, `specialists`, and what a key prefers.
//!
//! Does not choose: `route/policy` does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Map;

/// What matters most in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Preference {
    /// How good it is.
    Quality,
    /// How soon it begins.
    Speed,
    /// What it costs.
    Cost,
}

impl Preference {
    /// All, in the order in which they are told.
    pub const ALL: [Self; 3] = [Self::Quality, Self::Speed, Self::Cost];

    /// The name in configuration, headers and cache keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quality => "quality",
            Self::Speed => "speed",
            Self::Cost => "cost",
        }
    }
}

/// By what a virtual model's choice is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Prefer {
    /// The last of `choose` answers.
    Quality,
    /// The one answers where answers have begun soonest of late.
    Speed,
    /// The one answers that is cheapest for the request.
    Cost,
    /// What the request's header `x-pointsman-prefer` says, or else its key's `prefer`, or else the order of `choose`.
    Client,
}

impl Prefer {
    /// What the owner has fixed; none where the client says it.
    pub fn fixed(self) -> Option<Preference> {
        match self {
            Self::Quality => Some(Preference::Quality),
            Self::Speed => Some(Preference::Speed),
            Self::Cost => Some(Preference::Cost),
            Self::Client => None,
        }
    }
}

/// A model for each kind of question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Specialists {
    /// The set of `[examples]` whose nearest label says what kind a question (the last user message) is of.
    pub examples: String,
    /// Label → the model of `choose` that answers. A label without an entry is answered by the first of `choose`.
    pub models: Map<String>,
    /// The least cosine of the question and the nearest example, from 0 to 1; below it the first of `choose` answers. Default 0.3.
    #[serde(default = "min_score")]
    pub min_score: f64,
}

fn min_score() -> f64 {
    0.3
}
