//! What two processes say to one another: words of one byte, each with at most one open file.
//!
//! | from | word | with it |
//! |---|---|---|
//! | the one that runs | `1` | the version of this table |
//! | | `d`, as often as there are any | a listener of clients |
//! | | `a`, at most once | the administrator's listener |
//! | | `.` | that was all |
//! | the one that starts | `r` | it serves |
//! | the one that runs | `g` | the lock: it is yours |
//!
//! **Invariant:** a word is read alone, so that no file goes astray with another word.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Another table is another version.
pub(super) const VERSION: u8 = b'1';
pub(super) const HELLO: u8 = b'h';
pub(super) const DATA: u8 = b'd';
pub(super) const ADMIN: u8 = b'a';
pub(super) const ALL: u8 = b'.';
pub(super) const READY: u8 = b'r';
pub(super) const GO: u8 = b'g';

/// Says a word.
pub(super) async fn say(stream: &UnixStream, word: u8, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut with = SendAncillaryBuffer::new(&mut space);
        if file.is_some() {
            with.push(SendAncillaryMessage::ScmRights(file.as_slice()));
        }
        Ok(sendmsg(stream, &[IoSlice::new(&[word])], &mut with, SendFlags::NOSIGNAL).map(drop)?)
    };
    stream.async_io(Interest::WRITABLE, send).await
}

/// Waits for a word. The other's end is an error.
pub(super) async fn hear(stream: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    let receive = || {
        let (mut word, mut space) = ([0], [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))]);
        let mut with = RecvAncillaryBuffer::new(&mut space);
        let count = recvmsg(stream, &mut [IoSliceMut::new(&mut word)], &mut with, RecvFlags::CMSG_CLOEXEC)?.bytes;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut files = with.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        Ok((word[0], files.next().and_then(|mut files| files.next())))
    };
    stream.async_io(Interest::READABLE, receive).await
}
