//! The files of a recording: their names, their turn, and the room that all of them take.
//!
//! **Invariant:** a file begins with a line that says which format it has, and is its user's alone.
//! **Invariant:** only files of the recording's own name are ever removed, the oldest first, never the one that is written.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

/// What the files' names begin and end with. Between them stands the time at which they were begun, and whose they are.
const PREFIX: &str = "recording-";
const SUFFIX: &str = ".jsonl";

/// Where files go, and how large they become.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The folder.
    pub folder: PathBuf,
    /// The version of what is in the lines.
    pub format: u32,
    /// Bytes after which the next file begins.
    pub max_file: u64,
    /// Bytes of all files.
    pub max_total: u64,
}

/// The files of one writer.
pub struct Files {
    settings: Settings,
    current: Option<Current>,
}

struct Current {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Snapshots that it has.
    has: HashSet<String>,
}

/// The files of a folder, the oldest first.
///
/// # Errors
/// When it cannot be read.
pub fn of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with(PREFIX) && name.ends_with(SUFFIX)
    };
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path())).filter(is_ours).collect();
    found.sort();
    Ok(found)
}

impl Files {
    /// For a folder, which is made if it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read.
    pub fn open(settings: Settings) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&settings.folder)?;
        of(&settings.folder)?;
        Ok(Self { settings, current: None })
    }

    /// Writes a line, and before it the snapshot of this digest if the file has it not. How many bytes that were.
    ///
    /// # Errors
    /// What the system says. The next line goes to another file: this one may end in the middle of a line.
    pub fn write(&mut self, digest: &str, snapshot: impl FnOnce() -> String, line: &str) -> io::Result<usize> {
        let mut current = match self.current.take() {
            Some(current) if current.bytes < self.settings.max_file => current,
            _ => self.begin()?,
        };
        // The line alone is written at once; a snapshot without its exchange is no loss.
        let mut written = 0;
        if !current.has.contains(digest) {
            written += current.append(&snapshot())?;
            current.has.insert(digest.to_owned());
        }
        written += current.append(line)?;
        self.current = Some(current);
        Ok(written)
    }

    fn begin(&self) -> io::Result<Current> {
        let mut ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64;
        let (file, path) = loop {
            // Two processes may write into one folder, while one takes over from the other.
            let path = self.settings.folder.join(format!("{PREFIX}{ms:013}-{}{SUFFIX}", std::process::id()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => ms += 1,
                Err(error) => return Err(error),
            }
        };
        let mut current = Current { file, path, bytes: 0, has: HashSet::new() };
        let head =
            json!({ "recording": self.settings.format, "by": concat!("pointsman ", env!("CARGO_PKG_VERSION")), "begun": ms });
        current.append(&format!("{head}\n"))?;
        self.make_room(&current.path);
        Ok(current)
    }

    /// Removes the oldest files until one more fits.
    fn make_room(&self, keep: &Path) {
        let sized = |path: PathBuf| std::fs::metadata(&path).ok().map(|facts| (path, facts.len()));
        let files: Vec<_> = of(&self.settings.folder).unwrap_or_default().into_iter().filter_map(sized).collect();
        let mut total: u64 = files.iter().map(|(_, bytes)| bytes).sum();
        for (path, bytes) in files.iter().filter(|(path, _)| path != keep) {
            if total + self.settings.max_file <= self.settings.max_total {
                return;
            }
            match std::fs::remove_file(path) {
                Ok(()) => total -= bytes,
                Err(error) => tracing::warn!(%error, file = %path.display(), "an old recording could not be removed"),
            }
        }
    }
}

impl Current {
    fn append(&mut self, line: &str) -> io::Result<usize> {
        self.file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        Ok(line.len())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(folder: &Path, max_file: u64, max_total: u64) -> Files {
        Files::open(Settings { folder: folder.to_owned(), format: 1, max_file, max_total }).unwrap()
    }

    #[test]
    fn each_file_can_be_read_alone() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("new/er");
        let mut own = files(&folder, 200, 10_000);
        for number in 0..8 {
            own.write("d", || "snapshot\n".to_owned(), &format!("{number} {}\n", "x".repeat(60))).unwrap();
        }
        let all = of(&folder).unwrap();
        assert!(all.len() >= 3, "{all:?}");
        let mut seen = Vec::new();
        for file in &all {
            let text = std::fs::read_to_string(file).unwrap();
            let mut lines = text.lines();
            assert!(lines.next().unwrap().starts_with(r#"{"recording":1,"by":"pointsman "#));
            assert_eq!(lines.next(), Some("snapshot"));
            seen.extend(lines.map(|line| line.split(' ').next().unwrap().to_owned()));
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(seen, ["0", "1", "2", "3", "4", "5", "6", "7"]);
        assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_oldest_files_go_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.jsonl"), "mine").unwrap();
        let mut own = files(folder.path(), 300, 1_000);
        for _ in 0..40 {
            own.write("d", String::new, &format!("{}\n", "x".repeat(99))).unwrap();
        }
        let bytes: u64 = of(folder.path()).unwrap().iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
        assert!((400..=1_000).contains(&bytes), "{bytes}");
        assert!(folder.path().join("notes.jsonl").exists());
    }
}
