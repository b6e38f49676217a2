//! What a mock host has, and what its plugin has left.
//!
//! What it does not do: it is asked by nobody directly; `imports` stands between it and the plugin.
//!
//! **Invariant:** labels and lines are those of one call; counters and what is kept outlast it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::store::Store;
use super::{Answer, Line};
use crate::embeddings::{EmbedError, Match};
use crate::http::{HttpError, Request, Response};
use crate::upstreams::{Status, Upstream};
use crate::{Operation, RequestHead};

/// 2026-01-01T00:00:00Z.
pub(super) const BEGAN: u64 = 1_767_225_600_000;
/// Labels that one call may leave; the contract names these numbers.
const MAX_LABELS: usize = 16;
const MAX_NAME: usize = 64;
const MAX_LABEL: usize = 256;

/// A metric's name and its labels.
type Series = (String, Vec<(String, String)>);

pub(super) struct State {
    pub(super) head: RequestHead,
    pub(super) body: Value,
    pub(super) headers: Vec<(String, String)>,
    pub(super) answer: Option<Answer>,
    pub(super) config: Map<String, Value>,
    pub(super) upstreams: Vec<Upstream>,
    /// By provider.
    pub(super) statuses: HashMap<String, Status>,
    /// What comes from where, and what was sent.
    pub(super) services: HashMap<String, Result<Response, HttpError>>,
    pub(super) sent: Vec<Request>,
    /// Events of the batch that is observed.
    pub(super) part: Vec<Value>,
    pub(super) examples: HashMap<String, Vec<Match>>,
    pub(super) vectors: HashMap<String, Vec<f32>>,
    pub(super) no_embedding: Option<EmbedError>,
    pub(super) store: Store,
    pub(super) elapsed: Duration,
    pub(super) random: u64,
    /// There is no exchange.
    pub(super) is_check: bool,
    /// Of earlier plugins and calls.
    pub(super) labels: Vec<(String, String)>,
    /// Of the call that is under way, or of the last one.
    pub(super) left: Vec<(String, String)>,
    pub(super) lines: Vec<Line>,
    pub(super) counters: BTreeMap<Series, u64>,
    pub(super) gauges: BTreeMap<Series, f64>,
    pub(super) observed: BTreeMap<Series, Vec<f64>>,
}

impl Default for State {
    fn default() -> Self {
        let head = RequestHead {
            id: "01932f00-0000-7000-8000-000000000001".to_owned(),
            tenant: "default".to_owned(),
            principal: None,
            operation: Operation::Chat,
            model: "auto".to_owned(),
            prompt_tokens: 0,
            max_tokens: None,
            temperature: None,
            streaming: false,
            has_tools: false,
            prompt: None,
            deadline_ms: 300_000,
            received_at: BEGAN,
        };
        Self {
            head,
            body: json!({ "model": "auto", "messages": [] }),
            headers: Vec::new(),
            answer: None,
            config: Map::new(),
            upstreams: Vec::new(),
            statuses: HashMap::new(),
            services: HashMap::new(),
            sent: Vec::new(),
            part: Vec::new(),
            examples: HashMap::new(),
            vectors: HashMap::new(),
            no_embedding: None,
            store: Store::default(),
            elapsed: Duration::ZERO,
            random: 0,
            is_check: false,
            labels: Vec::new(),
            left: Vec::new(),
            lines: Vec::new(),
            counters: BTreeMap::new(),
            gauges: BTreeMap::new(),
            observed: BTreeMap::new(),
        }
    }
}

impl State {
    /// A call begins.
    pub(super) fn begin(&mut self) {
        self.left.clear();
        self.lines.clear();
    }

    /// It has ended: its labels count, or are gone.
    pub(super) fn end(&mut self, succeeded: bool) {
        if succeeded {
            self.labels.extend(self.left.iter().cloned());
        } else {
            self.left.clear();
        }
        self.answer = None;
    }

    /// The test's clock, in milliseconds since the Unix epoch.
    pub(super) fn now(&self) -> u64 {
        self.head.received_at + self.elapsed.as_millis() as u64
    }

    pub(super) fn keep(&mut self, key: &str, value: String) {
        let now = self.now();
        let kept = self.store.set(&self.head.tenant, key, value.as_bytes(), None, now);
        assert!(kept.is_ok(), "`{key}` cannot be kept: {kept:?}");
    }

    /// The newest label of that name.
    pub(super) fn metadata(&self, key: &str) -> Option<String> {
        self.labels.iter().chain(&self.left).rev().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    pub(super) fn leave(&mut self, name: &str, value: &str) {
        if self.left.len() < MAX_LABELS && (1..=MAX_NAME).contains(&name.len()) && value.len() <= MAX_LABEL {
            self.left.push((name.to_owned(), value.to_owned()));
        }
    }
}

/// The order of labels says nothing.
pub(super) fn series<T: AsRef<str>>(name: &str, labels: &[(T, T)]) -> Series {
    let mut labels: Vec<(String, String)> =
        labels.iter().map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned())).collect();
    labels.sort();
    (name.to_owned(), labels)
}
