//! Trials: what pointsman does about upstreams that straggle or have too much to do, measured from outside, on this machine, in one run.
//!
//! Servers and load driver are this process; the gateways are processes of their own, started and ended here.
//!
//! What it does not do: it builds nothing, and judges nothing: it prints what it saw beside what is aimed at.
//!
//! **Invariant:** what is compared is measured in turn, seconds apart.

mod hedge;
mod overload;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Parser, Subcommand};
use tempfile::TempDir;

use crate::gpu::Pool;
use crate::probe;
use crate::process::{Process, exists, pinned};
use crate::{Error, Result};

/// What pointsman's ways with slow and overloaded upstreams come to.
#[derive(Debug, Parser)]
#[command(name = "trial")]
pub struct Trial {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Hedging before a pool of which a share of the answers straggles: off and on, in turn
    Hedge(hedge::Hedge),
    /// A bounded pool at 80 % and at twice of what it bears, with and without a batch beside
    Overload(overload::Overload),
}

/// Where gateways come from, and where they run.
#[derive(Debug, clap::Args)]
struct Place {
    /// The folder with `pointsman`, a release build
    #[arg(long, global = true, default_value = "target/release")]
    programs: PathBuf,
    /// Pin gateways to this core
    #[arg(long, global = true)]
    gateway_core: Option<usize>,
}

impl Trial {
    /// Runs, says on `err` what it is doing, and writes tables to `out`.
    ///
    /// # Errors
    /// When something cannot be started, or nothing is answered.
    pub fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
        // Linux lets sleepers sleep 50 µs longer; where it cannot be had otherwise, `late` shows it.
        let _ = std::fs::write("/proc/self/timerslack_ns", "1");
        let desk = Desk { folder: tempfile::Builder::new().prefix("pointsman-trial-").tempdir()?, place: self.place };
        match self.what {
            What::Hedge(hedge) => hedge.run(&desk, out, err),
            What::Overload(overload) => overload.run(&desk, out, err),
        }
    }
}

/// Where the trial's files are, and how its gateways are started.
struct Desk {
    folder: TempDir,
    place: Place,
}

/// A gateway that serves.
struct Gateway {
    process: Process,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Desk {
    /// Starts a gateway of one core before this pool, with these lines in the provider's section and these sections.
    fn start(&self, name: &str, pool: &Pool, provider: &str, sections: &str) -> Result<Gateway> {
        let (address, admin) = (probe::free_port()?, probe::free_port()?);
        let urls: Vec<String> = pool.addresses.iter().map(|address| format!("\"http://{address}/v1\"")).collect();
        let text = format!(
            "[listen]\naddress = \"{address}\"\nthreads = 1\nmax_connections_per_address = 8192\n\
             first_request = \"5m\"\nheader_read = \"5m\"\n\
             [admin]\naddress = \"{admin}\"\n[log]\nlevel = \"warn\"\n\
             [providers.pool]\nkind = \"openai\"\nendpoints = [{}]\n{provider}\n\
             [models.auto]\nprovider = \"pool\"\nname = \"m\"\n{sections}",
            urls.join(", ")
        );
        let (file, log) = (self.path(&format!("{name}.toml")), self.path(&format!("{name}.log")));
        std::fs::write(&file, text)?;
        let program = self.pointsman()?;
        let mut command = match self.place.gateway_core {
            Some(core) => pinned(core, &program),
            None => Command::new(&program),
        };
        command.stdin(Stdio::null()).args(["serve", "--config"]).arg(file).env("XDG_CACHE_HOME", self.path("cache"));
        let mut process = Process::start(command, log)?;
        probe::wait_for(&mut process, admin, "/readyz", false)?;
        Ok(Gateway { process, address, admin })
    }

    /// A key, and its section of the configuration with these lines more.
    fn key(&self, name: &str, lines: &str) -> Result<(String, String)> {
        let made = Command::new(self.pointsman()?).args(["key", "new", name]).stdin(Stdio::null()).output()?;
        let (key, entry) = (String::from_utf8(made.stdout)?, String::from_utf8(made.stderr)?);
        if !made.status.success() {
            return Err(format!("no key can be made: {entry}").into());
        }
        Ok((key.trim().to_owned(), entry + lines))
    }

    fn pointsman(&self) -> Result<PathBuf> {
        let program = self.place.programs.join("pointsman");
        match exists(program.as_os_str()) {
            true => Ok(program),
            false => Err(format!("{} is not there; `cargo build --release -p pointsman` builds it", program.display()).into()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Gateway {
    /// The sum of a metric over its labels.
    fn metric(&self, name: &str) -> Result<f64> {
        let (status, text) = probe::get(self.admin, "/metrics")?;
        if status != 200 {
            return Err(format!("/metrics answered {status}").into());
        }
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        let values = text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(values.sum())
    }
}

/// Prints a line of progress.
fn say(err: &mut dyn Write, line: std::fmt::Arguments<'_>) -> Result<()> {
    writeln!(err, "trial: {line}").map_err(Error::from)
}
