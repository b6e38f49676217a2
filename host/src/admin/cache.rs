//! The cache in the admin API: what it holds, what is to be taken out of it, and what comes from another node.
//!
//! What it does not do: it takes nothing out itself; `cache/purge` says what a purge is, and `cache/carry` how entries travel.
//!
//! **Invariant:** when a purge is answered, this node serves nothing of it any more, also after a restart.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::api::{Refusal, read};
use super::{Admin, BoxError};
use crate::cache::purge::Selector;
use crate::cache::trust::Trust;
use crate::cache::{Cache, ExactKey, Purged, carry};

/// Records that wait for whoever reads them.
const IN_LINE: usize = 64;
/// How long whoever brings entries waits until the tiers have them.
const SETTLES: Duration = Duration::from_secs(5);

pub(super) async fn report(Shared(admin): Shared<Admin>) -> Json<Value> {
    Json(admin.gateway.state().cache.as_deref().map_or(Value::Null, Cache::report))
}

/// Without a body: all of it. `told`: whether other nodes know; null where there is no Redis to tell them by. Where it is away they are told
/// when it is back.
pub(super) async fn purge(Shared(admin): Shared<Admin>, body: Bytes) -> Result<Json<Value>, Refusal> {
    let selector = match body.trim_ascii_start().first() {
        None => Selector::default(),
        // A list would be taken for an object's values in their order, and an empty one for all entries.
        Some(b'[') => {
            return Err((
                StatusCode::BAD_REQUEST,
                "the body: a list says nothing; write an object, or nothing for all entries\n".to_owned(),
            ));
        }
        Some(_) => read(&body)?,
    };
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
    let cache = cache(&admin)?;
    let counted = cache.wrong(&key).await;
    Ok(Json(json!({ "entry": id, "found": counted.is_some(), "counted": counted.unwrap_or(false) })))
}

/// A stream of records; without its end they are not all.
pub(super) async fn export(Shared(admin): Shared<Admin>) -> Result<Response, Refusal> {
    let cache = cache(&admin)?;
    let (sender, mut records) = tokio::sync::mpsc::channel::<Result<Bytes, BoxError>>(IN_LINE);
    tokio::task::spawn_blocking(move || {
        let _ = sender.blocking_send(Ok(Bytes::from_static(carry::MAGIC)));
        let end = cache.export(|record| sender.blocking_send(Ok(record.into())).is_ok());
        if let Err(error) = &end {
            tracing::error!(error, "the cache's entries cannot all be exported");
        }
        let _ = sender.blocking_send(end.map(|()| Bytes::from_static(&carry::END)).map_err(BoxError::from));
    });
    let body = Body::from_stream(stream::poll_fn(move |context| records.poll_recv(context)));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}

/// Records, whole ones. It answers when the tiers have them.
pub(super) async fn import(Shared(admin): Shared<Admin>, records: Bytes) -> Result<Json<Value>, Refusal> {
    let cache = cache(&admin)?;
    let before = cache.lost();
    let brought = {
        let cache = cache.clone();
        tokio::task::spawn_blocking(move || cache.import(&records)).await
    };
    let brought =
        brought.map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed over these entries\n".to_owned()))?;
    cache.settle(SETTLES).await;
    let lost = cache.lost() - before;
    let told = |carry::Brought { taken, known, over, purged, too_large }| json!({ "taken": taken, "known": known, "over": over, "purged": purged, "too_large": too_large, "lost": lost });
    brought.map(|brought| Json(told(brought))).map_err(|before| {
        let reason = "an entry is not as it was written; those before it were taken in";
        (StatusCode::BAD_REQUEST, format!("{reason}: {}\n", told(before)))
    })
}

fn cache(admin: &Admin) -> Result<Arc<Cache>, Refusal> {
    let cache = admin.gateway.state().cache.clone();
    cache.ok_or_else(|| (StatusCode::CONFLICT, "the configuration has no [cache]\n".to_owned()))
}
