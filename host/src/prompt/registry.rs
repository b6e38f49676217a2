//! Which prompts there are, in which versions, and which version is meant where nobody names one.
//!
//! What it does not do: it watches no file (`process` does).
//!
//! **Invariant:** one broken file is one problem, not a reason to refuse the others; the version before it stays.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::render::{PromptError, Rendered, Template};
use crate::config::unit::Wrong;

/// Bytes that a template's file may have.
const MAX_FILE: u64 = 256 << 10;

/// All prompts of a folder.
#[derive(Default)]
pub struct Registry(BTreeMap<String, Prompt>);

struct Prompt {
    /// Oldest first.
    versions: Vec<(String, Arc<Template>)>,
    default: usize,
}

/// A prompt as the administrator sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Summary<'a> {
    /// Its name.
    pub name: &'a str,
    /// The version that is meant where nobody names one.
    pub default: &'a str,
    /// All versions, oldest first.
    pub versions: Vec<&'a str>,
}

/// What is wrong with one file, or one pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The prompt whose pin it is; none: it is a file.
    pub pin: Option<String>,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pin) = &self.pin {
            write!(f, "prompts.pin.{pin}: ")?;
        }
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl Registry {
    /// Reads a folder. `pins` says, by name, which version is meant where nobody names one; without a pin it is the newest.
    /// Beside the prompts: what is wrong with single files and pins.
    ///
    /// # Errors
    /// When the folder itself cannot be read.
    pub fn load(folder: &Path, pins: &BTreeMap<String, String>, previous: Option<&Self>) -> Result<(Self, Vec<Problem>), String> {
        let mut prompts = BTreeMap::new();
        let mut problems = Vec::new();
        let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
            if !path.is_dir() || name.starts_with('.') {
                continue;
            }
            let mut versions = versions(&path, &name, previous, &mut problems);
            versions.sort_by(|a, b| by_version(&a.0, &b.0));
            if let Some(newest) = versions.len().checked_sub(1) {
                prompts.insert(name, Prompt { versions, default: newest });
            }
        }
        for (name, version) in pins {
            let place = prompts.get(name).and_then(|prompt| prompt.versions.iter().position(|(known, _)| known == version));
            match (prompts.get_mut(name), place) {
                (Some(prompt), Some(place)) => prompt.default = place,
                _ => problems.push(Problem {
                    pin: Some(name.clone()),
                    reason: format!("there is no version `{version}` of it"),
                    remedy: format!("add {name}/{version}.j2 or change the pin"),
                }),
            }
        }
        Ok((Self(prompts), problems))
    }

    /// Renders a prompt into messages.
    ///
    /// # Errors
    /// When there is no such prompt or version, or it cannot be rendered with these variables.
    pub fn render(
        &self,
        name: &str,
        version: Option<&str>,
        variables: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Rendered, PromptError> {
        let prompt =
            self.0.get(name).ok_or_else(|| PromptError::Unknown(format!("There is no prompt `{name:.64}`. {}", self.known())))?;
        let found = match version {
            None => prompt.versions.get(prompt.default),
            Some(version) => prompt.versions.iter().find(|(known, _)| known == version),
        };
        let (version, template) = found.ok_or_else(|| {
            let versions: Vec<&str> = prompt.versions.iter().map(|(version, _)| version.as_str()).collect();
            PromptError::Unknown(format!(
                "The prompt `{name}` has no version `{:.64}`. It has {}.",
                version.unwrap_or_default(),
                versions.join(", ")
            ))
        })?;
        let (messages, parts) = template
            .render(variables)
            .map_err(|error| PromptError::Failed(format!("The prompt {name}@{version} cannot be rendered: {error}")))?;
        Ok(Rendered { name: name.to_owned(), version: version.clone(), messages, parts })
    }

    /// Is there a prompt of that name?
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All prompts.
    pub fn list(&self) -> impl Iterator<Item = Summary<'_>> {
        self.0.iter().map(|(name, prompt)| Summary {
            name,
            default: prompt.versions.get(prompt.default).map_or("", |(version, _)| version),
            versions: prompt.versions.iter().map(|(version, _)| version.as_str()).collect(),
        })
    }

    fn known(&self) -> String {
        let names: Vec<&str> = self.0.keys().take(8).map(String::as_str).collect();
        if names.is_empty() {
            "There are none; add prompts/NAME/VERSION.j2.".to_owned()
        } else {
            format!("There are {}.", names.join(", "))
        }
    }
}

/// The templates of one prompt's folder. One that cannot be used is a problem, and an earlier text of the same version stays.
fn versions(folder: &Path, name: &str, previous: Option<&Registry>, problems: &mut Vec<Problem>) -> Vec<(String, Arc<Template>)> {
    let mut versions = Vec::new();
    let files = std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>());
    for file in files.unwrap_or_default() {
        let Some(version) = file.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".j2")) else {
            continue;
        };
        match read(&file) {
            Ok(template) => versions.push((version.to_owned(), Arc::new(template))),
            Err(Wrong { reason, remedy }) => {
                let before = previous
                    .and_then(|previous| previous.0.get(name)?.versions.iter().find(|(known, _)| known == version).cloned());
                let kept = if before.is_some() { " (the text before it stays in force)" } else { "" };
                problems.push(Problem { pin: None, reason: format!("{} {reason}{kept}", file.display()), remedy });
                versions.extend(before);
            }
        }
    }
    versions
}

fn read(file: &Path) -> Result<Template, Wrong> {
    let unreadable =
        |error: std::io::Error| Wrong::new(format!("cannot be read: {error}"), "make it a text file that can be read");
    let size = std::fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(Wrong::new(format!("is {size} bytes, and a template may have {MAX_FILE}"), "make it shorter"));
    }
    Template::parse(&std::fs::read_to_string(file).map_err(unreadable)?)
}

/// Digits count as numbers, everything else as text: v9 is before v10, 1.9 before 1.10.
fn by_version(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (piece(&mut a), piece(&mut b)) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => {
                // Numbers too long for a machine word are compared as what they are: by length without zeros, then by digit.
                let number = |piece: &str| {
                    piece.starts_with(|c: char| c.is_ascii_digit()).then(|| piece.trim_start_matches('0').to_owned())
                };
                let order = match (number(x), number(y)) {
                    (Some(x), Some(y)) => x.len().cmp(&y.len()).then(x.cmp(&y)),
                    _ => x.cmp(y),
                };
                if order != Ordering::Equal {
                    return order;
                }
            }
        }
    }
}

/// Takes the next run of digits or of other characters.
fn piece<'a>(text: &mut &'a str) -> Option<&'a str> {
    let digits = text.chars().next()?.is_ascii_digit();
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (piece, rest) = text.split_at(end);
    *text = rest;
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn the_newest_version_is_meant_unless_one_is_pinned() {
        let folder = folder(&[("greet/v9.j2", "nine"), ("greet/v10.j2", "ten"), ("greet/notes.txt", ""), (".git/x.j2", "")]);
        let render = |pins: &[(&str, &str)], version: Option<&str>| {
            let pins = pins.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect();
            let (registry, problems) = Registry::load(folder.path(), &pins, None).unwrap();
            assert_eq!(registry.list().count(), 1);
            registry.render("greet", version, &serde_json::Map::new()).map(|rendered| (rendered.version, problems.len()))
        };
        assert_eq!(render(&[], None).unwrap(), ("v10".into(), 0));
        assert_eq!(render(&[("greet", "v9")], None).unwrap(), ("v9".into(), 0));
        assert_eq!(render(&[("greet", "v9")], Some("v10")).unwrap(), ("v10".into(), 0));
        assert_eq!(render(&[("greet", "v1"), ("none", "v1")], None).unwrap(), ("v10".into(), 2));
        assert!(render(&[], Some("v1")).unwrap_err().to_string().contains("It has v9, v10."));
    }

    #[test]
    fn a_broken_file_leaves_the_text_before_it() {
        let folder = folder(&[("a/1.j2", "one {{ x }}")]);
        let (before, _) = Registry::load(folder.path(), &BTreeMap::new(), None).unwrap();
        std::fs::write(folder.path().join("a/1.j2"), "broken {{ x").unwrap();
        std::fs::write(folder.path().join("a/2.j2"), "also {% broken").unwrap();
        let (after, problems) = Registry::load(folder.path(), &BTreeMap::new(), Some(&before)).unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
        let variables = serde_json::Map::from_iter([("x".to_owned(), "y".into())]);
        assert_eq!(after.render("a", None, &variables).unwrap().messages[0].1, "one y");
    }

    #[test]
    fn versions_in_order() {
        let mut versions = ["v10", "v2", "2.0", "1.10", "1.9", "v2-beta", "1"];
        versions.sort_by(|a, b| by_version(a, b));
        assert_eq!(versions, ["1", "1.9", "1.10", "2.0", "v2", "v2-beta", "v10"]);
    }
}
