//! Who holds which prefix: what each endpoint was sent of late, and so has in its KV cache, as far as a gateway can know.
//!
//! A table of fixed size: a block's name chooses a line of eight entries (one cache line of the processor), an entry is part of the
//! name, an endpoint, and when it was last seen. A new entry takes the oldest one's place, so the table forgets as a server does.
//!
//! What it does not do: it asks no server what it really holds; a server that was started anew is found out by its answers.
//!
//! **Invariant:** no lock, and no memory beyond what it began with; what two cores write at once may lose one of two entries.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dialect::prefix::{Prefix, end, mix};

const WAYS: usize = 8;
/// Entries for each endpoint: as many blocks of 512 bytes are a quarter of a million tokens.
const ENTRIES: usize = 2_048;
const LINES_MAX: usize = 1 << 17;
/// The most endpoints that are told apart.
const PLACES: usize = 1 << 12;
/// Endpoints looked up for one prompt: those that hold most of it come first.
const FOUND: usize = 8;

#[repr(align(64))]
#[derive(Default)]
struct Line([AtomicU64; WAYS]);

/// The table.
pub struct Holders(Box<[Line]>);

/// An endpoint that holds a prompt's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its place in the pool.
    pub place: usize,
    /// How much of the prompt, in bytes.
    pub bytes: usize,
}

impl Holders {
    /// For a pool of so many endpoints.
    pub fn new(endpoints: usize) -> Self {
        let lines = (endpoints * ENTRIES / WAYS).next_power_of_two().min(LINES_MAX);
        Self((0..lines).map(|_| Line::default()).collect())
    }

    /// An endpoint is sent this prompt; `seconds` is any clock that goes forward.
    pub fn note(&self, prefix: &Prefix, place: usize, seconds: u64) {
        for name in prefix.blocks() {
            let (line, tag) = self.line(*name);
            let wanted = entry(tag, place, seconds);
            let age = |word: u64| if word == 0 { u64::MAX } else { seconds.wrapping_sub(word) & 0xffff };
            let mut oldest = (0, 0);
            let mut known = None;
            for (way, slot) in line.0.iter().enumerate() {
                let word = slot.load(Ordering::Relaxed);
                if word >> 16 == wanted >> 16 {
                    known = Some(way);
                    break;
                }
                if age(word) >= oldest.1 {
                    oldest = (way, age(word));
                }
            }
            line.0[known.unwrap_or(oldest.0)].store(wanted, Ordering::Relaxed);
        }
    }

    /// Who holds how much of this prompt, the most first.
    pub fn find(&self, prefix: &Prefix, found: &mut Vec<Held>) {
        found.clear();
        for (index, name) in prefix.blocks().iter().enumerate().rev() {
            let (line, tag) = self.line(*name);
            for word in line.0.iter().map(|slot| slot.load(Ordering::Relaxed)) {
                let place = (word >> 16) as usize % PLACES;
                if word != 0 && word >> 28 == tag && !found.iter().any(|held| held.place == place) {
                    found.push(Held { place, bytes: end(index) });
                }
            }
            if found.len() >= FOUND {
                return;
            }
        }
    }

    fn line(&self, name: u64) -> (&Line, u64) {
        (&self.0[mix(name) as usize & (self.0.len() - 1)], name >> 28)
    }
}

/// 36 bits of the name, 12 of the endpoint's place, 16 of the time in seconds; never 0.
fn entry(tag: u64, place: usize, seconds: u64) -> u64 {
    ((tag << 28) | ((place % PLACES) as u64) << 16 | (seconds & 0xffff)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(holders: &Holders, prefix: &Prefix) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        holders.find(prefix, &mut found);
        found.iter().map(|held| (held.place, held.bytes)).collect()
    }

    #[test]
    fn the_longest_beginning_comes_first() {
        let holders = Holders::new(4);
        let system = "s".repeat(1_024);
        let of = |question: &str| Prefix::of("m", [system.as_bytes(), question.repeat(600).as_bytes()]);
        assert_eq!(found(&holders, &of("a")), []);
        holders.note(&of("a"), 1, 10);
        holders.note(&of("b"), 3, 11);
        assert_eq!(found(&holders, &of("a")), [(1, 1_536), (3, 1_024)]);
        assert_eq!(found(&holders, &of("b")), [(3, 1_536), (1, 1_024)]);
        assert_eq!(found(&holders, &of("c")).len(), 2);
    }

    #[test]
    fn the_oldest_is_forgotten() {
        let holders = Holders::new(1);
        let one = Prefix::of("m", ["x".repeat(512).as_bytes()]);
        (0..20).for_each(|place| holders.note(&one, place, place as u64));
        let mut places: Vec<usize> = found(&holders, &one).into_iter().map(|(place, _)| place).collect();
        places.sort_unstable();
        assert_eq!(places, (12..20).collect::<Vec<_>>(), "the eight that were seen last");
        holders.note(&one, 12, 30);
        holders.note(&one, 40, 31);
        assert!(found(&holders, &one).iter().any(|(place, _)| *place == 12), "what is seen again is young again");
        assert!(!found(&holders, &one).iter().any(|(place, _)| *place == 13));
    }
}
