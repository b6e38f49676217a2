//! Entries on their way to another node: out of one node's memory and disk, into another one's tiers.
//!
//! ```text
//! 0..18    "pointsman cache 1\n", before the first entry of a file
//! ..       for each entry: bytes of the entry, bytes of its vector (0: none), the entry, the vector, both as [`wire`] writes them
//! ..       at the end of a file: eight bytes of 0
//! ```
//!
//! Numbers have 32 bits and are little-endian. An entry keeps its key and its age, so it is served where an equal request of the same tenant meets the
//! same model, and nowhere else. Nodes need not agree about purges: what was made before a purge of the node that takes it in stays out, by the clocks.
//!
//! What it does not do: it asks Redis for nothing, whose entries all of its nodes have; nor does it replace anything there.
//!
//! **Invariant:** bytes that are not as they were written bring no entry in, and those before them do.

use std::collections::HashSet;
use std::io::{self, Read};
use std::sync::Arc;

use super::Cache;
use super::entry::{Entry, wire};
use super::tier::{self, Tier};

/// What a file begins with.
pub const MAGIC: &[u8] = b"pointsman cache 1\n";
/// What it ends with.
pub const END: [u8; BEFORE] = [0; BEFORE];
/// Bytes before an entry.
const BEFORE: usize = 8;

/// What became of entries that were brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Brought {
    /// They are served from now on.
    pub taken: u64,
    /// There is one as new already.
    pub known: u64,
    /// Their time is over.
    pub over: u64,
    /// They were made before a purge of this node's that means them.
    pub purged: u64,
    /// They are too large here.
    pub too_large: u64,
}

/// An entry as it travels.
fn record(entry: &Entry, vector: Option<&[f32]>) -> Vec<u8> {
    let (bytes, vector) = (wire::write(entry), vector.map(wire::write_vector).unwrap_or_default());
    let mut record = Vec::with_capacity(BEFORE + bytes.len() + vector.len());
    for part in [&bytes, &vector] {
        record.extend((part.len() as u32).to_le_bytes());
    }
    record.extend(bytes);
    record.extend(vector);
    record
}

/// The first record of these bytes, and what is behind it. None: it is not all there.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (entry, vector) = lengths(bytes)?;
    bytes.split_at_checked(BEFORE.checked_add(entry)?.checked_add(vector)?)
}

/// The next record of a file, behind [`MAGIC`]; none at its end.
///
/// # Errors
/// What the file says, and where it ends within a record.
pub fn next(file: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut record = Vec::new();
    file.take(BEFORE as u64).read_to_end(&mut record)?;
    if record == END {
        return Ok(None);
    }
    let length = lengths(&record).map_or(1, |(entry, vector)| entry as u64 + vector as u64);
    if (file.take(length).read_to_end(&mut record)? as u64) < length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is not all there; what there is of it was taken in"));
    }
    Ok(Some(record))
}

fn lengths(bytes: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    Some((number(0)? as usize, number(4)? as usize))
}

/// A record's entry and vector. None where its bytes are not as they were written.
fn read(record: &[u8], now: u64) -> Option<(Entry, Option<Vec<f32>>)> {
    let (length, of_vector) = lengths(record)?;
    let (entry, vector) = record.get(BEFORE..)?.split_at_checked(length)?;
    let vector = if of_vector == 0 { None } else { Some(wire::read_vector(vector)?) };
    Some((wire::read(entry, now)?, vector))
}

impl Cache {
    /// All that memory and disk have, a record each, until somebody has enough. It blocks while the disk is read.
    ///
    /// # Errors
    /// The disk cannot be read, so this is not all.
    pub fn export(&self, mut take: impl FnMut(Vec<u8>) -> bool) -> Result<(), String> {
        let mut told = HashSet::new();
        let is_wanted = |entry: &Entry| !entry.left().is_zero() && self.purges.spare(entry);
        for entry in self.held.memory.each() {
            told.insert(entry.key);
            if is_wanted(&entry) && !take(record(&entry, self.held.near.vector(&entry).as_deref())) {
                return Ok(());
            }
        }
        self.disk.as_ref().map_or(Ok(()), |disk| {
            disk.each(|entry, vector| told.contains(&entry.key) || !is_wanted(&entry) || take(record(&entry, vector.as_deref())))
        })
    }

    /// Takes records in, and puts them into all tiers. It blocks while the disk is asked what it has.
    ///
    /// # Errors
    /// At a record that is not as it was written, with what became of those before it.
    pub fn import(&self, mut records: &[u8]) -> Result<Brought, Brought> {
        let mut brought = Brought::default();
        while !records.is_empty() {
            let Some((record, rest)) = first(records) else { return Err(brought) };
            let Some((entry, vector)) = read(record, tier::now()) else { return Err(brought) };
            records = rest;
            let own = self.held.memory.find(&entry.key).map(|own| own.created_at);
            let own = own.max(self.disk.as_ref().and_then(|disk| disk.made_at(&entry.key)));
            let count = match () {
                () if own.is_some_and(|own| own >= entry.created_at) => &mut brought.known,
                () if entry.left().is_zero() => &mut brought.over,
                () if !self.purges.spare_made_at(&entry) => &mut brought.purged,
                () if entry.answer.len() > self.settings.max_entry => &mut brought.too_large,
                () => {
                    let vector_bytes = vector.as_ref().map_or(0, |vector| size_of_val(&**vector));
                    // From here on it is as one that was asked for now: whatever is purged later takes it too.
                    let entry = Entry { stamp: self.stamp(), vector_bytes, is_brought: true, ..entry };
                    self.take(Arc::new(entry), vector.as_deref());
                    &mut brought.taken
                }
            };
            *count += 1;
        }
        Ok(brought)
    }

    /// Entries that a tier behind memory should have got, and has not, so far.
    pub fn lost(&self) -> u64 {
        let lost = |tier: Arc<dyn Tier>| tier.numbers().map_or(0, |numbers| numbers.dropped.get() + numbers.failed.get());
        self.further().map(lost).sum()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::cache::key::ExactKey;

    #[test]
    fn what_is_not_as_it_was_written_brings_nothing() {
        let key = ExactKey::from_bytes([7; 32]);
        let entry = Entry { text: Some("How?".into()), ..Entry::new(key, Bytes::from_static(b"{}"), tier::now()) };
        let record = record(&entry, Some(&[0.5, -1.0]));
        let (entry, vector) = read(&record, tier::now()).unwrap();
        assert_eq!((entry.key, entry.text.as_deref(), vector), (key, Some("How?"), Some(vec![0.5, -1.0])));
        assert_eq!(first(&record), Some((&record[..], &[][..])));
        assert_eq!((next(&mut &record[..]).unwrap().as_ref(), next(&mut &END[..]).unwrap()), (Some(&record), None));
        for end in 0..record.len() {
            assert_eq!(first(&record[..end]), None, "{end}");
            assert_eq!(next(&mut &record[..end]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "{end}");
        }
        for bit in 0..8 * record.len() {
            let mut other = record.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            let found = first(&other).and_then(|(record, rest)| read(record, tier::now()).filter(|_| rest.is_empty()));
            assert!(found.is_none(), "bit {bit}");
        }
    }
}
