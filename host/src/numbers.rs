//! Counters and histograms that many cores may touch at once, and the text that /metrics answers with.
//!
//! Plain atomics instead of a metrics crate: on the hot path a count is one `fetch_add` on a field that is already at
//! hand, without a lock or a look-up by label; labels exist only when somebody reads. The exposition format is forty lines.
//!
//! What it does not do: it knows nothing of what is counted.
//!
//! **Invariant:** a leaf: it uses no other module of the crate.
//! **Invariant:** label values are escaped, so that no client's string can end a line.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `delta`.
    pub fn add(&self, delta: u64) {
        self.0.fetch_add(delta, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The highest value so far.
#[derive(Debug, Default)]
pub struct Highest(AtomicU64);

impl Highest {
    /// Notes a value.
    pub fn note(&self, value: u64) {
        // Nearly always lower: a look costs less than a write that all cores see.
        if value > self.get() {
            self.0.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// The highest.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of a time histogram's buckets, in microseconds: from one hostcall to a long answer.
pub const TIME_BOUNDS_US: [u64; 16] =
    [10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 20_000, 100_000, 500_000, 2_000_000, 10_000_000, 60_000_000, 600_000_000];

/// How long something took, by bucket.
#[derive(Debug, Default)]
pub struct Times {
    buckets: [Count; TIME_BOUNDS_US.len()],
    beyond: Count,
    sum_us: Count,
}

impl Times {
    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match TIME_BOUNDS_US.iter().position(|bound| us <= *bound) {
            Some(bucket) => self.buckets[bucket].add(1),
            None => self.beyond.add(1),
        }
        self.sum_us.add(us);
    }

    /// So large a share, 0 to 1, took no longer than this. Within a bucket times are taken to lie evenly, so it is as exact as the bucket is
    /// narrow. None where nothing was counted, or it took longer than any bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let counts = self.counts();
        let rank = (counts.iter().sum::<u64>() as f64 * share).max(1.0);
        let (mut before, mut from) = (0.0, 0.0);
        for (count, bound) in counts.into_iter().zip(TIME_BOUNDS_US) {
            let (count, to) = (count as f64, bound as f64);
            if before + count >= rank {
                let us: f64 = from + (to - from) * (rank - before) / count;
                return Some(Duration::from_micros(us.round() as u64));
            }
            (before, from) = (before + count, to);
        }
        None
    }

    /// How many were counted in each bucket, and beyond the last.
    pub fn counts(&self) -> [u64; TIME_BOUNDS_US.len() + 1] {
        std::array::from_fn(|bucket| self.buckets.get(bucket).unwrap_or(&self.beyond).get())
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Count::get).sum::<u64>() + self.beyond.get()
    }
}

/// Writes the Prometheus text format, version 0.0.4.
#[derive(Default)]
pub struct Exposition {
    text: String,
    last: String,
}

/// Label names and values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Exposition {
    /// One value of a counter; `help` is said once, before its first.
    pub fn counter(&mut self, name: &str, help: &str, labels: Labels<'_>, value: u64) {
        self.head(name, help, "counter");
        self.sample(name, "", labels, None, value as f64);
    }

    /// One value of a gauge.
    pub fn gauge(&mut self, name: &str, help: &str, labels: Labels<'_>, value: f64) {
        self.head(name, help, "gauge");
        self.sample(name, "", labels, None, value);
    }

    /// One histogram of times, in seconds.
    pub fn times(&mut self, name: &str, help: &str, labels: Labels<'_>, times: &Times) {
        let buckets = TIME_BOUNDS_US.iter().zip(&times.buckets).map(|(bound, count)| (*bound as f64 / 1e6, count.get()));
        self.histogram(name, help, labels, buckets, times.beyond.get(), times.sum_us.get() as f64 / 1e6);
    }

    /// One histogram: bounds with their own counts, what is beyond them, and the sum.
    pub fn histogram(
        &mut self,
        name: &str,
        help: &str,
        labels: Labels<'_>,
        buckets: impl Iterator<Item = (f64, u64)>,
        beyond: u64,
        sum: f64,
    ) {
        self.head(name, help, "histogram");
        let mut total = 0;
        for (bound, count) in buckets {
            total += count;
            self.sample(name, "_bucket", labels, Some(&bound.to_string()), total as f64);
        }
        total += beyond;
        self.sample(name, "_bucket", labels, Some("+Inf"), total as f64);
        self.sample(name, "_sum", labels, None, sum);
        self.sample(name, "_count", labels, None, total as f64);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        if self.last != name {
            self.last = name.to_owned();
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        }
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: f64) {
        let _ = write!(self.text, "{name}{suffix}");
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        for (index, (name, value)) in all.enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{name}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() && bound.is_none() { "" } else { "}" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_buckets() {
        let times = Times::default();
        assert_eq!(times.quantile(0.5), None);
        (0..98).for_each(|_| times.observe(Duration::from_micros(15)));
        (0..2).for_each(|_| times.observe(Duration::from_millis(3)));
        let us = |share| times.quantile(share).map(|time| time.as_micros());
        // Half of those between 10 and 20; all of them; one of the two between 2 and 5 ms.
        assert_eq!((us(0.0), us(0.49), us(0.98), us(0.99), us(1.0)), (Some(10), Some(15), Some(20), Some(3_500), Some(5_000)));
        times.observe(Duration::from_secs(3600));
        assert_eq!(us(1.0), None);
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let times = Times::default();
        times.observe(Duration::from_micros(15));
        times.observe(Duration::from_secs(3600));
        let mut text = Exposition::default();
        text.counter("a_total", "Things.", &[("who", "x\"y\nz\\")], 3);
        text.counter("a_total", "Things.", &[], 4);
        text.times("b_seconds", "Time.", &[("stage", "run")], &times);
        let text = text.finish();
        assert!(text.starts_with(
            "# HELP a_total Things.\n# TYPE a_total counter\na_total{who=\"x\\\"y\\nz\\\\\"} 3\na_total 4\n# HELP b_seconds"
        ));
        assert!(text.contains("b_seconds_bucket{stage=\"run\",le=\"0.00001\"} 0\n"), "{text}");
        assert!(text.contains("b_seconds_bucket{stage=\"run\",le=\"0.00002\"} 1\n"));
        assert!(text.contains("b_seconds_bucket{stage=\"run\",le=\"+Inf\"} 2\n"));
        assert!(text.ends_with("b_seconds_count{stage=\"run\"} 2\n"));
    }
}
