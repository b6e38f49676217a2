//! Models by name: what is installed under it, or what fastembed knows and somebody has brought here: into the models' folder, or, with
//! Hugging Face's tools or fastembed's, into their caches.
//!
//! What it does not do: it downloads nothing.

use std::path::{Path, PathBuf};

use fastembed::{EmbeddingModel, QuantizationMode, TextEmbedding};

use super::folder::{Known, Model};
use super::{EmbedError, install, place};

/// The model of this name.
pub(super) fn find(name: &str) -> Result<Model, EmbedError> {
    let own = place::model(name).filter(|folder| folder.is_dir());
    let known = name.parse::<EmbeddingModel>().ok();
    match (own, known) {
        (Some(folder), None) => Model::read_as(name, &folder, Known::default()),
        (own, Some(model)) => by_fastembed(name, own, &model),
        (None, None) => Err(EmbedError::Unavailable(missing(name))),
    }
}

fn missing(name: &str) -> String {
    let at = place::model(name).map_or_else(|| "the folder of models".to_owned(), |folder| folder.display().to_string());
    if install::NAMES.contains(&name) {
        return format!("{at} is not there; run `pointsman model install {name}`");
    }
    format!(
        "{at} is not there, and fastembed knows no model {name:?}; `pointsman model list` shows what is there, and a folder is named by a path with a slash"
    )
}

fn by_fastembed(name: &str, own: Option<PathBuf>, model: &EmbeddingModel) -> Result<Model, EmbedError> {
    let info = TextEmbedding::get_model_info(model).map_err(|error| EmbedError::Unavailable(error.to_string()))?;
    let mut known = Known {
        file: None,
        beside: Vec::new(),
        pooling: TextEmbedding::get_default_pooling_method(model),
        output: info.output_key.clone(),
        alone: TextEmbedding::get_quantization_mode(model) == QuantizationMode::Dynamic,
    };
    // A folder of one's own may have the one file under a plain name; a copy of the repository has it where fastembed says.
    let folder = match own {
        Some(folder) if !folder.join(&info.model_file).is_file() => return Model::read_as(name, &folder, known),
        Some(folder) => folder,
        None => cached(&info.model_code, &info.model_file).ok_or_else(|| {
            let at = place::model(name).map_or_else(String::new, |folder| format!(", and {} is not there", folder.display()));
            EmbedError::Unavailable(format!(
                "{} is not in a cache of Hugging Face's (`hf download {}`){at}",
                info.model_code, info.model_code
            ))
        })?,
    };
    known.file = Some(info.model_file.clone());
    known.beside.clone_from(&info.additional_files);
    Model::read_as(name, &folder, known)
}

/// A repository in one of the caches, as it was when it was last brought.
fn cached(code: &str, file: &str) -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = std::env::home_dir().map(|home| home.join(".cache/huggingface"));
    let hugging_face = variable("HF_HOME").or(home);
    let bases = [
        variable("HF_HUB_CACHE"),
        hugging_face.as_deref().map(|base| base.join("hub")),
        hugging_face,
        variable("FASTEMBED_CACHE_DIR"),
    ];
    bases.into_iter().flatten().find_map(|base| snapshot(&base.join(format!("models--{}", code.replace('/', "--"))), file))
}

fn snapshot(repository: &Path, file: &str) -> Option<PathBuf> {
    let revision = std::fs::read_to_string(repository.join("refs/main")).ok()?;
    let folder = repository.join("snapshots").join(revision.trim());
    folder.join(file).is_file().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_found_where_hugging_faces_tools_put_it() {
        let base = tempfile::tempdir().unwrap();
        let repository = base.path().join("models--Xenova--bge-small-en-v1.5");
        let folder = repository.join("snapshots/abc");
        std::fs::create_dir_all(folder.join("onnx")).unwrap();
        std::fs::create_dir_all(repository.join("refs")).unwrap();
        std::fs::write(repository.join("refs/main"), "abc\n").unwrap();
        assert_eq!(snapshot(&repository, "onnx/model.onnx"), None, "half of it is none");
        std::fs::write(folder.join("onnx/model.onnx"), "x").unwrap();
        assert_eq!(snapshot(&repository, "onnx/model.onnx"), Some(folder));
    }

    #[test]
    fn what_is_not_there_has_a_remedy() {
        let of = |name: &str| find(name).err().unwrap().to_string();
        assert!(of("no-such-model").contains("`pointsman model list`"));
        assert!(missing("minilm").contains("run `pointsman model install minilm`"));
        assert!(of("MultilingualE5Large").contains("hf download"), "{}", of("MultilingualE5Large"));
    }
}
