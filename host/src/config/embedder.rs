//! Which embedder the semantic cache and the plugins use: written as one string, `built-in` or `fastembed:PATH`.
//!
//! Opens no model: the module `embed` does.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::BUILT_IN;
use super::unit::Wrong;

const FASTEMBED: &str = "fastembed:";

/// What turns text into a vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Embedder {
    /// The small model inside pointsman.
    #[default]
    BuiltIn,
    /// A folder with an ONNX model and its tokenizer.
    FastEmbed(PathBuf),
}

impl TryFrom<String> for Embedder {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        match text.strip_prefix(FASTEMBED) {
            Some(path) if !path.is_empty() => Ok(Self::FastEmbed(path.into())),
            None if text == BUILT_IN => Ok(Self::BuiltIn),
            _ => Err(Wrong::new(
                format!("{text:?} is not an embedder"),
                "write \"built-in\", or \"fastembed:PATH\" with the folder of an ONNX model",
            )),
        }
    }
}

impl From<Embedder> for String {
    fn from(embedder: Embedder) -> Self {
        match embedder {
            Embedder::BuiltIn => BUILT_IN.to_owned(),
            Embedder::FastEmbed(path) => format!("{FASTEMBED}{}", path.display()),
        }
    }
}

impl JsonSchema for Embedder {
    fn schema_name() -> Cow<'static, str> {
        "Embedder".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(built-in|fastembed:.+)$" })
    }
}
