//! Instances that serve one exchange after another, for plugins whose owner wrote `reuse = true`.
//!
//! A guest that brings an interpreter takes a thousandth of a second to begin, and a twentieth of that for a call. So between exchanges
//! its instances rest here, some on the shelf of each core, and the first are made when the plugin is loaded.
//!
//! What it does not do: it keeps no guest from keeping something in its own memory. What the host knows of an exchange goes when the
//! exchange does; what the guest has noted itself, it finds again. That is why this is asked for, and not given.
//!
//! **Invariant:** an instance that rests knows no exchange: no request, no answer, no tenant, no label.
//! **Invariant:** an instance that has failed, or was left in the middle of a call, never comes here.
//! **Invariant:** a version's instances go with the version: nothing here outlives it.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::exports::Live;

/// Instances that rest on one shelf. A core has more of them at once only where calls wait for an embedding.
const RESTING: usize = 4;
/// Exchanges that an instance serves before a fresh one takes its place: what leaks is gone after so many.
const EXCHANGES: u32 = 1_000;

/// The resting instances of one version.
pub(super) struct Resting(Box<[Mutex<Vec<Live>>]>);

impl Resting {
    /// A shelf for each core.
    pub(super) fn new(cores: usize) -> Self {
        Self((0..cores.max(1)).map(|_| Mutex::default()).collect())
    }

    /// One from this core's shelf, or else from another's.
    pub(super) fn take(&self) -> Option<Live> {
        let own = own_place();
        (0..self.0.len()).find_map(|step| self.shelf(own + step).pop())
    }

    /// Puts an instance back that has served an exchange. One that is worn, or has no room, goes.
    pub(super) fn put(&self, mut live: Live) {
        live.served += 1;
        if live.is_worn() {
            return;
        }
        live.store.data_mut().forget();
        let mut shelf = self.shelf(own_place());
        if shelf.len() < RESTING {
            shelf.push(live);
        }
    }

    /// Puts one on a shelf that is empty; false where each has one.
    pub(super) fn stock(&self, live: Live) -> bool {
        match (0..self.0.len()).map(|place| self.shelf(place)).find(|shelf| shelf.is_empty()) {
            Some(mut shelf) => {
                shelf.push(live);
                true
            }
            None => false,
        }
    }

    /// How many shelves there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn shelf(&self, place: usize) -> MutexGuard<'_, Vec<Live>> {
        self.0[place % self.0.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// It has served enough, or has used half of the room that it began with: before a guest that only grows is ended in the middle of
    /// a call, a fresh one takes its place.
    fn is_worn(&self) -> bool {
        let held = &self.store.data().limits;
        let room = held.most.saturating_sub(self.began_with);
        self.served >= EXCHANGES || held.memory > self.began_with + room / 2
    }
}

/// This thread's number. Threads that share a shelf because there are more of them than shelves do no harm.
fn own_place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static PLACE: Cell<Option<usize>> = const { Cell::new(None) });
    PLACE.with(|place| match place.get() {
        Some(place) => place,
        None => {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            place.set(Some(next));
            next
        }
    })
}
