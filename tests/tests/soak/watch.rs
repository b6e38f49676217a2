//! What the processes tell of themselves: counted over all of them, and the most of what comes and goes.
//!
//! What it does not do: it asks no process that has been replaced, so what those do last is not counted.
//!
//! **Invariant:** a number here is no more than what has happened; that it is above zero shows that it has.

use std::collections::BTreeMap;

use tests::Binary;

/// What is counted.
const COUNTED: [&str; 4] =
    ["pointsman_hedges_total", "pointsman_retries_total", "pointsman_continuations_total", "pointsman_escalations_total"];

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// By processes that were replaced, and by the one that runs.
    past: BTreeMap<&'static str, f64>,
    now: BTreeMap<&'static str, f64>,
    /// The furthest that answers were degraded.
    pub(crate) level: f64,
    /// The numbers that were let in at a time.
    pub(crate) limits: Vec<f64>,
    /// The most that waited.
    pub(crate) waiting: f64,
    /// The most resident memory, in bytes.
    pub(crate) memory: u64,
}

impl Watch {
    /// Looks at the process that runs.
    pub(crate) fn look(&mut self, running: &Binary) {
        let metrics = running.metrics();
        self.now = COUNTED.into_iter().map(|name| (name, metrics.sum(name, &[]))).collect();
        self.level = self.level.max(metrics.sum("pointsman_degradation_level", &["provider=\"gpus\""]));
        let limit = metrics.sum("pointsman_upstream_limit", &[]);
        if !self.limits.contains(&limit) {
            self.limits.push(limit);
        }
        self.waiting = self.waiting.max(metrics.sum("pointsman_upstream_waiting", &[]));
        self.memory = self.memory.max(running.resident());
    }

    /// Another process runs from now on.
    pub(crate) fn replaced(&mut self) {
        for (name, count) in std::mem::take(&mut self.now) {
            *self.past.entry(name).or_default() += count;
        }
    }

    /// How often it has happened.
    pub(crate) fn count(&self, name: &str) -> f64 {
        [&self.past, &self.now].iter().filter_map(|counts| counts.get(name)).sum()
    }
}
