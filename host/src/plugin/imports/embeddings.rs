//! `embeddings`: the host's embedding model and the example sets.
//!
//! **Invariant:** a call ends when the plugin's deadline does, however long the embedder's queue is (`hooks` sees to it).

use std::sync::Arc;

use wasmtime::Result;

use super::{EmbedError, State, cut};
use crate::plugin::bindings::embeddings::{Host, Match};
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
}

impl Host for State {
    async fn classify(&mut self, examples: String, k: u32) -> Result<Result<Vec<Match>, EmbedError>> {
        let vector = match self.vector_of_prompt().await {
            Ok(vector) => vector,
            Err(error) => return Ok(Err(error)),
        };
        let matches = self.around.as_ref().and_then(|around| around.classify(&examples, &vector, k.min(MAX_LABELS) as usize));
        Ok(matches
            .map(|found| found.into_iter().map(|(label, score)| Match { label, score }).collect())
            .ok_or(EmbedError::Unavailable))
    }

    async fn similarity(&mut self, a: String, b: String) -> Result<Result<f32, EmbedError>> {
        let (a, b) = match (self.vector_of(&a).await, self.vector_of(&b).await) {
            (Ok(a), Ok(b)) => (a, b),
            (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
        };
        Ok(Ok(cosine(&a, &b)))
    }

    async fn prompt_embedding(&mut self) -> Result<Result<Vec<f32>, EmbedError>> {
        Ok(self.vector_of_prompt().await.map(|vector| vector.to_vec()))
    }

    async fn embed(&mut self, text: String) -> Result<Result<Vec<f32>, EmbedError>> {
        Ok(self.vector_of(&text).await.map(|vector| vector.to_vec()))
    }
}
