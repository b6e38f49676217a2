//! How long a start takes: from the fork until /readyz says yes, with three plugins.
//!
//! Warm, their compiled form is in the cache folder; cold, the folder is empty and they are compiled. `taskset`, which is in
//! between, adds about a millisecond to both.
//!
//! **Invariant:** a cold start finds a folder that no start has used.

use std::time::Instant;

use serde::Serialize;

use super::bench::Bench;
use super::case::START;
use crate::Result;

/// Starts, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Starts {
    pub(super) warm_ms: Vec<f64>,
    pub(super) cold_ms: Vec<f64>,
}

/// Times so many of each.
pub(super) fn times(bench: &Bench, warm: usize, cold: usize) -> Result<Starts> {
    let timed = |folder: &str| -> Result<f64> {
        let began = Instant::now();
        let running = bench.start(&START, &bench.path(folder))?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        drop(running);
        Ok(took)
    };
    let cold_ms = (0..cold).map(|number| timed(&format!("cold-{number}"))).collect::<Result<_>>()?;
    // Fills the folder, if no case has done so.
    timed("aot")?;
    let warm_ms = (0..warm).map(|_| timed("aot")).collect::<Result<_>>()?;
    Ok(Starts { warm_ms, cold_ms })
}
