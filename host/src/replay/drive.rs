//! Asks a component about one exchange what the recorded version was asked.
//!
//! Each call is told what it was told then: a decision that would have changed the request for later hooks does not change it here.
//! `after-attempt` alone follows from what is decided now: it is asked about the attempts that the component's own plan has in common with
//! the recorded one ([`Path`]); and `on-chunk` about the answers that come on that path (`observe`).
//!
//! **Invariant:** an exchange has a session of its own, with instances as the host makes them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::around::Around;
use super::observe::{self, Heard, Outcome};
use super::path::{End, Path};
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::plugin::bindings::caching::Candidate;
use crate::plugin::bindings::routing::Decision;
use crate::plugin::hooks::{Reviewed, Session};
use crate::plugin::imports::Surroundings;
use crate::plugin::tape::{Call, Function, Recorded, Said, Told};
use crate::plugin::{Plugin, PluginSet};

/// What was decided about one exchange.
pub(super) struct Ran {
    pub(super) calls: Vec<Decided>,
    /// What would have followed.
    pub(super) path: Path,
    /// Questions that no record answers.
    pub(super) unknown: Vec<String>,
}

/// One decision.
#[derive(Clone)]
pub(super) struct Decided {
    pub(super) function: Function,
    pub(super) said: Said,
    pub(super) labels: Vec<(String, String)>,
}

impl From<&Call> for Decided {
    fn from(call: &Call) -> Self {
        Self { function: call.function, said: call.said.clone(), labels: call.labels.clone() }
    }
}

/// The calls of one plugin. Where a canary failed and the version that serves was asked in its place, the first call came to nothing.
pub(super) fn calls_of<'a>(name: &str, exchange: &'a Recorded) -> Vec<&'a Call> {
    let mut found: Vec<&Call> = Vec::new();
    // One whose client has left in the middle of a call decided nothing.
    for call in exchange.calls.iter().filter(|call| call.plugin == name && call.said != Said::Nothing) {
        let is_in_place_of =
            |last: &&Call| last.function == call.function && last.digest != call.digest && !matches!(last.said, Said::Decided(_));
        if found.last().is_some_and(is_in_place_of) {
            found.pop();
        }
        found.push(call);
    }
    found
}

impl Ran {
    /// As it was recorded.
    pub(super) fn recorded(name: &str, exchange: &Recorded) -> Self {
        let calls = calls_of(name, exchange).into_iter().map(Decided::from).collect();
        Self { calls, path: Path::recorded(exchange), unknown: Vec::new() }
    }
}

/// Does a decision of `route` say so?
fn wants_to_observe(said: &Said) -> bool {
    let Said::Decided(value) = said else { return false };
    match serde_json::from_value(value.clone()) {
        Ok(Decision::Observe(_)) => true,
        Ok(Decision::Plan(plan)) => plan.observe.is_some(),
        _ => false,
    }
}

/// What is needed for one exchange.
struct Drive<'a> {
    session: Session,
    around: Arc<Around>,
    requests: Vec<Arc<ChatRequest>>,
    answers: Vec<Arc<Answer>>,
    by: Arc<Plugin>,
    calls: Vec<&'a Call>,
    /// Answers of which parts were recorded, and which the component has not been asked about.
    heard: VecDeque<Heard<'a>>,
    /// It observes whoever answers.
    observes: bool,
    /// It would have been asked about parts of answers that nobody knows.
    unheard: bool,
    recorded: &'a Arc<Recorded>,
}

pub(super) async fn run(set: &Arc<PluginSet>, name: &str, recorded: &Arc<Recorded>) -> Result<Ran, String> {
    let Some(by) = set.all().first().cloned() else { return Err("has no plugin to ask".to_owned()) };
    let around = Arc::new(Around::new(recorded.clone(), name));
    let request = |text: &String| ChatRequest::parse(Bytes::copy_from_slice(text.as_bytes())).map(Arc::new);
    let requests = recorded.requests.iter().map(request).collect::<Result<Vec<_>, _>>();
    let requests = requests.map_err(|error| format!("has a request that cannot be read: {error}"))?;
    let answer = |text: &String| Answer::read(Bytes::copy_from_slice(text.as_bytes())).map(Arc::new);
    let answers = recorded.answers.iter().map(answer).collect::<Option<Vec<_>>>();
    let answers = answers.ok_or("has an answer that cannot be read")?;
    let session = Session::new(set.clone(), around.clone(), recorded.head.clone());
    let calls = calls_of(name, recorded);
    let heard = observe::heard(&calls);
    let drive = Drive { session, around, requests, answers, by, calls, heard, observes: false, unheard: false, recorded };
    drive.all().await
}

impl Drive<'_> {
    async fn all(mut self) -> Result<Ran, String> {
        let mut path = Path::recorded(self.recorded);
        for call in self.calls.clone() {
            if matches!(call.function, Function::AfterAttempt | Function::OnChunk) {
                // Asked on the path of the plan that is made now.
                continue;
            }
            self.ask(call).await?;
            let now = self.last();
            if let Some(now) = &now {
                self.around.leave(now.decided_labels());
                // What did not fit the request then does not fit it now, and the plugin is not asked again.
                if let Some(reason) = call.unfit.as_ref().filter(|_| now.said == call.said) {
                    let _ = self.session.unfit(&self.by, call.function.hook(), reason);
                }
            }
            let said = now.map(|now| now.said);
            path.takes(call, said.as_ref(), self.recorded);
            if self.by.settings().fail && matches!(said, Some(Said::Failed { .. })) && !matches!(call.said, Said::Failed { .. }) {
                path.ends(End::Refused);
            }
            if path.is_refused() {
                break;
            }
            if call.function == Function::Route {
                self.session.shed();
                self.observes = said.as_ref().is_some_and(wants_to_observe);
                self.follow(&mut path).await?;
                self.listen(&mut path).await?;
            }
        }
        let mut kept = self.around.tape().map(|tape| tape.take()).unwrap_or_default();
        kept.unknown.extend(self.unheard.then(|| observe::UNKNOWN.to_owned()));
        Ok(Ran { calls: kept.calls.iter().map(Decided::from).collect(), path, unknown: kept.unknown })
    }

    /// Whoever answers is observed, and another model may answer in its place.
    async fn listen(&mut self, path: &mut Path) -> Result<(), String> {
        while self.observes {
            // Without a plan it goes as it went, answer by answer.
            let model = match path.is_recorded {
                true => self.heard.front().map(|heard| heard.model.to_owned()),
                false => None,
            };
            let Some(model) = model.or_else(|| path.answers()) else { return Ok(()) };
            let Some(place) = self.heard.iter().position(|heard| heard.model == model) else {
                // It is an answer that nobody knows, or that the recorded version did not observe.
                self.unheard = true;
                return Ok(());
            };
            let Some(heard) = self.heard.drain(..=place).next_back() else { return Ok(()) };
            let told = (&self.requests[..], &**self.recorded);
            let (now, is_known) = heard.ask(&mut self.session, &self.around, &self.by, told).await?;
            self.unheard |= !is_known;
            if path.is_recorded && now == heard.recorded(&self.by) {
                if matches!(now, Outcome::Escalates(_)) {
                    continue;
                }
                return Ok(());
            }
            match now {
                Outcome::Goes => path.stays_with(&model),
                Outcome::Refused => path.ends(End::Refused),
                Outcome::Escalates(other) => {
                    path.escalates(&model, other);
                    self.follow(path).await?;
                    continue;
                }
            }
            return Ok(());
        }
        Ok(())
    }

    /// The attempts of the plan, as far as it is known what they came to.
    async fn follow(&mut self, path: &mut Path) -> Result<(), String> {
        while let Some(number) = path.next(self.recorded) {
            let is_of = |call: &&Call| {
                let attempt = call.told.as_ref().and_then(|told| told.attempt.as_ref());
                call.function == Function::AfterAttempt && attempt.is_some_and(|attempt| attempt.number == number)
            };
            let call = self.calls.iter().copied().find(is_of);
            let said = match call.filter(|_| path.asks(self.recorded)) {
                Some(call) => {
                    self.ask(call).await?;
                    self.session.shed();
                    self.last().map(|now| now.said)
                }
                None => None,
            };
            path.goes_on(said.as_ref(), self.recorded);
        }
        Ok(())
    }

    async fn ask(&mut self, call: &Call) -> Result<(), String> {
        let Some(told) = &call.told else { return Err("has a call of which nothing was kept".to_owned()) };
        self.around.turn_to(call);
        self.session.see_prompt(told.prompt.clone());
        let request = self.requests.get(told.request).cloned().ok_or("has a call without its request")?;
        let answer = told.answer.and_then(|place| self.answers.get(place)).cloned();
        // What a failure means for the exchange is on the tape already.
        match call.function {
            Function::Select => drop(self.session.select(&request).await),
            Function::Key => drop(self.session.key(&request).await),
            Function::Route => drop(self.session.route(&request).await),
            Function::Confirm => {
                let hit: &Candidate = told.hit.as_ref().ok_or("has a call without its near hit")?;
                let _ = self.session.confirm(&self.by, &request, hit).await;
            }
            Function::Admit => {
                let answer = answer.ok_or("has a call without its answer")?;
                let _ = self.session.admit(&self.by, &request, &answer).await;
            }
            Function::AfterAttempt => self.after(told, &request, answer).await?,
            // `listen` asks.
            Function::OnChunk => {}
        }
        Ok(())
    }

    async fn after(&mut self, told: &Told, request: &Arc<ChatRequest>, answer: Option<Arc<Answer>>) -> Result<(), String> {
        let attempt = told.attempt.as_ref().ok_or("has a call without its attempt")?;
        let seen = answer.map(|answer| Reviewed { answer, whole: !told.partial });
        drop(self.session.after_attempt(&self.by, request, attempt, seen.as_ref()).await);
        Ok(())
    }

    /// The call that was made last.
    fn last(&self) -> Option<Call> {
        self.around.tape().and_then(|tape| tape.last())
    }
}
