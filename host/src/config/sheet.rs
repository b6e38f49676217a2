//! Files beside the configuration that people write, such as a plugin's cases: read with the same care, and told of in the same words.
//!
//! TOML, or JSON where the name ends in `.json`. A syntax error or one wrong value ends the reading: unlike a configuration, such a file has one
//! author who has just written it.
//!
//! What it does not do: it knows no file's meaning; who does says in findings what is wrong with it.
//!
//! **Invariant:** every error has a place in the file, a reason and a remedy.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use toml::de::DeTable;

use super::finding::Finding;
use super::load::{explain, syntax_fault};
use super::locate::Document;
use super::report::{Fault, Report, Severity};

/// No file is read beyond this.
const MAX_FILE: u64 = 4 << 20;

/// A file that reads well.
pub struct Sheet<T> {
    /// What it says.
    pub value: T,
    path: PathBuf,
    text: String,
    document: Option<Document>,
}

impl<T: fmt::Debug> fmt::Debug for Sheet<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Sheet").field("path", &self.path).field("value", &self.value).finish_non_exhaustive()
    }
}

/// Reads a file; `reference` is where people find what may stand in it.
///
/// # Errors
/// What is wrong with it, with its place.
pub fn read<T: DeserializeOwned>(path: &Path, reference: &str) -> Result<Sheet<T>, Report> {
    let unreadable =
        |error: std::io::Error| Report::of_file(path, format!("cannot be read ({error})"), "name a file that is there");
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if about.is_dir() || about.len() > MAX_FILE {
        return Err(Report::of_file(path, "is not a file of at most 4 MiB".to_owned(), "name the file itself"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        Report::of_file(path, format!("is not UTF-8 at byte {}", error.utf8_error().valid_up_to()), "save it as UTF-8")
    })?;
    read_text(text, path, reference)
}

/// Reads text that was read from `path`, or that pretends to be.
///
/// # Errors
/// As [`read`].
pub fn read_text<T: DeserializeOwned>(text: String, path: &Path, reference: &str) -> Result<Sheet<T>, Report> {
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let read = if is_json { json(&text, reference).map(|value| (value, None)) } else { toml(&text, reference) };
    match read {
        Ok((value, document)) => Ok(Sheet { value, path: path.to_owned(), text, document }),
        Err((faults, document)) => {
            Err(Report { problems: faults.into_iter().map(|fault| fault.place(path, &text, document.as_ref())).collect() })
        }
    }
}

type Faults = (Vec<Fault>, Option<Document>);

fn toml<T: DeserializeOwned>(text: &str, reference: &str) -> Result<(T, Option<Document>), Faults> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut faults: Vec<Fault> = errors.iter().map(syntax_fault).collect();
        // The second error at one place is a consequence of the first.
        faults.dedup_by_key(|fault| fault.span.start);
        // Nothing here is a secret, so the line may be shown as it is.
        return Err((faults, Some(Document::default())));
    }
    let document = Document::new(table.get_ref());
    match T::deserialize(toml::Deserializer::from(table)) {
        Ok(value) => Ok((value, Some(document))),
        Err(error) => {
            let span = error.span().unwrap_or(0..0);
            let path = document.at(&span, "").map(|node| node.path.clone()).unwrap_or_default();
            Err((vec![fault(error.message(), path, span, reference)], Some(document)))
        }
    }
}

fn json<T: DeserializeOwned>(text: &str, reference: &str) -> Result<T, Faults> {
    serde_json::from_str(text).map_err(|error| {
        let line_start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = line_start + error.column().saturating_sub(1);
        let said = error.to_string();
        let message = said.split(" at line ").next().unwrap_or(&said);
        let fault = match error.classify() {
            serde_json::error::Category::Data => fault(message, Vec::new(), at..at + 1, reference),
            _ => Fault {
                severity: Severity::Error,
                path: Vec::new(),
                span: at..at + 1,
                reason: message.to_owned(),
                remedy: "write JSON: one object, names and texts in double quotes".to_owned(),
            },
        };
        (vec![fault], Some(Document::default()))
    })
}

fn fault(message: &str, path: Vec<String>, span: Range<usize>, reference: &str) -> Fault {
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let (reason, remedy) = match missing {
        Some(name) => (format!("`{name}` is missing"), format!("add `{name} = …`")),
        None if message.starts_with("wanted exactly 1 element") => {
            ("this says more than one thing, or nothing".to_owned(), "write one of them".to_owned())
        }
        None => explain(message),
    };
    let remedy = if remedy.contains("check --schema") { format!("see {reference}") } else { remedy };
    Fault { severity: Severity::Error, path, span, reason, remedy }
}

impl<T> Sheet<T> {
    /// Findings at their places in the file.
    pub fn report(&self, findings: Vec<Finding>) -> Report {
        let place = |Finding { key, reason, remedy }: Finding| {
            let span = match &self.document {
                Some(document) => document.nearest(&key).map_or(0..0, |node| node.value.clone()),
                None => span_of(&self.text, &key),
            };
            Fault { severity: Severity::Error, path: key, span, reason, remedy }
        };
        let nothing_is_hidden = Document::default();
        let mut faults: Vec<Fault> = findings.into_iter().map(place).collect();
        faults.sort_by_key(|fault| fault.span.start);
        Report {
            problems: faults.into_iter().map(|fault| fault.place(&self.path, &self.text, Some(&nothing_is_hidden))).collect(),
        }
    }

    /// The line, from 1, where the value of a key begins.
    pub fn line(&self, key: &[&str]) -> usize {
        let key: Vec<String> = key.iter().map(|part| (*part).to_owned()).collect();
        self.report(vec![Finding { key, reason: String::new(), remedy: String::new() }])
            .problems
            .first()
            .map_or(0, |found| found.line)
    }

    /// The file, as the caller named it.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Where the value at a path stands in JSON that reads well, or the nearest one above it. serde_json lends the text of a value, and
/// where that lies in the whole is its place.
fn span_of(text: &str, path: &[String]) -> Range<usize> {
    let mut at: &str = text;
    for part in path {
        let below = match part.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse::<usize>().ok()) {
            Some(index) => serde_json::from_str::<Vec<&RawValue>>(at).ok().and_then(|items| items.get(index).copied()),
            None => serde_json::from_str::<std::collections::HashMap<String, &RawValue>>(at)
                .ok()
                .and_then(|fields| fields.get(part).copied()),
        };
        let Some(below) = below else { break };
        at = below.get();
    }
    let start = at.as_ptr() as usize - text.as_ptr() as usize;
    start..start + at.len()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        #[allow(dead_code, reason = "read, and not looked at")]
        name: String,
        #[serde(default)]
        #[allow(dead_code, reason = "read, and not looked at")]
        lines: Vec<u32>,
    }

    fn check(file: &str, text: &str, expect: &str) {
        let report = read_text::<Page>(text.to_owned(), Path::new(file), "docs/page.md").unwrap_err().to_string();
        assert!(report.contains(expect), "{expect:?} is not in:\n{report}");
    }

    #[test]
    fn errors_have_place_reason_and_remedy() {
        check(
            "p.toml",
            "name = \"a\"\nnmae = 1\n",
            "p.toml:2:1: nmae: unknown key `nmae`; did you mean `name`?\n  2 | nmae = 1\n",
        );
        check("p.toml", "lines = [1]\n", "`name` is missing; add `name = …`");
        check("p.toml", "name = 1\n", "p.toml:1:8: name: this is a whole number; write text in quotes");
        check("p.toml", "name = \n", "p.toml:1:");
        check("p.json", "{\n  \"name\": \"a\",\n  \"nmae\": 1\n}", "p.json:3:8: unknown key `nmae`; did you mean `name`?");
        check("p.json", "{\n  \"name\": }", "p.json:2:11: expected value; write JSON");
        assert!(read::<Page>(Path::new("/nowhere.toml"), "").unwrap_err().to_string().contains("name a file that is there"));
    }

    #[test]
    fn findings_stand_where_their_keys_do() {
        let finding = || vec![Finding::new(&["lines", "[1]"], "is too large", "write less")];
        let toml = read_text::<Page>("name = \"a\"\nlines = [1,\n 22]\n".to_owned(), Path::new("p.toml"), "").unwrap();
        assert_eq!(toml.report(finding()).to_string(), "p.toml:3:2: lines[1]: is too large; write less\n  3 |  22]\n    |  ^^\n");
        let json = read_text::<Page>("{\"name\": \"a\",\n \"lines\": [1, 22]}".to_owned(), Path::new("p.json"), "").unwrap();
        let expect = "p.json:2:15: lines[1]: is too large; write less\n  2 |  \"lines\": [1, 22]}\n    |               ^^\n";
        assert_eq!((json.report(finding()).to_string().as_str(), json.line(&["lines"])), (expect, 2));
    }
}
