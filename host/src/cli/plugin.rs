//! `pointsman plugin build` and `pointsman plugin inspect`.
//!
//! What it does not do: both work on files alone; no host has to run.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::{WRONG_INPUT, failed};
use crate::plugin::{build as builder, inspect as inspector};

/// Builds a folder into a component.
pub fn build(dir: &Path, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    if let Some(said) = builder::to_install(dir) {
        let _ = writeln!(err, "{said}");
    }
    match builder::build(dir, &builder::Options::default()) {
        Ok(built) => {
            if !built.warnings.is_empty() {
                let _ = writeln!(err, "{}", built.warnings);
            }
            let unchanged = if built.changed { "" } else { ", unchanged" };
            let _ = writeln!(out, "{} ({} bytes, sha256:{}{unchanged})", built.component.display(), built.size, built.digest);
            ExitCode::SUCCESS
        }
        // A folder that is none, or no package, is wrong as an argument is; everything after that is a build that failed.
        Err(error @ builder::BuildError::Manifest { .. }) => failed(err, WRONG_INPUT, &error),
        Err(error) => failed(err, 1, &error),
    }
}

/// Shows what a component is.
pub fn inspect(file: &Path, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let inspection = match inspector::inspect(file) {
        Ok(inspection) => inspection,
        Err(error) => return failed(err, WRONG_INPUT, &error),
    };
    let written = if json {
        serde_json::to_writer_pretty(&mut *out, &inspection).map_err(std::io::Error::from).and_then(|()| writeln!(out))
    } else {
        writeln!(out, "{inspection}")
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(err, 1, &error),
    }
}
