//! The command line of `load`.
//!
//! What it does not do: it prints one JSON document on standard output and nothing else there, so that a program can read it.
//!
//! **Invariant:** a run that found no expected answer at all fails.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::Result;
use crate::driver::{self, Target};
use crate::hold::Streams;
use crate::report::Report;
use crate::request::{Mix, Template};
use crate::schedule::{Arrivals, Schedule};
use crate::upstream::Wish;

/// The longest that streams are held.
pub const LONGEST_HOLD: Duration = Duration::from_secs(120);

/// Sends chat completions and tells how long they took.
#[derive(Debug, Parser)]
#[command(name = "load", about = "Sends chat completions to a gateway and prints what it found as JSON")]
pub struct Load {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// Send on a schedule that is fixed before; latency counts from when a request was due
    Open {
        /// Requests a second
        #[arg(long, default_value_t = 1_000.0)]
        rate: f64,
        /// How they follow one another
        #[arg(long, value_enum, default_value_t = Arrivals::Poisson)]
        arrivals: Arrivals,
        #[command(flatten)]
        run: Run,
    },
    /// Send on each connection as soon as it is answered: the most that the server can do
    Closed {
        #[command(flatten)]
        run: Run,
    },
    /// Open streams and hold them until standard input ends
    Hold {
        /// The gateway
        #[arg(long)]
        address: SocketAddr,
        /// Streams
        #[arg(long, default_value_t = 1_000)]
        streams: usize,
    },
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The gateway
    #[arg(long)]
    address: SocketAddr,
    /// Connections
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// How long, in seconds
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// The share of requests that are one and the same, 0 to 1; all others differ
    #[arg(long, default_value_t = 0.0)]
    repeat: f64,
    /// Another seed gives another schedule and other requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Ask for streams of so many events, and time their first byte
    #[arg(long, value_name = "EVENTS")]
    stream: Option<u32>,
    /// Ask for this versioned prompt, with the variable `product`
    #[arg(long, value_name = "NAME")]
    prompt: Option<String>,
    /// Pause between the events of a stream, in microseconds
    #[arg(long, default_value_t = 0)]
    pause_us: u64,
}

impl Run {
    fn length(&self) -> Result<Duration> {
        Ok(Duration::try_from_secs_f64(self.seconds)?)
    }

    fn target(&self) -> Result<Target> {
        if !(0.0..=1.0).contains(&self.repeat) || self.connections == 0 || self.seed > u64::from(u32::MAX) {
            return Err("--repeat is a share from 0 to 1, --connections at least 1, --seed below 2^32".into());
        }
        let wish = self.stream.map(|events| Wish { events, pause_us: self.pause_us, hold_ms: 0 });
        Ok(Target {
            address: self.address,
            connections: self.connections,
            template: Template::with_prompt(self.address, wish.as_ref(), self.prompt.as_deref()),
            mix: Mix::new(self.repeat, self.seed),
            streams: wish.is_some(),
        })
    }
}

impl Load {
    /// Runs, and writes what was found.
    ///
    /// # Errors
    /// When connections cannot be opened, arguments make no sense, or nothing was answered.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        wake_exactly();
        let report = match self.mode {
            Mode::Open { rate, arrivals, run } => {
                if !rate.is_finite() || rate <= 0.0 {
                    return Err("--rate is above 0".into());
                }
                driver::open_loop(&run.target()?, &Schedule::new(arrivals, rate, run.length()?, run.seed))?
            }
            Mode::Closed { run } => driver::closed_loop(&run.target()?, run.length()?)?,
            Mode::Hold { address, streams } => return hold(address, streams, out),
        };
        write(out, &report)?;
        answered(&report)
    }
}

/// A run without answers has no figures; its errors are in the report.
fn answered(report: &Report) -> Result<()> {
    if report.answered > 0 { Ok(()) } else { Err(format!("nothing was answered: {:?}", report.errors).into()) }
}

fn hold(address: SocketAddr, count: usize, out: &mut dyn Write) -> Result<()> {
    let streams = Streams::open(address, count, LONGEST_HOLD)?;
    write(out, &streams.held())?;
    // Whoever asked says with the end of its input that it has seen enough; the upstream's bound holds in any case.
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    write(out, &streams.held())
}

fn write(out: &mut dyn Write, value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Linux lets sleepers sleep 50 µs longer, to save power; that would be in every latency. Threads inherit the setting.
fn wake_exactly() {
    // Where it cannot be set, the report's `late_us` shows it.
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
}
