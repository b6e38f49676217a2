//! Graceful degradation: which pool is at which level. A pool's level is no other pool's: where one provider is out, the models of the
//! others answer as ever.
//!
//! Every quarter of a second the steward looks at the pools (`limit` says what that comes to), and puts the levels where exchanges find
//! them. While all is well that is an empty place, which costs an exchange one load. What a level does to an exchange is told in
//! [`effects`].
//!
//! **Invariant:** an exchange sees one set of levels, from its beginning to its end.
//! **Invariant:** without `[degrade]` nothing is measured, and no level is ever other than `full`.

pub(super) mod effects;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::Gateway;
use super::state::State;
use crate::limit::ladder::{Ladder, Level, Rules};
use crate::limit::pressure::{Meter, Pressure, Seen};
use crate::numbers::Count;
use crate::upstream::breaker::Standing;
use crate::upstream::pool::Pool;

/// How often pools are looked at.
const TICK: Duration = Duration::from_millis(250);

/// The levels of all pools, and how they came about.
#[derive(Default)]
pub struct Degrade {
    /// None while every pool is at `full`.
    levels: ArcSwapOption<Levels>,
    watched: Mutex<Watched>,
    changed: Notify,
    /// Exchanges whose answer was another one because of a level, by level.
    pub counts: [Count; Level::ALL.len()],
}

#[derive(Default)]
struct Watched {
    pools: BTreeMap<String, Watch>,
    /// Where the administrator has said a level himself.
    pinned: Option<Level>,
}

#[derive(Default)]
struct Watch {
    meter: Meter,
    ladder: Ladder,
    pressure: Pressure,
    shown: Level,
}

/// The level of each pool that is not at `full`, by the provider's name.
#[derive(Debug)]
pub struct Levels(BTreeMap<String, Level>);

impl Levels {
    /// A pool's.
    pub fn of(&self, pool: &Pool) -> Level {
        self.0.get(pool.name()).copied().unwrap_or_default()
    }

    /// Is any pool at this level, or beyond?
    fn any(&self, level: Level) -> bool {
        self.0.values().any(|of| *of >= level)
    }
}

/// What the administrator sees of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The level in force.
    pub level: Level,
    /// The one that pressure asks for, where another is pinned.
    pub measured: Level,
    /// What it is under.
    pub pressure: Pressure,
}

impl Degrade {
    /// The levels; none where every pool is at `full`.
    pub fn levels(&self) -> Option<Arc<Levels>> {
        self.levels.load_full()
    }

    /// Every pool at this level, whatever it is under; none: as measured again.
    pub fn pin(&self, level: Option<Level>) {
        let mut watched = self.lock();
        watched.pinned = level;
        self.show(&mut watched);
    }

    /// The pinned level, and what each pool is at.
    pub fn view(&self) -> (Option<Level>, BTreeMap<String, View>) {
        let watched = self.lock();
        let view = |watch: &Watch| View { level: watch.shown, measured: watch.ladder.level(), pressure: watch.pressure };
        (watched.pinned, watched.pools.iter().map(|(name, watch)| (name.clone(), view(watch))).collect())
    }

    /// Another snapshot is in force.
    pub(super) fn changed(&self) {
        self.changed.notify_one();
    }

    /// Looks at the pools.
    fn measure(&self, state: &State, now: Instant) {
        let mut watched = self.lock();
        let Some(rules) = state.config.degrade.as_ref().map(Rules::from) else {
            *watched = Watched::default();
            return self.levels.store(None);
        };
        watched.pools.retain(|name, _| state.pools.contains_key(name));
        for (name, pool) in &state.pools {
            let watch = watched.pools.entry(name.clone()).or_default();
            watch.pressure = watch.meter.measure(seen(pool, now), now);
            watch.ladder.step(&rules, watch.pressure.get(), now);
        }
        self.show(&mut watched);
    }

    /// Puts the levels in force, and tells the log of those that have changed.
    fn show(&self, watched: &mut Watched) {
        let pinned = watched.pinned;
        for (provider, watch) in &mut watched.pools {
            let level = pinned.unwrap_or(watch.ladder.level());
            if level == watch.shown {
                continue;
            }
            let (before, now, pressure) = (watch.shown.name(), level.name(), watch.pressure.get());
            let why = if pinned.is_some() { "the administrator says so".to_owned() } else { watch.pressure.to_string() };
            if level > watch.shown {
                tracing::warn!(provider, before, now, pressure, "answers are degraded further: {why}");
            } else {
                tracing::info!(provider, before, now, pressure, "answers are degraded less: {why}");
            }
            watch.shown = level;
        }
        let degraded = watched.pools.iter().filter(|(_, watch)| watch.shown > Level::Full);
        let levels: BTreeMap<_, _> = degraded.map(|(name, watch)| (name.clone(), watch.shown)).collect();
        self.levels.store((!levels.is_empty()).then(|| Arc::new(Levels(levels))));
    }

    fn lock(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at the pools for as long as the process lives.
pub async fn run(gateway: Arc<Gateway>) {
    loop {
        let is_on = {
            let state = gateway.state();
            gateway.degrade.measure(&state, Instant::now());
            state.config.degrade.is_some()
        };
        tokio::select! {
            () = sleep(TICK), if is_on => {}
            () = gateway.degrade.changed.notified() => {}
        }
    }
}

fn seen(pool: &Pool, now: Instant) -> Seen {
    let (line, refused) = pool.gate.as_ref().map_or((0.0, 0), |gate| gate.pressed());
    let out = pool.endpoints().iter().filter(|endpoint| endpoint.breaker.standing(now) != Standing::Closed).count();
    Seen { endpoints: pool.endpoints().len() as u32, out: out as u32, line, refused, full: pool.is_full() }
}
