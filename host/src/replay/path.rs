//! What follows from decisions: which models are asked, and who answers.
//!
//! A plan is followed along the recorded attempts as long as both ask the same models. Where they part nobody knows what a model would have
//! said: it is taken to answer well.
//!
//! **Invariant:** where the decisions are the recorded ones, so is the path.

use std::collections::VecDeque;

use serde_json::Value;

use crate::plugin::bindings::routing::{Decision, NextStep};
use crate::plugin::tape::{Attempted, Call, Function, Recorded, Said};

/// Attempts of an exchange, as the host bounds them.
const MOST: usize = 16;

/// How the exchange ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    /// A model answers.
    Model(String),
    /// The client is refused.
    Refused,
    /// The cache answers.
    Cached,
    /// Nobody can say.
    Unknown,
}

impl End {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Model(name) => name,
            Self::Refused => "(refused)",
            Self::Cached => "(cache)",
            Self::Unknown => "(unknown)",
        }
    }
}

/// It had an answer, which did not break off before anybody had got any of it.
fn has_answered(attempt: &Attempted) -> bool {
    attempt.status.is_some() && attempt.failure.is_none()
}

#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) end: End,
    /// The models that answer on the way, the last one among them; empty where the recorded figures hold.
    pub(super) asked: Vec<String>,
    /// It is the recorded one.
    pub(super) is_recorded: bool,
    left: VecDeque<String>,
    /// Attempts begun.
    number: usize,
    current: Option<String>,
    reviews: Option<bool>,
}

impl Path {
    pub(super) fn recorded(exchange: &Recorded) -> Self {
        let outcome = &exchange.outcome;
        let end = match (&outcome.model, outcome.cache.as_str()) {
            (_, "exact" | "semantic" | "stale" | "flight") => End::Cached,
            _ if outcome.ending == "refused" => End::Refused,
            (Some(model), _) => End::Model(model.clone()),
            (None, _) => End::Unknown,
        };
        Self { end, asked: Vec::new(), is_recorded: true, left: VecDeque::new(), number: 0, current: None, reviews: None }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.end == End::Refused && !self.is_recorded
    }

    /// A decision has been made; `call` is the recorded one.
    pub(super) fn takes(&mut self, call: &Call, said: Option<&Said>, exchange: &Recorded) {
        let rejects = |said: &Said| matches!(said, Said::Decided(Value::Object(cases)) if cases.contains_key("Reject"));
        let (rejected, rejects) = (rejects(&call.said), said.is_some_and(rejects));
        match call.function {
            Function::Select | Function::Route if rejects && !rejected => self.ends(End::Refused),
            Function::Select if rejected && !rejects => self.ends(End::Unknown),
            Function::Route => self.planned(call, said, exchange),
            _ => {}
        }
    }

    fn planned(&mut self, call: &Call, said: Option<&Said>, exchange: &Recorded) {
        let plan = |said: &Said| match said {
            Said::Decided(value) => match serde_json::from_value(value.clone()) {
                Ok(Decision::Plan(plan)) => Some(plan),
                _ => None,
            },
            _ => None,
        };
        let (before, now) = (plan(&call.said), said.and_then(plan));
        let is_refusal = |said: &Said| matches!(said, Said::Decided(Value::Object(cases)) if cases.contains_key("Reject"));
        let had_none = before.is_none() && !is_refusal(&call.said);
        match now {
            Some(plan) => {
                self.left = plan.targets.into_iter().map(|target| target.model).collect();
                self.reviews = plan.review.map(|review| review.answers);
                self.is_recorded = false;
                self.end = End::Unknown;
            }
            // Without an opinion then and now it goes as it went.
            None if had_none => {}
            None if said.is_some_and(is_refusal) => {}
            // Without one now the host chooses: what was asked for, or the first of the choices.
            None => match exchange.candidates.first() {
                Some(first) => {
                    self.asked = vec![first.clone()];
                    self.ends(End::Model(first.clone()));
                }
                None => self.ends(End::Unknown),
            },
        }
    }

    pub(super) fn ends(&mut self, end: End) {
        (self.end, self.is_recorded) = (end, false);
        self.left.clear();
    }

    /// Who answers, as far as that is known.
    pub(super) fn answers(&self) -> Option<String> {
        match &self.end {
            End::Model(model) => Some(model.clone()),
            End::Refused | End::Cached | End::Unknown => None,
        }
    }

    /// Those who observe an answer of this model let it pass.
    pub(super) fn stays_with(&mut self, model: &str) {
        self.paid(model);
        self.ends(End::Model(model.to_owned()));
    }

    /// They do not, and this one is to answer in its place.
    pub(super) fn escalates(&mut self, model: &str, other: String) {
        self.paid(model);
        if self.is_recorded {
            // What it would say nobody has heard.
            self.asked.push(other.clone());
            return self.ends(End::Model(other));
        }
        self.left.push_front(other);
        self.end = End::Unknown;
    }

    fn paid(&mut self, model: &str) {
        if self.asked.last().is_none_or(|last| last != model) {
            self.asked.push(model.to_owned());
        }
    }

    /// The number of the next attempt of which it is known what it came to. None: the path has its end.
    pub(super) fn next(&mut self, exchange: &Recorded) -> Option<u32> {
        let model = if self.number < MOST { self.left.pop_front()? } else { return None };
        self.number += 1;
        let is_known = exchange.outcome.attempts.get(self.number - 1).is_some_and(|attempt| attempt.model == model);
        // Where the models before it were the recorded ones, too; the path ends at the first that was not.
        if !is_known {
            self.asked.push(model.clone());
            self.ends(End::Model(model));
            return None;
        }
        self.current = Some(model);
        u32::try_from(self.number).ok()
    }

    /// Is the component asked what follows the attempt?
    pub(super) fn asks(&self, exchange: &Recorded) -> bool {
        let is_well =
            |attempt: &Attempted| has_answered(attempt) && attempt.status.is_some_and(|status| (200..300).contains(&status));
        let has_failed = !exchange.outcome.attempts.get(self.number - 1).is_some_and(is_well);
        self.reviews.is_some_and(|answers| answers || has_failed)
    }

    /// What it says follows; where it cannot say, or is not asked, an answer is the answer, and after a failure comes the next target.
    pub(super) fn goes_on(&mut self, said: Option<&Said>, exchange: &Recorded) {
        let Some(model) = self.current.take() else { return };
        let has_answered = exchange.outcome.attempts.get(self.number - 1).is_some_and(has_answered);
        if has_answered {
            self.asked.push(model.clone());
        }
        let step = match said {
            Some(Said::Decided(value)) => serde_json::from_value(value.clone()).ok(),
            _ => None,
        };
        let otherwise = if has_answered { NextStep::Accept } else { NextStep::FallBack };
        match step.unwrap_or(otherwise) {
            // Where no target is left, the client gets an answer that was not good enough, or a failure.
            NextStep::FallBack if self.left.is_empty() => {
                self.ends(self.asked.last().map_or(End::Refused, |kept| End::Model(kept.clone())))
            }
            NextStep::FallBack => {}
            NextStep::Again(_) => self.left.push_front(model),
            NextStep::Escalate(target) => self.left.push_front(target.model),
            NextStep::Reject(_) => self.ends(End::Refused),
            NextStep::Accept if has_answered => self.ends(End::Model(model)),
            NextStep::Accept => self.ends(End::Refused),
        }
    }

    /// Whether it comes to what was recorded, so that the recorded figures are its own.
    pub(super) fn is_as_recorded(&self, exchange: &Recorded) -> bool {
        let answered = exchange.outcome.attempts.iter().filter(|attempt| has_answered(attempt)).map(|attempt| &attempt.model);
        self.is_recorded || (self.end == Self::recorded(exchange).end && self.asked.iter().eq(answered))
    }
}
