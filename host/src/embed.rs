//! Embedding models: text in, a vector of unit length out. One vector per exchange serves the cache, the plugins and
//! whoever else asks.
//!
//! What it does not do: it stores and compares nothing (`cache` does).
//!
//! **Invariant:** vectors of different model files never meet: the model's id is part of every cache partition.
//! **Invariant:** a model that takes milliseconds runs on threads of its own behind a bounded queue.

pub mod built_in;
pub mod examples;
#[cfg(feature = "fastembed")]
pub mod fast;
#[cfg(feature = "fastembed")]
mod runtime;
mod tokenize;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::vector::Vector;

/// Which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// The one inside pointsman.
    BuiltIn,
    /// A folder with an ONNX model and its tokenizer.
    FastEmbed {
        /// The folder.
        dir: PathBuf,
        /// Threads that compute.
        workers: usize,
        /// Texts that may wait for them.
        queue: usize,
    },
}

/// Why there is no vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmbedError {
    /// There is no model, or it failed.
    #[error("the embedder is not available: {0}")]
    Unavailable(String),
    /// Too many texts wait. Go on without.
    #[error("the embedder's queue is full")]
    Full,
    /// Nothing in the text has a meaning for the model.
    #[error("there is nothing to embed")]
    Empty,
}

/// A model.
pub trait Embedder: Send + Sync + 'static {
    /// `name@` and the first twelve hexadecimal digits of the model file's BLAKE3 digest.
    fn id(&self) -> &str;

    /// Length of a vector.
    fn dimensions(&self) -> usize;

    /// The cosine from which on the semantic cache may serve, where nothing was calibrated: conservative, and measured for
    /// this model file (see where it is defined).
    fn default_cut(&self) -> f32;

    /// The share of wrong hits at that cut behind the guards, as measured for this model file on labelled pairs.
    fn wrong_at_cut(&self) -> f64;

    /// The vector of a text. Ready at once for the built-in model.
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>>;
}

/// Opens a model.
///
/// # Errors
/// When its files cannot be used; the text names the file and the remedy.
pub fn open(settings: &Settings) -> Result<Arc<dyn Embedder>, EmbedError> {
    match settings {
        Settings::BuiltIn => Ok(Arc::new(built_in::BuiltIn::new()?)),
        #[cfg(feature = "fastembed")]
        Settings::FastEmbed { dir, workers, queue } => Ok(Arc::new(fast::FastEmbed::open(dir, *workers, *queue)?)),
        #[cfg(not(feature = "fastembed"))]
        Settings::FastEmbed { .. } => Err(EmbedError::Unavailable(
            "this pointsman was built without fastembed; build it with `--features fastembed`, or write \"built-in\"".into(),
        )),
    }
}
