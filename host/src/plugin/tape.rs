//! What the plugins of one exchange are told and what they answer: kept for [`explain`](crate::admin) and for recordings, and given
//! again in a replay.
//!
//! A tape is one of three. A *story* keeps who was called and what was decided. A *recording* keeps all that a call hangs on as well:
//! its arguments, and the result of each import that is more than a function of the exchange. A *replay* gives those results again, and
//! keeps what is decided now.
//!
//! What it does not do: it writes no file (`record::recording`) and compares nothing (`replay`).
//!
//! **Invariant:** without a tape a call costs one look at an `Option` more, and no allocation.
//! **Invariant:** in a replay an answer hangs on the recording alone: on no clock, no store, no embedder of the machine that replays.

mod known;
mod play;
mod recorded;
mod room;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bindings::caching::Candidate;
use super::bindings::routing::{Attempt, Batch};
use super::bindings::types::{PromptRef, RequestHead};
use super::load::{Hook, Plugin};
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::stream::part::Part;
use play::Player;
pub(super) use play::{Blob, Call as Question};
pub use recorded::{Attempted, FORMAT, Facts, Heard, Outcome, Recorded, Seen, Snapshot, Valued};
use room::Room;
pub use room::weight;

/// Calls of one exchange that are kept, those about parts of its answer aside. An exchange has at most 16 attempts; more than this is a plugin
/// chain that no one reads.
const MAX_CALLS: usize = 128;

/// A function that a component exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// `prompting.select`
    Select,
    /// `caching.key`
    Key,
    /// `caching.confirm`
    Confirm,
    /// `caching.admit`
    Admit,
    /// `routing.route`
    Route,
    /// `routing.after-attempt`
    AfterAttempt,
    /// `routing.on-chunk`
    OnChunk,
}

impl Function {
    /// The name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Key => "key",
            Self::Confirm => "confirm",
            Self::Admit => "admit",
            Self::Route => "route",
            Self::AfterAttempt => "after-attempt",
            Self::OnChunk => "on-chunk",
        }
    }

    /// The hook that it belongs to.
    pub fn hook(self) -> Hook {
        match self {
            Self::Select => Hook::Prompting,
            Self::Key | Self::Confirm | Self::Admit => Hook::Caching,
            Self::Route | Self::AfterAttempt | Self::OnChunk => Hook::Routing,
        }
    }
}

/// Names and values.
pub type Labels = Vec<(String, String)>;

/// One call of one plugin.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Call {
    /// Its name in the configuration.
    pub plugin: String,
    /// SHA-256 of the component, as hexadecimal digits.
    pub digest: String,
    /// What was called.
    pub function: Function,
    /// Microseconds from the exchange's beginning to the call.
    pub at_us: u64,
    /// How long it took.
    pub took_us: u64,
    /// What it was told; none in a story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// What it asked the host, in its order; empty in a story.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<Import>,
    /// What came of it.
    pub said: Said,
    /// The decision did not fit the request, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
    /// Labels that it has left, those of its decision not among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
}

impl Call {
    /// The labels that come with its decision.
    pub fn decided_labels(&self) -> Labels {
        let mut all = Labels::new();
        let Said::Decided(decision) = &self.said else { return all };
        let read = |at: &str| decision.pointer(at).and_then(|labels| serde_json::from_value::<Labels>(labels.clone()).ok());
        all.extend(["/Plan/labels", "/Choose/labels", "/Rewrite/choice/labels"].into_iter().filter_map(read).flatten());
        for choice in ["/Choose/experiment", "/Rewrite/choice/experiment"].into_iter().filter_map(|at| decision.pointer(at)) {
            if let Ok((experiment, arm)) = serde_json::from_value(choice.clone()) {
                all.extend([("experiment".to_owned(), experiment), ("arm".to_owned(), arm)]);
            }
        }
        all
    }

    /// It was about part of an answer, and the answer went on.
    pub fn lets_pass(&self) -> bool {
        self.function == Function::OnChunk
            && matches!(&self.said, Said::Decided(step) if step == "GoOn")
            && self.labels.is_empty()
    }
}

/// A call's arguments, beside the exchange's head.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// The prompt in the head: one that was chosen meanwhile, or the client's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<PromptRef>,
    /// The request, by its place among those of the exchange.
    pub request: usize,
    /// The answer, the same way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<usize>,
    /// More of the answer was to come.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// `after-attempt`: the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// `confirm`: the near hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hit: Option<Candidate>,
    /// `on-chunk`: where the part stands in the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// The part, by its place among those of the exchange.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<usize>,
    /// The labels of the exchange by then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, String)>,
}

/// A question to the host whose answer is no function of the exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Import {
    /// Interface and function, such as `kv.get`.
    pub call: String,
    /// Its arguments.
    pub args: Value,
    /// Its result.
    pub result: Value,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// It is under way.
    Nothing,
    /// The answer, in the contract's words.
    Decided(Value),
    /// The call failed.
    Failed {
        /// As in logs and metrics.
        cause: String,
        /// In words.
        reason: String,
    },
    /// It was not called, because it is left alone after failures.
    Skipped,
}

impl Said {
    /// Bytes that it takes, about.
    fn weight(&self) -> usize {
        match self {
            Self::Decided(value) => weight(value),
            Self::Failed { reason, .. } => reason.len(),
            Self::Nothing | Self::Skipped => 0,
        }
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Who was called, and what was decided.
    Story,
    /// All that a decision hangs on.
    Recording,
}

/// What a recording has beside the calls.
#[derive(Debug, Default)]
pub struct Kept {
    /// What every call was told of the request.
    pub head: Option<RequestHead>,
    /// The calls, in their order.
    pub calls: Vec<Call>,
    /// The requests that they were shown: the client's, and what became of it.
    pub requests: Vec<Arc<ChatRequest>>,
    /// The answers that they were shown.
    pub answers: Vec<Arc<Answer>>,
    /// Parts of answers that they were shown.
    pub parts: Vec<Arc<Part>>,
    /// Further parts had no place.
    pub cut: bool,
    /// There is more than may be kept of one exchange: it is not to be recorded.
    pub too_large: bool,
    /// Bytes of all that, about.
    pub bytes: usize,
    /// Questions to the host that no record answers, by name. A replay's alone.
    pub unknown: Vec<String>,
}

/// What a call is shown beside the request.
#[derive(Default)]
pub(super) struct Shown<'a> {
    pub(super) answer: Option<&'a Arc<Answer>>,
    pub(super) partial: bool,
    pub(super) attempt: Option<&'a Attempt>,
    pub(super) hit: Option<&'a Candidate>,
    pub(super) part: Option<(&'a Batch, &'a Arc<Part>)>,
}

/// A tape. One exchange's plugins are asked one after the other, so the lock is never waited for.
#[derive(Debug)]
pub struct Tape {
    depth: Depth,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: Kept,
    room: Room,
    player: Option<Player>,
}

impl Tape {
    /// A tape that keeps who was called, and what was decided.
    pub fn story() -> Self {
        Self { depth: Depth::Story, inner: Mutex::default() }
    }

    /// A tape that keeps all that a decision hangs on, in so many bytes. Where they are not enough it becomes one of the other kind.
    pub fn recording(most: usize) -> Self {
        let inner = Inner { room: Room::of(most), ..Inner::default() };
        Self { depth: Depth::Recording, inner: Mutex::new(inner) }
    }

    /// A tape that gives again what these calls were told.
    pub fn replay<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Self {
        let inner = Inner { player: Some(Player::of(calls)), ..Inner::default() };
        Self { depth: Depth::Story, inner: Mutex::new(inner) }
    }

    /// Does it keep all that a decision hangs on?
    pub fn is_recording(&self) -> bool {
        self.depth == Depth::Recording
    }

    /// Does it give again what was kept?
    pub(super) fn is_replay(&self) -> bool {
        self.inner().player.is_some()
    }

    /// What it has kept. It is empty afterwards.
    pub fn take(&self) -> Kept {
        let mut inner = self.inner();
        let bytes = inner.room.taken();
        Kept { bytes, ..std::mem::take(&mut inner.kept) }
    }

    /// The last call.
    pub fn last(&self) -> Option<Call> {
        self.inner().kept.calls.last().cloned()
    }

    /// A replay: from here on clocks show what this call was shown.
    pub fn turn_to(&self, call: &Call, received_at: u64) {
        if let Some(player) = &mut self.inner().player {
            player.turn_to(call, received_at);
        }
    }

    /// Plugins are about to see the exchange.
    pub(super) fn meets(&self, head: &RequestHead) {
        if self.is_recording() {
            self.inner().kept.head = Some(head.clone());
        }
    }

    /// A call begins.
    pub(super) fn begins(
        &self,
        plugin: &Plugin,
        function: Function,
        (at_us, prompt): (u64, Option<&PromptRef>),
        request: &Arc<ChatRequest>,
        shown: &Shown<'_>,
        labels: impl FnOnce() -> Vec<(String, String)>,
    ) {
        let mut inner = self.inner();
        if shown.part.is_none() && inner.kept.calls.iter().filter(|call| call.function != Function::OnChunk).count() >= MAX_CALLS
        {
            return inner.gives_up();
        }
        let mut told = None;
        if self.is_recording() && !inner.kept.too_large {
            if !inner.has_room_for(shown) {
                return;
            }
            told = inner.told(prompt, request, shown, labels());
        } else if shown.part.is_some() && inner.player.is_none() && inner.kept.calls.len() > 2 * MAX_CALLS {
            // Each has something to tell, and nobody reads so much.
            return;
        }
        let kept = &mut inner.kept;
        kept.calls.push(Call {
            plugin: plugin.name().to_owned(),
            digest: plugin.digest().to_owned(),
            function,
            at_us,
            took_us: 0,
            told,
            imports: Vec::new(),
            said: Said::Nothing,
            unfit: None,
            labels: Vec::new(),
        });
    }

    /// The call that is under way has come to its end.
    pub(super) fn ends(&self, took_us: u64, said: Said, labels: &[(String, String)]) {
        let mut inner = self.inner();
        let Inner { kept, room, player } = &mut *inner;
        let Some(call) = kept.calls.last_mut().filter(|call| call.said == Said::Nothing) else { return };
        let bytes = said.weight() + labels.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
        (call.took_us, call.said) = (took_us, said);
        call.labels = labels.to_vec();
        if call.told.is_some() {
            if !room.take(bytes) {
                inner.gives_up();
            }
        } else if call.lets_pass() && player.is_none() {
            // Nothing to tell, and there may be thousands of them.
            kept.calls.pop();
        }
    }

    /// What a plugin said last turned out not to fit.
    pub(super) fn unfit(&self, plugin: &Plugin, reason: &str) {
        if let Some(call) = self.inner().kept.calls.iter_mut().rev().find(|call| call.plugin == plugin.name()) {
            call.unfit = Some(reason.to_owned());
        }
    }

    /// A replay's answer to a question; `otherwise` where nothing is known, which is counted. None where this is no replay.
    pub(super) fn answer<T: DeserializeOwned>(&self, question: &Question, otherwise: impl FnOnce() -> T) -> Option<T> {
        let mut inner = self.inner();
        let player = inner.player.as_mut()?;
        if let Some(answer) = player.answer(question).and_then(|value| serde_json::from_value(value).ok()) {
            return Some(answer);
        }
        // Whether a line is read by anybody is nothing that a decision should hang on.
        if question.call != "log.enabled" {
            inner.kept.unknown.push(question.call.to_owned());
        }
        Some(otherwise())
    }

    /// Keeps the answer to a question.
    pub(super) fn note(&self, question: Question, answer: &impl Serialize) {
        let mut inner = self.inner();
        let Inner { kept, room, .. } = &mut *inner;
        let Some(call) = kept.calls.last_mut().filter(|call| call.said == Said::Nothing && call.told.is_some()) else { return };
        let result = serde_json::to_value(answer).unwrap_or_default();
        if !room.take(room::CALL / 4 + weight(&question.args) + weight(&result)) {
            return inner.gives_up();
        }
        call.imports.push(Import { call: question.call.to_owned(), args: question.args, result });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Is there room for part of an answer, if one is shown? Where there is none, there is for none after it either.
    fn has_room_for(&mut self, shown: &Shown<'_>) -> bool {
        let Some((_, part)) = shown.part else { return true };
        // Several who observe are shown the same one.
        let is_new = self.kept.parts.last().is_none_or(|last| !Arc::ptr_eq(last, part));
        self.kept.cut |= !self.room.take_part(room::CALL + if is_new { part.length() } else { 0 });
        !self.kept.cut
    }

    /// What a call is told, as far as it is no part of another one's. None: there is no room for it.
    fn told(
        &mut self,
        prompt: Option<&PromptRef>,
        request: &Arc<ChatRequest>,
        shown: &Shown<'_>,
        labels: Labels,
    ) -> Option<Told> {
        let Self { kept, room, .. } = self;
        let is_new = |list: &[Arc<ChatRequest>]| list.iter().all(|own| !Arc::ptr_eq(own, request));
        let mut bytes = if is_new(&kept.requests) { request.bytes().len() } else { 0 };
        bytes += shown
            .answer
            .filter(|answer| kept.answers.iter().all(|own| !Arc::ptr_eq(own, answer)))
            .map_or(0, |new| new.bytes().len());
        bytes += labels.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
        // A part's have been taken.
        bytes += if shown.part.is_none() { room::CALL } else { 0 };
        if !room.take(bytes) {
            self.gives_up();
            return None;
        }
        Some(Told {
            prompt: prompt.cloned(),
            request: place(&mut kept.requests, request),
            answer: shown.answer.map(|answer| place(&mut kept.answers, answer)),
            partial: shown.partial,
            attempt: shown.attempt.cloned(),
            hit: shown.hit.cloned(),
            batch: shown.part.map(|(batch, _)| batch.clone()),
            part: shown.part.map(|(_, part)| place(&mut kept.parts, part)),
            labels,
        })
    }

    /// The exchange is larger than one may be: what was kept of it for a recording goes.
    fn gives_up(&mut self) {
        let kept = &mut self.kept;
        (kept.too_large, kept.cut) = (true, false);
        kept.requests.clear();
        kept.answers.clear();
        kept.parts.clear();
        kept.calls.iter_mut().for_each(|call| (call.told, call.imports) = (None, Vec::new()));
        kept.calls.retain(|call| !call.lets_pass());
    }
}

/// Where it stands in a list of those that were shown; at its end if it is new.
fn place<T>(list: &mut Vec<Arc<T>>, item: &Arc<T>) -> usize {
    list.iter().position(|own| Arc::ptr_eq(own, item)).unwrap_or_else(|| {
        list.push(item.clone());
        list.len() - 1
    })
}
