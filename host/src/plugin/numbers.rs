//! What is counted per plugin version: calls, failures, time; and the instruments that a guest declares itself.
//!
//! What it does not do: it writes no exposition format; `admin` reads these numbers when it is asked.
//!
//! **Invariant:** a guest cannot make the host keep more than `MAX_INSTRUMENTS` × `MAX_SERIES` numbers, nor choose a name
//! outside its own prefix.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::hooks::Cause;
use super::load::Hook;
use super::release::figures::{Exchanges, Past};
use super::release::now;
use crate::numbers::{Count, Highest, Times};

/// The numbers of one plugin version.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Time of calls by hook: routing, prompting, caching.
    pub calls: [Times; 3],
    /// Failures by cause, in the order of [`super::hooks::Cause::ALL`].
    pub failures: [Count; 6],
    /// Calls that were not made because the plugin was quarantined.
    pub skipped: Count,
    /// Calls that the request went on without: they failed, or were not made.
    pub fell_through: Count,
    /// Instances that were made.
    pub instances: Count,
    /// The most memory that one instance has had, in bytes.
    pub memory: Highest,
    /// Requests that it has refused.
    pub rejections: Count,
    /// Near hits that were not served because it said so, or could not say.
    pub vetoes: Count,
    /// The last call that failed.
    last_failure: Mutex<Option<LastFailure>>,
    /// Log lines over the limit of an exchange.
    pub dropped_log_lines: Count,
    /// What exchanges came to in which it had its part.
    pub exchanges: Exchanges,
    /// How it fared of late, where somebody looks at it.
    pub past: Past,
    /// What the guest counts itself.
    pub guest: Guest,
}

/// A call that failed, for whoever asks how a version fares.
#[derive(Clone, Debug, serde::Serialize)]
pub struct LastFailure {
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The hook.
    pub hook: &'static str,
    /// Of what kind.
    pub cause: &'static str,
    /// What is known of it, in one line.
    pub reason: String,
}

/// Bytes of a failure's reason that are kept.
const MAX_REASON: usize = 512;

impl Numbers {
    /// The last call that failed, if one has.
    pub fn last_failure(&self) -> Option<LastFailure> {
        self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A call has failed.
    pub(super) fn failed(&self, hook: Hook, cause: Cause, reason: &str) {
        self.failures[cause as usize].add(1);
        let reason = reason[..reason.floor_char_boundary(MAX_REASON)].to_owned();
        let last = LastFailure { at: now(), hook: hook.name(), cause: cause.name(), reason };
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
}

const MAX_INSTRUMENTS: usize = 32;
const MAX_SERIES: usize = 256;
/// Buckets of a guest's histogram: powers of two from 2^-10 to 2^20.
const GUEST_BUCKETS: i32 = 31;

type Labels = Vec<(String, String)>;

/// One value of one series.
#[derive(Clone, Debug)]
pub enum Value {
    /// Only grows.
    Counter(u64),
    /// The last value.
    Gauge(f64),
    /// Upper bound and count of each bucket that is not empty (not cumulative), and the sum of what was observed.
    Histogram(BTreeMap<i32, u64>, f64),
}

/// Instruments that a guest has declared by using them.
#[derive(Debug, Default)]
pub struct Guest {
    series: Mutex<BTreeMap<String, BTreeMap<Labels, Value>>>,
    /// Updates over the limits, of a bad name, or of another kind than the instrument has.
    pub dropped: Count,
}

impl Guest {
    /// Adds to a counter.
    pub fn increment(&self, name: &str, delta: u64, labels: Labels) {
        self.update(name, labels, Value::Counter(0), |value| match value {
            Value::Counter(sum) => {
                *sum = sum.saturating_add(delta);
                true
            }
            _ => false,
        });
    }

    /// Sets a gauge.
    pub fn gauge(&self, name: &str, to: f64, labels: Labels) {
        self.update(name, labels, Value::Gauge(0.0), |value| match value {
            Value::Gauge(now) => {
                *now = to;
                true
            }
            _ => false,
        });
    }

    /// Adds to a histogram.
    pub fn observe(&self, name: &str, what: f64, labels: Labels) {
        let bucket =
            if what.is_finite() && what > 0.0 { (what.log2().ceil() as i32).clamp(-10, GUEST_BUCKETS - 10) } else { -10 };
        self.update(name, labels, Value::Histogram(BTreeMap::new(), 0.0), |value| match value {
            Value::Histogram(buckets, sum) => {
                *buckets.entry(bucket).or_default() += 1;
                *sum += if what.is_finite() { what } else { 0.0 };
                true
            }
            _ => false,
        });
    }

    fn update(&self, name: &str, mut labels: Labels, start: Value, change: impl FnOnce(&mut Value) -> bool) {
        // Looked at before anything is done with them: there may be as many as a guest can name.
        let valid = is_instrument(name) && are_labels(&labels);
        if valid {
            labels.sort();
        }
        let Ok(mut all) = self.series.lock() else { return self.dropped.add(1) };
        let room = all.contains_key(name) || all.len() < MAX_INSTRUMENTS;
        let count: usize = all.values().map(BTreeMap::len).sum();
        if !valid || !room {
            return self.dropped.add(1);
        }
        let series = all.entry(name.to_owned()).or_default();
        if !series.contains_key(&labels) && count >= MAX_SERIES {
            return self.dropped.add(1);
        }
        // One instrument has one kind, whatever its labels.
        let same_kind =
            series.values().next().is_none_or(|first| std::mem::discriminant(first) == std::mem::discriminant(&start));
        if !same_kind || !change(series.entry(labels).or_insert(start)) {
            self.dropped.add(1);
        }
    }

    /// All series: name, labels, value.
    pub fn read(&self) -> Vec<(String, Labels, Value)> {
        let Ok(all) = self.series.lock() else { return Vec::new() };
        all.iter()
            .flat_map(|(name, series)| series.iter().map(|(labels, value)| (name.clone(), labels.clone(), value.clone())))
            .collect()
    }
}

/// A name that is not the host's own, and is none of those that a histogram makes of its own.
fn is_instrument(name: &str) -> bool {
    const OWN: [&str; 17] = [
        "call_seconds",
        "failures_total",
        "quarantined",
        "skipped_total",
        "rejections_total",
        "vetoes_total",
        "dropped_total",
        "load_problems",
        "fall_throughs_total",
        "instances_total",
        "memory_bytes",
        "trial",
        "shadow_total",
        "rollbacks_total",
        "kv_bytes",
        "kv_entries",
        "kv_refused_total",
    ];
    is_name(name) && !OWN.contains(&name) && !["_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end))
}

/// Sorted labels, each there once, and none that the host adds.
fn are_labels(labels: &Labels) -> bool {
    labels.len() <= 8
        && labels.iter().all(|(name, value)| is_name(name) && !matches!(name.as_str(), "plugin" | "le") && value.len() <= 128)
        && labels.windows(2).all(|pair| pair[0].0 != pair[1].0)
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_cannot_flood_the_host_with_series() {
        let guest = Guest::default();
        for index in 0..10_000 {
            guest.increment("requests", 1, vec![("user".into(), index.to_string())]);
            guest.increment(&format!("name_{index}"), 1, vec![]);
        }
        assert!(guest.read().len() <= MAX_SERIES);
        assert!(guest.dropped.get() > 19_000);
    }

    #[test]
    fn bad_names_and_mixed_kinds_are_dropped() {
        let guest = Guest::default();
        for name in ["", "Upper", "a-b", "1st", "line\nbreak", "é", "failures_total", "depth_sum"] {
            guest.gauge(name, 1.0, vec![]);
        }
        for labels in [vec!["plugin"], vec!["le"], vec!["twice", "twice"]] {
            guest.gauge("depth", 1.0, labels.into_iter().map(|name| (name.to_owned(), name.to_owned())).collect());
        }
        guest.gauge("depth", 1.0, vec![]);
        guest.increment("depth", 1, vec![("other".into(), "label".into())]);
        assert_eq!(guest.dropped.get(), 12);
        assert_eq!(guest.read().len(), 1);
    }
}
