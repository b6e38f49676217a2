//! How an entry is written down, in Redis and on disk: version 1.
//!
//! ```text
//! 0        version, 1
//! 1..5     bytes of the head
//! 5..13    checksum over what is before it, and the head
//! 13..     head: checksum of the body, how the body is packed, and all that an entry is purged by
//! ..       body: text and answer, packed with LZ4 where that pays
//! ```
//!
//! The head stands first and is readable alone: a purge need not unpack an answer to know that it is meant. Numbers are little-endian.
//! Checksums are BLAKE3, cut short: against damage, not against whoever may write into a tier.
//!
//! A vector, by which near hits find an entry, is written by itself, since most who read an entry want none.
//!
//! **Invariant:** bytes of another version, or with any bit or length that is not as it was written, are no entry; nothing else is made of them.
//! **Invariant:** reading takes no more memory than [`MAX_BODY`], whatever the bytes say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Entry, MAX_TAGS};
use crate::cache::key::{ExactKey, Partition};
use crate::cache::purge::Stamp;

/// The version that is written, and the only one that is read.
pub const VERSION: u8 = 1;
/// Bytes before the head.
const BEFORE: usize = 13;
/// The most bytes of text and answer together.
const MAX_BODY: usize = 256 << 20;
/// Shorter bodies are not worth packing: there is little to find twice in them.
const PACKS_FROM: usize = 512;

/// Packed bodies.
const PLAIN: u8 = 0;
const LZ4: u8 = 1;

/// An entry as bytes.
pub fn write(entry: &Entry) -> Vec<u8> {
    let text = entry.text.as_deref();
    let mut body = Vec::with_capacity(entry.answer.len() + text.map_or(0, str::len) + 4);
    body.extend((text.map_or(0, str::len) as u32).to_le_bytes());
    body.extend(text.unwrap_or_default().as_bytes());
    body.extend(&*entry.answer);
    let plain = body.len();
    let (packing, body) = pack(body);

    let mut head = Vec::with_capacity(256);
    head.extend(&blake3::hash(&body).as_bytes()[..16]);
    head.push(packing);
    head.extend((body.len() as u32).to_le_bytes());
    head.extend((plain as u32).to_le_bytes());
    head.extend(entry.key.bytes());
    head.extend(entry.stamp.0.to_le_bytes());
    head.extend(entry.created_at.to_le_bytes());
    head.extend((entry.ttl.as_millis() as u64).to_le_bytes());
    head.extend((entry.stale.as_millis() as u64).to_le_bytes());
    head.extend(entry.hits.load(Ordering::Relaxed).to_le_bytes());
    head.push(u8::from(text.is_some()));
    head.push(u8::from(entry.partition.is_some()));
    head.extend(entry.partition.iter().flat_map(|partition| *partition.bytes()));
    string(&mut head, &entry.tenant);
    string(&mut head, &entry.model);
    head.push(u8::from(entry.prompt.is_some()));
    for part in entry.prompt.iter().flat_map(|(name, version)| [name, version]) {
        string(&mut head, part);
    }
    head.push(entry.tags.len().min(MAX_TAGS) as u8);
    entry.tags.iter().take(MAX_TAGS).for_each(|tag| string(&mut head, tag));

    let mut bytes = Vec::with_capacity(BEFORE + head.len() + body.len());
    bytes.push(VERSION);
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend(checksum(&bytes, &head));
    bytes.extend(head);
    bytes.extend(body);
    bytes
}

/// What stands in an entry's head.
pub struct Head<'a> {
    /// All but text and answer. Its moment is now, its age is in `created_at`.
    pub about: Entry,
    has_text: bool,
    packing: u8,
    plain: usize,
    checksum: &'a [u8],
    body: usize,
    /// Where the body begins.
    at: usize,
}

impl Head<'_> {
    /// Bytes of the whole entry.
    pub fn whole(&self) -> usize {
        self.at + self.body
    }

    /// Milliseconds since the Unix epoch, from which on nobody wants it.
    pub fn ends_at(&self) -> u64 {
        let lasts = u64::try_from((self.about.ttl + self.about.stale).as_millis()).unwrap_or(u64::MAX);
        self.about.created_at.saturating_add(lasts)
    }
}

/// The head of an entry; its body may be missing.
pub fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let before = bytes.get(..BEFORE)?;
    if before[0] != VERSION {
        return None;
    }
    let length = u32::from_le_bytes(before[1..5].try_into().ok()?) as usize;
    let at = BEFORE.checked_add(length)?;
    let head = bytes.get(BEFORE..at)?;
    if checksum(&before[..5], head) != before[5..] {
        return None;
    }
    let mut rest = Rest(head);
    let body_checksum = rest.take(16)?;
    let (packing, body, plain) = (rest.byte()?, rest.u32()? as usize, rest.u32()? as usize);
    let key = ExactKey::from_bytes(rest.take(32)?.try_into().ok()?);
    let stamp = Stamp(rest.u64()?);
    let created_at = rest.u64()?;
    let (ttl, stale) = (Duration::from_millis(rest.u64()?), Duration::from_millis(rest.u64()?));
    let hits = rest.u32()?;
    let (has_text, is_near) = (rest.flag()?, rest.flag()?);
    let partition = if is_near { Some(Partition::from_bytes(rest.take(32)?.try_into().ok()?)) } else { None };
    let (tenant, model): (Arc<str>, Arc<str>) = (rest.string()?.into(), rest.string()?.into());
    let prompt = if rest.flag()? { Some((rest.string()?.to_owned(), rest.string()?.to_owned())) } else { None };
    let count = usize::from(rest.byte()?);
    let tags: Option<Box<[Box<str>]>> = (0..count).map(|_| rest.string().map(Into::into)).collect();
    if !rest.0.is_empty() || count > MAX_TAGS || plain > MAX_BODY {
        return None;
    }
    let about = Entry {
        partition,
        tenant,
        model,
        prompt,
        tags: tags?,
        ttl,
        stale,
        stamp,
        hits: AtomicU32::new(hits),
        ..Entry::new(key, Bytes::new(), created_at)
    };
    Some(Head { about, has_text, packing, plain, checksum: body_checksum, body, at })
}

/// An entry out of its bytes, at `now` (milliseconds since the Unix epoch). None where they are not as they were written.
pub fn read(bytes: &[u8], now: u64) -> Option<Entry> {
    let Head { mut about, has_text, packing, plain, checksum, body, at } = head(bytes)?;
    let packed = &bytes[at..];
    if packed.len() != body || blake3::hash(packed).as_bytes()[..16] != *checksum {
        return None;
    }
    let body = match packing {
        PLAIN => Bytes::copy_from_slice(packed),
        LZ4 => Bytes::from(lz4_flex::block::decompress(packed, plain).ok()?),
        _ => return None,
    };
    if body.len() != plain {
        return None;
    }
    let length = u32::from_le_bytes(body.get(..4)?.try_into().ok()?) as usize;
    let end = length.checked_add(4)?;
    let text = std::str::from_utf8(body.get(4..end)?).ok()?;
    about.text = has_text.then(|| text.into());
    about.answer = body.slice(end..);
    // It was made so long ago by the wall's clock; from here on the monotonic one counts. A clock that was set back makes it young.
    about.stored = Instant::now().checked_sub(Duration::from_millis(now.saturating_sub(about.created_at)))?;
    Some(about)
}

/// A vector as bytes, behind their checksum.
pub fn write_vector(vector: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
    let checksum = blake3::hash(&bytes[8..]);
    bytes[..8].copy_from_slice(&checksum.as_bytes()[..8]);
    bytes
}

/// A vector out of its bytes. None where they are not as they were written.
pub fn read_vector(bytes: &[u8]) -> Option<Vec<f32>> {
    let (checksum, values) = bytes.split_at_checked(8)?;
    let (values, rest) = values.as_chunks::<4>();
    let is_as_written = rest.is_empty() && blake3::hash(values.as_flattened()).as_bytes()[..8] == *checksum;
    is_as_written.then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}

/// Packed, where that saves an eighth.
fn pack(body: Vec<u8>) -> (u8, Vec<u8>) {
    if body.len() < PACKS_FROM {
        return (PLAIN, body);
    }
    let packed = lz4_flex::block::compress(&body);
    if packed.len() < body.len() - body.len() / 8 { (LZ4, packed) } else { (PLAIN, body) }
}

fn checksum(before: &[u8], head: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before).update(head);
    let mut cut = [0; 8];
    cut.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    cut
}

fn string(head: &mut Vec<u8>, text: &str) {
    // Names are short: configuration and headers bound them.
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    head.extend((text.len() as u16).to_le_bytes());
    head.extend(text.as_bytes());
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn flag(&mut self) -> Option<bool> {
        self.byte().and_then(|byte| (byte < 2).then_some(byte == 1))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&'a str> {
        let length = u16::from_le_bytes(self.take(2)?.try_into().ok()?);
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }
}

#[cfg(test)]
mod tests;
