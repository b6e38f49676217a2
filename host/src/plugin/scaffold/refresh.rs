//! The SDK in a plugin's `vendor/`, brought up to this pointsman: `pointsman plugin sdk`.
//!
//! What it does not do: it changes no source of the plugin's. What a newer SDK has other names for, its author writes anew.
//!
//! **Invariant:** a part of the SDK is the old one or the new one, whole; what else stands in `vendor/` is left alone.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Language, Place, language, rust};
use crate::plugin::build;

/// Why the SDK is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// It is no plugin's folder.
    #[error("{} has no Cargo.toml, package.json or pyproject.toml; name the folder of a plugin", .0.display())]
    Folder(PathBuf),
    /// It brings none along.
    #[error(
        "{} has no SDK in `vendor/`: it takes one from elsewhere, as a plugin within a clone of pointsman does, and that one is to be brought up to date",
        .0.display()
    )]
    Elsewhere(PathBuf),
    /// The file system refused.
    #[error("{} cannot be written: {error}", file.display())]
    Write {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The SDK is the new one, and the lock file is not.
    #[error("the SDK is new, but {0}")]
    Lock(String),
}

/// What was done.
#[derive(Debug)]
pub struct Refreshed {
    /// The plugin's language.
    pub title: &'static str,
    /// The parts of the SDK, as paths below the folder.
    pub parts: Vec<PathBuf>,
    /// Those of them that were another before.
    pub changed: usize,
}

/// Puts the SDK of this binary in the place of the one that a plugin's folder has.
///
/// # Errors
/// See [`RefreshError`]; each says what to do.
pub fn refresh(dir: &Path) -> Result<Refreshed, RefreshError> {
    let kinds = [("rust", build::Language::Rust), ("js", build::Language::JavaScript), ("python", build::Language::Python)];
    let name = kinds.into_iter().find(|(_, kind)| dir.join(kind.manifest()).is_file()).map(|(name, _)| name);
    let language: &Language = name.and_then(language).ok_or_else(|| RefreshError::Folder(dir.to_owned()))?;
    let mut parts: BTreeMap<PathBuf, Vec<(PathBuf, String)>> = BTreeMap::new();
    for (path, text) in (language.sdk)(&Place { dir: dir.to_owned(), clone: None }).files {
        let part: PathBuf = path.components().take(2).collect();
        parts.entry(part).or_default().push((path, text));
    }
    if !parts.keys().any(|part| dir.join(part).exists()) {
        return Err(RefreshError::Elsewhere(dir.to_owned()));
    }
    let mut changed = 0;
    for (part, files) in &parts {
        if is_same(dir, part, files) {
            continue;
        }
        changed += 1;
        replace(dir, part, files).map_err(|error| RefreshError::Write { file: dir.join(part), error })?;
    }
    if changed > 0 && language.name == "rust" && dir.join("Cargo.lock").is_file() {
        rust::lock(dir).map_err(RefreshError::Lock)?;
    }
    Ok(Refreshed { title: language.title, parts: parts.into_keys().collect(), changed })
}

fn is_same(dir: &Path, part: &Path, files: &[(PathBuf, String)]) -> bool {
    let is_there = |(path, text): &(PathBuf, String)| fs::read(dir.join(path)).is_ok_and(|own| own == text.as_bytes());
    files.iter().all(is_there) && count(&dir.join(part)) == files.len()
}

/// Files below a folder.
fn count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return usize::from(folder.is_file()) };
    entries.flatten().map(|entry| count(&entry.path())).sum()
}

/// Writes a part beside the old one, and puts it in its place.
fn replace(dir: &Path, part: &Path, files: &[(PathBuf, String)]) -> io::Result<()> {
    let scratch = scratch(&dir.join("vendor"))?;
    let done = (|| {
        for (path, text) in files {
            let file = scratch.join("new").join(path.strip_prefix(part).unwrap_or(path));
            let file = if path == part { scratch.join("new") } else { file };
            fs::create_dir_all(file.parent().unwrap_or(&scratch))?;
            fs::write(file, text)?;
        }
        let (place, old) = (dir.join(part), scratch.join("old"));
        if place.exists() {
            fs::rename(&place, &old)?;
        }
        fs::rename(scratch.join("new"), &place).inspect_err(|_| drop(fs::rename(&old, &place)))
    })();
    let _ = fs::remove_dir_all(&scratch);
    done
}

/// A folder in which something is made ready.
fn scratch(beside: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(beside)?;
    let folder = beside.join(format!(".sdk-{}-{:08x}", std::process::id(), fastrand::u32(..)));
    fs::create_dir(&folder)?;
    Ok(folder)
}
