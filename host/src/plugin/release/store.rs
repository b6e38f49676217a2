//! What must outlive the process: which version of which plugin serves, which is on trial, and the components themselves.
//!
//! A folder with `releases.json` and `versions/DIGEST`. Each file is written beside and renamed. The components are WebAssembly as it was
//! handed in, not machine code; what is read back is checked to have the digest that it is asked for by.
//!
//! What it does not do: it decides nothing. Where the folder cannot be used, releases work all the same, and end with the process.
//!
//! **Invariant:** nothing that is named in `releases.json` is removed.
//! **Invariant:** what is not as it was written is as if it were not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Ended;
use crate::plugin::load;

const FILE: &str = "releases.json";
const VERSIONS: &str = "versions";
const UNFINISHED: &str = "part";
/// Versions that are kept beside those that are named: an administrator may want one of them again.
const SPARE: usize = 8;
/// Nobody takes so long to write one file.
const ABANDONED: Duration = Duration::from_secs(3600);

/// One plugin's releases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The digest of the configuration's component.
    pub file: String,
    /// The version that serves.
    pub serving: String,
    /// Since when.
    pub since: u64,
    /// The one before it.
    pub before: Option<String>,
    /// Until when it is judged.
    pub probation: Option<u64>,
    /// The version on trial.
    pub trial: Option<SavedTrial>,
    /// Those that have ended.
    pub ended: Vec<Ended>,
}

/// A version on trial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedTrial {
    /// Its digest.
    pub digest: String,
    /// The role's name.
    pub role: String,
    /// A canary's share, in parts of [`super::WHOLE`].
    pub share: u32,
    /// Since when.
    pub since: u64,
}

type All = BTreeMap<String, Saved>;

/// The folder; or none, where nothing is kept.
#[derive(Debug, Default)]
pub struct Store {
    folder: Option<PathBuf>,
    /// It is there, and may be written; known when something was to be written.
    usable: OnceLock<bool>,
    /// What is on disk, so that it is written only where it differs.
    written: Mutex<Option<All>>,
}

impl Store {
    /// In this folder, which is made when there is something to keep.
    pub fn open(folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..Self::default() }
    }

    /// Does what it is given outlive the process?
    pub fn is_kept(&self) -> bool {
        self.writable().is_some()
    }

    /// The folder, if it can be used. What keeps it from that is told once.
    fn writable(&self) -> Option<&Path> {
        let folder = self.folder.as_deref()?;
        let is_usable = self.usable.get_or_init(|| {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder.join(VERSIONS));
            if let Err(error) = &made {
                tracing::warn!(folder = %folder.display(), %error, "which versions of plugins serve will not outlive this process; name another folder with `state`");
            }
            made.is_ok()
        });
        is_usable.then_some(folder)
    }

    /// What was kept.
    pub fn load(&self) -> BTreeMap<String, Saved> {
        let Some(file) = self.folder.as_ref().map(|folder| folder.join(FILE)) else { return All::new() };
        let read = fs::read(&file).map_err(|error| (error.kind() != io::ErrorKind::NotFound).then(|| error.to_string()));
        let all = read.and_then(|bytes| serde_json::from_slice::<All>(&bytes).map_err(|error| Some(error.to_string())));
        match all {
            Ok(all) => {
                *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(all.clone());
                all
            }
            Err(reason) => {
                if let Some(reason) = reason {
                    tracing::error!(file = %file.display(), reason, "what was released by hand is lost; each plugin's component serves");
                }
                All::new()
            }
        }
    }

    /// Keeps it. A plugin that is gone from the configuration is forgotten.
    pub fn save(&self, all: BTreeMap<String, Saved>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.as_ref() == Some(&all) || (written.is_none() && all.is_empty()) {
            return;
        }
        let Some(folder) = self.writable() else { return };
        let kept = serde_json::to_vec_pretty(&all).map_err(io::Error::from).and_then(|bytes| put(&folder.join(FILE), &bytes));
        match kept {
            Ok(()) => {
                self.tidy(folder, &all);
                *written = Some(all);
            }
            Err(error) => tracing::error!(folder = %folder.display(), %error, "which versions serve could not be kept"),
        }
    }

    /// Keeps what a component came as.
    pub fn keep(&self, digest: &str, bytes: &[u8]) {
        let Some(file) = self.writable().and_then(|_| self.file(digest)) else { return };
        if file.is_file() {
            // The youngest ones stay.
            let touched = fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(SystemTime::now()));
            if touched.is_ok() {
                return;
            }
        }
        if let Err(error) = put(&file, bytes) {
            tracing::warn!(file = %file.display(), %error, "a version of a plugin could not be kept");
        }
    }

    /// What a component came as.
    pub fn get(&self, digest: &str) -> Option<Vec<u8>> {
        let bytes = fs::read(self.file(digest)?).ok()?;
        (load::digest_of(&bytes) == digest).then_some(bytes)
    }

    /// The digests that begin so.
    pub fn find(&self, prefix: &str) -> Vec<String> {
        let Some(folder) = &self.folder else { return Vec::new() };
        let names = names(&folder.join(VERSIONS)).into_iter().map(|(_, name)| name);
        names.filter(|name| name.starts_with(prefix) && is_digest(name)).collect()
    }

    fn file(&self, digest: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(VERSIONS).join(digest)).filter(|_| is_digest(digest))
    }

    /// Removes the oldest versions that nobody names.
    fn tidy(&self, folder: &Path, all: &All) {
        let named: BTreeSet<&str> = all
            .values()
            .flat_map(|saved| {
                let trial = saved.trial.as_ref().map(|trial| trial.digest.as_str());
                [Some(saved.serving.as_str()), Some(&saved.file), saved.before.as_deref(), trial]
            })
            .flatten()
            .collect();
        let versions = folder.join(VERSIONS);
        let mut spare: Vec<_> = names(&versions).into_iter().filter(|(_, name)| !named.contains(name.as_str())).collect();
        spare.sort();
        let too_many = spare.len().saturating_sub(SPARE);
        for (index, (modified, name)) in spare.iter().enumerate() {
            let is_left_over = name.ends_with(UNFINISHED) && modified.elapsed().is_ok_and(|age| age > ABANDONED);
            if is_left_over || (index < too_many && is_digest(name)) {
                let _ = fs::remove_file(versions.join(name));
            }
        }
    }
}

fn names(folder: &Path) -> Vec<(SystemTime, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let about = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.file_name().into_string().ok()?));
    entries.filter_map(about).collect()
}

fn is_digest(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Beside, then renamed: who reads sees a whole file or none.
fn put(file: &Path, bytes: &[u8]) -> io::Result<()> {
    // Two threads may keep the same version.
    let beside = file.with_extension(format!("{:016x}.{UNFINISHED}", fastrand::u64(..)));
    fs::write(&beside, bytes)?;
    fs::rename(&beside, file).inspect_err(|_| drop(fs::remove_file(&beside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(digest: &str) -> Saved {
        let digest = digest.to_owned();
        Saved { file: digest.clone(), serving: digest, since: 1, before: None, probation: None, trial: None, ended: Vec::new() }
    }

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        assert!(store.is_kept() && store.load().is_empty());
        let bytes = b"not even wasm";
        let digest = load::digest_of(bytes);
        store.keep(&digest, bytes);
        store.save(BTreeMap::from([("a".to_owned(), saved(&digest))]));
        let again = Store::open(folder.path());
        assert_eq!(again.load()["a"], saved(&digest));
        assert_eq!(again.get(&digest).as_deref(), Some(&bytes[..]));
        assert_eq!(again.find(&digest[..6]), std::slice::from_ref(&digest));
        fs::write(folder.path().join(VERSIONS).join(&digest), b"another").unwrap();
        assert_eq!((again.get(&digest), again.get("../releases.json")), (None, None));
        fs::write(folder.path().join(FILE), b"{").unwrap();
        assert!(again.load().is_empty());
    }

    #[test]
    fn what_is_named_stays_and_a_few_others() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path());
        let digests: Vec<String> = (0..30u8).map(|number| load::digest_of(&[number])).collect();
        for (number, digest) in digests.iter().enumerate() {
            store.keep(digest, &[number as u8]);
            store.save(BTreeMap::from([("a".to_owned(), Saved { before: Some(digest.clone()), ..saved(&digests[0]) })]));
        }
        assert_eq!(store.find("").len(), SPARE + 2);
        assert!(store.get(&digests[0]).is_some() && store.get(&digests[29]).is_some() && store.get(&digests[1]).is_none());
    }

    #[test]
    fn without_a_folder_nothing_is_kept() {
        let store = Store::open(Path::new("/proc/no such place"));
        store.keep(&load::digest_of(b""), b"");
        store.save(All::new());
        assert!(!store.is_kept() && store.load().is_empty() && store.find("").is_empty());
    }
}
