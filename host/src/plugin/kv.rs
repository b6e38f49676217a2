//! What a plugin keeps from one exchange to the next: one store a plugin, in it a part for each tenant.
//!
//! A map from tenant to entries, in shards by tenant, so that a tenant's bounds are kept under the lock that its entries lie under. The bound
//! of all tenants is one atomic sum. Entries with an end stand in a second order, by end: what is over is found without a search.
//!
//! What it does not do: it writes nothing to disk and tells nothing to other nodes. It throws nothing out that still holds: a budget that
//! was thrown out would begin anew.
//!
//! **Invariant:** an entry is reached with its tenant alone; `imports::kv` names the exchange's, and a guest cannot name one.
//! **Invariant:** a lock is held for one call, over no guest's code and no await.
//! **Invariant:** `bytes` is the sum of what the tenants are charged, and grows beyond no limit; a tenant without entries is not there.

mod tenant;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

pub use super::bindings::kv::KvError;
use crate::numbers::Count;
use tenant::{Refused, Tenant, Value};

/// Bytes of a key; the contract names this number, and the one below.
const MAX_KEY: usize = 256;
/// Bytes of a value.
const MAX_VALUE: usize = 64 << 10;
/// Cores that write for different tenants seldom meet.
const SHARDS: usize = 16;
/// The shortest time between two looks at all tenants for what is over: a guest that hammers a full store is not to have more.
const SWEEP: Duration = Duration::from_millis(100);

/// How much may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all tenants.
    pub memory: usize,
    /// Bytes of one tenant.
    pub tenant_memory: usize,
    /// Entries of one tenant.
    pub tenant_entries: usize,
}

/// Why calls were refused, in the order of [`Kv::refused`].
pub const REFUSALS: [&str; 3] = ["too-large", "tenant", "memory"];

/// The store of one plugin. Its limits come with each call: they are those of the version that calls.
#[derive(Debug, Default)]
pub struct Kv {
    shards: [Mutex<HashMap<Box<str>, Tenant>>; SHARDS],
    hash: RandomState,
    sums: Sums,
    swept: Mutex<Option<Instant>>,
    /// Calls that were refused: a key or value too large, the tenant's bounds, the plugin's.
    pub refused: [Count; 3],
}

/// Over all tenants.
#[derive(Debug, Default)]
struct Sums {
    bytes: AtomicUsize,
    entries: AtomicUsize,
}

impl Sums {
    /// Takes so many bytes more, if they are there.
    fn take(&self, bytes: usize, most: usize) -> bool {
        let more = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= most);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

impl Kv {
    /// The value under a key.
    ///
    /// # Errors
    /// Where there can be no such key.
    pub fn get(&self, tenant: &str, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        self.fits(key, 0)?;
        let found = self.shard(tenant).get(tenant).and_then(|own| own.get(key));
        // Copied without the lock.
        Ok(found.map(Value::into_bytes))
    }

    /// Puts a value under a key.
    ///
    /// # Errors
    /// Where key or value are too large, or there is no room.
    pub fn set(&self, limits: &Limits, tenant: &str, key: &str, value: Vec<u8>, ttl: Option<u32>) -> Result<(), KvError> {
        self.fits(key, value.len())?;
        let value = Value::from(value);
        self.change(tenant, |own, now| own.put(&self.sums, limits, key, value.clone(), ends(now, ttl), now))
    }

    /// Takes a value away. Was there one?
    ///
    /// # Errors
    /// Where there can be no such key.
    pub fn delete(&self, tenant: &str, key: &str) -> Result<bool, KvError> {
        self.fits(key, 0)?;
        self.change(tenant, |own, now| {
            let was = own.live(&self.sums, key, now).is_some();
            own.remove(&self.sums, key);
            Ok(was)
        })
    }

    /// Adds to a counter, and gives what it is now.
    ///
    /// # Errors
    /// Where there can be no such key, no room for it, or something else than a number is under it.
    pub fn increment(&self, limits: &Limits, tenant: &str, key: &str, delta: i64, ttl: Option<u32>) -> Result<i64, KvError> {
        self.fits(key, 0)?;
        self.change(tenant, |own, now| match own.live(&self.sums, key, now) {
            Some(entry) => {
                let (sum, ends) = (entry.value.number()?.saturating_add(delta), entry.ends);
                // A counter in the place of a text takes no more room than the text.
                own.put(&self.sums, limits, key, Value::Number(sum), ends, now).map(|()| sum)
            }
            None => own.put(&self.sums, limits, key, Value::Number(delta), ends(now, ttl), now).map(|()| delta),
        })
    }

    /// Sets the value if what is there is `expected`. Was it?
    ///
    /// # Errors
    /// As [`Kv::set`].
    pub fn compare_and_set(
        &self,
        limits: &Limits,
        tenant: &str,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
        ttl: Option<u32>,
    ) -> Result<bool, KvError> {
        self.fits(key, value.len())?;
        let value = Value::from(value);
        self.change(tenant, |own, now| {
            let found = own.live(&self.sums, key, now);
            let is_expected = match (found, expected) {
                (None, None) => true,
                (Some(entry), Some(expected)) => entry.value.is(expected),
                _ => false,
            };
            if is_expected {
                own.put(&self.sums, limits, key, value.clone(), ends(now, ttl), now)?;
            }
            Ok(is_expected)
        })
    }

    /// Another store with what is in this one. Shard by shard: what others change meanwhile is in it or not.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = Self { hash: self.hash.clone(), ..Self::default() };
        for (from, to) in self.shards.iter().zip(&copy.shards) {
            let tenants = from.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let sum = |part: fn(&Tenant) -> usize| tenants.values().map(part).sum::<usize>();
            copy.sums.bytes.fetch_add(sum(Tenant::charged), Ordering::Relaxed);
            copy.sums.entries.fetch_add(sum(Tenant::entries), Ordering::Relaxed);
            *to.lock().unwrap_or_else(PoisonError::into_inner) = tenants;
        }
        copy
    }

    /// Bytes and entries over all tenants, what is over and not yet gone among them.
    pub fn sums(&self) -> (usize, usize) {
        (self.sums.bytes.load(Ordering::Relaxed), self.sums.entries.load(Ordering::Relaxed))
    }

    fn fits(&self, key: &str, value: usize) -> Result<(), KvError> {
        if (1..=MAX_KEY).contains(&key.len()) && value <= MAX_VALUE {
            return Ok(());
        }
        self.refused[0].add(1);
        Err(KvError::TooLarge)
    }

    /// One step on a tenant's entries. Where the room of all tenants is used up, what is over is looked for among all, and the step
    /// is tried again.
    fn change<T>(&self, name: &str, mut step: impl FnMut(&mut Tenant, Instant) -> Result<T, Refused>) -> Result<T, KvError> {
        let now = Instant::now();
        let mut done = self.once(name, now, &mut step);
        if matches!(done, Err(Refused::Memory)) && self.sweep(now) {
            done = self.once(name, now, &mut step);
        }
        done.map_err(|refused| match refused {
            Refused::NotANumber => KvError::NotANumber,
            Refused::Tenant => {
                self.refused[1].add(1);
                KvError::Quota
            }
            Refused::Memory => {
                self.refused[2].add(1);
                KvError::Quota
            }
        })
    }

    fn once<T>(
        &self,
        name: &str,
        now: Instant,
        step: &mut impl FnMut(&mut Tenant, Instant) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let mut shard = self.shard(name);
        if !shard.contains_key(name) {
            shard.insert(name.into(), Tenant::default());
        }
        let Some(own) = shard.get_mut(name) else { return Err(Refused::Memory) };
        own.purge(&self.sums, now, tenant::A_FEW);
        let done = step(own, now);
        if own.is_empty() {
            shard.remove(name);
        }
        done
    }

    /// Frees what is over, of all tenants. Whether it was time for that.
    fn sweep(&self, now: Instant) -> bool {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.is_some_and(|last| now.saturating_duration_since(last) < SWEEP) {
            return false;
        }
        *swept = Some(now);
        drop(swept);
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, own| {
                own.purge(&self.sums, now, usize::MAX);
                !own.is_empty()
            });
        }
        true
    }

    fn shard(&self, tenant: &str) -> MutexGuard<'_, HashMap<Box<str>, Tenant>> {
        let place = self.hash.hash_one(tenant) as usize % SHARDS;
        self.shards[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ends(now: Instant, ttl_ms: Option<u32>) -> Option<Instant> {
    ttl_ms.map(|ms| now + Duration::from_millis(ms.into()))
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(Arc::from(bytes))
    }
}

#[cfg(test)]
mod tests;
