//! `GET /api/exchanges`: the last exchanges, and the story of one.
//!
//! | path | what |
//! |---|---|
//! | `GET /api/exchanges` | the last ones in short, the newest first; `?model=`, `tenant=`, `plugin=` choose, `limit=` (50, at most 1000) bounds |
//! | `GET /api/exchanges/ID` | one exchange: plugins, decisions, plan, attempts, answer |

use axum::Json;
use axum::extract::{Path, Query, State as Shared};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use crate::gateway::explain::Wanted;

/// Stories of a list, where nobody says how many.
const SOME: usize = 50;
/// The most.
const MOST: usize = 1_000;

type Refusal = (StatusCode, String);

fn off() -> Refusal {
    (StatusCode::NOT_FOUND, "no stories are kept; write `explain = \"2MiB\"` into [admin]\n".to_owned())
}

/// What a list is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    model: Option<String>,
    tenant: Option<String>,
    plugin: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn last(
    Shared(admin): Shared<Admin>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<Value>, Refusal> {
    let Query(Asked { model, tenant, plugin, limit }) =
        asked.map_err(|error| (StatusCode::BAD_REQUEST, format!("{}\n", error.body_text())))?;
    let state = admin.gateway.state();
    let stories = state.stories.as_ref().ok_or_else(off)?;
    let wanted = Wanted { model, tenant, plugin, most: limit.unwrap_or(SOME).min(MOST) };
    Ok(Json(json!({ "exchanges": stories.last(&wanted) })))
}

pub(super) async fn one(Shared(admin): Shared<Admin>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let state = admin.gateway.state();
    let stories = state.stories.as_ref().ok_or_else(off)?;
    let unknown = || {
        (
            StatusCode::NOT_FOUND,
            "there is no such exchange among the last ones; `x-request-id` of an answer is its id\n".to_owned(),
        )
    };
    stories.one(&id).map(Json).ok_or_else(unknown)
}
