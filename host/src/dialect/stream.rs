//! A streamed answer: watched as its bytes pass, put together when it is whole, and played back from the cache.
//!
//! What it does not do: it never holds the stream up; [`Tap`] looks at copies of nothing but what it needs.
//!
//! **Invariant:** an answer that was cut is never taken for a whole one.
//! **Invariant:** what `assemble` makes and `replay` plays back says the same as the stream did.

mod assemble;
pub mod part;
mod replay;
pub mod said;

use bytes::Bytes;
use memchr::memmem;

use super::answer::Usage;
use super::sse::Reader;

pub use assemble::{assemble, gist};
pub use replay::replay;
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
}

#[derive(Debug, Default)]
struct Seen {
    done: bool,
    finished: bool,
    error: bool,
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

    /// What was said, if it is remembered.
    pub fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }

    /// Another stream goes on with what this one has said. Gives back in how many events it was said since the last seam.
    pub fn goes_on(&mut self) -> u32 {
        (self.reader, self.copy, self.seen) = (Reader::default(), None, Seen::default());
        self.said.as_mut().map_or(0, Said::take_events)
    }

    /// Looks at the next portion. Gives back how many of its bytes are complete events.
    pub fn feed(&mut self, portion: &Bytes) -> usize {
        let (seen, said) = (&mut self.seen, &mut self.said);
        let complete = self.reader.feed(portion, &mut |data| {
            seen.event(data);
            if let Some(said) = said.as_mut().filter(|_| !seen.done && !seen.error) {
                said.event(data);
            }
        });
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
        match (self.seen.error, self.seen.done || self.seen.finished) {
            (true, _) => End::Error,
            (false, true) => End::Whole,
            (false, false) => End::Cut,
        }
    }

    /// Usage, if the upstream has told it.
    pub fn usage(&self) -> Option<Usage> {
        self.seen.usage
    }

    /// The stream's bytes, if they were kept.
    pub fn take_copy(&mut self) -> Option<Vec<u8>> {
        self.copy.take().map(|pieces| pieces.concat())
    }
}

impl Seen {
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
                #[serde(borrow, default)]
                finish_reason: Option<std::borrow::Cow<'a, str>>,
            }
            let has_reason = |choice: &Choice<'_>| choice.finish_reason.as_ref().is_some_and(|reason| !reason.is_empty());
            // The words may be the model's own, and some servers write an empty reason into each chunk.
            self.finished |= serde_json::from_slice::<Chunk<'_>>(data).is_ok_and(|chunk| chunk.choices.iter().any(has_reason));
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
        self.error |= is_error(data);
    }
}

/// Does an event's data say that the upstream has failed? The word may be the model's; only a top-level field is an error.
pub fn is_error(data: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Failed {
        error: Option<serde::de::IgnoredAny>,
    }
    memmem::find(data, b"\"error\"").is_some()
        && serde_json::from_slice::<Failed>(data).is_ok_and(|failed| failed.error.is_some())
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
