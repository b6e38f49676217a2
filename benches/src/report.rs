//! What a run found: counts, and percentiles of times. Written as JSON by `load`, read back by `compare`.
//!
//! What it does not do: it judges nothing.
//!
//! **Invariant:** only expected answers are in the histograms; all others are in `errors`, by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::wire::OUTCOMES;

/// Longer times count as this one.
const LONGEST: u64 = 60_000_000_000;

/// Times in nanoseconds, to three digits.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Times {
    /// No times yet.
    ///
    /// # Errors
    /// Never with these bounds; the histogram's constructor says otherwise.
    pub fn new() -> Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, LONGEST, 3)?))
    }

    /// Adds a time.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(LONGEST).clamp(1, LONGEST));
    }

    /// Adds all times of another.
    ///
    /// # Errors
    /// Never between two of these.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What they were; none where there are none.
    pub fn summary(&self) -> Option<Summary> {
        if self.0.is_empty() {
            return None;
        }
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        Some(Summary {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: micros(self.0.max()),
            mean: self.0.mean() / 1_000.0,
        })
    }
}

/// Percentiles, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The median.
    pub p50: f64,
    /// Nine of ten were faster.
    pub p90: f64,
    /// 99 of a hundred were.
    pub p99: f64,
    /// 999 of a thousand were.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

/// What one thread, or all of them, found.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Requests sent.
    pub sent: u64,
    /// Expected answers.
    pub answered: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// By what the cache did, in the order of [`OUTCOMES`].
    pub outcomes: [u64; OUTCOMES.len()],
    /// By what went wrong.
    pub errors: BTreeMap<String, u64>,
    /// From when a request was due until its whole answer was here.
    pub latency: Times,
    /// The same, until the first byte of the answer's body.
    pub first_byte: Times,
    /// From when it was sent until its whole answer was here.
    pub service: Times,
    /// The same of answers that refused the request because there is too much to do: 429 and 503. They are among the errors too.
    pub refused: Times,
    /// How long after it was due, or after a connection was free if that was later, a request was sent: the driver's own fault.
    pub late: Times,
}

impl Tally {
    /// Nothing yet.
    ///
    /// # Errors
    /// As [`Times::new`].
    pub fn new() -> Result<Self> {
        Ok(Self {
            sent: 0,
            answered: 0,
            bytes: 0,
            outcomes: [0; OUTCOMES.len()],
            errors: BTreeMap::new(),
            latency: Times::new()?,
            first_byte: Times::new()?,
            service: Times::new()?,
            refused: Times::new()?,
            late: Times::new()?,
        })
    }

    /// Adds what another thread found.
    ///
    /// # Errors
    /// As [`Times::add`].
    pub fn add(&mut self, other: &Self) -> Result<()> {
        self.sent += other.sent;
        self.answered += other.answered;
        self.bytes += other.bytes;
        for (sum, count) in self.outcomes.iter_mut().zip(other.outcomes) {
            *sum += count;
        }
        for (kind, count) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += count;
        }
        self.latency.add(&other.latency)?;
        self.first_byte.add(&other.first_byte)?;
        self.service.add(&other.service)?;
        self.refused.add(&other.refused)?;
        self.late.add(&other.late)
    }

    /// The report of a run that was to send `scheduled` requests and took `elapsed`.
    pub fn report(&self, scheduled: Option<usize>, elapsed: Duration) -> Report {
        Report {
            scheduled: scheduled.map(|count| count as u64),
            sent: self.sent,
            answered: self.answered,
            bytes: self.bytes,
            seconds: elapsed.as_secs_f64(),
            per_second: self.answered as f64 / elapsed.as_secs_f64().max(1e-9),
            outcomes: OUTCOMES
                .iter()
                .zip(self.outcomes)
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| ((*name).to_owned(), count))
                .collect(),
            errors: self.errors.clone(),
            latency_us: self.latency.summary(),
            first_byte_us: self.first_byte.summary(),
            service_us: self.service.summary(),
            refused: self.refused.count(),
            refused_us: self.refused.summary(),
            late_us: self.late.summary(),
        }
    }
}

/// What a run found, for whoever reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Requests that the schedule had; none for a closed loop.
    pub scheduled: Option<u64>,
    /// Requests sent.
    pub sent: u64,
    /// Expected answers.
    pub answered: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Expected answers a second.
    pub per_second: f64,
    /// Expected answers by what the cache did.
    pub outcomes: BTreeMap<String, u64>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// From due to answered.
    pub latency_us: Option<Summary>,
    /// From due to the first byte of the body.
    pub first_byte_us: Option<Summary>,
    /// From sent to answered.
    pub service_us: Option<Summary>,
    /// Answers that refused the request because there is too much to do.
    #[serde(default)]
    pub refused: u64,
    /// From sent to refused.
    #[serde(default)]
    pub refused_us: Option<Summary>,
    /// How late the driver itself was.
    pub late_us: Option<Summary>,
}

impl Report {
    /// Did every answer come, and did the cache do this with each?
    pub fn is_all(&self, outcome: &str) -> bool {
        self.errors.is_empty() && self.answered > 0 && self.outcomes.get(outcome) == Some(&self.answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut times = Times::new().unwrap();
        assert_eq!(times.summary(), None);
        (1..=1_000).for_each(|micros| times.record(Duration::from_micros(micros)));
        times.record(Duration::from_secs(3_600));
        let summary = times.summary().unwrap();
        assert!((summary.p50 - 501.0).abs() < 2.0, "{summary:?}");
        assert!((summary.p99 - 991.0).abs() < 2.0, "{summary:?}");
        assert!((summary.max / 60e6 - 1.0).abs() < 0.001, "too long a time is the longest: {summary:?}");
    }

    #[test]
    fn threads_add_up() {
        let mut all = Tally::new().unwrap();
        for _ in 0..3 {
            let mut one = Tally::new().unwrap();
            (one.sent, one.answered, one.outcomes[1]) = (3, 2, 2);
            one.latency.record(Duration::from_micros(10));
            *one.errors.entry("status 503".into()).or_default() += 1;
            all.add(&one).unwrap();
        }
        let report = all.report(Some(9), Duration::from_secs(2));
        assert_eq!((report.sent, report.answered, report.errors["status 503"]), (9, 6, 3));
        assert_eq!(report.per_second, 3.0);
        assert!(!report.is_all("exact"), "there were errors");
        all.errors.clear();
        assert!(all.report(None, Duration::from_secs(2)).is_all("exact"));
        assert!(!all.report(None, Duration::from_secs(2)).is_all("miss"));
    }
}
