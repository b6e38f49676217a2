//! Recordings: exchanges as lines of JSON in files, written by a thread of their own.
//!
//! A file begins with a line that says what it is; then come lines with a `snapshot`, each before the first exchange that was served under
//! it, and lines with an `exchange`. Each file can be read alone. A line is written with one system call, so that a process that is killed
//! leaves at most one torn line, at a file's end; and no file is gone on with after a restart or a failed write.
//!
//! What it does not do: it knows nothing of what is in a line but where its texts are (`gateway::recording` makes lines).
//!
//! **Invariant:** whoever hands in an exchange never waits: what finds no room in the queue is dropped and counted.
//! **Invariant:** what a rule takes out is in no file, whole or in part.

pub mod files;
pub mod redact;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::numbers::{Count, Exposition};
use files::Files;
pub use redact::Rules;

/// Exchanges that wait to be written, whatever their size.
const WAITING: usize = 4_096;
/// The shortest time between two complaints in the log.
const QUIET: Duration = Duration::from_secs(60);

/// How a recording is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the files go, and how large they become.
    pub files: files::Settings,
    /// Bytes of the largest exchange that is kept.
    pub max_exchange: usize,
    /// Bytes that may wait.
    pub queue: usize,
    /// What is taken out.
    pub rules: Rules,
}

/// What exchanges were served under: a digest, and what it stands for.
#[derive(Debug)]
pub struct Under {
    /// Of the value.
    pub digest: String,
    /// What a replay needs to know.
    pub value: Value,
}

/// One exchange that is to be written.
pub struct Job {
    /// About how many bytes it takes while it waits.
    pub size: usize,
    /// What it was served under.
    pub under: Arc<Under>,
    /// Makes the line's value; asked on the writer's thread. None where it cannot be made.
    pub make: Box<dyn FnOnce() -> Option<Value> + Send>,
}

/// What became of exchanges that were to be kept.
#[derive(Debug, Default)]
pub struct Counts {
    /// They are in a file.
    pub written: Count,
    /// There was no room in the queue.
    pub dropped: Count,
    /// They were larger than one may be.
    pub too_large: Count,
    /// They could not be written.
    pub failed: Count,
    /// Bytes of all lines.
    pub bytes: Count,
}

/// The writer. Dropping it waits until all that waits is written.
pub struct Recorder {
    queue: Option<SyncSender<Job>>,
    waiting: Arc<AtomicUsize>,
    room: usize,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the thread. `counts` go on where another writer has ended.
    ///
    /// # Errors
    /// When the folder cannot be written to, or no thread can be started.
    pub fn start(settings: Settings, counts: Arc<Counts>) -> std::io::Result<Self> {
        let files = Files::open(settings.files.clone())?;
        let (queue, jobs) = sync_channel(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let writer =
            Writer { files, settings: settings.clone(), waiting: waiting.clone(), counts: counts.clone(), complained: None };
        let thread = std::thread::Builder::new().name("recording".into()).spawn(move || writer.run(&jobs))?;
        Ok(Self { queue: Some(queue), waiting, room: settings.queue, counts, thread: Some(thread) })
    }

    /// Hands an exchange in.
    pub fn keep(&self, job: Job) {
        let size = job.size;
        if self.waiting.fetch_add(size, Ordering::Relaxed) + size > self.room {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            return self.counts.dropped.add(1);
        }
        let refused = match &self.queue {
            Some(queue) => match queue.try_send(job) {
                Ok(()) => return,
                Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => job,
            },
            None => job,
        };
        self.waiting.fetch_sub(refused.size, Ordering::Relaxed);
        self.counts.dropped.add(1);
    }

    /// What became of exchanges so far.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Counts {
    /// Writes the numbers for /metrics.
    pub fn expose(&self, text: &mut Exposition) {
        for (outcome, count) in
            [("written", &self.written), ("dropped", &self.dropped), ("too-large", &self.too_large), ("failed", &self.failed)]
        {
            text.counter(
                "pointsman_recording_exchanges_total",
                "Exchanges that were to be recorded, by what became of them.",
                &[("outcome", outcome)],
                count.get(),
            );
        }
        text.counter("pointsman_recording_bytes_total", "Bytes that were written to recordings.", &[], self.bytes.get());
    }
}

/// The thread's own.
struct Writer {
    files: Files,
    settings: Settings,
    waiting: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let size = job.size;
            self.one(job);
            self.waiting.fetch_sub(size, Ordering::Relaxed);
        }
    }

    fn one(&mut self, job: Job) {
        let Job { under, make, .. } = job;
        let Some(mut exchange) = make() else { return self.counts.failed.add(1) };
        self.settings.rules.apply(&mut exchange);
        let line = format!("{}\n", json!({ "exchange": exchange }));
        if line.len() > self.settings.max_exchange {
            return self.counts.too_large.add(1);
        }
        let snapshot = || format!("{}\n", json!({ "snapshot": under.value }));
        match self.files.write(&under.digest, snapshot, &line) {
            Ok(bytes) => {
                self.counts.written.add(1);
                self.counts.bytes.add(bytes as u64);
            }
            Err(error) => {
                self.counts.failed.add(1);
                if self.complained.is_none_or(|last| last.elapsed() > QUIET) {
                    self.complained = Some(Instant::now());
                    tracing::warn!(%error, folder = %self.settings.files.folder.display(), "an exchange could not be recorded");
                }
            }
        }
    }
}
