//! The side of the process that starts.
//!
//! **Invariant:** nothing is said to the one that runs before this one serves.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::wire::{ADMIN, ALL, DATA, GO, HELLO, READY, VERSION, hear, say};
use super::{Lock, Place, peer};

/// How long a process that starts waits for its turn; others may start at the same time.
const TURN: Duration = Duration::from_secs(60);
/// How long each word of the one that runs may take.
const WORD: Duration = Duration::from_secs(10);
/// Between two looks at a place that is owned, and where nobody answers yet.
const LOOK: Duration = Duration::from_millis(20);

/// The sockets of the process before this one.
#[derive(Debug, Default)]
pub(in crate::process) struct Handed {
    /// Where clients connect.
    pub(in crate::process) data: Vec<TcpListener>,
    /// Where the administrator connects.
    pub(in crate::process) admin: Option<TcpListener>,
}

/// Who was there before this process.
pub(in crate::process) enum Before {
    /// Nobody; the place is this one's.
    Nobody(Place, Lock),
    /// A process that runs and waits for a word.
    Process {
        /// Where it was met.
        place: Place,
        /// What is said to it.
        stream: UnixStream,
        /// Its id.
        id: i32,
    },
}

impl Before {
    /// Looks who is there, and takes the sockets that it has.
    pub(in crate::process) async fn look(place: Place) -> io::Result<(Self, Handed)> {
        let ends = Instant::now() + TURN;
        loop {
            match UnixStream::connect(&place.0).await {
                Ok(stream) => {
                    let id = peer(&stream)?;
                    match timeout_at(ends, receive(&stream)).await {
                        Ok(Ok(handed)) => return Ok((Self::Process { place, stream, id }, handed)),
                        // It has ended, or handed over to somebody else while this one waited.
                        Ok(Err(error)) if is_gone(&error) => {}
                        Ok(Err(error)) => return Err(error),
                        Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("process {id} says nothing"))),
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                    if let Some(lock) = place.lock()? {
                        return Ok((Self::Nobody(place, lock), Handed::default()));
                    }
                }
                // It went before it had taken this one in, or too many wait there already.
                Err(error) if is_gone(&error) || error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= ends {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "another process is starting or ending there, and takes long",
                ));
            }
            sleep(LOOK).await;
        }
    }

    /// The id of a process that runs.
    pub(in crate::process) fn id(&self) -> Option<i32> {
        match self {
            Self::Nobody(..) => None,
            Self::Process { id, .. } => Some(*id),
        }
    }

    /// This process serves: the one before it may go. Gives what this one then owns.
    pub(in crate::process) async fn ready(self) -> io::Result<(Place, Lock)> {
        let (place, stream) = match self {
            Self::Nobody(place, lock) => return Ok((place, lock)),
            Self::Process { place, stream, .. } => (place, stream),
        };
        let gone = match timeout(WORD, released(&stream)).await {
            Ok(Ok(lock)) => return Ok((place, lock)),
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(io::ErrorKind::TimedOut, "the process that runs does not let go"),
        };
        // It has died, or drains by itself: then the place is free.
        let ends = Instant::now() + WORD;
        while is_gone(&gone) && Instant::now() < ends {
            if let Some(lock) = place.lock()? {
                return Ok((place, lock));
            }
            sleep(LOOK).await;
        }
        Err(gone)
    }
}

async fn receive(stream: &UnixStream) -> io::Result<Handed> {
    say(stream, HELLO, None).await?;
    let (version, _) = hear(stream).await?;
    if version != VERSION {
        return Err(wrong("it hands over in another way than this version; stop it first"));
    }
    let mut handed = Handed::default();
    loop {
        match hear(stream).await? {
            (DATA, Some(file)) => handed.data.push(file.into()),
            (ADMIN, Some(file)) => handed.admin = Some(file.into()),
            (ALL, None) => return Ok(handed),
            _ => return Err(wrong("it says what this version does not understand")),
        }
    }
}

async fn released(stream: &UnixStream) -> io::Result<Lock> {
    say(stream, READY, None).await?;
    match hear(stream).await? {
        (GO, Some(file)) => Ok(Lock(file.into())),
        _ => Err(wrong("it says what this version does not understand")),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Is this how it sounds when the other process has closed?
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}
