//! A model that a provider serves: texts that wait together go in one request, and a provider that is slow or fails costs a near hit.
//!
//! Whoever gets a place takes what waits, its own text among it, and asks for all of it; the others are told. So there is no thread and no
//! timer here, and nobody waits for a batch to become full.
//!
//! What it does not do: it knows no provider; `gateway` lends it the way there ([`Ask`]).
//!
//! **Invariant:** nobody waits longer than the owner has said, and at most so many texts wait.
//! **Invariant:** a text goes to the provider that the configuration names and to nobody else.
//! **Invariant:** after failures in a row the provider is left alone for a while, which doubles; then one request decides.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::numbers::Numbers;
use super::{EmbedError, Embedder, Limits};
use crate::vector::{Vector, unit};

/// Failures in a row after which the provider is left alone.
const FAILURES: u32 = 3;
/// For how long at first, and at most.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The way to a provider.
pub trait Ask: Send + Sync + 'static {
    /// A vector for each text, asked for by this core, until then.
    fn ask<'a>(&'a self, core: usize, texts: &'a [String], until: Instant) -> BoxFuture<'a, Result<Vec<Vec<f32>>, String>>;
}

/// A model that a provider serves.
pub struct Remote {
    id: String,
    ask: Arc<dyn Ask>,
    limits: Limits,
    /// Requests that may be under way.
    places: Semaphore,
    waiting: Mutex<VecDeque<Waiting>>,
    health: Mutex<Health>,
    /// Known from the first answer.
    dimensions: OnceLock<usize>,
    numbers: Arc<Numbers>,
}

struct Waiting {
    text: String,
    answer: oneshot::Sender<Result<Vector, EmbedError>>,
}

#[derive(Default)]
struct Health {
    failures: u32,
    /// Left alone since then, and until then. What was asked before says nothing new.
    since: Option<Instant>,
    until: Option<Instant>,
    pause: Duration,
}

impl Remote {
    /// A model of this name; `what` is what makes its vectors, as far as it is known here. One like it before has counted already.
    pub fn new(name: &str, what: &[&str], limits: Limits, ask: Arc<dyn Ask>, before: Option<&dyn Embedder>) -> Self {
        let mut digest = blake3::Hasher::new();
        for part in what {
            digest.update(&(part.len() as u64).to_le_bytes());
            digest.update(part.as_bytes());
        }
        let id = format!("{name}@{}", &digest.finalize().to_hex()[..12]);
        let numbers = before.filter(|before| before.id() == id).and_then(|before| before.numbers().cloned()).unwrap_or_default();
        Self {
            id,
            ask,
            limits,
            places: Semaphore::new(limits.workers.max(1)),
            waiting: Mutex::default(),
            health: Mutex::default(),
            dimensions: OnceLock::new(),
            numbers,
        }
    }

    async fn vector(&self, core: usize, text: &str) -> Result<Vector, EmbedError> {
        if text.trim().is_empty() {
            return Err(EmbedError::Empty);
        }
        if self.health().until.is_some_and(|until| Instant::now() < until) {
            return Err(EmbedError::LeftAlone);
        }
        let until = Instant::now() + self.limits.timeout;
        self.turn(core, text, until).await
    }

    /// Until its vector is there: by another's request, or by its own.
    async fn turn(&self, core: usize, text: &str, until: Instant) -> Result<Vector, EmbedError> {
        loop {
            let mut told = self.wait(text)?;
            loop {
                let place = std::pin::pin!(self.places.acquire());
                let Ok(step) = timeout_at(until, select(&mut told, place)).await else { return Err(EmbedError::Late) };
                let permit = match step {
                    Either::Left((Ok(found), _)) => return found,
                    // Whoever had taken it has left before the answer came: once more.
                    Either::Left((Err(_), _)) => break,
                    Either::Right((permit, _)) => permit,
                };
                let batch = self.take();
                // Somebody else has this text under way; or too little time is left to ask for others as well.
                if batch.is_empty() || until.duration_since(Instant::now()) < self.limits.timeout / 4 {
                    self.give_back(batch);
                    drop(permit);
                    match timeout_at(until, told).await {
                        Err(_) => return Err(EmbedError::Late),
                        Ok(Ok(found)) => return found,
                        Ok(Err(_)) => break,
                    }
                }
                // Bounded in itself, so that a provider that is too slow is noted as one.
                self.request(core, batch, until).await;
            }
        }
    }

    fn wait(&self, text: &str) -> Result<oneshot::Receiver<Result<Vector, EmbedError>>, EmbedError> {
        let mut waiting = self.line();
        waiting.retain(|other| !other.answer.is_closed());
        if waiting.len() >= self.limits.queue {
            return Err(EmbedError::Full);
        }
        let (answer, told) = oneshot::channel();
        waiting.push_back(Waiting { text: text.to_owned(), answer });
        Ok(told)
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.line();
        waiting.retain(|other| !other.answer.is_closed());
        let count = waiting.len().min(self.limits.batch.max(1));
        waiting.drain(..count).collect()
    }

    fn give_back(&self, batch: Vec<Waiting>) {
        let mut waiting = self.line();
        batch.into_iter().rev().for_each(|one| waiting.push_front(one));
    }

    /// Asks for a batch, and tells everybody in it.
    async fn request(&self, core: usize, batch: Vec<Waiting>, until: Instant) {
        let texts: Vec<String> = batch.iter().map(|one| one.text.clone()).collect();
        self.numbers.batches.add(1);
        let began = Instant::now();
        let asked = timeout_at(until, self.ask.ask(core, &texts, until)).await;
        let found = match asked {
            Err(_) => Err(EmbedError::Late),
            // However the way there puts it.
            Ok(Err(_)) if Instant::now() >= until => Err(EmbedError::Late),
            Ok(Err(reason)) => Err(EmbedError::Unavailable(reason)),
            Ok(Ok(vectors)) if vectors.len() != texts.len() => {
                Err(EmbedError::Unavailable(format!("{} vectors came for {} texts", vectors.len(), texts.len())))
            }
            Ok(Ok(vectors)) => Ok(vectors),
        };
        self.note(found.as_ref().err(), began);
        match found {
            Ok(vectors) => {
                for (one, vector) in batch.into_iter().zip(vectors) {
                    drop(one.answer.send(self.fitting(vector)));
                }
            }
            Err(error) => batch.into_iter().for_each(|one| drop(one.answer.send(Err(error.clone())))),
        }
    }

    /// All vectors of a model are of one length.
    fn fitting(&self, vector: Vec<f32>) -> Result<Vector, EmbedError> {
        let (length, expect) = (vector.len(), *self.dimensions.get_or_init(|| vector.len()));
        if length != expect {
            return Err(EmbedError::Unavailable(format!("a vector of {length} components came, and others had {expect}")));
        }
        unit(vector).ok_or(EmbedError::Empty)
    }

    /// How a request ended that began then.
    fn note(&self, error: Option<&EmbedError>, began: Instant) {
        let mut health = self.health();
        let Some(error) = error else {
            *health = Health::default();
            return;
        };
        if health.since.is_some_and(|since| began < since) {
            return;
        }
        health.failures += 1;
        if health.failures < FAILURES {
            tracing::debug!(embedder = %self.id, %error, "an embedder's request failed");
            return;
        }
        health.pause = (health.pause * 2).clamp(PAUSE, LONGEST_PAUSE);
        health.since = Some(Instant::now());
        health.until = health.since.map(|since| since + health.pause);
        // The next one decides.
        health.failures = FAILURES - 1;
        tracing::warn!(embedder = %self.id, %error, pause = ?health.pause, "an embedder keeps failing and is left alone; nothing near is looked for");
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Embedder for Remote {
    fn id(&self) -> &str {
        &self.id
    }

    fn dimensions(&self) -> usize {
        self.dimensions.get().copied().unwrap_or(0)
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>> {
        self.embed_from(0, text)
    }

    fn embed_from<'a>(&'a self, core: usize, text: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>> {
        Box::pin(async move {
            let began = Instant::now();
            let found = self.vector(core, text).await;
            self.numbers.note(&found, began.elapsed());
            found
        })
    }

    fn numbers(&self) -> Option<&Arc<Numbers>> {
        Some(&self.numbers)
    }

    fn waiting(&self) -> usize {
        self.line().len()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    /// Answers after a while, with the length of each text; fails while it is told to.
    #[derive(Default)]
    struct Provider {
        seen: Mutex<Vec<Vec<String>>>,
        takes: Duration,
        fails: std::sync::atomic::AtomicBool,
    }

    impl Ask for Provider {
        fn ask<'a>(&'a self, _: usize, texts: &'a [String], _: Instant) -> BoxFuture<'a, Result<Vec<Vec<f32>>, String>> {
            Box::pin(async move {
                self.seen.lock().unwrap().push(texts.to_vec());
                tokio::time::sleep(self.takes).await;
                if self.fails.load(std::sync::atomic::Ordering::Relaxed) {
                    return Err("it is down".into());
                }
                Ok(texts.iter().map(|text| vec![text.len() as f32, 1.0]).collect())
            })
        }
    }

    const LIMITS: Limits = Limits { workers: 1, queue: 8, batch: 4, timeout: Duration::from_secs(1) };

    fn remote(takes: u64, limits: Limits) -> (Arc<Provider>, Remote) {
        let provider = Arc::new(Provider { takes: Duration::from_millis(takes), ..Provider::default() });
        (provider.clone(), Remote::new("r", &["a"], limits, provider, None))
    }

    fn sizes(provider: &Provider) -> Vec<usize> {
        provider.seen.lock().unwrap().iter().map(Vec::len).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_goes_together_and_each_gets_its_own() {
        let (provider, remote) = remote(100, LIMITS);
        let texts = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"];
        let found = join_all(texts.iter().map(|text| remote.embed(text))).await;
        for (text, vector) in texts.iter().zip(found) {
            let vector = vector.unwrap();
            assert!((vector[0] / vector[1] - text.len() as f32).abs() < 1e-4, "{text}");
        }
        let sizes = sizes(&provider);
        assert_eq!((sizes.iter().sum::<usize>(), sizes.len() <= 3), (6, true), "{sizes:?}");
        assert_eq!((remote.dimensions(), remote.waiting()), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_are_turned_away_and_nobody_waits_too_long() {
        let (_, remote) = remote(5_000, LIMITS);
        let began = Instant::now();
        let found = join_all((0..20).map(|_| remote.embed("x"))).await;
        let full = found.iter().filter(|found| **found == Err(EmbedError::Full)).count();
        let late = found.iter().filter(|found| **found == Err(EmbedError::Late)).count();
        assert!(full >= 8 && full + late == 20, "{full} {late}");
        assert!(began.elapsed() <= Duration::from_millis(1_050), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_nobody_along() {
        let (provider, remote) = remote(100, LIMITS);
        let (first, second) = (Box::pin(remote.embed("first")), Box::pin(remote.embed("second")));
        let leaves = tokio::time::timeout(Duration::from_millis(50), first);
        let (left, found) = futures_util::future::join(leaves, second).await;
        assert!(left.is_err() && found.is_ok());
        assert_eq!(remote.waiting(), 0);
        assert!(sizes(&provider).len() <= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_fails_is_left_alone_for_a_while() {
        let (provider, remote) = remote(0, LIMITS);
        provider.fails.store(true, std::sync::atomic::Ordering::Relaxed);
        for _ in 0..3 {
            assert!(matches!(remote.embed("x").await, Err(EmbedError::Unavailable(_))));
        }
        assert_eq!(remote.embed("x").await, Err(EmbedError::LeftAlone));
        tokio::time::advance(PAUSE).await;
        assert!(matches!(remote.embed("x").await, Err(EmbedError::Unavailable(_))), "one request decides");
        tokio::time::advance(PAUSE).await;
        assert_eq!(remote.embed("x").await, Err(EmbedError::LeftAlone), "twice as long");
        provider.fails.store(false, std::sync::atomic::Ordering::Relaxed);
        tokio::time::advance(PAUSE).await;
        assert!(remote.embed("x").await.is_ok() && remote.embed("x").await.is_ok());
        assert_eq!(sizes(&provider).len(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn a_model_that_is_the_same_goes_on_counting() {
        let (provider, remote) = remote(0, LIMITS);
        remote.embed("x").await.unwrap();
        let next = |what: &str| Remote::new("r", &[what], LIMITS, provider.clone(), Some(&remote));
        assert_eq!(next("a").numbers.count(&Ok(Arc::from([1.0]))), 1);
        assert_ne!(next("b").id(), remote.id());
        assert_eq!(next("b").numbers.count(&Ok(Arc::from([1.0]))), 0);
    }
}
