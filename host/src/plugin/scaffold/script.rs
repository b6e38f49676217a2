//! TypeScript and Python: a folder with the SDK beside it. A build brings the SDK itself (`build`); the one in the folder is for the author's
//! editor and type checker.
//!
//! What it does not do: it installs nothing.
//!
//! **Invariant:** what is in `vendor/` is not built in, so that a plugin is built against the SDK of the pointsman that builds it.

use std::path::{Path, PathBuf};

use super::{Language, Place, Sdk, below};

pub(super) const TYPESCRIPT: Language = Language { name: "js", title: "TypeScript", name_fault, sdk: javascript, finish };
pub(super) const PYTHON: Language = Language { name: "python", title: "Python", name_fault, sdk: python, finish };

fn name_fault(name: &str) -> Option<String> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_name = name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
    (!is_name).then(|| {
        "it is the package's name; write small letters, digits and hyphens, a letter first, such as `by-length`".to_owned()
    })
}

fn javascript(place: &Place) -> Sdk {
    sdk(place, "sdk/js", "./vendor/pointsman-plugin", &["package.json", "src/", "wit/"])
}

fn python(place: &Place) -> Sdk {
    sdk(place, "sdk/python", "vendor", &["pointsman_plugin/", "pointsman_wit/", "componentize_py_types.py"])
}

/// The clone's own SDK, or these files of it in the plugin's folder.
fn sdk(place: &Place, own: &str, vendor: &str, parts: &[&str]) -> Sdk {
    if let Some(clone) = &place.clone {
        let path = if is_member(place) { Path::new("../..").join(own) } else { clone.join(own) };
        return Sdk { path: path.display().to_string(), words: Vec::new(), files: Vec::new() };
    }
    let files = below(&format!("{own}/")).into_iter().filter(|(path, _)| parts.iter().any(|part| path.starts_with(part)));
    let folder = PathBuf::from(vendor.trim_start_matches("./"));
    Sdk {
        path: vendor.to_owned(),
        words: Vec::new(),
        files: files.map(|(path, text)| (folder.join(path), text.to_owned())).collect(),
    }
}

/// The clone's workspace takes all that stands in its `plugins/` for crates.
fn is_member(place: &Place) -> bool {
    place.clone.as_ref().is_some_and(|clone| place.dir.parent() == Some(&clone.join("plugins")))
}

fn finish(place: &Place) -> Result<(), String> {
    if !is_member(place) {
        return Ok(());
    }
    let name = place.dir.file_name().unwrap_or_default().to_string_lossy();
    Err(format!("the workspace takes it for a crate; add \"plugins/{name}\" to `exclude` in the root's Cargo.toml"))
}
