//! fjall, as the tier uses it: four keyspaces that change together or not at all.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `entries` | exact key | the entry, as `entry/wire` writes it |
//! | `vectors` | exact key of an entry that near hits find | a checksum, and its vector |
//! | `order` | when it ends (milliseconds, big-endian), exact key | bytes that it takes |
//! | `about` | `sums`; `rule` and a selector | how many changes, entries and bytes there are; the purge's bound |
//!
//! fjall's own recovery takes a damaged journal for one that ends early, and says nothing. So each change counts itself and what is there
//! after it, and a file beside (`N.written`) has the count of the last change that was acknowledged: what is missing is seen at the start.
//!
//! What it does not do: it opens nothing anew, and takes nothing for damage that the system refuses (no room, no permission).
//!
//! **Invariant:** a change is on disk, synced, before it is acknowledged.
//! **Invariant:** a panic of fjall's about what it reads is damage like any other.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch, PersistMode, Slice};
use rustix::io::Errno;

use crate::cache::entry::{Entry, wire};
use crate::cache::key::ExactKey;
use crate::cache::purge::{Purges, Rule, Selector, Stamp, Told};

/// Memory for blocks that were read, and for what is not yet in tables.
const BLOCKS: u64 = 8 << 20;
const MEMTABLE: u64 = 8 << 20;
const SMALL_MEMTABLE: u64 = 2 << 20;
/// Journals together; fjall takes no less.
const JOURNALS: u64 = 64 << 20;
/// What an entry takes beside its own bytes, about.
const BESIDE: u64 = 96;
/// Entries of one change that only takes out.
const AT_ONCE: usize = 512;

const SUMS: &[u8] = b"sums";
const RULE: &[u8] = b"rule";

/// Why it does not go on.
#[derive(Debug)]
pub(super) enum Broken {
    /// Another process has it, or an earlier one of ours still.
    Locked,
    /// The system refuses.
    System(std::io::Error),
    /// It is not as it was written.
    Damaged(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("another process has it"),
            Self::System(error) => error.fmt(f),
            Self::Damaged(why) => f.write_str(why),
        }
    }
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        const REFUSED: [Errno; 8] =
            [Errno::ACCESS, Errno::PERM, Errno::NOSPC, Errno::ROFS, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        match Errno::from_io_error(&error) {
            Some(errno) if REFUSED.contains(&errno) => Self::System(error),
            _ => Self::Damaged(error.to_string()),
        }
    }
}

impl From<fjall::Error> for Broken {
    fn from(error: fjall::Error) -> Self {
        match error {
            fjall::Error::Locked => Self::Locked,
            fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => error.into(),
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// What is found where fjall panics.
fn guarded<T>(run: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(Broken::Damaged(format!("a panic: {}", said.unwrap_or("of no words"))))
    })
}

/// What reads need.
pub(super) struct Reader {
    entries: Keyspace,
    vectors: Keyspace,
}

impl Reader {
    /// An entry's bytes.
    pub(super) fn get(&self, key: &ExactKey) -> Result<Option<Slice>, Broken> {
        guarded(|| Ok(self.entries.get(key.bytes())?))
    }

    /// All entries, as they are when it begins, and their vectors, until somebody has enough. What is not as it was written is left out.
    pub(super) fn each(&self, now: u64, mut take: impl FnMut(Entry, Option<Vec<f32>>) -> bool) -> Result<(), Broken> {
        guarded(|| {
            for found in self.entries.iter() {
                let Some(entry) = wire::read(&found.into_inner()?.1, now) else { continue };
                let vector = if entry.partition.is_some() { self.vectors.get(entry.key.bytes())? } else { None };
                if !take(entry, vector.and_then(|bytes| wire::read_vector(&bytes))) {
                    break;
                }
            }
            Ok(())
        })
    }
}

/// How many changes there were, and what is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    changes: u64,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// All of it, for the one thread that changes it.
pub(super) struct Store {
    db: Database,
    entries: Keyspace,
    vectors: Keyspace,
    order: Keyspace,
    about: Keyspace,
    pub(super) sums: Sums,
    rules: HashMap<Selector, Stamp>,
    written: File,
}

impl Store {
    /// Opens what is in a folder, or begins it.
    pub(super) fn open(folder: &Path) -> Result<Self, Broken> {
        guarded(|| {
            let written =
                File::options().read(true).write(true).create(true).truncate(false).open(folder.with_extension("written"))?;
            let db = Database::builder(folder)
                .cache_size(BLOCKS)
                .max_journaling_size(JOURNALS)
                .worker_threads(1)
                .manual_journal_persist(true)
                .open()?;
            let keyspace = |name: &str, memtable: u64| {
                db.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(memtable).manual_journal_persist(true))
            };
            let (entries, vectors) = (keyspace("entries", MEMTABLE)?, keyspace("vectors", MEMTABLE)?);
            let (order, about) = (keyspace("order", SMALL_MEMTABLE)?, keyspace("about", SMALL_MEMTABLE)?);
            let mut store = Self { db, entries, vectors, order, about, sums: Sums::default(), rules: HashMap::new(), written };
            store.look()?;
            Ok(store)
        })
    }

    /// Is all that was acknowledged there?
    fn look(&mut self) -> Result<(), Broken> {
        let damaged = |why: String| Err(Broken::Damaged(why));
        let Some(sums) = self.about.get(SUMS)? else {
            return match acknowledged(&self.written)? {
                Some(0) => self.change(Sums::default(), true, |_, _| Ok(())),
                _ => damaged("all that was acknowledged is missing".to_owned()),
            };
        };
        let number = |at: usize| sums.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let (Some(changes), Some(entries), Some(bytes)) = (number(0), number(8), number(16)) else {
            return damaged("its sums cannot be read".to_owned());
        };
        self.sums = Sums { changes, entries, bytes };
        match acknowledged(&self.written)? {
            None => return damaged("what was acknowledged cannot be read".to_owned()),
            // A kill between the first change and its acknowledgement, or a file that was cut.
            Some(0) if changes > 1 => return damaged("what was acknowledged is not known".to_owned()),
            Some(last) if last > changes => {
                return damaged(format!("{} changes that were acknowledged are missing", last - changes));
            }
            Some(_) => {}
        }
        let mut found = Sums { changes, ..Sums::default() };
        for row in self.order.iter() {
            found.entries += 1;
            found.bytes += taken(&row.into_inner()?.1)?;
        }
        if found != self.sums {
            return damaged(format!("{} entries should be there, and {} are", entries, found.entries));
        }
        for row in self.about.prefix(RULE) {
            let (key, bound) = row.into_inner()?;
            let (Ok(selector), Ok(bound)) = (serde_json::from_slice(&key[RULE.len()..]), <[u8; 8]>::try_from(&*bound)) else {
                return damaged("a purge cannot be read".to_owned());
            };
            self.rules.insert(selector, Stamp(u64::from_le_bytes(bound)));
        }
        Ok(())
    }

    /// What reads need.
    pub(super) fn reader(&self) -> Reader {
        Reader { entries: self.entries.clone(), vectors: self.vectors.clone() }
    }

    /// The purges that it knows.
    pub(super) fn rules(&self) -> Vec<Rule> {
        self.rules
            .iter()
            .map(|(selector, bound)| Rule { selector: selector.clone(), bound: *bound, told: Told::Logged })
            .collect()
    }

    /// Writes entries, each in place of the one before, with the vectors that near hits find them by. When it comes back they are on disk.
    pub(super) fn put<'a>(&mut self, entries: impl Iterator<Item = (&'a Entry, Option<Vec<f32>>)>) -> Result<(), Broken> {
        // The last one of a key counts.
        let entries: HashMap<ExactKey, _> = entries.map(|(entry, vector)| (entry.key, (entry, vector))).collect();
        self.change(self.sums, true, |store, batch| {
            for (key, (entry, vector)) in entries {
                if entry.is_brought && store.has_newer(&key, entry.created_at)? {
                    continue;
                }
                store.forget(batch, &key)?;
                let bytes = wire::write(entry);
                let vector = vector.map(|vector| wire::write_vector(&vector));
                let takes = (bytes.len() + vector.as_ref().map_or(0, Vec::len)) as u64 + BESIDE;
                let ends_at = wire::head(&bytes).map_or(0, |head| head.ends_at());
                batch.insert(&store.order, row(ends_at, &key), takes.to_le_bytes());
                batch.insert(&store.entries, key.bytes().as_slice(), bytes);
                if let Some(vector) = vector {
                    batch.insert(&store.vectors, key.bytes().as_slice(), vector);
                }
                store.sums.entries += 1;
                store.sums.bytes += takes;
            }
            Ok(())
        })
    }

    /// Takes out what is over, and what ends first where there is no room. Gives how many made room; it may not be all yet.
    pub(super) fn make_room(&mut self, room: u64, now: u64) -> Result<usize, Broken> {
        guarded(|| {
            let (mut over, mut evicted, mut bytes) = (Vec::new(), 0, self.sums.bytes);
            for found in self.order.iter().take(AT_ONCE) {
                let (row, takes) = found.into_inner()?;
                let (ends_at, key) = parts(&row)?;
                if ends_at > now && bytes <= room {
                    break;
                }
                evicted += usize::from(ends_at > now);
                bytes = bytes.saturating_sub(taken(&takes)?);
                over.push(key);
            }
            self.remove(&over)?;
            Ok(evicted)
        })
    }

    /// Looks at some entries in the order of `order`, from a row on: all are as they were written, and those that are purged are taken out.
    /// Gives where to go on; none at the end. `found_near` gets those that near hits find.
    pub(super) fn walk(
        &mut self,
        from: &[u8],
        count: usize,
        now: u64,
        purges: &Purges,
        mut found_near: impl FnMut(Entry, Vec<f32>),
    ) -> Result<Option<Vec<u8>>, Broken> {
        guarded(|| {
            let (mut last, mut seen, mut purged) = (None, 0, Vec::new());
            for found in self.order.range(from..).take(count) {
                let (row, _) = found.into_inner()?;
                let key = parts(&row)?.1;
                let bytes = self.entries.get(key.bytes())?;
                let entry = bytes.and_then(|bytes| wire::read(&bytes, now)).filter(|entry| entry.key == key);
                let Some(entry) = entry else {
                    return Err(Broken::Damaged(format!("the entry {key} is missing, or not as it was written")));
                };
                if !purges.spare(&entry) {
                    purged.push(key);
                } else if entry.partition.is_some()
                    && let Some(bytes) = self.vectors.get(key.bytes())?
                {
                    let Some(vector) = wire::read_vector(&bytes) else {
                        return Err(Broken::Damaged(format!("the vector of {key} is not as it was written")));
                    };
                    found_near(entry, vector);
                }
                seen += 1;
                last = Some([&*row, &[0]].concat());
            }
            self.remove(&purged)?;
            Ok(last.filter(|_| seen == count))
        })
    }

    /// Keeps these purges over a restart, and no others. When it comes back they are on disk.
    pub(super) fn keep(&mut self, rules: &[Rule]) -> Result<(), Broken> {
        let wanted: HashMap<Selector, Stamp> = rules.iter().map(|rule| (rule.selector.clone(), rule.bound)).collect();
        if wanted == self.rules {
            return Ok(());
        }
        self.change(self.sums, true, |store, batch| {
            let name = |selector: &Selector| serde_json::to_vec(selector).map(|text| [RULE, &text].concat());
            for selector in store.rules.keys().filter(|selector| !wanted.contains_key(selector)) {
                if let Ok(name) = name(selector) {
                    batch.remove(&store.about, name);
                }
            }
            for (selector, bound) in &wanted {
                if let Ok(name) = name(selector) {
                    batch.insert(&store.about, name, bound.0.to_le_bytes());
                }
            }
            store.rules = wanted;
            Ok(())
        })
    }

    fn remove(&mut self, keys: &[ExactKey]) -> Result<(), Broken> {
        if keys.is_empty() {
            return Ok(());
        }
        // What is not taken out after all is so the next time.
        self.change(self.sums, false, |store, batch| keys.iter().try_for_each(|key| store.forget(batch, key)))
    }

    fn has_newer(&self, key: &ExactKey, created_at: u64) -> Result<bool, Broken> {
        let bytes = self.entries.get(key.bytes())?;
        Ok(bytes.and_then(|bytes| wire::head(&bytes).map(|head| head.about.created_at)).is_some_and(|own| own > created_at))
    }

    /// Adds to a change that an entry is taken out, if it is there.
    fn forget(&mut self, batch: &mut OwnedWriteBatch, key: &ExactKey) -> Result<(), Broken> {
        let Some(bytes) = self.entries.get(key.bytes())? else { return Ok(()) };
        let Some(head) = wire::head(&bytes) else {
            return Err(Broken::Damaged(format!("the entry {key} is not as it was written")));
        };
        let row = row(head.ends_at(), key);
        let takes = self.order.get(&row)?.map_or(Ok(0), |takes| taken(&takes))?;
        batch.remove(&self.order, row);
        batch.remove(&self.entries, key.bytes().as_slice());
        if head.about.partition.is_some() {
            batch.remove(&self.vectors, key.bytes().as_slice());
        }
        self.sums.entries = self.sums.entries.saturating_sub(1);
        self.sums.bytes = self.sums.bytes.saturating_sub(takes);
        Ok(())
    }

    /// One change, with the sums after it; where it fails they are as before.
    fn change(
        &mut self,
        before: Sums,
        synced: bool,
        fill: impl FnOnce(&mut Self, &mut OwnedWriteBatch) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let done = guarded(|| {
            let mode = if synced { PersistMode::SyncData } else { PersistMode::Buffer };
            let mut batch = self.db.batch().durability(Some(mode));
            fill(self, &mut batch)?;
            self.sums.changes += 1;
            let Sums { changes, entries, bytes } = self.sums;
            batch.insert(&self.about, SUMS, [changes, entries, bytes].map(u64::to_le_bytes).concat());
            batch.commit()?;
            if synced {
                acknowledge(&self.written, changes)?;
            }
            Ok(())
        });
        if done.is_err() {
            self.sums = before;
        }
        done
    }
}

/// The count of the last change that was acknowledged; none where it cannot be read.
fn acknowledged(written: &File) -> Result<Option<u64>, Broken> {
    let mut bytes = [0; 16];
    if written.metadata()?.len() == 0 {
        return Ok(Some(0));
    }
    if written.read_exact_at(&mut bytes, 0).is_err() || bytes[8..] != blake3::hash(&bytes[..8]).as_bytes()[..8] {
        return Ok(None);
    }
    Ok(bytes[..8].try_into().ok().map(u64::from_le_bytes))
}

/// A kill leaves it whole or not written; after a loss of power it may be an older one, which is less than there is.
fn acknowledge(written: &File, changes: u64) -> std::io::Result<()> {
    let count = changes.to_le_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&count);
    bytes[8..].copy_from_slice(&blake3::hash(&count).as_bytes()[..8]);
    written.write_all_at(&bytes, 0)
}

fn row(ends_at: u64, key: &ExactKey) -> Vec<u8> {
    [&ends_at.to_be_bytes()[..], key.bytes()].concat()
}

fn parts(row: &[u8]) -> Result<(u64, ExactKey), Broken> {
    match (row.first_chunk::<8>(), <[u8; 32]>::try_from(row.get(8..).unwrap_or_default())) {
        (Some(ends_at), Ok(key)) => Ok((u64::from_be_bytes(*ends_at), ExactKey::from_bytes(key))),
        _ => Err(Broken::Damaged("a row of the order cannot be read".to_owned())),
    }
}

fn taken(bytes: &[u8]) -> Result<u64, Broken> {
    let bytes = <[u8; 8]>::try_from(bytes).map_err(|_| Broken::Damaged("a row of the order cannot be read".to_owned()))?;
    Ok(u64::from_le_bytes(bytes))
}
