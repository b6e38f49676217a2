//! One process takes the listeners over from another, so that nobody who connects notices: the sockets themselves are handed over a
//! Unix socket (`listen.handover`). Two processes that listen on one port each with sockets of its own would lose whoever waits at a
//! socket when it is closed.
//!
//! The process that starts builds all that it needs, asks the one that runs for its sockets, serves on them, says so, and gets the
//! lock; only then the one before it drains. Up to that word the one that runs does not change what it does, so that a process which
//! cannot start costs nothing.
//!
//! What it does not do: it starts no process, and it passes no connection on: those that are open end with their process.
//!
//! **Invariant:** one process at a time owns the place: it holds the lock of the file `PATH.lock`, which goes from one to the next
//! as an open file, never free in between.
//! **Invariant:** the socket's file is made, replaced and removed by the owner alone.
//! **Invariant:** sockets go to processes of the same user alone, and are taken from them alone.

mod give;
mod take;
mod wire;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

pub(super) use give::Owner;
pub(super) use take::{Before, Handed};

/// Where processes hand over.
#[derive(Clone, Debug)]
pub(super) struct Place(PathBuf);

impl Place {
    /// The place at this path, if its folder is one to trust.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let found = fs::metadata(folder)?;
        if !found.is_dir() || found.uid() != own_user() || found.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("{} is not a folder of this process's user that nobody else may write", folder.display()),
            ));
        }
        Ok(Self(path.to_owned()))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = OsString::from(&self.0);
        name.push(ending);
        name.into()
    }

    /// Owns the place, if nobody does.
    fn lock(&self) -> io::Result<Option<Lock>> {
        let file = File::options().create(true).append(true).mode(0o600).open(self.beside(".lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Puts a socket there, in the place of whatever was left there. It is never there without its mode.
    fn open(&self, _: &Lock) -> io::Result<UnixListener> {
        let made = self.beside(".new");
        match fs::remove_file(&made) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&made)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
        fs::rename(&made, &self.0)?;
        Ok(listener)
    }
}

/// The right to the place. It is free when the last process that has it open has closed it.
#[derive(Debug)]
pub(super) struct Lock(File);

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The other process's id, if it is one of ours.
fn peer(stream: &UnixStream) -> io::Result<i32> {
    let found = stream.peer_cred()?;
    if found.uid() != own_user() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it belongs to user {}, and this process to user {}", found.uid(), own_user()),
        ));
    }
    Ok(found.pid().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_may_write_is_no_place() {
        let folder = tempfile::tempdir().unwrap();
        for (mode, trusted) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false), (0o1777, false)] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Place::at(&folder.path().join("a.sock")).is_ok(), trusted, "{mode:o}");
        }
        assert!(Place::at(&folder.path().join("none/a.sock")).is_err());
    }

    /// The lock goes with the open file, and is free only when both have closed it.
    #[tokio::test]
    async fn one_process_owns_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(&folder.path().join("a.sock")).unwrap();
        let lock = place.lock().unwrap().expect("nobody has it");
        assert!(place.lock().unwrap().is_none());
        let passed = Lock(lock.0.try_clone().unwrap());
        drop(lock);
        assert!(place.lock().unwrap().is_none());
        // A socket that a crash has left is replaced.
        fs::write(&place.0, "stale").unwrap();
        drop(place.open(&passed).unwrap());
        assert!(UnixStream::connect(&place.0).await.is_err());
        let _listener = place.open(&passed).unwrap();
        assert!(UnixStream::connect(&place.0).await.is_ok());
        assert_eq!(fs::metadata(&place.0).unwrap().mode() & 0o777, 0o600);
        drop(passed);
        assert!(place.lock().unwrap().is_some());
    }
}
