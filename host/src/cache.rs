//! The cache of answers, in the order in which a request meets it: exact, then near.
//!
//! What it does not do: it embeds nothing and reads no request; keys, vectors and texts are brought by `gateway`, which also
//! decides what may be stored.
//!
//! **Invariant:** an entry is found only under the tenant that stored it ([`key`] sees to that).
//! **Invariant:** a near hit has passed the model's cut and every guard.
//! **Invariant:** an entry whose time is over is found by [`Cache::stale`] alone, and so never as a near hit.

pub mod flight;
pub mod index;
pub mod key;
pub mod near;
pub mod tier;
pub mod verify;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::dialect::answer::Answer;
use crate::numbers::{Count, Exposition};
pub use key::{ExactKey, Partition};
use near::Near;
use tier::Tier;
use tier::memory::Memory;
use verify::{Guard, Question};

/// What the owner has written.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of all entries.
    pub memory: u64,
    /// How long an entry is served.
    pub ttl: Duration,
    /// How long it is kept after that, for those who have no other answer.
    pub stale_for: Duration,
    /// How long after that it is served while it is asked for anew.
    pub revalidates_for: Duration,
    /// Bytes of the largest answer that is kept.
    pub max_entry: usize,
    /// Entries of one partition that near hits are looked for in; 0: none.
    pub max_near: usize,
    /// Equal requests that are under way share one upstream call.
    pub flights: bool,
}

/// A stored answer.
#[derive(Debug)]
pub struct Entry {
    /// The answer, as `chat.completion` JSON.
    pub answer: Bytes,
    /// The text that near hits are compared with.
    pub text: Option<Box<str>>,
    /// The configured model that answered.
    pub model: Arc<str>,
    /// Name and version of the prompt.
    pub prompt: Option<(String, String)>,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    /// The same moment, monotonic.
    pub stored: Instant,
    /// How long it is served.
    pub ttl: Duration,
    /// How long it is kept after that.
    pub stale: Duration,
    /// Bytes of the vectors that go with it.
    pub vector_bytes: usize,
    /// How often it was served.
    pub hits: AtomicU32,
}

impl Entry {
    /// Seconds since it was stored.
    pub fn age(&self, now: u64) -> u64 {
        now.saturating_sub(self.created_at) / 1000
    }

    /// Is its time not over yet?
    pub fn is_fresh(&self) -> bool {
        // Without a second time the tier itself lets it go.
        self.stale.is_zero() || self.stored.elapsed() < self.ttl
    }

    /// Is it over?
    pub fn is_over(&self) -> bool {
        !self.is_fresh()
    }

    /// How long it is fresh still.
    pub fn fresh_for(&self) -> Duration {
        self.ttl.saturating_sub(self.stored.elapsed())
    }

    /// For how long its time has been over.
    pub fn stale_by(&self) -> Duration {
        self.stored.elapsed().saturating_sub(self.ttl)
    }

    /// Memory that it takes, with the table's own.
    fn weight(&self) -> usize {
        self.answer.len() + self.text.as_ref().map_or(0, |text| text.len()) + self.vector_bytes + 320
    }

    /// The beginning of the answer's text, at most `max_bytes` of it.
    pub fn preview(&self, max_bytes: usize) -> String {
        let mut text = Answer::read(self.answer.clone()).and_then(|answer| answer.text()).unwrap_or_default();
        text.truncate(text.floor_char_boundary(max_bytes));
        text
    }

    fn served(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }
}

/// A near hit that may be served, if the plugin agrees.
pub struct Candidate {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Cosine of the two texts.
    pub score: f32,
}

#[derive(Default)]
struct Numbers {
    stored: Count,
    refused: Count,
    vetoes: [Count; Guard::ALL.len()],
    below_cut: Count,
}

/// The cache.
pub struct Cache {
    settings: Settings,
    held: Arc<Held>,
}

/// What outlives a change of settings that does not touch it.
struct Held {
    memory: Memory,
    near: Near,
    numbers: Numbers,
}

impl Cache {
    /// An empty cache.
    pub fn new(settings: Settings) -> Self {
        let held = Held {
            memory: Memory::new(settings.memory),
            near: Near::new(settings.max_near, settings.ttl),
            numbers: Numbers::default(),
        };
        Self { settings, held: Arc::new(held) }
    }

    /// The same entries under other settings; none where what is there does not go with them: it has another size, or is there for
    /// longer than it may be now. (Indexes of near hits last as long as their entries, so they go with one `ttl` alone.)
    pub fn under(&self, settings: Settings) -> Option<Self> {
        let Settings { memory, ttl, stale_for: _, revalidates_for: _, max_entry: _, max_near, flights: _ } = self.settings;
        let lasts = if max_near > 0 { settings.ttl == ttl } else { settings.ttl >= ttl };
        let fits = settings.memory == memory && settings.max_near == max_near && lasts;
        fits.then(|| Self { settings, held: self.held.clone() })
    }

    /// How long an entry is served, where nobody says otherwise.
    pub fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    /// How long an entry is kept after its time.
    pub fn kept_for(&self) -> Duration {
        self.settings.stale_for.max(self.settings.revalidates_for)
    }

    /// How long after its time an entry may take the place of an error.
    pub fn stale_for(&self) -> Duration {
        self.settings.stale_for
    }

    /// How long after its time an entry is served while it is asked for anew.
    pub fn revalidates_for(&self) -> Duration {
        self.settings.revalidates_for
    }

    /// Bytes of the largest answer that is kept.
    pub fn max_entry(&self) -> usize {
        self.settings.max_entry
    }

    /// Do equal requests that are under way share one upstream call?
    pub fn has_flights(&self) -> bool {
        self.settings.flights
    }

    /// Are near hits looked for at all?
    pub fn has_near(&self) -> bool {
        self.settings.max_near > 0
    }

    /// The answer to the very same request.
    pub fn exact(&self, key: &ExactKey) -> Option<Arc<Entry>> {
        let entry = self.held.memory.get(key).filter(|entry| entry.is_fresh())?;
        entry.served();
        Some(entry)
    }

    /// The answer to the very same request whose time is over, for whoever has no other.
    pub fn stale(&self, key: &ExactKey) -> Option<Arc<Entry>> {
        self.aged(key, self.settings.stale_for)
    }

    /// The same, if its time has been over for less than so long.
    pub fn aged(&self, key: &ExactKey, most: Duration) -> Option<Arc<Entry>> {
        // A reload may have shortened what an entry was stored with.
        let most = most.min(self.kept_for());
        let may_be = |entry: &Arc<Entry>| entry.stored.elapsed() < entry.ttl + entry.stale.min(most);
        self.held.memory.get(key).filter(may_be)
    }

    /// Was an answer to this key stored since?
    pub fn was_stored_since(&self, key: &ExactKey, since: Instant) -> bool {
        self.held.memory.get(key).is_some_and(|entry| entry.stored >= since)
    }

    /// The nearest answer whose text reaches the cut and is vetoed by no guard. Whoever serves it says so with
    /// [`Cache::served`].
    pub fn near(&self, partition: &Partition, vector: &[f32], text: &str, cut: f32) -> Option<Candidate> {
        let mut question = None;
        for (score, entry) in self.held.near.nearest(partition, vector) {
            if score < cut {
                self.held.numbers.below_cut.add(1);
                return None;
            }
            let Some(cached) = &entry.text else { continue };
            match question.get_or_insert_with(|| Question::new(text)).veto(cached) {
                Some(guard) => self.held.numbers.vetoes[guard as usize].add(1),
                None => return Some(Candidate { entry, score }),
            }
        }
        None
    }

    /// A candidate was served.
    pub fn served(&self, candidate: &Candidate) {
        candidate.entry.served();
    }

    /// A candidate is not to be found again.
    pub fn evict(&self, partition: &Partition, candidate: &Candidate) {
        self.held.near.forget(partition, &candidate.entry);
    }

    /// Stores an answer; with a vector it can be found by near hits too. False if it is too large.
    pub fn fill(&self, key: ExactKey, entry: Entry, near: Option<(Partition, &[f32])>) -> bool {
        if entry.answer.len() > self.settings.max_entry || entry.ttl.is_zero() {
            self.held.numbers.refused.add(1);
            return false;
        }
        let entry = Arc::new(entry);
        if let Some((partition, vector)) = near {
            self.held.near.insert(partition, vector, &entry);
        }
        self.held.memory.put(key, entry);
        self.held.numbers.stored.add(1);
        true
    }

    /// Empties the cache.
    pub fn purge(&self) {
        self.held.memory.clear();
        self.held.near.clear();
    }

    /// What it holds, for the administrator.
    pub fn report(&self) -> Value {
        let (entries, bytes) = self.held.memory.size();
        json!({ "entries": entries, "bytes": bytes, "partitions": self.held.near.partitions(), "stored": self.held.numbers.stored.get(), "refused": self.held.numbers.refused.get() })
    }

    /// Its numbers for /metrics.
    pub fn expose(&self, text: &mut Exposition) {
        let (entries, bytes) = self.held.memory.size();
        text.gauge("pointsman_cache_entries", "Entries in memory.", &[], entries as f64);
        text.gauge("pointsman_cache_bytes", "Bytes of the entries in memory.", &[], bytes as f64);
        text.counter(
            "pointsman_cache_fills_total",
            "Answers by whether they were stored.",
            &[("outcome", "stored")],
            self.held.numbers.stored.get(),
        );
        text.counter(
            "pointsman_cache_fills_total",
            "Answers by whether they were stored.",
            &[("outcome", "refused")],
            self.held.numbers.refused.get(),
        );
        text.counter(
            "pointsman_cache_near_total",
            "Near candidates that were not served, by what kept them.",
            &[("kept_by", "cut")],
            self.held.numbers.below_cut.get(),
        );
        for guard in Guard::ALL {
            let value = self.held.numbers.vetoes[guard as usize].get();
            text.counter(
                "pointsman_cache_near_total",
                "Near candidates that were not served, by what kept them.",
                &[("kept_by", guard.name())],
                value,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept for those who have no other answer is nobody else's hit, exact or near.
    #[tokio::test(start_paused = true)]
    async fn what_is_old_is_found_by_who_asks_for_it() {
        let minute = Duration::from_secs(60);
        let settings = Settings {
            memory: 1 << 20,
            ttl: minute,
            stale_for: minute,
            revalidates_for: Duration::ZERO,
            max_entry: 1 << 10,
            max_near: 10,
            flights: true,
        };
        let cache = Cache::new(settings);
        let (key, partition) = (key::KeyBuilder::new("t").exact(), key::KeyBuilder::new("t").partition());
        let entry = |stale| Entry {
            answer: Bytes::from_static(b"x"),
            text: Some("how are you".into()),
            model: "m".into(),
            prompt: None,
            created_at: 0,
            stored: Instant::now(),
            ttl: minute,
            stale,
            vector_bytes: 0,
            hits: AtomicU32::new(0),
        };
        let found = |cache: &Cache| {
            let near = cache.near(&partition, &[1.0, 0.0], "how are you", 0.9);
            (cache.exact(&key).is_some(), near.is_some(), cache.stale(&key).is_some())
        };
        cache.fill(key, entry(minute), Some((partition, &[1.0, 0.0])));
        assert_eq!(found(&cache), (true, true, true));
        tokio::time::advance(minute).await;
        assert_eq!(found(&cache), (false, false, true));
        let shorter = cache.under(Settings { stale_for: Duration::ZERO, ..settings }).unwrap();
        assert_eq!(found(&shorter), (false, false, false), "a reload counts for what is there");
        tokio::time::advance(minute).await;
        assert_eq!(found(&cache), (false, false, false));
    }

    #[test]
    fn entries_outlive_settings_that_go_with_them() {
        let before = Settings {
            memory: 1 << 20,
            ttl: Duration::from_secs(60),
            stale_for: Duration::ZERO,
            revalidates_for: Duration::ZERO,
            max_entry: 1 << 10,
            max_near: 0,
            flights: true,
        };
        let near = Settings { max_near: 100, ..before };
        let longer = Duration::from_secs(90);
        for (before, after, stays) in [
            (before, before, true),
            (before, Settings { max_entry: 1, ..before }, true),
            (before, Settings { ttl: longer, ..before }, true),
            (before, Settings { ttl: Duration::from_secs(1), ..before }, false),
            (before, Settings { memory: 2 << 20, ..before }, false),
            (before, near, false),
            (near, Settings { max_entry: 1, ..near }, true),
            (near, Settings { ttl: longer, ..near }, false),
        ] {
            assert_eq!(Cache::new(before).under(after).is_some(), stays, "{before:?} {after:?}");
        }
    }
}
