//! A host for native tests of a plugin: what a request is, what the host would answer, and the plugin's hooks called with it.
//!
//! ```
//! use pointsman_plugin::mock::{Host, upstream};
//! use pointsman_plugin::{Decision, Plan, Request, RequestHead, Result, Role, Routing, config};
//!
//! struct ByLength;
//!
//! impl Routing for ByLength {
//!     fn route(head: &RequestHead, _: &Request) -> Result<Decision> {
//!         let limit: u32 = config::require("limit")?;
//!         Ok(Plan::to(if head.prompt_tokens > limit { "large" } else { "small" }).because("length").into())
//!     }
//! }
//!
//! let host = Host::new().config("limit", 400).upstream(upstream("small")).upstream(upstream("large"));
//! let short = host.message(Role::User, "Hello");
//! assert_eq!(short.route::<ByLength>(), Ok(Plan::to("small").because("length").into()));
//! let long = short.message(Role::User, "And then? ".repeat(1_000));
//! assert_eq!(long.route::<ByLength>(), Ok(Plan::to("large").because("length").into()));
//! ```
//!
//! Every function of the host has its stand-in here, with the meaning that the contract gives it. What was not said is not there: no
//! model, no example set, no embedding, and a clock that moves when the test moves it. What a hook leaves (labels, lines, numbers, what it
//! keeps) can be looked at afterwards; what is in [`kv`](crate::kv) stays for the next call, as it does in a host.
//!
//! What it does not do: it grants everything, has no deadline, and judges no decision (a host refuses a plan of nine models). `pointsman
//! plugin test` runs the component itself, in the real engine.
//!
//! **Invariant:** it is not in a component: it exists outside WebAssembly alone.
//! **Invariant:** a test that says the same gets the same: no clock, no chance, nothing of the machine.

#[doc(hidden)]
pub mod imports;
mod parts;
mod request;
mod state;
mod store;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::embeddings::{EmbedError, Match};
use crate::http::{self, HttpError};
use crate::log::Level;
use crate::upstreams::{Status, Upstream};
use crate::{
    Admission, Attempt, Batch, Caching, Candidate, Decision, Directive, NextStep, Observed, Outcome, Prompting, Request,
    RequestHead, Result, Role, Routing, Verdict,
};
use state::State;

pub use parts::{Answer, attempt, batch, candidate, status, upstream};
#[doc(no_inline)]
pub use serde_json::{Value, json};

/// The host, and the exchange that a hook is asked about.
///
/// It is made by saying what differs from an empty one; each word of the builder holds for the calls that follow.
pub struct Host {
    state: Rc<RefCell<State>>,
}

/// A line that a plugin has logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its level.
    pub level: Level,
    /// Its text.
    pub message: String,
    /// Its fields, in order.
    pub fields: Vec<(String, String)>,
}

impl Host {
    /// A chat request for the model `auto` without messages, of the tenant `default`; a host that has nothing.
    pub fn new() -> Self {
        Self { state: Rc::new(RefCell::new(State::default())) }
    }

    fn with(self, change: impl FnOnce(&mut State)) -> Self {
        change(&mut self.state.borrow_mut());
        self
    }

    /// A setting of the plugin's `config` table: text, a number, or what [`json!`] makes.
    pub fn config(self, key: &str, value: impl Into<Value>) -> Self {
        self.with(|state| drop(state.config.insert(key.to_owned(), value.into())))
    }

    /// The model that the client asks for.
    pub fn model(self, name: &str) -> Self {
        self.with(|state| state.set("model", name.into()))
    }

    /// Whose exchange it is. What is kept for one tenant, another does not see.
    pub fn tenant(self, name: &str) -> Self {
        self.with(|state| name.clone_into(&mut state.head.tenant))
    }

    /// One more message. [`RequestHead::prompt_tokens`] follows from all of them, as in a host: their bytes / 4.
    pub fn message(self, role: Role, text: impl Into<String>) -> Self {
        self.with(|state| state.say(role, text.into()))
    }

    /// The whole request as the client has sent it, in OpenAI's words; the head follows from it.
    pub fn body(self, body: Value) -> Self {
        self.with(|state| state.receive(body))
    }

    /// A header of the client's. Those with credentials are never visible, as in a host.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|state| state.headers.push((name.to_ascii_lowercase(), value.to_owned())))
    }

    /// Anything in the head. What is set here stays until a message or a body comes that it follows from.
    pub fn head(self, change: impl FnOnce(&mut RequestHead)) -> Self {
        self.with(|state| change(&mut state.head))
    }

    /// What an earlier plugin of this exchange has left: [`Request::metadata`] finds it.
    pub fn label(self, name: &str, value: &str) -> Self {
        self.with(|state| state.labels.push((name.to_owned(), value.to_owned())))
    }

    /// One more model that may answer this request; [`upstream`] makes one.
    pub fn upstream(self, upstream: Upstream) -> Self {
        self.with(|state| state.upstreams.push(upstream))
    }

    /// How a provider fares: what [`status_of`](crate::upstreams::status_of) says of its models; [`status`] makes one.
    pub fn status(self, provider: &str, status: Status) -> Self {
        self.with(|state| _ = state.statuses.insert(provider.to_owned(), status))
    }

    /// What [`http::send`] gives back for this URL.
    pub fn service(self, url: &str, answer: core::result::Result<http::Response, HttpError>) -> Self {
        self.with(|state| drop(state.services.insert(url.to_owned(), answer)))
    }

    /// What [`classify`](crate::embeddings::classify) says of the last user message by this example set: labels and how near they are,
    /// best first in whatever order they are given.
    pub fn example(self, set: &str, nearest: &[(&str, f32)]) -> Self {
        let mut found: Vec<Match> =
            nearest.iter().map(|(label, score)| Match { label: (*label).to_owned(), score: *score }).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        self.with(|state| drop(state.examples.insert(set.to_owned(), found)))
    }

    /// The vector of a text, the last user message among them. It is brought to unit length.
    pub fn embedding(self, text: &str, vector: &[f32]) -> Self {
        let length = vector.iter().map(|part| part * part).sum::<f32>().sqrt();
        let unit = vector.iter().map(|part| part / length).collect();
        self.with(|state| drop(state.vectors.insert(text.to_owned(), unit)))
    }

    /// No embedding can be had.
    pub fn no_embedding(self, why: EmbedError) -> Self {
        self.with(|state| state.no_embedding = Some(why))
    }

    /// Puts a value where the plugin keeps such, for the tenant of now: text, or a number as its digits.
    pub fn kept(self, key: &str, value: impl ToString) -> Self {
        self.with(|state| state.keep(key, value.to_string()))
    }

    /// How much may be kept for one tenant: entries, and bytes as the contract counts them. Otherwise 4,000 and 1 MiB, as a host's default is.
    pub fn room(self, entries: usize, bytes: usize) -> Self {
        self.with(|state| state.store.room = (entries, bytes))
    }

    /// There is no store, as in a plugin's check.
    pub fn no_store(self) -> Self {
        self.with(|state| state.store.is_absent = true)
    }

    /// When the exchange began, in milliseconds since the Unix epoch. Otherwise 2026-01-01T00:00:00Z.
    pub fn now(self, ms: u64) -> Self {
        self.with(|state| {
            state.head.received_at = ms;
            state.elapsed = Duration::ZERO;
        })
    }

    /// Where the numbers of [`random::u64`](crate::random::u64) begin. Otherwise 0.
    pub fn seed(self, seed: u64) -> Self {
        self.with(|state| state.random = seed)
    }

    /// Time passes: for the clock, and for what is kept for a time.
    pub fn advance(&self, time: Duration) {
        self.state.borrow_mut().elapsed += time;
    }

    /// Asks [`Routing::route`].
    ///
    /// # Errors
    /// The plugin's own.
    pub fn route<P: Routing>(&self) -> Result<Decision> {
        self.call(|head, request| P::route(head, request))
    }

    /// Asks [`Routing::after_attempt`]; [`attempt`] makes an attempt, [`Answer`] an answer. None: the attempt has failed.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn after_attempt<P: Routing>(&self, last: &Attempt, answer: Option<&Answer>) -> Result<NextStep> {
        self.state.borrow_mut().answer = answer.cloned();
        self.call(|head, request| P::after_attempt(head, request, last, answer.map(|_| imports::response())))
    }

    /// Asks [`Routing::on_chunk`] about a batch of an answer, an event for each of these texts; [`batch`] says where it stands, and `state` is
    /// what the plugin gave back at the one before.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn on_chunk<P: Routing>(&self, part: &Batch, texts: &[&str], state: &[u8]) -> Result<Observed> {
        let event = |text: &&str| json!({ "choices": [{ "index": 0, "delta": { "content": *text }, "finish_reason": null }] });
        self.state.borrow_mut().part = texts.iter().map(event).collect();
        let part = Batch { events: texts.len() as u32, ..part.clone() };
        self.call(|head, request| P::on_chunk(head, request, &part, imports::chunk(), state))
    }

    /// Asks [`Prompting::select`].
    ///
    /// # Errors
    /// The plugin's own.
    pub fn select<P: Prompting>(&self) -> Result<Outcome> {
        self.call(|head, request| P::select(head, request))
    }

    /// Asks [`Caching::key`].
    ///
    /// # Errors
    /// The plugin's own.
    pub fn key<P: Caching>(&self) -> Result<Directive> {
        self.call(|head, request| P::key(head, request))
    }

    /// Asks [`Caching::confirm`]; [`candidate`] makes a near hit.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn confirm<P: Caching>(&self, hit: &Candidate) -> Result<Verdict> {
        self.call(|head, request| P::confirm(head, request, hit))
    }

    /// Asks [`Caching::admit`].
    ///
    /// # Errors
    /// The plugin's own.
    pub fn admit<P: Caching>(&self, answer: &Answer) -> Result<Admission> {
        self.state.borrow_mut().answer = Some(answer.clone());
        self.call(|head, request| P::admit(head, request, imports::response()))
    }

    /// Asks a plugin's `check`, `host.check(<Mine as Routing>::check)`: there is a configuration and no exchange, so there are no models
    /// and there is no store.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn check(&self, check: impl FnOnce() -> Result<()>) -> Result<()> {
        self.state.borrow_mut().is_check = true;
        let said = imports::within(&self.state, check);
        self.state.borrow_mut().is_check = false;
        said
    }

    /// Runs any function as a hook would: with the host's functions, and the request.
    pub fn run<T>(&self, ask: impl FnOnce(&RequestHead, &Request) -> T) -> T {
        let head = self.state.borrow().head.clone();
        imports::within(&self.state, || ask(&head, imports::request()))
    }

    /// One call of a hook. Labels count when it has succeeded.
    fn call<T>(&self, ask: impl FnOnce(&RequestHead, &Request) -> Result<T>) -> Result<T> {
        self.state.borrow_mut().begin();
        let said = self.run(ask);
        self.state.borrow_mut().end(said.is_ok());
        said
    }

    /// The labels that the last call has left with [`Request::label`]; none if it failed.
    pub fn labels(&self) -> Vec<(String, String)> {
        self.state.borrow().left.clone()
    }

    /// The lines of the last call. The host takes 16 an exchange, and so does this one.
    pub fn lines(&self) -> Vec<Line> {
        self.state.borrow().lines.clone()
    }

    /// What a counter has come to, over all calls.
    pub fn counted(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.state.borrow().counters.get(&state::series(name, labels)).copied().unwrap_or(0)
    }

    /// What a gauge was set to last.
    pub fn gauged(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.state.borrow().gauges.get(&state::series(name, labels)).copied()
    }

    /// What a histogram has been given, over all calls.
    pub fn observed(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        self.state.borrow().observed.get(&state::series(name, labels)).cloned().unwrap_or_default()
    }

    /// The requests that were sent, over all calls.
    pub fn sent(&self) -> Vec<http::Request> {
        self.state.borrow().sent.clone()
    }

    /// What is kept for the tenant of now under a key.
    pub fn stored(&self, key: &str) -> Option<String> {
        let state = self.state.borrow();
        let bytes = state.store.get(&state.head.tenant, key, state.now()).ok().flatten();
        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        out.debug_struct("Host").field("head", &state.head).field("config", &state.config).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
