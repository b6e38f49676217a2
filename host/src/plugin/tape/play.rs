//! The answers of a replay.
//!
//! A question gets the answer that the recorded run got to the same one, in their order. What was never asked is answered as follows:
//! - `kv`: from what the exchange is known to have under that key by then ([`Known`]);
//! - `clock`: the moment at which the recorded call began, or the last one that was shown;
//! - everything else, and keys of which nothing is known: nobody knows, and the caller says what a plugin is told then.
//!
//! **Invariant:** what is answered hangs on the recording and on the questions before, and on nothing else.

use std::collections::{HashMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::known::Known;
use super::{Call as Recorded, Import};

/// A question to the host.
#[derive(Debug)]
pub(in crate::plugin) struct Call {
    pub(in crate::plugin) call: &'static str,
    pub(in crate::plugin) args: Value,
}

/// Bytes in JSON: text as text, everything else as base64 in an object.
#[derive(Debug, PartialEq)]
pub(in crate::plugin) struct Blob(pub(in crate::plugin) Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Shape {
    Text(String),
    Bytes { base64: String },
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Shape::Bytes { base64: STANDARD.encode(&self.0) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Shape::deserialize(deserializer)? {
            Shape::Text(text) => Ok(Self(text.into_bytes())),
            Shape::Bytes { base64 } => STANDARD.decode(base64).map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// Gives recorded answers.
#[derive(Debug, Default)]
pub(super) struct Player {
    recorded: HashMap<String, VecDeque<Value>>,
    known: Known,
    /// What the clock shows where nothing was recorded: since the exchange's beginning, and that beginning in milliseconds.
    elapsed_us: u64,
    received_at: u64,
}

fn name(call: &str, args: &Value) -> String {
    format!("{call} {args}")
}

fn is_clock(call: &str) -> bool {
    call.starts_with("clock.")
}

impl Player {
    /// Of what these calls were told. The clock's answers come with each call ([`Player::turn_to`]): how often a call looks at it says
    /// nothing about the next one.
    pub(super) fn of<'a>(calls: impl IntoIterator<Item = &'a Recorded>) -> Self {
        let mut player = Self::default();
        for import in calls.into_iter().flat_map(|call| &call.imports).filter(|import| !is_clock(&import.call)) {
            player.keep(import);
        }
        player
    }

    fn keep(&mut self, import: &Import) {
        self.recorded.entry(name(&import.call, &import.args)).or_default().push_back(import.result.clone());
    }

    pub(super) fn turn_to(&mut self, call: &Recorded, received_at: u64) {
        self.recorded.retain(|name, _| !is_clock(name));
        call.imports.iter().filter(|import| is_clock(&import.call)).for_each(|import| self.keep(import));
        (self.elapsed_us, self.received_at) = (call.at_us, received_at);
    }

    pub(super) fn answer(&mut self, question: &Call) -> Option<Value> {
        let Call { call, args } = question;
        let recorded = self.recorded.get_mut(&name(call, args)).and_then(VecDeque::pop_front);
        if is_clock(call) {
            return Some(recorded.inspect(|shown| self.saw(call, shown)).unwrap_or_else(|| self.moment(call)));
        }
        match call.strip_prefix("kv.") {
            Some(function) => match recorded {
                Some(result) => {
                    self.known.learn(function, args, &result);
                    Some(result)
                }
                None => self.known.answer(function, args),
            },
            None => recorded,
        }
    }

    fn saw(&mut self, call: &str, shown: &Value) {
        let Some(shown) = shown.as_u64() else { return };
        let us = if call == "clock.now" { shown.saturating_sub(self.received_at).saturating_mul(1_000) } else { shown };
        self.elapsed_us = self.elapsed_us.max(us);
    }

    fn moment(&self, call: &str) -> Value {
        if call == "clock.now" { (self.received_at + self.elapsed_us / 1_000).into() } else { self.elapsed_us.into() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Function, Said};
    use super::*;

    fn call(at_us: u64, imports: &[(&str, Value, Value)]) -> Recorded {
        let imports = imports.iter().map(|(call, args, result)| Import {
            call: (*call).to_owned(),
            args: args.clone(),
            result: result.clone(),
        });
        Recorded {
            plugin: "p".into(),
            digest: "d".into(),
            function: Function::Route,
            at_us,
            took_us: 1,
            told: None,
            imports: imports.collect(),
            said: Said::Skipped,
            unfit: None,
            labels: Vec::new(),
        }
    }

    fn ask(player: &mut Player, call: &'static str, args: Value) -> Option<Value> {
        player.answer(&Call { call, args })
    }

    #[test]
    fn the_same_question_gets_the_same_answers_in_their_order() {
        let calls = [
            call(10, &[("embeddings.classify", json!(["s", 1]), json!("a")), ("kv.get", json!(["k"]), json!({ "Ok": "1" }))]),
            call(20, &[("embeddings.classify", json!(["s", 1]), json!("b"))]),
        ];
        let mut player = Player::of(&calls);
        assert_eq!(ask(&mut player, "embeddings.classify", json!(["s", 1])), Some(json!("a")));
        assert_eq!(ask(&mut player, "embeddings.classify", json!(["s", 2])), None);
        assert_eq!(ask(&mut player, "kv.get", json!(["k"])), Some(json!({ "Ok": "1" })));
        assert_eq!(ask(&mut player, "kv.get", json!(["k"])), Some(json!({ "Ok": "1" })), "it is known by now");
        assert_eq!(ask(&mut player, "embeddings.classify", json!(["s", 1])), Some(json!("b")));
        assert_eq!(ask(&mut player, "embeddings.classify", json!(["s", 1])), None);
    }

    #[test]
    fn the_clock_shows_what_it_showed_and_then_stands() {
        let calls = [
            call(1_500, &[("clock.elapsed-us", json!([]), json!(1_600)), ("clock.now", json!([]), json!(1_000_003))]),
            call(9_000, &[]),
        ];
        let mut player = Player::of(&calls);
        player.turn_to(&calls[0], 1_000_000);
        assert_eq!(ask(&mut player, "clock.elapsed-us", json!([])), Some(json!(1_600)));
        assert_eq!(ask(&mut player, "clock.elapsed-us", json!([])), Some(json!(1_600)));
        assert_eq!(ask(&mut player, "clock.now", json!([])), Some(json!(1_000_003)));
        assert_eq!(ask(&mut player, "clock.elapsed-us", json!([])), Some(json!(3_000)));
        player.turn_to(&calls[1], 1_000_000);
        assert_eq!(ask(&mut player, "clock.now", json!([])), Some(json!(1_000_009)));
    }

    #[test]
    fn bytes_are_text_where_they_can_be() {
        for (bytes, json) in [(&b"a"[..], json!("a")), (b"\xff\0", json!({ "base64": "/wA=" })), (b"", json!(""))] {
            assert_eq!(serde_json::to_value(Blob(bytes.to_vec())).unwrap(), json);
            assert_eq!(serde_json::from_value::<Blob>(json).unwrap(), Blob(bytes.to_vec()));
        }
    }
}
