//! Where models that were installed lie: `$XDG_DATA_HOME/pointsman/models/NAME`, or `~/.local/share/pointsman/models/NAME`.
//!
//! What it does not do: it opens nothing.

use std::path::PathBuf;

/// What `pointsman model install` writes beside a model, last of all: what it is, and its digest.
pub const MANIFEST: &str = "pointsman.json";

/// The folder of all installed models; none where the user has no home.
pub fn models() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(base.or_else(|| Some(std::env::home_dir()?.join(".local/share")))?.join("pointsman").join("models"))
}

/// The folder of one.
pub fn model(name: &str) -> Option<PathBuf> {
    Some(models()?.join(name))
}

/// The names of those that are there, in their order.
pub fn installed() -> Vec<(String, PathBuf)> {
    let folders = models().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut found: Vec<_> = folders
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)))
        .filter(|(name, _)| !name.starts_with('.'))
        .collect();
    found.sort();
    found
}
