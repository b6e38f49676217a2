//! A tier: a place where entries are, under their exact keys.
//!
//! To add one: a file `tier/NAME.rs` that implements [`Tier`], a variant of [`Name`], and it must pass `tests/tests/tiers/contract.rs`, as every
//! tier does.
//!
//! What it does not do: it decides no order; `cache.rs` asks one after the other.
//!
//! **Invariant:** a tier that cannot answer has no entry; it never fails an exchange, and holds none up beyond its deadline.
//! **Invariant:** what is put into a tier behind memory is written off the exchange's path: it waits in a [`backlog`], or is dropped and counted.

mod backlog;
pub mod disk;
pub mod memory;
pub mod numbers;
pub mod redis;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;

use super::entry::Entry;
use super::key::ExactKey;
use super::purge::Sweep;
use numbers::Numbers;

/// Which tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Of this process.
    Memory,
    /// Shared by nodes.
    Redis,
    /// Outlives the process.
    Disk,
}

impl Name {
    /// As headers and labels have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Disk => "disk",
        }
    }
}

/// A place for entries.
pub trait Tier: Sweep {
    /// Which one it is.
    fn name(&self) -> Name;

    /// Begins its work, where it has threads: not before somebody serves. Again: nothing.
    fn start(&self) {}

    /// The entry under a key, unless its time is over, and the one after that (`Entry::stale`). Asked on a core's own runtime.
    fn get<'a>(&'a self, key: &'a ExactKey, core: usize) -> BoxFuture<'a, Option<Arc<Entry>>>;

    /// Puts an entry under its key, in place of the one before.
    fn put(&self, entry: &Arc<Entry>);

    /// Entries and their bytes, about, where it knows.
    fn size(&self) -> Option<(u64, u64)>;

    /// Waits until all that was put is where it belongs, or was counted as failed; at most so long.
    fn settle(&self, at_most: Duration) -> BoxFuture<'_, ()>;

    /// What became of reads and writes; none where nobody counts them.
    fn numbers(&self) -> Option<&Numbers> {
        None
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}
