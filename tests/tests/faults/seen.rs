//! What a client has seen of a cell, held to what the table says.
//!
//! **Invariant:** an answer names the request that it belongs to in each of its events, so that two can never pass for one; and where
//! another one goes on, each word shows who said it, and in which place.

use tests::{Answer, sse};

use super::cell::{Cell, DOUBTED};
use super::table::{Cascade, EVENTS, FINISH, Sees, THEIR_CODE};

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
    let doubted = matches!(cell.policy.cascade, Some(Cascade::Second));
    let escalated = if expected == Sees::Kept { "logprob, kept" } else { "logprob" };
    assert_eq!(answer.header("x-pointsman-escalated"), doubted.then_some(escalated), "{text}");
    if let Sees::Told(status, code) = expected {
        assert_eq!(answer.status, status, "{text}");
        // A connection that ends with its beginning is one that was none, or one that broke: who sees it first says.
        let early = cell.weather.iter().any(|weather| weather.stop.is_some_and(|stop| stop.after == 0));
        assert!(answer.code() == code || early && answer.code() == "upstream_unreachable", "{text}");
        return;
    }
    assert_eq!(answer.status, 200, "{text}");
    assert!(!text.contains("\"logprob\""), "nobody has asked for them: {text}");
    if !cell.streamed {
        let id = answer.json()["id"].as_str().unwrap_or_default().to_owned();
        return assert_eq!(answer.content(), words_of(&id, expected).concat());
    }
    let story = Story::of(answer, expected);
    match expected {
        Sees::Cut(_) | Sees::Theirs => {
            let code = if let Sees::Cut(code) = expected { code } else { THEIR_CODE };
            assert_eq!(story.error.as_deref(), Some(code), "{text}");
            assert_eq!(
                (story.events, story.seams),
                (cell.passed + cell.seams + 1, cell.seams),
                "whole events, and the error: {text}"
            );
            assert!(cell.passed == 0 || story.is_one(), "{text}");
            assert_eq!((story.done, story.finished), (false, cell.passed > FINISH + cell.seams), "{text}");
        }
        _ => {
            let seams = cell.seams + usize::from(expected == Sees::Continued);
            // Each half has an event for its role.
            assert_eq!((story.events, story.seams), (EVENTS + 2 * seams, seams), "{text}");
            assert!(story.is_one() && story.words == 6, "not one whole answer: {text}");
            assert_eq!((story.done, story.finished, story.error), (true, true, None), "{text}");
        }
    }
}

/// What the answer of this id has to say.
fn words_of(id: &str, expected: Sees) -> Vec<String> {
    let whole = match expected {
        Sees::Kept => DOUBTED.to_owned(),
        _ => format!("Answer {} of m to: hi", id.replace("chatcmpl-", "")),
    };
    whole.split_inclusive(' ').map(str::to_owned).collect()
}

/// What a stream has told.
struct Story {
    events: usize,
    /// The answers that its events belong to.
    ids: Vec<String>,
    /// How often it began.
    begins: usize,
    /// Where another one went on.
    seams: usize,
    words: usize,
    finished: bool,
    done: bool,
    error: Option<String>,
}

impl Story {
    /// Reads a stream. Each word stands where it belongs, `[DONE]` and an error are at its end and nowhere else, and it finishes once.
    fn of(answer: &Answer, expected: Sees) -> Self {
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
        // A seam belongs to no half.
        let is_seam = |chunk: &serde_json::Value| chunk["x_pointsman"]["continued"] == true;
        let halves = chunks.iter().filter(|chunk| !is_seam(chunk));
        let mut ids: Vec<_> = halves.filter_map(|chunk| chunk["id"].as_str().map(str::to_owned)).collect();
        ids.dedup();
        let finishes = of("/choices/0/finish_reason");
        assert!(finishes.is_empty() || finishes == ["stop"], "{finishes:?}");
        let said = chunks.iter().filter_map(|chunk| {
            let word = chunk.pointer("/choices/0/delta/content")?.as_str().filter(|word| !word.is_empty())?;
            Some((chunk["id"].as_str()?, word))
        });
        let mut words = 0;
        for (id, word) in said {
            assert_eq!(words_of(id, expected).get(words).map(String::as_str), Some(word), "word {words}: {}", answer.text());
            words += 1;
        }
        Self {
            events: events.len(),
            ids,
            begins: of("/choices/0/delta/role").len(),
            seams: chunks.iter().filter(|chunk| is_seam(chunk)).count(),
            words,
            finished: !finishes.is_empty(),
            done,
            error: of("/error/code").pop(),
        }
    }

    /// One answer, that began once, and belongs to as many as have gone on with it.
    fn is_one(&self) -> bool {
        (self.ids.len(), self.begins) == (1 + self.seams, 1)
    }
}
