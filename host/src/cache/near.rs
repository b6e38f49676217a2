//! Near hits: one index of vectors per partition.
//!
//! An index holds its entries weakly: what the exact tier has let go is gone here too, and its place is used again.
//!
//! What it does not do: it decides nothing about what is near enough.
//!
//! **Invariant:** a search sees one partition. There is no shared index behind a filter that a defect could open.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use moka::sync::Cache;

use super::index::Index;
use super::{Entry, Partition};

/// Partitions at once; the one that was not used for longest leaves first.
const MAX_PARTITIONS: u64 = 10_000;

/// Indexes by partition.
pub struct Near {
    indexes: Cache<Partition, Arc<RwLock<Index>>>,
    max_entries: usize,
}

impl Near {
    /// No index yet. A partition that nobody asks for longer than `idle` is dropped.
    pub fn new(max_entries: usize, idle: Duration) -> Self {
        let indexes = Cache::builder().max_capacity(MAX_PARTITIONS).time_to_idle(idle).build();
        Self { indexes, max_entries }
    }

    /// The nearest entries and their cosines, best first.
    pub fn nearest(&self, partition: &Partition, vector: &[f32]) -> Vec<(f32, Arc<Entry>)> {
        let Some(index) = self.indexes.get(partition) else { return Vec::new() };
        index.read().map(|index| index.nearest(vector)).unwrap_or_default()
    }

    /// Adds an entry.
    pub fn insert(&self, partition: Partition, vector: &[f32], entry: &Arc<Entry>) {
        if self.max_entries == 0 || vector.iter().any(|value| !value.is_finite()) {
            return;
        }
        let index = self.indexes.get_with(partition, || Arc::new(RwLock::new(Index::new(vector.len(), self.max_entries))));
        if let Ok(mut index) = index.write() {
            index.insert(vector, entry);
        }
    }

    /// The vector of an entry, while it can be found.
    pub fn vector(&self, entry: &Arc<Entry>) -> Option<Vec<f32>> {
        let index = self.indexes.get(entry.partition.as_ref()?)?;
        let index = index.read().ok()?;
        index.vector(entry).map(<[f32]>::to_vec)
    }

    /// Takes an entry out.
    pub fn forget(&self, partition: &Partition, entry: &Arc<Entry>) {
        if let Some(index) = self.indexes.get(partition)
            && let Ok(mut index) = index.write()
        {
            index.forget(entry);
        }
    }

    /// Drops all indexes.
    pub fn clear(&self) {
        self.indexes.invalidate_all();
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u64 {
        self.indexes.entry_count()
    }
}
