//! The ledger of one tenant, or of one partition that has lost its credit: what audits have said, and the cut that follows.
//!
//! With a calibration it starts warm: the calibration's counts stand in it as if they had been audited here, and the cut is the lowest at
//! which Wilson's bound on all of them holds. Audits then move it. If hits that were audited here are wrong so often that the calibration
//! cannot be of this traffic, it is dropped.
//!
//! Without one, or after that, it starts cold: nothing is served until audits of near misses, which cost no call since the fresh answer comes
//! anyway, have shown a cut at which the bound that holds at any time holds. Each cut that may be chosen is a bet of its own, so the chance of
//! being ruined is shared among them.
//!
//! What it does not do: it takes no sample; which near hits are audited is decided in [`super`].
//!
//! **Invariant:** at each moment all near hits of the ledger's scope are audited with the same chance, so its counts are a fair sample.
//! **Invariant:** a cut is there only while its bound holds.

use super::bound::{at_any_time, distrust, wealth, wilson};
use super::calibration::{Calibration, cut};
use super::levels::{LEVELS, Level, Tally};

/// How often a bound may be wrong: its confidence is 95 %.
pub const ALPHA: f64 = 0.05;
/// Cuts that a cold ledger chooses among are so many levels apart.
const APART: u8 = 4;
/// No cold cut before so many audits, however good they look.
const LEAST: f64 = 50.0;

/// What audits have said, and what follows.
#[derive(Debug, Default)]
pub struct Ledger {
    audits: Tally,
    /// The cut; none: nothing is served.
    cut: Option<Level>,
    /// The calibration was found not to be of this traffic.
    disowned: bool,
    /// Hits that were audited since the calibration was believed: how many were wrong, and how many there were.
    hits: (f64, f64),
}

/// A bound, and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// At most this share of the hits is wrong, with 95 % confidence.
    pub upper: f64,
    /// Near hits at this cut that were looked at, the calibration's among them.
    pub of: f64,
    /// Those of them that were wrong.
    pub wrong: f64,
    /// It holds whenever it is looked at.
    pub at_any_time: bool,
}

impl Ledger {
    /// A ledger that knows no more than a calibration says.
    pub fn new(calibration: Option<&Calibration>, wrong_hits: f64) -> Self {
        let mut ledger = Self::default();
        ledger.recut(calibration, wrong_hits);
        ledger
    }

    /// The cut; none: nothing is served.
    pub fn cut(&self) -> Option<Level> {
        self.cut
    }

    /// Audits so far, and how many of them found something wrong.
    pub fn audits(&self) -> (f64, f64) {
        let (wrong, of) = self.audits.from_level(Level::LOWEST);
        (of, wrong)
    }

    /// Is a calibration among its evidence?
    fn is_warm(&self, calibration: Option<&Calibration>) -> bool {
        calibration.is_some() && !self.disowned
    }

    /// Counts an audit. `hit`: it had been served.
    pub fn audited(&mut self, calibration: Option<&Calibration>, wrong_hits: f64, level: Level, hit: bool, right: bool) {
        self.audits.add(level, right);
        if hit {
            self.hits.1 += 1.0;
            self.hits.0 += f64::from(u8::from(!right));
            if self.is_warm(calibration) && distrust(self.hits.0, self.hits.1, wrong_hits) >= -ALPHA.ln() {
                self.disowned = true;
            }
        }
        self.recut(calibration, wrong_hits);
    }

    /// Looks for the cut anew: evidence or the wish has changed.
    pub fn recut(&mut self, calibration: Option<&Calibration>, wrong_hits: f64) {
        self.cut = match calibration.filter(|_| !self.disowned) {
            Some(calibration) => {
                let mut all = calibration.tally.clone();
                all.merge(&self.audits);
                cut(&all, wrong_hits)
            }
            None => self.cold_cut(wrong_hits),
        };
    }

    fn cold_cut(&self, wrong_hits: f64) -> Option<Level> {
        let ruin = -(ALPHA / cold_cuts()).ln();
        let holds = |level: &Level| {
            let (wrong, of) = self.audits.from_level(*level);
            of >= LEAST && wealth(wrong, of, wrong_hits) >= ruin
        };
        (0..LEVELS as u8).step_by(APART.into()).map(Level::at).find(holds)
    }

    /// The bound at the cut; where there is none, at the cut where it is lowest.
    pub fn bound(&self, calibration: Option<&Calibration>) -> Bound {
        let warm = calibration.filter(|_| !self.disowned);
        let mut all = warm.map(|calibration| calibration.tally.clone()).unwrap_or_default();
        all.merge(&self.audits);
        let bound = |wrong, of| match warm {
            Some(_) => Bound { upper: wilson(wrong, of), of, wrong, at_any_time: false },
            None => Bound { upper: at_any_time(wrong, of, ALPHA / cold_cuts()), of, wrong, at_any_time: true },
        };
        match self.cut {
            Some(cut) => {
                let (wrong, of) = all.from_level(cut);
                bound(wrong, of)
            }
            None => {
                let bounds = all.from_the_top().map(|(_, wrong, of)| bound(wrong, of));
                bounds.min_by(|a, b| a.upper.total_cmp(&b.upper)).unwrap_or_else(|| bound(0.0, 0.0))
            }
        }
    }

    /// Was the calibration found not to be of this traffic?
    pub fn has_disowned(&self) -> bool {
        self.disowned
    }
}

fn cold_cuts() -> f64 {
    (LEVELS / usize::from(APART)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Calibration {
        let mut tally = Tally::default();
        for (score, right, wrong) in [(4.0, 480.0, 4.0), (2.0, 460.0, 20.0), (0.0, 300.0, 100.0)] {
            tally.add_many(Level::of(score), right, wrong);
        }
        Calibration { embedder: "m".into(), requests: 9_000, tally }
    }

    /// Audits of traffic in which this share of the near hits at each score is wrong.
    fn feed(ledger: &mut Ledger, warm: Option<&Calibration>, wish: f64, many: usize, wrong: impl Fn(f32) -> f64, seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..many {
            let score = random.f32() * 8.0 - 2.0;
            let level = Level::of(score);
            let hit = ledger.cut().is_some_and(|cut| level >= cut);
            let right = random.f64() >= wrong(score);
            ledger.audited(warm, wish, level, hit, right);
        }
    }

    #[test]
    fn warm_serves_at_once_and_cold_not_before_it_knows() {
        let warm = calibration();
        assert_eq!(Ledger::new(Some(&warm), 0.05).cut(), Some(Level::of(2.0)));
        assert_eq!(Ledger::new(Some(&warm), 0.001).cut(), None);
        let mut cold = Ledger::new(None, 0.05);
        assert_eq!(cold.cut(), None);
        let wrong = |score: f32| if score > 1.0 { 0.01 } else { 0.6 };
        feed(&mut cold, None, 0.05, 40, wrong, 1);
        assert_eq!(cold.cut(), None, "forty audits say nothing");
        feed(&mut cold, None, 0.05, 2_000, wrong, 2);
        let cut = cold.cut().expect("it knows now").score();
        assert!((0.4..3.0).contains(&cut), "{cut}");
        let bound = cold.bound(None);
        assert!(bound.upper <= 0.05 && bound.at_any_time, "{bound:?}");
    }

    #[test]
    fn a_calibration_that_is_not_of_this_traffic_is_dropped() {
        let warm = calibration();
        let mut ledger = Ledger::new(Some(&warm), 0.05);
        feed(&mut ledger, Some(&warm), 0.05, 400, |_| 0.5, 3);
        assert!(ledger.cut().is_none(), "{:?}", ledger.bound(Some(&warm)));
        // And where traffic becomes better than it was, it comes back by its own audits.
        feed(&mut ledger, Some(&warm), 0.05, 60_000, |_| 0.005, 4);
        assert!(ledger.cut().is_some(), "{:?}", ledger.bound(Some(&warm)));
    }

    /// The promise itself: over many cold starts, hits are wrong more often than allowed in no more than one of twenty.
    #[test]
    fn cold_starts_keep_the_promise() {
        let wish = 0.05;
        // The best cut is just not good enough anywhere: whoever opens is wrong.
        let broken = (0..60).filter(|seed| {
            let mut ledger = Ledger::new(None, wish);
            let mut random = fastrand::Rng::with_seed(100 + seed);
            (0..3_000).any(|_| {
                let level = Level::of(random.f32() * 6.0 - 1.0);
                ledger.audited(None, wish, level, false, random.f64() >= 0.055);
                ledger.cut().is_some()
            })
        });
        assert!(broken.count() <= 3);
    }
}
