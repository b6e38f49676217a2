//! The tier in memory: moka, bounded by the entries' own bytes, with TinyLFU's choice of what to keep.
//!
//! moka reads the system's monotonic clock, not tokio's: its time cannot be paused in a test, and need not be.
//!
//! **Invariant:** the sum of weights stays within the bound; moka may exceed it for the moment that an eviction takes.
//! **Invariant:** [`Memory::find`] allocates nothing and waits for nobody.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, ready};
use moka::Expiry;
use moka::sync::Cache;

use super::{Name, Tier};
use crate::cache::entry::Entry;
use crate::cache::key::ExactKey;
use crate::cache::purge::{Rule, Sweep};

/// Entries in memory.
pub struct Memory(Cache<ExactKey, Arc<Entry>>);

struct OwnTime;

impl Expiry<ExactKey, Arc<Entry>> for OwnTime {
    // The clock type is part of moka's interface; it is not read here.
    #[allow(clippy::disallowed_types, reason = "moka's interface")]
    fn expire_after_create(&self, _: &ExactKey, entry: &Arc<Entry>, _: std::time::Instant) -> Option<Duration> {
        Some(entry.left())
    }

    #[allow(clippy::disallowed_types, reason = "moka's interface")]
    fn expire_after_update(
        &self,
        _: &ExactKey,
        entry: &Arc<Entry>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.left())
    }
}

impl Memory {
    /// An empty tier for so many bytes.
    pub fn new(bytes: u64) -> Self {
        let weight = |_: &ExactKey, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(bytes).weigher(weight).expire_after(OwnTime).build())
    }

    /// What [`Tier::get`] gives, at once.
    pub fn find(&self, key: &ExactKey) -> Option<Arc<Entry>> {
        self.0.get(key)
    }

    /// All entries.
    pub fn each(&self) -> impl Iterator<Item = Arc<Entry>> {
        self.0.iter().map(|(_, entry)| entry)
    }

    /// Entries and their bytes.
    pub fn sums(&self) -> (u64, u64) {
        // moka counts what it has put in order; whoever asks wants to see what is there.
        self.0.run_pending_tasks();
        (self.0.entry_count(), self.0.weighted_size())
    }
}

impl Tier for Memory {
    fn name(&self) -> Name {
        Name::Memory
    }

    fn get<'a>(&'a self, key: &'a ExactKey, _: usize) -> BoxFuture<'a, Option<Arc<Entry>>> {
        Box::pin(ready(self.find(key)))
    }

    fn put(&self, entry: &Arc<Entry>) {
        self.0.insert(entry.key, entry.clone());
    }

    fn size(&self) -> Option<(u64, u64)> {
        Some(self.sums())
    }

    fn settle(&self, _: Duration) -> BoxFuture<'_, ()> {
        self.0.run_pending_tasks();
        Box::pin(ready(()))
    }
}

impl Sweep for Memory {
    fn sweep(&self, rule: &Rule, _: bool) {
        for (key, _) in self.0.iter().filter(|(_, entry)| rule.takes(entry)) {
            self.0.invalidate(&*key);
        }
    }
}
