//! The stage `plan`: which models answer, in which order, and with which bytes.
//!
//! What it does not do: it sends nothing (`upstream`).
//!
//! **Invariant:** each attempt's body is the client's own, with the model's name spliced in.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::course::Course;
use super::models::Model;
use super::prompt::rejected;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::prefix;
use crate::error::Error;
use crate::plugin::bindings::routing::Decision;
use crate::plugin::imports::Surroundings;
use crate::plugin::load::Hook;
use crate::upstream::Attempt;
use crate::upstream::balance::{Affinity, Rule};
use crate::upstream::provider::upwards;

/// Ordered attempts, and the headers that they share.
pub(super) struct Plan {
    pub(super) attempts: Vec<Attempt>,
    pub(super) headers: HeaderMap,
}

pub(super) async fn stage(course: &mut Course, request: &Arc<ChatRequest>) -> Result<Plan, Error> {
    let said = match &mut course.session {
        Some(session) if course.exchange.state.plugins.has(Hook::Routing) => session.route(request).await?,
        _ => None,
    };
    let mut headers = upwards(&course.exchange.headers);
    let attempts = match said {
        Some(said) => match said.what {
            Decision::Reject(rejection) => return Err(rejected(&said.by, rejection)),
            Decision::Pass => by_default(course, request),
            Decision::Plan(plan) => {
                for (name, value) in &plan.headers {
                    // `hooks` has checked both.
                    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                        headers.insert(name, value);
                    }
                }
                course.record.reason = Some(plan.reason);
                course.decided(&said.by, plan.labels);
                let models = &course.exchange.state.models;
                let targets = plan.targets.iter().filter_map(|target| {
                    let model = models.chat(&target.model)?;
                    Some(attempt(course, model, request, target.timeout_ms, target.first_byte_timeout_ms))
                });
                targets.collect()
            }
        },
        None => by_default(course, request),
    };
    Ok(Plan { attempts, headers })
}

/// Without an opinion: the model that was asked for, or the first of a virtual one's choices; then those that take its place.
fn by_default(course: &Course, request: &ChatRequest) -> Vec<Attempt> {
    let models = &course.exchange.state.models;
    let Some(first) = models.choices(request.model()).first().copied() else { return Vec::new() };
    // A key that may not ask for a model is not answered by it either, unless it asks for a choice that has it.
    let fallback = first.fallback.iter().filter(|name| course.exchange.may_choose(name)).filter_map(|name| models.chat(name));
    std::iter::once(first).chain(fallback).map(|model| attempt(course, model, request, None, None)).collect()
}

fn attempt(
    course: &Course,
    model: &Model,
    request: &ChatRequest,
    timeout_ms: Option<u32>,
    first_byte_ms: Option<u32>,
) -> Attempt {
    let duration = |ms: Option<u32>| ms.map(|ms| Duration::from_millis(u64::from(ms)));
    Attempt {
        model: model.name.clone(),
        name: model.upstream_name.clone(),
        pool: model.pool.clone(),
        body: request.to_upstream(&model.upstream_name),
        affinity: affinity(course, model, request),
        total: duration(timeout_ms),
        first_byte: duration(first_byte_ms),
    }
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
