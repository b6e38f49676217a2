//! What was expected beside what has come: the fields that differ, by their paths.
//!
//! What it does not do: it knows no decision; both sides are JSON.
//!
//! **Invariant:** a field that nobody has written is not compared; a path that is not in what has come is a difference, and never passed over.

use std::fmt;

use serde_json::Value;

/// Bytes of a value that are shown.
const SHOWN: usize = 200;

/// One field that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, such as `plan.targets[1].model`.
    pub field: String,
    /// What was to be there.
    pub expected: String,
    /// What is there.
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: expected {}, got {}", self.field, self.expected, self.got)
    }
}

impl Difference {
    pub(super) fn new(field: &str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self { field: field.to_owned(), expected: expected.into(), got: got.into() }
    }
}

/// All differences below a field, in the order of what was expected.
pub(super) fn differences(field: &str, expected: &Value, got: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(field, expected, got, &mut found);
    found
}

fn compare(field: &str, expected: &Value, got: &Value, found: &mut Vec<Difference>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) if one_of_another_kind(expected, got) => {
            found.push(Difference::new(field, name(expected), shown(&Value::Object(got.clone()))));
        }
        (Value::Object(expected), Value::Object(got)) => {
            for (key, value) in expected.iter().filter(|(_, value)| !value.is_null()) {
                let path = if field == ROOT { key.clone() } else { format!("{field}.{key}") };
                match got.get(key) {
                    Some(own) => compare(&path, value, own, found),
                    None => found.push(Difference::new(&path, shown(value), "nothing")),
                }
            }
        }
        (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
            for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                compare(&format!("{field}[{index}]"), expected, got, found);
            }
        }
        _ if is_same(field, expected, got) => {}
        _ => found.push(Difference::new(field, shown(&written(expected)), shown(got))),
    }
}

/// Where a decision as a whole is meant.
pub(super) const ROOT: &str = "decision";

/// A decision, an edit and a scope are an object with one key, its kind. Records have several, or the same.
fn one_of_another_kind(expected: &serde_json::Map<String, Value>, got: &serde_json::Map<String, Value>) -> bool {
    let kind = |object: &serde_json::Map<String, Value>| (object.len() == 1).then(|| object.keys().next().cloned()).flatten();
    matches!((kind(expected), kind(got)), (Some(expected), Some(got)) if expected != got)
}

fn name(object: &serde_json::Map<String, Value>) -> String {
    object.keys().next().cloned().unwrap_or_default()
}

fn is_same(field: &str, expected: &Value, got: &Value) -> bool {
    match (expected, got) {
        // What a failure says has a stack in it, or a place.
        (Value::String(expected), Value::String(got)) if field == "fails.reason" => got.contains(expected.as_str()),
        // Contract and case may have different numbers of bits for one.
        (Value::Number(expected), Value::Number(got)) => {
            expected == got
                || matches!((expected.as_f64(), got.as_f64()), (Some(a), Some(b)) if (a - b).abs() <= 1e-6 * a.abs().max(1.0))
        }
        _ => expected == got,
    }
}

/// Without what is not there: what nobody has written, and tables of nothing.
fn written(value: &Value) -> Value {
    let is_there = |value: &Value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty());
    match value {
        Value::Object(object) => Value::Object(
            object.iter().filter(|(_, value)| is_there(value)).map(|(key, value)| (key.clone(), written(value))).collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(written).collect()),
        other => other.clone(),
    }
}

/// A value on one line, without what is not there.
pub(super) fn shown(value: &Value) -> String {
    if value.is_null() {
        return "nothing".to_owned();
    }
    let mut text = written(value).to_string();
    if text.len() > SHOWN {
        let end = (0..=SHOWN).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A field that must not be there. None: it is not.
pub(super) fn present(path: &str, got: &Value) -> Option<Difference> {
    let mut at = Some(got);
    for part in path.split('.') {
        let (key, indexes) = part.split_once('[').map_or((part, ""), |(key, rest)| (key, rest));
        at = at.and_then(|value| value.get(key));
        for index in indexes.split('[').filter(|index| !index.is_empty()) {
            let index: Option<usize> = index.trim_end_matches(']').parse().ok();
            at = index.and_then(|index| at?.get(index));
        }
    }
    match at {
        Some(Value::Null) => None,
        Some(value) => Some(Difference::new(path, "nothing", shown(value))),
        // A path that is nowhere is a mistake, and not an absence.
        None => Some(Difference::new(path, "a field of the decision that is empty", "no such field")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(expected: Value, got: Value, expect: &[&str]) {
        let found: Vec<String> = differences(ROOT, &expected, &got).iter().map(ToString::to_string).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn what_is_written_is_compared() {
        let got = json!({ "plan": { "targets": [{ "model": "small", "timeout_ms": null }, { "model": "large", "timeout_ms": 5 }], "reason": "length", "review": null } });
        check(json!({ "plan": { "reason": "length", "targets": null } }), got.clone(), &[]);
        check(
            json!({ "plan": { "targets": [{ "model": "small" }, { "model": "large", "timeout_ms": null }] } }),
            got.clone(),
            &[],
        );
        check(
            json!({ "plan": { "targets": [{ "model": "small" }, { "model": "huge" }], "reason": "x" } }),
            got.clone(),
            &["plan.targets[1].model: expected \"huge\", got \"large\"", "plan.reason: expected \"x\", got \"length\""],
        );
        check(
            json!({ "plan": { "targets": [{ "model": "small", "timeout_ms": null }] } }),
            got.clone(),
            &[
                "plan.targets: expected [{\"model\":\"small\"}], got [{\"model\":\"small\"},{\"model\":\"large\",\"timeout_ms\":5}]",
            ],
        );
        check(json!({ "plan": { "review": { "tokens": 3 } } }), got, &["plan.review: expected {\"tokens\":3}, got nothing"]);
    }

    #[test]
    fn kinds() {
        check(json!("pass"), json!("pass"), &[]);
        check(json!("pass"), json!({ "again": 5 }), &["decision: expected \"pass\", got {\"again\":5}"]);
        check(json!({ "again": 5 }), json!("accept"), &["decision: expected {\"again\":5}, got \"accept\""]);
        check(
            json!({ "plan": {} }),
            json!({ "reject": { "status": 400 } }),
            &["decision: expected plan, got {\"reject\":{\"status\":400}}"],
        );
    }

    #[test]
    fn numbers_and_reasons() {
        check(json!({ "key": { "min": 0.95 } }), json!({ "key": { "min": f64::from(0.95f32) } }), &[]);
        check(
            json!({ "fails": { "reason": "is 0" } }),
            json!({ "fails": { "cause": "config", "reason": "`limit` is 0: write 1" } }),
            &[],
        );
        let found = differences(ROOT, &json!("x".repeat(500)), &json!(1));
        assert!(found[0].expected.len() < 210 && found[0].expected.ends_with('…'));
    }

    #[test]
    fn what_must_not_be_there() {
        let got = json!({ "key": { "semantic": null, "parts": [{ "text": 1 }] } });
        assert_eq!(present("key.semantic", &got), None);
        assert_eq!(present("key.parts[0].text", &got).unwrap().to_string(), "key.parts[0].text: expected nothing, got 1");
        for path in ["key.smeantic", "plan.review", "key.parts[1]"] {
            assert!(present(path, &got).unwrap().got.contains("no such field"), "{path}");
        }
    }
}
