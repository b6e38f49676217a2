//! The typed calls: one [`Session`] an exchange, one instance per plugin in it, made when it is first needed and dropped
//! when nothing more will be asked of it; or, where its owner wrote `reuse = true`, taken from those that rest, and put back (`reuse`).
//!
//! What it does not do: it does not say what a decision means for the exchange; `gateway` does.
//!
//! **Invariant:** what leaves this file has been checked against the contract: a header is a header, a target may be
//! chosen, a refusal has a status that refusals have.
//! **Invariant:** a plugin is asked only for the tenants and models that its owner has written. Labels count when their call has succeeded.
//! **Invariant:** a canary that fails costs an exchange nothing: the version that serves is asked in its place, at the same hook.
//! **Invariant:** every failure is counted and logged once, and follows the plugin's `on_failure`. What guards the cache fails
//! closed: a key that fails is a bypass, a veto that fails is a veto, an admission that fails is none.

mod observe;

use std::borrow::Cow;
use std::pin::{Pin, pin};
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use serde::Serialize;
use tokio::time::Instant;

use super::bindings::types::{self, PluginError, RequestHead};
use super::bindings::{caching, prompting, routing};
use super::exports::Live;
use super::imports::{Aside, State, Surroundings};
use super::kv::Kv;
use super::last_words;
use super::limits;
use super::load::{Hook, Plugin, Settings};
use super::quarantine::Back;
use super::registry::{PluginSet, Whose};
use super::release::shadow::{Asked, Job};
use super::release::told::{Tell, Told};
use super::tape::{Function, Said as Noted, Shown, Tape};
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::error::Error;
use crate::printable::printable;

const MAX_TARGETS: usize = 8;
const MAX_HEADERS: usize = 16;
/// Events of a stream that a review may hold back.
const MAX_REVIEWED: u32 = 4_096;

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The guest trapped or panicked.
    Trap,
    /// It did not answer in time.
    Deadline,
    /// It grew beyond its memory.
    Memory,
    /// It answered with an error of its own.
    Error,
    /// It answered with something that the contract does not allow.
    Output,
    /// No instance was free.
    Exhausted,
}

impl Cause {
    /// All causes, in the order of [`super::numbers::Numbers::failures`].
    pub const ALL: [Self; 6] = [Self::Trap, Self::Deadline, Self::Memory, Self::Error, Self::Output, Self::Exhausted];

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Error => "error",
            Self::Output => "output",
            Self::Exhausted => "exhausted",
        }
    }

    pub(super) fn of(error: &wasmtime::Error) -> Self {
        if let Some(trap) = error.downcast_ref::<wasmtime::Trap>() {
            let is_late = matches!(trap, wasmtime::Trap::Interrupt | wasmtime::Trap::OutOfFuel);
            return if is_late { Self::Deadline } else { Self::Trap };
        }
        if error.is::<wasmtime::PoolConcurrencyLimitError>() {
            return Self::Exhausted;
        }
        // wasmtime has no type for a refused grow, only its words.
        let text = last_words::told(error);
        if text.contains("forcing trap when growing") { Self::Memory } else { Self::Trap }
    }
}

/// A plugin's opinion, and whose it is.
pub struct Said<T> {
    /// The plugin version that said it.
    pub by: Arc<Plugin>,
    /// What it said.
    pub what: T,
}

/// What `after_attempt` is shown of an answer.
#[derive(Clone, Debug)]
pub struct Reviewed {
    /// It, or what has come of it, put together.
    pub answer: Arc<Answer>,
    /// Nothing of it is still to come.
    pub whole: bool,
}

pub use observe::{First, Flow, Observer, Routed};

/// A call that failed in this exchange.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where.
    pub hook: Hook,
    /// Of what kind.
    pub cause: Cause,
    /// What is known of it.
    pub reason: String,
}

/// A failure of one call.
struct Failed {
    cause: Cause,
    reason: String,
}

impl From<wasmtime::Error> for Failed {
    fn from(error: wasmtime::Error) -> Self {
        Self { cause: Cause::of(&error), reason: last_words::told(&error) }
    }
}

impl From<PluginError> for Failed {
    fn from(error: PluginError) -> Self {
        let reason = match error {
            PluginError::Config(reason) | PluginError::Unavailable(reason) | PluginError::Internal(reason) => reason,
        };
        Self { cause: Cause::Error, reason }
    }
}

fn bad_output(reason: impl Into<String>) -> Failed {
    Failed { cause: Cause::Output, reason: reason.into() }
}

/// The plugins of one exchange.
pub struct Session {
    set: Arc<PluginSet>,
    around: Arc<dyn Surroundings>,
    head: RequestHead,
    /// By the plugin's place in the set. A plugin that failed is not asked again in this exchange.
    live: Vec<(usize, Option<Live>)>,
    failures: Vec<Failure>,
    whose: Whose,
    /// Nothing that plugins do here is to be seen.
    aside: Option<Aside>,
    /// The place of the version in whose stead a canary has just answered.
    settled: Option<usize>,
    /// Why the last call that failed did, or was not made.
    trouble: Option<&'static str>,
}

impl Session {
    /// A session over the plugins that were in force when the exchange began.
    pub fn new(set: Arc<PluginSet>, around: Arc<dyn Surroundings>, head: RequestHead) -> Self {
        if let Some(tape) = around.tape() {
            tape.meets(&head);
        }
        Self {
            set,
            around,
            head,
            live: Vec::new(),
            failures: Vec::new(),
            whose: Whose::default(),
            aside: None,
            settled: None,
            trouble: None,
        }
    }

    /// The same for whoever this is, where canaries hang on it.
    #[must_use]
    pub fn of(mut self, whose: Whose) -> Self {
        self.whose = whose;
        self
    }

    /// The same, and nothing that the plugins do is seen: they keep things in a store of their own.
    #[must_use]
    pub(super) fn aside(mut self, kv: Option<Arc<Kv>>) -> Self {
        self.aside = Some(Aside { kv });
        self
    }

    /// Why the last call that failed did, or was not made; none if none has.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        self.trouble
    }

    /// The calls that have failed so far.
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }

    /// After a prompt was chosen: later hooks see it in their `request-head`.
    pub fn set_prompt(&mut self, name: &str, version: &str) {
        self.head.prompt = Some(types::PromptRef { name: name.to_owned(), version: Some(version.to_owned()) });
    }

    /// The prompt that later hooks see in their head; none: there is none.
    pub fn see_prompt(&mut self, prompt: Option<types::PromptRef>) {
        self.head.prompt = prompt;
    }

    /// The `prompting` hook: the first plugin with an opinion.
    ///
    /// # Errors
    /// When a plugin fails whose owner wrote `on_failure = "fail"`.
    pub async fn select(&mut self, request: &Arc<ChatRequest>) -> Result<Option<Said<prompting::Outcome>>, Error> {
        for index in self.set.at(Hook::Prompting, &self.head, &self.whose) {
            if self.is_settled(index) {
                continue;
            }
            let began = Instant::now();
            self.begins(index, Function::Select, request, Shown::default());
            let Some((plugin, mut live)) = self.enter(index, Hook::Prompting, request).await? else { continue };
            let asked = async { Ok::<_, Failed>(plugin.exports.select(&mut live, &self.head).await??) };
            let outcome = patiently(&plugin, pin!(asked)).await.and_then(|outcome| match outcome {
                prompting::Outcome::Reject(rejection) => checked_rejection(rejection).map(prompting::Outcome::Reject),
                other => Ok(other),
            });
            self.beside(index, request, began, || Asked::Select, &outcome);
            let keep = plugin.settings.hooks.len() > 1;
            match self.leave(index, &plugin, Hook::Prompting, live, keep, began, outcome)? {
                None | Some(prompting::Outcome::Pass) => {}
                Some(what) => return Ok(Some(Said { by: plugin, what })),
            }
        }
        Ok(None)
    }

    /// The `caching` hook's `key`: the first plugin with an opinion. One that fails, or is left alone, might have said that nobody
    /// may share: so nobody does.
    ///
    /// # Errors
    /// As [`Session::select`].
    pub async fn key(&mut self, request: &Arc<ChatRequest>) -> Result<Option<Said<caching::Directive>>, Error> {
        for index in self.set.at(Hook::Caching, &self.head, &self.whose) {
            if self.is_settled(index) {
                continue;
            }
            let is_trial = self.set.serving(index).is_some();
            let began = Instant::now();
            self.begins(index, Function::Key, request, Shown::default());
            let Some((plugin, mut live)) = self.enter(index, Hook::Caching, request).await? else {
                if is_trial {
                    continue;
                }
                return Ok(Some(Said { by: self.set.all()[index].clone(), what: caching::Directive::Bypass }));
            };
            let asked = async { Ok::<_, Failed>(plugin.exports.key(&mut live, &self.head).await??) };
            let directive = patiently(&plugin, pin!(asked)).await;
            self.beside(index, request, began, || Asked::Key, &directive);
            let keep = plugin.settings.hooks.contains(&Hook::Routing) || directive.as_ref().is_ok_and(asks_to_confirm);
            match self.leave(index, &plugin, Hook::Caching, live, keep, began, directive)? {
                Some(caching::Directive::Pass) => {}
                None if is_trial => {}
                None => return Ok(Some(Said { by: plugin, what: caching::Directive::Bypass })),
                Some(what) => return Ok(Some(Said { by: plugin, what })),
            }
        }
        Ok(None)
    }

    /// May this near hit be served? The plugin that made the key answers; where it cannot, the answer is no.
    pub async fn confirm(&mut self, by: &Arc<Plugin>, request: &Arc<ChatRequest>, hit: &caching::Candidate) -> caching::Verdict {
        for index in self.ways(by) {
            let began = Instant::now();
            self.begins(index, Function::Confirm, request, Shown { hit: Some(hit), ..Shown::default() });
            let Ok(Some((plugin, mut live))) = self.enter(index, Hook::Caching, request).await else { continue };
            let asked = async { Ok::<_, Failed>(plugin.exports.confirm(&mut live, &self.head, hit).await??) };
            let verdict = patiently(&plugin, pin!(asked)).await;
            self.beside(index, request, began, || Asked::Confirm(hit.clone()), &verdict);
            if let Ok(Some(verdict)) = self.leave(index, &plugin, Hook::Caching, live, true, began, verdict) {
                return verdict;
            }
        }
        caching::Verdict::Veto
    }

    /// May this answer be stored, and for how many milliseconds? Where the plugin cannot say, the answer is no. A fresh instance
    /// says it: the one that made the key would have waited for as long as the model takes, with its memory.
    pub async fn admit(&mut self, by: &Arc<Plugin>, request: &Arc<ChatRequest>, answer: &Arc<Answer>) -> Option<u32> {
        for index in self.ways(by) {
            let began = Instant::now();
            self.begins(index, Function::Admit, request, Shown { answer: Some(answer), ..Shown::default() });
            let Ok(Some((plugin, mut live))) = self.enter(index, Hook::Caching, request).await else { continue };
            live.store.data_mut().answer = Some(answer.clone());
            let asked = async { Ok::<_, Failed>(plugin.exports.admit(&mut live, &self.head).await??) };
            let admitted = patiently(&plugin, pin!(asked)).await;
            self.beside(index, request, began, || Asked::Admit(answer.clone()), &admitted);
            if let Ok(Some(admitted)) = self.leave(index, &plugin, Hook::Caching, live, false, began, admitted) {
                return admitted;
            }
        }
        None
    }

    /// The `routing` hook: the first plugin with an opinion, and those that want to observe whoever answers.
    ///
    /// # Errors
    /// As [`Session::select`].
    pub async fn route(&mut self, request: &Arc<ChatRequest>) -> Result<Routed, Error> {
        let mut observers = Vec::new();
        for index in self.set.at(Hook::Routing, &self.head, &self.whose) {
            if self.is_settled(index) {
                continue;
            }
            let began = Instant::now();
            self.begins(index, Function::Route, request, Shown::default());
            let Some((plugin, mut live)) = self.enter(index, Hook::Routing, request).await? else { continue };
            let asked = async { Ok::<_, Failed>(plugin.exports.route(&mut live, &self.head).await??) };
            let decision = patiently(&plugin, pin!(asked)).await.and_then(|decision| self.checked(decision));
            self.beside(index, request, began, || Asked::Route, &decision);
            match self.leave(index, &plugin, Hook::Routing, live, false, began, decision)? {
                None | Some(routing::Decision::Pass) => {}
                Some(routing::Decision::Observe(how)) => observers.push(Observer::new(plugin, how)),
                Some(what) => {
                    if let routing::Decision::Plan(routing::Plan { observe: Some(how), .. }) = &what {
                        observers.push(Observer::new(plugin.clone(), *how));
                    }
                    return Ok(Routed { said: Some(Said { by: plugin, what }), observers });
                }
            }
        }
        Ok(Routed { said: None, observers })
    }

    /// What follows an attempt, in the words of the plugin that planned it; a fresh instance says it. None where it cannot.
    ///
    /// # Errors
    /// As [`Session::select`].
    pub async fn after_attempt(
        &mut self,
        by: &Arc<Plugin>,
        request: &Arc<ChatRequest>,
        last: &routing::Attempt,
        answer: Option<&Reviewed>,
    ) -> Result<Option<routing::NextStep>, Error> {
        let (seen, partial) = (answer.map(|seen| &seen.answer), answer.is_some_and(|seen| !seen.whole));
        for index in self.ways(by) {
            let began = Instant::now();
            self.begins(
                index,
                Function::AfterAttempt,
                request,
                Shown { answer: seen, partial, attempt: Some(last), ..Shown::default() },
            );
            let Some((plugin, mut live)) = self.enter(index, Hook::Routing, request).await? else { continue };
            let state = live.store.data_mut();
            (state.answer, state.partial) = (seen.cloned(), partial);
            let asked = async { Ok::<_, Failed>(plugin.exports.after_attempt(&mut live, &self.head, last).await??) };
            let step = patiently(&plugin, pin!(asked)).await.and_then(|step| match step {
                routing::NextStep::Reject(rejection) => checked_rejection(rejection).map(routing::NextStep::Reject),
                routing::NextStep::Escalate(target) => self.checked_target(&target).map(|()| routing::NextStep::Escalate(target)),
                other => Ok(other),
            });
            self.beside(index, request, began, || Asked::After(last.clone(), answer.cloned()), &step);
            if let Some(step) = self.leave(index, &plugin, Hook::Routing, live, false, began, step)? {
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    /// The places that are asked about what this version has begun: its own, and where that is a canary's the serving version's.
    fn ways(&self, by: &Arc<Plugin>) -> impl Iterator<Item = usize> + use<> {
        let own = self.set.place(by);
        own.into_iter().chain(own.and_then(|place| self.set.serving(place)))
    }

    /// Has a canary just answered in this place's stead?
    fn is_settled(&mut self, index: usize) -> bool {
        self.settled.take() == Some(index)
    }

    /// Has the shadow of a version, if it has one, decide the same.
    fn beside<T: Tell>(
        &self,
        index: usize,
        request: &Arc<ChatRequest>,
        began: Instant,
        asked: impl FnOnce() -> Asked,
        said: &Result<T, Failed>,
    ) {
        let Some(shadow) = self.set.shadow(index) else { return };
        let said = match said {
            Ok(said) => said.told(),
            Err(failed) => Told::failed(failed.cause.name()),
        };
        shadow.ask(Job {
            around: self.around.clone(),
            head: self.head.clone(),
            request: request.clone(),
            // What this call has left is not among them yet.
            labels: self.around.labels(),
            elapsed: began.saturating_duration_since(self.around.started()),
            asked: asked(),
            said,
        });
    }

    /// Lets go of all instances, before a long wait for the upstream begins.
    pub fn shed(&mut self) {
        for (index, live) in std::mem::take(&mut self.live) {
            match live {
                Some(live) => self.set.version(index).give_back(live),
                None => self.live.push((index, None)),
            }
        }
    }

    /// What a plugin said turned out not to fit the request: a failure like any other.
    ///
    /// True: it was a canary, and the version that serves is still to be asked.
    ///
    /// # Errors
    /// When its owner wrote `on_failure = "fail"`.
    pub fn unfit(&mut self, by: &Arc<Plugin>, hook: Hook, reason: &str) -> Result<bool, Error> {
        let Some(index) = self.set.place(by) else { return Ok(false) };
        self.live.retain(|(place, _)| *place != index);
        if let Some(tape) = self.tape() {
            tape.unfit(by, reason);
        }
        self.failed(index, by, hook, Instant::now(), bad_output(reason))?;
        Ok(self.set.serving(index).is_some())
    }

    fn checked(&self, decision: routing::Decision) -> Result<routing::Decision, Failed> {
        match decision {
            routing::Decision::Pass => Ok(routing::Decision::Pass),
            routing::Decision::Observe(how) => observe::checked(how).map(routing::Decision::Observe),
            routing::Decision::Reject(rejection) => checked_rejection(rejection).map(routing::Decision::Reject),
            routing::Decision::Plan(plan) => {
                if plan.targets.is_empty() || plan.targets.len() > MAX_TARGETS {
                    return Err(bad_output(format!("a plan has 1 to {MAX_TARGETS} targets, not {}", plan.targets.len())));
                }
                plan.targets.iter().try_for_each(|target| self.checked_target(target))?;
                if let Some(tokens) = plan.review.and_then(|review| review.tokens)
                    && !(1..=MAX_REVIEWED).contains(&tokens)
                {
                    return Err(bad_output(format!("a review looks at 1 to {MAX_REVIEWED} tokens, not {tokens}")));
                }
                plan.observe.map(observe::checked).transpose()?;
                if plan.headers.len() > MAX_HEADERS {
                    return Err(bad_output(format!("a plan has at most {MAX_HEADERS} headers")));
                }
                for (name, value) in &plan.headers {
                    checked_header(name, value)?;
                }
                Ok(routing::Decision::Plan(plan))
            }
        }
    }

    fn checked_target(&self, target: &types::Target) -> Result<(), Failed> {
        if !self.around.may_choose(&target.model) {
            return Err(bad_output(format!("`{:.64}` is not a model that may answer `{:.64}`", target.model, self.head.model)));
        }
        // It would end before it began, and the client would be told that the provider was late.
        if target.timeout_ms == Some(0) || target.first_byte_timeout_ms == Some(0) {
            return Err(bad_output(format!("`{:.64}` has a timeout of 0 ms: give it at least 1, or none", target.model)));
        }
        Ok(())
    }

    /// An instance of the plugin, ready for one call; `None` where the call falls through.
    async fn enter(
        &mut self,
        index: usize,
        hook: Hook,
        request: &Arc<ChatRequest>,
    ) -> Result<Option<(Arc<Plugin>, Live)>, Error> {
        let plugin = self.set.version(index).clone();
        let kept = match self.live.iter().position(|(place, _)| *place == index) {
            Some(at) => match self.live.swap_remove(at).1 {
                Some(live) => Some(live),
                None => {
                    self.live.push((index, None));
                    self.ends(Instant::now(), || Noted::Skipped, &[]);
                    return self.fall_through(index, hook, "quarantined");
                }
            },
            None => None,
        };
        // In a replay one exchange says nothing about the next one.
        if !plugin.engine.is_metered() && plugin.quarantine.holds(hook, &self.head.tenant) {
            plugin.numbers.skipped.add(1);
            self.ends(Instant::now(), || Noted::Skipped, &[]);
            return self.fall_through(index, hook, "quarantined");
        }
        let mut live = match kept.or_else(|| plugin.resting.as_ref()?.take()) {
            Some(mut live) => {
                limits::start(&mut live.store, plugin.settings.deadline, plugin.engine.is_metered());
                live
            }
            None => {
                let began = Instant::now();
                let made = async { Ok(plugin.instantiate(plugin.settings.deadline, self.state(&plugin)).await?) };
                let made = patiently(&plugin, pin!(made)).await;
                match made {
                    Ok(live) => live,
                    Err(failed) => {
                        self.failed(index, &plugin, hook, began, failed)?;
                        return Ok(None);
                    }
                }
            }
        };
        limits::allow(&mut live.store, request.bytes().len());
        let state = live.store.data_mut();
        // It has rested, or will.
        if state.around.is_none() {
            state.around = Some(self.around.clone());
            state.aside = self.aside.clone();
        }
        state.request = Some(request.clone());
        Ok(Some((plugin, live)))
    }

    /// What a new instance begins with: this exchange, unless others will have the instance, too.
    fn state(&self, plugin: &Plugin) -> State {
        let mut state = plugin.state();
        if plugin.resting.is_none() {
            (state.around, state.aside) = (Some(self.around.clone()), self.aside.clone());
        }
        state
    }

    /// Where calls are noted: on the exchange's tape, if it has one.
    fn tape(&self) -> Option<&Tape> {
        self.around.tape()
    }

    /// Notes that a call begins, where somebody wants to know.
    fn begins(&self, index: usize, function: Function, request: &Arc<ChatRequest>, shown: Shown<'_>) {
        if let Some(tape) = self.tape() {
            let at_us = self.around.started().elapsed().as_micros() as u64;
            let told = (at_us, self.head.prompt.as_ref());
            tape.begins(self.set.version(index), function, told, request, &shown, || self.around.labels());
        }
    }

    /// Notes what came of it.
    fn ends(&self, began: Instant, said: impl FnOnce() -> Noted, labels: &[(String, String)]) {
        if let Some(tape) = self.tape() {
            tape.ends(began.elapsed().as_micros() as u64, said(), labels);
        }
    }

    /// Books the call; keeps the instance where it is needed again and still sound.
    #[allow(clippy::too_many_arguments, reason = "everything that one call leaves behind, booked in one place")]
    fn leave<T: Serialize>(
        &mut self,
        index: usize,
        plugin: &Arc<Plugin>,
        hook: Hook,
        mut live: Live,
        keep: bool,
        began: Instant,
        said: Result<T, Failed>,
    ) -> Result<Option<T>, Error> {
        plugin.numbers.memory.note(live.store.data().limits.memory as u64);
        match said {
            Ok(said) => {
                plugin.numbers.calls[hook as usize].observe(began.elapsed());
                if plugin.quarantine.succeeded(hook, &self.head.tenant) == Back::Now {
                    let (plugin, hook, tenant) = (plugin.label(), hook.name(), &self.head.tenant);
                    tracing::info!(plugin, hook, tenant, "a plugin that was left alone answers again");
                }
                self.settled = self.set.serving(index);
                let labels = std::mem::take(&mut live.store.data_mut().labels);
                self.ends(began, || Noted::Decided(serde_json::to_value(&said).unwrap_or_default()), &labels);
                if !labels.is_empty() {
                    self.around.leave(labels);
                }
                if keep {
                    self.live.push((index, Some(live)));
                } else {
                    plugin.give_back(live);
                }
                Ok(Some(said))
            }
            Err(failed) => {
                drop(live);
                self.failed(index, plugin, hook, began, failed)?;
                Ok(None)
            }
        }
    }

    fn failed(
        &mut self,
        index: usize,
        plugin: &Arc<Plugin>,
        hook: Hook,
        began: Instant,
        mut failed: Failed,
    ) -> Result<(), Error> {
        if let Cow::Owned(line) = printable(&failed.reason) {
            failed.reason = line;
        }
        failed.reason = in_terms(&failed, &plugin.settings);
        plugin.numbers.calls[hook as usize].observe(began.elapsed());
        plugin.numbers.failed(hook, failed.cause, &failed.reason);
        let quarantined = plugin.quarantine.failed(hook, &self.head.tenant);
        self.live.push((index, None));
        self.ends(began, || Noted::Failed { cause: failed.cause.name().to_owned(), reason: failed.reason.clone() }, &[]);
        tracing::warn!(
            exchange = self.around.id(),
            plugin = plugin.label(),
            hook = hook.name(),
            cause = failed.cause.name(),
            quarantined,
            "plugin failed: {:.512}",
            failed.reason
        );
        let cause = failed.cause;
        self.failures.push(Failure { hook, cause, reason: failed.reason });
        self.fall_through(index, hook, cause.name()).map(drop::<Option<()>>)
    }

    /// The rule for a call that has failed, or is not made. Where it was a canary's, the version that serves is asked.
    fn fall_through<T>(&mut self, index: usize, hook: Hook, why: &'static str) -> Result<Option<T>, Error> {
        self.trouble = Some(why);
        let plugin = self.set.version(index);
        if self.set.serving(index).is_some() {
            return Ok(None);
        }
        if plugin.settings.fail {
            return Err(Error::plugin_failed(plugin.name(), hook.name(), why));
        }
        plugin.numbers.fell_through.add(1);
        Ok(None)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Between two calls each of them is sound.
        self.shed();
    }
}

/// The epoch ends a guest that computes; a guest that waits in the host is ended here.
async fn patiently<T>(plugin: &Plugin, asked: Pin<&mut impl Future<Output = Result<T, Failed>>>) -> Result<T, Failed> {
    let _running = plugin.engine.running();
    if !plugin.waits || plugin.engine.is_metered() {
        return asked.await;
    }
    let late = || Failed { cause: Cause::Deadline, reason: "it waits for the host".to_owned() };
    tokio::time::timeout(plugin.settings.deadline, asked).await.unwrap_or_else(|_| Err(late()))
}

/// Why a call failed, in terms of the setting that ended it, where one did.
fn in_terms(failed: &Failed, settings: &Settings) -> String {
    let reason = &failed.reason;
    match failed.cause {
        Cause::Deadline => format!("no answer in {:?}, which is its `deadline`: {reason}", settings.deadline),
        Cause::Memory => format!("it wants more than the {} KiB that `memory` allows it: {reason}", settings.memory >> 10),
        Cause::Trap | Cause::Error | Cause::Output | Cause::Exhausted => reason.clone(),
    }
}

fn asks_to_confirm(directive: &caching::Directive) -> bool {
    match directive {
        caching::Directive::Key(key) | caching::Directive::ReadOnly(key) | caching::Directive::Refresh(key) => {
            key.semantic.as_ref().is_some_and(|semantic| semantic.confirm)
        }
        caching::Directive::Pass | caching::Directive::Bypass => false,
    }
}

fn checked_rejection(rejection: types::Rejection) -> Result<types::Rejection, Failed> {
    if (400..=499).contains(&rejection.status) || rejection.status == 503 {
        Ok(rejection)
    } else {
        Err(bad_output(format!("a rejection has a status of 400 to 499, or 503, not {}", rejection.status)))
    }
}

/// A plan's header: well formed, and not one that the host answers for.
fn checked_header(name: &str, value: &str) -> Result<(), Failed> {
    let owned = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-api-key",
        "api-key",
    ];
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad_output(format!("{name:.64?} is not a header's name")))?;
    HeaderValue::from_str(value).map_err(|_| bad_output(format!("the value of the header `{parsed}` has control characters")))?;
    if owned.contains(&parsed.as_str()) || parsed.as_str().starts_with("proxy-") {
        return Err(bad_output(format!("the header `{parsed}` is set by the host alone")));
    }
    Ok(())
}
