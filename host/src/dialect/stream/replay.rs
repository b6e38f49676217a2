//! A stored answer as the stream that a client asked for: a first delta with the role and everything else of the message that is
//! no text, the model's thoughts and then its words in pieces of a few words, the reason to finish, usage if it was asked for,
//! `[DONE]`.
//!
//! **Invariant:** put together again, it is the stored answer (but for `index` in tool calls, which only streams have).

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// Bytes of text in one event, about, where the client gets all of them at once: a few words, as models send them.
pub const WORDS: usize = 48;
/// The same where they come at a set rate: a word, as people read it.
pub const WORD: usize = 1;

/// Bytes of all events, about: each has what stands beside the text in it, so where that is much there are fewer.
const MOST: usize = 16 << 20;

/// The events of a stored `chat.completion`, each with about so many bytes of its text; none if it cannot be read.
pub fn replay(answer: &[u8], include_usage: bool, piece: usize) -> Option<Bytes> {
    let piece = piece.max(answer.len().saturating_mul(answer.len()) / MOST);
    let Value::Object(mut whole) = serde_json::from_slice(answer).ok()? else { return None };
    let Some(Value::Array(choices)) = whole.remove("choices") else { return None };
    let usage = whole.remove("usage");
    whole.insert("object".into(), "chat.completion.chunk".into());
    let mut out = String::with_capacity(answer.len() * 2);
    let mut send = |choices: Value, usage: Option<&Value>| {
        let mut chunk = whole.clone();
        chunk.insert("choices".into(), choices);
        if include_usage {
            // OpenAI sends null in every chunk but the last.
            chunk.insert("usage".into(), usage.cloned().unwrap_or(Value::Null));
        }
        out.push_str("data: ");
        out.push_str(&Value::Object(chunk).to_string());
        out.push_str("\n\n");
    };
    for choice in choices {
        let Value::Object(mut choice) = choice else { return None };
        let Some(Value::Object(message)) = choice.remove("message") else { return None };
        let index = choice.get("index").cloned().unwrap_or_else(|| 0.into());
        let finish = choice.remove("finish_reason").unwrap_or(Value::Null);
        let event = |delta: Map<String, Value>| json!([{ "index": index, "delta": delta, "finish_reason": null }]);
        for delta in deltas(message, piece) {
            send(event(delta), None);
        }
        // What lies beside the message (logprobs, say) goes with the last event.
        choice.insert("index".into(), index.clone());
        choice.insert("delta".into(), json!({}));
        choice.insert("finish_reason".into(), finish);
        send(json!([choice]), None);
    }
    if include_usage {
        send(json!([]), usage.as_ref());
    }
    out.push_str("data: [DONE]\n\n");
    Some(Bytes::from(out))
}

/// A message as the deltas that it comes in.
fn deltas(message: Map<String, Value>, piece: usize) -> Vec<Map<String, Value>> {
    let mut first = Map::new();
    let mut rest = Vec::new();
    for (name, value) in message {
        match value {
            // Text that models stream piece by piece.
            Value::String(text) if matches!(name.as_str(), "content" | "reasoning_content" | "reasoning" | "refusal") => {
                if name == "content" {
                    first.insert(name.clone(), "".into());
                }
                rest.extend(pieces(&text, piece).map(|piece| Map::from_iter([(name.clone(), piece.into())])));
            }
            Value::Array(mut calls) if name == "tool_calls" => {
                for (index, call) in calls.iter_mut().enumerate() {
                    if let Value::Object(call) = call {
                        call.entry("index").or_insert_with(|| index.into());
                    }
                }
                rest.extend(calls.into_iter().map(|call| Map::from_iter([(name.clone(), json!([call]))])));
            }
            other => drop(first.insert(name, other)),
        }
    }
    // Models think before they speak, and clients show what comes in the order in which it comes; the fields of a message that was
    // put together from a stream have another, since its first delta often has an empty `content`.
    rest.sort_by_key(|delta| !["reasoning_content", "reasoning"].iter().any(|name| delta.contains_key(*name)));
    rest.insert(0, first);
    rest
}

/// Cuts text at spaces, into pieces of about so many bytes.
fn pieces(text: &str, piece: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = rest.len().min(piece);
        while !rest.is_char_boundary(end) {
            end += 1;
        }
        end += rest[end..].find(' ').map_or(rest.len() - end, |space| space);
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::dialect::stream::{End, Tap, assemble};

    fn round_trip(answer: &Value) -> Value {
        let stream = replay(answer.to_string().as_bytes(), true, WORDS).unwrap();
        assert_eq!(assemble(&stream), assemble(&replay(answer.to_string().as_bytes(), true, WORD).unwrap()));
        let mut tap = Tap::new(0);
        tap.feed(&stream);
        assert_eq!(tap.end(), End::Whole);
        serde_json::from_slice(&assemble(&stream).unwrap()).unwrap()
    }

    #[test]
    fn a_replayed_answer_is_the_answer() {
        let text = "Ein längerer Text, mit Umlauten äöü und 日本語 und vielen Wörtern, damit er in Stücke geht. ".repeat(5);
        let answers = [
            json!({ "id": "x", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "fp", "x-unknown": { "a": [1] },
                "choices": [{ "index": 0, "message": { "role": "assistant", "content": text, "refusal": null, "annotations": [] }, "logprobs": { "content": [{ "token": "a", "logprob": -0.1 }] }, "finish_reason": "stop" }],
                "usage": { "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3 } }),
            json!({ "id": "x", "object": "chat.completion", "choices": [
                { "index": 0, "message": { "role": "assistant", "content": "one" }, "finish_reason": "stop" },
                { "index": 1, "message": { "role": "assistant", "content": "", "reasoning_content": "because of this and that" }, "finish_reason": "length" }],
                "usage": null }),
            json!({ "id": "x", "object": "chat.completion", "choices": [{ "index": 0, "message": { "role": "assistant", "content": null, "tool_calls": [
                { "index": 0, "id": "c1", "type": "function", "function": { "name": "f", "arguments": "{\"a\":1}" } },
                { "index": 1, "id": "c2", "type": "function", "function": { "name": "g", "arguments": "{}" } }] }, "finish_reason": "tool_calls" }], "usage": null }),
        ];
        for answer in &answers {
            assert_eq!(&round_trip(answer), answer);
        }
    }

    /// With a megabyte beside the text each word would take one.
    #[test]
    fn what_stands_beside_the_text_is_not_said_again_with_each_word() {
        let text = "word ".repeat(50_000);
        let message = json!({ "role": "assistant", "content": text });
        let answer =
            json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }], "sources": "x".repeat(500_000) });
        let stream = replay(answer.to_string().as_bytes(), false, WORD).unwrap();
        assert!(stream.len() < 2 * MOST, "{}", stream.len());
        assert_eq!(round_trip(&answer)["choices"][0]["message"]["content"], text);
    }

    /// A stored stream of a reasoning model was played back with its thoughts behind its words: the first delta had named
    /// `content`, empty, and the fields kept that order.
    #[test]
    fn thoughts_come_before_words() {
        let message = json!({ "role": "assistant", "content": "Yes.", "reasoning_content": "Is it? It is.", "refusal": null });
        let answer = json!({ "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] });
        let stream = String::from_utf8(replay(answer.to_string().as_bytes(), false, WORDS).unwrap().to_vec()).unwrap();
        assert!(stream.find("Is it?").unwrap() < stream.find("Yes.").unwrap(), "{stream}");
        assert_eq!(round_trip(&answer)["choices"][0]["message"], message);
    }

    /// A spoken answer was kept with the base64 of its pieces one behind the other, padding and all, and played back as that.
    #[test]
    fn a_stream_with_sound_is_not_put_together() {
        let events = [
            json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "audio": { "id": "a", "data": "AA==" } }, "finish_reason": null }] }),
            json!({ "choices": [{ "index": 0, "delta": { "audio": { "data": "AQ==" } }, "finish_reason": null }] }),
            json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }),
        ];
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        assert_eq!(assemble(stream.as_bytes()), None);
    }

    #[test]
    fn fragments_of_tool_calls_are_put_together() {
        let events = [
            json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": null, "tool_calls": [{ "index": 0, "id": "c1", "type": "function", "function": { "name": "f", "arguments": "" } }] }, "finish_reason": null }] }),
            json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "function": { "arguments": "{\"a\"" } }] }, "finish_reason": null }] }),
            json!({ "choices": [{ "index": 0, "delta": { "tool_calls": [{ "index": 0, "function": { "arguments": ":1}" } }] }, "finish_reason": null }] }),
            json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "tool_calls" }] }),
        ];
        let stream: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let whole: Value = serde_json::from_slice(&assemble(stream.as_bytes()).unwrap()).unwrap();
        assert_eq!(whole["choices"][0]["message"]["tool_calls"][0]["function"], json!({ "name": "f", "arguments": "{\"a\":1}" }));
        assert_eq!(whole["choices"][0]["message"]["tool_calls"][0]["id"], "c1");
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    }
}
