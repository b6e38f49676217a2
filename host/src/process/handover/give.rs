//! The side of the process that runs.
//!
//! **Invariant:** whoever comes is served alone: the next one waits until this one has taken over, or has not.
//! **Invariant:** who comes and says nothing gets no socket, and keeps others waiting for [`FIRST_WORD`], who falls silent later for
//! [`HURRIED`]; and once: its next connections are closed.
//! **Invariant:** this process goes only when the other holds the lock. One that dies with the last word on its way has taken nothing over.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::wire::{ADMIN, ALL, DATA, GO, HELLO, READY, VERSION, hear, say};
use super::{Lock, Place, peer};

/// From the connection to the first word.
const FIRST_WORD: Duration = Duration::from_secs(1);
/// From the sockets to the word that they are served.
const START: Duration = Duration::from_secs(30);
/// The same where somebody else waits. Whoever asks for the sockets has built what it needs.
const HURRIED: Duration = Duration::from_secs(5);
/// For how long it is remembered who has said nothing; a process that starts waits for a minute.
const REMEMBERS: Duration = Duration::from_secs(60);
/// How many of them.
const SILENT: usize = 64;
/// The longest that the other may take to close when it has the lock.
const CLOSES: Duration = Duration::from_secs(5);
/// Between two lines of the log about those who did not take over.
const QUIET: Duration = Duration::from_secs(10);

/// The process that owns a place, with what it hands over.
#[derive(Debug)]
pub(in crate::process) struct Owner {
    place: Place,
    /// None while it is looked whether another process has it.
    lock: Option<Lock>,
    listener: UnixListener,
    /// Another process owns the place now.
    is_over: bool,
    data: Vec<TcpListener>,
    admin: Option<TcpListener>,
    /// Processes that came and said nothing, and when.
    silent: VecDeque<(i32, Instant)>,
    complaints: Complaints,
}

/// What is told of those who do not take over: a line now and then, however many there are.
#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    untold: u64,
}

impl Complaints {
    fn warn(&mut self, error: &io::Error) {
        if self.last.is_some_and(|last| last.elapsed() < QUIET) {
            self.untold += 1;
            return;
        }
        tracing::warn!(%error, untold = self.untold, "a process did not take over; this one goes on");
        *self = Self { last: Some(Instant::now()), untold: 0 };
    }
}

impl Owner {
    /// Waits at the place from now on.
    pub(in crate::process) fn open(
        (place, lock): (Place, Lock),
        data: Vec<TcpListener>,
        admin: Option<TcpListener>,
    ) -> io::Result<Self> {
        let listener = place.open(&lock)?;
        let (silent, complaints) = Default::default();
        Ok(Self { place, lock: Some(lock), listener, is_over: false, data, admin, silent, complaints })
    }

    /// Waits until another process has taken over, and gives its id.
    pub(in crate::process) async fn handed_over(mut self) -> i32 {
        let mut next = None;
        loop {
            let stream = match next.take() {
                Some(stream) => stream,
                None => self.comes().await,
            };
            if self.has_been_silent(&stream) {
                continue;
            }
            let given = self.give_in_time(&stream, &mut next).await;
            match given {
                Ok(id) if self.is_taken(&stream).await => {
                    self.is_over = true;
                    return id;
                }
                Ok(_) => self.complaints.warn(&io::Error::other("it has died with the last word on its way")),
                Err(error) => {
                    if error.kind() == io::ErrorKind::TimedOut {
                        self.was_silent(&stream);
                    }
                    self.complaints.warn(&error);
                }
            }
        }
    }

    /// The next one who connects.
    async fn comes(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "a process that would take over could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Gives to one, who has less time from when the next is there.
    async fn give_in_time(&self, stream: &UnixStream, next: &mut Option<UnixStream>) -> io::Result<i32> {
        let began = Instant::now();
        let mut ends = began + START;
        let mut given = std::pin::pin!(self.give(stream));
        loop {
            tokio::select! {
                biased;
                given = &mut given => return given,
                other = self.comes(), if next.is_none() => {
                    *next = Some(other);
                    ends = ends.min(Instant::now() + HURRIED);
                }
                () = sleep_until(ends) => {
                    let waited = began.elapsed().as_secs_f32();
                    return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it does not serve after {waited:.0} s")));
                }
            }
        }
    }

    /// Does the other hold the lock? When it has taken it, or died, it closes.
    async fn is_taken(&mut self, stream: &UnixStream) -> bool {
        let _ = timeout(CLOSES, hear(stream)).await;
        // An open file that was on its way to a dead process is closed a moment later.
        self.lock = None;
        for _ in 0..4 {
            match self.place.lock() {
                Ok(Some(lock)) => {
                    // The socket at the place may be the other's by now.
                    match self.place.open(&lock) {
                        Ok(listener) => self.listener = listener,
                        Err(error) => tracing::error!(%error, "no process will be able to take over from this one"),
                    }
                    self.lock = Some(lock);
                    return false;
                }
                Ok(None) => sleep(Duration::from_millis(25)).await,
                Err(error) => {
                    tracing::warn!(%error, "whether the other process holds the lock cannot be seen");
                    sleep(Duration::from_millis(25)).await;
                }
            }
        }
        true
    }

    fn was_silent(&mut self, stream: &UnixStream) {
        if let Some(id) = known(stream) {
            self.silent.truncate(SILENT - 1);
            self.silent.push_front((id, Instant::now()));
        }
    }

    fn has_been_silent(&self, stream: &UnixStream) -> bool {
        known(stream).is_some_and(|id| self.silent.iter().any(|(known, at)| *known == id && at.elapsed() < REMEMBERS))
    }

    async fn give(&self, stream: &UnixStream) -> io::Result<i32> {
        let id = peer(stream)?;
        // A socket that is on its way to somebody who does not listen stays open with nobody behind it, whatever becomes of this process.
        match timeout(FIRST_WORD, hear(stream)).await {
            Ok(Ok((HELLO, None))) => {}
            Ok(heard) => return Err(heard.err().unwrap_or_else(misunderstood)),
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "it says nothing")),
        }
        say(stream, VERSION, None).await?;
        for socket in &self.data {
            say(stream, DATA, Some(socket.as_fd())).await?;
        }
        if let Some(socket) = &self.admin {
            say(stream, ADMIN, Some(socket.as_fd())).await?;
        }
        say(stream, ALL, None).await?;
        match hear(stream).await? {
            (READY, None) => {
                let lock = self.lock.as_ref().map(|lock| lock.0.as_fd());
                say(stream, GO, lock).await.map(|()| id)
            }
            _ => Err(misunderstood()),
        }
    }
}

fn misunderstood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it says what this version does not understand")
}

/// Who it is; none where that cannot be told: every process of another namespace is number 0.
fn known(stream: &UnixStream) -> Option<i32> {
    peer(stream).ok().filter(|id| *id != 0)
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.is_over && self.lock.is_some() {
            // The lock is held until after this: nobody else has put a socket there.
            let _ = fs::remove_file(&self.place.0);
        }
    }
}
