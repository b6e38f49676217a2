//! Tells when files change: the configuration, certificates, plugin components, prompt folders.
//!
//! Editors write a new file and rename it over the old one; a Kubernetes ConfigMap swaps a symlink two folders up. So the
//! folders around a path are watched, not the file, and an event is only a hint: what counts is whether the content's digest
//! is another one than before. Builds nothing and swaps nothing: whoever is called does, and keeps the old one if the new is bad.
//!
//! **Invariant:** `on_change` is called once per change that stands still, never for a change that leaves the content as it was.
//! **Invariant:** dropping the [`Watcher`] ends its thread.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

/// How long the files must rest before they are read: a copy of several megabytes is many writes.
const QUIET: Duration = Duration::from_millis(100);
/// Files that never rest are read after so many bursts of events all the same.
const MOST_EVENTS: usize = 1_000;
/// Where the system cannot tell (a folder that does not exist yet, no inotify watches left), the files are looked at this often.
const POLL: Duration = Duration::from_secs(2);
/// A prompt folder has two levels; this is for safety against links that lead in circles.
const MAX_DEPTH: usize = 8;

/// Watches files and folders until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    signals: Sender<Signal>,
    thread: Option<std::thread::JoinHandle<()>>,
}

enum Signal {
    /// Something happened in a watched folder.
    Hint,
    /// Watch these instead.
    Paths(Vec<PathBuf>),
    Stop,
}

/// The digest of a file's bytes, or of a folder's names and files; `None` where nothing can be read.
type Digest = Option<blake3::Hash>;

impl Watcher {
    /// Watches files, and folders with all that is in them. A path may be absent for now. `on_change` is called on the
    /// watcher's own thread with the paths, of those given, whose content is another one; a file that vanished is reported too.
    /// Make the watcher before you read the files, so that no change falls in between.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn new<F>(paths: &[PathBuf], on_change: F) -> std::io::Result<Self>
    where
        F: FnMut(&[PathBuf]) + Send + 'static,
    {
        let (signals, received) = channel();
        let hints = signals.clone();
        // What changes between the baseline and the first watch gives no event: look once unasked.
        let _ = signals.send(Signal::Hint);
        // The baseline is taken here, not on the thread: a change right after this call must be seen.
        let seen = paths.iter().map(|path| (path.clone(), digest(path, MAX_DEPTH))).collect();
        let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let system = notify::recommended_watcher(move |event| {
                if is_change(&event) {
                    // The receiver is gone only when the watcher is.
                    let _ = hints.send(Signal::Hint);
                }
            });
            let mut watch = Watch { system: system.ok(), folders: HashSet::new(), seen, blind: false, on_change };
            watch.follow();
            watch.run(&received);
        })?;
        Ok(Self { signals, thread: Some(thread) })
    }

    /// Watches these from now on, after a reload that names other files. Files that were watched before keep their baseline.
    pub fn watch(&self, paths: &[PathBuf]) {
        // Without a receiver the thread has ended, and so has the process.
        let _ = self.signals.send(Signal::Paths(paths.to_vec()));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.signals.send(Signal::Stop);
        // `on_change` may drop the watcher itself; a thread cannot wait for itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

/// Reading a file is an event too, and our own reading must not wake us.
fn is_change(event: &notify::Result<notify::Event>) -> bool {
    match event.as_ref().map(|event| event.kind) {
        Ok(EventKind::Access(AccessKind::Close(AccessMode::Write))) => true,
        Ok(EventKind::Access(_)) => false,
        // An error may mean that events were lost: look.
        Ok(_) | Err(_) => true,
    }
}

struct Watch<F> {
    system: Option<RecommendedWatcher>,
    folders: HashSet<PathBuf>,
    seen: BTreeMap<PathBuf, Digest>,
    /// Whether some path is not covered by an event, and must be looked at.
    blind: bool,
    on_change: F,
}

impl<F: FnMut(&[PathBuf])> Watch<F> {
    fn run(&mut self, received: &Receiver<Signal>) {
        loop {
            let signal = if self.blind {
                received.recv_timeout(POLL)
            } else {
                received.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match signal {
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Signal::Paths(paths)) => self.replace(paths),
                Ok(Signal::Hint) => {
                    if !self.settle(received) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.follow();
            self.compare();
        }
    }

    /// Waits until nothing happens any more. False: stop.
    fn settle(&mut self, received: &Receiver<Signal>) -> bool {
        // Bounded, or a folder in which another program writes a log would starve us.
        for _ in 0..MOST_EVENTS {
            let Ok(first) = received.recv_timeout(QUIET) else { return true };
            for signal in std::iter::once(first).chain(received.try_iter()) {
                match signal {
                    Signal::Stop => return false,
                    Signal::Paths(paths) => self.replace(paths),
                    Signal::Hint => {}
                }
            }
        }
        true
    }

    fn replace(&mut self, paths: Vec<PathBuf>) {
        let mut old = std::mem::take(&mut self.seen);
        for path in paths {
            let seen = old.remove(&path).unwrap_or_else(|| digest(&path, MAX_DEPTH));
            self.seen.insert(path, seen);
        }
    }

    /// Watches the folders around every path, and around what it is a link to. Called after each change: links move.
    fn follow(&mut self) {
        let mut wanted = HashSet::new();
        for path in self.seen.keys() {
            wanted.insert(parent(path));
            if path.is_dir() {
                folders_within(path, MAX_DEPTH, &mut wanted);
            }
            if let Ok(target) = path.canonicalize() {
                wanted.insert(parent(&target));
            }
        }
        self.blind = self.system.is_none();
        let Some(system) = &mut self.system else { return };
        for gone in self.folders.difference(&wanted) {
            // It may be gone from the disk as well, and its watch with it.
            let _ = system.unwatch(gone);
        }
        // Watched again even if they were before: a folder that was removed and made anew has lost its watch.
        let watched = |folder: &PathBuf| system.watch(folder, RecursiveMode::NonRecursive).is_ok();
        let count = wanted.len();
        self.folders = wanted.into_iter().filter(watched).collect();
        self.blind = self.folders.len() < count;
    }

    fn compare(&mut self) {
        let mut changed = Vec::new();
        for (path, seen) in &mut self.seen {
            let now = digest(path, MAX_DEPTH);
            if now != *seen {
                *seen = now;
                changed.push(path.clone());
            }
        }
        if !changed.is_empty() {
            (self.on_change)(&changed);
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn folders_within(folder: &Path, depth: usize, found: &mut HashSet<PathBuf>) {
    found.insert(folder.to_owned());
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if depth > 0 && entry.path().is_dir() {
            folders_within(&entry.path(), depth - 1, found);
        }
    }
}

fn digest(path: &Path, depth: usize) -> Digest {
    let mut hasher = blake3::Hasher::new();
    if !path.is_dir() {
        // Whoever opened a pipe would wait for somebody who writes to it.
        path.is_file().then_some(())?;
        std::io::copy(&mut std::fs::File::open(path).ok()?, &mut hasher).ok()?;
        return Some(hasher.finalize());
    }
    let mut names: Vec<PathBuf> = std::fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).collect();
    names.sort();
    for entry in names.iter().filter(|_| depth > 0) {
        hasher.update(entry.file_name().unwrap_or_default().as_encoded_bytes());
        hasher.update(&[0]);
        hasher.update(digest(entry, depth - 1).map_or([0; 32], Into::into).as_slice());
    }
    Some(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The watcher's calls, as file names, and a way to wait for the next one.
    fn watched(paths: &[PathBuf]) -> (Watcher, Receiver<Vec<String>>) {
        let (sender, calls) = channel();
        let names = |paths: &[PathBuf]| paths.iter().map(|p| p.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        let watcher = Watcher::new(paths, move |changed| drop(sender.send(names(changed)))).unwrap();
        (watcher, calls)
    }

    /// The next call; on a slow machine one change may be seen in halves, so what follows at once belongs to it.
    fn next(calls: &Receiver<Vec<String>>) -> Vec<String> {
        let mut names = calls.recv_timeout(SOON).expect("a change is told");
        while let Ok(more) = calls.recv_timeout(3 * QUIET) {
            names = more;
        }
        names
    }

    const SOON: Duration = Duration::from_secs(10);
    const NEVER: Duration = Duration::from_millis(600);

    #[test]
    fn a_file_written_renamed_over_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.toml");
        fs::write(&file, "1").unwrap();
        let (_watcher, calls) = watched(std::slice::from_ref(&file));
        fs::write(&file, "2").unwrap();
        assert_eq!(next(&calls), ["a.toml"]);
        fs::write(folder.path().join("new"), "3").unwrap();
        fs::rename(folder.path().join("new"), &file).unwrap();
        assert_eq!(next(&calls), ["a.toml"]);
        fs::write(&file, "3").unwrap();
        fs::write(folder.path().join("another"), "4").unwrap();
        assert!(calls.recv_timeout(NEVER).is_err(), "neither the same content nor another file is a change");
        fs::remove_file(&file).unwrap();
        assert_eq!(next(&calls), ["a.toml"]);
    }

    #[test]
    fn a_config_map_is_swapped() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("..1", "one"), ("..2", "two")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("a.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/a.toml", at("a.toml")).unwrap();
        let (_watcher, calls) = watched(&[at("a.toml")]);
        std::os::unix::fs::symlink("..2", at("..tmp")).unwrap();
        fs::rename(at("..tmp"), at("..data")).unwrap();
        assert_eq!(next(&calls), ["a.toml"]);
        fs::write(at("..2").join("a.toml"), "three").unwrap();
        assert_eq!(next(&calls), ["a.toml"], "the link's target is followed");
    }

    #[test]
    fn folders_new_folders_and_other_paths() {
        let folder = tempfile::tempdir().unwrap();
        let (prompts, late) = (folder.path().join("prompts"), folder.path().join("later/b.wasm"));
        fs::create_dir(&prompts).unwrap();
        let (watcher, calls) = watched(&[prompts.clone(), late.clone()]);
        fs::create_dir(prompts.join("greet")).unwrap();
        assert_eq!(next(&calls), ["prompts"]);
        fs::write(prompts.join("greet/1.j2"), "hello").unwrap();
        assert_eq!(next(&calls), ["prompts"]);
        fs::create_dir(folder.path().join("later")).unwrap();
        fs::write(&late, "wasm").unwrap();
        assert_eq!(next(&calls), ["b.wasm"]);
        watcher.watch(std::slice::from_ref(&late));
        fs::write(prompts.join("greet/2.j2"), "hi").unwrap();
        assert!(calls.recv_timeout(NEVER).is_err());
        fs::write(&late, "wasm 2").unwrap();
        assert_eq!(next(&calls), ["b.wasm"]);
    }

    #[test]
    fn many_writes_are_one_change_and_reading_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "").unwrap();
        let (_watcher, calls) = watched(std::slice::from_ref(&file));
        for n in 0..500 {
            fs::write(&file, n.to_string()).unwrap();
        }
        calls.recv_timeout(SOON).unwrap();
        let more = std::iter::from_fn(|| calls.recv_timeout(3 * QUIET).ok()).count();
        assert!(more < 10, "{more} calls");
        fs::read(&file).unwrap();
        assert!(calls.recv_timeout(NEVER).is_err());
    }
}
