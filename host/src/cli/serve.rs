//! `pointsman serve`: a configuration file, until a signal.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use super::{WRONG_INPUT, failed};
use crate::config::{self, Finding, LogFormat};
use crate::gateway::state::BuildError;
use crate::process::{Process, StartError};

/// Serves `file` until SIGTERM or SIGINT.
pub fn serve(file: &Path, err: &mut dyn Write) -> ExitCode {
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
    if let Err(finding) = filter(&loaded.config.log) {
        return unfit(&[finding], err);
    }
    let (_log, lost) = match log(&loaded.config.log) {
        Ok(log) => log,
        Err(error) => return failed(err, WRONG_INPUT, &error),
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match Process::start(loaded) {
        Ok(process) => {
            let _ = process.gateway().log.set(lost);
            process.wait_for_signal();
            ExitCode::SUCCESS
        }
        Err(StartError::Configuration(BuildError(found))) => unfit(&found, err),
        Err(error) => failed(err, 1, &error),
    }
}

/// Lines that may wait to be written. A reader of the log that stalls must not stall the exchanges: what is over is dropped.
const LINES: usize = 16_384;

/// Sets up the log on standard error, written by a thread of its own. What is still waiting is written when the guard is dropped.
pub(super) fn log(settings: &config::Log) -> Result<(WorkerGuard, ErrorCounter), String> {
    let filter = filter(settings).map_err(|finding| finding.to_string())?;
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES).thread_name("log").finish(std::io::stderr());
    let lost = writer.error_counter();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let set = match settings.format {
        LogFormat::Human => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init(),
    };
    set.map(|()| (guard, lost)).map_err(|error| format!("the log could not be set up: {error}"))
}

/// What is logged. `validate` knows levels; what a directive may be, the subscriber alone knows.
pub(super) fn filter(settings: &config::Log) -> Result<EnvFilter, Finding> {
    EnvFilter::try_new(&settings.level).map_err(|error| {
        Finding::new(&["log", "level"], error, "write a level such as \"info\", or `info,pointsman::plugin=debug`")
    })
}
