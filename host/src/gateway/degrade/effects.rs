//! What a level does to an exchange.
//!
//! | level | effect |
//! |---|---|
//! | `cached` | a client's wish for something newer than what is cached is not a reason to go upstream |
//! | `small` | where there is a choice, the dearer models of the pool are passed over |
//! | `stale` | what was cached for this very request is served after its time; at every level it is where there is an error else |
//! | `shed` | the pool gets no batch |
//!
//! Each touches only requests that would otherwise go to the pool: a hit is a hit, and another pool that is better off answers. A
//! request without which nobody would learn that the pool is well again goes there all the same: an endpoint that waits for the one
//! request that decides gets it, and where that fails there is still what the level has to offer.
//!
//! **Invariant:** no level changes how near a near hit must be, serves an entry to another tenant, or overrules `no-store` or a plugin.
//! **Invariant:** an answer that a level has made another one says so, is counted, and is not kept.

use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::Levels;
use crate::config::Priority;
use crate::dialect::openai_chat::ChatRequest;
use crate::error::{Error, Kind, Source};
use crate::gateway::course::Course;
use crate::gateway::models::{Entry, Model};
use crate::gateway::plan::{self, Plan};
use crate::gateway::reply::{self, Reply};
use crate::limit::ladder::Level;
use crate::plugin::imports::Surroundings;
use crate::record::CacheOutcome;
use crate::upstream::pool::Pool;

impl Course {
    /// Is every pool that may answer better spared than asked for something newer?
    pub(in crate::gateway) fn spares(&self, request: &ChatRequest) -> bool {
        let Some(levels) = &self.levels else { return false };
        let choices = self.exchange.state.models.choices(request.model());
        !choices.is_empty() && choices.iter().all(|model| levels.of(&model.pool) >= Level::Cached)
    }

    /// An entry is served; is it one that the client has wanted?
    pub(in crate::gateway) fn spared(&mut self, is_wanted: bool) {
        if !is_wanted {
            self.degraded(Level::Cached);
        }
    }

    /// A cascade's answer is taken as it is, since a level has left nobody to ask instead.
    pub(in crate::gateway) fn is_not_judged(&mut self) {
        self.degraded(Level::Small);
    }

    fn stale(&mut self, request: &ChatRequest) -> Option<Reply> {
        let entry = self.stale.take()?;
        let reply = reply::cached(self, request, &entry, None)?;
        self.record.cache = CacheOutcome::Stale;
        self.record.model = Some(entry.model.clone());
        self.record.endpoint = None;
        self.degraded(Level::Stale);
        Some(reply)
    }

    /// A level has made the answer another one.
    fn degraded(&mut self, level: Level) {
        self.degraded = Some(level);
        self.record.degraded = Some(level.name());
    }
}

/// Before a plan is run: what of it is left, or the answer that takes its place.
///
/// # Errors
/// When none of it is left.
pub(in crate::gateway) fn before(course: &mut Course, request: &ChatRequest, plan: &mut Plan) -> Result<Option<Reply>, Error> {
    let Some(levels) = course.levels.clone() else { return Ok(None) };
    let now = Instant::now();
    small(course, request, plan, &levels, now);
    let is_asked = |pool: &Pool, level| levels.of(pool) < level || pool.awaits_probe(now);
    let is_spared = plan.turns.iter().all(|turn| levels.of(&turn.attempt.pool) >= Level::Stale);
    if is_spared
        && plan.turns.first().is_some_and(|first| !is_asked(&first.attempt.pool, Level::Stale))
        && let Some(reply) = course.stale(request)
    {
        return Ok(Some(reply));
    }
    if course.priority == Priority::Batch {
        let first = plan.turns.first().map(|first| (first.attempt.model.clone(), first.attempt.pool.name().to_owned()));
        plan.turns.retain(|turn| is_asked(&turn.attempt.pool, Level::Shed));
        match (plan.turns.first(), first) {
            (None, Some((_, pool))) => return Err(shed(course, &pool)),
            (Some(left), Some((first, _))) if left.attempt.model != first => course.degraded(Level::Shed),
            _ => {}
        }
    }
    Ok(None)
}

/// Does the pool get this request, for which there is no plan?
///
/// # Errors
/// It does not.
pub(in crate::gateway) fn admit(course: &mut Course, pool: &Pool) -> Result<(), Error> {
    let level = course.levels.as_ref().map_or(Level::Full, |levels| levels.of(pool));
    if course.priority == Priority::Batch && level >= Level::Shed && !pool.awaits_probe(Instant::now()) {
        return Err(shed(course, pool.name()));
    }
    Ok(())
}

/// After it was run: where it came to nothing, what is old is better.
pub(in crate::gateway) fn after(course: &mut Course, request: &ChatRequest, answer: Result<StatusCode, &Error>) -> Option<Reply> {
    let has_failed = match answer {
        Ok(status) => status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS,
        // What a plugin refuses is refused.
        Err(error) => {
            matches!(error.source(), Source::Upstream(_)) || matches!(error.kind(), Kind::NoUpstream | Kind::Overloaded)
        }
    };
    has_failed.then(|| course.stale(request)).flatten()
}

/// Passes over the models that another one is cheaper than, of those that may answer as well.
fn small(course: &mut Course, request: &ChatRequest, plan: &mut Plan, levels: &Levels, now: Instant) {
    if !levels.any(Level::Small) {
        return;
    }
    let exchange = course.exchange.clone();
    let models = &exchange.state.models;
    let mut others = models.choices(request.model());
    if let Some(substitute) = models.substitute(request.model()) {
        others.extend(models.choices(substitute).into_iter().filter(|model| exchange.may_choose(&model.name)));
    }
    let cheaper = |than: &&Model| {
        let level = levels.of(&than.pool);
        let is_cheaper = |model: &&Model| match (rate(model), rate(than)) {
            (Some(one), Some(other)) => one < other && levels.of(&model.pool) <= level,
            _ => false,
        };
        // The best off, then the cheapest.
        let order = |model: &&Model| (levels.of(&model.pool), rate(model).unwrap_or_default());
        let found = others.iter().copied().filter(is_cheaper);
        found.min_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal))
    };
    let in_place_of = |name: &str| match models.get(name) {
        Some(Entry::Upstream(model)) if levels.of(&model.pool) >= Level::Small => cheaper(&model),
        _ => None,
    };
    let first = plan.turns.first().map(|first| first.attempt.model.clone());
    let mut left = Vec::with_capacity(plan.turns.len());
    for turn in std::mem::take(&mut plan.turns) {
        let other = in_place_of(&turn.attempt.model);
        if other.is_none() || (left.is_empty() && turn.attempt.pool.awaits_probe(now)) {
            left.push(turn);
        }
        if let Some(other) = other {
            left.push(plan::turn(course, other, request, None));
        }
    }
    for turn in left {
        if !plan.turns.iter().any(|known| known.attempt.model == turn.attempt.model) {
            plan.turns.push(turn);
        }
    }
    if plan.turns.first().map(|first| &first.attempt.model) != first.as_ref() {
        course.degraded(Level::Small);
    }
}

/// What a model costs, compared with others; none where nobody has said.
fn rate(model: &Model) -> Option<f64> {
    model.price.map(|price| price.input + price.output)
}

fn shed(course: &mut Course, provider: &str) -> Error {
    course.degraded(Level::Shed);
    // It will not be over before.
    let hold = course.exchange.state.config.degrade.as_ref().map_or(Duration::from_secs(1), |degrade| degrade.hold.get());
    let message = format!("The provider `{provider}` takes no requests of priority batch just now. Try again later.");
    Error::new(Kind::Overloaded, Source::Gateway, message).retry_after(hold)
}
