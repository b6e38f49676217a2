//! A version that decides beside the one that serves, on the same inputs, and nothing follows from it: what would it do otherwise?
//!
//! It is asked afterwards, on a thread of its own that gives way to all others, so that no client waits for it. It sees the request, the head
//! and the labels as the serving version saw them, the clock as it stood then, and draws the same random numbers; the fleet it sees as it
//! is now, and services that it sends to are not there. About parts of answers (`on-chunk`) it is not asked: the state that goes with them is the
//! serving version's own. In `kv` it begins with a copy of what the serving version keeps, and from then on has its own. Its labels and metrics are
//! dropped; its log lines have its digest.
//!
//! What it does not do: it catches up on nothing. Where it cannot keep pace a decision is missed, and counted.
//!
//! **Invariant:** nothing that it does is seen by a client, by another plugin, or by the version that serves.
//! **Invariant:** it holds back at most [`QUEUE`] decisions and [`QUEUE_BYTES`] bytes of requests and answers, kinds and examples within their
//! bounds.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::now;
use super::told::{Tell, Told};
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::numbers::Count;
use crate::plugin::bindings::types::RequestHead;
use crate::plugin::bindings::{caching, prompting, routing};
use crate::plugin::hooks::{Reviewed, Session};
use crate::plugin::imports::{EmbedError, Status, Surroundings, Upstream};
use crate::plugin::kv::Kv;
use crate::plugin::load::Plugin;
use crate::plugin::registry::PluginSet;

/// Decisions that wait.
const QUEUE: usize = 256;
/// Bytes of their requests and answers.
const QUEUE_BYTES: usize = 32 << 20;
/// Kinds of differences that are told apart.
const MAX_KINDS: usize = 32;
/// What is beyond them.
const OTHERS: &str = "others";
/// The last examples of each kind that are kept.
const EXAMPLES: usize = 5;
/// How much it gives way to other threads.
const NICE: i32 = 10;

/// A shadow at work. It ends with its last holder.
pub struct Shadow {
    jobs: mpsc::Sender<Job>,
    /// What has come of it.
    pub found: Arc<Found>,
}

/// What differs.
#[derive(Default)]
pub struct Found {
    /// Decisions that were made twice.
    pub compared: Count,
    /// Those that were not the same.
    pub differed: Count,
    /// Those that the shadow could not be asked for.
    pub missed: Count,
    kinds: Mutex<BTreeMap<String, Kind>>,
    waiting: AtomicUsize,
}

/// A kind of difference.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Kind {
    /// How often.
    pub count: u64,
    /// The last ones.
    pub examples: VecDeque<Example>,
}

/// One decision that was made otherwise.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Example {
    /// The exchange's id.
    pub exchange: String,
    /// When it was found, in milliseconds since the Unix epoch.
    pub at: u64,
    /// What the serving version said.
    pub served: String,
    /// What the shadow said.
    pub shadow: String,
}

/// What a version was asked.
pub(in crate::plugin) enum Asked {
    Select,
    Key,
    Confirm(caching::Candidate),
    Admit(Arc<Answer>),
    Route,
    After(routing::Attempt, Option<Reviewed>),
}

impl Asked {
    fn name(&self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Key => "key",
            Self::Confirm(_) => "confirm",
            Self::Admit(_) => "admit",
            Self::Route => "route",
            Self::After(..) => "after-attempt",
        }
    }
}

/// One decision to be made again.
pub(in crate::plugin) struct Job {
    pub(in crate::plugin) around: Arc<dyn Surroundings>,
    pub(in crate::plugin) head: RequestHead,
    pub(in crate::plugin) request: Arc<ChatRequest>,
    pub(in crate::plugin) labels: Vec<(String, String)>,
    /// How old the exchange was.
    pub(in crate::plugin) elapsed: Duration,
    pub(in crate::plugin) asked: Asked,
    /// What the serving version said.
    pub(in crate::plugin) said: Told,
}

impl Job {
    /// Bytes that it keeps alive.
    fn bytes(&self) -> usize {
        let answer = match &self.asked {
            Asked::Admit(answer) => answer.bytes().len(),
            Asked::After(_, seen) => seen.as_ref().map_or(0, |seen| seen.answer.bytes().len()),
            Asked::Confirm(hit) => hit.text.len() + hit.answer.len(),
            Asked::Select | Asked::Key | Asked::Route => 0,
        };
        self.request.bytes().len() + answer
    }
}

/// Everything of the shadow's that its thread needs.
struct Stage {
    plugin: Arc<Plugin>,
    alone: Arc<PluginSet>,
    kv: Option<Arc<Kv>>,
    found: Arc<Found>,
}

impl Shadow {
    /// Starts a thread for it. None: the system has none.
    pub fn start(plugin: &Arc<Plugin>) -> Option<Arc<Self>> {
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let found = Arc::new(Found::default());
        let stage = Stage {
            plugin: plugin.clone(),
            alone: Arc::new(PluginSet::alone(plugin.clone())),
            kv: plugin.kv.as_ref().map(|kv| Arc::new(kv.copied())),
            found: found.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let started = runtime.and_then(|runtime| {
            let run = move || runtime.block_on(stage.run(inbox));
            std::thread::Builder::new().name("shadow".into()).spawn(run)
        });
        match started {
            Ok(_) => Some(Arc::new(Self { jobs, found })),
            Err(error) => {
                tracing::error!(plugin = plugin.label(), %error, "there is no thread for a shadow; it waits");
                None
            }
        }
    }

    /// Has a decision made again, if there is room.
    pub(in crate::plugin) fn ask(&self, job: Job) {
        let bytes = job.bytes();
        let waiting = self.found.waiting.fetch_add(bytes, Ordering::Relaxed);
        if waiting + bytes > QUEUE_BYTES || self.jobs.try_send(job).is_err() {
            self.found.waiting.fetch_sub(bytes, Ordering::Relaxed);
            self.found.missed.add(1);
        }
    }
}

impl Stage {
    async fn run(self, mut inbox: mpsc::Receiver<Job>) {
        // Where the system does not allow it the thread is one like the others.
        let _ = rustix::process::setpriority_process(None, NICE);
        while let Some(job) = inbox.recv().await {
            self.found.waiting.fetch_sub(job.bytes(), Ordering::Relaxed);
            let (id, what, said) = (job.around.id().to_owned(), job.asked.name(), job.said.clone());
            match self.decide(job).await {
                Some(own) => self.found.compare(&id, what, &said, &own),
                None => self.found.missed.add(1),
            }
        }
    }

    /// None where it is left alone, because it fails.
    async fn decide(&self, job: Job) -> Option<Told> {
        let Job { around, head, request, labels, elapsed, asked, .. } = job;
        let now = Instant::now();
        let lens = Lens { started: now.checked_sub(elapsed).unwrap_or(now), around, labels };
        let mut session = Session::new(self.alone.clone(), Arc::new(lens), head).aside(self.kv.clone());
        let by = &self.plugin;
        let told = match asked {
            Asked::Select => told(session.select(&request).await.ok().flatten().map(|said| said.what), prompting::Outcome::Pass),
            Asked::Key => told(session.key(&request).await.ok().flatten().map(|said| said.what), caching::Directive::Pass),
            Asked::Route => {
                // One that only observes has no opinion on models: what it says then is of the first that does.
                let routed = session.route(&request).await.ok();
                let observes = routed.as_ref().and_then(|routed| routed.observers.first()).map(|observer| observer.how());
                let said = routed.and_then(|routed| routed.said).map(|said| said.what);
                told(said.or(observes.map(routing::Decision::Observe)), routing::Decision::Pass)
            }
            Asked::Confirm(hit) => session.confirm(by, &request, &hit).await.told(),
            Asked::Admit(answer) => session.admit(by, &request, &answer).await.told(),
            Asked::After(last, seen) => {
                let step = session.after_attempt(by, &request, &last, seen.as_ref()).await;
                told(step.ok().flatten(), routing::NextStep::Accept)
            }
        };
        match session.trouble() {
            None => Some(told),
            Some("quarantined") => None,
            Some(cause) => Some(Told::failed(cause)),
        }
    }
}

fn told<T: Tell>(said: Option<T>, otherwise: T) -> Told {
    said.unwrap_or(otherwise).told()
}

impl Found {
    fn compare(&self, exchange: &str, what: &str, served: &Told, shadow: &Told) {
        self.compared.add(1);
        if served == shadow {
            return;
        }
        self.differed.add(1);
        let name = match served.kind == shadow.kind {
            true => format!("{what}: {}, otherwise", served.kind),
            false => format!("{what}: {} → {}", served.kind, shadow.kind),
        };
        let words = |told: &Told| if told.words.is_empty() { told.kind.clone() } else { told.words.clone() };
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kinds.contains_key(&name) || kinds.len() < MAX_KINDS;
        let kind = kinds.entry(if known { name } else { OTHERS.to_owned() }).or_default();
        kind.count += 1;
        if kind.examples.len() >= EXAMPLES {
            kind.examples.pop_front();
        }
        let example = Example { exchange: exchange.to_owned(), at: now(), served: words(served), shadow: words(shadow) };
        kind.examples.push_back(example);
    }

    /// Differences by kind.
    pub fn kinds(&self) -> BTreeMap<String, Kind> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// An exchange as it was when the serving version was asked.
struct Lens {
    around: Arc<dyn Surroundings>,
    labels: Vec<(String, String)>,
    started: Instant,
}

impl Surroundings for Lens {
    fn id(&self) -> &str {
        self.around.id()
    }

    fn tenant(&self) -> &str {
        self.around.tenant()
    }

    fn headers(&self) -> &HeaderMap {
        self.around.headers()
    }

    fn received_at(&self) -> u64 {
        self.around.received_at()
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn candidates(&self) -> Vec<Upstream> {
        self.around.candidates()
    }

    fn model(&self, name: &str) -> Option<Upstream> {
        self.around.model(name)
    }

    fn status(&self, name: &str) -> Option<Status> {
        self.around.status(name)
    }

    fn may_choose(&self, model: &str) -> bool {
        self.around.may_choose(model)
    }

    fn label(&self, name: &str) -> Option<String> {
        self.labels.iter().rev().find(|(label, _)| label == name).map(|(_, value)| value.clone())
    }

    fn leave(&self, _: Vec<(String, String)>) {}

    fn labels(&self) -> Vec<(String, String)> {
        self.labels.clone()
    }

    fn logged(&self, version: &str, more: u32) -> u32 {
        self.around.logged(version, more)
    }

    fn prompt_vector<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        self.around.prompt_vector(text)
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        self.around.embed(text)
    }

    fn classify(&self, examples: &str, vector: &[f32], k: usize) -> Option<Vec<(String, f32)>> {
        self.around.classify(examples, vector, k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: &str, words: &str) -> Told {
        Told { kind: kind.to_owned(), words: words.to_owned() }
    }

    #[test]
    fn differences_are_counted_by_kind_and_kept_within_bounds() {
        let found = Found::default();
        found.compare("0", "route", &told("plan a", "1"), &told("plan a", "1"));
        found.compare("1", "route", &told("plan a", "1"), &told("plan a", "2"));
        for number in 0..1_000 {
            found.compare("2", "route", &told("pass", ""), &told(&format!("plan {number}"), "x"));
        }
        (0..9).for_each(|_| found.compare("3", "key", &told("key", "1"), &told("bypass", "")));
        let kinds = found.kinds();
        assert_eq!((found.compared.get(), found.differed.get()), (1_011, 1_010));
        assert_eq!(kinds["route: plan a, otherwise"].count, 1);
        assert_eq!(kinds["route: pass → plan 7"].examples[0].served, "pass");
        assert!(kinds.len() == MAX_KINDS + 1 && kinds.values().all(|kind| kind.examples.len() <= EXAMPLES));
        assert_eq!(kinds[OTHERS].count, 1_010 - 1 - (MAX_KINDS as u64 - 1));
    }
}
