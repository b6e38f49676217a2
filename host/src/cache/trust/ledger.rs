//! The ledger of one tenant, or of one partition that has lost its credit: what audits have said, and the cut that follows.
//!
//! With a calibration it starts warm: the cut is the lowest at which Wilson's bound on the calibration holds, a sample whose size was
//! settled before anybody looked. Audits are looked at after each of them, so all that follows from them rests on bounds that hold at any
//! time: they may open a lower cut, together with the calibration, and where hits that were audited here are wrong so often that
//! the calibration cannot be of this traffic, it is dropped.
//!
//! Without one, or after that, it starts cold: nothing is served until audits of near misses, which cost no call since the fresh answer comes
//! anyway, have shown a cut that holds. Each cut that may be chosen is a bet of its own, so the chance of being ruined is shared among
//! them. A ledger that stands on its own audits alone goes on to audit more than the owner asks for, until it knows enough.
//!
//! What it does not do: it takes no sample; which near hits are audited is decided in [`super`].
//!
//! **Invariant:** at each moment all near hits of the ledger's scope are audited with the same chance, so its counts are a fair sample.
//! **Invariant:** a cut is there only while its bound holds.

use super::bound::{at_any_time, distrust, wealth, wilson};
use super::calibration::Calibration;
use super::levels::{LEVELS, Level, Tally};

/// How often a bound may be wrong: its confidence is 95 %.
pub const ALPHA: f64 = 0.05;
/// Cuts that are chosen among by audits are so many levels apart.
const APART: u8 = 4;
/// No cold cut before so many audits, however good they look.
const LEAST: f64 = 50.0;
/// So many audits are as many as a ledger without a calibration wants before it leaves it at the owner's share.
const ENOUGH: f64 = 1_000.0;
/// The largest share of hits that it audits until then: each costs a call, so half of what it serves is saved all the same.
const MOST: f64 = 0.5;

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

    /// The share of near hits that is to be audited, where the owner asks for this one. Where nothing is served every fresh answer
    /// comes anyway, and each says something.
    pub fn chance(&self, calibration: Option<&Calibration>, asked: f64) -> f64 {
        match self.cut {
            None => 1.0,
            Some(_) if self.is_warm(calibration) || asked <= 0.0 => asked,
            Some(_) => (ENOUGH / self.audits().0).min(MOST).max(asked),
        }
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
        let warm = calibration.filter(|_| !self.disowned);
        let known = warm.and_then(|calibration| calibration.cut(wrong_hits));
        let found = self.found(warm, wrong_hits);
        self.cut = known.into_iter().chain(found).min();
    }

    /// The lowest cut that audits, and a calibration before them, have shown to hold at any time.
    fn found(&self, warm: Option<&Calibration>, wrong_hits: f64) -> Option<Level> {
        let all = self.evidence(warm);
        let ruin = -(ALPHA / cuts(warm)).ln();
        let (mut wrong, mut of, mut lowest) = (0.0, 0.0, None);
        for level in (0..LEVELS as u8).rev().map(Level::at) {
            let here = all.at(level);
            (wrong, of) = (wrong + here.0, of + here.1);
            let is_bet = level.number().is_multiple_of(APART) && of >= LEAST && wrong <= wrong_hits * of;
            if is_bet && wealth(wrong, of, wrong_hits) >= ruin {
                lowest = Some(level);
            }
        }
        lowest
    }

    fn evidence(&self, warm: Option<&Calibration>) -> Tally {
        let mut all = warm.map(|calibration| calibration.tally.clone()).unwrap_or_default();
        all.merge(&self.audits);
        all
    }

    /// The bound at the cut; where there is none, at the cut where it is lowest. It holds whenever it is looked at: Wilson's is that of
    /// a sample that grows no more, and each of the two has half of the chance to be wrong.
    pub fn bound(&self, calibration: Option<&Calibration>) -> Bound {
        let warm = calibration.filter(|_| !self.disowned);
        let all = self.evidence(warm);
        let bound = |level: Level| {
            let (wrong, of) = all.from_level(level);
            let growing = at_any_time(wrong, of, ALPHA / cuts(warm));
            let settled = warm.map_or(1.0, |calibration| {
                let (wrong, of) = calibration.tally.from_level(level);
                wilson(wrong, of)
            });
            Bound { upper: growing.min(settled), of, wrong }
        };
        let lowest = || all.rows().map(|(level, ..)| bound(level)).min_by(|a, b| a.upper.total_cmp(&b.upper));
        self.cut.map(bound).or_else(lowest).unwrap_or(Bound { upper: 1.0, of: 0.0, wrong: 0.0 })
    }

    /// Was the calibration found not to be of this traffic?
    pub fn has_disowned(&self) -> bool {
        self.disowned
    }
}

/// How many bets there are: one for each cut that audits choose among. Beside a calibration they have half of the chance to be wrong.
fn cuts(warm: Option<&Calibration>) -> f64 {
    (LEVELS / usize::from(APART)) as f64 * if warm.is_some() { 2.0 } else { 1.0 }
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
        assert!(bound.upper <= 0.05, "{bound:?}");
    }

    /// A cut that is found early would stay where it is for very long, were the owner's share all that is audited from then on.
    #[test]
    fn without_a_calibration_more_is_audited_at_first() {
        let warm = calibration();
        assert_eq!(Ledger::new(Some(&warm), 0.05).chance(Some(&warm), 0.05), 0.05);
        let mut cold = Ledger::new(None, 0.05);
        assert_eq!((cold.chance(None, 0.05), cold.chance(None, 0.0)), (1.0, 1.0), "a near miss costs no call");
        feed(&mut cold, None, 0.05, 1_000, |_| 0.001, 5);
        assert!(cold.cut().is_some());
        assert_eq!((cold.chance(None, 0.05), cold.chance(None, 0.0)), (MOST, 0.0));
        feed(&mut cold, None, 0.05, 4_000, |_| 0.001, 6);
        assert!((cold.chance(None, 0.05) - 0.2).abs() < 1e-9 && cold.chance(None, 0.3) == 0.3);
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
