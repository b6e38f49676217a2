//! The tier on disk: what it has acknowledged outlives the process, however that ends.
//!
//! | part | where it runs | what it does |
//! |---|---|---|
//! | [`store`] | – | fjall: entries, the order in which they end, the rules of purges |
//! | [`keeper`] | the thread `cache-disk` | opens, writes, evicts, looks through all of it |
//! | here | the threads `cache-read-N` | reads |
//!
//! What it does not do: it holds up no core. A core hands in a key, and waits until the answer or the deadline, whichever is first.
//!
//! **Invariant:** what is counted as written is found after a kill -9.
//! **Invariant:** files that are not as they were written make an empty tier and an alert; never an error, and never another answer.

mod keeper;
mod store;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use self::keeper::Keeper;
use self::store::Reader;
use super::backlog::{Backlog, Job, Waiting, backlog};
use super::numbers::Numbers;
use super::{Name, Tier, now};
use crate::cache::entry::{Entry, wire};
use crate::cache::key::ExactKey;
use crate::cache::purge::{Purges, Rule, Sweep};

/// Threads that read.
const READERS: usize = 2;
/// Reads that wait for one of them.
const IN_LINE: usize = 256;

/// What the owner has written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The folder; it is the tier's own.
    pub path: PathBuf,
    /// Bytes of all entries.
    pub size: u64,
    /// How long a read may take.
    pub deadline: Duration,
}

/// The vectors that near hits find entries by. Memory has them; the tier keeps them with the entries, and gives both back after a start.
pub trait Vectors: Send + Sync {
    /// An entry's vector, if near hits find it.
    fn of(&self, entry: &Arc<Entry>) -> Option<Vec<f32>>;

    /// An entry that has outlived a process, or another memory. False: it is there already.
    fn back(&self, entry: Entry, vector: Vec<f32>) -> bool;
}

/// The tier.
pub struct Disk {
    shared: Arc<Shared>,
    /// How long a read may take.
    deadline_us: AtomicU64,
    backlog: Arc<Backlog>,
    readers: Vec<Sender<Asked>>,
    /// What the threads begin with, until they have.
    parts: Mutex<Option<(Waiting, Vec<Receiver<Asked>>)>>,
}

/// What threads have in common.
struct Shared {
    path: PathBuf,
    /// Bytes of all entries, at most.
    room: AtomicU64,
    purges: Arc<Purges>,
    numbers: Numbers,
    vectors: Mutex<Option<Arc<dyn Vectors>>>,
    /// Memory knows nothing yet of what is here.
    is_new_memory: AtomicBool,
    /// None: it is being opened, or cannot be.
    reader: ArcSwapOption<Reader>,
    entries: AtomicU64,
    bytes: AtomicU64,
}

impl Shared {
    fn vectors(&self) -> Option<Arc<dyn Vectors>> {
        self.vectors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A read that waits.
struct Asked {
    key: ExactKey,
    answer: oneshot::Sender<Option<Arc<Entry>>>,
}

impl Disk {
    /// A tier that has not started: it has touched no file.
    pub fn new(settings: Settings, purges: Arc<Purges>) -> Self {
        let shared = Shared {
            path: settings.path,
            room: AtomicU64::new(settings.size),
            purges,
            numbers: Numbers::default(),
            vectors: Mutex::new(None),
            is_new_memory: AtomicBool::new(false),
            reader: ArcSwapOption::empty(),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        };
        let (backlog, waiting) = backlog();
        let (readers, asked) = (0..READERS).map(|_| channel(IN_LINE)).unzip();
        Self {
            shared: Arc::new(shared),
            deadline_us: AtomicU64::new(settings.deadline.as_micros() as u64),
            backlog: Arc::new(backlog),
            readers,
            parts: Mutex::new(Some((waiting, asked))),
        }
    }

    /// Is this its folder?
    pub fn is_in(&self, path: &Path) -> bool {
        self.shared.path == path
    }

    /// Other settings for the same folder.
    pub fn adjust(&self, settings: &Settings) {
        self.shared.room.store(settings.size, Ordering::Relaxed);
        self.deadline_us.store(settings.deadline.as_micros() as u64, Ordering::Relaxed);
    }

    /// The memory before it is this one from now on; none: no near hits are looked for.
    pub fn stands_behind(&self, memory: Option<Arc<dyn Vectors>>) {
        let mut vectors = self.shared.vectors.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = matches!((&*vectors, &memory), (Some(known), Some(memory)) if Arc::ptr_eq(known, memory));
        self.shared.is_new_memory.fetch_or(memory.is_some() && !is_known, Ordering::Relaxed);
        *vectors = memory;
    }

    /// All entries that are on disk now, with their vectors, until somebody has enough. It blocks.
    ///
    /// # Errors
    /// Why it cannot say.
    pub fn each(&self, take: impl FnMut(Entry, Option<Vec<f32>>) -> bool) -> Result<(), String> {
        let Some(reader) = self.shared.reader.load_full() else { return Err("the cache's disk is not open".to_owned()) };
        reader.each(now(), take).map_err(|broken| {
            self.backlog.send(Job::Damaged(broken.to_string()));
            broken.to_string()
        })
    }

    /// When the entry under a key was made, in milliseconds since the Unix epoch; none where there is none. It blocks.
    pub fn made_at(&self, key: &ExactKey) -> Option<u64> {
        let bytes = self.shared.reader.load_full()?.get(key).ok()??;
        wire::head(&bytes).map(|head| head.about.created_at)
    }

    async fn read(&self, key: &ExactKey) -> Option<Arc<Entry>> {
        let numbers = &self.shared.numbers;
        let began = Instant::now();
        let (answer, answered) = oneshot::channel();
        let reader = &self.readers[usize::from(key.bytes()[0]) % self.readers.len()];
        if self.shared.reader.load().is_none() || reader.try_send(Asked { key: *key, answer }).is_err() {
            numbers.away.add(1);
            return None;
        }
        let deadline = Duration::from_micros(self.deadline_us.load(Ordering::Relaxed));
        match timeout(deadline, answered).await {
            Err(_) => numbers.late.add(1),
            Ok(Err(_)) => numbers.away.add(1),
            Ok(Ok(found)) => {
                numbers.took.observe(began.elapsed());
                let outcome = if found.is_some() { &numbers.hits } else { &numbers.misses };
                outcome.add(1);
                return found;
            }
        }
        None
    }
}

/// Answers reads until the tier is dropped.
fn answer(shared: &Shared, backlog: &std::sync::Weak<Backlog>, mut asked: Receiver<Asked>) {
    while let Some(Asked { key, answer }) = asked.blocking_recv() {
        // Nobody waits for it any more.
        if answer.is_closed() {
            continue;
        }
        let Some(reader) = shared.reader.load_full() else { continue };
        let damaged = |why: String| -> Option<Entry> {
            shared.numbers.damaged.add(1);
            if let Some(backlog) = backlog.upgrade() {
                backlog.send(Job::Damaged(why));
            }
            None
        };
        let found = match reader.get(&key) {
            Err(broken) => damaged(broken.to_string()),
            Ok(None) => None,
            Ok(Some(bytes)) => match wire::read(&bytes, now()) {
                Some(entry) if entry.key == key => Some(entry).filter(|entry| !entry.left().is_zero()),
                _ => damaged(format!("the entry {key} is not as it was written")),
            },
        };
        let _ = answer.send(found.map(Arc::new));
    }
}

impl Tier for Disk {
    fn name(&self) -> Name {
        Name::Disk
    }

    fn start(&self) {
        let Some((waiting, asked)) = self.parts.lock().ok().and_then(|mut parts| parts.take()) else { return };
        let spawn = |name: String, run: Box<dyn FnOnce() + Send>| {
            if let Err(error) = std::thread::Builder::new().name(name).spawn(run) {
                tracing::error!(%error, "the cache does not use its disk");
            }
        };
        let shared = self.shared.clone();
        spawn("cache-disk".to_owned(), Box::new(move || Keeper::new(shared).run(waiting)));
        for (index, asked) in asked.into_iter().enumerate() {
            let (shared, backlog) = (self.shared.clone(), Arc::downgrade(&self.backlog));
            spawn(format!("cache-read-{index}"), Box::new(move || answer(&shared, &backlog, asked)));
        }
    }

    fn get<'a>(&'a self, key: &'a ExactKey, _: usize) -> BoxFuture<'a, Option<Arc<Entry>>> {
        Box::pin(self.read(key))
    }

    fn put(&self, entry: &Arc<Entry>) {
        if !self.backlog.put(entry) {
            self.shared.numbers.dropped.add(1);
        }
    }

    fn size(&self) -> Option<(u64, u64)> {
        Some((self.shared.entries.load(Ordering::Relaxed), self.shared.bytes.load(Ordering::Relaxed)))
    }

    fn settle(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move { drop(timeout(at_most, self.backlog.settle()).await) })
    }

    fn numbers(&self) -> Option<&Numbers> {
        Some(&self.shared.numbers)
    }
}

impl Sweep for Disk {
    fn sweep(&self, rule: &Rule, _: bool) {
        // What is not kept now is kept with the next one, and learnt again from the log.
        if !self.backlog.send(Job::Sweep(rule.clone())) {
            tracing::warn!("too much waits for the cache's disk: a purge is not kept over a restart yet");
        }
    }
}
