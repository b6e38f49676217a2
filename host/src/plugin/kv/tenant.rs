//! The entries of one tenant: what they are charged, when they end.
//!
//! **Invariant:** an entry with an end stands in `ends` once, with that end; one without does not.
//! **Invariant:** what is charged is in the sums over all tenants, at all times.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Limits, Sums};

/// What an entry takes beside its key and its value: its places in both orders, half empty as maps may be, and the heads of its
/// allocations. The contract names this number, and the one below.
const ENTRY: usize = 256;
/// What a tenant takes who has entries: the first blocks of both orders, and the name.
const TENANT: usize = 1 << 10;
/// Entries that one call frees on its way, where it needs no room.
pub(super) const A_FEW: usize = 32;

/// Why a step was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The tenant's bounds.
    Tenant,
    /// The bound of all tenants.
    Memory,
    /// What is there is no number.
    NotANumber,
}

/// What is under a key.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Bytes(Arc<[u8]>),
    Number(i64),
}

impl Value {
    pub(super) fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.to_vec(),
            Self::Number(number) => number.to_string().into_bytes(),
        }
    }

    pub(super) fn number(&self) -> Result<i64, Refused> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or(Refused::NotANumber),
            Self::Number(number) => Ok(*number),
        }
    }

    pub(super) fn is(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Bytes(own) => **own == *bytes,
            Self::Number(number) => number.to_string().as_bytes() == bytes,
        }
    }

    /// What an entry of this value is charged.
    fn charge(&self, key: &str) -> usize {
        let own = match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Number(_) => 0,
        };
        ENTRY + key.len() + own
    }
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) value: Value,
    pub(super) ends: Option<Instant>,
}

impl Entry {
    fn is_over(&self, now: impl FnOnce() -> Instant) -> bool {
        self.ends.is_some_and(|ends| ends <= now())
    }
}

/// The entries of one tenant.
#[derive(Clone, Debug, Default)]
pub(super) struct Tenant {
    entries: HashMap<Arc<str>, Entry>,
    ends: BTreeSet<(Instant, Arc<str>)>,
    charged: usize,
}

impl Tenant {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes that it is charged.
    pub(super) fn charged(&self) -> usize {
        self.charged
    }

    /// How many it has.
    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// The value under a key, if it still holds.
    pub(super) fn get(&self, key: &str) -> Option<Value> {
        self.entries.get(key).filter(|entry| !entry.is_over(Instant::now)).map(|entry| entry.value.clone())
    }

    /// The same, to be changed; what is over goes.
    pub(super) fn live(&mut self, sums: &Sums, key: &str, now: Instant) -> Option<&Entry> {
        if self.entries.get(key)?.is_over(|| now) {
            self.remove(sums, key);
        }
        self.entries.get(key)
    }

    /// Puts a value in the place of whatever is there, if there is room. What takes no more room than what it replaces always fits,
    /// also where the limits have shrunk since.
    pub(super) fn put(
        &mut self,
        sums: &Sums,
        limits: &Limits,
        key: &str,
        value: Value,
        ends: Option<Instant>,
        now: Instant,
    ) -> Result<(), Refused> {
        let is_room = |own: &Self| {
            let old = own.entries.get(key).map(|entry| entry.value.charge(key));
            let first = if own.is_empty() { TENANT } else { 0 };
            let (more, less) = (value.charge(key) + first, old.unwrap_or(0));
            let fits = more <= less
                || (own.charged - less + more <= limits.tenant_memory
                    && (old.is_some() || own.entries.len() < limits.tenant_entries));
            fits.then_some((more, less, old.is_none()))
        };
        let Some((more, less, is_new)) = is_room(self).or_else(|| {
            self.purge(sums, now, usize::MAX);
            is_room(self)
        }) else {
            return Err(Refused::Tenant);
        };
        if more > less && !sums.take(more - less, limits.memory) {
            return Err(Refused::Memory);
        }
        sums.bytes.fetch_sub(less.saturating_sub(more), Ordering::Relaxed);
        sums.entries.fetch_add(usize::from(is_new), Ordering::Relaxed);
        self.charged = self.charged + more - less;
        self.replace(key, Entry { value, ends });
        Ok(())
    }

    fn replace(&mut self, key: &str, entry: Entry) {
        let (key, before) = match self.entries.remove_entry(key) {
            Some((key, old)) => (key, old.ends),
            None => (Arc::from(key), None),
        };
        if before != entry.ends {
            self.ends.extend(entry.ends.map(|ends| (ends, key.clone())));
            if let Some(before) = before {
                self.ends.remove(&(before, key.clone()));
            }
        }
        self.entries.insert(key, entry);
    }

    /// Takes an entry away, if it is there.
    pub(super) fn remove(&mut self, sums: &Sums, key: &str) {
        let Some((key, entry)) = self.entries.remove_entry(key) else { return };
        let charge = entry.value.charge(&key) + if self.is_empty() { TENANT } else { 0 };
        self.charged -= charge;
        sums.bytes.fetch_sub(charge, Ordering::Relaxed);
        sums.entries.fetch_sub(1, Ordering::Relaxed);
        if let Some(ends) = entry.ends {
            self.ends.remove(&(ends, key));
        }
        // Maps never give room back by themselves.
        if self.entries.capacity() > 4 * self.entries.len() + 64 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Frees entries that are over, the oldest end first, and at most so many.
    pub(super) fn purge(&mut self, sums: &Sums, now: Instant, most: usize) {
        for _ in 0..most {
            let Some((ends, key)) = self.ends.first() else { return };
            if *ends > now {
                return;
            }
            let key = key.clone();
            self.remove(sums, &key);
        }
    }
}

#[cfg(test)]
impl Tenant {
    /// What it should be charged; that both orders hold the same.
    pub(super) fn recount(&self) -> usize {
        let timed = self.entries.values().filter(|entry| entry.ends.is_some()).count();
        assert_eq!(timed, self.ends.len());
        assert!(self.ends.iter().all(|(ends, key)| self.entries[key].ends == Some(*ends)));
        let entries: usize = self.entries.iter().map(|(key, entry)| entry.value.charge(key)).sum();
        entries + if self.is_empty() { 0 } else { TENANT }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}
