//! The stage `fill`: a whole answer goes into the cache.
//!
//! What it does not do: it never holds back a byte of the answer but the last event, for the microseconds that it takes.
//!
//! **Invariant:** only whole answers that ended of their own accord are stored; a plugin that was to say so and cannot says no.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::audit::{self, Audit};
use super::course::Course;
use super::key::Keys;
use super::{Exchange, Gateway};
use crate::cache::{Cache, Entry};
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::stream::assemble;
use crate::plugin::hooks::Session;

/// Streams of more bytes than this are put together on a thread of their own.
const INLINE: usize = 64 << 10;
/// Streams that may be put together there at a time.
static ASIDE: Semaphore = Semaphore::const_new(32);

/// Everything that is needed to store the answer when it is there.
pub(super) struct Fill {
    cache: Arc<Cache>,
    keys: Keys,
    /// Where a plugin is to be asked: its session, and the request that it will see.
    asks: Option<(Box<Session>, Arc<ChatRequest>)>,
    gateway: Arc<Gateway>,
    exchange: Arc<Exchange>,
    /// An almost near hit that is compared with the answer.
    near_miss: Option<Audit>,
    /// How many the client asked for.
    choices: usize,
    model: Arc<str>,
    prompt: Option<(String, String)>,
}

/// Bytes of the longest stream that may make an answer that is kept.
pub(super) fn most(cache: &Cache) -> usize {
    // A stream says every word in an envelope of its own: about ten times the answer that it makes.
    cache.max_entry().saturating_mul(10)
}

/// The answer that a stream's bytes make; none where they make none, or so many are put together just now that one more is not worth
/// its memory.
pub(super) async fn put_together(copy: Bytes) -> Option<Vec<u8>> {
    if copy.len() <= INLINE {
        return assemble(&copy);
    }
    let Ok(_place) = ASIDE.try_acquire() else { return None };
    tokio::task::spawn_blocking(move || assemble(&copy)).await.ok().flatten()
}

impl Fill {
    /// None where there is no cache.
    pub(super) fn new(course: &mut Course, request: &Arc<ChatRequest>, keys: Keys, model: Arc<str>) -> Option<Self> {
        let cache = course.exchange.state.cache.clone()?;
        let session = if keys.admit { course.session.take() } else { None };
        let asks = session.map(|session| (session, request.clone()));
        let (gateway, exchange, prompt) = (course.gateway.clone(), course.exchange.clone(), course.prompt());
        let near_miss = course.near_miss.take();
        Some(Self { cache, keys, asks, near_miss, gateway, exchange, choices: request.choices(), model, prompt })
    }

    /// Bytes of the largest answer that is worth a copy.
    pub(super) fn limit(&self) -> usize {
        most(&self.cache)
    }

    /// Stores the answer that a stream's bytes make.
    pub(super) async fn stream(self, copy: Bytes) {
        if let Some(answer) = put_together(copy).await.and_then(|whole| Answer::read(Bytes::from(whole))) {
            self.answer(Arc::new(answer)).await;
        }
    }

    /// Stores an answer, if it may be.
    pub(super) async fn answer(mut self, answer: Arc<Answer>) {
        if !answer.is_storable(self.choices) {
            return;
        }
        if let Some(near_miss) = self.near_miss.take() {
            audit::miss(&self.gateway, &self.exchange, &self.cache, near_miss, &answer);
        }
        let (mut ttl, mut stale) = (self.keys.ttl, self.keys.stale);
        if self.keys.admit {
            let (Some((session, request)), Some(by)) = (&mut self.asks, &self.keys.by) else { return };
            match Box::pin(session.admit(by, request, &answer)).await {
                None => return,
                Some(ms) if Duration::from_millis(u64::from(ms)) < ttl => {
                    (ttl, stale) = (Duration::from_millis(u64::from(ms)), Duration::ZERO);
                }
                Some(_) => {}
            }
        }
        let near = match &self.keys.near {
            // The look-up has embedded it, unless it was not to look.
            Some(near) => self.exchange.vector(&near.text).await.ok().map(|vector| (near.partition, vector, near.text.as_str())),
            None => None,
        };
        // A copy: the bytes that came are a slice of the connection's read buffer, many times the size of a short answer,
        // and would keep all of it for as long as the entry lives.
        let bytes = answer.kept();
        let created_at = self.exchange.received_at + self.exchange.started.elapsed().as_millis() as u64;
        let price = self.exchange.state.models.price(&self.model);
        let cost = price.zip(answer.usage()).map_or(0, |(price, usage)| price.of(usage.into()));
        let entry = Entry {
            worth: (cost, self.exchange.started.elapsed().as_micros() as u64),
            text: near.as_ref().map(|(_, _, text)| (*text).into()),
            partition: near.as_ref().map(|(partition, _, _)| *partition),
            tenant: self.exchange.principal.tenant.clone(),
            model: self.model,
            prompt: self.prompt,
            tags: self.keys.tags,
            ttl,
            stale,
            stamp: self.keys.stamp,
            vector_bytes: near.as_ref().map_or(0, |(_, vector, _)| size_of_val(&**vector)),
            ..Entry::new(self.keys.exact, bytes, created_at)
        };
        self.cache.fill(entry, near.as_ref().map(|(_, vector, _)| &**vector));
    }
}
