//! The cache in the admin API: what it holds, and what is to be taken out of it.
//!
//! What it does not do: it takes nothing out itself; `cache/purge` says what a purge is.
//!
//! **Invariant:** when a purge is answered, this node serves nothing of it any more, also after a restart.

use axum::Json;
use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Admin;
use super::api::{Refusal, read};
use crate::cache::purge::Selector;
use crate::cache::trust::Trust;
use crate::cache::{Cache, ExactKey, Purged};

pub(super) async fn report(Shared(admin): Shared<Admin>) -> Json<Value> {
    Json(admin.gateway.state().cache.as_deref().map_or(Value::Null, Cache::report))
}

/// Without a body: all of it. `told`: whether other nodes know; null where there is no Redis to tell them by. Where it is away they are told
/// when it is back.
pub(super) async fn purge(Shared(admin): Shared<Admin>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let selector = if body.is_empty() { Selector::default() } else { read(&body)? };
    let Some(cache) = admin.gateway.state().cache.clone() else { return Ok(Json(json!({ "entries": 0, "told": null }))) };
    let Purged { entries, told } = cache.purge(selector).await;
    Ok(Json(json!({ "entries": entries, "told": told })))
}

/// What the cache saves, and how far its near hits are trusted.
pub(super) async fn trust(Shared(admin): Shared<Admin>) -> Json<Value> {
    let state = admin.gateway.state();
    let Some(cache) = &state.cache else { return Json(Value::Null) };
    let numbers = admin.gateway.numbers();
    let lookups: serde_json::Map<_, _> =
        numbers.lookups().map(|(outcome, count)| (outcome.name().to_owned(), count.into())).collect();
    let (micros, us) = numbers.saved();
    Json(json!({
        "lookups": lookups,
        "saved": { "micro_usd": micros, "seconds": us as f64 / 1e6 },
        "semantic": cache.trust().map(Trust::report),
    }))
}

/// Somebody says that an answer was wrong: it is purged. `counted`: it was a near hit, and counts as one that was wrong.
pub(super) async fn wrong(Shared(admin): Shared<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let key: ExactKey =
        id.parse().map_err(|_| (StatusCode::BAD_REQUEST, "an entry's id has 64 hexadecimal digits\n".to_owned()))?;
    let cache = admin.gateway.state().cache.clone();
    let Some(cache) = cache else { return Err((StatusCode::CONFLICT, "the configuration has no [cache]\n".to_owned())) };
    let counted = cache.wrong(&key).await;
    Ok(Json(json!({ "entry": id, "found": counted.is_some(), "counted": counted.unwrap_or(false) })))
}
