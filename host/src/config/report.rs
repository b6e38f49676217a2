//! What is wrong with a configuration, told so that it can be mended: file, line, column, key, reason, remedy, and the line
//! itself with a mark under it.
//!
//! Finds nothing wrong by itself: `load` and `validate` do.
//!
//! **Invariant:** what may be a secret is not shown: a value that stands where a secret belongs, or looks like one, is
//! replaced by dots in the quoted line.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::locate::{Document, shown};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It is accepted; something may not work yet, or is unwise.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as the caller named it.
    pub file: PathBuf,
    /// The line, from 1; 0 where the file could not be read at all.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The key's path, such as `plugins.by-length.deadline`. Empty for a syntax error.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
    /// The line, with what may be a secret replaced by dots.
    pub source: String,
    /// How many characters of the line to mark, from `column`; at least 1.
    pub width: usize,
}

/// Everything that is wrong (at most 100 problems), in the order of the file. At least one error, and the warnings beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

impl Report {
    /// The errors, without the warnings.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// A report about the file as a whole.
    pub(super) fn of_file(file: &Path, reason: String, remedy: &str) -> Self {
        let problem = Problem {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            reason,
            remedy: remedy.to_owned(),
            source: String::new(),
            width: 1,
        };
        Self { problems: vec![problem] }
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.problems.iter().try_for_each(|problem| problem.fmt(f))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        writeln!(f, " {}; {}", self.reason, self.remedy)?;
        if self.line == 0 {
            return Ok(());
        }
        let gutter = self.line.to_string();
        writeln!(f, "  {gutter} | {}", self.source)?;
        // A tab before the mark stays a tab, so that the mark stands under what it marks.
        let before: String = self.source.chars().take(self.column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        writeln!(f, "  {:width$} | {before}{}", "", "^".repeat(self.width), width = gutter.len())
    }
}

/// A finding before it is placed in the file: a path into the document, or a span of the text.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) severity: Severity,
    pub(super) path: Vec<String>,
    pub(super) span: Range<usize>,
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Fault {
    /// Places it. The quoted line hides what may be secret.
    pub(super) fn place(self, file: &Path, text: &str, document: Option<&Document>) -> Problem {
        let start = floor(text, self.span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
        let line_end = line_end - usize::from(text[line_start..line_end].ends_with('\r'));
        let start = start.min(line_end);
        let end = floor(text, self.span.end).clamp(start, line_end);
        let line = &text[line_start..line_end];
        let source = match document {
            Some(document) => mask(line, line_start, &document.hidden()),
            None => mask_unparsed(line),
        };
        Problem {
            severity: self.severity,
            file: file.to_owned(),
            line: text[..line_start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            key: shown(&self.path),
            reason: self.reason,
            remedy: self.remedy,
            source,
            width: text[start..end].chars().count().max(1),
        }
    }
}

/// The nearest start of a character at or before `index`.
fn floor(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|index| text.is_char_boundary(*index)).unwrap_or(0)
}

/// Dots for every character within a hidden span, so that columns stay.
fn mask(line: &str, offset: usize, hidden: &[Range<usize>]) -> String {
    line.char_indices()
        .map(|(index, c)| if hidden.iter().any(|span| span.contains(&(offset + index))) { '·' } else { c })
        .collect()
}

/// In a text that does not parse nothing tells where a value begins and ends: letters and digits become dots in all but a key,
/// a section's name and a comment. The signs stay, and these are what a syntax error is about.
fn mask_unparsed(line: &str) -> String {
    let start = line.trim_start();
    let section = start.trim_start_matches('[').starts_with(|c: char| c.is_alphanumeric()) && start.starts_with('[');
    if section || start.starts_with('#') {
        return line.to_owned();
    }
    let shown = line.find('=').unwrap_or(0);
    line.char_indices().map(|(index, c)| if index >= shown && c.is_alphanumeric() { '·' } else { c }).collect()
}
