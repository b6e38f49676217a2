//! What a client has seen of a cell, held to what the table says.
//!
//! **Invariant:** an answer names the request that it belongs to in each of its events, so that two can never pass for one.

use tests::link::{Stop, Weather};
use tests::{Answer, sse};

use super::cell::{Cell, EVENTS, FINISH, Trouble};
use super::table::{Sees, THEIR_CODE};

/// What the answer is at first sight.
pub(crate) fn told(answer: &Answer) -> Sees {
    match answer.status {
        200 if answer.text().contains("\"error\"") => Sees::Cut(""),
        200 => Sees::Whole,
        status => Sees::Told(status, ""),
    }
}

pub(crate) fn is_seen(cell: &Cell, answer: &Answer, expected: Sees) {
    let text = answer.text();
    assert!(answer.whole, "the host's own framing is not sound: {} {text}", answer.status);
    match expected {
        Sees::Told(status, code) => {
            assert_eq!(answer.status, status, "{text}");
            // A connection that ends with its beginning is one that was none, or one that broke: who sees it first says.
            let early = matches!(cell.trouble, Trouble::Weather(Weather { stop: Some(Stop { after: 0, .. }), .. }));
            assert!(answer.code() == code || early && answer.code() == "upstream_unreachable", "{text}");
        }
        Sees::Whole if cell.streamed => {
            assert_eq!(answer.status, 200, "{text}");
            let story = Story::of(answer);
            assert!(story.is_one() && story.content == story.whole, "not one whole answer: {text}");
            assert_eq!((story.events, story.done, story.finished), (EVENTS, true, true), "{text}");
            assert_eq!(story.error, None, "{text}");
        }
        Sees::Whole => {
            assert_eq!(answer.status, 200, "{text}");
            let number = answer.json()["id"].as_str().unwrap_or_default().replace("chatcmpl-", "");
            assert_eq!(answer.content(), format!("Answer {number} of m to: hi"));
        }
        Sees::Cut(_) | Sees::Theirs => {
            assert_eq!(answer.status, 200, "{text}");
            let story = Story::of(answer);
            let code = if let Sees::Cut(code) = expected { code } else { THEIR_CODE };
            assert_eq!(story.error.as_deref(), Some(code), "{text}");
            assert_eq!(story.events, cell.passed + 1, "whole events, and the error: {text}");
            assert!((cell.passed == 0 || story.is_one()) && story.whole.starts_with(&story.content), "{text}");
            assert_eq!((story.done, story.finished), (false, cell.passed > FINISH), "{text}");
        }
    }
}

/// What a stream has told.
struct Story {
    events: usize,
    /// The answers that its events belong to.
    ids: Vec<String>,
    /// How often it began.
    begins: usize,
    content: String,
    /// What it has to say by what it calls itself.
    whole: String,
    finished: bool,
    done: bool,
    error: Option<String>,
}

impl Story {
    /// Reads a stream. `[DONE]` and an error are at its end and nowhere else, and it finishes once.
    fn of(answer: &Answer) -> Self {
        let (events, chunks) = (sse::events(&answer.body), sse::chunks(&answer.body));
        let last = |is: &dyn Fn(&str) -> bool| {
            let at: Vec<usize> = events.iter().enumerate().filter(|(_, event)| is(event)).map(|(at, _)| at).collect();
            assert!(at.is_empty() || at == [events.len() - 1], "not once, at the end: {}", answer.text());
            !at.is_empty()
        };
        let done = last(&|event| event == "[DONE]");
        last(&|event| event.contains("\"error\""));
        let of = |pointer: &str| -> Vec<String> {
            chunks.iter().filter_map(|chunk| chunk.pointer(pointer)?.as_str().map(str::to_owned)).collect()
        };
        let mut ids = of("/id");
        ids.dedup();
        let finishes = of("/choices/0/finish_reason");
        assert!(finishes.is_empty() || finishes == ["stop"], "{finishes:?}");
        let number = ids.first().map(|id| id.replace("chatcmpl-", "")).unwrap_or_default();
        Self {
            events: events.len(),
            ids,
            begins: of("/choices/0/delta/role").len(),
            content: of("/choices/0/delta/content").concat(),
            whole: format!("Answer {number} of m to: hi"),
            finished: !finishes.is_empty(),
            done,
            error: of("/error/code").pop(),
        }
    }

    /// One answer, that began once.
    fn is_one(&self) -> bool {
        (self.ids.len(), self.begins) == (1, 1)
    }
}
