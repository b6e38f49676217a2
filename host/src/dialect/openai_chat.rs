//! OpenAI's chat completions: a request, as far as anybody asks to see it, and the changes that can be made to it.
//!
//! What it does not do: it validates only what it reads. Everything else is between the client and the provider.
//!
//! **Invariant:** an edit changes the bytes that it must and no others; unknown fields survive every edit.
//! **Invariant:** `canonical` covers every field that reaches the provider, except the ones that it names.

mod edit;
mod message;

use std::sync::OnceLock;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::{Document, Splice, quoted};
use super::prefix::Prefix;
use super::{Invalid, tokens};

pub use edit::Edit;
pub use message::Message;

/// A versioned prompt that a request asks for, as in OpenAI's Responses API.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PromptRef {
    /// The prompt's name.
    pub id: String,
    /// A version; none: the pinned or newest one.
    #[serde(default)]
    pub version: Option<String>,
    /// What the template's variables stand for.
    #[serde(default)]
    pub variables: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A request for a chat completion.
#[derive(Debug)]
pub struct ChatRequest {
    document: Document,
    model: String,
    stream: bool,
    include_usage: bool,
    max_tokens: Option<u32>,
    temperature: Option<f32>,
    prompt: Option<PromptRef>,
    messages: OnceLock<Vec<Message>>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

impl ChatRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When the body is no JSON object, or a field that is read here has another type than OpenAI's API gives it.
    pub fn parse(bytes: Bytes) -> Result<Self, Invalid> {
        Self::of(Document::parse(bytes)?)
    }

    fn of(document: Document) -> Result<Self, Invalid> {
        let model: Option<String> = document.read("model", "a string: the name of a model")?;
        let model = model
            .filter(|model| !model.is_empty())
            .ok_or_else(|| Invalid::field("model", "`model` is missing. Name a model; GET /v1/models lists them."))?;
        let stream = document.read("stream", "true or false")?.unwrap_or(false);
        let options: Option<StreamOptions> = document.read("stream_options", "an object such as {\"include_usage\": true}")?;
        let completion_tokens: Option<u32> = document.read("max_completion_tokens", "a whole number")?;
        let max_tokens = completion_tokens.or(document.read("max_tokens", "a whole number")?);
        let temperature = document.read("temperature", "a number")?;
        let prompt: Option<PromptRef> =
            document.read("prompt", "an object such as {\"id\": \"support\", \"version\": \"v2\", \"variables\": {}}")?;
        match document.get("messages") {
            Some(text) if text.starts_with('[') => {}
            None | Some("null") if prompt.is_some() => {}
            None | Some("null") => return Err(Invalid::field("messages", "`messages` is missing. Send an array of messages.")),
            Some(_) => return Err(Invalid::field("messages", "`messages` must be an array of messages.")),
        }
        Ok(Self {
            model,
            stream,
            include_usage: options.and_then(|options| options.include_usage).unwrap_or(false),
            max_tokens,
            temperature,
            prompt,
            messages: OnceLock::new(),
            document,
        })
    }

    /// The body.
    pub fn bytes(&self) -> &Bytes {
        self.document.bytes()
    }

    /// The model that is asked for.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Shall the answer be streamed?
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Shall a stream end with a chunk about usage?
    pub fn include_usage(&self) -> bool {
        self.include_usage
    }

    /// Does it say of the stream more than whether usage is to follow? Whoever does not say the same does not want the same bytes.
    pub fn has_other_stream_options(&self) -> bool {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Known {
            #[serde(default, rename = "include_usage")]
            _include_usage: Option<bool>,
        }
        let known = |text: &str| serde_json::from_str::<Option<Known>>(text).is_ok();
        self.document.get("stream_options").is_some_and(|text| !known(text))
    }

    /// The bound on the answer's length, in tokens.
    pub fn max_tokens(&self) -> Option<u32> {
        self.max_tokens
    }

    /// The sampling temperature.
    pub fn temperature(&self) -> Option<f32> {
        self.temperature
    }

    /// May the model call tools?
    pub fn has_tools(&self) -> bool {
        let is_given = |name| self.document.get(name).is_some_and(|text| text != "null" && text != "[]");
        is_given("tools") || is_given("functions")
    }

    /// How many answers are asked for.
    pub fn choices(&self) -> usize {
        self.document.get("n").and_then(|n| n.parse().ok()).unwrap_or(1)
    }

    /// The versioned prompt that is asked for.
    pub fn prompt(&self) -> Option<&PromptRef> {
        self.prompt.as_ref()
    }

    /// The messages, read when they are first asked for. What is no message is shown as an empty one of its role, if any.
    pub fn messages(&self) -> &[Message] {
        self.messages.get_or_init(|| message::read(self.document.get("messages").unwrap_or("[]")))
    }

    /// The text of the last user message.
    pub fn last_user_text(&self) -> Option<&str> {
        self.messages()
            .iter()
            .rev()
            .find(|message| message.role == "user")
            .map(|message| message.text.as_str())
            .filter(|text| !text.is_empty())
    }

    /// Tokens of the prompt, estimated from the messages' bytes without reading them one by one.
    pub fn estimated_tokens(&self) -> u32 {
        tokens::estimate(self.document.get("messages").map_or(0, str::len))
    }

    /// The prompt's beginning in blocks, as a server that calls the model `name` reads it: tools, then messages.
    pub fn prefix(&self, name: &str) -> Prefix {
        let tools = ["tools", "functions"].into_iter().filter_map(|field| self.document.get(field));
        // Where the array ends, the next turn of the conversation goes on.
        let messages = self.document.get("messages").map(|text| text.strip_suffix(']').unwrap_or(text).trim_end());
        Prefix::of(name, tools.chain(messages).map(str::as_bytes))
    }

    /// The value at an RFC 6901 pointer, as JSON text.
    pub fn pointer(&self, pointer: &str) -> Option<&str> {
        self.document.pointer(pointer)
    }

    /// The request with changes, in order; `prompt` goes, since what it asked for is now there.
    ///
    /// # Errors
    /// When an index is beyond the messages, or a parameter may not be set or has no JSON value.
    pub fn edit(&self, edits: &[Edit]) -> Result<Self, Invalid> {
        let (messages, parameters) = edit::apply(self.document.get("messages").unwrap_or("[]"), edits)?;
        let mut splices = vec![Splice::Remove("prompt")];
        if let Some(messages) = messages {
            splices.push(Splice::Set("messages", messages.into()));
        }
        splices.extend(parameters.iter().map(|(name, value)| Splice::Set(name, value.as_str().into())));
        Self::of_edited(self.document.splice(&splices))
    }

    fn of_edited(bytes: Bytes) -> Result<Self, Invalid> {
        let edited = Self::parse(bytes)?;
        if edited.document.get("messages").is_none() {
            return Err(Invalid::field("messages", "`messages` is missing, and the prompt has none. Send an array of messages."));
        }
        Ok(edited)
    }

    /// The same request for an answer that comes as a whole.
    ///
    /// # Errors
    /// When it would be too large to be read.
    pub fn plain(&self) -> Result<Self, Invalid> {
        Self::parse(self.document.splice(&[Splice::Remove("stream"), Splice::Remove("stream_options")]))
    }

    /// The same request for another model.
    ///
    /// # Errors
    /// When it would be too large to be read.
    pub fn asking_for(&self, model: &str) -> Result<Self, Invalid> {
        let model = quoted(model);
        Self::parse(self.document.splice(&[Splice::Set("model", model.into())]))
    }

    /// The bytes for an upstream that calls the model `name`; with `logprobs` it is asked for them.
    pub fn to_upstream(&self, name: &str, logprobs: bool) -> Bytes {
        let model = quoted(name);
        let (model, prompt) = (Splice::Set("model", model.into()), Splice::Remove("prompt"));
        if logprobs {
            self.document.splice(&[model, prompt, Splice::Set("logprobs", "true".into())])
        } else {
            self.document.splice(&[model, prompt])
        }
    }

    /// Does the client want to see how probable each token was?
    pub fn wants_logprobs(&self) -> bool {
        self.document.get("logprobs") == Some("true")
    }

    /// Will the answer be text, one and no more, of no prescribed form?
    pub fn is_plain_text(&self) -> bool {
        let is_absent = |name| matches!(self.document.get(name), None | Some("null"));
        self.choices() == 1
            && !self.has_tools()
            && !self.wants_logprobs()
            && is_absent("response_format")
            && is_absent("modalities")
    }

    /// Must the answer's text be a JSON object, of whatever form?
    pub fn wants_json_object(&self) -> bool {
        self.document.pointer("/response_format/type") == Some("\"json_object\"")
    }

    /// The same request for text of no prescribed form.
    ///
    /// # Errors
    /// When it would be too large to be read.
    pub fn without_form(&self) -> Result<Self, Invalid> {
        Self::parse(self.document.splice(&[Splice::Remove("response_format")]))
    }

    /// Must the answer's text be JSON?
    pub fn wants_json(&self) -> bool {
        matches!(self.document.pointer("/response_format/type"), Some("\"json_object\"" | "\"json_schema\""))
    }

    /// Feeds a hasher with every field that reaches the provider, in an order that does not depend on the client's.
    ///
    /// Left out: `model` (the caller adds what it stands for), `prompt` (it has been rendered into the messages by then),
    /// and `stream` and `stream_options`, since an answer can be replayed in either form.
    ///
    /// With `without_question` the text of the last user message is left out as well; what remains is what a near hit must
    /// have in common. The result is false if that cannot be done: the last message is not a user's, or is not text alone.
    pub fn canonical(&self, feed: &mut dyn FnMut(&[u8]), without_question: bool) -> bool {
        let mut fields: Vec<(&str, &str)> = self
            .document
            .fields()
            .filter(|(name, _)| !matches!(*name, "model" | "prompt" | "stream" | "stream_options"))
            .collect();
        fields.sort_unstable_by_key(|(name, _)| *name);
        let mut scratch =
            Vec::with_capacity(fields.iter().map(|(name, value)| (name.len() + 2).max(value.len())).max().unwrap_or(0));
        let mut possible = !without_question;
        for (name, value) in fields {
            // As JSON, so that white space in a name counts.
            scratch.clear();
            // A string can always be written.
            let _ = serde_json::to_writer(&mut scratch, name);
            feed_sized(&scratch, feed);
            let mut part = |text: &str| {
                compact(text, &mut scratch);
                feed_sized(&scratch, feed);
            };
            if without_question && name == "messages" {
                possible = message::rest_of(value, &mut part);
            } else {
                part(value);
            }
        }
        possible
    }
}

/// Behind its length, so that no two lists of parts are the same bytes.
fn feed_sized(bytes: &[u8], feed: &mut dyn FnMut(&[u8])) {
    feed(&(bytes.len() as u64).to_le_bytes());
    feed(bytes);
}

/// Takes white space out between tokens, so that two ways to print the same request are one.
fn compact(json: &str, out: &mut Vec<u8>) {
    out.clear();
    let mut rest = json.as_bytes();
    while let Some(first) = rest.first() {
        let length = match first {
            b'"' => string_length(rest),
            _ => rest.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'"').unwrap_or(rest.len()),
        };
        out.extend_from_slice(&rest[..length]);
        rest = rest[length..].trim_ascii_start();
    }
}

/// Bytes of the string that `json` begins with, both its quotes included.
fn string_length(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = json.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found + 1;
        if json[at - 1] == b'"' {
            return at;
        }
        at += 1;
    }
    json.len()
}

/// Is this text one JSON value?
fn is_json(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> ChatRequest {
        ChatRequest::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn canonical(text: &str, without_question: bool) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        let possible = request(text).canonical(&mut |bytes| out.extend_from_slice(bytes), without_question);
        (out, possible)
    }

    #[test]
    fn wrong_types_name_their_field() {
        let cases = [
            (r#"{"messages":[]}"#, "model"),
            (r#"{"model":"","messages":[]}"#, "model"),
            (r#"{"model":1,"messages":[]}"#, "model"),
            (r#"{"model":"m"}"#, "messages"),
            (r#"{"model":"m","messages":{}}"#, "messages"),
            (r#"{"model":"m","messages":[],"stream":"yes"}"#, "stream"),
            (r#"{"model":"m","messages":[],"temperature":"hot"}"#, "temperature"),
            (r#"{"model":"m","messages":[],"max_tokens":-1}"#, "max_tokens"),
            (r#"{"model":"m","prompt":"support"}"#, "prompt"),
        ];
        for (text, param) in cases {
            let error = ChatRequest::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_said_of_the_stream() {
        for (options, other) in [
            ("", false),
            (r#","stream_options":null"#, false),
            (r#","stream_options":{}"#, false),
            (r#","stream_options":{"include_usage":true}"#, false),
            (r#","stream_options":{"include_usage":null}"#, false),
            (r#","stream_options":{"include_usage":true,"include_obfuscation":false}"#, true),
        ] {
            let text = format!(r#"{{"model":"m","messages":[],"stream":true{options}}}"#);
            assert_eq!(request(&text).has_other_stream_options(), other, "{text}");
        }
    }

    #[test]
    fn what_reaches_the_provider_is_in_the_canonical_form() {
        let base = canonical(r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"seed":1}"#, false).0;
        let same = [
            r#"{"seed":1,"model":"m","messages":[ {"role": "user","content":"a b"} ]}"#,
            r#"{"model":"other","stream":true,"stream_options":{},"seed":1,"messages":[{"role":"user","content":"a b"}]}"#,
        ];
        let other = [
            r#"{"model":"m","messages":[{"role":"user","content":"a  b"}],"seed":1}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"seed":2}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"seed":1,"x-unknown":0}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"a b"}],"se ed":1}"#,
        ];
        for text in same {
            assert_eq!(canonical(text, false).0, base, "{text}");
        }
        for text in other {
            assert_ne!(canonical(text, false).0, base, "{text}");
        }
    }

    #[test]
    fn white_space_counts_in_strings_alone() {
        let cases = [
            ("", ""),
            (" { \"a b\" : [ 1 ,\t2 ] }\n", r#"{"a b":[1,2]}"#),
            (r#"[ "\\" , "\" x" , "é ü" ]"#, r#"["\\","\" x","é ü"]"#),
            (r#""""#, r#""""#),
            ("- 1", "-1"),
        ];
        for (json, expect) in cases {
            let mut out = Vec::new();
            compact(json, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expect, "{json}");
        }
    }

    #[test]
    fn the_rest_of_a_question_is_what_near_hits_share() {
        let of = |messages: &str| canonical(&format!(r#"{{"model":"m","messages":{messages}}}"#), true);
        let base = of(r#"[{"role":"system","content":"s"},{"role":"user","content":"how?"}]"#);
        assert!(base.1);
        assert_eq!(of(r#"[{"role":"system","content":"s"},{"role":"user","content":"why?"}]"#), base);
        for different in [
            r#"[{"role":"system","content":"t"},{"role":"user","content":"how?"}]"#,
            r#"[{"role":"system","content":"s"},{"role":"user","content":"how?","name":"eve"}]"#,
        ] {
            assert_ne!(of(different).0, base.0, "{different}");
        }
        let beside = |text: &str| canonical(&format!(r#"{{"model":"m",{text}}}"#), true);
        assert_ne!(
            beside(r#""messages":[{"role":"user","content":"q","seed":7}]"#),
            beside(r#""messages":[{"role":"user","content":"q"}],"seed":7"#),
            "a field of the question is none of the request"
        );
        for impossible in [
            "[]",
            r#"[{"role":"assistant","content":"x"}]"#,
            r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"u"}}]}]"#,
            r#"[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#,
            r#"[{"role":"user","content":null}]"#,
        ] {
            assert!(!of(impossible).1, "{impossible}");
        }
    }

    #[test]
    fn the_next_turn_begins_with_the_last_one() {
        let turn = |messages: &str| request(&format!(r#"{{"messages":{messages},"model":"m","tools":[{{"x":1}}]}}"#)).prefix("m");
        let said = format!(r#"[{{"role":"system","content":"{}"}}"#, "s".repeat(480));
        let first = turn(&format!("{said}]"));
        let second = turn(&format!(r#"{said},{{"role":"user","content":"{}"}}]"#, "u".repeat(600)));
        assert_eq!((first.blocks().len(), second.blocks().len()), (1, 2));
        assert_eq!(first.blocks()[0], second.blocks()[0]);
        assert_ne!(
            request(&format!(r#"{{"messages":{said}],"model":"m"}}"#)).prefix("m").blocks(),
            first.blocks(),
            "without tools"
        );
    }

    #[test]
    fn only_the_model_changes_on_the_way_up() {
        let request = request(r#"{ "model" : "auto", "x":[1, 2], "prompt":{"id":"p"}, "messages":[] }"#);
        assert_eq!(request.to_upstream("m\"1", false), r#"{ "model" : "m\"1", "x":[1, 2], "messages":[] }"#);
    }
}
