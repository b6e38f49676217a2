//! Places that a batch leaves free, so that somebody more urgent does not wait until one of its answers ends.
//!
//! As many as it takes: more when somebody urgent had to wait beside a batch, fewer when nobody had to, so that some [`WAIT`] of a hundred
//! wait however busy the pool is and however they come. What a burst has taught is forgotten with time. Where nobody urgent comes, a batch
//! has all places.
//!
//! What it does not do: it knows nothing of who runs, and lets nobody in.
//!
//! **Invariant:** at most half of the places are left free.

use std::time::Duration;

use tokio::time::Instant;

/// Of a hundred urgent requests, so many may have to wait.
const WAIT: f32 = 4.0;
/// Nobody urgent has come for so long: the batch has it all.
pub(super) const ALONE: Duration = Duration::from_secs(2);
/// After so long half is forgotten: a burst's places come back within a minute or two, however few people come after it.
const HALF: Duration = Duration::from_secs(30);

#[derive(Default)]
pub(super) struct Headroom {
    places: f32,
    /// When somebody urgent came last.
    urgent: Option<Instant>,
}

impl Headroom {
    /// Somebody urgent has got a pass at once, or gets in line (`waits`) because a batch has the places.
    pub(super) fn came(&mut self, waits: bool, limit: u32) {
        self.places = self.places() + if waits { 1.0 } else { -WAIT / (100.0 - WAIT) };
        self.places = self.places.clamp(0.0, (limit / 2) as f32);
        self.urgent = Some(Instant::now());
    }

    /// Out of so many places, those that a batch leaves free.
    pub(super) fn of(&self, limit: u32) -> u32 {
        if self.places == 0.0 {
            return 0;
        }
        (self.places().ceil() as u32).min(limit / 2)
    }

    fn places(&self) -> f32 {
        let Some(since) = self.urgent.map(|urgent| urgent.elapsed()).filter(|since| *since < ALONE) else { return 0.0 };
        self.places * (-since.as_secs_f32() / HALF.as_secs_f32()).exp2()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_grows_with_those_who_wait_and_goes_when_nobody_comes() {
        let mut headroom = Headroom::default();
        assert_eq!(headroom.of(20), 0);
        for _ in 0..4 {
            headroom.came(true, 20);
        }
        assert_eq!((headroom.of(20), headroom.of(5), headroom.of(1)), (4, 2, 0));
        for _ in 0..50 {
            headroom.came(true, 20);
        }
        assert_eq!(headroom.of(20), 10);
        for _ in 0..24 * 5 {
            headroom.came(false, 20);
        }
        assert_eq!(headroom.of(20), 5);
        tokio::time::advance(ALONE).await;
        assert_eq!(headroom.of(20), 0);
        headroom.came(true, 20);
        assert_eq!(headroom.of(20), 1, "it begins anew");
    }

    /// After a burst half of the places stayed empty for as long as it took two hundred people to come.
    #[tokio::test(start_paused = true)]
    async fn a_burst_is_forgotten() {
        let mut headroom = Headroom::default();
        for _ in 0..100 {
            headroom.came(true, 20);
        }
        for _ in 0..120 {
            tokio::time::advance(Duration::from_secs(1)).await;
            headroom.came(false, 20);
        }
        assert_eq!(headroom.of(20), 0);
    }
}
