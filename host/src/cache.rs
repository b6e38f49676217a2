//! The cache of answers, in the order in which a request meets it: exact, then near.
//!
//! What it does not do: it embeds nothing and reads no request; keys, vectors and texts are brought by `gateway`, which also
//! decides what may be stored.
//!
//! **Invariant:** an entry is found only under the tenant that stored it ([`key`] sees to that).
//! **Invariant:** a near hit has passed every guard, and the cut that its tenant's evidence allows.
//! **Invariant:** an entry whose time is over is found by [`Cache::stale`] alone, and so never as a near hit.

pub mod index;
pub mod key;
pub mod near;
pub mod semantic;
pub mod tier;
pub mod trial;
pub mod trust;
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
use semantic::{Asked, Candidate, Semantic};
use tier::Tier;
use tier::memory::Memory;
use trust::Trust;
use trust::calibration::Calibration;
use verify::Verifier;

/// What the owner has written.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of all entries.
    pub memory: u64,
    /// How long an entry is served.
    pub ttl: Duration,
    /// How long it is kept after that, for those who have no other answer.
    pub stale_for: Duration,
    /// Bytes of the largest answer that is kept.
    pub max_entry: usize,
    /// Entries of one partition that near hits are looked for in; 0: none.
    pub max_near: usize,
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

/// What the owner has written about near hits, and what is known of them.
#[derive(Clone, Debug)]
pub struct NearSettings {
    /// The id of the model file that vectors come from.
    pub embedder: String,
    /// What may be wrong, and what is audited.
    pub trust: trust::Settings,
    /// What is known beforehand; none: they start cold.
    pub calibration: Option<Calibration>,
}

#[derive(Default)]
struct Numbers {
    stored: Count,
    refused: Count,
}

/// The cache.
pub struct Cache {
    settings: Settings,
    held: Arc<Held>,
    /// Near hits; none where none are looked for.
    semantic: Option<Semantic>,
}

/// What outlives a change of settings that does not touch it.
struct Held {
    memory: Memory,
    numbers: Numbers,
}

impl Cache {
    /// An empty cache.
    pub fn new(settings: Settings, near: Option<NearSettings>) -> Self {
        let held = Held { memory: Memory::new(settings.memory), numbers: Numbers::default() };
        let semantic = near.filter(|_| settings.max_near > 0).map(|near| {
            let index = Near::new(settings.max_near, settings.ttl);
            Semantic::new(index, Verifier::of(&near.embedder), Trust::new(near.trust, near.calibration))
        });
        Self { settings, held: Arc::new(held), semantic }
    }

    /// The same entries under other settings; none where what is there does not go with them: it has another size, or is there for
    /// longer than it may be now. (Indexes of near hits last as long as their entries, so they go with one `ttl` alone.)
    pub fn under(&self, settings: Settings, near: Option<NearSettings>) -> Option<Self> {
        let Settings { memory, ttl, stale_for: _, max_entry: _, max_near } = self.settings;
        let lasts = if max_near > 0 { settings.ttl == ttl } else { settings.ttl >= ttl };
        let fits = settings.memory == memory && settings.max_near == max_near && lasts;
        let semantic = || Some(self.semantic.as_ref()?.under(near.as_ref()?.trust, near?.calibration));
        fits.then(|| Self { settings, held: self.held.clone(), semantic: semantic() })
    }

    /// How long an entry is served, where nobody says otherwise.
    pub fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    /// How long an entry is kept after its time.
    pub fn stale_for(&self) -> Duration {
        self.settings.stale_for
    }

    /// Bytes of the largest answer that is kept.
    pub fn max_entry(&self) -> usize {
        self.settings.max_entry
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
        // A reload may have shortened what an entry was stored with.
        let may_be = |entry: &Arc<Entry>| entry.stored.elapsed() < entry.ttl + entry.stale.min(self.settings.stale_for);
        self.held.memory.get(key).filter(may_be)
    }

    /// The best answer to a question that means about the same, and whether it may be served. Whoever serves it says so with
    /// [`Cache::served`].
    pub fn near(&self, asked: &Asked<'_>) -> Option<Candidate> {
        self.semantic.as_ref()?.find(asked)
    }

    /// A candidate was served.
    pub fn served(&self, asked: &Asked<'_>, candidate: &Candidate) {
        if let Some(semantic) = &self.semantic {
            semantic.served(asked, candidate);
        }
    }

    /// A candidate is not to be found again.
    pub fn evict(&self, partition: &Partition, candidate: &Candidate) {
        if let Some(semantic) = &self.semantic {
            semantic.forget(partition, &candidate.entry);
        }
    }

    /// What is known of near hits; none where none are looked for.
    pub fn trust(&self) -> Option<&Trust> {
        self.semantic.as_ref().map(Semantic::trust)
    }

    /// Stores an answer; with a vector it can be found by near hits too. False if it is too large.
    pub fn fill(&self, key: ExactKey, entry: Entry, near: Option<(Partition, &[f32])>) -> bool {
        if entry.answer.len() > self.settings.max_entry || entry.ttl.is_zero() {
            self.held.numbers.refused.add(1);
            return false;
        }
        let entry = Arc::new(entry);
        if let Some((semantic, (partition, vector))) = self.semantic.as_ref().zip(near) {
            semantic.insert(partition, vector, &entry);
        }
        self.held.memory.put(key, entry);
        self.held.numbers.stored.add(1);
        true
    }

    /// Empties the cache.
    pub fn purge(&self) {
        self.held.memory.clear();
        if let Some(semantic) = &self.semantic {
            semantic.clear();
        }
    }

    /// What it holds, for the administrator.
    pub fn report(&self) -> Value {
        let (entries, bytes) = self.held.memory.size();
        json!({ "entries": entries, "bytes": bytes, "partitions": self.semantic.as_ref().map_or(0, Semantic::partitions), "stored": self.held.numbers.stored.get(), "refused": self.held.numbers.refused.get() })
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
        if let Some(semantic) = &self.semantic {
            semantic.expose(text);
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
        let settings = Settings { memory: 1 << 20, ttl: minute, stale_for: minute, max_entry: 1 << 10, max_near: 10 };
        let trust = trust::Settings { wrong_hits: 0.5, audit: 0.0 };
        let near = NearSettings { embedder: "m@1".into(), trust, calibration: Some(sure("m@1")) };
        let cache = Cache::new(settings, Some(near.clone()));
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
            let tenant: Arc<str> = "t".into();
            let asked = Asked { tenant: &tenant, partition: &partition, vector: &[1.0, 0.0], text: "how are you", least: 0.9 };
            let near = cache.near(&asked).is_some_and(|found| found.serve);
            (cache.exact(&key).is_some(), near, cache.stale(&key).is_some())
        };
        cache.fill(key, entry(minute), Some((partition, &[1.0, 0.0])));
        assert_eq!(found(&cache), (true, true, true));
        tokio::time::advance(minute).await;
        assert_eq!(found(&cache), (false, false, true));
        let shorter = cache.under(Settings { stale_for: Duration::ZERO, ..settings }, Some(near)).unwrap();
        assert_eq!(found(&shorter), (false, false, false), "a reload counts for what is there");
        tokio::time::advance(minute).await;
        assert_eq!(found(&cache), (false, false, false));
    }

    /// A calibration of somebody who has never seen a wrong one.
    fn sure(embedder: &str) -> Calibration {
        let mut tally = trust::levels::Tally::default();
        tally.add_many(trust::levels::Level::of(0.0), 1e6, 0.0);
        Calibration { embedder: embedder.to_owned(), requests: 1, tally }
    }

    #[test]
    fn entries_outlive_settings_that_go_with_them() {
        let before = Settings {
            memory: 1 << 20,
            ttl: Duration::from_secs(60),
            stale_for: Duration::ZERO,
            max_entry: 1 << 10,
            max_near: 0,
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
            assert_eq!(Cache::new(before, None).under(after, None).is_some(), stays, "{before:?} {after:?}");
        }
    }
}
