//! The comparison: direct, nginx, and pointsman in several shapes, in turn, round after round, in one run.
//!
//! Two cores: the gateway has one, upstream and load driver share the other. What is compared is measured minutes apart at most,
//! on the same machine, by the same driver: figures of two runs are not comparable, ratios within one are.
//!
//! What it does not do: it builds nothing (`benches/run` does), and promises nothing: it prints what it saw.
//!
//! **Invariant:** no round begins after `LAST_ROUND`; what was measured until then is printed.

mod bench;
mod case;
mod config;
mod measure;
mod memory;
mod start;
mod table;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bench::{Bench, Programs};
use clap::Parser;
use config::Components;
use measure::Effort;
use start::Starts;
use table::Results;

use crate::Result;

/// A round takes about a minute; the run shall be over in eight.
const LAST_ROUND: Duration = Duration::from_secs(360);

/// Compares pointsman with nginx, and prints a table.
#[derive(Debug, Parser)]
#[command(name = "compare")]
pub struct Compare {
    /// The folder with `pointsman`, `load` and `upstream`, release builds
    #[arg(long)]
    programs: PathBuf,
    /// nginx
    #[arg(long, default_value = "nginx")]
    nginx: PathBuf,
    /// The folder of worked plugins, built
    #[arg(long)]
    plugins: PathBuf,
    /// The folder of the benches' own plugins, built
    #[arg(long)]
    guests: PathBuf,
    /// The gateway's core
    #[arg(long, default_value_t = 0)]
    gateway_core: usize,
    /// The core of upstream and load driver
    #[arg(long, default_value_t = 1)]
    peer_core: usize,
    /// Requests a second
    #[arg(long, default_value_t = 3_000.0)]
    rate: f64,
    /// Rounds; default 4, or 1 with --quick
    #[arg(long)]
    rounds: Option<usize>,
    /// One short round, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Only cases whose name contains this, beside direct and nginx
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Write every sample of every round into this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Compare {
    /// Runs, says on `err` what it is doing, and writes the table to `out`.
    ///
    /// # Errors
    /// When something cannot be started, or an answer is not what its case expects.
    pub fn run(self, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
        let bench = Bench::set_up(
            self.find()?,
            Components { plugins: self.plugins.canonicalize()?, guests: self.guests.canonicalize()? },
        )?;
        let effort = match self.quick {
            true => Effort { rate: self.rate, stream_rate: 200.0, open: 0.8, closed: 0.5 },
            false => Effort { rate: self.rate, stream_rate: 200.0, open: 2.5, closed: 1.5 },
        };
        let rounds = self.rounds.unwrap_or(if self.quick { 1 } else { 4 });
        let (held, warm, cold) = if self.quick { (200, 5, 1) } else { (1_000, 20, 5) };
        let began = Instant::now();
        let mut results = Results {
            machine: machine(),
            effort,
            plain: Vec::new(),
            streams: Vec::new(),
            memory: BTreeMap::new(),
            not_held: BTreeMap::new(),
            starts: Starts::default(),
        };

        writeln!(err, "compare: starts")?;
        results.starts = start::times(&bench, warm, cold)?;
        for case in case::MEMORY.iter().filter(|case| self.wants(case)) {
            writeln!(err, "compare: memory of `{}`", case.name)?;
            // A gateway that cannot hold so many is named in the table; the other figures do not depend on it.
            match memory::of(&bench, case, held, SEEDS) {
                Ok(memory) => drop(results.memory.insert(case.name, memory)),
                Err(error) => drop(results.not_held.insert(case.name, error.to_string())),
            }
        }
        for round in 0..rounds {
            if began.elapsed() > LAST_ROUND {
                writeln!(err, "compare: time is over after {round} of {rounds} rounds")?;
                break;
            }
            writeln!(err, "compare: round {} of {rounds}", round + 1)?;
            self.round(&bench, &mut results, round)?;
        }
        if let Some(file) = &self.json {
            serde_json::to_writer_pretty(std::fs::File::create(file)?, &results)?;
        }
        Ok(write!(out, "{}", table::markdown(&results))?)
    }

    /// Every case once.
    fn round(&self, bench: &Bench, results: &mut Results, round: usize) -> Result<()> {
        let effort = results.effort;
        let seeds = |place: usize| SEEDS * u32::try_from(round * 100 + place + 1).unwrap_or(1);
        let mut plain = BTreeMap::new();
        for (place, case) in case::PLAIN.iter().enumerate().filter(|(_, case)| self.wants(case)) {
            plain.insert(case.name, measure::plain(bench, case, &effort, seeds(place))?);
        }
        results.plain.push(plain);
        let mut streams = BTreeMap::new();
        for (place, case) in case::STREAMS.iter().enumerate().filter(|(_, case)| self.wants(case)) {
            streams.insert(case.name, measure::streams(bench, case, &effort, seeds(50 + place))?);
        }
        results.streams.push(streams);
        Ok(())
    }

    fn wants(&self, case: &case::Case) -> bool {
        let is_base = matches!(case.name, case::DIRECT | case::NGINX);
        is_base || self.only.as_ref().is_none_or(|part| case.name.contains(part.as_str()))
    }

    fn find(&self) -> Result<Programs> {
        let programs = |name: &str| self.programs.join(name);
        let found = Programs {
            pointsman: programs("pointsman"),
            nginx: self.nginx.clone(),
            load: programs("load"),
            upstream: programs("upstream"),
            gateway_core: self.gateway_core,
            peer_core: self.peer_core,
        };
        let taskset = PathBuf::from("taskset");
        for program in [&found.pointsman, &found.nginx, &found.load, &found.upstream, &taskset] {
            if !crate::process::exists(program.as_os_str()) {
                return Err(format!(
                    "{} is not there; `benches/run` builds what can be built, the rest is in Debian's nginx-light and util-linux",
                    program.display()
                )
                .into());
            }
        }
        Ok(found)
    }
}

/// Seeds of one measurement; each has its own, so that no request of one is a hit in another.
const SEEDS: u32 = 10;

/// Processor, cores and kernel: figures mean nothing without them.
fn machine() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let load = read("/proc/loadavg");
    format!(
        "{model}, {} cores, Linux {}, load {} before the run.",
        info.matches("processor\t").count(),
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("unknown")
    )
}
