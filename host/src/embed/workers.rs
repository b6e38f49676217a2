//! The threads that compute vectors, and the line of texts that wait for them.
//!
//! A thread that is free takes what waits, at most a batch, and leaves others their share: alone it takes one text at once, under load many
//! that are computed together. Nobody waits for a batch to become full.
//!
//! What it does not do: it knows no model ([`Compute`] does).
//!
//! **Invariant:** a text waits in a bounded line, and is turned away when that is full.
//! **Invariant:** nobody waits for a vector longer than the owner has said; a text that nobody waits for any more is not computed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::numbers::Numbers;
use super::{EmbedError, Limits};
use crate::vector::{Vector, unit};

/// What a thread computes with.
pub(super) trait Compute: Send {
    /// A vector for each text, of any length above 0.
    fn vectors(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String>;
}

struct Job {
    text: String,
    answer: oneshot::Sender<Result<Vector, EmbedError>>,
}

/// The line, which callers and threads share.
struct Line {
    state: Mutex<State>,
    comes: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Threads that have nothing to do.
    idle: usize,
    /// Threads that are there.
    threads: usize,
    closed: bool,
}

/// The threads of one model. They end when this is dropped.
pub(super) struct Workers {
    line: Arc<Line>,
    limits: Limits,
    numbers: Arc<Numbers>,
}

impl Workers {
    /// A thread for each of these.
    pub(super) fn start(engines: Vec<Box<dyn Compute>>, limits: Limits) -> Result<Self, EmbedError> {
        let state = State { threads: engines.len(), ..State::default() };
        let line = Arc::new(Line { state: Mutex::new(state), comes: Condvar::new() });
        let workers = Self { line, limits, numbers: Arc::default() };
        for (number, mut engine) in engines.into_iter().enumerate() {
            let (line, numbers, batch) = (workers.line.clone(), workers.numbers.clone(), limits.batch.max(1));
            std::thread::Builder::new()
                .name(format!("embed-{number}"))
                .spawn(move || {
                    let line = Leaves(line);
                    while let Some(jobs) = line.0.take(batch) {
                        work(jobs, &mut *engine, &numbers);
                    }
                })
                .map_err(|error| EmbedError::Unavailable(format!("no thread could be started: {error}")))?;
        }
        Ok(workers)
    }

    /// What it has done so far.
    pub(super) fn numbers(&self) -> &Arc<Numbers> {
        &self.numbers
    }

    /// The vector of a text, once it has had its turn.
    pub(super) async fn vector(&self, text: &str) -> Result<Vector, EmbedError> {
        let began = Instant::now();
        let found = self.turn(text).await;
        self.numbers.note(&found, began.elapsed());
        found
    }

    async fn turn(&self, text: &str) -> Result<Vector, EmbedError> {
        if text.trim().is_empty() {
            return Err(EmbedError::Empty);
        }
        let (answer, vector) = oneshot::channel();
        self.line.push(Job { text: text.to_owned(), answer }, self.limits.queue)?;
        match timeout(self.limits.timeout, vector).await {
            Err(_) => Err(EmbedError::Late),
            Ok(Err(_)) => Err(EmbedError::Unavailable("its thread has ended".into())),
            Ok(Ok(found)) => found,
        }
    }

    /// Texts that wait.
    pub(super) fn waiting(&self) -> usize {
        self.line.state().waiting.len()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.line.state().closed = true;
        self.line.comes.notify_all();
    }
}

/// A thread's own hold of the line: where the last one ends, by a panic, nobody is left waiting for it.
struct Leaves(Arc<Line>);

impl Drop for Leaves {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.threads = state.threads.saturating_sub(1);
        if state.threads == 0 {
            state.closed = true;
            state.waiting.clear();
        }
    }
}

impl Line {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job, most: usize) -> Result<(), EmbedError> {
        let mut state = self.state();
        if state.closed {
            return Err(EmbedError::Unavailable("its threads have ended".into()));
        }
        // Those who have left take nobody's place.
        if state.waiting.len() >= most {
            state.waiting.retain(|job| !job.answer.is_closed());
        }
        if state.waiting.len() >= most {
            return Err(EmbedError::Full);
        }
        state.waiting.push_back(job);
        drop(state);
        self.comes.notify_one();
        Ok(())
    }

    /// What the next free thread computes; none when the line is closed.
    fn take(&self, batch: usize) -> Option<Vec<Job>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if !state.waiting.is_empty() {
                let share = state.waiting.len().div_ceil(state.idle + 1).min(batch);
                return Some(state.waiting.drain(..share).collect());
            }
            state.idle += 1;
            state = self.comes.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}

fn work(mut jobs: Vec<Job>, engine: &mut dyn Compute, numbers: &Numbers) {
    jobs.retain(|job| !job.answer.is_closed());
    let texts: Vec<&str> = jobs.iter().map(|job| job.text.as_str()).collect();
    if texts.is_empty() {
        return;
    }
    numbers.batches.add(1);
    let found = match engine.vectors(&texts) {
        Ok(vectors) if vectors.len() == texts.len() => vectors.into_iter().map(Ok).collect(),
        // One text that the model cannot bear does not cost the others their vectors.
        _ => texts.iter().map(|text| alone(engine, text)).collect::<Vec<_>>(),
    };
    for (job, found) in jobs.into_iter().zip(found) {
        let vector = found.map_err(EmbedError::Unavailable).and_then(|vector| unit(vector).ok_or(EmbedError::Empty));
        drop(job.answer.send(vector));
    }
}

fn alone(engine: &mut dyn Compute, text: &str) -> Result<Vec<f32>, String> {
    engine.vectors(&[text])?.into_iter().next().ok_or_else(|| "the model gave no vector".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use super::*;

    /// Tells what it was given, and answers when it is told to.
    struct Slow(Sender<Vec<String>>, Receiver<()>);

    impl Compute for Slow {
        fn vectors(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
            let _ = self.0.send(texts.iter().map(|text| (*text).to_owned()).collect());
            let _ = self.1.recv_timeout(Duration::from_secs(20));
            match texts {
                [_, _, ..] if texts.contains(&"bad") => Err("one is bad".into()),
                ["bad"] => Err("it is bad".into()),
                ["panic"] => panic!("as it was told to"),
                _ => Ok(texts.iter().map(|text| vec![text.len() as f32, 0.0]).collect()),
            }
        }
    }

    fn slow(limits: Limits) -> (Arc<Workers>, Receiver<Vec<String>>, Sender<()>) {
        let ((told, seen), (go, wait)) = (channel(), channel());
        (Arc::new(Workers::start(vec![Box::new(Slow(told, wait))], limits).unwrap()), seen, go)
    }

    const LIMITS: Limits = Limits { workers: 1, queue: 4, batch: 3, timeout: Duration::from_secs(20) };

    fn ask(workers: &Arc<Workers>, text: &'static str) -> tokio::task::JoinHandle<Result<Vector, EmbedError>> {
        let workers = workers.clone();
        #[allow(clippy::disallowed_methods, reason = "a test's own runtime")]
        tokio::spawn(async move { workers.vector(text).await })
    }

    async fn until_waiting(workers: &Workers, count: usize) {
        while workers.waiting() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_waits_is_computed_together_and_what_is_too_much_is_turned_away() {
        let (workers, seen, go) = slow(LIMITS);
        let first = ask(&workers, "a");
        assert_eq!(seen.recv_timeout(Duration::from_secs(20)).unwrap(), ["a"], "nobody waits for a batch");
        let more: Vec<_> = ["b", "bad", "c", "d"].into_iter().map(|text| ask(&workers, text)).collect();
        until_waiting(&workers, 4).await;
        assert_eq!(workers.vector("e").await, Err(EmbedError::Full));
        assert_eq!(workers.vector("  ").await, Err(EmbedError::Empty));
        (0..8).for_each(|_| go.send(()).unwrap());
        assert_eq!(first.await.unwrap().unwrap().len(), 2);
        let mut found = Vec::new();
        for answer in more {
            found.push(answer.await.unwrap().is_ok());
        }
        assert_eq!(found, [true, false, true, true], "one that is bad costs the others nothing");
        let batches: Vec<Vec<String>> = seen.try_iter().collect();
        assert_eq!(batches[0].len(), 3, "{batches:?}");
        let numbers = workers.numbers();
        assert_eq!((numbers.count(&Err(EmbedError::Full)), numbers.count(&Err(EmbedError::Empty))), (1, 1));
        assert_eq!(numbers.batches.get(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_has_left_is_not_computed_and_takes_no_place() {
        let (workers, seen, go) = slow(Limits { queue: 1, timeout: Duration::from_secs(1), ..LIMITS });
        let first = ask(&workers, "a");
        seen.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(workers.vector("late").await, Err(EmbedError::Late));
        assert_eq!(first.await.unwrap(), Err(EmbedError::Late), "the thread was too slow for it as well");
        let next = ask(&workers, "next");
        until_waiting(&workers, 1).await;
        (0..2).for_each(|_| go.send(()).unwrap());
        assert!(next.await.unwrap().is_ok());
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [["next"]]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thread_that_dies_leaves_nobody_waiting() {
        let (workers, seen, go) = slow(LIMITS);
        let first = ask(&workers, "panic");
        seen.recv_timeout(Duration::from_secs(20)).unwrap();
        let second = ask(&workers, "b");
        until_waiting(&workers, 1).await;
        go.send(()).unwrap();
        assert!(matches!(first.await.unwrap(), Err(EmbedError::Unavailable(_))));
        assert!(matches!(second.await.unwrap(), Err(EmbedError::Unavailable(_))));
        assert!(matches!(workers.vector("c").await, Err(EmbedError::Unavailable(_))));
    }
}
