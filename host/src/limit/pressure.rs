//! Pressure on a pool: one number from 0 to 1, of what can be seen of it.
//!
//! It is the larger of two shares. Endpoints that are out of service count at once: who is dead is dead. The line before the pool is a
//! mean over the last seconds: a burst that fills it for a moment is what it is there for.
//!
//! Batch does not count: it waits and is sent away by design, and whoever is more urgent goes past it.
//!
//! **Invariant:** what it comes to depends on what it was shown, and when; on nothing else.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

/// How long ago what was seen counts for a third.
const MEAN: Duration = Duration::from_secs(2);

/// A pool at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// Its endpoints.
    pub endpoints: u32,
    /// Those that are left alone, or on probation.
    pub out: u32,
    /// How much of its line is taken by requests other than batch, 0 to 1.
    pub line: f32,
    /// Requests other than batch that were sent away so far.
    pub refused: u64,
    /// No endpoint may have another request.
    pub full: bool,
}

/// Pressure, by what makes it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// The share of endpoints that are not in service.
    pub outage: f32,
    /// The share of the line that is taken, as a mean.
    pub load: f32,
}

impl Pressure {
    /// The number.
    pub fn get(self) -> f32 {
        self.outage.max(self.load)
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f32| (share * 100.0).round();
        if self.outage >= self.load {
            write!(out, "{}% of its endpoints are out of service", percent(self.outage))
        } else {
            write!(out, "its line was {}% full, of late", percent(self.load))
        }
    }
}

/// Keeps the mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    load: f32,
    refused: u64,
    last: Option<Instant>,
}

impl Meter {
    /// Pressure now.
    pub fn measure(&mut self, seen: Seen, now: Instant) -> Pressure {
        if let Some(last) = self.last {
            // A gate that a reload has made anew counts from 0 again.
            let is_over = seen.full || seen.refused > self.refused;
            let busy = if is_over { 1.0 } else { seen.line.clamp(0.0, 1.0) };
            let weight = 1.0 - (-now.saturating_duration_since(last).as_secs_f32() / MEAN.as_secs_f32()).exp();
            self.load += (busy - self.load) * weight;
        }
        (self.refused, self.last) = (seen.refused, Some(now));
        let hundredths = |share: f32| (share * 100.0).round() / 100.0;
        let outage = seen.out as f32 / seen.endpoints.max(1) as f32;
        Pressure { outage: hundredths(outage), load: hundredths(self.load) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);

    /// What it comes to after each of these, a tick apart.
    fn run(seen: impl IntoIterator<Item = Seen>) -> Vec<f32> {
        let (mut meter, mut now) = (Meter::default(), Instant::now());
        seen.into_iter()
            .map(|seen| {
                now += TICK;
                meter.measure(seen, now).get()
            })
            .collect()
    }

    #[test]
    fn an_outage_counts_at_once() {
        let out = |out| Seen { endpoints: 3, out, ..Seen::default() };
        assert_eq!(run([out(0), out(1), out(2), out(3), out(0)]), [0.0, 0.33, 0.67, 1.0, 0.0]);
    }

    #[test]
    fn a_burst_counts_little_and_what_stays_counts_all() {
        let line = |line| Seen { endpoints: 1, line, ..Seen::default() };
        let burst = run([line(0.0), line(1.0), line(1.0), line(0.0), line(0.0)]);
        assert!(burst.iter().all(|pressure| *pressure < 0.3), "{burst:?}");
        let stays = run(std::iter::repeat_n(line(1.0), 60));
        assert!(stays.windows(2).all(|pair| pair[0] <= pair[1]), "{stays:?}");
        let reaches = |share: f32| stays.iter().position(|pressure| *pressure >= share).unwrap() as f32 * TICK.as_secs_f32();
        assert!((1.0..2.0).contains(&reaches(0.5)) && (4.0..6.0).contains(&reaches(0.9)), "{stays:?}");
        assert_eq!(*stays.last().unwrap(), 1.0);
        assert_eq!(*run(std::iter::repeat_n(line(0.4), 60)).last().unwrap(), 0.4, "and no more than it is");
    }

    #[test]
    fn who_is_sent_away_means_that_it_is_full() {
        let refused = |refused| Seen { endpoints: 1, refused, ..Seen::default() };
        assert_eq!(run([refused(1_000), refused(1_000)]), [0.0, 0.0], "what was before is no news");
        assert!(run([refused(0), refused(1), refused(2)])[2] > 0.2);
        assert_eq!(run([refused(7), refused(0), refused(0)]), [0.0; 3], "a gate made anew");
        let full = Seen { endpoints: 1, full: true, ..Seen::default() };
        assert_eq!(*run(std::iter::repeat_n(full, 60)).last().unwrap(), 1.0);
    }
}
