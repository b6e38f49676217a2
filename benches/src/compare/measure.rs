//! One case, once: start its gateway, warm it up, load it, and read what it took.
//!
//! What it does not do: it compares nothing (`table`).
//!
//! **Invariant:** a sample exists only if every answer was what the case expects, and no plugin failed.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::bench::{Bench, Running};
use super::case::Case;
use crate::Result;
use crate::probe;
use crate::process::busy;
use crate::report::Report;

/// Requests before a measurement: connections, caches and branch predictors are then as they stay.
const WARM_UP: f64 = 0.4;
const CONNECTIONS: usize = 32;
/// Events of a stream, and the pause between them.
const EVENTS: u32 = 4;
const PAUSE_US: u64 = 1_000;

/// How long, and how much.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Effort {
    /// Requests a second of the open loop.
    pub(super) rate: f64,
    /// Streams a second.
    pub(super) stream_rate: f64,
    /// Seconds of the open loop.
    pub(super) open: f64,
    /// Seconds of the closed loop.
    pub(super) closed: f64,
}

/// What a case took, once.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Sample {
    /// The gateway's CPU time per request at the open loop's rate, in microseconds.
    pub(super) cpu_us: Option<f64>,
    /// Latency at that rate.
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// CPU time per request at full load.
    pub(super) full_cpu_us: Option<f64>,
    /// Requests a second at full load.
    pub(super) full_rate: f64,
    /// The share of the gateway's core that others took meanwhile.
    pub(super) foreign: f64,
    /// How late the driver itself was, at its median.
    pub(super) late_us: f64,
}

/// A stream's time to its first byte, once.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StreamSample {
    pub(super) first_byte_p50_us: f64,
    pub(super) first_byte_p99_us: f64,
    /// CPU time per stream, in microseconds.
    pub(super) cpu_us: Option<f64>,
}

/// What one run of the driver is told.
struct Load<'a> {
    mode: &'a str,
    seconds: f64,
    rate: Option<f64>,
    stream: bool,
    seed: u32,
}

/// A run of the driver, and what the gateway took for it.
struct Taken {
    report: Report,
    cpu_us: Option<f64>,
    foreign: f64,
}

/// Plain answers.
pub(super) fn plain(bench: &Bench, case: &Case, effort: &Effort, seed: u32) -> Result<Sample> {
    let running = bench.start(case, &bench.path("aot"))?;
    let load = |mode, seconds, rate, seed| Load { mode, seconds, rate, stream: false, seed };
    warm_up(bench, case, &running, false, seed)?;
    let open = take(bench, case, &running, &load("open", effort.open, Some(effort.rate), seed + 1))?;
    let closed = take(bench, case, &running, &load("closed", effort.closed, None, seed + 2))?;
    check_calls(case, &running, open.report.answered + closed.report.answered)?;
    let latency = open.report.latency_us.ok_or("no latency")?;
    Ok(Sample {
        cpu_us: open.cpu_us,
        p50_us: latency.p50,
        p99_us: latency.p99,
        full_cpu_us: closed.cpu_us,
        full_rate: closed.report.per_second,
        foreign: open.foreign.max(closed.foreign),
        late_us: open.report.late_us.map_or(0.0, |late| late.p50),
    })
}

/// Streams.
pub(super) fn streams(bench: &Bench, case: &Case, effort: &Effort, seed: u32) -> Result<StreamSample> {
    let running = bench.start(case, &bench.path("aot"))?;
    warm_up(bench, case, &running, true, seed)?;
    let taken = take(
        bench,
        case,
        &running,
        &Load { mode: "open", seconds: effort.open, rate: Some(effort.stream_rate), stream: true, seed: seed + 1 },
    )?;
    check_calls(case, &running, taken.report.answered)?;
    let first = taken.report.first_byte_us.ok_or("no first byte")?;
    Ok(StreamSample { first_byte_p50_us: first.p50, first_byte_p99_us: first.p99, cpu_us: taken.cpu_us })
}

/// The request that repeats is answered here for the first time, so the answers may differ from what the case expects later.
pub(super) fn warm_up(bench: &Bench, case: &Case, running: &Running, stream: bool, seed: u32) -> Result<()> {
    let report = drive(bench, case, running, &Load { mode: "closed", seconds: WARM_UP, rate: None, stream, seed })?;
    let errors = &report.errors;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(format!("{}: while warming up: {errors:?}\n{}", case.name, running.said()).into())
    }
}

fn take(bench: &Bench, case: &Case, running: &Running, load: &Load<'_>) -> Result<Taken> {
    let cpu = || running.process.as_ref().map(crate::process::Process::cpu).transpose();
    let core = bench.programs.gateway_core;
    let (cpu_before, busy_before, began) = (cpu()?, busy(core)?, Instant::now());
    let report = drive(bench, case, running, load)?;
    let (cpu_after, busy_after, length) = (cpu()?, busy(core)?, began.elapsed());
    let taken = cpu_after.zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
    if !report.is_all(case.outcome) {
        let Report { answered, outcomes, errors, .. } = &report;
        let expected = case.outcome;
        return Err(format!(
            "{}: expected {answered} answers `{expected}`, got {outcomes:?} and the errors {errors:?}\n{}",
            case.name,
            running.said()
        )
        .into());
    }
    let others = busy_after.saturating_sub(busy_before).saturating_sub(taken.unwrap_or(Duration::ZERO));
    Ok(Taken {
        cpu_us: taken.map(|taken| taken.as_secs_f64() * 1e6 / report.answered as f64),
        foreign: others.as_secs_f64() / length.as_secs_f64(),
        report,
    })
}

fn drive(bench: &Bench, case: &Case, running: &Running, load: &Load<'_>) -> Result<Report> {
    let mut command = bench.load();
    command.args([load.mode, "--address", &running.address.to_string()]);
    command.args([
        "--connections",
        &CONNECTIONS.to_string(),
        "--seconds",
        &load.seconds.to_string(),
        "--seed",
        &load.seed.to_string(),
    ]);
    if let Some(rate) = load.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    if case.repeat {
        command.args(["--repeat", "1"]);
    }
    if case.prompt {
        command.args(["--prompt", "support"]);
    }
    if load.stream {
        command.args(["--stream", &EVENTS.to_string(), "--pause-us", &PAUSE_US.to_string()]);
    }
    let output = command.stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{}: the driver: {error}\n{said}\n{}", case.name, running.said()).into())
}

/// Were the plugins asked as often as they should have been?
fn check_calls(case: &Case, running: &Running, answered: u64) -> Result<()> {
    let Some(admin) = running.admin else { return Ok(()) };
    let (calls, expected) = (probe::plugin_calls(admin)?, answered * case.calls());
    if calls >= expected {
        Ok(())
    } else {
        Err(format!("{}: {calls} calls of plugins for {answered} requests, expected {expected}", case.name).into())
    }
}

/// What a gateway keeps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    /// Resident memory before the first request, in KiB.
    pub(super) idle_kib: u64,
    /// CPU time when nothing is asked, in milliseconds a second.
    pub(super) idle_cpu_ms: f64,
    /// After the warm-up, in KiB.
    pub(super) warm_kib: u64,
    /// Streams that were held.
    pub(super) streams: usize,
    /// More memory than warm, per held stream, in KiB.
    pub(super) stream_kib: f64,
}
