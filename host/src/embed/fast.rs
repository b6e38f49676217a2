//! Models that run in onnxruntime, through fastembed: a folder with `model.onnx` and the tokenizer's files.
//!
//! The runtime is a shared library that is found when the first such model is opened (ORT_DYLIB_PATH, or the system's). It
//! is asked for its version first: one that is too old can hang while it is set up.
//!
//! What it does not do: it downloads nothing.
//!
//! **Invariant:** a text waits in a bounded queue, and is turned away when that is full.

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

use fastembed::{InitOptionsUserDefined, Pooling, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use super::{EmbedError, Embedder};
use crate::vector::{Vector, unit};

type Job = (String, oneshot::Sender<Result<Vector, EmbedError>>);

/// A model in onnxruntime.
pub struct FastEmbed {
    id: String,
    dimensions: usize,
    queue: SyncSender<Job>,
}

impl FastEmbed {
    /// Reads the folder and starts the workers.
    ///
    /// # Errors
    /// When a file is missing or cannot be used, or there is no onnxruntime that fits.
    pub fn open(dir: &Path, workers: usize, queue: usize) -> Result<Self, EmbedError> {
        let fail = |file: &str, reason: &dyn std::fmt::Display| {
            EmbedError::Unavailable(format!("{}: {reason}", dir.join(file).display()))
        };
        let read = |file: &str| std::fs::read(dir.join(file)).map_err(|error| fail(file, &error));
        let onnx = read("model.onnx")?;
        let id = format!("fastembed@{}", &blake3::hash(&onnx).to_hex()[..12]);
        let files = TokenizerFiles {
            tokenizer_file: read("tokenizer.json")?,
            config_file: read("config.json")?,
            special_tokens_map_file: read("special_tokens_map.json")?,
            tokenizer_config_file: read("tokenizer_config.json")?,
        };
        super::runtime::check()?;
        let (sender, receiver) = sync_channel::<Job>(queue);
        let receiver = Arc::new(Mutex::new(receiver));
        let mut dimensions = 0;
        for worker in 0..workers.max(1) {
            let model = UserDefinedEmbeddingModel::new(onnx.clone(), files.clone()).with_pooling(Pooling::Mean);
            let mut model = TextEmbedding::try_new_from_user_defined(model, InitOptionsUserDefined::new().with_intra_threads(1))
                .map_err(|error| fail("model.onnx", &error))?;
            let probe = model.embed(["probe"], None).map_err(|error| fail("model.onnx", &error))?;
            dimensions = probe.first().map_or(0, Vec::len);
            let receiver = receiver.clone();
            std::thread::Builder::new()
                .name(format!("embed-{worker}"))
                .spawn(move || {
                    loop {
                        let next = receiver.lock().map(|queue| queue.recv());
                        let Ok(Ok((text, answer))) = next else { return };
                        if answer.is_closed() {
                            continue;
                        }
                        let vector =
                            model.embed([text.as_str()], None).map_err(|error| EmbedError::Unavailable(error.to_string()));
                        let vector =
                            vector.and_then(|vectors| vectors.into_iter().next().and_then(unit).ok_or(EmbedError::Empty));
                        drop(answer.send(vector));
                    }
                })
                .map_err(|error| EmbedError::Unavailable(error.to_string()))?;
        }
        Ok(Self { id, dimensions, queue: sender })
    }
}

impl Embedder for FastEmbed {
    fn id(&self) -> &str {
        &self.id
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn default_cut(&self) -> f32 {
        // all-MiniLM-L6-v2 with the guards: 1.3 % of 552 hits wrong, 2.6 % at most; 4.8 % without. See host/model/README.md.
        0.98
    }

    fn wrong_at_cut(&self) -> f64 {
        0.013
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>> {
        Box::pin(async move {
            if text.trim().is_empty() {
                return Err(EmbedError::Empty);
            }
            let (answer, vector) = oneshot::channel();
            self.queue.try_send((text.to_owned(), answer)).map_err(|error| match error {
                TrySendError::Full(_) => EmbedError::Full,
                TrySendError::Disconnected(_) => EmbedError::Unavailable("its threads have ended".into()),
            })?;
            vector.await.unwrap_or_else(|_| Err(EmbedError::Unavailable("its thread has ended".into())))
        })
    }
}
