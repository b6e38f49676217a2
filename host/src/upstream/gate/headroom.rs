//! Places that a batch leaves free, so that somebody more urgent does not wait until one of its answers ends.
//!
//! As many as it takes: more when somebody urgent had to wait, fewer when nobody had to, so that some [`WAIT`] of a hundred wait however
//! busy the pool is and however they come. Where nobody urgent comes, a batch has all places.
//!
//! What it does not do: it knows nothing of who runs, and lets nobody in.
//!
//! **Invariant:** a batch has at least half of the places.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Priority;

/// Of a hundred urgent requests, so many may have to wait.
const WAIT: f32 = 4.0;
/// Nobody urgent has come for so long: the batch has it all.
const ALONE: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Headroom {
    places: f32,
    /// When somebody urgent came last.
    urgent: Option<Instant>,
}

impl Headroom {
    /// Somebody asks for a pass; `waits`: there is none for him now.
    pub(super) fn asked(&mut self, lane: Priority, waits: bool, limit: u32) {
        if lane == Priority::Batch {
            return;
        }
        self.places = self.places() + if waits { 1.0 } else { -WAIT / (100.0 - WAIT) };
        self.places = self.places.clamp(0.0, (limit / 2) as f32);
        self.urgent = Some(Instant::now());
    }

    /// Out of so many places, those that a batch leaves free.
    pub(super) fn of(&self, limit: u32) -> u32 {
        (self.places().ceil() as u32).min(limit / 2)
    }

    fn places(&self) -> f32 {
        if self.urgent.is_some_and(|urgent| urgent.elapsed() < ALONE) { self.places } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use Priority::{Batch, Interactive, Realtime};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_grows_with_those_who_wait_and_goes_when_nobody_comes() {
        let mut headroom = Headroom::default();
        headroom.asked(Batch, true, 20);
        assert_eq!(headroom.of(20), 0, "a batch that waits is no reason");
        for _ in 0..3 {
            headroom.asked(Interactive, true, 20);
        }
        headroom.asked(Realtime, true, 20);
        assert_eq!((headroom.of(20), headroom.of(5), headroom.of(1)), (4, 2, 0));
        for _ in 0..50 {
            headroom.asked(Interactive, true, 20);
        }
        assert_eq!(headroom.of(20), 10);
        for _ in 0..24 * 5 {
            headroom.asked(Interactive, false, 20);
        }
        assert_eq!(headroom.of(20), 5);
        tokio::time::advance(ALONE).await;
        assert_eq!(headroom.of(20), 0);
        headroom.asked(Interactive, true, 20);
        assert_eq!(headroom.of(20), 1, "it begins anew");
    }
}
