//! An entry: a stored answer, whose it is, and what it can be purged by.
//!
//! What it does not do: it knows no tier; how it is written down is in [`wire`].
//!
//! **Invariant:** an entry carries its own key, so that a tier that mixes entries up has none.

pub mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::key::{ExactKey, Partition};
use super::purge::Stamp;
use crate::dialect::answer::Answer;

/// The most tags of an entry.
pub const MAX_TAGS: usize = 16;
/// The most bytes of a tag.
pub const MAX_TAG: usize = 64;

/// A stored answer.
#[derive(Debug)]
pub struct Entry {
    /// What it is found by.
    pub key: ExactKey,
    /// The answer, as `chat.completion` JSON.
    pub answer: Bytes,
    /// The text that near hits are compared with.
    pub text: Option<Box<str>>,
    /// Where near hits find it.
    pub partition: Option<Partition>,
    /// Whose it is.
    pub tenant: Arc<str>,
    /// The configured model that answered.
    pub model: Arc<str>,
    /// Name and version of the prompt.
    pub prompt: Option<(String, String)>,
    /// What its asker has named for it to be purged by; at most [`MAX_TAGS`].
    pub tags: Box<[Box<str>]>,
    /// Milliseconds since the Unix epoch.
    pub created_at: u64,
    /// The same moment, monotonic.
    pub stored: Instant,
    /// How long it is served.
    pub ttl: Duration,
    /// How long it is kept after that.
    pub stale: Duration,
    /// The last purge that was known when it was asked for.
    pub stamp: Stamp,
    /// The purges that it was held against, as [`super::purge::Purges`] counts them.
    pub held_against: AtomicU64,
    /// Bytes of the vectors that go with it.
    pub vector_bytes: usize,
    /// How often it was served.
    pub hits: AtomicU32,
    /// What it was worth when it was made: micro-US-dollars, and microseconds of waiting. What comes from another tier is not known to have
    /// been worth anything.
    pub worth: (u64, u64),
    /// The level of trust at which it was last served to a question that is not its own, and one more; 0: never.
    pub near_level: AtomicU8,
    /// How often it was found to be wrong there.
    pub wrong: AtomicU32,
    /// It comes from another node, so what others have of it may be newer.
    pub is_brought: bool,
}

impl Entry {
    /// An answer to this key, made now, of nobody in particular and for no time at all: what is known of it is set by whoever has it.
    pub fn new(key: ExactKey, answer: Bytes, created_at: u64) -> Self {
        Self {
            key,
            answer,
            text: None,
            partition: None,
            tenant: Arc::default(),
            model: Arc::default(),
            prompt: None,
            tags: Box::default(),
            created_at,
            stored: Instant::now(),
            ttl: Duration::ZERO,
            stale: Duration::ZERO,
            stamp: Stamp::default(),
            held_against: AtomicU64::new(0),
            vector_bytes: 0,
            hits: AtomicU32::new(0),
            worth: (0, 0),
            near_level: AtomicU8::new(0),
            wrong: AtomicU32::new(0),
            is_brought: false,
        }
    }

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

    /// How long a tier still keeps it.
    pub fn left(&self) -> Duration {
        (self.ttl + self.stale).saturating_sub(self.stored.elapsed())
    }

    /// Memory that it takes, with the table's own.
    pub fn weight(&self) -> usize {
        let tags: usize = self.tags.iter().map(|tag| tag.len() + 16).sum();
        self.answer.len() + self.text.as_ref().map_or(0, |text| text.len()) + self.vector_bytes + tags + 464
    }

    /// The beginning of the answer's text, at most `max_bytes` of it.
    pub fn preview(&self, max_bytes: usize) -> String {
        let mut text = Answer::read(self.answer.clone()).and_then(|answer| answer.text()).unwrap_or_default();
        text.truncate(text.floor_char_boundary(max_bytes));
        text
    }

    /// It was served once more.
    pub fn served(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }
}
