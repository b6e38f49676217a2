//! The host that a recorded exchange had around it.
//!
//! **Invariant:** it answers from the record alone.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::drive::calls_of;
use crate::plugin::imports::{EmbedError, Status, Surroundings, Upstream};
use crate::plugin::tape::{Call, Labels, Recorded, Said, Tape};
use crate::vector::Vector;

pub(super) struct Around {
    recorded: Arc<Recorded>,
    headers: HeaderMap,
    tape: Tape,
    /// That somebody asks for; nothing that is answered hangs on it.
    started: Instant,
    /// What others had left by the recorded call, and what the component has left now.
    labels: Mutex<(Labels, Labels)>,
    /// What the recorded version had left.
    own_then: Labels,
}

impl Around {
    pub(super) fn new(recorded: Arc<Recorded>, name: &str) -> Self {
        let header = |(name, value): &(String, String)| {
            Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value.as_bytes()).ok()?))
        };
        let headers = recorded.headers.iter().filter_map(header).collect();
        let calls = calls_of(name, &recorded);
        let own_then = calls.iter().flat_map(|call| call.labels.iter().cloned().chain(call.decided_labels())).collect();
        let tape = Tape::replay(calls);
        Self { headers, tape, own_then, recorded, started: Instant::now(), labels: Mutex::default() }
    }

    /// From here on it is as it was when this call was made.
    pub(super) fn turn_to(&self, call: &Call) {
        self.tape.turn_to(call, self.recorded.head.received_at);
        let all = call.told.as_ref().map(|told| &told.labels[..]).unwrap_or_default();
        let others = all.iter().filter(|label| !self.own_then.contains(label)).cloned().collect();
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).0 = others;
    }
}

impl Around {
    /// What came of the call that was made last.
    pub(super) fn said_last(&self) -> Option<Said> {
        self.tape.last().map(|call| call.said)
    }
}

impl Surroundings for Around {
    fn id(&self) -> &str {
        &self.recorded.head.id
    }

    fn tenant(&self) -> &str {
        &self.recorded.head.tenant
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn received_at(&self) -> u64 {
        self.recorded.head.received_at
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn candidates(&self) -> Vec<Upstream> {
        self.recorded.candidates.iter().filter_map(|name| self.model(name)).collect()
    }

    fn model(&self, name: &str) -> Option<Upstream> {
        self.recorded.models.iter().find(|seen| seen.name == name).map(|seen| seen.upstream.clone())
    }

    fn status(&self, name: &str) -> Option<Status> {
        self.recorded.models.iter().find(|seen| seen.name == name).and_then(|seen| seen.status)
    }

    fn may_choose(&self, model: &str) -> bool {
        self.recorded.models.iter().any(|seen| seen.name == model && seen.may_choose)
    }

    fn label(&self, name: &str) -> Option<String> {
        let labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        let newest =
            |list: &[(String, String)]| list.iter().rev().find(|(label, _)| label == name).map(|(_, value)| value.clone());
        newest(&labels.1).or_else(|| newest(&labels.0))
    }

    fn leave(&self, left: Vec<(String, String)>) {
        self.labels.lock().unwrap_or_else(PoisonError::into_inner).1.extend(left);
    }

    fn tape(&self) -> Option<&Tape> {
        Some(&self.tape)
    }

    fn prompt_vector<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>> {
        // The tape answers before anybody asks here.
        Box::pin(async { Err(EmbedError::Unavailable) })
    }

    fn embed<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>> {
        Box::pin(async { Err(EmbedError::Unavailable) })
    }

    fn classify(&self, _: &str, _: &[f32], _: usize) -> Option<Vec<(String, f32)>> {
        None
    }
}
