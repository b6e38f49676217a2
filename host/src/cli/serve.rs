//! `pointsman serve`: a configuration file, until a signal.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::{WRONG_INPUT, failed, log};
use crate::config::{self, Finding};
use crate::gateway::state::BuildError;
use crate::process::{Activated, Process, StartError};

/// Serves `file` until SIGTERM or SIGINT.
pub fn serve(file: &Path, err: &mut dyn Write) -> ExitCode {
    // First, while no other thread reads the environment.
    let given = match Activated::from_environment() {
        Ok(given) => given,
        Err(error) => return failed(err, WRONG_INPUT, &error),
    };
    let loaded = match config::load(file) {
        Ok(loaded) => loaded,
        Err(report) => {
            let _ = write!(err, "{report}");
            return ExitCode::from(WRONG_INPUT);
        }
    };
    let unfit = |found: &[Finding], err: &mut dyn Write| {
        let _ = write!(err, "{}", config::place(file, found));
        ExitCode::from(WRONG_INPUT)
    };
    if let Err(finding) = log::filter(&loaded.config.log) {
        return unfit(&[finding], err);
    }
    let (_log, lost) = match log::set_up(&loaded.config.log) {
        Ok(log) => log,
        Err(error) => return failed(err, WRONG_INPUT, &error),
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match Process::start_with(loaded, given) {
        Ok(process) => {
            let _ = process.gateway().log.set(lost);
            match process.wait_for_signal() {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(err, 1, &error),
            }
        }
        Err(StartError::Configuration(BuildError(found))) => unfit(&found, err),
        Err(error) => failed(err, 1, &error),
    }
}
