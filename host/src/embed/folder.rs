//! A model's folder as its makers leave it: `model.onnx` (or `onnx/model.onnx`), `tokenizer.json`, and what Hugging Face and
//! sentence-transformers put beside them, which says how tokens' vectors become a text's.
//!
//! What it does not do: it runs nothing (`fast` does).
//!
//! **Invariant:** whatever decides a vector (model, tokenizer, pooling, length) is in the digest.

use std::path::{Path, PathBuf};

use fastembed::{OutputKey, Pooling, TokenizerFiles};
use memchr::memmem;
use serde_json::Value;

use super::{EmbedError, install};

/// Tokens that are looked at where the folder does not say: what BERT and most of its kin can.
const MAX_TOKENS: usize = 512;

/// A model that was read.
pub(super) struct Model {
    /// Where it is, for messages and for the library that may lie beside it.
    pub(super) dir: PathBuf,
    pub(super) id: String,
    pub(super) onnx: Vec<u8>,
    /// Weights that lie beside the graph, by the names that it has for them.
    pub(super) beside: Vec<(String, Vec<u8>)>,
    pub(super) tokenizer: TokenizerFiles,
    pub(super) pooling: Pooling,
    pub(super) output: Option<OutputKey>,
    pub(super) max_tokens: usize,
    /// Its numbers are scaled by all that is computed together: so that a text's vector is its own, it is computed alone.
    pub(super) alone: bool,
}

/// What is known of a model from elsewhere than its folder.
#[derive(Default)]
pub(super) struct Known {
    /// The graph's file below the folder.
    pub(super) file: Option<String>,
    pub(super) beside: Vec<String>,
    pub(super) pooling: Option<Pooling>,
    pub(super) output: Option<OutputKey>,
    pub(super) alone: bool,
}

impl Model {
    /// Reads a folder.
    pub(super) fn read(dir: &Path) -> Result<Self, EmbedError> {
        // One that was installed has its name wherever it lies.
        let own = install::manifest(dir).and_then(|manifest| Some(manifest.id.split_once('@')?.0.to_owned()));
        let folder = || dir.file_name().and_then(|name| name.to_str()).map(str::to_owned);
        let name = own.or_else(folder).unwrap_or_else(|| "model".to_owned());
        Self::read_as(&name, dir, Known::default())
    }

    /// Reads a folder under a name, with what is known of the model.
    pub(super) fn read_as(name: &str, dir: &Path, known: Known) -> Result<Self, EmbedError> {
        let fail = |file: &str, reason: &dyn std::fmt::Display| {
            EmbedError::Unavailable(format!("{}: {reason}", dir.join(file).display()))
        };
        let read = |file: &str| std::fs::read(dir.join(file)).map_err(|error| fail(file, &error));
        let optional = |file: &str| std::fs::read(dir.join(file)).unwrap_or_else(|_| b"{}".to_vec());
        let json = |file: &str| serde_json::from_slice::<Value>(&optional(file)).map_err(|error| fail(file, &error));
        if !dir.is_dir() {
            return Err(fail("", &"there is no such folder"));
        }
        let file = known.file.unwrap_or_else(|| {
            let nested = "onnx/model.onnx";
            if dir.join(nested).is_file() { nested } else { "model.onnx" }.to_owned()
        });
        let onnx = read(&file)?;
        let beside = known.beside.into_iter().map(|name| Ok((base_name(&name), read(&name)?))).collect::<Result<Vec<_>, _>>()?;
        let tokenizer_file = read("tokenizer.json")?;
        let config = json("config.json")?;
        let pooling = match known.pooling {
            Some(pooling) => pooling,
            None => pooling(&json("1_Pooling/config.json")?).map_err(|reason| fail("1_Pooling/config.json", &reason))?,
        };
        let max_tokens = [&json("sentence_bert_config.json")?["max_seq_length"], &config["max_position_embeddings"]]
            .into_iter()
            .find_map(Value::as_u64)
            .map_or(MAX_TOKENS, |tokens| tokens as usize)
            .clamp(1, 8 << 10);
        let tokenizer = TokenizerFiles {
            config_file: optional("config.json"),
            special_tokens_map_file: optional("special_tokens_map.json"),
            tokenizer_config_file: tokenizer_config(json("tokenizer_config.json")?, &tokenizer_file),
            tokenizer_file,
        };
        let mut digest = blake3::Hasher::new();
        let how = format!("{pooling:?} {max_tokens}");
        let weights = beside.iter().map(|(_, bytes)| bytes.as_slice());
        for part in [onnx.as_slice(), &tokenizer.tokenizer_file, how.as_bytes()].into_iter().chain(weights) {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        // Operators' names stand in the file as they are.
        let alone = known.alone || memmem::find(&onnx, b"DynamicQuantizeLinear").is_some();
        let id = format!("{name}@{}", &digest.finalize().to_hex()[..12]);
        Ok(Self { dir: dir.to_owned(), id, onnx, beside, tokenizer, pooling, output: known.output, max_tokens, alone })
    }
}

fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// What sentence-transformers says; the mean where it says nothing.
fn pooling(config: &Value) -> Result<Pooling, String> {
    let is = |mode: &str| config[format!("pooling_mode_{mode}").as_str()] == Value::Bool(true);
    if is("cls_token") {
        return Ok(Pooling::Cls);
    }
    let other = ["max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"].into_iter().find(|mode| is(mode));
    match other {
        Some(mode) if !is("mean_tokens") => {
            Err(format!("pooling_mode_{mode} cannot be done here; a model with mean or cls pooling can be used"))
        }
        _ => Ok(Pooling::Mean),
    }
}

/// What fastembed cannot do without: how long a text may be, and which token fills up the shorter ones of a batch.
fn tokenizer_config(mut config: Value, tokenizer: &[u8]) -> Vec<u8> {
    if let Some(config) = config.as_object_mut() {
        config.entry("model_max_length").or_insert_with(|| MAX_TOKENS.into());
        config.entry("pad_token").or_insert_with(|| {
            let known: Option<Value> = serde_json::from_slice(tokenizer).ok();
            let pad = known.as_ref().and_then(|tokenizer| tokenizer["padding"]["pad_token"].as_str()).unwrap_or("[PAD]");
            pad.into()
        });
    }
    config.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        }
        dir
    }

    fn read(dir: &tempfile::TempDir) -> Result<Model, String> {
        Model::read_as("m", dir.path(), Known::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = folder(&[]);
        assert!(read(&dir).err().unwrap().contains("model.onnx: "));
        let dir = folder(&[("model.onnx", "x")]);
        assert!(read(&dir).err().unwrap().contains("tokenizer.json: "));
        let none = Model::read(Path::new("/nowhere/m")).err().unwrap().to_string();
        assert!(none.contains("/nowhere/m/: there is no such folder"), "{none}");
    }

    #[test]
    fn what_decides_a_vector_is_in_the_id() {
        let of = |files: &[(&str, &str)]| read(&folder(files)).unwrap().id;
        let (graph, tokens) = (("model.onnx", "x"), ("tokenizer.json", "{}"));
        let ids = [
            of(&[graph, tokens]),
            of(&[("onnx/model.onnx", "y"), tokens]),
            of(&[graph, ("tokenizer.json", "{} ")]),
            of(&[graph, tokens, ("1_Pooling/config.json", r#"{"pooling_mode_cls_token":true}"#)]),
            of(&[graph, tokens, ("sentence_bert_config.json", r#"{"max_seq_length":128}"#)]),
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len(), "{ids:?}");
        assert_eq!(ids[0], of(&[graph, tokens, ("README.md", "z"), ("config.json", "{}")]), "and nothing else");
        assert!(ids[0].starts_with("m@") && ids[0].len() == 14);
    }

    #[test]
    fn pooling_is_what_the_makers_say() {
        assert_eq!(pooling(&json!({})), Ok(Pooling::Mean));
        assert_eq!(pooling(&json!({ "pooling_mode_mean_tokens": true, "pooling_mode_cls_token": false })), Ok(Pooling::Mean));
        assert_eq!(pooling(&json!({ "pooling_mode_cls_token": true })), Ok(Pooling::Cls));
        assert!(pooling(&json!({ "pooling_mode_lasttoken": true })).unwrap_err().contains("lasttoken"));
    }

    #[test]
    fn a_model_that_is_scaled_by_its_batch_is_computed_alone() {
        let graph = |text: &str| read(&folder(&[("model.onnx", text), ("tokenizer.json", "{}")])).unwrap().alone;
        assert!(graph("..\u{5}DynamicQuantizeLinear.."));
        assert!(!graph("..MatMulNBits.."));
    }
}
