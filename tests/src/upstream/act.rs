//! What a [`super::FakeUpstream`] does with one request: an answer, and what goes wrong with it.
//!
//! **Invariant:** a fault's place is a byte of the answer's head or body, counted without the framing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// Opens once; whoever waits at it goes on.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everybody through.
    pub fn open(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A change of a completion.
pub(super) type Edit = Arc<dyn Fn(&mut Value) + Send + Sync>;

/// What is done with one request.
#[derive(Clone)]
pub struct Act {
    pub(super) what: What,
    pub(super) status: Option<u16>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) length: Option<usize>,
    pub(super) edit: Option<Edit>,
    pub(super) delay: Duration,
    pub(super) pace: Duration,
    pub(super) times: usize,
    pub(super) faults: Vec<(Place, Fault)>,
}

/// Where in an answer something goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// After so many bytes of its head.
    Head(usize),
    /// After so many bytes of its body.
    Body(usize),
    /// In a piece of its body (an event of a stream, the first is 0), after so many bytes of it.
    Piece(usize, usize),
    /// So many bytes before the body's end; what frames it comes after all of them.
    BeforeEnd(usize),
}

/// What goes wrong there.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is closed.
    Cut,
    /// The connection is reset.
    Reset,
    /// Nothing more is said, until the gate opens.
    Hold(Gate),
    /// The way back is closed, and the way there is not: half a connection, until the client leaves.
    HalfOpen,
    /// A pause, after which all goes on as if nothing had happened.
    Pause(Duration),
    /// From here on a few bytes at a time.
    Dribble,
    /// Bytes that are neither HTTP nor part of the answer, and the connection's end.
    Garbage,
    /// This event, and the orderly end of the stream.
    Event(&'static str),
}

#[derive(Clone)]
pub(super) enum What {
    /// What a model would answer: a completion or a stream of one, embeddings on their path.
    Answer,
    /// A completion with this text.
    Say(String),
    Bytes {
        kind: &'static str,
        pieces: Vec<Vec<u8>>,
    },
    /// No HTTP of ours at all.
    Raw(Vec<u8>),
}

impl Default for Act {
    fn default() -> Self {
        Self {
            what: What::Answer,
            status: None,
            headers: Vec::new(),
            length: None,
            edit: None,
            delay: Duration::ZERO,
            pace: Duration::ZERO,
            times: 1,
            faults: Vec::new(),
        }
    }
}

impl Act {
    /// The deterministic answer; it names its own number, the model and the question.
    pub fn answer() -> Self {
        Self::default()
    }

    /// A completion with this text.
    pub fn say(text: impl Into<String>) -> Self {
        Self { what: What::Say(text.into()), ..Self::default() }
    }

    /// A body of this kind, sent in these pieces.
    pub fn body(kind: &'static str, pieces: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> Self {
        Self { what: What::Bytes { kind, pieces: pieces.into_iter().map(Into::into).collect() }, ..Self::default() }
    }

    /// A JSON body.
    pub fn json(value: &Value) -> Self {
        Self::body("application/json", [value.to_string()])
    }

    /// A stream of these events, as they are.
    pub fn events(events: impl IntoIterator<Item = impl std::fmt::Display>) -> Self {
        Self::body("text/event-stream", events.into_iter().map(|event| format!("data: {event}\n\n")))
    }

    /// A refusal in OpenAI's words.
    pub fn refuse(status: u16, code: &str) -> Self {
        Self::json(&json!({ "error": { "message": format!("the upstream says {code}"), "type": "upstream_error", "param": null, "code": code } })).status(status)
    }

    /// These bytes and the end of the connection, instead of HTTP.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { what: What::Raw(bytes.into()), ..Self::default() }
    }

    /// No answer at all: the connection stays open until the client leaves.
    pub fn silent() -> Self {
        Self::raw(Vec::new()).hold_at(0, &Gate::new())
    }

    /// With another status than 200.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a `content-length` that need not be true.
    #[must_use]
    pub fn length(mut self, length: usize) -> Self {
        self.length = Some(length);
        self
    }

    /// With a completion that was changed before it is sent, plain or streamed.
    #[must_use]
    pub fn edit(mut self, edit: impl Fn(&mut Value) + Send + Sync + 'static) -> Self {
        self.edit = Some(Arc::new(edit));
        self
    }

    /// Ended for this reason.
    #[must_use]
    pub fn finish(self, reason: &'static str) -> Self {
        self.edit(move |completion| completion["choices"][0]["finish_reason"] = reason.into())
    }

    /// Begins only after this long.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Waits this long between two pieces of its body.
    #[must_use]
    pub fn pace(mut self, pace: Duration) -> Self {
        self.pace = pace;
        self
    }

    /// Sends its body so many times, one after the other: a stream that is longer than memory.
    #[must_use]
    pub fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }

    /// Closes the connection in the middle of the answer.
    #[must_use]
    pub fn cut_at(self, byte: usize) -> Self {
        self.at(Place::Body(byte), Fault::Cut)
    }

    /// Resets the connection in the middle of the answer.
    #[must_use]
    pub fn reset_at(self, byte: usize) -> Self {
        self.at(Place::Body(byte), Fault::Reset)
    }

    /// Says nothing more from this byte on, until the gate opens.
    #[must_use]
    pub fn hold_at(self, byte: usize, gate: &Gate) -> Self {
        self.at(Place::Body(byte), Fault::Hold(gate.clone()))
    }

    /// Says nothing more from this byte on.
    #[must_use]
    pub fn stall_at(self, byte: usize) -> Self {
        self.hold_at(byte, &Gate::new())
    }

    /// Goes wrong at a place; several faults come in the order in which they are given.
    #[must_use]
    pub fn at(mut self, place: Place, fault: Fault) -> Self {
        self.faults.push((place, fault));
        self
    }
}
