//! Rust: a cargo package with the SDK beside it.
//!
//! What it does not do: it asks no registry whether the SDK is there; the two crates that the SDK is made of come from it as usual.
//!
//! **Invariant:** a plugin outside a clone is a workspace of its own, whatever stands around it; within a clone's `plugins/` it is a member.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Language, Place, Sdk, below};

pub(super) const LANGUAGE: Language = Language { name: "rust", title: "Rust", name_fault, sdk, finish };

/// Where the SDK goes in a plugin's folder.
const VENDOR: &str = "vendor/pointsman-plugin";
/// The root's manifest: the SDK inherits from it.
const ROOT: &str = include_str!("../../../../Cargo.toml");
/// Crates that come with the compiler, and the SDK.
const TAKEN: [&str; 6] = ["alloc", "core", "pointsman-plugin", "proc-macro", "std", "test"];

fn name_fault(name: &str) -> Option<String> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase();
    let is_name = name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'));
    if !is_name {
        return Some(
            "it is the package's name; write small letters, digits and hyphens, a letter first, such as `by-length`".to_owned(),
        );
    }
    TAKEN.contains(&name.replace('_', "-").as_str()).then(|| "a crate has that name already; take another".to_owned())
}

fn sdk(place: &Place) -> Sdk {
    let alone = "\n[workspace]\n# The SDK is a package of its own.\nexclude = [\"vendor\"]\n";
    let sdk = |path: &str, workspace: &str, files| Sdk {
        path: path.to_owned(),
        words: vec![("#{{workspace}}\n", workspace.to_owned())],
        files,
    };
    match (&place.clone, is_member(place)) {
        (Some(_), true) => sdk("../../sdk/rust", "\n[lints]\nworkspace = true\n", Vec::new()),
        (Some(clone), false) => sdk(&clone.join("sdk/rust").display().to_string(), "\n[workspace]\n", Vec::new()),
        (None, _) => sdk(VENDOR, alone, vendored()),
    }
}

/// The clone's workspace has all that stands in its `plugins/`.
fn is_member(place: &Place) -> bool {
    place.clone.as_ref().is_some_and(|clone| place.dir.parent() == Some(&clone.join("plugins")))
}

/// The SDK as a package that needs no workspace around it.
fn vendored() -> Vec<(PathBuf, String)> {
    let place = |path: &str| Path::new(VENDOR).join(path);
    let manifest = below("sdk/rust/").into_iter().find(|(path, _)| *path == "Cargo.toml").map_or("", |(_, text)| text);
    let sources = below("sdk/rust/src/").into_iter().map(|(path, text)| (place("src").join(path), text.to_owned()));
    std::iter::once((place("Cargo.toml"), standing_alone(manifest))).chain(sources).collect()
}

/// A manifest with what it inherits written out, and without what is for those who work on the SDK.
fn standing_alone(manifest: &str) -> String {
    let mut manifest: toml::Table = manifest.parse().unwrap_or_default();
    let root: toml::Table = ROOT.parse().unwrap_or_default();
    let inherited = |key: &str| root.get("workspace")?.get("package")?.get(key).cloned();
    if let Some(package) = manifest.get_mut("package").and_then(toml::Value::as_table_mut) {
        for (key, value) in package.iter_mut().filter(|(_, value)| value.get("workspace").is_some()) {
            if let Some(inherited) = inherited(key) {
                *value = inherited;
            }
        }
    }
    for section in ["dev-dependencies", "lints"] {
        manifest.remove(section);
    }
    format!("# Of pointsman {}. Not to be edited: a newer pointsman brings a newer one.\n{manifest}", env!("CARGO_PKG_VERSION"))
}

/// A member of the clone's workspace is named in its lock file, which holds for every build.
fn finish(place: &Place) -> Result<(), String> {
    if !is_member(place) {
        return Ok(());
    }
    lock(&place.dir)
}

/// Brings a lock file up to what the packages beside it are now.
pub(super) fn lock(dir: &Path) -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut update = Command::new(cargo);
    update.args(["update", "--workspace", "--offline", "--quiet"]).current_dir(dir).stdin(Stdio::null());
    let said = match update.output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(format!("Cargo.lock does not know it yet; run `cargo update --workspace` there\n{said}"))
}
