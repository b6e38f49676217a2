//! What waits to be written: bounded in entries and in bytes, so that a tier that stands still costs entries and not memory.
//!
//! What it does not do: it writes nothing, and keeps nobody waiting.
//!
//! **Invariant:** handing in never waits; what finds no room is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

use crate::cache::entry::Entry;
use crate::cache::purge::Rule;

/// The most that waits.
const JOBS: usize = 4_096;
/// The most bytes that wait.
const ROOM: usize = 64 << 20;

/// What a tier's writer has to do.
pub(super) enum Job {
    /// Write an entry.
    Put(Arc<Entry>),
    /// Take out what a rule takes.
    Sweep(Rule),
    /// Somebody has read what was not written so.
    Damaged(String),
    /// Say when all that came before is done.
    Settle(oneshot::Sender<()>),
}

/// Where it is handed in.
pub(super) struct Backlog {
    jobs: Sender<Job>,
    bytes: Arc<AtomicUsize>,
}

/// Where it is taken out.
pub(super) struct Waiting {
    pub(super) jobs: Receiver<Job>,
    bytes: Arc<AtomicUsize>,
}

/// Both ends.
pub(super) fn backlog() -> (Backlog, Waiting) {
    let (sender, receiver) = channel(JOBS);
    let bytes = Arc::<AtomicUsize>::default();
    (Backlog { jobs: sender, bytes: bytes.clone() }, Waiting { jobs: receiver, bytes })
}

impl Backlog {
    /// Hands an entry in. False: there is no room.
    pub(super) fn put(&self, entry: &Arc<Entry>) -> bool {
        let weight = entry.weight();
        if self.bytes.fetch_add(weight, Ordering::Relaxed) + weight > ROOM || self.jobs.try_send(Job::Put(entry.clone())).is_err()
        {
            self.bytes.fetch_sub(weight, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Hands in what is no entry. False: there is no room.
    pub(super) fn send(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    /// Waits until all that was handed in is done.
    pub(super) async fn settle(&self) {
        let (done, is_done) = oneshot::channel();
        if self.jobs.send(Job::Settle(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

impl Waiting {
    /// An entry has been taken out.
    pub(super) fn took(&self, entry: &Entry) {
        self.bytes.fetch_sub(entry.weight(), Ordering::Relaxed);
    }
}
