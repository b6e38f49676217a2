//! From a stream's chunks to the answer that a client would have got without streaming.
//!
//! Deltas are merged by one rule for fields known and unknown: text is appended, objects are merged field by field, lists
//! of objects with an `index` are merged by it, other lists are appended, everything else is replaced by what came last.
//!
//! **Invariant:** a field that we never heard of is in the answer.

use serde_json::{Map, Value};

use crate::dialect::sse::Reader;

/// The most choices that are put together: as many as OpenAI's API gives.
const MAX_CHOICES: usize = 128;
/// Fields whose text comes whole each time, and is not to be appended.
const WHOLE: [&str; 6] = ["id", "type", "role", "object", "model", "finish_reason"];

/// The `chat.completion` of a whole stream, up to `[DONE]`; none if there is anything in it that cannot be read, is no chunk, or
/// cannot be put together: an answer without it would be another answer.
pub fn assemble(stream: &[u8]) -> Option<Vec<u8>> {
    put_together(stream, true)
}

/// The same of whatever can be read, for those who look at an answer and give it to nobody; none if that is nothing.
pub fn gist(stream: &[u8]) -> Option<Vec<u8>> {
    put_together(stream, false)
}

fn put_together(stream: &[u8], strictly: bool) -> Option<Vec<u8>> {
    let mut whole = Map::new();
    let mut choices: Vec<Value> = Vec::new();
    let (mut is_done, mut is_clear) = (false, true);
    let mut reader = Reader::default();
    reader.feed(stream, &mut |data| {
        is_done |= data == b"[DONE]";
        if is_done || data.trim_ascii().is_empty() {
            return;
        }
        let Ok(Value::Object(chunk)) = serde_json::from_slice(data) else { return is_clear = false };
        let is_chunk = chunk.get("choices").is_some_and(Value::is_array) && choices.len() <= MAX_CHOICES;
        is_clear &= is_chunk;
        if !is_chunk || (strictly && !is_clear) {
            return;
        }
        for (name, value) in chunk {
            match (name.as_str(), value) {
                ("choices", Value::Array(parts)) => parts.into_iter().for_each(|part| add_choice(&mut choices, part)),
                (_, Value::Null) => drop(whole.entry(name).or_insert(Value::Null)),
                (_, value) => drop(whole.insert(name, value)),
            }
        }
    });
    // Sound comes in pieces that are base64 each for itself; one behind the other they are none.
    let has_sound = choices.iter().any(|choice| choice["message"]["audio"].is_object());
    if choices.is_empty() || (strictly && (!is_clear || reader.overflowed() || has_sound)) {
        return None;
    }
    for choice in &mut choices {
        // Some servers leave the role to the client's imagination in a stream; an answer that is no stream has it.
        if let Some(Value::Object(message)) = choice.get_mut("message") {
            message.entry("role").or_insert_with(|| "assistant".into());
        }
    }
    choices.sort_by_key(|choice| choice["index"].as_u64().unwrap_or(0));
    whole.insert("object".into(), "chat.completion".into());
    whole.insert("choices".into(), Value::Array(choices));
    serde_json::to_vec(&whole).ok()
}

/// A chunk's choice: `delta` becomes `message`, the rest lies beside it.
fn add_choice(choices: &mut Vec<Value>, part: Value) {
    let Value::Object(mut part) = part else { return };
    if let Some(delta) = part.remove("delta") {
        part.insert("message".into(), delta);
    }
    let index = part.get("index").and_then(Value::as_u64).unwrap_or(0);
    match choices.iter_mut().find(|choice| choice["index"].as_u64().unwrap_or(0) == index) {
        Some(choice) => merge("", choice, Value::Object(part)),
        None => {
            let mut choice = Value::Object(Map::new());
            merge("", &mut choice, Value::Object(part));
            choices.push(choice);
        }
    }
}

fn merge(name: &str, into: &mut Value, from: Value) {
    match (into, from) {
        (_, Value::Null) => {}
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                match into.get_mut(&name) {
                    Some(there) => merge(&name, there, value),
                    None => {
                        let mut there = if value.is_array() { Value::Array(Vec::new()) } else { Value::Null };
                        merge(&name, &mut there, value);
                        into.insert(name, there);
                    }
                }
            }
        }
        (Value::String(into), Value::String(from)) if !WHOLE.contains(&name) => into.push_str(&from),
        (Value::Array(into), Value::Array(from)) => {
            for item in from {
                let index = item.get("index").and_then(Value::as_u64);
                let there = index
                    .and_then(|index| into.iter_mut().find(|there| there.get("index").and_then(Value::as_u64) == Some(index)));
                match there {
                    Some(there) => merge("", there, item),
                    None => into.push(item),
                }
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_left_out_of_a_gist_and_makes_no_answer() {
        let word = |word: &str| format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}}}}]}}\n\n");
        for odd in ["data: {\"type\":\"ping\"}\n\n", "data: {\n\n", "data: []\n\n"] {
            let stream = [odd, &word("one "), odd, &word("two"), odd, "data: {\"choices\":[{\"index\""].concat();
            assert_eq!(assemble(stream.as_bytes()), None, "{odd}");
            let gist: Value = serde_json::from_slice(&gist(stream.as_bytes()).unwrap()).unwrap();
            assert_eq!(gist["choices"][0]["message"]["content"], "one two", "{odd}");
        }
        assert_eq!(gist(b"data: {\"type\":\"ping\"}\n\n"), None);
    }
}
