//! A JSON object of which only the top level has been read: names and the spans of their values.
//!
//! One pass of serde_json over the bytes, which checks all of the syntax, without recursion however deep it goes, and hands out
//! each top-level value as the slice that it was; where it lies in the body follows from the slice's address.
//!
//! What it does not do: it builds no tree. Values are parsed by whoever asks for one.
//!
//! **Invariant:** a top-level name stands once. With two, a cache key could see one and a provider the other.
//! **Invariant:** a splice copies every byte that it does not replace.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Invalid;

/// The most names at the top level: several times what any API has, and few enough to compare each with all.
const MAX_NAMES: usize = 256;
/// The most steps of a pointer: each reads what is left.
const MAX_STEPS: usize = 32;

/// One top-level field.
#[derive(Clone, Debug)]
struct Field {
    name: FieldName,
    value: Range<usize>,
}

#[derive(Clone, Debug)]
enum FieldName {
    /// It lies in the body as it is.
    There(Range<usize>),
    /// In the body it has escapes.
    Unescaped(Box<str>),
}

/// An object's text and where its top-level values lie.
#[derive(Clone, Debug)]
pub struct Document {
    text: ByteString,
    fields: Vec<Field>,
}

/// A change of one top-level field.
#[derive(Debug)]
pub enum Splice<'a> {
    /// Sets a field's value to this JSON text; adds the field where it is not there.
    Set(&'a str, Cow<'a, str>),
    /// Takes a field out, if it is there.
    Remove(&'a str),
}

impl Document {
    /// Reads the top level.
    ///
    /// # Errors
    /// When the bytes are not one JSON object, or a name stands twice.
    pub fn parse(bytes: Bytes) -> Result<Self, Invalid> {
        let text = ByteString::try_from(bytes).map_err(|error| {
            Invalid::body(format!("The body is not UTF-8 (byte {}). Send JSON in UTF-8.", error.valid_up_to()))
        })?;
        let mut reader = serde_json::Deserializer::from_str(&text);
        let fields = reader.deserialize_map(TopLevel { text: &text }).and_then(|fields| reader.end().map(|()| fields));
        let fields = fields.map_err(|error| {
            let place =
                if error.line() > 0 { format!(" at line {}, column {}", error.line(), error.column()) } else { String::new() };
            let reason = error.to_string();
            let reason = reason.split(" at line ").next().unwrap_or_default();
            Invalid::body(format!("The body is not a JSON object that can be read: {reason}{place}. Send one JSON object."))
        })?;
        Ok(Self { text, fields })
    }

    /// The whole body.
    pub fn bytes(&self) -> &Bytes {
        self.text.as_bytes()
    }

    /// The JSON text of a top-level value.
    pub fn get(&self, name: &str) -> Option<&str> {
        Some(&self.text[self.fields[self.position(name)?].value.clone()])
    }

    /// Top-level names and the JSON text of their values, in the order of the body.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| (field.name.of(&self.text), &self.text[field.value.clone()]))
    }

    /// A top-level value, parsed. `null` counts as absent, as OpenAI's API has it.
    ///
    /// # Errors
    /// When the value is of another type; `expected` says which one in the message.
    pub fn read<'a, T: serde::Deserialize<'a>>(&'a self, name: &str, expected: &str) -> Result<Option<T>, Invalid> {
        match self.get(name) {
            None | Some("null") => Ok(None),
            Some(text) => {
                serde_json::from_str(text).map(Some).map_err(|_| Invalid::field(name, format!("`{name}` must be {expected}.")))
            }
        }
    }

    /// The value at an RFC 6901 pointer of at most 32 steps, as JSON text. Only what lies on the way is parsed.
    pub fn pointer(&self, pointer: &str) -> Option<&str> {
        if pointer.bytes().filter(|byte| *byte == b'/').count() > MAX_STEPS {
            return None;
        }
        if pointer.is_empty() {
            return Some(&self.text);
        }
        let mut tokens = pointer.strip_prefix('/')?.split('/').map(|token| token.replace("~1", "/").replace("~0", "~"));
        let mut text = self.get(&tokens.next()?)?;
        for token in tokens {
            text = step(text, &token)?;
        }
        Some(text)
    }

    /// The body with some fields changed. Where nothing changes it is the same bytes, not a copy.
    pub fn splice(&self, splices: &[Splice<'_>]) -> Bytes {
        // Ranges of the body to leave out, and what stands there instead.
        let mut edits: Vec<(Range<usize>, &str)> = Vec::with_capacity(splices.len() + 1);
        let mut added: Vec<(String, &str)> = Vec::new();
        let mut removed = Vec::new();
        for splice in splices {
            match splice {
                Splice::Set(name, json) => match self.position(name).map(|place| &self.fields[place].value) {
                    Some(value) if self.text[value.clone()] == **json => {}
                    Some(value) => edits.push((value.clone(), json)),
                    None => added.push((quoted(name), json)),
                },
                Splice::Remove(name) => removed.extend(self.position(name)),
            }
        }
        removed.sort_unstable();
        // Fields at the end go with the comma before them, all others with the one after.
        let mut kept = self.fields.len();
        while kept > 0 && removed.last() == Some(&(kept - 1)) {
            removed.pop();
            kept -= 1;
        }
        if let Some(last) = self.fields.last().filter(|_| kept < self.fields.len()) {
            edits.push((self.gap_before(kept, 0)..last.value.end, ""));
        }
        for index in removed {
            edits.push((self.gap_before(index, 1)..self.gap_before(index + 1, 1), ""));
        }
        if edits.is_empty() && added.is_empty() {
            return self.bytes().clone();
        }
        let bytes = self.bytes();
        edits.sort_by_key(|(range, _)| range.start);
        // To the byte: what has room left is allocated once more when it is shared.
        let gone: usize = edits.iter().map(|(range, _)| range.len()).sum();
        let come: usize = edits.iter().map(|(_, text)| text.len()).sum();
        let more: usize = added.iter().map(|(name, json)| name.len() + json.len() + ",:".len()).sum();
        let mut out = Vec::with_capacity(bytes.len() - gone + come + more);
        let mut from = 0;
        for (range, text) in &edits {
            out.extend_from_slice(&bytes[from..range.start]);
            out.extend_from_slice(text.as_bytes());
            from = range.end;
        }
        let end = bytes.iter().rposition(|byte| *byte == b'}').unwrap_or(bytes.len());
        out.extend_from_slice(&bytes[from..end]);
        for (name, json) in &added {
            // No comma goes where the object has become, or was, empty.
            if out.trim_ascii_end().last() != Some(&b'{') {
                out.push(b',');
            }
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            out.extend_from_slice(json.as_bytes());
        }
        out.extend_from_slice(&bytes[end..]);
        out.into()
    }

    /// Where the gap before a field begins: behind the brace for the first one, else `past` bytes past the start of the
    /// comma.
    fn gap_before(&self, index: usize, past: usize) -> usize {
        let (from, mark, past) = match index.checked_sub(1) {
            Some(before) => (self.fields[before].value.end, b',', past),
            None => (0, b'{', 1),
        };
        from + self.bytes()[from..].iter().position(|byte| *byte == mark).unwrap_or(0) + past
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name.of(&self.text) == name)
    }
}

impl FieldName {
    fn of<'a>(&'a self, text: &'a str) -> &'a str {
        match self {
            Self::There(range) => &text[range.clone()],
            Self::Unescaped(name) => name,
        }
    }
}

/// A text as a JSON string.
pub(super) fn quoted(text: &str) -> String {
    // A string can always be written.
    serde_json::to_string(text).unwrap_or_default()
}

/// Where a part of the text lies in it.
fn place(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

/// One step of a pointer into a raw value.
fn step<'a>(text: &'a str, token: &str) -> Option<&'a str> {
    let start = text.as_bytes().first()?;
    if *start == b'{' {
        // The last one wins, as in most parsers; only the top level refuses doubles.
        return serde_json::from_str::<Pairs<'a>>(text)
            .ok()?
            .0
            .into_iter()
            .rev()
            .find(|(name, _)| name == token)
            .map(|(_, value)| value.get());
    }
    if *start == b'[' {
        let canonical = token == "0" || (!token.starts_with('0') && token.bytes().all(|byte| byte.is_ascii_digit()));
        let index: usize = token.parse().ok().filter(|_| canonical)?;
        return serde_json::from_str::<Vec<&'a RawValue>>(text).ok()?.get(index).map(|value| value.get());
    }
    None
}

/// An object's names and raw values, in order.
pub(super) struct Pairs<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> serde::Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Pairs<'de>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(Text(name)) = map.next_key()? {
                    pairs.push((name, map.next_value()?));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// A string that is borrowed where it has no escapes. (serde's `Cow` alone always copies.)
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl Text<'_> {
    pub(super) fn into_string(self) -> String {
        self.0.into_owned()
    }
}

impl<'de: 'a, 'a> serde::Deserialize<'de> for Text<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Cow<'de, str>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Borrowed).map(Text)
    }
}

struct TopLevel<'a> {
    text: &'a str,
}

impl<'de> Visitor<'de> for TopLevel<'de> {
    type Value = Vec<Field>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Vec<Field> = Vec::with_capacity(12);
        while let Some(Text(name)) = map.next_key()? {
            if fields.len() == MAX_NAMES {
                return Err(serde::de::Error::custom(format_args!("it has more than {MAX_NAMES} names")));
            }
            if fields.iter().any(|field| field.name.of(self.text) == name) {
                return Err(serde::de::Error::custom(format_args!("the name \"{name:.64}\" stands twice")));
            }
            let value: &RawValue = map.next_value()?;
            let name = match name {
                Cow::Borrowed(name) => FieldName::There(place(self.text, name)),
                Cow::Owned(name) => FieldName::Unescaped(name.into()),
            };
            fields.push(Field { name, value: place(self.text, value.get()) });
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn splices_touch_nothing_else() {
        let set = |name, value| Splice::Set(name, Cow::Borrowed(value));
        let cases = [
            (r#"{"a": 1, "b":[2 ,3], "c" :"x"}"#, vec![set("b", "0")], r#"{"a": 1, "b":0, "c" :"x"}"#),
            (r#"{"a": 1, "b":2}"#, vec![Splice::Remove("a")], r#"{ "b":2}"#),
            (r#"{"a": 1, "b":2}"#, vec![Splice::Remove("b")], r#"{"a": 1}"#),
            (r#"{"a": 1, "b":2, "c":3}"#, vec![Splice::Remove("b")], r#"{"a": 1, "c":3}"#),
            (r#"{"a": 1, "b":2, "c":3}"#, vec![Splice::Remove("b"), Splice::Remove("c")], r#"{"a": 1}"#),
            (r#"{"a": 1, "b":2}"#, vec![Splice::Remove("a"), Splice::Remove("b")], r#"{}"#),
            (r#"{"a":1}"#, vec![Splice::Remove("a"), set("z", "true")], r#"{"z":true}"#),
            (r#"{}"#, vec![set("z", "1"), set("y", "2")], r#"{"z":1,"y":2}"#),
            (r#" {"a":1} "#, vec![set("z", "1")], r#" {"a":1,"z":1} "#),
            (r#"{"\u0061":1}"#, vec![set("a", "2")], r#"{"\u0061":2}"#),
        ];
        for (text, splices, expect) in cases {
            assert_eq!(document(text).splice(&splices), expect, "{text}");
        }
    }

    #[test]
    fn removing_two_of_three_leaves_no_comma() {
        for removed in [["a", "b"], ["b", "c"], ["c", "b"], ["a", "c"]] {
            let out = document(r#"{"a":1 , "b":2 , "c":3}"#).splice(&removed.map(Splice::Remove));
            let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(value.as_object().unwrap().len(), 1, "{out:?}");
        }
    }

    #[test]
    fn the_same_bytes_where_nothing_changes() {
        let document = document(r#"{"model":"m"}"#);
        let out = document.splice(&[Splice::Set("model", "\"m\"".into()), Splice::Remove("prompt")]);
        assert_eq!(out.as_ptr(), document.bytes().as_ptr());
    }

    #[test]
    fn pointers() {
        let document = document(r#"{"a/b":{"~":[10,{"x":"y"}]},"n":null}"#);
        for (pointer, expect) in [
            ("/a~1b/~0/1/x", Some("\"y\"")),
            ("/a~1b/~0/0", Some("10")),
            ("/a~1b/~0/01", None),
            ("/n", Some("null")),
            ("/none", None),
            ("a", None),
            ("/n/x", None),
            (&"/0".repeat(33), None),
        ] {
            assert_eq!(document.pointer(pointer), expect, "{pointer}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (text, expect) in [
            ("{\"a\":1,\n\"a\":2}", "stands twice"),
            ("[1]", "JSON object"),
            ("{\"a\":}", "line 1, column 6"),
            ("{\"a\":1} x", "trailing"),
            ("", "EOF"),
            (&format!("{{{}\"z\":0}}", (0..256).map(|name| format!("\"{name}\":0,")).collect::<String>()), "256 names"),
        ] {
            let error = Document::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap_err();
            assert!(error.message.contains(expect), "{text}: {error}");
        }
        assert!(Document::parse(Bytes::from_static(b"{\"a\":\"\xff\"}")).unwrap_err().message.contains("UTF-8"));
        // However deep: what lies below the top level is the provider's to judge, and costs no stack here.
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Document::parse(Bytes::from(deep)).is_ok());
        let open = format!("{{\"a\":{}", "[".repeat(100_000));
        assert!(Document::parse(Bytes::from(open)).is_err());
    }
}
