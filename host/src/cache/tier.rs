//! A tier: a place where entries are, under their exact keys.
//!
//! To add one: a file `tier/NAME.rs` that implements [`Tier`], and it must pass the tests in this file, as every tier does.
//!
//! **Invariant:** a tier that cannot answer has no entry; it never fails an exchange.

pub mod memory;

use std::sync::Arc;

use super::{Entry, ExactKey};

/// A place for entries.
pub trait Tier: Send + Sync {
    /// The entry under a key, unless its time is over, and the one after that (`Entry::stale`).
    fn get(&self, key: &ExactKey) -> Option<Arc<Entry>>;

    /// Puts an entry under a key, in place of the one before.
    fn put(&self, key: ExactKey, entry: Arc<Entry>);

    /// Takes everything out.
    fn clear(&self);

    /// Entries and their bytes, about.
    fn size(&self) -> (u64, u64);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use crate::cache::key::KeyBuilder;

    fn key(name: &str) -> ExactKey {
        KeyBuilder::new(name).exact()
    }

    fn entry(bytes: usize, ttl: Duration) -> Arc<Entry> {
        Arc::new(Entry {
            answer: Bytes::from(vec![b'x'; bytes]),
            text: None,
            model: "m".into(),
            prompt: None,
            created_at: 0,
            stored: Instant::now(),
            ttl,
            stale: Duration::ZERO,
            vector_bytes: 0,
            hits: AtomicU32::new(0),
        })
    }

    /// What every tier must do.
    fn contract(tier: &dyn Tier, settle: &dyn Fn()) {
        let long = Duration::from_secs(3600);
        assert!(tier.get(&key("a")).is_none());
        tier.put(key("a"), entry(10, long));
        tier.put(key("b"), entry(20, long));
        assert_eq!(tier.get(&key("a")).unwrap().answer.len(), 10);
        tier.put(key("a"), entry(30, long));
        assert_eq!(tier.get(&key("a")).unwrap().answer.len(), 30, "the newer one counts");
        settle();
        assert_eq!(tier.size().0, 2);
        tier.put(key("short"), entry(1, Duration::from_millis(1)));
        #[allow(clippy::disallowed_methods, reason = "a tier's clock is its own")]
        std::thread::sleep(Duration::from_millis(20));
        assert!(tier.get(&key("short")).is_none(), "its time is over");
        tier.clear();
        settle();
        assert!(tier.get(&key("b")).is_none());
        assert_eq!(tier.size().0, 0);
        // More than there is room for: something goes, and the bound holds.
        for index in 0..1_000 {
            tier.put(key(&index.to_string()), entry(1_000, long));
        }
        settle();
        assert!(tier.size().1 <= 100_000, "{:?}", tier.size());
    }

    #[test]
    fn memory_keeps_the_contract() {
        let memory = memory::Memory::new(100_000);
        contract(&memory, &|| memory.settle());
    }
}
