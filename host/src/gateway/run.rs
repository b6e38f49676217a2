//! The stage `run`: the plan's attempts, one after the other, until one has an answer that may go to the client.
//!
//! What follows an attempt is said by the configuration's cascade, by the plugin that made the plan (`after-attempt`), or by nobody:
//! then the first answer is the one. To judge a streamed answer its beginning is held back until the judge has seen enough.
//!
//! What it does not do: it sends nothing itself (`upstream`) and knows no rule (`route/judge`).
//!
//! **Invariant:** no byte of an answer that is judged goes to the client before the verdict.
//! **Invariant:** an answer that was doubted is better than none: it is kept until another one has begun.
//! **Invariant:** whatever was asked for is paid for: the exchange's cost has the answers that were dropped in it.

mod observe;
mod review;
mod see;
mod self_check;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::StatusCode;
use memchr::memmem;
use tokio::time::Instant;

use super::continuation::Continuation;
use super::course::Course;
use super::plan::{Judge, Plan, Turn};
use super::watch::Watch;
use crate::dialect::openai_chat::ChatRequest;
use crate::error::Error;
use crate::plugin::hooks::Observer;
use crate::record::Attempt as Attempted;
use crate::record::cost::Tokens;
use crate::route::judge::Doubt;
use crate::upstream::{self, Body, Context, Run};
use observe::Seen;
use see::Broke;

/// Does the upstream refuse to say log-probabilities?
fn is_about_logprobs(reply: &upstream::Reply) -> bool {
    let Body::Whole(body) = &reply.body else { return false };
    matches!(reply.status, StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) && memmem::find(body, b"logprob").is_some()
}

/// Attempts of an exchange, whatever plugins say.
const MAX_ATTEMPTS: u32 = 16;

/// An answer for the client.
pub(super) struct Answered {
    pub(super) reply: upstream::Reply,
    /// It may be kept for others: nothing has failed before it, and nobody doubts it.
    pub(super) storable: bool,
    /// How many the client has asked for.
    pub(super) choices: usize,
    /// Log-probabilities in it were asked for by us alone.
    pub(super) strip: bool,
    /// What goes on with it where it breaks off.
    pub(super) continuation: Option<Box<Continuation>>,
    /// Plugins that see a stream before the client does.
    pub(super) watch: Option<Box<Watch>>,
}

impl Answered {
    /// As it is, and for nobody else.
    pub(super) fn plain(reply: upstream::Reply) -> Self {
        Self { reply, storable: false, choices: 1, strip: false, continuation: None, watch: None }
    }
}

pub(super) async fn stage(course: &mut Course, request: &Arc<ChatRequest>, plan: Plan) -> Result<Answered, Error> {
    // A model may take minutes; instances that nobody asks again do not wait with it.
    if let Some(session) = &mut course.session {
        session.shed();
    }
    let exchange = course.exchange.clone();
    let context = Context {
        id: &exchange.id,
        worker: exchange.worker,
        deadline: exchange.deadline,
        operation: upstream::provider::Operation::Chat,
        streamed: course.record.streamed,
        tenant: exchange.principal.tenant.clone(),
        priority: course.priority,
        headers: plan.headers,
    };
    if course.is_told() {
        course.record.planned = plan.turns.iter().map(|turn| turn.attempt.model.clone()).collect();
    }
    let (left, judge, observers, run) = (plan.turns.into(), plan.judge, plan.observers, Run::new(&context));
    Turns { course, request, judge, observers, left, run, context: &context, number: 0, kept: None, failed: false }.take().await
}

/// A plan on its way.
struct Turns<'a> {
    course: &'a mut Course,
    request: &'a Arc<ChatRequest>,
    judge: Option<Judge>,
    observers: Vec<Observer>,
    left: VecDeque<Turn>,
    run: Run<'a>,
    context: &'a Context<'a>,
    number: u32,
    kept: Option<Kept>,
    /// An attempt had no answer.
    failed: bool,
}

/// An answer that was not good enough, and its share of what was paid for answers that nobody gets.
struct Kept {
    answered: Answered,
    attempt: upstream::Attempt,
    cost: u64,
}

/// What follows an attempt.
enum Step {
    /// The client gets the answer, or the failure.
    Accept,
    /// The next turn.
    Next(Doubt),
    /// The same turn, after a while.
    Again(Duration),
    /// This turn, before the others.
    Instead(Box<Turn>),
}

impl Turns<'_> {
    async fn take(mut self) -> Result<Answered, Error> {
        while let Some(turn) = self.left.pop_front() {
            self.number += 1;
            let began = Instant::now();
            let last = self.left.is_empty() && self.kept.is_none();
            let answer = self.run.attempt(&turn.attempt, last).await;
            if self.course.is_told() {
                self.note(&turn, answer.as_ref(), began);
            }
            let goes_on = match answer {
                Some(reply) => match self.answered(turn, reply, began).await? {
                    Ok(answered) => return Ok(*answered),
                    Err(goes_on) => goes_on,
                },
                None => self.has_failed(turn, began).await?,
            };
            if !goes_on || Instant::now() >= self.run.begins() || self.number >= MAX_ATTEMPTS {
                break;
            }
        }
        if let Some(Kept { mut answered, attempt, cost }) = self.kept.take() {
            if let Body::Stream(stream) = &mut answered.reply.body {
                stream.has_its_turn();
            }
            if let Seen::Goes(answered) = self.observed(answered, &attempt).await? {
                self.course.record.discarded = self.course.record.discarded.saturating_sub(cost);
                self.course.record.escalated.push("kept");
                self.course.answered(Ok(&answered.reply));
                self.course.record.tries = self.run.tries();
                return Ok(*answered);
            }
        }
        let answer = self.run.conclude();
        self.course.answered(answer.as_ref());
        answer.map(Answered::plain)
    }

    fn note(&mut self, turn: &Turn, answer: Option<&upstream::Reply>, began: Instant) {
        let failure = match answer {
            Some(_) => None,
            None => Some(self.run.why().map_or("no_upstream", |why| why.kind.describe().1)),
        };
        self.course.record.attempts.push(Attempted {
            model: turn.attempt.model.clone(),
            endpoint: answer.map(|reply| reply.endpoint.to_string()),
            status: answer.map(|reply| reply.status.as_u16()),
            failure,
            took_us: began.elapsed().as_micros() as u64,
            cost: None,
            doubt: None,
        });
    }

    /// An attempt has an answer: for the client, or not, and then whether the plan goes on.
    async fn answered(
        &mut self,
        turn: Turn,
        mut reply: upstream::Reply,
        began: Instant,
    ) -> Result<Result<Box<Answered>, bool>, Error> {
        if reply.cancelled {
            self.course.overtaken(&reply.model, self.request.estimated_tokens().into());
        }
        if turn.plain.is_some() && is_about_logprobs(&reply) {
            // The model cannot say them, and that was our wish, not the client's.
            if let Some(model) = self.course.exchange.state.models.chat(&turn.attempt.model) {
                model.says_no_logprobs.store(true, Ordering::Relaxed);
            }
            let attempt = upstream::Attempt { body: turn.plain.unwrap_or_default(), ..turn.attempt };
            self.kept.get_or_insert(Kept { answered: Answered::plain(reply), attempt: attempt.clone(), cost: 0 });
            self.run.has_another();
            self.left.push_front(Turn { attempt, plain: None, ..turn });
            return Ok(Err(true));
        }
        let (step, cost) = match self.verdict(&turn, &mut reply, began).await? {
            Ok(verdict) => verdict,
            Err(Broke { error, events }) => {
                let prompt = u64::from(self.request.estimated_tokens());
                self.course.discard(&reply.model, Tokens { prompt, completion: u64::from(events), cached: 0 });
                self.run.broke(&turn.attempt, &reply.endpoint, error);
                return self.has_failed(turn, began).await.map(Err);
            }
        };
        let continuation = match &reply.body {
            Body::Stream(_) => Continuation::of(self.course, self.request, &turn.attempt, self.context),
            Body::Whole(_) => None,
        };
        let (choices, strip) = (self.request.choices(), turn.plain.is_some());
        let answered = Answered { reply, storable: !self.failed, choices, strip, continuation, watch: None };
        let is_worse = !answered.reply.status.is_success()
            && matches!(self.judge, Some(Judge::Cascade(_)))
            && self.kept.as_ref().is_some_and(|kept| kept.answered.reply.status.is_success());
        if is_worse {
            // A doubted answer is better than a refusal of the model that was to give a better one.
            self.failed = true;
            return Ok(Err(true));
        }
        if matches!(step, Step::Accept) {
            return match self.observed(answered, &turn.attempt).await? {
                Seen::Goes(answered) => {
                    self.course.answered(Ok(&answered.reply));
                    Ok(Ok(answered))
                }
                Seen::Left => Ok(Err(true)),
                Seen::Broke => self.has_failed(turn, began).await.map(Err),
            };
        }
        self.course.record.discarded = self.course.record.discarded.saturating_add(cost);
        let mut answered = answered;
        if let Body::Stream(stream) = &mut answered.reply.body {
            // The next one may be of the same pool, and nobody waits for a place that he holds himself.
            stream.gives_way();
        }
        let answered = Answered { storable: false, ..answered };
        self.kept = Some(Kept { answered, attempt: turn.attempt.clone(), cost });
        self.run.has_another();
        let doubt = if let Step::Next(doubt) = step { doubt } else { Doubt::Plugin };
        self.course.record.escalated.push(doubt.name());
        if let Some(attempt) = self.course.record.attempts.last_mut() {
            (attempt.doubt, attempt.cost) = (Some(doubt.name()), Some(cost));
        }
        self.follow(step, turn).await;
        Ok(Err(true))
    }

    /// An attempt has none. Does the plan go on?
    async fn has_failed(&mut self, turn: Turn, began: Instant) -> Result<bool, Error> {
        self.failed = true;
        // An answer that had begun has broken off.
        if let Some(attempt) = self.course.record.attempts.last_mut().filter(|attempt| attempt.failure.is_none()) {
            attempt.failure = self.run.why().map(|why| why.kind.describe().1);
        }
        let step = match self.judge.clone() {
            Some(Judge::Plugin { by, .. }) => Box::pin(self.after_failure(&by, &turn, began)).await?,
            _ => return Ok(true),
        };
        let goes_on = !matches!(step, Step::Accept);
        if !goes_on {
            // It is this failure that the client is to get.
            self.kept = None;
        }
        self.follow(step, turn).await;
        Ok(goes_on)
    }

    async fn follow(&mut self, step: Step, turn: Turn) {
        match step {
            Step::Accept | Step::Next(_) => {}
            Step::Instead(turn) => self.left.push_front(*turn),
            Step::Again(pause) => {
                let until = Instant::now() + pause;
                // There is no time for it, and perhaps for another turn.
                if until < self.run.begins() {
                    self.left.push_front(turn);
                    tokio::time::sleep_until(until).await;
                }
            }
        }
    }
}
