//! Plugins in the admin API: their versions, how each fares, and the steps of a release.
//!
//! What it does not do: it takes no step itself (`gateway/releases`).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::api::{Refusal, read};
use crate::gateway::releases::{Refused, Step};
use crate::gateway::state::State;
use crate::numbers::Times;
use crate::plugin::Plugin;
use crate::plugin::hooks::Cause;
use crate::plugin::release::figures::Figures;
use crate::plugin::release::{How, Role, Slot, WHOLE, now};

pub(super) async fn list(Shared(admin): Shared<Admin>) -> Json<Value> {
    let state = admin.gateway.state();
    let plugins: Vec<Value> = state.plugins.slots().iter().map(|slot| about(slot, false)).collect();
    Json(json!({ "plugins": plugins, "problems": problems(&state) }))
}

/// Components that lie at their places and are not in force.
fn problems(state: &State) -> Vec<Value> {
    let unloaded = state
        .problems
        .iter()
        .map(|problem| json!({ "plugin": problem.plugin, "file": problem.file, "reason": problem.refusal.to_string() }));
    let taken_back = state.plugins.taken_back().map(|(slot, refusal)| {
        json!({ "plugin": slot.serving.name(), "file": slot.serving.settings().component, "reason": refusal.to_string() })
    });
    unloaded.chain(taken_back).collect()
}

pub(super) async fn one(Shared(admin): Shared<Admin>, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    let state = admin.gateway.state();
    let slot = state.plugins.slot(&name).ok_or_else(|| refused(Refused::NoPlugin(name.clone())))?;
    let mut about = about(slot, true);
    about["problems"] = problems(&state).into_iter().filter(|problem| problem["plugin"] == *name).collect();
    Ok(Json(about))
}

/// The version that serves, as ever; and all that there are. `whole`: with examples of what a shadow does otherwise.
fn about(slot: &Slot, whole: bool) -> Value {
    let plugin = &slot.serving;
    let settings = plugin.settings();
    let mut about = json!({
        "name": plugin.name(),
        "hooks": settings.hooks.iter().map(|hook| hook.name()).collect::<Vec<_>>(),
        "tenants": settings.tenants,
        "models": settings.models,
        "grant": settings.grants,
        "kv": plugin.kv.as_ref().map(|kv| kv.sums()).map(|(bytes, entries)| json!({ "bytes": bytes, "entries": entries })),
        "file": format!("sha256:{}", slot.file),
    });
    let serving = version(plugin);
    if let (Some(about), Value::Object(serving)) = (about.as_object_mut(), serving) {
        about.extend(serving);
    }
    about["versions"] = versions(slot, whole).into();
    about
}

fn versions(slot: &Slot, whole: bool) -> Vec<Value> {
    let with = |mut version: Value, state: &str, since: Option<u64>| {
        version["state"] = state.into();
        version["since"] = since.into();
        version
    };
    let mut serving = with(version(&slot.serving), "serving", Some(slot.since));
    serving["judged_until"] =
        slot.probation.as_ref().map(|probation| probation.until).filter(|until| slot.before.is_some() && now() < *until).into();
    let mut all = vec![serving];
    if let Some(trial) = &slot.trial {
        let mut version = with(version(&trial.plugin), trial.role.name(), Some(trial.since));
        match &trial.role {
            Role::Canary(share) => version["share"] = (f64::from(*share) / f64::from(WHOLE)).into(),
            Role::Shadow(shadow) => {
                let found = &shadow.found;
                version["shadow"] =
                    json!({ "compared": found.compared.get(), "differed": found.differed.get(), "missed": found.missed.get() });
                let kinds = found.kinds().into_iter().map(|(name, kind)| match whole {
                    true => (name, json!(kind)),
                    false => (name, kind.count.into()),
                });
                version["shadow"]["differences"] = Value::Object(kinds.collect());
            }
            Role::Waiting => {}
        }
        all.push(version);
    }
    all.extend(slot.before.as_ref().map(|before| with(version(before), "before", None)));
    let known: Vec<&str> =
        [Some(&slot.serving), slot.before.as_ref()].into_iter().flatten().map(|plugin| plugin.digest()).collect();
    let ended = slot.ended.iter().rev().map(|ended| {
        let state = match ended.how {
            How::RolledBack => "rolled-back",
            How::Replaced => "replaced",
        };
        json!({ "digest": format!("sha256:{}", ended.digest), "state": state, "since": ended.at, "reason": ended.reason, "again": known.contains(&&*ended.digest), "released_again": ended.released_again })
    });
    all.extend(ended);
    all
}

/// One version, and how it fares.
fn version(plugin: &Arc<Plugin>) -> Value {
    let numbers = &plugin.numbers;
    let failures: serde_json::Map<_, _> =
        Cause::ALL.iter().map(|cause| (cause.name().to_owned(), numbers.failures[*cause as usize].get().into())).collect();
    let times: serde_json::Map<_, _> = plugin
        .settings()
        .hooks
        .iter()
        .map(|hook| {
            let times = &numbers.calls[*hook as usize];
            let us = |share| times.quantile(share).map(|time| time.as_micros() as u64);
            (hook.name().to_owned(), json!({ "calls": times.count(), "p50_us": us(0.5), "p99_us": us(0.99) }))
        })
        .collect();
    let figures = Figures::of(numbers);
    json!({
        "digest": format!("sha256:{}", plugin.digest()),
        "label": plugin.label(),
        "version": plugin.info().version,
        "description": plugin.info().description,
        "calls": numbers.calls.iter().map(Times::count).sum::<u64>(),
        "times": times,
        "failures": failures,
        "last_failure": numbers.last_failure(),
        "skipped": numbers.skipped.get(),
        "fall_throughs": numbers.fell_through.get(),
        "memory": numbers.memory.get(),
        "reuse": plugin.settings().reuse,
        "instances": numbers.instances.get(),
        "quarantined": plugin.quarantine.hooks().iter().map(|hook| hook.name()).collect::<Vec<_>>(),
        "exchanges": figures.exchanges,
        "errors": figures.errors,
        "upstream_errors": figures.upstream,
        "mean_cost_micro_usd": figures.mean_cost().map(|(mean, _)| mean),
    })
}

/// Which version, and what more a step needs.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Wanted {
    version: Option<String>,
    share: Option<f64>,
    reason: Option<String>,
}

pub(super) async fn step(
    Shared(admin): Shared<Admin>,
    Path((name, step)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<Value>, Refusal> {
    let Wanted { version, share, reason } = if body.is_empty() { Wanted::default() } else { read(&body)? };
    let bad = |what: &str| Err((StatusCode::BAD_REQUEST, format!("{what}\n")));
    if share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
        return bad("`share` is above 0 and at most 1: 0.05 is one request of twenty");
    }
    let parts = share.map(|share| ((share * f64::from(WHOLE)).round() as u32).max(1));
    let gateway = admin.gateway.clone();
    let taken = match step.as_str() {
        "rollback" => {
            let reason = reason.unwrap_or_else(|| "an administrator said so".to_owned());
            gateway.roll_back(&name, &reason)
        }
        "shadow" | "canary" | "promote" => {
            let step = match step.as_str() {
                "shadow" => Step::Shadow,
                "canary" => Step::Canary(parts),
                _ => Step::Promote,
            };
            let (own, wanted) = (name.clone(), version);
            // It may have to be compiled, and this thread has others to serve.
            let work = move || gateway.version(&own, wanted.as_deref()).and_then(|plugin| gateway.release(&own, plugin, step));
            match tokio::task::spawn_blocking(work).await {
                Ok(taken) => taken,
                Err(error) => return Err((StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))),
            }
        }
        _ => return Err((StatusCode::NOT_FOUND, "the steps are shadow, canary, promote and rollback\n".to_owned())),
    };
    taken.map_err(refused)?;
    let kept = admin.gateway.lasting.get().is_some_and(|lasting| lasting.releases.is_kept());
    let note = admin.gateway.state().plugins.slot(&name).and_then(|slot| note(slot, &step));
    let mut answer = one(Shared(admin), Path(name)).await?;
    answer.0["kept"] = kept.into();
    answer.0["note"] = note.into();
    Ok(answer)
}

/// What else there is to know of a step that was taken.
fn note(slot: &Slot, step: &str) -> Option<String> {
    if step == "rollback" {
        let last = slot.ended.last().filter(|ended| ended.how == How::RolledBack)?;
        let (name, digest) = (slot.serving.name(), &last.digest[..12]);
        return Some(format!(
            "sha256:{digest} does not come back by itself, also where its file is there again; `pointsman plugin promote {name} {digest}` brings it back"
        ));
    }
    let plugin = if step == "promote" { &slot.serving } else { &slot.trial.as_ref()?.plugin };
    let ended = slot.rolled_back(plugin.digest())?;
    let judged = if slot.rules.rollback { "it is judged anew" } else { "it is not judged (`release.rollback`)" };
    Some(format!("this version was taken back before ({}); released again, {judged}", ended.reason))
}

fn refused(refused: Refused) -> Refusal {
    let status = match refused {
        Refused::NoPlugin(_) | Refused::NoVersion { .. } | Refused::NoDigits(_) => StatusCode::NOT_FOUND,
        Refused::Unfit { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::NoTrial(_)
        | Refused::Several(_)
        | Refused::Serves(_)
        | Refused::Changed(_)
        | Refused::Nothing(_)
        | Refused::NoEngine => StatusCode::CONFLICT,
    };
    (status, format!("{refused}\n"))
}
