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

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bindings::caching::Candidate;
use super::bindings::routing::Attempt;
use super::bindings::types::{PromptRef, RequestHead};
use super::load::{Hook, Plugin};
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use play::Player;
pub(super) use play::{Blob, Call as Question};
pub use recorded::{Attempted, FORMAT, Facts, Outcome, Recorded, Seen, Snapshot, Valued};

/// Calls of one exchange that are kept. An exchange has at most 16 attempts; more than this is a plugin chain that no one reads.
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
        }
    }

    /// The hook that it belongs to.
    pub fn hook(self) -> Hook {
        match self {
            Self::Select => Hook::Prompting,
            Self::Key | Self::Confirm | Self::Admit => Hook::Caching,
            Self::Route | Self::AfterAttempt => Hook::Routing,
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
    /// Calls that had no place.
    pub dropped: u32,
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
    player: Option<Player>,
}

impl Tape {
    /// A tape that keeps.
    pub fn new(depth: Depth) -> Self {
        Self { depth, inner: Mutex::default() }
    }

    /// A tape that gives again what these calls were told.
    pub fn replay<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Self {
        let inner = Inner { kept: Kept::default(), player: Some(Player::of(calls)) };
        Self { depth: Depth::Story, inner: Mutex::new(inner) }
    }

    /// Does it keep all that a decision hangs on?
    pub fn is_recording(&self) -> bool {
        self.depth == Depth::Recording
    }

    /// What it has kept. It is empty afterwards.
    pub fn take(&self) -> Kept {
        std::mem::take(&mut self.inner().kept)
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
        let kept = &mut inner.kept;
        if kept.calls.len() >= MAX_CALLS {
            kept.dropped += 1;
            return;
        }
        let told = self.is_recording().then(|| Told {
            prompt: prompt.cloned(),
            request: place(&mut kept.requests, request),
            answer: shown.answer.map(|answer| place(&mut kept.answers, answer)),
            partial: shown.partial,
            attempt: shown.attempt.cloned(),
            hit: shown.hit.cloned(),
            labels: labels(),
        });
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
        if let Some(call) = self.inner().kept.calls.last_mut().filter(|call| call.said == Said::Nothing) {
            (call.took_us, call.said) = (took_us, said);
            call.labels = labels.to_vec();
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
        if let Some(call) = self.inner().kept.calls.last_mut().filter(|call| call.said == Said::Nothing) {
            let result = serde_json::to_value(answer).unwrap_or_default();
            call.imports.push(Import { call: question.call.to_owned(), args: question.args, result });
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where it stands in a list of those that were shown; at its end if it is new.
fn place<T>(list: &mut Vec<Arc<T>>, item: &Arc<T>) -> usize {
    list.iter().position(|own| Arc::ptr_eq(own, item)).unwrap_or_else(|| {
        list.push(item.clone());
        list.len() - 1
    })
}
