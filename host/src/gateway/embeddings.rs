//! `/v1/embeddings`: from an embedder of ours, or from an upstream.
//!
//! What it does not do: it asks no plugin and no cache; vectors are cheap, or the client keeps them itself.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;

use super::course::Course;
use super::degrade::effects;
use super::models::{self, Entry};
use super::reply::{self, Reply};
use super::run::Answered;
use crate::dialect::embeddings::{self, EmbeddingRequest};
use crate::embed::{EmbedError, Embedder};
use crate::error::{Error, Kind, Source};
use crate::listen::RequestBody;
use crate::record::Stage;
use crate::upstream::balance::Affinity;
use crate::upstream::provider::{Operation, upwards};
use crate::upstream::{self, Attempt};
use crate::vector::Vector;

/// Texts that are embedded together, and after which other exchanges on this core get their turn.
const AT_ONCE: usize = 16;

pub(super) async fn answer(course: &mut Course, body: RequestBody) -> Result<Reply, Error> {
    course.set_priority()?;
    let bytes = super::collect(course, body).await?;
    let request = EmbeddingRequest::parse(bytes)?;
    course.asks_for(request.model());
    course.may_use(request.model())?;
    course.done(Stage::Parse);
    let state = course.exchange.state.clone();
    match state.models.embedding(request.model()) {
        Some(Entry::BuiltIn) => {
            let Some(embedder) = state.embedders.offered.get(request.model()) else {
                return Err(Error::internal("a model without an embedder"));
            };
            course.record.model = Some(request.model().into());
            own(course, &request, &**embedder).await
        }
        Some(Entry::Upstream(model)) => {
            let body = request.to_upstream(&model.upstream_name);
            let (model, name, pool) = (model.name.clone(), model.upstream_name.clone(), model.pool.clone());
            effects::admit(course, &pool)?;
            let attempt =
                Attempt { model, name, pool, body, affinity: Affinity::None, total: None, first_byte: None, after: None };
            from_upstream(course, attempt, request.estimated_tokens()).await
        }
        _ => Err(models::not_found(course, request.model(), "embeddings")),
    }
}

async fn from_upstream(course: &mut Course, attempt: Attempt, tokens: u32) -> Result<Reply, Error> {
    let exchange = course.exchange.clone();
    let context = upstream::Context {
        id: &exchange.id,
        worker: exchange.worker,
        deadline: exchange.deadline,
        operation: Operation::Embeddings,
        streamed: false,
        tenant: exchange.principal.tenant.clone(),
        priority: course.priority,
        headers: upwards(&exchange.headers),
    };
    let answer = upstream::run(&attempt, &context).await;
    course.answered(answer.as_ref());
    if answer.as_ref().is_ok_and(|answer| answer.cancelled) {
        course.overtaken(&attempt.model, tokens.into());
    }
    course.done(Stage::Run);
    reply::upstream(course, None, Answered::plain(answer?), None).await
}

async fn own(course: &mut Course, request: &EmbeddingRequest, embedder: &dyn Embedder) -> Result<Reply, Error> {
    let texts = request.texts()?;
    let base64 = request.wants_base64(embedder.dimensions())?;
    let mut vectors: Vec<Vector> = Vec::with_capacity(texts.len());
    // So many at a time: a model on threads of its own computes them together, and one request does not take all places in its line.
    for some in texts.chunks(AT_ONCE) {
        if !vectors.is_empty() {
            tokio::task::yield_now().await;
            if let Some(over) = course.exchange.deadline.over() {
                return Err(over);
            }
        }
        for found in join_all(some.iter().map(|text| embedder.embed(text))).await {
            vectors.push(match found {
                // Nothing in it means anything to the model: no direction.
                Err(EmbedError::Empty) => Arc::from(vec![0.0; embedder.dimensions()]),
                Err(error) => return Err(Error::new(Kind::Overloaded, Source::Gateway, format!("{error}. Try again shortly."))),
                Ok(vector) => vector,
            });
        }
    }
    let bytes: Bytes = embeddings::answer(request.model(), &vectors, base64, texts.iter().map(String::len).sum());
    course.done(Stage::Run);
    Ok(reply::json(bytes))
}
