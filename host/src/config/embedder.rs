//! Which embedder the semantic cache and the plugins use (written as one string), and `[embedders.NAME]`: one that is told more.
//!
//! Opens no model and no folder: the module `embed` does.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::BUILT_IN;
use super::unit::{Duration, Wrong};

/// What turns text into a vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Embedder {
    /// The small model inside pointsman.
    #[default]
    BuiltIn,
    /// An entry of `[embedders]`, or a model that is installed under this name or known to fastembed by it.
    Named(String),
    /// A folder with an ONNX model and its tokenizer.
    Folder(PathBuf),
}

const REMEDY: &str =
    "write \"built-in\", \"minilm\", the name of an entry of [embedders], or a folder's path with a slash, such as \"./model\"";

impl TryFrom<String> for Embedder {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        let is_name = |text: &str| {
            let fits = |character: char| character.is_alphanumeric() || "-_. ".contains(character);
            text.trim() == text && text.len() <= 200 && text.chars().all(fits)
        };
        match text.as_str() {
            BUILT_IN => Ok(Self::BuiltIn),
            "" | "." | ".." => Err(Wrong::new(format!("{text:?} is not an embedder"), REMEDY)),
            path if path.contains('/') && !path.contains(':') => Ok(Self::Folder(text.into())),
            name if is_name(name) => Ok(Self::Named(text)),
            _ => Err(Wrong::new(format!("{text:?} is not an embedder"), REMEDY)),
        }
    }
}

impl From<Embedder> for String {
    fn from(embedder: Embedder) -> Self {
        match embedder {
            Embedder::BuiltIn => BUILT_IN.to_owned(),
            Embedder::Named(name) => name,
            Embedder::Folder(path) => path.display().to_string(),
        }
    }
}

impl JsonSchema for Embedder {
    fn schema_name() -> Cow<'static, str> {
        "Embedder".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// An embedder that is told more than its name: a provider's model (`model`), or one that is computed here (`local`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedderEntry {
    /// An entry of `[models]` with `kind = "embedding"`, which a provider serves. What is embedded goes there: questions, and texts of plugins.
    pub model: Option<String>,
    /// A model that is computed here: `minilm`, another that is installed or that fastembed knows by its name, or a folder's path.
    pub local: Option<Embedder>,
    /// With `model`: the length of vectors that the provider is asked for (`dimensions`). Absent: its own.
    pub dimensions: Option<u32>,
    /// The longest that anybody waits for a vector; then the request goes on as if nothing near were cached. Default 1s.
    pub timeout: Duration,
    /// The most texts that wait; more go on without a vector. Default 64.
    pub queue: usize,
    /// The most texts that are computed together, or sent in one request. Nobody waits for more to come. Default 16.
    pub batch: usize,
    /// With `local`: threads that compute, each with the model in memory. With `model`: requests under way at once. Absent: 1, and 4.
    pub workers: Option<usize>,
}

impl Default for EmbedderEntry {
    fn default() -> Self {
        Self { model: None, local: None, dimensions: None, timeout: Duration::from_secs(1), queue: 64, batch: 16, workers: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_folders() {
        let of = |text: &str| Embedder::try_from(text.to_owned());
        assert_eq!(of("built-in"), Ok(Embedder::BuiltIn));
        for name in ["minilm", "BGESmallENV15", "open ai", "text-embedding-3.5"] {
            assert_eq!(of(name), Ok(Embedder::Named(name.to_owned())));
        }
        for path in ["./model", "/opt/model", "models/bge"] {
            assert_eq!(of(path), Ok(Embedder::Folder(path.into())));
            assert_eq!(String::from(of(path).unwrap()), path);
        }
        for wrong in ["", ".", "..", " minilm", "a\nb", "fastembed:model", "fastembed:/opt/model"] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
