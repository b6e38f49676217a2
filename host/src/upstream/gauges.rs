//! What a model server says of itself: requests that wait and run, and its KV memory, read from its page of metrics.
//!
//! A gateway counts its own requests; what others send to the same server it learns here. So of what is read only what goes beyond
//! our own requests at that moment is added to them.
//!
//! What it does not do: it asks nobody (`scrape`).
//!
//! **Invariant:** what is older than three intervals counts no more.
//! **Invariant:** a page that says nothing that is known, or that no number can be read of, changes nothing.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::numbers::Count;

/// Names of vLLM's and SGLang's metrics.
const WAITING: [&str; 2] = ["vllm:num_requests_waiting", "sglang:num_queue_reqs"];
const RUNNING: [&str; 2] = ["vllm:num_requests_running", "sglang:num_running_reqs"];
const KV: [&str; 3] = ["vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"];

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests in its queue.
    pub waiting: u32,
    /// Requests that are being answered.
    pub running: u32,
    /// The share of its KV memory that they use.
    pub kv: f32,
}

impl Report {
    /// Reads a page in Prometheus' text format. A server may have several engines: their requests are added, and the fullest
    /// memory counts. None where nothing is known.
    pub fn read(page: &str) -> Option<Self> {
        let mut found = None;
        let (mut waiting, mut running, mut kv) = (0.0, 0.0, 0.0_f64);
        for line in page.lines().filter(|line| line.starts_with("vllm:") || line.starts_with("sglang:")) {
            let end = line.find(['{', ' ']).unwrap_or(line.len());
            let (name, rest) = line.split_at(end);
            // Labels may hold spaces; what follows them is the value, and perhaps a time.
            let rest = rest.rsplit_once('}').map_or(rest, |(_, rest)| rest);
            let value = rest.split_ascii_whitespace().next().and_then(|value| value.parse::<f64>().ok());
            let Some(value) = value.filter(|value| value.is_finite() && *value >= 0.0) else { continue };
            if WAITING.contains(&name) {
                waiting += value;
            } else if RUNNING.contains(&name) {
                running += value;
            } else if KV.contains(&name) {
                kv = kv.max(value);
            } else {
                continue;
            }
            found = Some(());
        }
        found.map(|()| Self { waiting: waiting as u32, running: running as u32, kv: kv.min(1.0) as f32 })
    }
}

/// The last reading of an endpoint.
pub struct Gauges {
    epoch: Instant,
    waiting: AtomicU32,
    running: AtomicU32,
    kv: AtomicU32,
    /// Our own requests when it was read.
    own: AtomicU32,
    /// Until when it counts, in milliseconds since `epoch`; 0: there was none.
    until: AtomicU64,
    /// Readings that failed.
    pub failures: Count,
    /// Those in a row; beyond [`TELLS`] the log has been told.
    row: AtomicU32,
}

/// Readings in a row that must fail before the log has a line: one alone is late now and then.
const TELLS: u32 = 3;

impl Gauges {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            waiting: AtomicU32::new(0),
            running: AtomicU32::new(0),
            kv: AtomicU32::new(0),
            own: AtomicU32::new(0),
            until: AtomicU64::new(0),
            failures: Count::default(),
            row: AtomicU32::new(0),
        }
    }

    /// A reading has come. Is that worth a line?
    pub(super) fn read(&self) -> bool {
        self.row.swap(0, Ordering::Relaxed) >= TELLS
    }

    /// A reading has failed. Is that worth a line?
    pub(super) fn unread(&self) -> bool {
        self.row.fetch_add(1, Ordering::Relaxed) + 1 == TELLS
    }

    /// Takes a reading; `own`: our requests there meanwhile, `interval`: until the next one.
    pub fn set(&self, report: Report, own: u32, interval: Duration, now: Instant) {
        // Whoever reads in between sees a mixture of two readings; the next choice sees it whole.
        self.waiting.store(report.waiting, Ordering::Relaxed);
        self.running.store(report.running, Ordering::Relaxed);
        self.kv.store(report.kv.to_bits(), Ordering::Relaxed);
        self.own.store(own, Ordering::Relaxed);
        self.until.store(self.ms(now + interval * 3).max(1), Ordering::Relaxed);
    }

    /// The last reading, while it counts.
    pub fn get(&self, now: Instant) -> Option<Report> {
        let until = self.until.load(Ordering::Relaxed);
        (until != 0 && self.ms(now) < until).then(|| Report {
            waiting: self.waiting.load(Ordering::Relaxed),
            running: self.running.load(Ordering::Relaxed),
            kv: f32::from_bits(self.kv.load(Ordering::Relaxed)),
        })
    }

    /// What others have there: requests, and how many of them wait; and the use of its memory.
    pub(super) fn others(&self, now: Instant) -> (f32, f32, f32) {
        let Some(report) = self.get(now) else { return (0.0, 0.0, 0.0) };
        // In this order: a server may say any number, and two of them are too many for a whole one.
        let all = report.waiting as f32 + report.running as f32;
        let others = (all - self.own.load(Ordering::Relaxed) as f32).max(0.0);
        (others, if all > 0.0 { report.waiting as f32 * others / all } else { 0.0 }, report.kv)
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_known_servers() {
        let report = |waiting, running, kv| Some(Report { waiting, running, kv });
        let cases = [
            ("", None),
            ("# HELP vllm:num_requests_waiting Waiting.\nprocess_open_fds 7\n", None),
            (
                "vllm:num_requests_running{engine=\"0\",model_name=\"a b\"} 3.0\nvllm:num_requests_running{engine=\"1\"} 2.0\nvllm:num_requests_waiting{engine=\"0\"} 4.0 1700000000\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.25\nvllm:kv_cache_usage_perc{engine=\"1\"} 0.5\n",
                report(4, 5, 0.5),
            ),
            ("vllm:num_requests_waiting 1\nvllm:gpu_cache_usage_perc 1.5\n", report(1, 0, 1.0)),
            ("sglang:num_queue_reqs{m=\"x\"} 2\nsglang:num_running_reqs 6\nsglang:token_usage 0.75\n", report(2, 6, 0.75)),
            ("vllm:num_requests_waiting NaN\nvllm:num_requests_running -1\nvllm:kv_cache_usage_perc x\n", None),
            ("vllm:num_requests_waiting_total 9\nvllm:num_requests_waiting{\n", None),
        ];
        for (page, expect) in cases {
            assert_eq!(Report::read(page), expect, "{page}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_our_own_is_not_counted_twice_and_what_is_old_not_at_all() {
        let now = Instant::now();
        let gauges = Gauges::new(now);
        assert_eq!(gauges.others(now), (0.0, 0.0, 0.0));
        gauges.set(Report { waiting: 6, running: 2, kv: 0.5 }, 4, Duration::from_secs(1), now);
        assert_eq!(gauges.others(now), (4.0, 3.0, 0.5));
        gauges.set(Report { waiting: 0, running: 2, kv: 0.5 }, 4, Duration::from_secs(1), now);
        assert_eq!(gauges.others(now), (0.0, 0.0, 0.5), "some of ours have just begun");
        let late = now + Duration::from_secs(3);
        assert_eq!((gauges.others(late), gauges.get(late)), ((0.0, 0.0, 0.0), None));
    }
}
