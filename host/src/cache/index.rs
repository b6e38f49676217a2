//! The vectors of one partition: which stored text is nearest?
//!
//! Up to [`BRUTE_FORCE`] entries every vector is looked at: exact, and 35 µs for 1,000 of 256 components. Beyond that usearch's
//! graph, of quantised vectors, finds the candidates, which are ranked again with the full ones.
//!
//! **Invariant:** scores are cosines of full vectors, never of quantised ones.
//! **Invariant:** at most `capacity` entries; the oldest place is used again when it is full.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use usearch::{IndexOptions, MetricKind, ScalarKind};

use super::Entry;
use crate::vector::cosine;

/// From here on usearch is quicker than looking at all.
const BRUTE_FORCE: usize = 4_096;
/// Candidates that are given back.
const CANDIDATES: usize = 8;

/// Vectors and whose they are.
pub struct Index {
    dimensions: usize,
    capacity: usize,
    entries: Vec<Weak<Entry>>,
    full: Vec<f32>,
    /// Where a text's entry was put, by the text's hash: whether it is still there is for the entry to say.
    places: HashMap<u64, usize>,
    graph: Option<usearch::Index>,
    /// Places below this one are in the graph.
    graphed: usize,
    /// The place that is used next when all are taken.
    oldest: usize,
}

impl Index {
    /// An empty index.
    pub fn new(dimensions: usize, capacity: usize) -> Self {
        Self {
            dimensions,
            capacity: capacity.max(1),
            entries: Vec::new(),
            full: Vec::new(),
            places: HashMap::new(),
            graph: None,
            graphed: 0,
            oldest: 0,
        }
    }

    /// Adds an entry; one of the same text makes way.
    pub fn insert(&mut self, vector: &[f32], entry: &Arc<Entry>) {
        if vector.len() != self.dimensions {
            return;
        }
        let hash = hash(entry.text.as_deref().unwrap_or_default());
        let same = |place: &usize| self.entries[*place].upgrade().is_none_or(|other| other.text == entry.text);
        let twin = self.places.get(&hash).copied().filter(same);
        let place = twin.or_else(|| self.free()).unwrap_or(self.entries.len());
        self.places.insert(hash, place);
        if self.places.len() > 2 * self.entries.len() + 64 {
            // Texts whose places others have taken. Once in as many inserts as there are entries.
            let (entries, count) = (&self.entries, self.entries.len());
            let text_at =
                |place: usize| (place < count).then(|| entries[place].upgrade()).flatten().and_then(|entry| entry.text.clone());
            self.places.retain(|text, at| *text == hash || text_at(*at).is_some_and(|own| self::hash(&own) == *text));
        }
        let range = place * self.dimensions..(place + 1) * self.dimensions;
        if place == self.entries.len() {
            self.entries.push(Arc::downgrade(entry));
            self.full.extend_from_slice(vector);
        } else {
            self.entries[place] = Arc::downgrade(entry);
            self.full[range].copy_from_slice(vector);
        }
        self.keep_graph(place);
    }

    /// A place whose entry is gone, or the oldest if there is no room for more.
    fn free(&mut self) -> Option<usize> {
        // A few looks per insert keep pace with entries that leave, without a walk through all of them.
        let count = self.entries.len();
        let dead = (0..count.min(16)).map(|step| (self.oldest + step) % count).find(|place| !lives(&self.entries[*place]));
        let place = match dead {
            None if count < self.capacity => return None,
            None => self.oldest % count,
            Some(place) => place,
        };
        self.oldest = (place + 1) % count;
        Some(place)
    }

    /// Keeps the graph in step. It is begun long before it is needed and grows by two places an insert, so that no insert
    /// pays for all of it.
    fn keep_graph(&mut self, place: usize) {
        if self.entries.len() <= BRUTE_FORCE / 2 {
            return;
        }
        if let Err(error) = self.grow(place) {
            tracing::warn!(%error, "a vector index failed; looking at all vectors instead");
            (self.graph, self.graphed) = (None, 0);
        }
    }

    fn grow(&mut self, changed: usize) -> Result<(), String> {
        let graph = match self.graph.take() {
            Some(graph) => graph,
            None => new_graph(self.dimensions)?,
        };
        reserve(&graph, self.entries.len())?;
        let add = |place: usize| {
            let range = place * self.dimensions..(place + 1) * self.dimensions;
            graph.add(place as u64, &self.full[range]).map_err(|error| error.to_string())
        };
        if changed < self.graphed {
            graph.remove(changed as u64).map_err(|error| error.to_string())?;
            add(changed)?;
        }
        for _ in 0..2 {
            if self.graphed < self.entries.len() {
                add(self.graphed)?;
                self.graphed += 1;
            }
        }
        self.graph = Some(graph);
        Ok(())
    }

    /// The graph, where it is complete and quicker than looking at all.
    fn complete_graph(&self) -> Option<&usearch::Index> {
        self.graph.as_ref().filter(|_| self.graphed == self.entries.len() && self.entries.len() > BRUTE_FORCE)
    }

    /// Takes an entry out.
    pub fn forget(&mut self, entry: &Arc<Entry>) {
        if let Some(place) = self.entries.iter().position(|other| other.as_ptr() == Arc::as_ptr(entry)) {
            self.entries[place] = Weak::new();
        }
    }

    /// The vector of an entry, while it is here.
    pub fn vector(&self, entry: &Arc<Entry>) -> Option<&[f32]> {
        let place = *self.places.get(&hash(entry.text.as_deref()?))?;
        let is_own = self.entries.get(place)?.as_ptr() == Arc::as_ptr(entry);
        if is_own { self.full.get(place * self.dimensions..(place + 1) * self.dimensions) } else { None }
    }

    /// The nearest entries that are still there, best first.
    pub fn nearest(&self, vector: &[f32]) -> Vec<(f32, Arc<Entry>)> {
        if vector.len() != self.dimensions {
            return Vec::new();
        }
        let found = match self.complete_graph().map(|graph| graph.search(vector, CANDIDATES)) {
            Some(Ok(found)) => self.ranked(found.keys.iter().map(|place| *place as usize), vector),
            _ => self.ranked(0..self.entries.len(), vector),
        };
        found.into_iter().filter_map(|(score, place)| Some((score, self.entries.get(place)?.upgrade()?))).collect()
    }

    /// The best of these places, best first.
    fn ranked(&self, places: impl Iterator<Item = usize>, vector: &[f32]) -> Vec<(f32, usize)> {
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(CANDIDATES + 1);
        for place in places.filter(|place| self.entries.get(*place).is_some_and(lives)) {
            let row = self.full.get(place * self.dimensions..(place + 1) * self.dimensions).unwrap_or_default();
            let score = cosine(row, vector);
            if best.len() < CANDIDATES || best.last().is_some_and(|(last, _)| score > *last) {
                let at = best.partition_point(|(other, _)| *other >= score);
                best.insert(at, (score, place));
                best.truncate(CANDIDATES);
            }
        }
        best
    }
}

/// Is the entry still there, and its time not over? A tier lets go of what is over when it comes to it, so the clock is asked.
fn lives(entry: &Weak<Entry>) -> bool {
    entry.upgrade().is_some_and(|entry| !entry.fresh_for().is_zero())
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

fn new_graph(dimensions: usize) -> Result<usearch::Index, String> {
    let options = IndexOptions {
        dimensions,
        metric: MetricKind::Cos,
        quantization: ScalarKind::I8,
        connectivity: 16,
        ..IndexOptions::default()
    };
    usearch::Index::new(&options).map_err(|error| error.to_string())
}

/// usearch fails a search that it has no thread slot for, so it gets as many as there can be callers.
fn reserve(graph: &usearch::Index, entries: usize) -> Result<(), String> {
    if graph.capacity() > entries {
        return Ok(());
    }
    let callers = std::thread::available_parallelism().map_or(1, usize::from) + 2;
    graph.reserve_capacity_and_threads((entries + 1).next_power_of_two(), callers).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cache::key::KeyBuilder;

    fn entry(text: &str) -> Arc<Entry> {
        let key = KeyBuilder::new(text).exact();
        Arc::new(Entry { text: Some(text.into()), ttl: Duration::from_secs(60), ..Entry::new(key, Default::default(), 0) })
    }

    /// A tier lets go of an entry some time after it is over, and whoever reads its answer keeps it for as long as that takes.
    #[test]
    fn what_is_over_is_found_no_more_though_somebody_has_it() {
        let mut index = Index::new(64, 10);
        let over =
            Arc::new(Entry { text: Some("over".into()), ..Entry::new(KeyBuilder::new("over").exact(), Default::default(), 0) });
        index.insert(&vector(1), &over);
        index.insert(&vector(2), &entry("there"));
        let there = entry("there too");
        index.insert(&vector(3), &there);
        let found: Vec<_> = index.nearest(&vector(1)).into_iter().filter_map(|(_, entry)| entry.text.clone()).collect();
        assert_eq!(found.iter().map(|text| &**text).collect::<Vec<_>>(), ["there too"]);
    }

    /// A pseudo-random unit vector.
    fn vector(seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut values: Vec<f32> = (0..64)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.iter_mut().for_each(|value| *value /= length);
        values
    }

    #[test]
    fn the_nearest_is_found_below_and_above_the_graph() {
        for count in [100, BRUTE_FORCE + 200] {
            let mut index = Index::new(64, 100_000);
            let entries: Vec<_> = (0..count).map(|seed| entry(&seed.to_string())).collect();
            for (seed, entry) in entries.iter().enumerate() {
                index.insert(&vector(seed as u64), entry);
            }
            assert_eq!(index.complete_graph().is_some(), count > BRUTE_FORCE);
            let hits = (0..100)
                .filter(|seed| {
                    index
                        .nearest(&vector(*seed))
                        .first()
                        .is_some_and(|(score, found)| *score > 0.999 && Arc::ptr_eq(found, &entries[*seed as usize]))
                })
                .count();
            assert!(hits >= 98, "{hits} of 100 among {count}");
        }
    }

    #[test]
    fn what_the_exact_tier_let_go_is_gone() {
        let mut index = Index::new(64, 10);
        let kept = entry("kept");
        index.insert(&vector(1), &entry("gone"));
        index.insert(&vector(2), &kept);
        assert_eq!(index.nearest(&vector(1)).len(), 1);
        assert_eq!(index.entries.len(), 1, "its place was used again");
        index.forget(&kept);
        assert!(index.nearest(&vector(2)).is_empty());
    }

    #[test]
    fn texts_that_are_gone_are_forgotten() {
        let mut index = Index::new(64, 10);
        for seed in 0..10_000 {
            index.insert(&vector(seed), &entry(&seed.to_string()));
        }
        assert!(index.entries.len() <= 10 && index.places.len() <= 100, "{} {}", index.entries.len(), index.places.len());
    }

    #[test]
    fn the_same_text_is_there_once_and_the_bound_holds() {
        let mut index = Index::new(64, 10);
        let entries: Vec<_> = (0..50).map(|seed| entry(&(seed % 25).to_string())).collect();
        for (seed, entry) in entries.iter().enumerate() {
            index.insert(&vector(seed as u64 % 25), entry);
        }
        assert!(index.entries.len() <= 10);
        index.insert(&vector(24), &entries[24]);
        index.insert(&vector(24), &entries[49]);
        let found = index.nearest(&vector(24));
        assert_eq!(found.iter().filter(|(score, _)| *score > 0.999).count(), 1);
    }
}
