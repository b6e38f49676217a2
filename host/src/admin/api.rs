//! The admin API: what is in force, and the few things that can be asked of it. JSON in, JSON out.
//!
//! | path | what |
//! |---|---|
//! | `GET /api/plugins` | versions in force, and components that could not be loaded |
//! | `GET /api/models` | models, pools and their endpoints |
//! | `GET /api/prompts` | prompts, versions, which is the default |
//! | `GET /api/cache` | entries, bytes, hits |
//! | `POST /api/cache/purge` | empties the cache |
//! | `GET /api/reload` | how many reloads, and why the last one failed |
//! | `POST /api/reload` | reads the configuration again |

use axum::Json;
use axum::extract::State as Shared;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Admin;
use crate::gateway::models::Entry;
use crate::plugin::hooks::Cause;
use crate::upstream::breaker::Standing;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pool::Pool;

pub(super) async fn plugins(Shared(admin): Shared<Admin>) -> Json<Value> {
    let state = admin.gateway.state();
    let plugins: Vec<Value> = state
        .plugins
        .all()
        .iter()
        .map(|plugin| {
            let failures: serde_json::Map<_, _> = Cause::ALL
                .iter()
                .map(|cause| (cause.name().to_owned(), plugin.numbers.failures[*cause as usize].get().into()))
                .collect();
            json!({
                "name": plugin.name(),
                "digest": format!("sha256:{}", plugin.digest()),
                "label": plugin.label(),
                "version": plugin.info().version,
                "description": plugin.info().description,
                "hooks": plugin.settings().hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>(),
                "grant": plugin.settings().grants,
                "calls": plugin.numbers.calls.iter().map(crate::numbers::Times::count).sum::<u64>(),
                "failures": failures,
                "quarantined": plugin.quarantine.hooks().iter().map(|hook| hook.name()).collect::<Vec<_>>(),
            })
        })
        .collect();
    let problems: Vec<Value> = state
        .problems
        .iter()
        .map(|problem| json!({ "plugin": problem.plugin, "file": problem.file, "reason": problem.refusal.to_string() }))
        .collect();
    Json(json!({ "plugins": plugins, "problems": problems }))
}

pub(super) async fn models(Shared(admin): Shared<Admin>) -> Json<Value> {
    let state = admin.gateway.state();
    let models: serde_json::Map<_, _> = state
        .models
        .names()
        .map(|(name, entry)| {
            let what = match entry {
                Entry::Upstream(model) => json!({ "provider": &*model.provider, "name": &*model.upstream_name }),
                Entry::BuiltIn => json!({ "provider": "built-in" }),
                Entry::Choice(names) => json!({ "choose": names.iter().map(|name| &**name).collect::<Vec<_>>() }),
            };
            (name.to_owned(), what)
        })
        .collect();
    let pools: serde_json::Map<_, _> = state
        .pools
        .iter()
        .map(|(name, pool)| {
            let view = pool.view();
            let each: Vec<Value> = pool.endpoints().iter().enumerate().map(|(place, endpoint)| self::endpoint(pool, place, endpoint)).collect();
            (name.clone(), json!({ "endpoints": view.endpoints, "in_flight": view.in_flight, "failing": view.failing, "first_byte_ms": view.first_byte_ms, "each": each }))
        })
        .collect();
    Json(json!({ "models": models, "providers": pools }))
}

/// `queue`: what the endpoint says of itself, where it is asked and answers. `probe`: how it is, where it is asked.
/// `models`, `adapters`: which it says that it has, and which of those run. `keys`: what they may still do, where that is known.
fn endpoint(pool: &Pool, place: usize, endpoint: &Endpoint) -> Value {
    let now = Instant::now();
    let standing = match endpoint.breaker.standing(now) {
        Standing::Closed => "closed",
        Standing::Open(_) => "open",
        Standing::Probation => "probation",
    };
    let queue = endpoint.gauges.get(now);
    let queue = queue.map(|report| json!({ "waiting": report.waiting, "running": report.running, "kv_usage": report.kv }));
    let (models, lora) = endpoint.said.get(now);
    let lora = lora.map(|lora| json!({ "slots": lora.max, "running": lora.running }));
    let health = &endpoint.health;
    let probe = pool.settings().probe.as_ref();
    let probe = probe.map(|_| json!({ "healthy": !health.is_ill(), "failures": health.failures.get() }));
    let keys = pool.keys.view(place, now).into_iter().map(|(key, view)| {
        json!({ "key": key, "requests": view.requests, "tokens": view.tokens, "left_for_ms": view.left.as_millis() as u64 })
    });
    let keys: Vec<Value> = keys.collect();
    json!({ "endpoint": &**endpoint.authority(), "in_flight": endpoint.in_flight(), "breaker": standing, "queue": queue, "probe": probe, "keys": keys, "models": models.map(|models| models.names), "adapters": lora })
}

pub(super) async fn prompts(Shared(admin): Shared<Admin>) -> Json<Value> {
    let state = admin.gateway.state();
    let prompts: serde_json::Map<_, _> = state
        .prompts
        .iter()
        .flat_map(|registry| registry.list())
        .map(|prompt| (prompt.name.to_owned(), json!({ "default": prompt.default, "versions": prompt.versions })))
        .collect();
    Json(json!({ "prompts": prompts, "problems": state.prompt_problems.iter().map(ToString::to_string).collect::<Vec<_>>() }))
}

pub(super) async fn cache(Shared(admin): Shared<Admin>) -> Json<Value> {
    let state = admin.gateway.state();
    Json(match &state.cache {
        Some(cache) => json!(cache.report()),
        None => Value::Null,
    })
}

pub(super) async fn purge(Shared(admin): Shared<Admin>) -> StatusCode {
    if let Some(cache) = &admin.gateway.state().cache {
        cache.purge();
    }
    StatusCode::NO_CONTENT
}

pub(super) async fn reload_status(Shared(admin): Shared<Admin>) -> Json<Value> {
    let reloads = admin.gateway.reloads();
    Json(json!({ "done": reloads.done, "failed": reloads.failed, "last_failure": reloads.last_failure }))
}

pub(super) async fn reload(Shared(admin): Shared<Admin>) -> StatusCode {
    (admin.reload)();
    StatusCode::ACCEPTED
}
