//! The admin API: what is in force, and the few things that can be asked of it. JSON in, JSON out.
//!
//! | path | what |
//! |---|---|
//! | `GET /api/plugins` | versions in force, and components that could not be loaded ([`super::plugins`]) |
//! | `GET /api/plugins/NAME` | all versions of one, and what a shadow does otherwise |
//! | `POST /api/plugins/NAME/shadow` | `{"version": "sha256:…"}`, or a file: it decides beside the one that serves |
//! | `POST /api/plugins/NAME/canary` | `{"version": …, "share": 0.05}`: it gets a share of the traffic |
//! | `POST /api/plugins/NAME/promote` | `{"version": …}`: it takes over; without a version the one on trial |
//! | `POST /api/plugins/NAME/rollback` | `{"reason": …}`: the one on trial, or else the one that serves, is taken back |
//! | `GET /api/models` | models, pools and their endpoints |
//! | `POST /api/models/NAME` | `{"enabled": false}` switches one off, `true` on; `null`: as the configuration says |
//! | `GET /api/prompts` | prompts, versions, which is the default |
//! | `GET /api/cache` | entries, bytes, tiers ([`super::cache`]) |
//! | `POST /api/cache/purge` | `{"tag": …}` takes entries out, on all nodes; also `key`, `partition`, `tenant`, `model`, `prompt`. No body: all |
//! | `GET /api/cache/export` | all entries of memory and disk, as [`crate::cache::carry`] writes them |
//! | `POST /api/cache/import` | some of them, at most 1 MiB: what became of them |
//! | `GET /api/degrade` | the level of each provider, the pressure on it, and what is pinned |
//! | `POST /api/degrade` | `{"level": "small"}` pins a level for all of them; `"auto"`: as measured again |
//! | `GET /api/reload` | how many reloads, and why the last one failed |
//! | `POST /api/reload` | reads the configuration again |

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Admin;
use crate::gateway::NoModel;
use crate::gateway::degrade::View;
use crate::gateway::models::Entry;
use crate::limit::ladder::Level;
use crate::upstream::breaker::Standing;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pool::Pool;
use crate::upstream::tally::Fault;

pub(super) async fn models(Shared(admin): Shared<Admin>) -> Json<Value> {
    let state = admin.gateway.state();
    let models: serde_json::Map<_, _> = state
        .models
        .names()
        .map(|(name, entry)| {
            let mut what = match entry {
                Entry::Upstream(model) => json!({ "provider": &*model.provider, "name": &*model.upstream_name }),
                Entry::BuiltIn => json!({ "provider": "built-in" }),
                Entry::Choice(choice) => json!({ "choose": choice.among.iter().map(|name| &**name).collect::<Vec<_>>() }),
            };
            what["enabled"] = state.models.is_on(name).into();
            if let Some(substitute) = state.models.substitute(name) {
                what["substitute"] = substitute.into();
            }
            (name.to_owned(), what)
        })
        .collect();
    let pools: serde_json::Map<_, _> = state
        .pools
        .iter()
        .map(|(name, pool)| {
            let view = pool.view();
            let each: Vec<Value> = pool.endpoints().iter().enumerate().map(|(place, endpoint)| self::endpoint(pool, place, endpoint)).collect();
            let gate = pool.gate.as_ref().map(|gate| gate.view());
            let gate = gate.map(|(limit, running, waiting)| json!({ "limit": limit, "running": running, "waiting": waiting }));
            (name.clone(), json!({ "endpoints": view.endpoints, "in_flight": view.in_flight, "failing": view.failing, "first_byte_ms": view.first_byte_ms, "concurrency": gate, "each": each }))
        })
        .collect();
    Json(json!({ "models": models, "providers": pools }))
}

/// What is to become of a model.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Enabled {
    #[serde(deserialize_with = "Option::deserialize")]
    enabled: Option<bool>,
}

pub(super) async fn switch(Shared(admin): Shared<Admin>, Path(name): Path<String>, body: Bytes) -> Result<StatusCode, Refusal> {
    let Enabled { enabled } = read(&body)?;
    let switched = admin.gateway.switch(&name, enabled);
    switched.map(|()| StatusCode::NO_CONTENT).map_err(|NoModel| (StatusCode::NOT_FOUND, "there is no such model\n".to_owned()))
}

pub(super) type Refusal = (StatusCode, String);

/// A body in JSON, whatever its `content-type` says.
pub(super) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, format!("the body: {error}\n")))
}

/// `breaker`: closed, open or probation; while it is not closed, `left_for_ms` says for how long nobody is sent there, and `why` what it opened
/// for. `last_failure` is the newest one, `failures` are all by kind, of `requests`. `weight`, `zone`: as configured; `limit`: `in_flight`.
/// `queue`: what the endpoint says of itself, where it is asked and answers. `probe`: how it is, where it is asked.
/// `models`, `adapters`: which it says that it has, and which of those run. `keys`: what they may still do, where that is known.
fn endpoint(pool: &Pool, place: usize, endpoint: &Endpoint) -> Value {
    let now = Instant::now();
    let (standing, left) = match endpoint.breaker.standing(now) {
        Standing::Closed => ("closed", None),
        Standing::Open(left) => ("open", Some(left.as_millis() as u64)),
        Standing::Probation => ("probation", Some(0)),
    };
    let tally = &endpoint.tally;
    let failures: serde_json::Map<_, _> =
        Fault::ALL.iter().map(|fault| (fault.name().to_owned(), tally.failures(*fault).into())).collect();
    let address = &pool.settings().endpoints[place];
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
    json!({
        "endpoint": pool.label(place),
        "weight": address.weight,
        "zone": address.zone,
        "limit": pool.settings().in_flight,
        "in_flight": endpoint.in_flight(),
        "breaker": standing,
        "left_for_ms": left,
        "why": left.map(|_| endpoint.breaker.why()),
        "last_failure": tally.last(),
        "requests": tally.requests.get(),
        "failures": failures,
        "queue": queue,
        "probe": probe,
        "keys": keys,
        "models": models.map(|models| models.names),
        "adapters": lora,
    })
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

pub(super) async fn degrade(Shared(admin): Shared<Admin>) -> Json<Value> {
    let (pinned, pools) = admin.gateway.degrade.view();
    let pools: serde_json::Map<_, _> = pools
        .into_iter()
        .map(|(name, View { level, measured, pressure })| {
            (name, json!({ "level": level, "measured": measured, "pressure": pressure.get(), "why": pressure.to_string() }))
        })
        .collect();
    Json(json!({ "pinned": pinned, "providers": pools }))
}

/// A level, or `auto`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    level: Wish,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Auto {
    Auto,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`level` must be auto, full, cached, small, stale or shed")]
enum Wish {
    Measured(Auto),
    Pinned(Level),
}

pub(super) async fn pin(Shared(admin): Shared<Admin>, body: Bytes) -> Result<StatusCode, Refusal> {
    let level = match read::<Wanted>(&body)?.level {
        Wish::Measured(Auto::Auto) => None,
        Wish::Pinned(level) => Some(level),
    };
    if admin.gateway.state().config.degrade.is_none() {
        return Err((StatusCode::CONFLICT, "the configuration has no [degrade]\n".to_owned()));
    }
    admin.gateway.degrade.pin(level);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn reload_status(Shared(admin): Shared<Admin>) -> Json<Value> {
    let reloads = admin.gateway.reloads();
    Json(json!({ "done": reloads.done, "failed": reloads.failed, "last_failure": reloads.last_failure }))
}

pub(super) async fn reload(Shared(admin): Shared<Admin>) -> StatusCode {
    (admin.reload)();
    StatusCode::ACCEPTED
}
