//! The stage `plan`: which models answer, in which order, and with which bytes.
//!
//! What it does not do: it sends nothing (`upstream`).
//!
//! **Invariant:** each attempt's body is the client's own, with the model's name spliced in.

mod order;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::course::Course;
use super::models::{Cascade, Model};
use super::prompt::rejected;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::prefix;
use crate::error::Error;
use crate::plugin::Plugin;
use crate::plugin::bindings::routing::{Decision, Review};
use crate::plugin::bindings::types::Target;
use crate::plugin::hooks::{Observer, Routed};
use crate::plugin::imports::Surroundings;
use crate::plugin::load::Hook;
use crate::upstream::Attempt;
use crate::upstream::balance::{Affinity, Rule};
use crate::upstream::provider::upwards;

/// Bytes of a plugin's reason that are kept and shown.
const REASON: usize = 512;

/// Ordered attempts, the headers that they share, and who says what follows one.
pub(super) struct Plan {
    pub(super) turns: Vec<Turn>,
    pub(super) headers: HeaderMap,
    pub(super) judge: Option<Judge>,
    /// Plugins that see the answer before the client does.
    pub(super) observers: Vec<Observer>,
}

/// One attempt.
pub(super) struct Turn {
    pub(super) attempt: Attempt,
    /// The cascade judges its answer.
    pub(super) judged: bool,
    /// The body as the client wants it, where we ask for log-probabilities beside.
    pub(super) plain: Option<Bytes>,
}

/// Who says what follows an attempt.
#[derive(Clone)]
pub(super) enum Judge {
    /// The configuration.
    Cascade(Arc<Cascade>),
    /// The plugin that has made the plan.
    Plugin { by: Arc<Plugin>, review: Review },
}

impl Judge {
    fn wants_logprobs(&self) -> bool {
        match self {
            Self::Cascade(cascade) => cascade.rules.min_logprob.is_some(),
            Self::Plugin { review, .. } => review.logprobs,
        }
    }
}

pub(super) async fn stage(course: &mut Course, request: &Arc<ChatRequest>) -> Result<Plan, Error> {
    let Routed { said, observers } = match &mut course.session {
        Some(session) if course.exchange.state.plugins.has(Hook::Routing) => session.route(request).await?,
        _ => Routed { said: None, observers: Vec::new() },
    };
    let mut headers = upwards(&course.exchange.headers);
    let (turns, judge) = match said {
        Some(said) => match said.what {
            Decision::Reject(rejection) => {
                course.decided(&said.by, Vec::new());
                return Err(rejected(&said.by, rejection));
            }
            Decision::Pass | Decision::Observe(_) => by_default(course, request).await,
            Decision::Plan(plan) => {
                course.record.rewritten |= !plan.headers.is_empty();
                for (name, value) in &plan.headers {
                    // `hooks` has checked both.
                    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                        headers.insert(name, value);
                    }
                }
                let mut reason = plan.reason;
                reason.truncate(reason.floor_char_boundary(REASON));
                course.record.reason = Some(reason);
                course.decided(&said.by, plan.labels);
                let judge = plan.review.map(|review| Judge::Plugin { by: said.by, review });
                let turns: Vec<_> =
                    plan.targets.iter().filter_map(|said| target(course, request, said, judge.as_ref())).collect();
                // Where all of them are switched off there is no opinion left.
                if turns.is_empty() { by_default(course, request).await } else { (turns, judge) }
            }
        },
        None => by_default(course, request).await,
    };
    Ok(Plan { turns, headers, judge, observers })
}

/// Without an opinion: the model that was asked for, or of a virtual one's choices the first, or all of them in a cascade or in their
/// policy's order; then those that take the place of the last of a cascade, or of the one that was chosen.
async fn by_default(course: &mut Course, request: &ChatRequest) -> (Vec<Turn>, Option<Judge>) {
    let exchange = course.exchange.clone();
    let models = &exchange.state.models;
    let judge = models.cascade(request.model()).cloned().map(Judge::Cascade);
    let mut choices = models.choices(request.model());
    match order::of(course, request, models.policy(request.model()), &choices).await {
        Some((order, reason)) => {
            choices = order.into_iter().map(|place| choices[place]).collect();
            course.record.reason = Some(reason);
        }
        None => choices.truncate(if judge.is_some() { usize::MAX } else { 1 }),
    }
    let (Some(first), Some(last)) = (choices.first().copied(), choices.last().copied()) else { return (Vec::new(), None) };
    let heirs = if judge.is_some() { last } else { first };
    let mut turns: Vec<_> =
        choices.iter().map(|model| turn(course, model, request, judge.as_ref().filter(|_| model.name != last.name))).collect();
    // A key that may not ask for a model is not answered by it either, unless it asks for a choice that has it.
    let may_answer = |name: &&Arc<str>| models.is_on(name) && course.exchange.may_choose(name);
    let fallback = heirs.fallback.iter().filter(may_answer).filter_map(|name| models.chat(name));
    turns.extend(
        fallback
            .filter(|model| choices.iter().all(|choice| choice.name != model.name))
            .map(|model| turn(course, model, request, None)),
    );
    (turns, judge)
}

/// A plugin's choice; none if there is no such model.
pub(super) fn target(course: &Course, request: &ChatRequest, target: &Target, judge: Option<&Judge>) -> Option<Turn> {
    let models = &course.exchange.state.models;
    // One that is off, and whose place nobody takes who may, is no target.
    let model =
        models.chat(&target.model).filter(|model| *model.name == *target.model || course.exchange.may_choose(&model.name))?;
    let duration = |ms: Option<u32>| ms.map(|ms| Duration::from_millis(u64::from(ms)));
    let mut turn = turn(course, model, request, judge);
    turn.attempt.total = duration(target.timeout_ms);
    turn.attempt.first_byte = duration(target.first_byte_timeout_ms);
    Some(turn)
}

/// A model's turn; its answer is judged where there is a judge.
pub(super) fn turn(course: &Course, model: &Model, request: &ChatRequest, judge: Option<&Judge>) -> Turn {
    let asks =
        judge.is_some_and(Judge::wants_logprobs) && !request.wants_logprobs() && !model.says_no_logprobs.load(Ordering::Relaxed);
    let attempt = Attempt {
        model: model.name.clone(),
        name: model.upstream_name.clone(),
        pool: model.pool.clone(),
        body: request.to_upstream(&model.upstream_name, asks),
        affinity: affinity(course, model, request),
        total: None,
        first_byte: None,
        after: None,
    };
    Turn { attempt, judged: judge.is_some(), plain: asks.then(|| request.to_upstream(&model.upstream_name, false)) }
}

/// What the pool's owner wants to bring together: the rest of the session, or prompts that begin alike.
fn affinity(course: &Course, model: &Model, request: &ChatRequest) -> Affinity {
    match &model.pool.settings().affinity {
        Rule::None => Affinity::None,
        Rule::Prefix => Affinity::Prefix(request.prefix(&model.upstream_name)),
        Rule::Session(header) => {
            let named = course.exchange.headers.get(header).map(HeaderValue::as_bytes);
            let said = || ["/prompt_cache_key", "/user"].iter().find_map(|pointer| request.pointer(pointer));
            // Sessions of two tenants are two, whatever they call them.
            let tenant = prefix::hash(0, course.exchange.principal.tenant.as_bytes());
            match named.or_else(|| said().filter(|text| *text != "null").map(str::as_bytes)) {
                Some(name) => Affinity::Session(prefix::hash(tenant, name)),
                None => Affinity::None,
            }
        }
    }
}
