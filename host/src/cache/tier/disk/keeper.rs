//! The one thread that changes what is on disk: it opens, writes what waits, makes room, and looks through all of it.
//!
//! The folder has a folder for each beginning, `1` at first. What is damaged is left at once for the next number, and deleted behind
//! everybody's back; so a file that cannot be closed, or a thread of fjall's that hangs over it, is in nobody's way.
//!
//! What it does not do: it reads for no exchange.
//!
//! **Invariant:** while it cannot write, what waits is counted as failed; the queue never stands.
//! **Invariant:** damage is found by whoever meets it: at the start, by a read, by a write, or by the look through all entries after a start.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::super::backlog::{Job, Waiting};
use super::super::now;
use super::Shared;
use super::store::{Broken, Store};

/// Jobs that are done in one change.
const AT_ONCE: usize = 128;
/// How long it waits for the next job, where there is nothing else to do.
const IDLE: Duration = Duration::from_secs(1);
/// How long until another try, where the folder cannot be opened.
const AGAIN: Duration = Duration::from_millis(500);
/// Entries that are looked at between two jobs.
const LOOK: usize = 32;
/// How long it waits after them: others have the disk and the cores too.
const PACE: Duration = Duration::from_millis(1);
/// Starts in a row that have ended while the folder was opened: what ends them is in it.
const FATAL: usize = 3;

/// The thread's own.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    store: Option<Store>,
    /// Not to be opened before.
    again: Option<Instant>,
    /// How the last try has failed, said once.
    said: Option<String>,
    /// Where the look through all entries goes on; none: it is done.
    looking: Option<Vec<u8>>,
    /// Memory gets those that it sees, and has got so many.
    reviving: Option<usize>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, store: None, again: None, said: None, looking: None, reviving: None }
    }

    /// Works until the tier is dropped and all that waited is done.
    pub(super) fn run(mut self, mut waiting: Waiting) {
        // For its timers: the thread has nothing else to do while it waits.
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.work(&mut waiting)),
            Err(error) => tracing::error!(%error, "the cache does not use its disk"),
        }
    }

    async fn work(&mut self, waiting: &mut Waiting) {
        let mut jobs = Vec::with_capacity(AT_ONCE);
        loop {
            if self.store.is_none() && self.again.is_none_or(|at| at <= Instant::now()) {
                self.open();
            }
            let idle = match (&self.store, &self.looking) {
                (None, _) => AGAIN,
                (Some(_), None) => IDLE,
                (Some(_), Some(_)) => PACE,
            };
            if let Ok(0) = timeout(idle, waiting.jobs.recv_many(&mut jobs, AT_ONCE)).await {
                return;
            }
            self.do_all(&mut jobs, waiting);
            self.tidy();
        }
    }

    fn do_all(&mut self, jobs: &mut Vec<Job>, waiting: &Waiting) {
        let (mut entries, mut settled, mut purged) = (Vec::new(), Vec::new(), false);
        for job in jobs.drain(..) {
            match job {
                Job::Put(entry) => {
                    waiting.took(&entry);
                    entries.push(entry);
                }
                Job::Sweep(..) => purged = true,
                Job::Damaged(why) => self.broke(Broken::Damaged(why)),
                Job::Prolong(_) | Job::GiveBack(_) => {}
                Job::Settle(done) => settled.push(done),
            }
        }
        if purged {
            let rules = self.shared.purges.rules();
            self.with(|store, _| store.keep(&rules));
            self.looking = Some(Vec::new());
        }
        let asked = entries.len();
        entries.retain(|entry| !entry.left().is_zero() && self.shared.purges.spare(entry));
        self.shared.numbers.over.add((asked - entries.len()) as u64);
        if !entries.is_empty() {
            let (count, shared) = (entries.len() as u64, self.shared.clone());
            let vectors = shared.vectors();
            let vector = |entry| vectors.as_ref().and_then(|vectors| vectors.of(entry));
            match self.with(|store, _| store.put(entries.iter().map(|entry| (&**entry, vector(entry))))) {
                Some(()) => {
                    shared.numbers.written.add(count);
                    self.said = None;
                }
                None => shared.numbers.failed.add(count),
            }
        }
        for done in settled {
            let _ = done.send(());
        }
    }

    /// What is over or has no room goes; what is there is looked at.
    fn tidy(&mut self) {
        let now = now();
        let room = self.shared.room.load(Ordering::Relaxed);
        if let Some(evicted) = self.with(|store, _| store.make_room(room, now)) {
            self.shared.numbers.evicted.add(evicted as u64);
        }
        if self.shared.is_new_memory.swap(false, Ordering::Relaxed) {
            (self.looking, self.reviving) = (Some(Vec::new()), Some(0));
        }
        let Some(from) = self.looking.take() else { return };
        let vectors = self.shared.vectors().filter(|_| self.reviving.is_some());
        let mut revived = 0;
        self.looking = self
            .with(|store, shared| {
                store.walk(&from, LOOK, now, &shared.purges, |entry, vector| {
                    revived += usize::from(vectors.as_ref().is_some_and(|vectors| vectors.back(entry, vector)));
                })
            })
            .flatten();
        if let Some(count) = &mut self.reviving {
            *count += revived;
        }
        if self.looking.is_none()
            && let Some(entries) = self.reviving.take()
            && entries > 0
        {
            tracing::info!(entries, "near hits find what was stored before");
        }
    }

    /// Does something with the store; none where there is none, or it broke over it.
    fn with<T>(&mut self, run: impl FnOnce(&mut Store, &Shared) -> Result<T, Broken>) -> Option<T> {
        let shared = self.shared.clone();
        let done = run(self.store.as_mut()?, &shared);
        match done {
            Ok(done) => {
                self.count();
                Some(done)
            }
            Err(broken) => {
                self.broke(broken);
                None
            }
        }
    }

    fn count(&self) {
        let sums = self.store.as_ref().map(|store| store.sums).unwrap_or_default();
        self.shared.entries.store(sums.entries, Ordering::Relaxed);
        self.shared.bytes.store(sums.bytes, Ordering::Relaxed);
    }

    fn open(&mut self) {
        let opened = std::fs::create_dir_all(&self.shared.path).map_err(Broken::from).and_then(|()| self.try_open());
        match opened {
            Ok((store, folder)) => {
                for rule in store.rules() {
                    self.shared.purges.learn(rule, false);
                }
                self.shared.reader.store(Some(Arc::new(store.reader())));
                self.store = Some(store);
                self.count();
                let rules = self.shared.purges.rules();
                self.with(|store, _| store.keep(&rules));
                (self.again, self.looking, self.reviving) = (None, Some(Vec::new()), Some(0));
                self.shared.numbers.turns(true);
                // It may open and take no entry, again and again.
                if self.said.is_none() {
                    let (entries, bytes) = (&self.shared.entries, &self.shared.bytes);
                    tracing::info!(folder = %folder.display(), ?entries, ?bytes, "the cache's disk is open");
                }
                forget_others(&self.shared.path, &folder);
            }
            Err(broken) => self.broke(broken),
        }
    }

    fn try_open(&self) -> Result<(Store, PathBuf), Broken> {
        let folder = self.shared.path.join(newest(&self.shared.path)?.max(1).to_string());
        let mark = folder.with_extension("opening");
        let tries = std::fs::metadata(&mark).map_or(0, |about| about.len() as usize);
        if tries >= FATAL {
            let _ = std::fs::remove_file(&mark);
            return Err(Broken::Damaged(format!("{tries} starts in a row have ended while it was opened")));
        }
        std::fs::File::options().create(true).append(true).open(&mark)?.write_all(b".")?;
        let opened = Store::open(&folder);
        let _ = std::fs::remove_file(&mark);
        Ok((opened?, folder))
    }

    /// It does not go on so: another try a little later, or another beginning.
    fn broke(&mut self, broken: Broken) {
        self.shared.reader.store(None);
        self.shared.numbers.turns(false);
        let store = self.store.take();
        (self.again, self.looking, self.reviving) = (Some(Instant::now() + AGAIN), None, None);
        let path = &self.shared.path;
        match broken {
            Broken::Damaged(why) => {
                self.shared.numbers.begun_anew.add(1);
                tracing::error!(folder = %path.display(), why, "the cache's disk is damaged; it begins anew, empty");
                let next = newest(path).map(|newest| path.join((newest + 1).to_string()));
                if next.is_ok_and(|next| std::fs::create_dir(next).is_ok()) {
                    self.again = None;
                }
            }
            Broken::Locked | Broken::System(_) => {
                let why = broken.to_string();
                if self.said.as_ref() != Some(&why) {
                    tracing::error!(folder = %path.display(), why, "the cache's disk cannot be used; until it can, nothing is kept there");
                    self.said = Some(why);
                }
            }
        }
        if let Some(store) = store {
            // fjall waits for its threads, and damage may have ended one in a way that it does not know of.
            let _ = std::thread::Builder::new().name("cache-drop".into()).spawn(move || drop(store));
        }
    }
}

/// The number of the last beginning; 0: there is none.
fn newest(path: &Path) -> Result<u64, Broken> {
    let mut newest = 0;
    for found in std::fs::read_dir(path)? {
        let number = found?.file_name().to_str().and_then(|name| name.parse().ok());
        newest = newest.max(number.unwrap_or(0));
    }
    Ok(newest)
}

/// Deletes earlier beginnings. What is not theirs is left alone.
fn forget_others(path: &Path, folder: &Path) {
    let own = folder.file_name().unwrap_or_default();
    for found in std::fs::read_dir(path).into_iter().flatten().flatten() {
        let file = found.path();
        let is_number = file.file_stem().is_some_and(|stem| stem.to_str().is_some_and(|stem| stem.parse::<u64>().is_ok()));
        if is_number && file.file_stem() != Some(own) {
            let _ = if file.is_dir() { std::fs::remove_dir_all(&file) } else { std::fs::remove_file(&file) };
        }
    }
}
