//! A plugin to begin with: `pointsman plugin new` writes a folder that builds, has tests and cases, and passes both.
//!
//! A language is a folder `sdk/NAME/` with a `template/` in it (`common/` for every hook, and one folder a hook), and one entry of [`LANGUAGES`].
//! In a template's texts `{{name}}` is the plugin's name, `{{about}}` what it does, `{{version}}` that of pointsman, and `{{sdk}}` the way
//! from the plugin to the SDK.
//!
//! The SDK comes out of this binary and goes into the plugin's folder, as `vendor/`: it is then the one that this host was made with, and
//! nothing has to be published, cloned or found. Within a clone of pointsman the plugin names the clone's own SDK instead.
//!
//! What it does not do: it builds nothing (`build`), and it touches no file that was there before.
//!
//! **Invariant:** a folder is made only where there is none, or an empty one.

mod embedded;
mod refresh;
mod rust;
mod script;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::load::Hook;
pub use refresh::{RefreshError, Refreshed, refresh};

/// A language that plugins are written in.
pub struct Language {
    /// As `--lang` has it: the folder below `sdk/`.
    pub name: &'static str,
    /// As people write it.
    pub title: &'static str,
    /// What is wrong with a plugin's name there; none: nothing.
    name_fault: fn(&str) -> Option<String>,
    /// How the plugin gets the SDK: what `{{sdk}}` is, and the files that come along.
    sdk: fn(&Place) -> Sdk,
    /// What there is to do when all is written.
    finish: fn(&Place) -> Result<(), String>,
}

/// All of them, in the order of the help.
pub const LANGUAGES: &[Language] = &[rust::LANGUAGE, script::TYPESCRIPT, script::PYTHON];

/// Where the plugin stands.
struct Place {
    /// Its folder, from the root of the file system.
    dir: PathBuf,
    /// The clone of pointsman that it is in.
    clone: Option<PathBuf>,
}

/// What a plugin needs of its language's SDK.
struct Sdk {
    /// The way to it, as the template names it.
    path: String,
    /// Further words of the template, and what they stand for.
    words: Vec<(&'static str, String)>,
    /// Files that come along: path in the plugin's folder, and text.
    files: Vec<(PathBuf, String)>,
}

/// Why no folder was made.
#[derive(Debug, thiserror::Error)]
pub enum NewError {
    /// Something is there already.
    #[error("{} is not an empty folder; name one that is not there yet", .0.display())]
    Occupied(PathBuf),
    /// The folder's name is the plugin's, and no name for one.
    #[error("`{name}` is no name for a plugin: {reason}")]
    Name {
        /// The last part of the folder's path.
        name: String,
        /// Why not, and what to write.
        reason: String,
    },
    /// The file system refused.
    #[error("{} cannot be written: {error}", file.display())]
    Write {
        /// The file or folder.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The files are there, and what is done with them then failed.
    #[error("{} is written, but {reason}", dir.display())]
    Finish {
        /// The folder.
        dir: PathBuf,
        /// What failed, and what to do.
        reason: String,
    },
}

/// The language of that name.
pub fn language(name: &str) -> Option<&'static Language> {
    LANGUAGES.iter().find(|language| language.name == name)
}

/// Makes a plugin with one hook in a new folder; its files, in order, as paths below the folder.
///
/// # Errors
/// See [`NewError`]; each says what to do.
pub fn new(dir: &Path, language: &Language, hook: Hook) -> Result<Vec<PathBuf>, NewError> {
    let unwritten = |file: &Path| {
        let file = file.to_owned();
        move |error| NewError::Write { file, error }
    };
    let full = std::path::absolute(dir).map_err(unwritten(dir))?;
    let is_free = match fs::read_dir(&full) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if !is_free {
        return Err(NewError::Occupied(dir.to_owned()));
    }
    let name = full.components().next_back().map(|last| last.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    if let Some(reason) = (language.name_fault)(&name) {
        return Err(NewError::Name { name, reason });
    }
    fs::create_dir_all(&full).map_err(unwritten(dir))?;
    let full = full.canonicalize().map_err(unwritten(dir))?;
    let place = Place { clone: clone_around(&full), dir: full };
    let files = files(language, hook, &name, &place);
    for (path, text) in &files {
        let file = place.dir.join(path);
        let folder = file.parent().unwrap_or(&place.dir);
        fs::create_dir_all(folder).and_then(|()| fs::write(&file, text)).map_err(unwritten(&dir.join(path)))?;
    }
    (language.finish)(&place).map_err(|reason| NewError::Finish { dir: dir.to_owned(), reason })?;
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// The template's files with their words filled in, and those of the SDK.
fn files(language: &Language, hook: Hook, name: &str, place: &Place) -> Vec<(PathBuf, String)> {
    let sdk = (language.sdk)(place);
    let mut words = vec![
        ("{{name}}", name.to_owned()),
        ("{{about}}", about(hook).to_owned()),
        ("{{version}}", env!("CARGO_PKG_VERSION").to_owned()),
        ("{{sdk}}", sdk.path),
    ];
    words.extend(sdk.words);
    let fill = |text: &str| words.iter().fold(text.to_owned(), |text, (word, meaning)| text.replace(word, meaning));
    let part = |part: &str| below(&format!("sdk/{}/template/{part}/", language.name));
    let own = part("common").into_iter().chain(part(hook.name())).map(|(path, text)| (PathBuf::from(path), fill(text)));
    own.chain(sdk.files).collect()
}

/// What the plugin of a template does. It is the same in every language.
fn about(hook: Hook) -> &'static str {
    match hook {
        Hook::Routing => "Routing: the small model for short questions, the large one for long ones",
        Hook::Prompting => "Prompting: a note to the model for each audience, which a header names",
        Hook::Caching => "Caching: answers are shared among one user's requests, and empty ones are not kept",
    }
}

/// Files of this binary below a folder of the repository, by their paths below it.
pub(super) fn below(folder: &str) -> Vec<(&'static str, &'static str)> {
    embedded::FILES.iter().filter_map(|(path, text)| Some((path.strip_prefix(folder)?, *text))).collect()
}

/// The clone of pointsman around a folder: it has the contract and the SDKs.
fn clone_around(dir: &Path) -> Option<PathBuf> {
    let is_clone = |root: &&Path| root.join("wit/plugins.wit").is_file() && root.join("sdk/rust/src/lib.rs").is_file();
    dir.ancestors().find(is_clone).map(Path::to_owned)
}

#[cfg(test)]
mod tests;
