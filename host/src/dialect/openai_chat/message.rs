//! A request's messages, as far as policies look at them: the role, and the text.
//!
//! **Invariant:** reading never fails: what is no message is the provider's to refuse, in its own words.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dialect::json::{Pairs, quoted};

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The role as it stands in the request; empty where there is none.
    pub role: String,
    /// The content's text: the string, or its text parts, one a line.
    pub text: String,
    /// Has the content parts that are not text (images, audio, files)?
    pub has_other_parts: bool,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    text: Option<String>,
}

pub(super) fn read(messages: &str) -> Vec<Message> {
    let Ok(raw) = serde_json::from_str::<Vec<&RawValue>>(messages) else { return Vec::new() };
    raw.into_iter().map(|message| one(message.get())).collect()
}

fn one(message: &str) -> Message {
    let Ok(wire) = serde_json::from_str::<Wire<'_>>(message) else { return Message::default() };
    let content = wire.content.map_or("null", RawValue::get);
    if content.starts_with('"') {
        return Message { role: wire.role, text: serde_json::from_str(content).unwrap_or_default(), has_other_parts: false };
    }
    let parts: Vec<Part> = serde_json::from_str(content).unwrap_or_default();
    let is_text = |part: &Part| part.kind == "text" || part.kind == "input_text";
    let texts: Vec<&str> = parts.iter().filter(|part| is_text(part)).filter_map(|part| part.text.as_deref()).collect();
    Message { role: wire.role, text: texts.join("\n"), has_other_parts: parts.iter().any(|part| !is_text(part)) }
}

/// Feeds everything of the messages but the question: the text of the last one, which must be a user's and a plain string.
/// Every other field of that message is fed too. False where there is no such question; then what was fed is worth nothing.
pub(super) fn rest_of(messages: &str, feed: &mut dyn FnMut(&str)) -> bool {
    let Ok(raw) = serde_json::from_str::<Vec<&RawValue>>(messages) else { return false };
    let Some((last, before)) = raw.split_last() else { return false };
    let Ok(Pairs(mut fields)) = serde_json::from_str::<Pairs<'_>>(last.get()) else { return false };
    let value = |name: &str| fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.get()).collect::<Vec<_>>();
    let is_question = value("role") == ["\"user\""] && matches!(value("content")[..], [content] if content.starts_with('"'));
    if !is_question {
        return false;
    }
    // How many there are of each, so that nothing that follows can be taken for one of them.
    feed(&before.len().to_string());
    for message in before {
        feed(message.get());
    }
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    feed(&fields.len().to_string());
    for (name, value) in fields.iter().filter(|(name, _)| name != "content") {
        feed(&quoted(name));
        feed(value.get());
    }
    true
}
