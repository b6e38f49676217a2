//! What a guest can ask of the host, one interface of `wit/host.wit` after another.
//!
//! What it does not do: it grants nothing (`load` links only what the configuration grants), and it holds no data of its
//! own: everything comes from the exchange, through [`Surroundings`], which `gateway` lends; and from the plugin's own `kv`.
//!
//! **Invariant:** credentials never reach a guest: neither in headers nor in configuration.
//! **Invariant:** what a guest can learn is fixed for the exchange, or is a call's result, so that a recorded one can be decided again.

mod embeddings;
mod fleet;
mod http;
mod kv;
mod request;
mod small;
pub(super) mod wasi;

pub(super) use small::bucket;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::http::HeaderMap;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use super::http::{Inbound, Outbound};
use super::kv::Kv;
use super::limits::{self, Budget, Held};
use super::load::Version;
use super::tape::{Question, Tape};
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::stream::part::Part;

pub use request::visible;

pub use super::bindings::embeddings::EmbedError;
pub use super::bindings::http::HttpError;
pub use super::bindings::upstreams::{Circuit, Latency, Price, Status, Upstream};

/// Stands for the exchange's request in the contract; the number in a guest's hand means nothing (see `bindings`).
#[derive(Debug)]
pub struct RequestHandle;
/// Stands for the exchange's answer.
#[derive(Debug)]
pub struct ResponseHandle;
/// Stands for the part of the answer that is observed.
#[derive(Debug)]
pub struct ChunkHandle;

/// What the gateway lends to the plugins of one exchange.
pub trait Surroundings: Send + Sync {
    /// The exchange's id.
    fn id(&self) -> &str;
    /// Whose exchange it is.
    fn tenant(&self) -> &str;
    /// The request's headers; sensitive ones are filtered here, in `imports`.
    fn headers(&self) -> &HeaderMap;
    /// Wall-clock time of the exchange's beginning, in milliseconds since the Unix epoch.
    fn received_at(&self) -> u64;
    /// The same moment on the monotonic clock.
    fn started(&self) -> Instant;
    /// How long ago that is.
    fn elapsed(&self) -> Duration {
        self.started().elapsed()
    }
    /// The models that may answer this request, in the configuration's order.
    fn candidates(&self) -> Vec<Upstream>;
    /// One model by its configured name.
    fn model(&self, name: &str) -> Option<Upstream>;
    /// How that model's provider fares.
    fn status(&self, _name: &str) -> Option<Status> {
        None
    }
    /// May a routing plugin choose this model for this request?
    fn may_choose(&self, model: &str) -> bool;
    /// What a label of that name was set to last in this exchange.
    fn label(&self, name: &str) -> Option<String>;
    /// Labels that a call of a plugin has left.
    fn leave(&self, labels: Vec<(String, String)>);
    /// All labels of the exchange so far, the oldest first.
    fn labels(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    /// Where calls and what they are told are kept, or come from in a replay.
    fn tape(&self) -> Option<&Tape> {
        None
    }
    /// Vector of the last user message, computed once per exchange.
    fn prompt_vector<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>>;
    /// Vector of any text.
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>>;
    /// Which of the exchange's outbound calls of this plugin comes next, from 1.
    fn next_call(&self, _plugin: &str) -> u32 {
        1
    }
    /// Lines that this version has logged in the exchange, with `more` that it is about to; whatever instances it had. Who keeps no
    /// log counts none.
    fn logged(&self, _version: &str, _more: u32) -> u32 {
        0
    }
    /// Sends a request that has been looked at.
    fn fetch(&self, _request: Outbound) -> BoxFuture<'_, Result<Inbound, HttpError>> {
        Box::pin(async { Err(HttpError::Unavailable) })
    }
    /// Nearest labels of an example set; `None` if there is no set of that name.
    fn classify(&self, examples: &str, vector: &[f32], k: usize) -> Option<Vec<(String, f32)>>;
}

/// The store of a version whose doings are not to be seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Aside {
    pub(super) kv: Option<Arc<Kv>>,
}

/// A store's data: one plugin's view of one exchange at a time.
pub struct State {
    pub(super) plugin: Arc<Version>,
    /// None while a component is checked at load time, before it has seen any exchange.
    pub(super) around: Option<Arc<dyn Surroundings>>,
    pub(super) request: Option<Arc<ChatRequest>>,
    pub(super) answer: Option<Arc<Answer>>,
    /// More of the answer is to come.
    pub(super) partial: bool,
    pub(super) part: Option<Arc<Part>>,
    pub(super) limits: Held,
    pub(super) budget: Budget,
    /// Lines that this instance has logged.
    pub(super) log_lines: u32,
    /// What the call that is under way has left; it counts when the call has succeeded.
    pub(super) labels: Vec<(String, String)>,
    pub(super) random: Option<u64>,
    /// The same for WASI's random numbers, which are the exchange's in a replay alone.
    wasi_random: Option<u64>,
    /// What WASI's monotonic clock has shown last.
    latest: u64,
    /// Nothing that it does is to be seen: a shadow's, with what it keeps where it may.
    pub(super) aside: Option<Aside>,
    /// Made only for a component that imports WASI; the others pay nothing for it. The mutex is never locked: it makes a
    /// store's data `Sync`, which a future that lends it out must be.
    pub(super) wasi: Option<Box<Mutex<(WasiCtx, ResourceTable)>>>,
}

impl State {
    /// A store of this version, before it has seen any exchange.
    pub(super) fn new(plugin: Arc<Version>) -> Self {
        Self {
            around: None,
            request: None,
            answer: None,
            partial: false,
            part: None,
            limits: limits::of_store(plugin.settings.memory),
            budget: Budget::of(plugin.settings.deadline),
            log_lines: 0,
            labels: Vec::new(),
            random: None,
            wasi_random: None,
            latest: 0,
            aside: None,
            wasi: None,
            plugin,
        }
    }

    /// Lets go of the exchange: whoever comes next finds nothing of it.
    pub(super) fn forget(&mut self) {
        let Self {
            plugin: _,
            around,
            request,
            answer,
            partial,
            part,
            limits: _,
            budget: _,
            log_lines,
            labels,
            random,
            wasi_random,
            latest: _,
            aside,
            wasi: _,
        } = self;
        (*around, *request, *answer, *partial, *part) = (None, None, None, false, None);
        (*log_lines, *random, *wasi_random, *aside) = (0, None, None, None);
        labels.clear();
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let made = self.wasi.get_or_insert_with(|| Box::new(Mutex::new(wasi::locked_down())));
        let (ctx, table) = made.get_mut().unwrap_or_else(PoisonError::into_inner);
        WasiCtxView { ctx, table }
    }
}

impl State {
    fn tape(&self) -> Option<&Tape> {
        self.around.as_ref()?.tape()
    }

    /// The answer to a question that is no function of the exchange: a replay's own, or the host's, which is kept where somebody records.
    /// `nobody` is what a replay says where nobody knows.
    fn asks<T: Serialize + DeserializeOwned>(
        &self,
        call: &'static str,
        args: impl FnOnce() -> Value,
        nobody: impl FnOnce() -> T,
        ask: impl FnOnce(&Self) -> T,
    ) -> T {
        let Some(tape) = self.tape() else { return ask(self) };
        let question = Question { call, args: args() };
        tape.answer(&question, nobody).unwrap_or_else(|| {
            let answer = ask(self);
            if tape.is_recording() {
                tape.note(question, &answer);
            }
            answer
        })
    }
}

/// Cuts on a character boundary.
fn cut(text: &str, max_bytes: u32) -> &str {
    let mut end = text.len().min(max_bytes as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
