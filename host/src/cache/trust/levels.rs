//! Levels of trust: the verifier's score, cut into steps, and how many near hits of each step were right and wrong.
//!
//! A score is a logarithm of odds. What is known of scores, from a calibration or from audits, is counted by level, so that it has a size
//! that does not grow, can be written down, and can be asked for any cut.
//!
//! What it does not do: it knows no bound and no wish; [`super::calibration`] looks for the cut.
//!
//! **Invariant:** a higher score never has a lower level.

use serde::{Deserialize, Serialize};

/// How many there are.
pub const LEVELS: usize = 128;
/// The score at which the second one begins; what is below is in the first.
const LOWEST: f32 = -6.0;
/// Levels of one unit of the score.
const STEPS: f32 = 8.0;

/// A step of the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Level(u8);

impl Level {
    /// The lowest.
    pub const LOWEST: Self = Self(0);

    /// The level of a score.
    pub fn of(score: f32) -> Self {
        let step = ((score - LOWEST) * STEPS).floor() + 1.0;
        // What is no number is trusted least.
        if step >= 0.0 { Self(step.min((LEVELS - 1) as f32) as u8) } else { Self::LOWEST }
    }

    /// The lowest score of the level, for people.
    pub fn score(self) -> f32 {
        LOWEST + (f32::from(self.0) - 1.0) / STEPS
    }

    /// The level of a number, as [`Self::number`] gave it; the highest for one that is too high.
    pub fn at(number: u8) -> Self {
        Self(number.min((LEVELS - 1) as u8))
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0
    }

    fn place(self) -> usize {
        usize::from(self.0).min(LEVELS - 1)
    }
}

/// Right ones and wrong ones by level.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    right: Box<[f64; LEVELS]>,
    wrong: Box<[f64; LEVELS]>,
}

impl Default for Tally {
    fn default() -> Self {
        Self { right: Box::new([0.0; LEVELS]), wrong: Box::new([0.0; LEVELS]) }
    }
}

impl Tally {
    /// Counts one.
    pub fn add(&mut self, level: Level, right: bool) {
        self.add_many(level, f64::from(u8::from(right)), f64::from(u8::from(!right)));
    }

    /// Counts several.
    pub fn add_many(&mut self, level: Level, right: f64, wrong: f64) {
        self.right[level.place()] += right;
        self.wrong[level.place()] += wrong;
    }

    /// Levels that have any, with the right ones and the wrong ones.
    pub fn rows(&self) -> impl Iterator<Item = (Level, f64, f64)> {
        (0..LEVELS)
            .map(|place| (Level(place as u8), self.right[place], self.wrong[place]))
            .filter(|(_, right, wrong)| right + wrong > 0.0)
    }

    /// For each level that has any, the highest first: how many are wrong from it on, and how many there are.
    pub fn from_the_top(&self) -> impl Iterator<Item = (Level, f64, f64)> {
        let (mut of, mut wrong) = (0.0, 0.0);
        (0..LEVELS).rev().filter_map(move |place| {
            let here = self.right[place] + self.wrong[place];
            wrong += self.wrong[place];
            of += here;
            (here > 0.0).then_some((Level(place as u8), wrong, of))
        })
    }

    /// Counts all that another has.
    pub fn merge(&mut self, other: &Self) {
        other.rows().for_each(|(level, right, wrong)| self.add_many(level, right, wrong));
    }

    /// The same, each count so many times.
    #[must_use]
    pub fn scaled(mut self, by: f64) -> Self {
        self.right.iter_mut().chain(self.wrong.iter_mut()).for_each(|count| *count *= by);
        self
    }

    /// How many are wrong at a level, and how many there are.
    pub fn at(&self, level: Level) -> (f64, f64) {
        let (right, wrong) = (self.right[level.place()], self.wrong[level.place()]);
        (wrong, wrong + right)
    }

    /// How many are wrong from a level on, and how many there are.
    pub fn from_level(&self, level: Level) -> (f64, f64) {
        let places = level.place()..LEVELS;
        let wrong: f64 = self.wrong[places.clone()].iter().sum();
        (wrong, wrong + self.right[places].iter().sum::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_keep_the_order_of_scores() {
        let scores = [f32::NEG_INFINITY, -100.0, -6.01, -6.0, -0.1, 0.0, 0.05, 0.13, 4.0, 9.5, 1e9, f32::INFINITY];
        for pair in scores.windows(2) {
            assert!(Level::of(pair[0]) <= Level::of(pair[1]), "{pair:?}");
        }
        assert_eq!(Level::of(f32::NAN), Level::LOWEST);
        for score in [-6.0, -1.0, 0.0, 2.5] {
            assert_eq!(Level::of(score).score(), score);
        }
    }

    #[test]
    fn a_tally_adds_up_from_the_top() {
        let mut tally = Tally::default();
        for (score, right) in [(1.0, true), (1.0, false), (2.0, true), (-9.0, false)] {
            tally.add(Level::of(score), right);
        }
        assert_eq!(tally.from_level(Level::of(2.0)), (0.0, 1.0));
        assert_eq!(tally.from_level(Level::of(1.0)), (1.0, 3.0));
        assert_eq!(tally.from_the_top().last(), Some((Level::LOWEST, 2.0, 4.0)));
        assert_eq!(tally.rows().count(), 3);
        assert_eq!(tally.from_the_top().find(|(level, ..)| *level == Level::of(1.0)), Some((Level::of(1.0), 1.0, 3.0)));
    }
}
