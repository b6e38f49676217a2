//! The verdict on an attempt: the cascade's, or the plugin's.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::see::{Broke, Sight, see};
use super::{Step, Turns, self_check};
use crate::dialect::answer::Answer;
use crate::error::Error;
use crate::gateway::models::Cascade;
use crate::gateway::plan::{self, Judge, Turn};
use crate::gateway::prompt::rejected;
use crate::plugin::Plugin;
use crate::plugin::bindings::routing::{Attempt, Failure, NextStep, Review};
use crate::plugin::hooks::Reviewed;
use crate::record::cost::Tokens;
use crate::route::judge::{Doubt, Draft};
use crate::upstream::{Body, Reply};

/// Events of a stream after which a plugin is asked, where it does not say.
const LOOK_AT: u32 = 64;

/// What follows, and what the answer has cost by now; or what became of the answer while it was looked at.
type Verdict = Result<(Step, u64), Broke>;

impl Turns<'_> {
    /// What follows an answer.
    ///
    /// # Errors
    /// Where a plugin refuses the request, or fails and must not be gone without.
    pub(super) async fn verdict(&mut self, turn: &Turn, reply: &mut Reply, began: Instant) -> Result<Verdict, Error> {
        match self.judge.clone() {
            // Where no other model is left there is nothing to judge for.
            Some(Judge::Cascade(cascade)) if turn.judged && !self.left.is_empty() => {
                // Boxed, as below: who is not judged does not carry it.
                Ok(Box::pin(self.by_rules(&cascade, reply)).await)
            }
            Some(Judge::Cascade(_)) if turn.judged && reply.status.is_success() => {
                // A level has passed over whoever would have been asked next.
                self.course.is_not_judged();
                Ok(Ok((Step::Accept, 0)))
            }
            Some(Judge::Plugin { by, review }) if review.answers || !reply.status.is_success() => {
                Box::pin(self.by_plugin(&by, review, turn, reply, began)).await
            }
            _ => Ok(Ok((Step::Accept, 0))),
        }
    }

    async fn by_rules(&mut self, cascade: &Cascade, reply: &mut Reply) -> Verdict {
        if !reply.status.is_success() {
            let step = if is_too_long(reply) { Step::Next(Doubt::TooLong) } else { Step::Accept };
            return Ok((step, 0));
        }
        // Half an answer is no answer to ask about.
        let enough = if cascade.self_check.is_some() { u32::MAX } else { cascade.tokens };
        let Some(sight) = see(reply, enough, self.run.begins()).await? else { return Ok((self.unjudged(), 0)) };
        let cost = self.cost(&reply.model, &sight);
        let Some(sense) = sight.answer.sense() else { return Ok((self.unjudged(), cost)) };
        let draft = Draft {
            text: &sense.text,
            mean_logprob: sense.mean_logprob,
            refused: sense.refused,
            calls: sense.calls,
            whole: sight.whole,
        };
        let mut doubt = cascade.rules.doubt(&draft, self.request.wants_json());
        if let (None, Some(check), false) = (doubt, &cascade.self_check, sense.calls) {
            let asked = match sight.whole {
                true => self_check::ask(self.course, self.context, check, self.request, &sense.text).await,
                false => None,
            };
            match asked {
                Some(verdict) => doubt = verdict,
                None => return Ok((self.unjudged(), cost)),
            }
        }
        Ok((doubt.map_or(Step::Accept, Step::Next), cost))
    }

    /// Nobody could say whether the answer is good: it passes, and its record says so.
    fn unjudged(&mut self) -> Step {
        self.course.record.unjudged = true;
        Step::Accept
    }

    async fn by_plugin(
        &mut self,
        by: &Arc<Plugin>,
        review: Review,
        turn: &Turn,
        reply: &mut Reply,
        began: Instant,
    ) -> Result<Verdict, Error> {
        let sight = match see(reply, review.tokens.unwrap_or(LOOK_AT), self.run.begins()).await {
            Ok(sight) => sight,
            Err(broke) => return Ok(Err(broke)),
        };
        let cost = sight.as_ref().map_or(0, |sight| self.cost(&reply.model, sight));
        let last = Attempt {
            status: Some(reply.status.as_u16()),
            cost: self.course.exchange.state.models.price(&reply.model).map(|_| cost),
            ..self.attempt(turn, began)
        };
        let seen = sight.map(|sight| Reviewed { answer: sight.answer, whole: sight.whole });
        match self.asked(by, &last, seen.as_ref(), Step::Accept).await {
            Ok(step) => Ok(Ok((step, cost))),
            Err(refusal) => {
                self.course.answered(Ok(reply));
                self.course.record.discarded = self.course.record.discarded.saturating_add(cost);
                Err(refusal)
            }
        }
    }

    /// What follows a failure, as the plugin says.
    ///
    /// # Errors
    /// As [`Turns::verdict`].
    pub(super) async fn after_failure(&mut self, by: &Arc<Plugin>, turn: &Turn, began: Instant) -> Result<Step, Error> {
        let failure = self.run.why().map(|why| Failure {
            code: why.kind.describe().1.to_owned(),
            status: why.status.map(|status| status.as_u16()),
            retry_after_ms: why.after.map(|after| u32::try_from(after.as_millis()).unwrap_or(u32::MAX)),
        });
        let last = Attempt { failure, ..self.attempt(turn, began) };
        self.asked(by, &last, None, Step::Next(Doubt::Plugin)).await
    }

    fn attempt(&self, turn: &Turn, began: Instant) -> Attempt {
        Attempt {
            number: self.number,
            model: turn.attempt.model.to_string(),
            failure: None,
            status: None,
            latency_ms: u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX),
            cost: None,
            left: self.left.len() as u32,
        }
    }

    /// What the plugin says; `otherwise` where it cannot.
    async fn asked(&mut self, by: &Arc<Plugin>, last: &Attempt, seen: Option<&Reviewed>, otherwise: Step) -> Result<Step, Error> {
        let Some(session) = &mut self.course.session else { return Ok(otherwise) };
        let said = session.after_attempt(by, self.request, last, seen).await?;
        session.shed();
        Ok(match said {
            None => otherwise,
            Some(NextStep::Accept) => Step::Accept,
            Some(NextStep::FallBack) => Step::Next(Doubt::Plugin),
            Some(NextStep::Again(ms)) => Step::Again(Duration::from_millis(u64::from(ms))),
            Some(NextStep::Escalate(target)) => match plan::target(self.course, self.request, &target, self.judge.as_ref()) {
                Some(turn) => Step::Instead(Box::new(turn)),
                None => otherwise,
            },
            Some(NextStep::Reject(rejection)) => return Err(rejected(by, rejection)),
        })
    }

    /// What an answer has cost by now, as it says itself, or as far as it can be told.
    fn cost(&self, model: &str, sight: &Sight) -> u64 {
        let tokens = match sight.answer.usage() {
            Some(usage) => usage.into(),
            None => {
                let prompt = u64::from(self.request.estimated_tokens());
                Tokens { prompt, completion: u64::from(sight.events), cached: 0 }
            }
        };
        self.course.exchange.state.models.price(model).map_or(0, |price| price.of(tokens))
    }
}

/// Does the upstream say that the prompt does not fit into this model?
fn is_too_long(reply: &Reply) -> bool {
    let Body::Whole(body) = &reply.body else { return false };
    let code = Answer::read(body.clone());
    let code = code.as_ref().and_then(|answer| answer.pointer("/error/code"));
    reply.status.as_u16() == 413 || code == Some("\"context_length_exceeded\"")
}
