//! `pointsman dev`: serves on embedded defaults, and rebuilds plugins as they are edited.
//!
//! What it does not do: it has no server of its own. It writes a configuration, as anybody could, and serves that: what is seen
//! here is what `pointsman serve` does.
//!
//! **Invariant:** a plugin whose source does not compile leaves the component before it in force.

mod defaults;
mod providers;

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{WRONG_INPUT, demo, failed, log};
use crate::config::reload::Watcher;
use crate::config::{self, Log};
use crate::plugin::build;
use crate::process::Process;

/// Serves the folder `dir` until a signal.
pub fn dev(dir: &Path, listen: SocketAddr, admin: SocketAddr, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let settings = Log { level: std::env::var("POINTSMAN_LOG").unwrap_or_else(|_| "info".to_owned()), ..Log::default() };
    let (_log, lost) = match log::set_up(&settings) {
        Ok(log) => log,
        Err(error) => return failed(err, WRONG_INPUT, &error),
    };
    let folders = build::find(dir);
    for folder in &folders {
        let _ = writeln!(out, "building {} …", folder.display());
        if let Some(said) = build::to_install(folder) {
            let _ = writeln!(out, "  {said}");
        }
        match build::build(folder, &build::Options::default()) {
            Ok(built) => {
                drop(writeln!(out, "{}  {} ({} KiB)", built.warnings, built.component.display(), built.size.div_ceil(1024)))
            }
            Err(error) => drop(writeln!(err, "{error}")),
        }
    }
    let demo = match demo::start() {
        Ok(demo) => demo,
        Err(error) => return failed(err, 1, &format!("the demo model could not start: {error}")),
    };
    let text = defaults::configuration(dir, &folders, listen, admin, &providers::found(demo));
    let (file, loaded) = match written(dir, &text) {
        Ok(file) => match config::load(&file) {
            Ok(loaded) => (file, loaded),
            Err(report) => {
                let _ = write!(err, "{report}");
                return ExitCode::from(WRONG_INPUT);
            }
        },
        Err(error) => return failed(err, 1, &format!("the configuration could not be written: {error}")),
    };
    let process = match Process::start(loaded) {
        Ok(process) => process,
        Err(error) => return failed(err, 1, &error),
    };
    let _ = process.gateway().log.set(lost);
    let _watchers: Vec<Watcher> = folders.iter().filter_map(|folder| rebuild(folder)).collect();
    let ready = defaults::Ready { listen: process.address(), admin: process.admin(), file: &file, dir, plugins: &folders };
    let _ = writeln!(out, "{}", ready.greeting());
    let _ = out.flush();
    match process.wait_for_signal() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(err, 1, &error),
    }
}

/// The configuration's place: beside the plugins, out of version control, so that it can be read, edited and kept.
fn written(dir: &Path, text: &str) -> std::io::Result<PathBuf> {
    let folder = dir.join(".pointsman");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("dev.toml");
    std::fs::write(&file, text)?;
    Ok(file)
}

/// Builds a plugin again when its source changes. The new component's file is what the process itself watches.
fn rebuild(folder: &Path) -> Option<Watcher> {
    let folder = folder.to_owned();
    let sources = build::sources(&folder);
    let watcher = Watcher::new(&sources, move |_| {
        tracing::info!(plugin = %folder.display(), "its source has changed, building");
        match build::build(&folder, &build::Options::default()) {
            Ok(built) if built.changed => tracing::info!(component = %built.component.display(), "built\n{}", built.warnings),
            Ok(_) => tracing::info!("the component is the same"),
            Err(error) => tracing::error!("the component before it stays in force: {error}"),
        }
    });
    watcher.inspect_err(|error| tracing::warn!(%error, "sources cannot be watched")).ok()
}
