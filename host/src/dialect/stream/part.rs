//! Part of an answer, as who observes it sees it: whole events of a stream, or an answer that is not streamed, as one event.
//!
//! What it does not do: it copies nothing until somebody asks, and decides nothing.
//!
//! **Invariant:** what cannot be read is left out, and [`Part::is_clear`] says so.

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::dialect::answer::Answer;
use crate::dialect::sse::Reader;

/// Whole events.
#[derive(Debug, Default)]
pub struct Part {
    pieces: Vec<Bytes>,
    /// It is an answer that is not streamed.
    whole: bool,
    /// What is in it, when somebody has asked.
    read: OnceLock<Read>,
}

#[derive(Debug, Default)]
struct Read {
    /// Of each event.
    data: Vec<Bytes>,
    text: String,
    is_clear: bool,
}

impl Read {
    fn of(data: Vec<Bytes>, overflowed: bool) -> Self {
        let (mut text, mut is_clear) = (String::new(), !overflowed);
        for data in &data {
            let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else {
                is_clear = false;
                continue;
            };
            let first = chunk.choices.into_iter().filter(|choice| choice.index == 0);
            first.filter_map(|choice| choice.delta?.content).for_each(|content| text.push_str(&content));
        }
        Self { data, text, is_clear }
    }
}

/// A chunk, or an answer, as far as its text goes.
#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default, alias = "message")]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<std::borrow::Cow<'a, str>>,
}

impl Part {
    /// Whole events of a stream, in the pieces in which they came.
    pub fn of_stream(pieces: Vec<Bytes>) -> Self {
        Self { pieces, ..Self::default() }
    }

    /// An answer that is not streamed.
    pub fn of_answer(body: Bytes) -> Self {
        Self { pieces: vec![body], whole: true, read: OnceLock::new() }
    }

    /// Bytes that it has.
    pub fn length(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum()
    }

    /// Is it an answer that is not streamed?
    pub fn is_answer(&self) -> bool {
        self.whole
    }

    /// It as it came.
    pub fn bytes(&self) -> Vec<u8> {
        self.pieces.concat()
    }

    fn read(&self) -> &Read {
        self.read.get_or_init(|| {
            if self.whole {
                return Read::of(self.pieces.clone(), false);
            }
            let (mut reader, mut events) = (Reader::default(), Vec::new());
            for piece in &self.pieces {
                reader.feed(piece, &mut |data| events.push(Bytes::copy_from_slice(data)));
            }
            events.retain(|data| data != "[DONE]");
            Read::of(events, reader.overflowed())
        })
    }

    /// What the first choice says in it.
    pub fn text(&self) -> &str {
        &self.read().text
    }

    /// The value at an RFC 6901 pointer into one of its events, as JSON text.
    pub fn pointer(&self, event: usize, pointer: &str) -> Option<String> {
        Answer::read(self.read().data.get(event)?.clone())?.pointer(pointer).map(str::to_owned)
    }

    /// Could all of it be read?
    pub fn is_clear(&self) -> bool {
        self.read().is_clear
    }
}

/// What all chunks of an answer have in common.
#[derive(Clone, Debug, Default)]
pub struct Envelope(Map<String, Value>);

impl Envelope {
    /// That of a part; empty where its first event has none.
    pub fn of(part: &Part) -> Self {
        let first = part.read().data.iter().find_map(|data| serde_json::from_slice::<Map<String, Value>>(data).ok());
        let mut first = first.unwrap_or_default();
        first.retain(|name, _| matches!(name.as_str(), "id" | "created" | "model" | "system_fingerprint"));
        Self(first)
    }

    /// The events that end a stream before its end, with a reason for it in each of so many choices, and who has ended it.
    pub fn closing(&self, reason: &str, by: &str, choices: usize) -> Bytes {
        let choices: Vec<_> =
            (0..choices.max(1)).map(|index| json!({ "index": index, "delta": {}, "finish_reason": reason })).collect();
        let chunk = self.around("chat.completion.chunk", choices, by);
        Bytes::from(format!("data: {chunk}\n\ndata: [DONE]\n\n"))
    }

    /// An answer without any text, with a reason for that.
    pub fn empty(&self, reason: &str, by: &str, choices: usize) -> Bytes {
        let message = json!({ "role": "assistant", "content": "" });
        let choices: Vec<_> =
            (0..choices.max(1)).map(|index| json!({ "index": index, "message": message, "finish_reason": reason })).collect();
        Bytes::from(self.around("chat.completion", choices, by).to_string())
    }

    fn around(&self, object: &str, choices: Vec<Value>, by: &str) -> Value {
        let mut all = self.0.clone();
        all.insert("object".into(), object.into());
        all.insert("choices".into(), choices.into());
        all.insert("x_pointsman".into(), json!({ "stopped_by": by }));
        Value::Object(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(index: u32, text: &str) -> String {
        format!(
            "data: {{\"id\":\"a\",\"model\":\"m\",\"choices\":[{{\"index\":{index},\"delta\":{{\"content\":{text:?}}}}}]}}\n\n"
        )
    }

    fn part(text: &str) -> Part {
        // However it comes.
        Part::of_stream(text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect())
    }

    #[test]
    fn the_first_choice_is_its_text() {
        let stream = [&chunk(0, "a "), ": ping\n\n", &chunk(1, "no"), &chunk(0, "b"), "data: [DONE]\n\n"].concat();
        let part = part(&stream);
        assert_eq!((part.text(), part.is_clear()), ("a b", true));
        assert_eq!(part.pointer(1, "/choices/0/delta/content").as_deref(), Some("\"no\""));
        assert_eq!(part.pointer(3, "/choices"), None);
        let whole = Part::of_answer(Bytes::from_static(br#"{"choices":[{"message":{"content":"a b"}}]}"#));
        assert_eq!((whole.text(), whole.is_clear()), ("a b", true));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_told() {
        for odd in ["data: {\n\n".to_owned(), "data: {\"type\":\"ping\"}\n\n".to_owned(), chunk(0, &"x".repeat(2 << 20))] {
            let part = part(&[&chunk(0, "a "), &*odd, &chunk(0, "b")].concat());
            assert_eq!((part.text(), part.is_clear()), ("a b", false), "{odd:.40}");
        }
    }

    #[test]
    fn an_end_is_of_the_same_answer() {
        let envelope = Envelope::of(&part(&[": ping\n\n", &chunk(0, "a")].concat()));
        let closing = envelope.closing("content_filter", "guard", 2);
        let closed = Part::of_stream(vec![closing]);
        let read = |pointer: &str| closed.pointer(0, pointer).unwrap_or_default();
        assert_eq!(
            (read("/id"), read("/model"), read("/choices/1/finish_reason")),
            ("\"a\"".into(), "\"m\"".into(), "\"content_filter\"".into())
        );
        assert_eq!(read("/x_pointsman/stopped_by"), "\"guard\"");
    }
}
