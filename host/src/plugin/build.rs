//! From a plugin's folder to its component: `pointsman plugin build`, and what `pointsman dev` needs.
//!
//! A folder in Rust: cargo compiles it for wasm32-unknown-unknown with settings for small guests, wit-component wraps the module. One in
//! JavaScript, TypeScript or Python: a toolchain of its language makes the component. It is put beside the plugin's manifest.
//!
//! What it does not do: it loads nothing into a host (`load`), and it watches nothing (`cli::dev` does).
//!
//! **Invariant:** a component's file is replaced whole, and only by a component that is valid and other than it; a build that fails
//! or changes nothing leaves the file as it is, so that no host reloads for it.

mod cargo;
mod component;
mod folder;
mod scripts;
mod toolchain;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use folder::Folder;
pub use folder::{Language, main_source};
pub use scripts::{Prepared, prepare, to_install};

/// The target that plugins are compiled for: no WASI, so a component imports what the contract has and nothing else.
const TARGET: &str = "wasm32-unknown-unknown";
/// How to build.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where cargo keeps what it has compiled; none: where `CARGO_TARGET_DIR` says, or else where cargo would.
    pub target_dir: Option<PathBuf>,
    /// The component's file; none: `NAME.wasm` in the plugin's folder, after the package's name.
    pub component: Option<PathBuf>,
}

/// A component that is there now.
#[derive(Clone, Debug)]
pub struct Built {
    /// Its file.
    pub component: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256, as hexadecimal digits.
    pub digest: String,
    /// The file was written; otherwise it was the same already.
    pub changed: bool,
    /// What the compiler had to remark. Empty if nothing.
    pub warnings: String,
}

/// Why there is no new component.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder is no package.
    #[error("{}: {reason}", file.display())]
    Manifest {
        /// The Cargo.toml, package.json or pyproject.toml.
        file: PathBuf,
        /// What is wrong with it, and what to write.
        reason: String,
    },
    /// cargo does not run.
    #[error("`{program}` cannot be run ({error}); install Rust from https://rustup.rs, or say in CARGO where cargo is")]
    Cargo {
        /// What was to be run.
        program: String,
        /// Why it was not.
        error: std::io::Error,
    },
    /// The compiler has no standard library for the target, and none could be had.
    #[error("this Rust cannot compile for {TARGET}, and it could not be added: {reason}")]
    Target {
        /// What was tried, and what to install.
        reason: String,
    },
    /// What builds plugins in this language is not there, and could not be had.
    #[error("plugins in {language} cannot be built here: {reason}")]
    Toolchain {
        /// The language's name.
        language: &'static str,
        /// What was tried, and what to install.
        reason: String,
    },
    /// cargo wants to change the lock file.
    #[error("{}: its dependencies are not those in Cargo.lock; run `cargo update --workspace` there to add them, then build again\n{output}", dir.display())]
    Lock {
        /// The plugin's folder.
        dir: PathBuf,
        /// What cargo said.
        output: String,
    },
    /// It does not compile.
    #[error("{} does not compile:\n{output}", dir.display())]
    Compile {
        /// The plugin's folder.
        dir: PathBuf,
        /// What the compiler said, as it would have said it on a terminal.
        output: String,
    },
    /// It compiles, but not to a plugin.
    #[error("{}: {reason}", dir.display())]
    Component {
        /// The plugin's folder.
        dir: PathBuf,
        /// What is missing, and what to write.
        reason: String,
    },
    /// The component cannot be written.
    #[error("{} cannot be written: {error}", file.display())]
    Write {
        /// The component's file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// Builds the plugin in a folder.
///
/// # Errors
/// See [`BuildError`]; each says what to do.
pub fn build(dir: &Path, options: &Options) -> Result<Built, BuildError> {
    make(dir, options)?.put()
}

/// A component that is made and nowhere yet: a host that runs takes whatever comes to its place.
#[derive(Debug)]
pub struct Made {
    /// Where it belongs.
    pub file: PathBuf,
    /// The component.
    pub bytes: Vec<u8>,
    /// What the compiler warned of.
    pub warnings: String,
}

impl Made {
    /// Puts it where it belongs.
    ///
    /// # Errors
    /// It cannot be written there.
    pub fn put(self) -> Result<Built, BuildError> {
        let Self { file, bytes, warnings } = self;
        let changed = component::write(&file, &bytes).map_err(|error| BuildError::Write { file: file.clone(), error })?;
        let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Built { component: file, size: bytes.len() as u64, digest, changed, warnings })
    }
}

/// Makes the component of the plugin in a folder, and puts it nowhere.
///
/// # Errors
/// See [`BuildError`]; each says what to do.
pub fn make(dir: &Path, options: &Options) -> Result<Made, BuildError> {
    let folder = Folder::open(dir)?;
    let unfit = |reason| BuildError::Component { dir: dir.to_owned(), reason };
    let (bytes, warnings) = match folder.language {
        Language::Rust => {
            let compiled = cargo::compile(dir, options)?;
            (component::wrap(&compiled.module).map_err(unfit)?, compiled.warnings)
        }
        Language::JavaScript | Language::Python => {
            (component::checked(scripts::make(dir, folder.language)?).map_err(unfit)?, String::new())
        }
    };
    let file = options.component.clone().unwrap_or_else(|| folder.component(dir));
    Ok(Made { file, bytes, warnings })
}

/// Where a build of the folder puts its component; none where the folder has no manifest.
pub fn component(dir: &Path) -> Option<PathBuf> {
    Folder::open(dir).ok().map(|folder| folder.component(dir))
}

/// What a folder's plugin is written in; none where it is no plugin.
pub fn language(dir: &Path) -> Option<Language> {
    Folder::open(dir).ok().filter(|folder| folder.is_plugin).map(|folder| folder.language)
}

/// Does the folder hold a plugin: a package that depends on an SDK?
pub fn is_plugin(dir: &Path) -> bool {
    language(dir).is_some()
}

/// The plugins that `dev` takes from a folder: itself if it is one, or else those in its `plugins/`, by name, but for those whose
/// manifest says that they are not for it: `[package.metadata.pointsman] dev = false`, `"pointsman": { "dev": false }`,
/// `[tool.pointsman] dev = false`.
pub fn find(dir: &Path) -> Vec<PathBuf> {
    if is_plugin(dir) {
        return vec![dir.to_owned()];
    }
    let entries = std::fs::read_dir(dir.join("plugins")).into_iter().flatten().flatten();
    let is_wanted = |path: &PathBuf| Folder::open(path).is_ok_and(|folder| folder.is_plugin && folder.is_for_dev);
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_wanted).collect();
    found.sort();
    found
}

/// What a component is made of, to be watched: a change of any of these is a reason to build.
pub fn sources(dir: &Path) -> Vec<PathBuf> {
    folder::sources(dir)
}

#[cfg(test)]
mod tests;
