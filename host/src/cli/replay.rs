//! `pointsman replay`: what would another component decide about recorded exchanges?
//!
//! What it does not do: it asks no host and connects to nothing.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{WRONG_INPUT, failed};
use crate::config::{self, Model};
use crate::gateway::state;
use crate::plugin::load::Settings;
use crate::plugin::tape::Valued;
use crate::printable::printable;
use crate::replay::{self, Options, ReplayError, Report};

/// What the command line says.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// A file that `[recording]` has written, or its folder
    #[arg(long, value_name = "FILE")]
    recording: PathBuf,
    /// The component that decides anew
    #[arg(long, value_name = "FILE")]
    plugin: PathBuf,
    /// The component that it is compared with. Default: what was recorded
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// The plugin in whose place it stands, by its name under `[plugins]`. Default: the only one, or the one called like the file
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take what the owner has written about the plugin, and prices, from this configuration. Default: as it was recorded
    #[arg(long, value_name = "FILE", requires = "name")]
    config: Option<PathBuf>,
    /// Threads. The report is the same with any number of them. Default: one per core
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// How many exchanges to show for each kind of change
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    examples: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Fail with exit code 1 where anything is decided otherwise, or could not be replayed: for a build that must not change a decision
    #[arg(long)]
    fail_on_change: bool,
}

/// Replays. Exit code 0 whatever has changed, unless that is to be a failure: then 1. 2 where the input is wrong.
pub(super) fn replay(arguments: Arguments, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Arguments { recording, plugin, against, name, config, threads, examples, json, fail_on_change } = arguments;
    let (settings, prices) = match config.as_deref().zip(name.as_deref()).map(|(file, name)| written(file, name)).transpose() {
        Ok(written) => written.unzip(),
        Err(said) => {
            let _ = write!(err, "{said}");
            return ExitCode::from(WRONG_INPUT);
        }
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.map_or_else(cores, usize::from);
    let report = match replay::run(&Options { recording, plugin, against, name, settings, prices, threads, examples }) {
        Ok(report) => report,
        Err(error @ ReplayError::System(_)) => return failed(err, 1, &error),
        // Names of plugins are the recording's, and what cannot be read is.
        Err(error @ (ReplayError::Name(_) | ReplayError::File { .. })) => {
            return failed(err, WRONG_INPUT, &printable(&error.to_string()));
        }
        Err(error) => return failed(err, WRONG_INPUT, &error),
    };
    let written = if json {
        serde_json::to_writer_pretty(&mut *out, &report).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        write!(out, "{report}")
    };
    let verdict = if fail_on_change { judged(&report, err) } else { ExitCode::SUCCESS };
    match written {
        Ok(()) => verdict,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => verdict,
        Err(error) => failed(err, 1, &error),
    }
}

/// Is nothing decided otherwise, as far as all of it could be decided at all? What is not known is no proof.
fn judged(report: &Report, err: &mut dyn Write) -> ExitCode {
    let counts = [
        (report.changed, "decided otherwise"),
        (report.unread, "that could not be read or replayed"),
        (report.uncertain, "in which the component asked what no record answers"),
    ];
    let found: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if found.is_empty() && report.replayed > 0 {
        return ExitCode::SUCCESS;
    }
    let said = if found.is_empty() { "none that the plugin was asked about".to_owned() } else { found.join(", ") };
    failed(err, 1, &format!("of {} exchanges: {said}; without --fail-on-change that is no failure", report.exchanges))
}

/// What a configuration says of a plugin, and of prices.
fn written(file: &Path, name: &str) -> Result<(Settings, Vec<Valued>), String> {
    let loaded = config::load(file).map_err(|report| report.to_string())?;
    let config = loaded.config;
    let settings = state::plugin_settings(&config).into_iter().find(|settings| settings.name == name).ok_or_else(|| {
        let known: Vec<&str> = config.plugins.keys().map(String::as_str).collect();
        format!("error: {} has no [plugins.{name}]; it has {}\n", file.display(), known.join(", "))
    })?;
    let price = |(name, model): (&String, &Model)| {
        let price = model.concrete()?.price.as_ref()?;
        Some(Valued {
            model: name.clone(),
            input: price.input,
            output: price.output,
            cached_input: price.cached_input.unwrap_or(price.input),
        })
    };
    Ok((settings, config.models.iter().filter_map(price).collect()))
}
