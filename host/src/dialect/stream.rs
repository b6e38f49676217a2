//! A streamed answer: watched as its bytes pass, put together when it is whole, and played back from the cache.
//!
//! What it does not do: it never holds the stream up; [`Tap`] looks at copies of nothing but what it needs.
//!
//! **Invariant:** an answer that was cut is never taken for a whole one.
//! **Invariant:** what `assemble` makes and `replay` plays back says the same as the stream did.

mod assemble;
pub mod part;
pub mod replay;
pub mod said;

use bytes::Bytes;
use memchr::memmem;

use super::answer::Usage;
use super::sse::Reader;

pub use assemble::{assemble, gist};
use said::Said;

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With `[DONE]`, or with a reason to finish and a clean end.
    Whole,
    /// Without either: something between here and the model broke.
    Cut,
    /// With an error event of the upstream's own.
    Error,
}

/// Watches a stream.
#[derive(Debug, Default)]
pub struct Tap {
    reader: Reader,
    seen: Seen,
    /// The bytes so far, where somebody wants the whole answer and it is not too long.
    copy: Option<Vec<Vec<u8>>>,
    copied: usize,
    limit: usize,
    /// Its text, where somebody may have to go on with it.
    said: Option<Said>,
    /// Where in the last portion the event begins that says that the server has failed.
    failed_at: Option<usize>,
}

#[derive(Debug, Default)]
struct Seen {
    done: bool,
    /// The choices that have a reason to finish, a bit for each.
    finished: u128,
    /// How many were asked for.
    choices: u32,
    error: bool,
    /// The error is the server's, in the middle of its answer: another one may do better.
    failed: bool,
    usage: Option<Usage>,
    events: u32,
}

impl Tap {
    /// A tap; with a limit above zero it keeps the stream's bytes for [`assemble()`] unless there are more than that.
    pub fn new(limit: usize) -> Self {
        Self { copy: (limit > 0).then(Vec::new), limit, ..Self::default() }
    }

    /// With its text remembered, so that it can be gone on with.
    #[must_use]
    pub fn listening(mut self, wanted: bool) -> Self {
        self.said = wanted.then(Said::default);
        self
    }

    /// Of so many choices that were asked for: it is whole when each of them is.
    #[must_use]
    pub fn of_choices(mut self, asked: usize) -> Self {
        self.seen.choices = u32::try_from(asked).unwrap_or(u32::MAX);
        self
    }

    /// What was said, if it is remembered.
    pub fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }

    /// Another stream goes on with what this one has said. Gives back in how many events it was said since the last seam.
    pub fn goes_on(&mut self) -> u32 {
        let seen = Seen { choices: self.seen.choices, ..Seen::default() };
        (self.reader, self.copy, self.seen, self.failed_at) = (Reader::default(), None, seen, None);
        self.said.as_mut().map_or(0, Said::take_events)
    }

    /// Looks at the next portion. Gives back how many of its bytes are complete events.
    pub fn feed(&mut self, portion: &Bytes) -> usize {
        let (had_failed, mut complete, mut rest) = (self.seen.failed, 0, &portion[..]);
        self.failed_at = None;
        while !rest.is_empty() {
            // Where an event begins matters to those who go on alone, and events have lines.
            let (line, behind) = if self.said.is_some() { first_line(rest) } else { (rest, &[][..]) };
            let (seen, said) = (&mut self.seen, &mut self.said);
            let events = self.reader.feed(line, &mut |data| {
                seen.event(data);
                if let Some(said) = said.as_mut().filter(|_| !seen.done && !seen.error) {
                    said.event(data);
                }
            });
            if self.seen.failed && !had_failed {
                self.failed_at.get_or_insert(complete);
            }
            if events > 0 {
                complete = portion.len() - rest.len() + events;
            }
            rest = behind;
        }
        if let Some(said) = self.said.as_mut().filter(|_| self.reader.overflowed()) {
            said.missed();
        }
        self.keep(portion);
        complete
    }

    /// The bytes themselves: a slice of the connection's read buffer would keep all of that. In pieces that grow with what is
    /// there, since one that doubles would take three times the memory while it does.
    fn keep(&mut self, portion: &[u8]) {
        self.copied += portion.len();
        let Some(copy) = self.copy.as_mut().filter(|_| self.copied <= self.limit) else { return self.copy = None };
        match copy.last_mut() {
            Some(last) if last.capacity() - last.len() >= portion.len() => last.extend_from_slice(portion),
            _ => {
                let mut next = Vec::with_capacity(portion.len().max((self.copied / 4).clamp(1 << 10, 256 << 10)));
                next.extend_from_slice(portion);
                copy.push(next);
            }
        }
    }

    /// Has `[DONE]` come? Nothing of the answer follows it.
    pub fn is_done(&self) -> bool {
        self.seen.done
    }

    /// Where in the last portion an event begins that says that the server has failed; exact only while it is listening.
    pub fn failed_at(&self) -> Option<usize> {
        self.failed_at
    }

    /// Can another stream go on behind what was said? Not behind an answer's end, nor behind an error that has gone on.
    pub fn is_unfinished(&self) -> bool {
        self.failed_at.is_some() || self.end() == End::Cut
    }

    /// How many events have come, `[DONE]` not among them.
    pub fn events(&self) -> u32 {
        self.seen.events
    }

    /// Was an event too long to be read?
    pub fn has_overflowed(&self) -> bool {
        self.reader.overflowed()
    }

    /// How it ended, when its bytes have ended.
    pub fn end(&self) -> End {
        match (self.seen.error, self.seen.done || self.seen.is_finished()) {
            (true, _) => End::Error,
            (false, true) => End::Whole,
            (false, false) => End::Cut,
        }
    }

    /// Usage, if the upstream has told it.
    pub fn usage(&self) -> Option<Usage> {
        self.seen.usage
    }

    /// The stream's bytes so far, if they are kept.
    pub fn copy(&self) -> Option<Vec<u8>> {
        self.copy.as_ref().map(|pieces| pieces.concat())
    }

    /// The stream's bytes, if they were kept.
    pub fn take_copy(&mut self) -> Option<Vec<u8>> {
        self.copy.take().map(|pieces| pieces.concat())
    }
}

impl Seen {
    /// Has each choice that was asked for a reason to finish?
    fn is_finished(&self) -> bool {
        self.finished.count_ones() >= self.choices.clamp(1, u128::BITS)
    }

    /// Most events are one more piece of text: three searches, no parse.
    fn event(&mut self, data: &[u8]) {
        self.done |= data == b"[DONE]";
        if self.done {
            return;
        }
        self.events += 1;
        if memmem::find_iter(data, b"\"finish_reason\"").any(|at| !value_at(data, at).starts_with(b"null")) {
            #[derive(serde::Deserialize)]
            struct Chunk<'a> {
                #[serde(borrow, default)]
                choices: Vec<Choice<'a>>,
            }
            #[derive(serde::Deserialize)]
            struct Choice<'a> {
                #[serde(default)]
                index: u32,
                #[serde(borrow, default)]
                finish_reason: Option<std::borrow::Cow<'a, str>>,
            }
            let has_reason = |choice: &Choice<'_>| choice.finish_reason.as_ref().is_some_and(|reason| !reason.is_empty());
            // The words may be the model's own, and some servers write an empty reason into each chunk.
            let chunk = serde_json::from_slice::<Chunk<'_>>(data);
            let finished = chunk.iter().flat_map(|chunk| &chunk.choices).filter(|choice| has_reason(choice));
            self.finished |= finished.fold(0, |all, choice| all | 1 << choice.index.min(u128::BITS - 1));
        }
        if let Some(at) = memmem::find(data, b"\"usage\"")
            && value_at(data, at).starts_with(b"{")
        {
            #[derive(serde::Deserialize)]
            struct Chunk {
                usage: Option<Usage>,
            }
            self.usage = serde_json::from_slice::<Chunk>(data).ok().and_then(|chunk| chunk.usage).or(self.usage);
        }
        if let Some(is_servers) = error(data) {
            self.failed |= is_servers && !self.error && !self.is_finished();
            self.error = true;
        }
    }
}

/// The first line with its end, and what follows.
fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let Some(end) = memchr::memchr2(b'\n', b'\r', bytes) else { return (bytes, &[]) };
    let both = usize::from(bytes[end..].starts_with(b"\r\n"));
    bytes.split_at(end + 1 + both)
}

/// The error that an event's data, or a plain answer, is (the word may be the model's; only a top-level field is one): the server's (true), or the request's, which would fail at another one as well. Once an answer has begun that
/// is a filter's mostly, and servers say it in too many words to know them all: what is not known is the server's.
pub fn error(data: &[u8]) -> Option<bool> {
    #[derive(serde::Deserialize)]
    struct Failed {
        #[serde(default)]
        error: serde_json::Value,
        #[serde(default)]
        object: serde_json::Value,
    }
    memmem::find(data, b"\"error\"")?;
    let Failed { error, object } = serde_json::from_slice(data).ok()?;
    let error = match error {
        // Some servers write the field into each chunk.
        serde_json::Value::Null | serde_json::Value::Bool(false) => None,
        serde_json::Value::String(text) if text.is_empty() => None,
        serde_json::Value::Object(fields) if fields.is_empty() => None,
        error => Some(error),
    };
    // And some are one altogether.
    let error = error.or_else(|| (object == "error").then(|| serde_json::from_slice(data).ok()).flatten())?;
    let word =
        |name: &str| error.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_ascii_lowercase));
    let status = ["code", "status", "status_code"].iter().filter_map(|name| word(name)?.parse::<u16>().ok()).next();
    const REQUESTS: [&str; 7] = ["invalid", "content", "filter", "policy", "safety", "moderation", "context_length"];
    let is_requests = |said: String| REQUESTS.iter().any(|word| said.contains(word));
    Some(match status {
        Some(status) => !(400..500).contains(&status) || matches!(status, 408 | 429),
        None => !["code", "type"].into_iter().filter_map(word).any(is_requests),
    })
}

/// What stands behind a name and its colon.
fn value_at(data: &[u8], name: usize) -> &[u8] {
    let rest = &data[name..];
    let colon = memchr::memchr(b':', rest).map_or(rest.len(), |at| at + 1);
    rest[colon..].trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_several_choices_needs_a_reason_to_finish() {
        let reason =
            |index: u32| Bytes::from(format!("data: {{\"choices\":[{{\"index\":{index},\"finish_reason\":\"stop\"}}]}}\n\n"));
        let mut tap = Tap::new(0).of_choices(2);
        tap.feed(&reason(1));
        tap.feed(&reason(1));
        assert_eq!(tap.end(), End::Cut);
        tap.feed(&reason(0));
        assert_eq!(tap.end(), End::Whole);
        let mut tap = Tap::new(0).of_choices(2);
        tap.feed(&reason(0));
        tap.feed(&Bytes::from_static(b"data: [DONE]\n\n"));
        assert_eq!(tap.end(), End::Whole, "whoever says that it is done knows");
    }

    #[test]
    fn endings() {
        let cases: [(&str, End); 12] = [
            ("data: {\"choices\":[{\"delta\":{\"content\":\"finish_reason\"},\"finish_reason\":null}]}\n\n", End::Cut),
            ("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"finish_reason\\\":1\"},\"finish_reason\":null}]}\n\n", End::Cut),
            ("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"\"}]}\n\n", End::Cut),
            (
                "data: {\"choices\":[{\"index\":0,\"finish_reason\":null},{\"index\":1,\"finish_reason\":\"stop\"}]}\n\n",
                End::Whole,
            ),
            ("data: {\"choices\":[{\"delta\":{},\"finish_reason\":null}]}\n\n", End::Cut),
            ("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", End::Whole),
            ("data: {\"choices\":[]}\n\ndata: [DONE]\n\n", End::Whole),
            ("data: {\"choices\":[]}\n\ndata: [DONE]", End::Cut),
            ("data: {\"error\":{\"message\":\"x\"}}\n\n", End::Error),
            ("data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n", End::Error),
            ("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\": [DONE]\"}}],\"error\":null}\n\n", End::Cut),
            ("", End::Cut),
        ];
        for (text, expect) in cases {
            let mut tap = Tap::new(0);
            tap.feed(&Bytes::from(text));
            assert_eq!(tap.end(), expect, "{text}");
        }
    }

    #[test]
    fn whose_error_it_is() {
        for (error, expect) in [
            (r#"{"message":"x"}"#, Some(true)),
            (r#""CUDA error""#, Some(true)),
            (r#"{"type":"InternalServerError","code":500}"#, Some(true)),
            (r#"{"type":"server_error","code":null}"#, Some(true)),
            (r#"{"type":"overloaded_error"}"#, Some(true)),
            (r#"{"type":"x","code":"429"}"#, Some(true)),
            (r#"{"type":"BadRequestError","code":400}"#, Some(false)),
            (r#"{"type":"invalid_request_error","code":"content_filter"}"#, Some(false)),
            (r#"{"code":"content_filter"}"#, Some(false)),
            ("null", None),
        ] {
            assert_eq!(super::error(format!(r#"{{"error":{error}}}"#).as_bytes()), expect, "{error}");
        }
    }

    /// Whoever goes on must know which bytes were the failure's, however they are cut.
    #[test]
    fn where_a_failure_begins() {
        let said = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}";
        let failure = "data: {\"error\":{\"code\":500}}";
        for end in ["\n\n", "\r\n\r\n", "\r\r"] {
            let stream = format!("{said}{end}{said}{end}{failure}{end}data: [DONE]{end}");
            let begins = 2 * (said.len() + end.len());
            for cut in 0..stream.len() {
                let mut tap = Tap::new(0).listening(true);
                // What has gone on, what waits for the rest of its event, and what had gone on when the failure came.
                let (mut passed, mut held, mut found) = (0, 0, None);
                for portion in [&stream[..cut], &stream[cut..]] {
                    let complete = tap.feed(&Bytes::copy_from_slice(portion.as_bytes()));
                    if let Some(at) = tap.failed_at() {
                        assert!(tap.is_unfinished() && found.is_none());
                        found = Some(if at > 0 { passed + held + at } else { passed });
                    }
                    (passed, held) = match complete {
                        0 => (passed, held + portion.len()),
                        _ => (passed + held + complete, portion.len() - complete),
                    };
                }
                // A line feed that comes after its carriage return is passed with what follows.
                assert!(
                    found.is_some_and(|found| found == begins || (stream.as_bytes()[found] == b'\n' && found + 1 == begins)),
                    "{end:?} {cut} {found:?}"
                );
                assert_eq!(tap.said().and_then(Said::so_far), Some(("aa", 2)));
            }
        }
    }

    /// What came in an event that is too long to be read was left out of what another endpoint went on with.
    #[test]
    fn what_was_missed_is_not_gone_on_with() {
        let mut tap = Tap::new(0).listening(true);
        let event = |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":{text:?}}}}}]}}\n\n");
        tap.feed(&Bytes::from(event("x")));
        assert_eq!(tap.said().and_then(Said::so_far), Some(("x", 1)));
        tap.feed(&Bytes::from(event(&"y".repeat(2 << 20))));
        tap.feed(&Bytes::from(event("z")));
        assert_eq!(tap.said().and_then(Said::so_far), None);
    }

    #[test]
    fn usage_is_taken_from_whichever_chunk_has_it() {
        let mut tap = Tap::new(100);
        tap.feed(&Bytes::from(
            "data: {\"usage\": null}\n\ndata: {\"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 4}}\n\n",
        ));
        assert_eq!(tap.usage().map(|usage| (usage.prompt_tokens, usage.completion_tokens)), Some((3, 4)));
        tap.feed(&Bytes::from(vec![b' '; 100]));
        assert_eq!(tap.take_copy(), None);
    }
}
