//! Where all places of a listener are taken, a newcomer gets the place of whoever has been idle for longest.
//!
//! For a listener that must answer whoever comes, such as the administrator's: a health check that is sent away says that the node is ill.
//! Who has asked something is sent away only where nobody is idle, and then whoever has been at it for longest: somebody who sends a body byte
//! by byte, say.
//!
//! What it does not do: it counts no connections (`listen` does) and closes none; each one waits to be told.
//!
//! **Invariant:** nobody is sent away twice, so for each newcomer one leaves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The connections of a listener, in the order in which they would have to go.
#[derive(Default)]
pub struct Crowd(Mutex<Open>);

#[derive(Default)]
struct Open {
    seats: HashMap<u64, Seated>,
    next: u64,
}

struct Seated {
    /// Requests that are being answered.
    busy: u32,
    /// When it last began or ended to ask.
    since: Instant,
    leave: CancellationToken,
}

/// One connection among them, from accept to its end.
pub(super) struct Seat {
    of: Arc<Crowd>,
    number: u64,
    leave: CancellationToken,
}

/// A request that is being answered.
pub(super) struct Asking(Arc<Seat>);

impl Crowd {
    /// Takes a newcomer in.
    pub(super) fn sit(self: &Arc<Self>) -> Arc<Seat> {
        let (mut open, leave) = (self.open(), CancellationToken::new());
        let number = open.next;
        open.next += 1;
        open.seats.insert(number, Seated { busy: 0, since: Instant::now(), leave: leave.clone() });
        Arc::new(Seat { of: self.clone(), number, leave })
    }

    /// Tells one to go. False: there is none.
    pub(super) fn make_room(&self) -> bool {
        let mut open = self.open();
        let first =
            open.seats.iter().min_by_key(|(number, seat)| (seat.busy > 0, seat.since, **number)).map(|(number, _)| *number);
        let Some(seat) = first.and_then(|number| open.seats.remove(&number)) else { return false };
        seat.leave.cancel();
        true
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Waits until it is told to go.
    pub(super) async fn left(&self) {
        self.leave.cancelled().await;
    }

    /// A request has come, and is being answered for as long as this is held.
    pub(super) fn asks(self: &Arc<Self>) -> Asking {
        self.count(1);
        Asking(self.clone())
    }

    fn count(&self, more: i32) {
        if let Some(seat) = self.of.open().seats.get_mut(&self.number) {
            (seat.busy, seat.since) = (seat.busy.saturating_add_signed(more), Instant::now());
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.count(-1);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.of.open().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_goes_first_and_who_asks_last() {
        let crowd = Arc::new(Crowd::default());
        let later = || tokio::time::advance(Duration::from_secs(1));
        let mut seats = Vec::new();
        for _ in 0..4 {
            seats.push(crowd.sit());
            later().await;
        }
        let gone = |seats: &[Arc<Seat>]| seats.iter().map(|seat| seat.leave.is_cancelled()).collect::<Vec<_>>();
        // The first one asks, the second one has just been answered.
        let asking = seats[0].asks();
        drop(seats[1].asks());
        assert!(crowd.make_room());
        assert_eq!(gone(&seats), [false, false, true, false]);
        // It is gone from among them, though it has not yet noticed.
        assert!(crowd.make_room() && crowd.make_room());
        assert_eq!(gone(&seats), [false, true, true, true]);
        assert!(crowd.make_room() && !crowd.make_room());
        assert_eq!(gone(&seats), [true; 4]);
        drop(asking);
        seats[0].left().await;
        assert!(!crowd.make_room());
        let last = crowd.sit();
        drop(last);
        assert!(!crowd.make_room(), "who has left makes no room");
    }
}
