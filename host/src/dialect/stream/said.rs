//! What a stream has said until it broke off, and the seam where another one goes on.
//!
//! What it does not do: it asks nobody to go on.
//!
//! **Invariant:** only text can be gone on with. A stream of several choices, tool calls, thoughts, log-probabilities or anything else
//! is as it was broken.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::dialect::tokens::estimate;

/// Bytes of text that are remembered. A longer answer is not gone on with.
const MAX_SAID: usize = 1 << 20;

/// Bytes of a token, if they are many. Events with more have several in them.
const LONG_TOKEN: usize = 8;

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    id: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    model: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    created: Option<u64>,
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u32,
    #[serde(borrow, default)]
    delta: Delta<'a>,
    #[serde(default)]
    logprobs: Option<IgnoredAny>,
}

#[derive(Default, Deserialize)]
struct Delta<'a> {
    #[serde(borrow, default)]
    content: Option<std::borrow::Cow<'a, str>>,
    /// Said by each stream, and so not odd.
    #[serde(default, rename = "role")]
    _role: Option<IgnoredAny>,
    #[serde(default)]
    refusal: Option<IgnoredAny>,
    /// Anything else in it that is not null.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// What has been said.
#[derive(Debug, Default)]
pub struct Said {
    text: String,
    /// Events with text since the last seam, and before it.
    events: u32,
    all: u32,
    id: String,
    model: String,
    /// When the first half began, as it says itself; 0 where it does not.
    created: u64,
    /// There is something in it that is no text.
    odd: bool,
}

impl Said {
    pub(super) fn event(&mut self, data: &[u8]) {
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return self.odd = true };
        if self.id.is_empty() {
            self.id = chunk.id.unwrap_or_default().into_owned();
            self.model = chunk.model.unwrap_or_default().into_owned();
            self.created = chunk.created.unwrap_or_default();
        }
        for Choice { index, delta, logprobs } in chunk.choices {
            self.odd |= index > 0
                || logprobs.is_some()
                || delta.refusal.is_some()
                || delta.rest.values().any(|value| !value.is_null())
                || self.text.len() > MAX_SAID;
            if let Some(text) = delta.content.filter(|text| !text.is_empty() && !self.odd) {
                self.text.push_str(&text);
                self.events += 1;
            }
        }
    }

    /// Something has come that could not be read.
    pub(super) fn missed(&mut self) {
        self.odd = true;
    }

    /// The text, which may be none yet, and how many tokens it has, about; none if it cannot be gone on with.
    pub fn so_far(&self) -> Option<(&str, u32)> {
        (!self.odd).then(|| (&*self.text, self.tokens()))
    }

    /// One an event, but for servers that put more into each.
    fn tokens(&self) -> u32 {
        let events = self.all + self.events;
        if self.text.len() > LONG_TOKEN * events as usize { estimate(self.text.len()) } else { events }
    }

    pub(super) fn take_events(&mut self) -> u32 {
        self.all += self.events;
        std::mem::take(&mut self.events)
    }

    /// The event between what was said and what goes on: no choice, like the one that tells the usage, and a field of ours.
    pub fn seam(&self) -> Bytes {
        let chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": [],
            "x_pointsman": { "continued": true },
        });
        Bytes::from(format!("data: {chunk}\n\n"))
    }
}

/// What goes on begins with no role of its own: SDKs that put deltas together would have two.
pub fn without_role(data: &[u8], out: &mut BytesMut) -> bool {
    memchr::memmem::find(data, b"\"role\"").is_some() && {
        let chunk = strip_role(data);
        out.extend_from_slice(chunk.as_deref().unwrap_or_default().as_bytes());
        chunk.is_some()
    }
}

fn strip_role(data: &[u8]) -> Option<String> {
    let mut chunk: Value = serde_json::from_slice(data).ok()?;
    for choice in chunk["choices"].as_array_mut()? {
        choice["delta"].as_object_mut()?.remove("role");
    }
    Some(format!(" {chunk}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::sse::Rewrite;

    fn said(events: &[&str]) -> Option<(String, u32)> {
        let mut said = Said::default();
        events.iter().for_each(|event| said.event(event.as_bytes()));
        said.so_far().map(|(text, events)| (text.to_owned(), events))
    }

    #[test]
    fn text_is_gone_on_with_and_nothing_else() {
        let role = r#"{"id":"a","choices":[{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}"#;
        let word = r#"{"id":"a","choices":[{"index":0,"delta":{"content":"Hi \u00e9"}}],"usage":null}"#;
        assert_eq!(said(&[role, word, word]), Some(("Hi éHi é".into(), 2)));
        assert_eq!(said(&[role]), Some((String::new(), 0)), "nothing has been said, and nothing that could not be gone on with");
        let many = format!(r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#, "four tokens here. ".repeat(10));
        assert_eq!(said(&[role, &many]).map(|(_, tokens)| tokens), Some(45), "more than one token in an event");
        for odd in [
            r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"x"}}]}"#,
            r#"{"choices":[{"delta":{"content":"x"},"logprobs":{}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"x"}}]}"#,
            r#"{"choices":[{"delta":{"refusal":"x"}}]}"#,
            "{",
        ] {
            assert_eq!(said(&[role, word, odd]), None, "{odd}");
        }
        let mut said = Said::default();
        said.event(br#"{"id":"a","model":"m","created":1750000000,"choices":[]}"#);
        let seam = said.seam();
        let seam: Value = serde_json::from_slice(&seam[6..]).unwrap();
        assert_eq!(seam["created"], 1_750_000_000);
        assert_eq!((&seam["id"], &seam["choices"], &seam["x_pointsman"]["continued"]), (&json!("a"), &json!([]), &json!(true)));
    }

    #[test]
    fn what_goes_on_has_no_role() {
        let stream = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"x\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"role\"}}]}\n\ndata: [DONE]\n\n";
        let expect = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"role\"}}]}\n\ndata: [DONE]\n\n";
        for at in 0..=stream.len() {
            let mut on = Rewrite::new(without_role);
            let mut out = [on.feed(&stream.as_bytes()[..at]), on.feed(&stream.as_bytes()[at..])].concat();
            out.extend_from_slice(&on.rest());
            assert_eq!(String::from_utf8_lossy(&out), expect, "cut at {at}");
        }
    }
}
