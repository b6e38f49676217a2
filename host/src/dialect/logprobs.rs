//! Taking `logprobs` out of an answer again, where it was us who asked for them.
//!
//! What it does not do: it parses no more than what leads to them, and leaves what it cannot read as it is.
//!
//! **Invariant:** every other byte of the answer is the upstream's.

use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Choices<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
}

/// An answer, or a chunk of one, with `null` in the place of each choice's `logprobs`.
pub fn strip(json: &Bytes) -> Bytes {
    let mut out = BytesMut::new();
    if strip_into(json, &mut out) { out.freeze() } else { json.clone() }
}

/// The same into a buffer, for streams. False, and nothing written, where there are none.
pub fn strip_into(json: &[u8], out: &mut BytesMut) -> bool {
    if memchr::memmem::find(json, b"\"logprobs\"").is_none() {
        return false;
    }
    let Ok(read) = serde_json::from_slice::<Choices<'_>>(json) else { return false };
    let base = json.as_ptr() as usize;
    let mut from = 0;
    // In the order of the bytes, since the choices are.
    for value in read.choices.iter().filter_map(|choice| choice.logprobs).map(RawValue::get).filter(|value| *value != "null") {
        let at = value.as_ptr() as usize - base;
        out.extend_from_slice(&json[from..at]);
        out.extend_from_slice(b"null");
        from = at + value.len();
    }
    if from > 0 {
        out.extend_from_slice(&json[from..]);
    }
    from > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::sse::Rewrite;

    #[test]
    fn only_the_choices_own_go() {
        for (json, expect) in [
            (
                r#"{"choices":[{"index":0,"logprobs":{"content":[{"logprob":-1}]},"message":{}}],"x":1}"#,
                r#"{"choices":[{"index":0,"logprobs":null,"message":{}}],"x":1}"#,
            ),
            (
                r#"{"choices":[{"logprobs": [1] },{"logprobs":null},{"a":{"logprobs":1},"logprobs":2}],"logprobs":3}"#,
                r#"{"choices":[{"logprobs": null },{"logprobs":null},{"a":{"logprobs":1},"logprobs":null}],"logprobs":3}"#,
            ),
            (
                r#"{"choices":[{"message":{"content":"\"logprobs\":{}"}}]}"#,
                r#"{"choices":[{"message":{"content":"\"logprobs\":{}"}}]}"#,
            ),
            (r#"{"choices":[{"logprobs":{"#, r#"{"choices":[{"logprobs":{"#),
            ("", ""),
        ] {
            assert_eq!(strip(&Bytes::from(json)), expect, "{json}");
        }
    }

    #[test]
    fn a_stream_is_the_same_in_any_portions() {
        let stream = "data: {\"choices\":[{\"logprobs\":{\"content\":[]},\"delta\":{}}]}\r\n\r\n: ping\n\ndata:{\"choices\":[{\"logprobs\":null}]}\n\ndata: [DONE]\n\ndata: {\"cho";
        let expect = "data: {\"choices\":[{\"logprobs\":null,\"delta\":{}}]}\r\n\r\n: ping\n\ndata:{\"choices\":[{\"logprobs\":null}]}\n\ndata: [DONE]\n\ndata: {\"cho";
        for at in 0..=stream.len() {
            let mut strip = Rewrite::new(strip_into);
            let mut out = [strip.feed(&stream.as_bytes()[..at]), strip.feed(&stream.as_bytes()[at..])].concat();
            out.extend_from_slice(&strip.rest());
            assert_eq!(String::from_utf8_lossy(&out), expect, "cut at {at}");
        }
    }
}
