//! `embeddings`: the host's embedding model and the example sets.
//!
//! **Invariant:** a call ends when the plugin's deadline does, however long the embedder's queue is (`hooks` sees to it).

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{EmbedError, State, cut};
use crate::plugin::bindings::embeddings::{Host, Match};
use crate::plugin::tape::Question;
use crate::vector::cosine;

/// Text beyond this many bytes is not looked at: no embedding model reads further, and it bounds one call's cost.
const MAX_TEXT: u32 = 8 << 10;
/// Labels that one call may ask for.
const MAX_LABELS: u32 = 64;

impl State {
    async fn vector_of_prompt(&self) -> Result<Arc<[f32]>, EmbedError> {
        let (Some(around), Some(request)) = (&self.around, &self.request) else { return Err(EmbedError::Unavailable) };
        let text = request.last_user_text().ok_or(EmbedError::Empty)?;
        around.prompt_vector(cut(text, MAX_TEXT)).await
    }

    async fn vector_of(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let around = self.around.as_ref().ok_or(EmbedError::Unavailable)?;
        around.embed(cut(text, MAX_TEXT)).await
    }

    async fn nearest(&self, examples: &str, k: u32) -> Result<Vec<Match>, EmbedError> {
        let vector = self.vector_of_prompt().await?;
        let around = self.around.as_ref().ok_or(EmbedError::Unavailable)?;
        let found = around.classify(examples, &vector, k.min(MAX_LABELS) as usize).ok_or(EmbedError::Unavailable)?;
        Ok(found.into_iter().map(|(label, score)| Match { label, score }).collect())
    }

    async fn cosine_of(&self, a: &str, b: &str) -> Result<f32, EmbedError> {
        let (a, b) = (self.vector_of(a).await?, self.vector_of(b).await?);
        Ok(cosine(&a, &b))
    }

    /// As [`State::asks`], for an answer that takes its time.
    async fn asks_for<T: Serialize + DeserializeOwned>(
        &self,
        call: &'static str,
        args: impl FnOnce() -> Value,
        answer: impl Future<Output = Result<T, EmbedError>>,
    ) -> wasmtime::Result<Result<T, EmbedError>> {
        let Some(tape) = self.tape() else { return Ok(answer.await) };
        let question = Question { call, args: args() };
        if let Some(answer) = tape.answer(&question, || Err(EmbedError::Unavailable)) {
            return Ok(answer);
        }
        let answer = answer.await;
        if tape.is_recording() {
            tape.note(question, &answer);
        }
        Ok(answer)
    }
}

impl Host for State {
    async fn classify(&mut self, examples: String, k: u32) -> wasmtime::Result<Result<Vec<Match>, EmbedError>> {
        self.asks_for("embeddings.classify", || json!([examples, k]), self.nearest(&examples, k)).await
    }

    async fn similarity(&mut self, a: String, b: String) -> wasmtime::Result<Result<f32, EmbedError>> {
        self.asks_for("embeddings.similarity", || json!([a, b]), self.cosine_of(&a, &b)).await
    }

    async fn prompt_embedding(&mut self) -> wasmtime::Result<Result<Vec<f32>, EmbedError>> {
        let vector = async { self.vector_of_prompt().await.map(|vector| vector.to_vec()) };
        self.asks_for("embeddings.prompt-embedding", || json!([]), vector).await
    }

    async fn embed(&mut self, text: String) -> wasmtime::Result<Result<Vec<f32>, EmbedError>> {
        let vector = async { self.vector_of(&text).await.map(|vector| vector.to_vec()) };
        self.asks_for("embeddings.embed", || json!([text]), vector).await
    }
}
