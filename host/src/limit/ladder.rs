//! The levels, and when one is entered and left.
//!
//! Up at once, as many steps as pressure asks for; down one step at a time, each after pressure has been well below the level's
//! threshold for a while. So what the level itself has relieved does not end it, and begin it again.
//!
//! What it does not do: it does not say what a level means for a request (`gateway::degrade`).
//!
//! **Invariant:** a level includes all before it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::config;

/// How far answers are degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Not at all.
    #[default]
    Full,
    /// What is cached is served though something newer was asked for.
    Cached,
    /// Of several models that may answer, the cheaper do.
    Small,
    /// What was cached and is too old is better than nothing.
    Stale,
    /// Batch is refused.
    Shed,
}

impl Level {
    /// All, in their order.
    pub const ALL: [Self; 5] = [Self::Full, Self::Cached, Self::Small, Self::Stale, Self::Shed];

    /// The name in headers, metrics and the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Cached => "cached",
            Self::Small => "small",
            Self::Stale => "stale",
            Self::Shed => "shed",
        }
    }
}

/// When levels are entered and left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// The pressure at which each level after `full` is entered; none is lower than the one before it.
    enter: [f32; 4],
    /// The share of it below which the level may be left.
    leave: f32,
    /// After how long.
    hold: Duration,
}

impl From<&config::Degrade> for Rules {
    fn from(degrade: &config::Degrade) -> Self {
        let enter = [degrade.cached, degrade.small, degrade.stale, degrade.shed].map(|share| share as f32);
        Self { enter, leave: degrade.leave as f32, hold: degrade.hold.get() }
    }
}

/// Where one pool stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ladder {
    level: Level,
    calm_since: Option<Instant>,
}

impl Ladder {
    /// The level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Goes up or down. Gives back the level before, where it is another now.
    pub fn step(&mut self, rules: &Rules, pressure: f32, now: Instant) -> Option<Level> {
        let before = self.level;
        let asked = Level::ALL[rules.enter.iter().filter(|threshold| pressure >= **threshold).count()];
        if asked > before {
            *self = Self { level: asked, calm_since: None };
            return Some(before);
        }
        let below = (before as usize).checked_sub(1)?;
        if pressure >= rules.enter[below] * rules.leave {
            self.calm_since = None;
            return None;
        }
        if now.saturating_duration_since(*self.calm_since.get_or_insert(now)) < rules.hold {
            return None;
        }
        *self = Self { level: Level::ALL[below], calm_since: Some(now) };
        Some(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { enter: [0.5, 0.7, 0.8, 0.9], leave: 0.7, hold: Duration::from_secs(10) };

    /// Levels of a pool that is under these pressures for so many seconds each, as (second, level) where they change.
    fn run(pressures: &[(u32, f32)]) -> Vec<(u32, Level)> {
        let (mut ladder, start, mut changes) = (Ladder::default(), Instant::now(), Vec::new());
        let mut second = 0;
        for (seconds, pressure) in pressures {
            for _ in 0..*seconds {
                let before = ladder.level();
                if let Some(told) = ladder.step(&RULES, *pressure, start + Duration::from_secs(second.into())) {
                    assert_eq!(told, before);
                    changes.push((second, ladder.level()));
                }
                second += 1;
            }
        }
        changes
    }

    #[test]
    fn up_at_once_and_as_far_as_pressure_asks() {
        assert_eq!(run(&[(60, 0.49)]), []);
        for (pressure, level) in [(0.5, Level::Cached), (0.7, Level::Small), (0.89, Level::Stale), (1.0, Level::Shed)] {
            assert_eq!(run(&[(5, 0.0), (1, pressure)]), [(5, level)], "{pressure}");
        }
        assert_eq!(run(&[(3, 0.6), (3, 0.75), (3, 0.6)]), [(0, Level::Cached), (3, Level::Small)]);
    }

    #[test]
    fn down_step_by_step_after_calm() {
        use Level::{Cached, Full, Shed, Small, Stale};
        assert_eq!(run(&[(1, 1.0), (100, 0.0)]), [(0, Shed), (11, Stale), (21, Small), (31, Cached), (41, Full)]);
        // Below the threshold and not well below it: the level stays. 0.6 is calm for `shed`, whose line is 0.63, and not for `stale`.
        assert_eq!(run(&[(1, 1.0), (100, 0.65)]), [(0, Shed)]);
        assert_eq!(run(&[(1, 1.0), (100, 0.6)]), [(0, Shed), (11, Stale)]);
    }

    #[test]
    fn calm_that_is_broken_begins_anew() {
        assert_eq!(run(&[(1, 0.5), (9, 0.0), (1, 0.4), (10, 0.0)]), [(0, Level::Cached)]);
        assert_eq!(run(&[(1, 0.5), (9, 0.0), (1, 0.4), (11, 0.0)]), [(0, Level::Cached), (21, Level::Full)]);
        // Pressure that comes and goes does not make the level do so.
        let swings: Vec<(u32, f32)> = [(4, 1.0), (4, 0.0)].repeat(20);
        assert_eq!(run(&swings), [(0, Level::Shed)]);
    }
}
