//! When requests are due, decided before the first one is sent.
//!
//! What it does not do: it waits for nothing and sends nothing (`driver`).
//!
//! **Invariant:** a schedule depends on its seed alone, never on how fast anything answers.
//! **Invariant:** moments never decrease.

use std::time::Duration;

/// How requests follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrivals {
    /// As independent clients send: exponential pauses, so bursts and lulls.
    Poisson,
    /// One exactly every 1 / rate seconds.
    Uniform,
}

/// Moments, as offsets from the beginning.
#[derive(Clone, Debug)]
pub struct Schedule {
    due: Vec<Duration>,
}

impl Schedule {
    /// All moments within `length`, on average `rate` a second.
    pub fn new(arrivals: Arrivals, rate: f64, length: Duration, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut due = Vec::with_capacity((rate * length.as_secs_f64() * 1.1) as usize + 16);
        let mut at = 0.0;
        while let Ok(moment) = Duration::try_from_secs_f64(at)
            && moment < length
        {
            due.push(moment);
            at += match arrivals {
                Arrivals::Uniform => 1.0 / rate,
                Arrivals::Poisson => -random.unit().ln() / rate,
            };
        }
        Self { due }
    }

    /// When the request of that number is due; none beyond the last.
    pub fn due(&self, number: usize) -> Option<Duration> {
        self.due.get(number).copied()
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Is nothing ever due?
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

/// SplitMix64: a few instructions, and the same numbers on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Above 0 and at most 1, so that its logarithm is finite.
    pub fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(schedule: &Schedule) -> Vec<f64> {
        schedule.due.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect()
    }

    #[test]
    fn uniform_pauses_are_equal() {
        let schedule = Schedule::new(Arrivals::Uniform, 2_000.0, Duration::from_secs(1), 1);
        assert!((1_999..=2_001).contains(&schedule.len()), "{}", schedule.len());
        assert!(pauses(&schedule).iter().all(|pause| (pause - 0.0005).abs() < 1e-6));
    }

    /// An exponential distribution's deviation equals its mean; a schedule that is too even would hide queueing.
    #[test]
    fn poisson_pauses_are_exponential() {
        let schedule = Schedule::new(Arrivals::Poisson, 5_000.0, Duration::from_secs(20), 7);
        let pauses = pauses(&schedule);
        let mean = pauses.iter().sum::<f64>() / pauses.len() as f64;
        let variance = pauses.iter().map(|pause| (pause - mean).powi(2)).sum::<f64>() / pauses.len() as f64;
        assert!((mean * 5_000.0 - 1.0).abs() < 0.02, "{mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03, "{variance} {mean}");
    }

    #[test]
    fn the_seed_alone_decides() {
        let of = |seed| Schedule::new(Arrivals::Poisson, 1_000.0, Duration::from_secs(1), seed).due;
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        assert!(of(3).is_sorted());
    }

    #[test]
    fn nothing_is_due_in_no_time() {
        assert!(Schedule::new(Arrivals::Poisson, 1_000.0, Duration::ZERO, 1).is_empty());
    }
}
