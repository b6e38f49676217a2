//! The cache in the admin API: what it holds, and what is to be taken out of it.
//!
//! What it does not do: it takes nothing out itself; `cache/purge` says what a purge is.
//!
//! **Invariant:** when a purge is answered, this node serves nothing of it any more, also after a restart.

use axum::Json;
use axum::extract::State as Shared;
use bytes::Bytes;
use serde_json::{Value, json};

use super::Admin;
use super::api::{Refusal, read};
use crate::cache::purge::Selector;
use crate::cache::{Cache, Purged};

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
