//! What is taken out of an exchange before it is written.
//!
//! Bodies are JSON texts in a string. Of a body the values at pointers go, and in each of its strings what a pattern matches; every other
//! byte stays, so that a plugin sees the same white space and numbers again. A pattern is looked for in a string's characters, not in the
//! escapes that JSON writes for them.
//!
//! An answer that comes in parts says a word in several of them: a pattern is looked for in what they say together, and where it is found
//! nothing of the parts is kept. The tokens of log-probabilities are such parts as well.
//!
//! **Invariant:** where a text could not be read as JSON it is treated as one string.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde_json::{Map, Value, json};

/// Stands in the place of what was taken out.
pub const MARK: &str = "[redacted]";

/// How a line of a stream begins that has something in it.
const DATA: &str = "data:";

/// What is taken out.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Headers, in lower case.
    pub headers: Vec<String>,
    /// Pointers into requests and answers.
    pub pointers: Vec<String>,
    /// What is taken out of every text.
    pub patterns: Vec<Regex>,
}

impl Rules {
    /// Takes everything out of one exchange; `redacted` in it says whether there was anything.
    pub fn apply(&self, exchange: &mut Value) {
        let mut found = false;
        for name in ["requests", "answers"] {
            for body in exchange.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::String(text) = body
                    && let Some(clean) = self.body(text)
                {
                    (*text, found) = (clean, true);
                }
            }
        }
        if let Some(answers) = exchange.get_mut("answers").and_then(Value::as_array_mut) {
            found |= answers.iter_mut().fold(false, |found, answer| self.tokens(answer) | found);
        }
        if let Some(parts) = exchange.get_mut("parts").and_then(Value::as_array_mut) {
            found |= self.parts(parts);
        }
        // What plugins were told and have said beside that. Names (of plugins, models, functions) are the owner's own.
        found |= exchange.get_mut("headers").is_some_and(|headers| self.headers(headers));
        for call in exchange.get_mut("calls").and_then(Value::as_array_mut).into_iter().flatten() {
            for part in ["told", "imports", "said", "labels", "unfit"] {
                found |= call.get_mut(part).is_some_and(|part| self.texts(part));
            }
        }
        if found {
            exchange["redacted"] = true.into();
        }
    }

    fn headers(&self, headers: &mut Value) -> bool {
        let mut found = false;
        for header in headers.as_array_mut().into_iter().flatten() {
            let Some([name, value]) = header.as_array_mut().map(Vec::as_mut_slice) else { continue };
            let is_named = name.as_str().is_some_and(|name| self.headers.iter().any(|own| own == name));
            if is_named {
                *value = MARK.into();
            }
            found |= is_named | self.texts(value);
        }
        found
    }

    /// Cleans all strings in a value; was there anything?
    fn texts(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) => match self.text(text) {
                Some(clean) => {
                    *text = clean;
                    true
                }
                None => false,
            },
            Value::Array(list) => list.iter_mut().fold(false, |found, item| self.texts(item) | found),
            Value::Object(fields) if self.is_found_in_bytes(fields) => {
                *value = MARK.into();
                true
            }
            Value::Object(fields) => fields.iter_mut().fold(false, |found, (_, value)| self.texts(value) | found),
            _ => false,
        }
    }

    /// Bytes that are no text stand in an object, in base64. What of them is text is looked at.
    fn is_found_in_bytes(&self, fields: &Map<String, Value>) -> bool {
        let Some(Value::String(coded)) = fields.get("base64").filter(|_| fields.len() == 1) else { return false };
        let bytes = STANDARD.decode(coded).unwrap_or_default();
        self.text(&String::from_utf8_lossy(&bytes)).is_some()
    }

    /// Takes the tokens out of an answer's log-probabilities, where together they say what a pattern matches; the numbers stay.
    fn tokens(&self, answer: &mut Value) -> bool {
        let read = |text: &str| serde_json::from_str::<Value>(text).ok();
        let Some(mut body) = answer.as_str().filter(|text| !self.patterns.is_empty() && text.contains("logprobs")).and_then(read)
        else {
            return false;
        };
        let mut found = false;
        for choice in body.get_mut("choices").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(tokens) = choice.pointer_mut("/logprobs/content").and_then(Value::as_array_mut) else { continue };
            let said: String = tokens.iter().filter_map(|token| token["token"].as_str()).collect();
            if self.text(&said).is_some() {
                found = true;
                tokens.iter_mut().for_each(|token| *token = json!({ "token": "", "logprob": token["logprob"] }));
            }
        }
        if found {
            *answer = body.to_string().into();
        }
        found
    }

    /// Cleans parts of answers; where what they say together has what a pattern matches, nothing of them is kept.
    fn parts(&self, parts: &mut [Value]) -> bool {
        let mut said = BTreeMap::new();
        for text in parts.iter().filter_map(|part| part["text"].as_str()) {
            for line in bodies(text) {
                match serde_json::from_str::<Value>(line.strip_prefix(DATA).unwrap_or(line)) {
                    Ok(event) => gather(&event, String::new(), &mut said),
                    // What is no event, or no JSON, is text.
                    Err(_) => said.entry(String::new()).or_default().push_str(line),
                }
            }
        }
        if !self.patterns.is_empty() && said.values().any(|text| self.text(text).is_some()) {
            parts.iter_mut().for_each(|part| part["text"] = Value::Null);
            return true;
        }
        let mut found = false;
        for part in parts.iter_mut() {
            let Some(text) = part["text"].as_str() else { continue };
            let clean = |line: &str| {
                let (head, body) = line.split_at(if line.starts_with(DATA) { DATA.len() } else { 0 });
                Some([head, &self.body(body)?].concat())
            };
            let lines: Vec<(&str, Option<String>)> = bodies(text).into_iter().map(|line| (line, clean(line))).collect();
            if lines.iter().any(|(_, clean)| clean.is_some()) {
                found = true;
                let text: String = lines.into_iter().map(|(line, clean)| clean.unwrap_or_else(|| line.to_owned())).collect();
                part["text"] = text.into();
            }
        }
        found
    }

    /// A text without what patterns match; none where nothing does.
    fn text(&self, text: &str) -> Option<String> {
        let mut clean = None;
        for pattern in &self.patterns {
            let now = clean.as_deref().unwrap_or(text);
            if pattern.is_match(now) {
                clean = Some(pattern.replace_all(now, regex::NoExpand(MARK)).into_owned());
            }
        }
        clean
    }

    /// A body without what rules take out; none where nothing is.
    fn body(&self, text: &str) -> Option<String> {
        let mut clean: Option<String> = None;
        for pointer in &self.pointers {
            let now = clean.as_deref().unwrap_or(text);
            if let Some(range) = place(now, pointer) {
                clean = Some([&now[..range.start], "\"", MARK, "\"", &now[range.end..]].concat());
            }
        }
        let now = clean.as_deref().unwrap_or(text);
        let strings = if self.patterns.is_empty() { None } else { self.strings(now) };
        strings.or(clean)
    }

    fn strings(&self, json: &str) -> Option<String> {
        if serde_json::from_str::<&serde_json::value::RawValue>(json).is_err() {
            return self.text(json);
        }
        let (mut out, mut found, mut rest) = (String::with_capacity(json.len()), false, json);
        while let Some(start) = rest.find('"') {
            let length = string_length(&rest[start..]);
            let (before, string, after) = (&rest[..start], &rest[start..start + length], &rest[start + length..]);
            out.push_str(before);
            let said = serde_json::from_str::<String>(string).unwrap_or_default();
            match self.text(&said) {
                Some(clean) => {
                    found = true;
                    out.push_str(&Value::from(clean).to_string());
                }
                None => out.push_str(string),
            }
            rest = after;
        }
        out.push_str(rest);
        found.then_some(out)
    }
}

/// The lines of a stream's part, with what ends them; or all of an answer that is not streamed.
fn bodies(part: &str) -> Vec<&str> {
    if part.trim_start().starts_with('{') { vec![part] } else { part.split_inclusive('\n').collect() }
}

/// The strings of an event, behind those that earlier ones had at the same place. Choices, and calls of tools, have their place from their
/// own `index`.
fn gather(value: &Value, place: String, said: &mut BTreeMap<String, String>) {
    match value {
        Value::String(text) => said.entry(place).or_default().push_str(text),
        Value::Array(list) => list.iter().enumerate().for_each(|(at, item)| {
            let at = item["index"].as_u64().unwrap_or(at as u64);
            gather(item, format!("{place}/{at}"), said);
        }),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| gather(value, format!("{place}/{name}"), said)),
        _ => {}
    }
}

/// Bytes of the string that `json` begins with, both its quotes included.
fn string_length(json: &str) -> usize {
    let bytes = json.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    json.len()
}

/// Where the value at a pointer stands in a text.
fn place(json: &str, pointer: &str) -> Option<std::ops::Range<usize>> {
    let mut at: &serde_json::value::RawValue = serde_json::from_str(json).ok()?;
    for token in pointer.strip_prefix('/')?.split('/') {
        let token = token.replace("~1", "/").replace("~0", "~");
        let text = at.get().trim_start();
        at = if text.starts_with('[') {
            serde_json::from_str::<Vec<&serde_json::value::RawValue>>(text).ok()?.into_iter().nth(token.parse().ok()?)?
        } else {
            let fields: Vec<(String, &serde_json::value::RawValue)> = fields(text)?;
            // Where a name stands twice the last one counts, for whoever reads it.
            fields.into_iter().rev().find(|(name, _)| *name == token)?.1
        };
    }
    // Both are parts of the same text.
    let start = (at.get().as_ptr() as usize).checked_sub(json.as_ptr() as usize)?;
    Some(start..start + at.get().len())
}

fn fields(json: &str) -> Option<Vec<(String, &serde_json::value::RawValue)>> {
    struct Fields<'a>(Vec<(String, &'a serde_json::value::RawValue)>);
    impl<'de: 'a, 'a> serde::Deserialize<'de> for Fields<'a> {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor<'a>(std::marker::PhantomData<&'a ()>);
            impl<'de: 'a, 'a> serde::de::Visitor<'de> for Visitor<'a> {
                type Value = Fields<'a>;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut found = Vec::new();
                    while let Some(field) = map.next_entry()? {
                        found.push(field);
                    }
                    Ok(Fields(found))
                }
            }
            deserializer.deserialize_map(Visitor(std::marker::PhantomData))
        }
    }
    serde_json::from_str::<Fields<'_>>(json).ok().map(|fields| fields.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(pointers: &[&str], patterns: &[&str]) -> Rules {
        Rules {
            headers: vec!["x-user".to_owned()],
            pointers: pointers.iter().map(|pointer| (*pointer).to_owned()).collect(),
            patterns: patterns.iter().map(|pattern| Regex::new(pattern).unwrap()).collect(),
        }
    }

    #[test]
    fn every_other_byte_of_a_body_stays() {
        let rules = rules(&["/user", "/a/1/b~1c"], &[r"\d{3}-\d{3}", "é+"]);
        for (body, expect) in [
            (r#"{ "x" : 1.50, "user":"eve" }"#, Some(r#"{ "x" : 1.50, "user":"[redacted]" }"#)),
            (r#"{"user" : {"id":7} ,"n":[ ]}"#, Some(r#"{"user" : "[redacted]" ,"n":[ ]}"#)),
            (r#"{"a":[0,{"b/c":[1]}]}"#, Some(r#"{"a":[0,{"b/c":"[redacted]"}]}"#)),
            (r#"{"m":"call 123-456 \u00e9\u00e9!","123-456":0}"#, Some(r#"{"m":"call [redacted] [redacted]!","[redacted]":0}"#)),
            (r#"{"m":"no \"match\" \\"}"#, None),
            ("not json 123-456", Some("not json [redacted]")),
        ] {
            assert_eq!(rules.body(body).as_deref(), expect, "{body}");
        }
    }

    #[test]
    fn texts_are_cleaned_wherever_they_stand() {
        let mut exchange = json!({
            "headers": [["x-user", "eve"], ["x-note", "call 123-456"], ["x-other", "o"]],
            "requests": ["{\"m\":\"123-456\"}"],
            "calls": [{
                "plugin": "123-456", "told": { "labels": [["a", "123-456"]] },
                "imports": [{ "call": "kv.get", "args": ["u/123-456"], "result": { "Ok": "123-456" } }],
                "said": { "decided": { "Plan": { "reason": "123-456" } } },
            }],
        });
        rules(&[], &[r"\d{3}-\d{3}"]).apply(&mut exchange);
        let text = exchange.to_string();
        assert_eq!(text.matches("123-456").count(), 1, "a name is the owner's own: {text}");
        assert!(!text.contains("eve") && exchange["redacted"] == true, "{text}");
        let mut plain = json!({ "headers": [["x-other", "o"]], "requests": ["{}"], "calls": [] });
        let before = plain.clone();
        rules(&[], &["z"]).apply(&mut plain);
        assert_eq!(plain, before, "and nothing is added");
    }

    fn chunk(index: u32, text: &str) -> String {
        format!("data: {}\n\n", json!({ "id": "c", "choices": [{ "index": index, "delta": { "content": text } }] }))
    }

    #[test]
    fn what_parts_say_together_is_looked_at() {
        let rules = rules(&["/user"], &["eve@[a-z]+[.]com"]);
        let apply = |texts: &[String]| {
            let parts: Vec<Value> = texts.iter().map(|text| json!({ "text": text })).collect();
            let mut exchange = json!({ "headers": [], "calls": [], "parts": parts });
            rules.apply(&mut exchange);
            exchange
        };
        // In three parts, and another choice's words between them.
        let split = [[chunk(0, "I am e"), chunk(1, "-")].concat(), chunk(0, "ve@exa"), chunk(0, "mple.com.")];
        let clean = apply(&split);
        assert_eq!((&clean["redacted"], &clean["parts"][1]["text"]), (&json!(true), &Value::Null), "{clean}");
        assert!(!clean.to_string().contains("exa"), "{clean}");
        let harmless = [chunk(0, "I am e"), chunk(1, "ve@example.com.")];
        assert_eq!(apply(&harmless)["parts"][0]["text"], harmless[0], "two choices say nothing together");
        let named = apply(&["data: {\"user\":\"eve\",\"x\": 1.50}\n\ndata: [DONE]\n\n".to_owned()]);
        assert_eq!(named["parts"][0]["text"], "data: {\"user\":\"[redacted]\",\"x\": 1.50}\n\ndata: [DONE]\n\n");
        assert_eq!(apply(&[": eve@x.com\n\n".to_owned()])["parts"][0]["text"], Value::Null, "a comment is text too");
    }

    #[test]
    fn tokens_and_bytes_say_it_as_well() {
        let rules = rules(&[], &["eve@[a-z]+[.]com"]);
        let token = |text: &str| json!({ "token": text, "logprob": -0.5, "bytes": text.as_bytes(), "top_logprobs": [] });
        let answer = |tokens: &[&str]| {
            let content: Vec<Value> = tokens.iter().map(|text| token(text)).collect();
            let said = tokens.concat();
            json!({ "choices": [{ "message": { "content": said }, "logprobs": { "content": content } }] }).to_string()
        };
        let mut exchange = json!({
            "headers": [], "answers": [answer(&["eve@", "x.c", "om"]), answer(&["all", " well"])],
            "calls": [{ "imports": [{ "args": [{ "base64": STANDARD.encode(b"\xff eve@x.com") }], "result": { "Ok": { "base64": "/w==" } } }] }],
        });
        let kept = exchange["answers"][1].clone();
        rules.apply(&mut exchange);
        let clean: Value = serde_json::from_str(exchange["answers"][0].as_str().unwrap()).unwrap();
        assert_eq!(clean["choices"][0]["logprobs"]["content"][0], json!({ "token": "", "logprob": -0.5 }), "{clean}");
        assert_eq!(clean["choices"][0]["message"]["content"], MARK);
        assert_eq!(exchange["answers"][1], kept);
        let import = &exchange["calls"][0]["imports"][0];
        assert_eq!((&import["args"][0], &import["result"]["Ok"]["base64"]), (&json!(MARK), &json!("/w==")));
    }
}
