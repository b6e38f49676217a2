//! The folder of compiled components: whose it is, what is intact in it, and what has to go.
//!
//! A file is the machine code and its BLAKE3 digest. It is written beside and renamed, so that processes that share the folder
//! see whole files or none; one that is removed while another process has it mapped stays mapped there.
//!
//! What is taken from the shelf is marked as used just now (its modification time). Whoever puts something new there removes
//! what nobody has used for [`KEPT`], what has been used least recently beyond [`MAX_BYTES`], and what a process that was
//! killed has left half written. What is removed too early is compiled again at the next start, and that is all.
//!
//! What it does not do: it knows nothing of wasmtime, and holds no lock.
//!
//! **Invariant:** nothing in a folder that somebody else may write is read, and nothing is written there.
//! **Invariant:** what was put there last is not removed by the one who put it there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long a file stays that nobody uses.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// How much all files together may take. A plugin in Rust takes some 60 KiB, one that brings a JavaScript engine some 30 MiB.
const MAX_BYTES: u64 = 1 << 30;
/// Nobody takes so long to write one file.
const ABANDONED: Duration = Duration::from_secs(3600);

const KIND: &str = "cwasm";
const UNFINISHED: &str = "part";

/// A folder that is this process's own.
pub(super) struct Shelf(PathBuf);

/// What there is of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It is not there, or it is not ours.
    Nothing,
    /// It is not what was written.
    Damaged,
    /// It is, to the last bit.
    Intact,
}

impl Shelf {
    /// The folder, made if it is not there. None: it cannot be used.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(folder) {
            tracing::warn!(folder = %folder.display(), %error, "there is no component cache; each start compiles anew");
            return None;
        }
        if !is_ours(folder) {
            tracing::warn!(folder = %folder.display(), "others may write the component cache, so it is not used; `chmod 700` it");
            return None;
        }
        Some(Self(folder.to_owned()))
    }

    /// Where a file of this name is, or would be.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name).with_extension(KIND)
    }

    /// Looks at a file, all of it. One that is intact has been used just now.
    pub(super) fn find(&self, file: &Path) -> Found {
        if !is_ours(file) {
            return Found::Nothing;
        }
        let Ok(mut opened) = File::open(file) else { return Found::Nothing };
        if !is_sealed(&mut opened).unwrap_or(false) {
            return Found::Damaged;
        }
        // On a medium that cannot be written nothing is removed either.
        let _ = opened.set_modified(SystemTime::now());
        Found::Intact
    }

    /// Puts a file there, in place of what may be there, and removes what has to go.
    pub(super) fn keep(&self, file: &Path, code: &[u8]) -> io::Result<()> {
        // Two threads may write the same component, and two containers have processes of the same number.
        let beside = file.with_extension(format!("{:016x}.{UNFINISHED}", fastrand::u64(..)));
        let written = write(&beside, code).and_then(|()| fs::rename(&beside, file));
        if written.is_err() {
            let _ = fs::remove_file(&beside);
        }
        self.tidy(file, SystemTime::now(), MAX_BYTES);
        written
    }

    /// Removes what has to go. Other processes may be doing the same: what is gone already is no failure.
    pub(super) fn tidy(&self, newest: &Path, now: SystemTime, max_bytes: u64) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        let of_kind = |path: &Path, kind: &str| path.extension().is_some_and(|extension| extension == kind);
        let mut files = Vec::new();
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let Ok(found) = fs::symlink_metadata(&path) else { continue };
            let unused = found.modified().map_or(Duration::ZERO, |used| now.duration_since(used).unwrap_or_default());
            if of_kind(&path, KIND) && found.is_file() {
                files.push((path != newest, unused, found.len(), path));
            } else if of_kind(&path, UNFINISHED) && unused > ABANDONED {
                let _ = fs::remove_file(&path);
            }
        }
        files.sort_unstable();
        let mut bytes = 0;
        for (is_old, unused, length, path) in files {
            bytes += length;
            if is_old && (unused > KEPT || bytes > max_bytes) {
                let _ = fs::remove_file(&path);
            }
        }
    }
}

/// The code, and its digest behind it.
fn write(file: &Path, code: &[u8]) -> io::Result<()> {
    // Whatever the umask is: a file that others may write would not be taken.
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
    opened.write_all(code)?;
    opened.write_all(blake3::hash(code).as_bytes())
}

/// Does a file end with the digest of what stands before it?
fn is_sealed(file: &mut File) -> io::Result<bool> {
    let mut seal = [0; blake3::OUT_LEN];
    let Some(code) = file.metadata()?.len().checked_sub(seal.len() as u64).filter(|code| *code > 0) else { return Ok(false) };
    let mut digest = blake3::Hasher::new();
    digest.update_reader((&*file).take(code))?;
    file.seek(SeekFrom::Start(code))?;
    file.read_exact(&mut seal)?;
    Ok(digest.finalize() == seal)
}

/// Belongs to this process's user, is no link, and nobody else may write it.
fn is_ours(path: &Path) -> bool {
    let own = fs::metadata("/proc/self").map(|own| own.uid());
    match (fs::symlink_metadata(path), own) {
        (Ok(found), Ok(own)) => !found.file_type().is_symlink() && found.uid() == own && found.mode() & 0o022 == 0,
        _ => false,
    }
}
