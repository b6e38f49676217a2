//! What a version has done, as numbers that two versions can be compared by.
//!
//! What it does not do: it judges nothing (`judge`).
//!
//! **Invariant:** sums only grow, and wrap: what happened between two looks is their difference, whatever came before.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::numbers::{Count, TIME_BOUNDS_US, Times};
use crate::plugin::hooks::Cause;
use crate::plugin::numbers::Numbers;

/// The most samples of the past that are kept; a window is as exact as one part of so many.
const SAMPLES: u32 = 30;

/// A micro-US-dollar amount above this counts as this: 67 dollars for one exchange. Its square, in exchanges of one window, fits.
const DEAREST: u64 = 1 << 26;

/// How an exchange ended, for the versions that had to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The client got an answer, or what a plugin has let pass of it.
    Well,
    /// It got an error that a plugin may have caused, or has decided on.
    Failed,
    /// It got an error that says how an upstream fares, whoever sent the request there.
    FailedUpstream,
}

/// What exchanges came to in which a version had its part.
#[derive(Debug, Default)]
pub struct Exchanges {
    count: Count,
    errors: Count,
    upstream: Count,
    cost: Count,
    squares: Count,
}

impl Exchanges {
    /// Counts one, with what it has cost in micro-US-dollars.
    pub fn note(&self, fate: Fate, cost: u64) {
        let cost = cost.min(DEAREST);
        self.count.add(1);
        self.errors.add(u64::from(fate != Fate::Well));
        self.upstream.add(u64::from(fate == Fate::FailedUpstream));
        self.cost.add(cost);
        self.squares.add(cost * cost);
    }
}

/// Sums since a version was loaded, or between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Calls of hooks, those that failed among them.
    pub calls: u64,
    /// Those that trapped, exceeded their memory, or answered with an error or what the contract does not allow.
    pub failed: u64,
    /// Those that missed their deadline.
    pub late: u64,
    /// Calls by how long they took, in the buckets of [`TIME_BOUNDS_US`] and one beyond.
    pub times: [u64; TIME_BOUNDS_US.len() + 1],
    /// Exchanges.
    pub exchanges: u64,
    /// Those that ended in an error.
    pub errors: u64,
    /// Those of them whose error was an upstream's.
    pub upstream: u64,
    /// What they cost, in micro-US-dollars.
    pub cost: u64,
    /// Its squares.
    pub squares: u64,
}

impl Figures {
    /// What a version's numbers are now.
    pub fn of(numbers: &Numbers) -> Self {
        let mut times = [0; TIME_BOUNDS_US.len() + 1];
        for counts in numbers.calls.iter().map(Times::counts) {
            times.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        let failures = |causes: &[Cause]| causes.iter().map(|cause| numbers.failures[*cause as usize].get()).sum();
        let Exchanges { count, errors, upstream, cost, squares } = &numbers.exchanges;
        Self {
            calls: times.iter().sum(),
            failed: failures(&[Cause::Trap, Cause::Memory, Cause::Error, Cause::Output]),
            late: failures(&[Cause::Deadline]),
            times,
            exchanges: count.get(),
            errors: errors.get(),
            upstream: upstream.get(),
            cost: cost.get(),
            squares: squares.get(),
        }
    }

    /// What has happened since an earlier look.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            calls: self.calls.wrapping_sub(earlier.calls),
            failed: self.failed.wrapping_sub(earlier.failed),
            late: self.late.wrapping_sub(earlier.late),
            times: std::array::from_fn(|bucket| self.times[bucket].wrapping_sub(earlier.times[bucket])),
            exchanges: self.exchanges.wrapping_sub(earlier.exchanges),
            errors: self.errors.wrapping_sub(earlier.errors),
            upstream: self.upstream.wrapping_sub(earlier.upstream),
            cost: self.cost.wrapping_sub(earlier.cost),
            squares: self.squares.wrapping_sub(earlier.squares),
        }
    }

    /// So large a share of the calls, 0 to 1, took no longer than this, in microseconds: between a bucket's bounds on the straight line.
    /// None without calls; what lies beyond all bounds took as long as the last.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let rank = self.calls as f64 * share;
        let (mut sum, mut from) = (0.0, 0.0);
        for (count, bound) in self.times.iter().zip(TIME_BOUNDS_US) {
            let (count, to) = (*count as f64, bound as f64);
            if count > 0.0 && sum + count >= rank {
                return Some(from + (to - from) * ((rank - sum) / count).clamp(0.0, 1.0));
            }
            (sum, from) = (sum + count, to);
        }
        (self.calls > 0).then_some(from)
    }

    /// What an exchange cost in the mean, in micro-US-dollars; and the variance of that.
    pub fn mean_cost(&self) -> Option<(f64, f64)> {
        let count = self.exchanges as f64;
        let mean = (self.exchanges > 0).then(|| self.cost as f64 / count)?;
        Some((mean, (self.squares as f64 / count - mean * mean).max(0.0)))
    }
}

/// Looks at the figures of a version, the oldest first.
#[derive(Debug, Default)]
pub struct Past(Mutex<VecDeque<(Instant, Figures)>>);

impl Past {
    /// Notes a look; `at_once`: also where the last one was a moment ago. What is older than the window goes, but for one.
    pub fn note(&self, now: Instant, figures: Figures, window: Duration, at_once: bool) {
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !at_once && past.back().is_some_and(|(last, _)| now.saturating_duration_since(*last) < window / SAMPLES) {
            return;
        }
        past.push_back((now, figures));
        while past.len() > 2 && now.saturating_duration_since(past[1].0) >= window {
            past.pop_front();
        }
    }

    /// The first look at or after a moment; and when it was.
    pub fn from(&self, moment: Instant) -> Option<(Instant, Figures)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|(at, _)| *at >= moment).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let mut figures = Figures { calls: 100, ..Figures::default() };
        assert_eq!(figures.quantile(0.9), Some(0.0_f64.max(TIME_BOUNDS_US[15] as f64)));
        figures.times[3] = 80;
        figures.times[6] = 20;
        // A half of the second bucket's calls below: from 500 to 1,000 µs.
        assert_eq!(figures.quantile(0.9), Some(750.0));
        assert_eq!(figures.quantile(0.4), Some(75.0));
        assert_eq!(Figures::default().quantile(0.9), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_past_is_a_window_long() {
        let (past, window) = (Past::default(), Duration::from_secs(30));
        let began = Instant::now();
        for second in 0..100 {
            past.note(Instant::now(), Figures { calls: second, ..Figures::default() }, window, false);
            past.note(Instant::now(), Figures::default(), window, false);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let oldest = past.from(began).unwrap();
        assert!((65..=70).contains(&oldest.1.calls), "{oldest:?}");
        assert_eq!(past.from(began + Duration::from_secs(90)).unwrap().1.calls, 90);
        assert_eq!(past.from(Instant::now()), None);
    }
}
