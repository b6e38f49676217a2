//! From a plugin's folder to its component: `pointsman plugin build`, and what `pointsman dev` needs.
//!
//! cargo compiles the folder for wasm32-unknown-unknown with settings for small guests, wit-component wraps the module, and the
//! component is put beside the plugin's Cargo.toml.
//!
//! What it does not do: it loads nothing into a host (`load`), and it watches nothing (`cli::dev` does).
//!
//! **Invariant:** a component's file is replaced whole, and only by a component that is valid and other than it; a build that fails
//! or changes nothing leaves the file as it is, so that no host reloads for it.

mod cargo;
mod component;
mod toolchain;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The target that plugins are compiled for: no WASI, so a component imports what the contract has and nothing else.
const TARGET: &str = "wasm32-unknown-unknown";
/// What makes a package a plugin.
const SDK: &str = "pointsman-plugin";

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
        /// The Cargo.toml.
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
    let name = package_name(dir)?;
    let compiled = cargo::compile(dir, options)?;
    let bytes = component::wrap(&compiled.module).map_err(|reason| BuildError::Component { dir: dir.to_owned(), reason })?;
    let file = options.component.clone().unwrap_or_else(|| dir.join(format!("{name}.wasm")));
    let changed = component::write(&file, &bytes).map_err(|error| BuildError::Write { file: file.clone(), error })?;
    let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Built { component: file, size: bytes.len() as u64, digest, changed, warnings: compiled.warnings })
}

/// Does the folder hold a plugin in Rust: a package that depends on the SDK?
pub fn is_plugin(dir: &Path) -> bool {
    let Ok(manifest) = manifest(dir) else { return false };
    let Some(dependencies) = manifest.get("dependencies").and_then(toml::Value::as_table) else { return false };
    dependencies.iter().any(|(key, value)| key == SDK || value.get("package").and_then(toml::Value::as_str) == Some(SDK))
}

/// The plugins that `dev` takes from a folder: itself if it is one, or else those in its `plugins/`, by name, but for those whose
/// manifest says `[package.metadata.pointsman] dev = false`.
pub fn find(dir: &Path) -> Vec<PathBuf> {
    if is_plugin(dir) {
        return vec![dir.to_owned()];
    }
    let entries = std::fs::read_dir(dir.join("plugins")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| is_plugin(path) && is_for_dev(path)).collect();
    found.sort();
    found
}

fn is_for_dev(dir: &Path) -> bool {
    let said = || manifest(dir).ok()?.get("package")?.get("metadata")?.get("pointsman")?.get("dev")?.as_bool();
    said() != Some(false)
}

/// What a component is made of, to be watched: a change of any of these is a reason to build.
pub fn sources(dir: &Path) -> Vec<PathBuf> {
    ["Cargo.toml", "src", "build.rs"].iter().map(|name| dir.join(name)).filter(|path| path.exists()).collect()
}

fn manifest(dir: &Path) -> Result<toml::Table, BuildError> {
    let file = dir.join("Cargo.toml");
    let wrong = |reason: String| BuildError::Manifest { file: file.clone(), reason };
    let text = std::fs::read_to_string(&file)
        .map_err(|error| wrong(format!("{error}; name the folder of a plugin, where its Cargo.toml is")))?;
    text.parse().map_err(|error| wrong(format!("{error}")))
}

fn package_name(dir: &Path) -> Result<String, BuildError> {
    let name =
        manifest(dir)?.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str).map(str::to_owned);
    let reason = || "has no `[package]` with a `name`; name the folder of one plugin".to_owned();
    name.ok_or_else(|| BuildError::Manifest { file: dir.join("Cargo.toml"), reason: reason() })
}

#[cfg(test)]
mod tests;
