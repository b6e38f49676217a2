//! What a gateway keeps: memory when it is idle, and for each stream that is held.
//!
//! **Invariant:** memory is read while all streams are there, seen before and after.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::case::Case;
use super::measure::{self, Memory};
use crate::Result;
use crate::hold::Held;

/// What was needed for the start alone is given back by then.
const SETTLE: Duration = Duration::from_millis(500);
const IDLE: Duration = Duration::from_secs(1);

/// Reads it.
pub(super) fn of(bench: &Bench, case: &Case, streams: usize, seed: u32) -> Result<Memory> {
    let running = bench.start(case, &bench.path("aot"))?;
    let process = running.process()?;
    std::thread::sleep(SETTLE);
    let (idle_kib, cpu, began) = (process.resident()?, process.cpu()?, Instant::now());
    std::thread::sleep(IDLE);
    let idle_cpu = process.cpu()?.saturating_sub(cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    measure::warm_up(bench, case, &running, false, seed)?;
    std::thread::sleep(SETTLE);
    let warm_kib = process.resident()?;

    let mut command = bench.load();
    command.args(["hold", "--address", &running.address.to_string(), "--streams", &streams.to_string()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let read = hold(&mut child, streams, || process.resident());
    let _ = child.kill();
    let _ = child.wait();
    let held_kib = read.map_err(|error| format!("{error}\n{}", process.said()))?;
    Ok(Memory {
        idle_kib,
        idle_cpu_ms: idle_cpu * 1e3,
        warm_kib,
        streams,
        stream_kib: held_kib.saturating_sub(warm_kib) as f64 / streams as f64,
    })
}

/// What `resident` says while the driver holds all streams.
fn hold(child: &mut Child, streams: usize, resident: impl Fn() -> Result<u64>) -> Result<u64> {
    let mut lines = BufReader::new(child.stdout.take().ok_or("the driver's output is not piped")?).lines();
    let mut held = || -> Result<Held> { Ok(serde_json::from_str(&lines.next().ok_or("the driver holds no streams")??)?) };
    let before = held()?;
    std::thread::sleep(SETTLE);
    let kib = resident()?;
    // The end of its input is the sign to look again, and to end.
    drop(child.stdin.take());
    let after = held()?;
    if (before.held, after.held) == (streams, streams) {
        Ok(kib)
    } else {
        Err(format!("of {streams} streams {} were held, later {}", before.held, after.held).into())
    }
}
