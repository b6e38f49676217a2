//! What users ask: which model, plain or streamed, sure or doubtful, of their own or everybody's.
//!
//! **Invariant:** a question says whose it is, so that no answer can pass for another's.

use fastrand::Rng;
use serde_json::json;
use tests::Door;

/// What users ask for in turn: the plain pool, one that hedges, a cascade, and streams that can be gone on with.
const MODELS: [&str; 4] = ["small", "quick", "steps", "lasting"];
/// Questions that everybody asks, and that the cache may answer.
const COMMON: u64 = 16;

/// A question.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) model: &'static str,
    pub(crate) text: String,
    pub(crate) streamed: bool,
    /// The model will not be sure of the answer.
    pub(crate) doubtful: bool,
    /// What is cached is not wanted.
    fresh: bool,
}

impl Question {
    pub(crate) fn of(user: u64, turn: u64, random: &mut Rng) -> Self {
        let model = MODELS[((user + turn) % MODELS.len() as u64) as usize];
        let doubtful = random.u8(0..4) == 0;
        let common = random.u8(0..8) == 0;
        let name = match common {
            true => format!("question {} of everybody", random.u64(0..COMMON)),
            false => format!("question {turn} of user {user}"),
        };
        // The fake model is not sure of words with a question mark.
        let doubt = if doubtful { "really? but really? what? if? " } else { "" };
        let text = format!("{doubt}{name}, and some words that make the answer last");
        Self { model, text, streamed: random.u8(0..10) < 8, doubtful, fresh: common && random.u8(0..4) == 0 }
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self, door: &Door) -> Vec<u8> {
        let mut ask = door.ask(&self.text).model(self.model).set("stream", json!(self.streamed));
        if self.fresh {
            ask = ask.header("cache-control", "no-cache");
        }
        ask.bytes()
    }
}
