//! What the plugin keeps: the meaning of `kv` in the contract, on the test's clock.
//!
//! What it does not do: the bound of all tenants together. A test has one or two of them.
//!
//! **Invariant:** an entry is reached with its tenant alone; what is past its time is found by nobody and takes no room.

use std::collections::HashMap;

use crate::kv::KvError;

/// Bytes of a key; the contract names this number, and the three below.
const MAX_KEY: usize = 256;
const MAX_VALUE: usize = 64 << 10;
/// What an entry counts beside its key and its value.
const ENTRY: usize = 256;
/// What a tenant counts who has entries.
const TENANT: usize = 1 << 10;

#[derive(Clone, Debug, PartialEq)]
enum Kept {
    Bytes(Vec<u8>),
    Number(i64),
}

impl Kept {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Number(number) => number.to_string().into_bytes(),
        }
    }

    /// A text that is a number can be counted on from.
    fn number(&self) -> Result<i64, KvError> {
        let parsed = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
        match self {
            Self::Bytes(bytes) => parsed(bytes).ok_or(KvError::NotANumber),
            Self::Number(number) => Ok(*number),
        }
    }
}

#[derive(Debug)]
struct Entry {
    kept: Kept,
    /// In milliseconds since the Unix epoch.
    ends: Option<u64>,
}

impl Entry {
    fn bytes(&self, key: &str) -> usize {
        let own = if let Kept::Bytes(bytes) = &self.kept { bytes.len() } else { 0 };
        ENTRY + key.len() + own
    }
}

#[derive(Debug)]
pub(super) struct Store {
    tenants: HashMap<String, HashMap<String, Entry>>,
    /// Entries and bytes of one tenant.
    pub(super) room: (usize, usize),
    /// Every call is refused.
    pub(super) is_absent: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self { tenants: HashMap::new(), room: (4_000, 1 << 20), is_absent: false }
    }
}

impl Store {
    pub(super) fn get(&self, tenant: &str, key: &str, now: u64) -> Result<Option<Vec<u8>>, KvError> {
        self.fits(key, 0)?;
        let entry = self.tenants.get(tenant).and_then(|own| own.get(key));
        Ok(entry.filter(|entry| entry.ends.is_none_or(|ends| now < ends)).map(|entry| entry.kept.bytes()))
    }

    pub(super) fn set(&mut self, tenant: &str, key: &str, value: &[u8], ttl: Option<u32>, now: u64) -> Result<(), KvError> {
        self.fits(key, value.len())?;
        self.put(tenant, key, Entry { kept: Kept::Bytes(value.to_vec()), ends: ends(ttl, now) }, now)
    }

    pub(super) fn delete(&mut self, tenant: &str, key: &str, now: u64) -> Result<bool, KvError> {
        self.fits(key, 0)?;
        Ok(self.live(tenant, now).remove(key).is_some())
    }

    pub(super) fn increment(&mut self, tenant: &str, key: &str, by: i64, ttl: Option<u32>, now: u64) -> Result<i64, KvError> {
        self.fits(key, 0)?;
        let (sum, ends) = match self.live(tenant, now).get(key) {
            Some(entry) => (entry.kept.number()?.saturating_add(by), entry.ends),
            None => (by, ends(ttl, now)),
        };
        self.put(tenant, key, Entry { kept: Kept::Number(sum), ends }, now)?;
        Ok(sum)
    }

    pub(super) fn compare_and_set(
        &mut self,
        tenant: &str,
        key: &str,
        expected: Option<&[u8]>,
        value: &[u8],
        ttl: Option<u32>,
        now: u64,
    ) -> Result<bool, KvError> {
        self.fits(key, value.len())?;
        if self.get(tenant, key, now)?.as_deref() != expected {
            return Ok(false);
        }
        self.set(tenant, key, value, ttl, now).map(|()| true)
    }

    fn fits(&self, key: &str, value: usize) -> Result<(), KvError> {
        if self.is_absent {
            return Err(KvError::Unavailable);
        }
        if (1..=MAX_KEY).contains(&key.len()) && value <= MAX_VALUE { Ok(()) } else { Err(KvError::TooLarge) }
    }

    /// A tenant's entries that still hold.
    fn live(&mut self, tenant: &str, now: u64) -> &mut HashMap<String, Entry> {
        let own = self.tenants.entry(tenant.to_owned()).or_default();
        own.retain(|_, entry| entry.ends.is_none_or(|ends| now < ends));
        own
    }

    /// What takes no more room than what it replaces always fits.
    fn put(&mut self, tenant: &str, key: &str, entry: Entry, now: u64) -> Result<(), KvError> {
        let (most_entries, most_bytes) = self.room;
        let own = self.live(tenant, now);
        let old = own.get(key).map(|old| old.bytes(key));
        let all: usize = TENANT + own.iter().map(|(key, entry)| entry.bytes(key)).sum::<usize>();
        let (more, less) = (entry.bytes(key), old.unwrap_or(0));
        let is_room = more <= less || (all - less + more <= most_bytes && (old.is_some() || own.len() < most_entries));
        if !is_room {
            return Err(KvError::Quota);
        }
        own.insert(key.to_owned(), entry);
        Ok(())
    }
}

fn ends(ttl: Option<u32>, now: u64) -> Option<u64> {
    ttl.map(|ttl| now + u64::from(ttl))
}
