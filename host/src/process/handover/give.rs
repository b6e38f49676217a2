//! The side of the process that runs.
//!
//! **Invariant:** whoever comes is served alone: the next one waits until this one has taken over, or has not.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::wire::{ADMIN, ALL, DATA, GO, READY, VERSION, hear, say};
use super::{Lock, Place, peer};

/// From the sockets to the word that they are served.
const START: Duration = Duration::from_secs(30);

/// The process that owns a place, with what it hands over.
#[derive(Debug)]
pub(in crate::process) struct Owner {
    place: Place,
    lock: Lock,
    listener: UnixListener,
    /// Another process owns the place now.
    is_over: bool,
    data: Vec<TcpListener>,
    admin: Option<TcpListener>,
}

impl Owner {
    /// Waits at the place from now on.
    pub(in crate::process) fn open(
        (place, lock): (Place, Lock),
        data: Vec<TcpListener>,
        admin: Option<TcpListener>,
    ) -> io::Result<Self> {
        let listener = place.open(&lock)?;
        Ok(Self { place, lock, listener, is_over: false, data, admin })
    }

    /// Waits until another process has taken over, and gives its id.
    pub(in crate::process) async fn handed_over(mut self) -> i32 {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a process that would take over could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            match tokio::time::timeout(START, self.give(&stream)).await {
                Ok(Ok(id)) => {
                    self.is_over = true;
                    return id;
                }
                Ok(Err(error)) => tracing::warn!(%error, "a process did not take over; this one goes on"),
                Err(_) => tracing::warn!(after = ?START, "a process that would take over does not serve; this one goes on"),
            }
        }
    }

    async fn give(&self, stream: &UnixStream) -> io::Result<i32> {
        let id = peer(stream)?;
        say(stream, VERSION, None).await?;
        for socket in &self.data {
            say(stream, DATA, Some(socket.as_fd())).await?;
        }
        if let Some(socket) = &self.admin {
            say(stream, ADMIN, Some(socket.as_fd())).await?;
        }
        say(stream, ALL, None).await?;
        match hear(stream).await? {
            (READY, None) => say(stream, GO, Some(self.lock.0.as_fd())).await.map(|()| id),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it says what this version does not understand")),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !self.is_over {
            // The lock is held until after this: nobody else has put a socket there.
            let _ = fs::remove_file(&self.place.0);
        }
    }
}
