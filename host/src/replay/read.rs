//! Goes through the files of a recording, line by line.
//!
//! What it does not do: it does not look into exchanges; that is done on many threads.
//!
//! **Invariant:** a line that cannot be read is told with its place and passed over; a file of another format is an error.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ReplayError;
use crate::plugin::tape::{FORMAT, Snapshot};
use crate::record::recording::files;

/// Places of unreadable lines that are told.
const TOLD: usize = 20;

/// What a line is.
pub(super) enum Found {
    Snapshot(Snapshot),
    /// The whole line.
    Exchange(String),
}

/// Lines that could not be read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) count: u64,
    /// Where, and what is wrong; the first of them.
    pub(super) told: Vec<String>,
}

pub(super) struct Reader {
    files: VecDeque<PathBuf>,
    current: Option<Current>,
    problems: Problems,
}

struct Current {
    path: PathBuf,
    lines: BufReader<File>,
    number: u64,
}

#[derive(Deserialize)]
struct Head {
    recording: u32,
}

#[derive(Deserialize)]
struct SnapshotLine {
    snapshot: Snapshot,
}

fn wrong(file: &Path, reason: impl Into<String>) -> ReplayError {
    ReplayError::File { file: file.to_owned(), reason: reason.into() }
}

impl Reader {
    /// A file, or all files of a folder in their order.
    pub(super) fn open(path: &Path) -> Result<Self, ReplayError> {
        let unreadable =
            |error: std::io::Error| wrong(path, format!("{error}; name a file that [recording] has written, or its folder"));
        let files = if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            files::of(path).map_err(unreadable)?
        } else {
            vec![path.to_owned()]
        };
        if files.is_empty() {
            return Err(wrong(path, "has no recording-*.jsonl; name the folder of [recording]"));
        }
        Ok(Self { files: files.into(), current: None, problems: Problems::default() })
    }

    pub(super) fn problems(self) -> Problems {
        self.problems
    }

    /// The next snapshot or exchange.
    pub(super) fn more(&mut self) -> Result<Option<Found>, ReplayError> {
        loop {
            let Some(current) = &mut self.current else {
                match self.files.pop_front() {
                    Some(path) => self.current = begin(path, &mut self.problems)?,
                    None => return Ok(None),
                }
                continue;
            };
            let mut line = Vec::new();
            if current.lines.read_until(b'\n', &mut line).map_err(|error| wrong(&current.path, error.to_string()))? == 0 {
                self.current = None;
                continue;
            }
            current.number += 1;
            match read(line) {
                Ok(found) => return Ok(Some(found)),
                Err(reason) => self.problems.add(&current.path, current.number, &reason),
            }
        }
    }
}

fn begin(path: PathBuf, problems: &mut Problems) -> Result<Option<Current>, ReplayError> {
    let mut lines = BufReader::with_capacity(1 << 16, File::open(&path).map_err(|error| wrong(&path, error.to_string()))?);
    let mut line = Vec::new();
    lines.read_until(b'\n', &mut line).map_err(|error| wrong(&path, error.to_string()))?;
    match serde_json::from_slice::<Head>(&line) {
        Ok(Head { recording: FORMAT }) => Ok(Some(Current { path, lines, number: 1 })),
        Ok(Head { recording }) => {
            Err(wrong(&path, format!("has the format {recording}; this pointsman reads {FORMAT}, use the one that wrote it")))
        }
        // The process ended while it began the file.
        Err(_) if !line.ends_with(b"\n") => {
            problems.add(&path, 1, "is torn");
            Ok(None)
        }
        Err(_) => Err(wrong(&path, "is no recording: its first line does not say so; name a file that [recording] has written")),
    }
}

fn read(line: Vec<u8>) -> Result<Found, String> {
    if !line.ends_with(b"\n") {
        return Err("is torn: the process ended while it was written".to_owned());
    }
    let line = String::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
    if line.starts_with(r#"{"exchange":"#) {
        return Ok(Found::Exchange(line));
    }
    let SnapshotLine { snapshot } =
        serde_json::from_str(&line).map_err(|error| format!("is neither snapshot nor exchange: {error}"))?;
    Ok(Found::Snapshot(snapshot))
}

impl Problems {
    fn add(&mut self, file: &Path, line: u64, reason: &str) {
        self.count += 1;
        if self.told.len() < TOLD {
            self.told.push(format!("{}:{line}: {reason}", file.display()));
        }
    }
}
