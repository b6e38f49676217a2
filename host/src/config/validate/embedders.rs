//! Checks of `[embedders]` and of what names them.
//!
//! Opens no model and no folder but to see that it is there: the module `embed` does, and tells what it finds.

use super::Check;
use crate::config::{Embedder, EmbedderEntry, ModelKind};

/// More would only take memory: each has the model in it.
const MAX_WORKERS: usize = 64;

impl Check<'_> {
    pub(super) fn embedders(&mut self) {
        let config = self.config;
        if let Some(file) = config.onnxruntime.as_ref().filter(|file| !file.is_file()) {
            let reason = format!("the file {} does not exist", file.display());
            self.error(
                &["onnxruntime"],
                reason,
                "write the path of libonnxruntime.so, or remove it and run `pointsman model install minilm`",
            );
        }
        for (name, entry) in &config.embedders {
            self.printable(&["embedders", name], name);
            if matches!(Embedder::try_from(name.clone()), Err(_) | Ok(Embedder::BuiltIn | Embedder::Folder(_))) {
                let reason = "a name of an embedder has letters, digits, spaces, dots, - and _, and is not \"built-in\"";
                self.name_error(&["embedders", name], reason, "choose another name");
            }
            let path = |field: &'static str| ["embedders", name.as_str(), field];
            self.not_zero(&path("timeout"), entry.timeout.is_zero(), "\"1s\"");
            self.not_zero(&path("queue"), entry.queue == 0, "64");
            self.not_zero(&path("batch"), entry.batch == 0, "16");
            self.not_zero(&path("dimensions"), entry.dimensions == Some(0), "512 (absent: the provider's own)");
            if let Some(workers) = entry.workers.filter(|workers| !(1..=MAX_WORKERS).contains(workers)) {
                self.error(&path("workers"), format!("{workers} is not from 1 to {MAX_WORKERS}"), "write 1 or 2");
            }
            self.kind_of(name, entry);
        }
    }

    fn kind_of(&mut self, name: &str, entry: &EmbedderEntry) {
        let path = |field: &'static str| ["embedders", name, field];
        match (&entry.model, &entry.local) {
            (Some(model), None) => self.serves(&path("model"), model),
            (None, Some(local)) => {
                self.here(&path("local"), local);
                if entry.dimensions.is_some() {
                    self.error(&path("dimensions"), "a model that is computed here has its own length", "remove it");
                }
            }
            (Some(_), Some(_)) => {
                self.error(
                    &path("local"),
                    "`local` stands beside `model`",
                    "remove one of them: a provider's model, or one that is computed here",
                );
            }
            // Both may be there and wrong, which was told already.
            (None, None) if self.document.has(&path("model")) || self.document.has(&path("local")) => {}
            (None, None) => {
                let remedy = "add `model = \"…\"`, an embedding model in [models], or `local = \"minilm\"`";
                self.error(&["embedders", name], "`model` or `local` is missing", remedy);
            }
        }
    }

    /// Does a provider serve this model, and does it make embeddings?
    fn serves(&mut self, path: &[&str], model: &str) {
        if !self.exists("models", model, path) {
            return;
        }
        let found = self.config.models.get(model).map(|model| model.concrete());
        let remedy = "name one with a provider and `kind = \"embedding\"`";
        match found {
            Some(None) => self.error(path, format!("{model:?} is a choice among models"), remedy),
            Some(Some(found)) if found.is_built_in() => {
                self.error(
                    path,
                    format!("{model:?} is computed here, and no provider serves it"),
                    "write `local` in place of `model`",
                );
            }
            Some(Some(found)) if found.kind != ModelKind::Embedding => {
                self.error(path, format!("{model:?} makes no embeddings"), remedy);
            }
            // It is there and wrong, which was told at its own place.
            _ => {}
        }
    }

    /// Is it one that can be computed here?
    fn here(&mut self, path: &[&str], embedder: &Embedder) {
        match embedder {
            Embedder::Folder(folder) if !folder.is_dir() => {
                let reason = format!("the folder {} does not exist", folder.display());
                self.error(path, reason, "put model.onnx and tokenizer.json there, or write \"minilm\"");
            }
            Embedder::Named(name) if self.document.has(&["embedders", name]) && path.get(1) != Some(&name.as_str()) => {
                self.error(path, format!("{name:?} is an entry of [embedders] itself"), "name a model, or a folder");
            }
            _ => {}
        }
    }

    /// What the cache names: an entry, a model, or a folder.
    pub(super) fn embedder(&mut self, path: &[&str], embedder: &Embedder) {
        match embedder {
            Embedder::Named(name) if self.document.has(&["embedders", name]) => {
                let is_remote = self.config.embedders.get(name).is_some_and(|entry| entry.model.is_some());
                if is_remote && !self.config.examples.is_empty() {
                    let reason = format!("{name:?} asks a provider, and [examples] would have to be asked for at each start");
                    self.error(path, reason, "name an embedder that is computed here, or remove [examples]");
                }
            }
            other => self.here(path, other),
        }
    }

    /// What a model of `provider = "built-in"` names.
    pub(super) fn embeds_here(&mut self, path: &[&str], name: &str) {
        let remedy = "name a model that is installed, or an entry of [embedders] with `local`";
        match Embedder::try_from(name.to_owned()) {
            Err(wrong) => self.error(path, wrong.reason, remedy),
            Ok(Embedder::Folder(_)) => self.error(path, "a folder's path is no model's name", remedy),
            Ok(Embedder::Named(name)) if self.config.embedders.get(&name).is_some_and(|entry| entry.model.is_some()) => {
                self.error(path, format!("{name:?} asks a provider"), "name the provider and its model here");
            }
            _ => {}
        }
    }
}
