//! The tier in memory: moka, bounded by the entries' own bytes, with TinyLFU's choice of what to keep.
//!
//! moka reads the system's monotonic clock, not tokio's: its time cannot be paused in a test, and need not be.
//!
//! **Invariant:** the sum of weights stays within the bound; moka may exceed it for the moment that an eviction takes.

use std::sync::Arc;
use std::time::Duration;

use moka::Expiry;
use moka::sync::Cache;

use super::Tier;
use crate::cache::{Entry, ExactKey};

/// Entries in memory.
pub struct Memory(Cache<ExactKey, Arc<Entry>>);

struct OwnTime;

impl Expiry<ExactKey, Arc<Entry>> for OwnTime {
    // The clock type is part of moka's interface; it is not read here.
    #[allow(clippy::disallowed_types, reason = "moka's interface")]
    fn expire_after_create(&self, _: &ExactKey, entry: &Arc<Entry>, _: std::time::Instant) -> Option<Duration> {
        Some(entry.ttl + entry.stale)
    }

    #[allow(clippy::disallowed_types, reason = "moka's interface")]
    fn expire_after_update(
        &self,
        _: &ExactKey,
        entry: &Arc<Entry>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.ttl + entry.stale)
    }
}

impl Memory {
    /// An empty tier for so many bytes.
    pub fn new(bytes: u64) -> Self {
        let weight = |_: &ExactKey, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX);
        Self(Cache::builder().max_capacity(bytes).weigher(weight).expire_after(OwnTime).build())
    }

    /// Does what moka has put off, so that counts are exact.
    #[cfg(test)]
    pub(super) fn settle(&self) {
        self.0.run_pending_tasks();
    }
}

impl Tier for Memory {
    fn get(&self, key: &ExactKey) -> Option<Arc<Entry>> {
        self.0.get(key)
    }

    fn put(&self, key: ExactKey, entry: Arc<Entry>) {
        self.0.insert(key, entry);
    }

    fn clear(&self) {
        self.0.invalidate_all();
    }

    fn size(&self) -> (u64, u64) {
        // moka counts what it has put in order; whoever asks wants to see what is there.
        self.0.run_pending_tasks();
        (self.0.entry_count(), self.0.weighted_size())
    }
}
