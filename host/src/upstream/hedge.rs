//! Hedging: a request that has no answer after a while is sent to a second endpoint too, and the first answer wins.
//!
//! The while is fixed, or the time within which 95 of 100 of the pool's answers have begun, so that what is hedged is the slow
//! end whatever the model. A budget keeps what it adds small even when all endpoints are slow.
//!
//! **Invariant:** no hedge is made beyond the budget, nor by a percentile before the pool has answered [`KNOWN`] requests.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Answers before which nothing is known of a pool.
const KNOWN: u32 = 20;
/// Answers after which older ones count half.
const REMEMBERS: u32 = 2_048;
/// Eight buckets an octave, from a millisecond to a quarter of an hour: within 9 % of the value.
const BUCKETS: usize = 160;
const PER_OCTAVE: f32 = 8.0;

/// When a second endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// When so many of 100 answers would have begun.
    Percentile(u8),
    /// So long after the first was asked.
    Fixed(Duration),
}

/// How long a pool's answers took to begin, of late.
pub struct Begins {
    buckets: [AtomicU32; BUCKETS],
    all: AtomicU32,
}

impl Default for Begins {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU32::new(0)), all: AtomicU32::new(0) }
    }
}

impl Begins {
    /// An answer has begun after so long.
    pub fn observe(&self, took: Duration) {
        let octaves = (took.as_secs_f32() * 1e3).max(1.0).log2();
        let bucket = ((octaves * PER_OCTAVE) as usize).min(BUCKETS - 1);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        if self.all.fetch_add(1, Ordering::Relaxed) + 1 >= REMEMBERS {
            // What another core adds meanwhile may be lost; a percentile does not mind.
            let halves = self.buckets.iter().map(|bucket| {
                let half = bucket.load(Ordering::Relaxed) / 2;
                bucket.store(half, Ordering::Relaxed);
                half
            });
            self.all.store(halves.sum(), Ordering::Relaxed);
        }
    }

    /// The time within which so many of 100 answers have begun; none before enough is known.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let all = self.all.load(Ordering::Relaxed);
        if all < KNOWN {
            return None;
        }
        let rank = (u64::from(all) * u64::from(percent)).div_ceil(100);
        let mut sum = 0;
        let bucket = self.buckets.iter().position(|bucket| {
            sum += u64::from(bucket.load(Ordering::Relaxed));
            sum >= rank
        })?;
        Some(Duration::from_secs_f32(((bucket + 1) as f32 / PER_OCTAVE).exp2() / 1e3))
    }

    /// Has an answer that has not begun after so long very likely none to come? Several times as long as hardly any takes.
    pub fn is_overdue(&self, waited: Duration) -> bool {
        const TIMES: u32 = 3;
        self.percentile(99).is_some_and(|slow| waited > slow * TIMES)
    }

    /// How long to wait for a first answer.
    pub fn wait(&self, after: After) -> Option<Duration> {
        match after {
            After::Fixed(wait) => Some(wait),
            After::Percentile(percent) => self.percentile(percent),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_near_the_truth_and_follow_it() {
        let begins = Begins::default();
        (0..19).for_each(|_| begins.observe(Duration::from_millis(100)));
        assert_eq!(begins.percentile(95), None);
        assert!(!begins.is_overdue(Duration::from_secs(100)), "nothing is known");
        for index in 0..1_000 {
            begins.observe(Duration::from_millis(if index % 50 == 0 { 5_000 } else { 100 + index % 20 }));
        }
        let p95 = begins.percentile(95).unwrap().as_millis();
        assert!((110..=130).contains(&p95), "{p95}");
        assert!(begins.percentile(99).unwrap() > Duration::from_secs(4));
        assert!(!begins.is_overdue(Duration::from_secs(12)) && begins.is_overdue(Duration::from_secs(20)));
        (0..20_000).for_each(|_| begins.observe(Duration::from_millis(400)));
        let p50 = begins.percentile(50).unwrap().as_millis();
        assert!((400..=440).contains(&p50), "{p50}");
        begins.observe(Duration::from_secs(100_000));
    }
}
