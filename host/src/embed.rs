//! Embedding models: text in, a vector of unit length out. One vector per exchange serves the cache, the plugins and
//! whoever else asks.
//!
//! Four kinds: the one inside pointsman, those that `pointsman model install` or their owner has put into a folder (onnxruntime computes
//! them), and those that a provider serves (`remote`; `gateway` lends it the way there).
//!
//! What it does not do: it stores and compares nothing (`cache` does), and it downloads nothing but what `install` is asked for.
//!
//! **Invariant:** vectors of different model files never meet: the model's id is part of every cache partition.
//! **Invariant:** a model that takes milliseconds runs on threads of its own behind a bounded queue.

pub mod built_in;
pub mod examples;
#[cfg(feature = "fastembed")]
mod fast;
#[cfg(feature = "fastembed")]
mod folder;
#[cfg(feature = "fastembed")]
pub mod install;
#[cfg(feature = "fastembed")]
mod known;
pub mod numbers;
pub mod place;
pub mod remote;
#[cfg(feature = "fastembed")]
mod runtime;
mod tokenize;
#[cfg(feature = "fastembed")]
mod workers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::config;
use crate::vector::Vector;
use numbers::Numbers;

/// Which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settings {
    /// The one inside pointsman.
    BuiltIn,
    /// One that onnxruntime computes here.
    Local {
        /// Its files.
        files: Files,
        /// How much it may do at a time.
        limits: Limits,
        /// The library; none: where it is found.
        runtime: Option<PathBuf>,
    },
}

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Files {
    /// What is installed under a name, or known to fastembed by it.
    Named(String),
    /// A folder.
    Folder(PathBuf),
}

/// How much a model may do at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that compute; each has the model in memory.
    pub workers: usize,
    /// Texts that may wait for them.
    pub queue: usize,
    /// Texts that are computed together.
    pub batch: usize,
    /// The longest that anybody waits for a vector.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { workers: 1, queue: 64, batch: 16, timeout: Duration::from_secs(1) }
    }
}

impl Settings {
    /// What a configuration means where it says nothing else of the model; an entry of `[embedders]` is no business of this.
    pub fn of(embedder: &config::Embedder, limits: Limits, runtime: Option<&Path>) -> Self {
        let files = match embedder {
            config::Embedder::BuiltIn => return Self::BuiltIn,
            config::Embedder::Named(name) => Files::Named(name.clone()),
            config::Embedder::Folder(path) => Files::Folder(path.clone()),
        };
        Self::Local { files, limits, runtime: runtime.map(Path::to_owned) }
    }
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
    /// The vector was not there in time. Go on without.
    #[error("the embedder was too slow")]
    Late,
    /// It has failed too often of late. Go on without.
    #[error("the embedder keeps failing and is left alone")]
    LeftAlone,
    /// Nothing in the text has a meaning for the model.
    #[error("there is nothing to embed")]
    Empty,
}

/// A model.
pub trait Embedder: Send + Sync + 'static {
    /// `name@` and the first twelve hexadecimal digits of the BLAKE3 digest of what makes its vectors: model, tokenizer, pooling.
    fn id(&self) -> &str;

    /// Length of a vector; 0 where that is not known yet.
    fn dimensions(&self) -> usize;

    /// The vector of a text. Ready at once for the built-in model.
    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>>;

    /// The same, asked for by a core: one that goes over the network goes by that core's connections.
    fn embed_from<'a>(&'a self, core: usize, text: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>> {
        let _ = core;
        self.embed(text)
    }

    /// What it has done so far, where that is counted.
    fn numbers(&self) -> Option<&Arc<Numbers>> {
        None
    }

    /// Texts that wait for it.
    fn waiting(&self) -> usize {
        0
    }
}

/// Opens a model.
///
/// # Errors
/// When its files cannot be used; the text names the file and the remedy.
pub fn open(settings: &Settings) -> Result<Arc<dyn Embedder>, EmbedError> {
    match settings {
        Settings::BuiltIn => Ok(Arc::new(built_in::BuiltIn::new()?)),
        #[cfg(feature = "fastembed")]
        Settings::Local { files, limits, runtime } => {
            let model = match files {
                Files::Folder(dir) => folder::Model::read(dir)?,
                Files::Named(name) => known::find(name)?,
            };
            Ok(Arc::new(fast::FastEmbed::open(model, *limits, runtime.as_deref())?))
        }
        #[cfg(not(feature = "fastembed"))]
        Settings::Local { .. } => Err(EmbedError::Unavailable(
            "this pointsman was built without fastembed; build it with its default features, or write \"built-in\"".into(),
        )),
    }
}
