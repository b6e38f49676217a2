//! What a plugin's folder says of itself in its manifest: language, name, and whether it is a plugin at all.
//!
//! What it does not do: it reads no source. What hooks a plugin has is known when it is built.
//!
//! **Invariant:** a folder has one language: that of the first manifest of Cargo.toml, package.json, pyproject.toml that is there.

use std::path::{Path, PathBuf};

use super::BuildError;

/// What makes a package a plugin: it depends on the SDK of its language, or has a section for pointsman.
const RUST_SDK: &str = "pointsman-plugin";
const JS_SDK: &str = "@pointsman/plugin";
const PYTHON_SDK: &str = "pointsman-plugin";

/// What a plugin is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// A Cargo.toml.
    Rust,
    /// A package.json; TypeScript as well.
    JavaScript,
    /// A pyproject.toml.
    Python,
}

impl Language {
    const ALL: [Self; 3] = [Self::Rust, Self::JavaScript, Self::Python];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
        }
    }

    /// The manifest's file.
    pub fn manifest(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::JavaScript => "package.json",
            Self::Python => "pyproject.toml",
        }
    }

    /// What else there may be of a plugin beside its manifest, in the order in which an editor would open it.
    fn places(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["src/lib.rs", "src", "build.rs"],
            Self::JavaScript => &["plugin.ts", "plugin.js", "src/index.ts", "src/index.js", "src", "tsconfig.json"],
            Self::Python => &["plugin.py"],
        }
    }
}

/// What a manifest says.
pub(super) struct Folder {
    pub(super) language: Language,
    /// The package's name, which the component's file gets.
    pub(super) name: String,
    pub(super) is_plugin: bool,
    pub(super) is_for_dev: bool,
}

impl Folder {
    /// Its component's file.
    pub(super) fn component(&self, dir: &Path) -> PathBuf {
        dir.join(format!("{}.wasm", self.name))
    }

    /// Reads the folder's manifest.
    pub(super) fn open(dir: &Path) -> Result<Self, BuildError> {
        let language = Language::ALL.into_iter().find(|language| dir.join(language.manifest()).is_file());
        let language = language.ok_or_else(|| BuildError::Manifest {
            file: dir.to_owned(),
            reason: "has no Cargo.toml, package.json or pyproject.toml; name the folder of a plugin".to_owned(),
        })?;
        let file = dir.join(language.manifest());
        let wrong = |reason: String| BuildError::Manifest { file: file.clone(), reason };
        let text = std::fs::read_to_string(&file).map_err(|error| wrong(error.to_string()))?;
        match language {
            Language::Rust => rust(&toml(&text).map_err(wrong)?),
            Language::JavaScript => javascript(&serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?),
            Language::Python => python(&toml(&text).map_err(wrong)?),
        }
        .ok_or_else(|| {
            let place = match language {
                Language::Rust => "`[package]` with a `name`",
                Language::JavaScript => "`name`",
                Language::Python => "`[project]` with a `name`",
            };
            wrong(format!("has no {place}; name the folder of one plugin"))
        })
    }
}

fn toml(text: &str) -> Result<serde_json::Value, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    serde_json::to_value(table).map_err(|error| error.to_string())
}

fn rust(manifest: &serde_json::Value) -> Option<Folder> {
    let depends = |(key, value): (&String, &serde_json::Value)| key == RUST_SDK || value["package"] == RUST_SDK;
    Some(Folder {
        language: Language::Rust,
        name: manifest["package"]["name"].as_str()?.to_owned(),
        is_plugin: manifest["dependencies"].as_object().is_some_and(|all| all.iter().any(depends)),
        is_for_dev: manifest["package"]["metadata"]["pointsman"]["dev"] != false,
    })
}

fn javascript(manifest: &serde_json::Value) -> Option<Folder> {
    let depends = ["dependencies", "devDependencies"].iter().any(|kind| !manifest[kind][JS_SDK].is_null());
    Some(Folder {
        language: Language::JavaScript,
        // Without a scope: `@acme/router` is `router.wasm`.
        name: manifest["name"].as_str()?.rsplit('/').next()?.to_owned(),
        is_plugin: depends || manifest["pointsman"].is_object(),
        is_for_dev: manifest["pointsman"]["dev"] != false,
    })
}

fn python(manifest: &serde_json::Value) -> Option<Folder> {
    let named = |requirement: &serde_json::Value| {
        let text = requirement.as_str().unwrap_or_default();
        text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))).next() == Some(PYTHON_SDK)
    };
    let depends = manifest["project"]["dependencies"].as_array().is_some_and(|all| all.iter().any(named));
    Some(Folder {
        language: Language::Python,
        name: manifest["project"]["name"].as_str()?.to_owned(),
        is_plugin: depends || manifest["tool"]["pointsman"].is_object(),
        is_for_dev: manifest["tool"]["pointsman"]["dev"] != false,
    })
}

/// The manifest, and what is made into the component. Of a folder whose sources lie beside the manifest, all of its sources there.
pub(super) fn sources(dir: &Path) -> Vec<PathBuf> {
    let Ok(Folder { language, .. }) = Folder::open(dir) else { return Vec::new() };
    let mut found = vec![dir.join(language.manifest())];
    found.extend(language.places().iter().map(|place| dir.join(place)).filter(|path| path.exists()));
    let ends: &[&str] = match language {
        Language::Rust => &[],
        Language::JavaScript => &["ts", "js", "mjs"],
        Language::Python => &["py"],
    };
    let is_source = |path: &PathBuf| path.extension().is_some_and(|end| ends.iter().any(|known| end == *known));
    let is_package = |path: &PathBuf| language == Language::Python && path.join("__init__.py").is_file();
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut more: Vec<PathBuf> = entries.filter(|path| is_source(path) || is_package(path)).collect();
    more.retain(|path| !found.contains(path));
    more.sort();
    found.extend(more);
    // A file in a folder that is there is watched with it.
    let inner: Vec<PathBuf> = found
        .iter()
        .filter(|path| path.parent().is_some_and(|parent| found.iter().any(|other| other == parent)))
        .cloned()
        .collect();
    found.retain(|path| !inner.contains(path));
    found
}

/// The file that a plugin's author edits.
pub fn main_source(dir: &Path) -> Option<PathBuf> {
    let language = Folder::open(dir).ok()?.language;
    language.places().iter().map(|place| dir.join(place)).find(|path| path.is_file())
}
