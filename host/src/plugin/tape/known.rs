//! What a replayed exchange knows of a `kv` store that is not there: what the recorded answers have said, and what it has written itself.
//!
//! **Invariant:** a key of which nothing is known has no answer; the caller counts it, and answers as an empty store does.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::play::Blob;

/// By key: the value, or that there is none.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<String, Option<Vec<u8>>>);

fn bytes(value: &Value) -> Option<Vec<u8>> {
    serde_json::from_value::<Blob>(value.clone()).ok().map(|blob| blob.0)
}

fn number(bytes: &[u8]) -> Option<i64> {
    str::from_utf8(bytes).ok()?.parse().ok()
}

impl Known {
    /// A recorded answer says something about the key.
    pub(super) fn learn(&mut self, function: &str, args: &Value, result: &Value) {
        let (Some(key), Some(said)) = (args[0].as_str(), result.get("Ok")) else { return };
        let now = match function {
            "get" => Some(bytes(said)),
            "set" => Some(bytes(&args[1])),
            "delete" => Some(None),
            "increment" => said.as_i64().map(|sum| Some(sum.to_string().into_bytes())),
            // Where the value was another one, nobody has said which.
            "compare-and-set" if *said == true => Some(bytes(&args[2])),
            _ => None,
        };
        if let Some(now) = now {
            self.0.insert(key.to_owned(), now);
        }
    }

    /// What follows from what is known; and what that changes. None: nothing is known of the key. It is taken as absent from then on.
    pub(super) fn answer(&mut self, function: &str, args: &Value) -> Option<Value> {
        let key = args[0].as_str()?;
        let (was_known, before) = match self.0.get(key) {
            Some(before) => (true, before.clone()),
            // What is set needs no past.
            None => (function == "set", None),
        };
        let (after, said) = match function {
            "get" => (before.clone(), json!(before.map(Blob))),
            "set" => (bytes(&args[1]), json!(null)),
            "delete" => (None, json!(before.is_some())),
            "increment" => {
                let delta = args[1].as_i64().unwrap_or(0);
                match before.as_deref().map(number) {
                    Some(None) => return Some(json!({ "Err": "NotANumber" })),
                    found => {
                        let sum = found.flatten().unwrap_or(0).saturating_add(delta);
                        (Some(sum.to_string().into_bytes()), json!(sum))
                    }
                }
            }
            "compare-and-set" => {
                let is_expected = bytes(&args[1]) == before;
                (if is_expected { bytes(&args[2]) } else { before }, json!(is_expected))
            }
            _ => return None,
        };
        self.0.insert(key.to_owned(), after);
        was_known.then(|| json!({ "Ok": said }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_key() {
        let mut known = Known::default();
        known.learn("increment", &json!(["n", 1, null]), &json!({ "Ok": 42 }));
        known.learn("get", &json!(["t"]), &json!({ "Ok": "text" }));
        known.learn("get", &json!(["none"]), &json!({ "Ok": null }));
        known.learn("get", &json!(["wrong"]), &json!({ "Err": "TooLarge" }));
        let ok = |value: Value| Some(json!({ "Ok": value }));
        for (function, args, expect) in [
            ("get", json!(["n"]), ok(json!("42"))),
            ("increment", json!(["n", 2, null]), ok(json!(44))),
            ("increment", json!(["t", 1, null]), Some(json!({ "Err": "NotANumber" }))),
            ("get", json!(["none"]), ok(json!(null))),
            ("compare-and-set", json!(["none", null, "x", null]), ok(json!(true))),
            ("compare-and-set", json!(["none", null, "y", null]), ok(json!(false))),
            ("get", json!(["none"]), ok(json!("x"))),
            ("delete", json!(["none"]), ok(json!(true))),
            ("delete", json!(["none"]), ok(json!(false))),
            ("get", json!(["wrong"]), None),
            ("increment", json!(["new", 5, null]), None),
            ("set", json!(["s", { "base64": "/w==" }, null]), ok(json!(null))),
            ("get", json!(["s"]), ok(json!({ "base64": "/w==" }))),
        ] {
            assert_eq!(known.answer(function, &args), expect, "{function} {args}");
        }
    }
}
