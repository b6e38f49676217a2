//! What a host records of its plugins' calls, and what a replay makes of it.

mod parts;
mod recording;
mod same;
mod wasi;
mod would;

use std::path::{Path, PathBuf};

use pointsman::replay::{self, Options, Report};
use serde_json::Value;
use tests::host::Folder;
use tests::{Host, Running, eventually};

/// A host that records everything, with these lines in the section.
fn recording(host: Host, lines: &str) -> Host {
    host.section(&format!("[recording]\npath = \"recordings\"\nshare = 1.0\n{lines}"))
}

/// Waits until so many exchanges are in files.
fn written(host: &Running, count: u32) -> PathBuf {
    eventually("all is written", || {
        let metrics = host.metrics();
        (metrics.sum("pointsman_recording_exchanges_total", &["outcome=\"written\""]) == f64::from(count)).then_some(())
    });
    host.folder.path("recordings")
}

/// The files of a recording, line by line.
fn lines(folder: &Path) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The exchanges of a recording.
fn exchanges(folder: &Path) -> Vec<Value> {
    lines(folder).into_iter().filter_map(|line| line.get("exchange").cloned()).collect()
}

/// A component's file in a folder.
fn component(folder: &Folder, name: &str, bytes: &[u8]) -> PathBuf {
    folder.write(name, bytes);
    folder.path(name)
}

fn options(recording: &Path, plugin: &Path) -> Options {
    Options {
        recording: recording.to_owned(),
        plugin: plugin.to_owned(),
        against: None,
        name: None,
        settings: None,
        prices: None,
        threads: 2,
        examples: 2,
    }
}

fn replayed(options: &Options) -> Report {
    replay::run(options).unwrap_or_else(|error| panic!("{error}"))
}
