//! What others find wrong with a configuration that reads well: a component that does not load, a certificate that is none.
//!
//! Finds nothing itself, and knows no file: `load` places a finding where its key stands.
//!
//! **Invariant:** a finding has a key, a reason and a remedy.

use std::fmt;

use super::locate::shown;

/// One thing that keeps a configuration, or a part of it, from being in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key, from the root.
    pub key: Vec<String>,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Finding {
    /// Something is wrong with what stands at `key`.
    pub fn new(key: &[&str], reason: impl fmt::Display, remedy: impl Into<String>) -> Self {
        let key = key.iter().map(|part| (*part).to_owned()).collect();
        // A report is one line for each: what compilers and parsers say has more.
        let reason = reason.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { key, reason, remedy: remedy.into() }
    }

    /// Is it about the same as `path`: the same entry of a section that has entries, else the same key?
    pub(super) fn is_of(&self, path: &[String]) -> bool {
        const ENTRIES: [&str; 5] = ["providers", "models", "plugins", "examples", "keys"];
        let has_entries = self.key.first().is_some_and(|section| ENTRIES.contains(&section.as_str()));
        self.key.iter().zip(path).take(if has_entries { 2 } else { usize::MAX }).all(|(own, other)| own == other)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", shown(&self.key), self.reason, self.remedy)
    }
}
