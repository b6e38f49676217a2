//! A finished answer, `chat.completion`, as far as the cache, the record and plugins look at it.
//!
//! What it does not do: it changes nothing of it but the mark that a kept one has.
//!
//! **Invariant:** what cannot be read counts as not storable.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Document, Splice, Text};

/// What `usage` of a kept answer says beside its numbers: nobody is charged for them again.
const MARK: (&str, &str) = ("x_pointsman", r#"{"cached":true}"#);

/// Tokens as the upstream counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Usage {
    /// Of the prompt, cached ones among them.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// Of the answer.
    #[serde(default)]
    pub completion_tokens: u64,
    /// How many of the prompt's the upstream had cached.
    #[serde(default, deserialize_with = "cached")]
    prompt_tokens_details: u64,
}

impl Usage {
    /// Of the prompt's tokens, those that the upstream had cached.
    pub fn cached_tokens(&self) -> u64 {
        self.prompt_tokens_details
    }

    /// Reads a `usage` object.
    pub fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }
}

fn cached<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    struct Details {
        #[serde(default)]
        cached_tokens: Option<u64>,
    }
    Ok(Option::<Details>::deserialize(deserializer)?.and_then(|details| details.cached_tokens).unwrap_or(0))
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    finish_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    content: Option<Text<'a>>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
    /// What calls of tools were before.
    #[serde(borrow, default)]
    function_call: Option<&'a RawValue>,
    #[serde(borrow, default)]
    refusal: Option<Text<'a>>,
}

impl Message<'_> {
    /// Does it call tools?
    fn calls(&self) -> bool {
        let is_some = |calls: Option<&RawValue>| !matches!(calls.map_or("null", RawValue::get), "null" | "[]" | "{}");
        is_some(self.tool_calls) || is_some(self.function_call)
    }
}

/// What a judge looks at, of the first choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sense {
    /// Its text.
    pub text: String,
    /// The mean log-probability of its tokens; none where the model did not say.
    pub mean_logprob: Option<f32>,
    /// It refuses, as the model itself says.
    pub refused: bool,
    /// It calls tools.
    pub calls: bool,
    /// Why it ended; none for the beginning of one.
    pub finish_reason: Option<String>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    document: Document,
}

impl Answer {
    /// Reads an answer's top level; none if it is no JSON object.
    pub fn read(bytes: Bytes) -> Option<Self> {
        Document::parse(bytes).ok().map(|document| Self { document })
    }

    /// The body.
    pub fn bytes(&self) -> &Bytes {
        self.document.bytes()
    }

    /// A copy to be given again, whose `usage` says so. Where there is no such object it is the same bytes.
    pub fn kept(&self) -> Bytes {
        let usage = self.document.get("usage").filter(|usage| usage.starts_with('{'));
        let Some(marked) = usage.and_then(marked) else { return Bytes::copy_from_slice(self.bytes()) };
        match self.document.splice(&[Splice::Set("usage", marked.into())]) {
            same if same.as_ptr() == self.bytes().as_ptr() => Bytes::copy_from_slice(&same),
            marked => marked,
        }
    }

    /// What the upstream counted.
    pub fn usage(&self) -> Option<Usage> {
        self.document.get("usage").and_then(Usage::read)
    }

    /// The first choice's text.
    pub fn text(&self) -> Option<String> {
        self.choices()?.into_iter().next()?.message?.content.map(Text::into_string)
    }

    /// What a judge looks at; none where there is no choice.
    pub fn sense(&self) -> Option<Sense> {
        let Choice { finish_reason, message, logprobs } = self.choices()?.into_iter().next()?;
        let message = message.unwrap_or_default();
        let calls = message.calls();
        Some(Sense {
            text: message.content.map(Text::into_string).unwrap_or_default(),
            mean_logprob: logprobs.and_then(|logprobs| mean_logprob(logprobs.get())),
            refused: message.refusal.is_some_and(|refusal| !refusal.0.is_empty()),
            calls,
            finish_reason: finish_reason.map(Text::into_string).filter(|reason| !reason.is_empty()),
        })
    }

    /// The value at an RFC 6901 pointer, as JSON text.
    pub fn pointer(&self, pointer: &str) -> Option<&str> {
        self.document.pointer(pointer)
    }

    /// Is it an answer, however it ended, and no error?
    pub fn is_one(&self) -> bool {
        !self.is_error() && self.choices().is_some_and(|choices| !choices.is_empty())
    }

    fn is_error(&self) -> bool {
        self.document.get("error").is_some_and(|error| error != "null")
    }

    /// May this answer be given again? Only if it has as many choices as were asked for, and every one ended of its own accord,
    /// without tool calls (they act on the world as it was) and without an error.
    pub fn is_storable(&self, asked: usize) -> bool {
        let is_whole = |choice: &Choice<'_>| {
            choice.finish_reason.as_ref().is_some_and(|reason| reason.0 == "stop")
                && choice.message.as_ref().is_some_and(|message| !message.calls())
        };
        let is_whole = |choices: Vec<Choice<'_>>| !choices.is_empty() && choices.len() == asked && choices.iter().all(is_whole);
        !self.is_error() && self.choices().is_some_and(is_whole)
    }

    fn choices(&self) -> Option<Vec<Choice<'_>>> {
        serde_json::from_str(self.document.get("choices")?).ok()
    }
}

/// A `usage` object with the mark in it.
fn marked(usage: &str) -> Option<String> {
    if usage.contains(MARK.0) || usage.contains('\\') {
        // An upstream that is a pointsman may have said something there already, and a name may be written with escapes.
        let usage = Document::parse(Bytes::copy_from_slice(usage.as_bytes())).ok()?;
        return String::from_utf8(usage.splice(&[Splice::Set(MARK.0, MARK.1.into())]).into()).ok();
    }
    let all = usage.strip_suffix('}')?;
    let comma = if all.trim_ascii_end().ends_with('{') { "" } else { "," };
    Some(format!("{all}{comma}\"{}\":{}}}", MARK.0, MARK.1))
}

fn mean_logprob(json: &str) -> Option<f32> {
    #[derive(Deserialize)]
    struct Logprobs {
        #[serde(default)]
        content: Option<Vec<Token>>,
    }
    #[derive(Deserialize)]
    struct Token {
        logprob: f32,
    }
    let tokens = serde_json::from_str::<Logprobs>(json).ok()?.content.filter(|tokens| !tokens.is_empty())?;
    Some(tokens.iter().map(|token| token.logprob).sum::<f32>() / tokens.len() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_answer_says_that_it_is_one() {
        let kept = |text: &str| {
            let kept = Answer::read(Bytes::copy_from_slice(text.as_bytes())).unwrap().kept();
            String::from_utf8(kept.to_vec()).unwrap()
        };
        let mark = r#""x_pointsman":{"cached":true}}"#;
        for (usage, marked) in [
            (r#"{"total_tokens":3}"#, format!(r#"{{"total_tokens":3,{mark}"#)),
            ("{}", format!("{{{mark}")),
            (
                r#"{"x_pointsman":{"cached":false},"total_tokens":3}"#,
                r#"{"x_pointsman":{"cached":true},"total_tokens":3}"#.to_owned(),
            ),
            (r#"{"x_pointsman":{"cached":true}}"#, r#"{"x_pointsman":{"cached":true}}"#.to_owned()),
        ] {
            assert_eq!(kept(&format!(r#"{{"a":1,"usage":{usage},"b":[]}}"#)), format!(r#"{{"a":1,"usage":{marked},"b":[]}}"#));
        }
        for text in [r#"{"usage":null}"#, r#"{"a":{"usage":{}}}"#, "{}"] {
            assert_eq!(kept(text), text);
        }
    }

    #[test]
    fn only_whole_answers_are_storable() {
        let cases = [
            (r#"{"choices":[{"finish_reason":"stop","message":{"content":"x"}}]}"#, true),
            (r#"{"choices":[{"finish_reason":"stop","message":{"content":"x","tool_calls":null}}]}"#, true),
            (
                r#"{"choices":[{"finish_reason":"stop","message":{"content":"x"}},{"finish_reason":"length","message":{"content":"x"}}]}"#,
                false,
            ),
            (r#"{"choices":[{"finish_reason":"content_filter","message":{"content":"x"}}]}"#, false),
            (r#"{"choices":[{"finish_reason":"tool_calls","message":{"tool_calls":[{}]}}]}"#, false),
            (r#"{"choices":[{"finish_reason":"stop","message":{"tool_calls":[{}]}}]}"#, false),
            (r#"{"choices":[{"finish_reason":"stop","message":{"content":"","function_call":{"name":"f"}}}]}"#, false),
            (r#"{"choices":[{"finish_reason":null,"message":{"content":"x"}}]}"#, false),
            (r#"{"choices":[{"finish_reason":"stop"}]}"#, false),
            (r#"{"choices":[]}"#, false),
            (r#"{"error":{"message":"x"},"choices":[{"finish_reason":"stop","message":{"content":"x"}}]}"#, false),
            (r#"{}"#, false),
        ];
        for (text, expect) in cases {
            let answer = Answer::read(Bytes::from(text)).unwrap();
            assert_eq!(answer.is_storable(text.matches("finish_reason").count()), expect, "{text}");
            assert!(!answer.is_storable(3), "a choice is missing: {text}");
            assert_eq!(answer.is_one(), text.contains("finish_reason") && !text.contains("error"), "{text}");
        }
    }

    #[test]
    fn what_a_judge_looks_at() {
        let sense = |text: &str| Answer::read(Bytes::copy_from_slice(text.as_bytes())).unwrap().sense();
        let whole = sense(
            r#"{"choices":[{"finish_reason":"stop","message":{"content":"Hi"},"logprobs":{"content":[{"token":"H","logprob":-1.0},{"logprob":-2,"top_logprobs":[]}]}}]}"#,
        );
        let expect =
            Sense { text: "Hi".into(), mean_logprob: Some(-1.5), finish_reason: Some("stop".into()), ..Sense::default() };
        assert_eq!(whole, Some(expect));
        let refusal = sense(r#"{"choices":[{"message":{"refusal":"No.","tool_calls":[{}]},"logprobs":{"content":null}}]}"#);
        assert_eq!(refusal, Some(Sense { refused: true, calls: true, ..Sense::default() }));
        assert_eq!(sense("{}"), None);
    }

    #[test]
    fn usage_is_read_with_its_details() {
        let answer = Answer::read(Bytes::from(
            r#"{"usage":{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}}"#,
        ))
        .unwrap();
        let usage = answer.usage().unwrap();
        assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens()), (9, 2, 4));
        assert_eq!(Usage::read(r#"{"prompt_tokens":1,"prompt_tokens_details":null}"#).unwrap().cached_tokens(), 0);
    }
}
