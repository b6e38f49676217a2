//! A client's connection, shared between hyper, which reads and writes it, and a watch that sees its end.
//!
//! hyper learns that a client has left by reading, and it does not read while bytes wait behind the request that it answers.
//! The system tells of the end all the same.
//!
//! **Invariant:** a client that has left is noticed whatever it has sent before.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The connection, for whoever reads and writes it.
pub(super) struct Socket {
    // A half of its own: it knows without a system call that a read which did not fill its buffer has left nothing.
    read: OwnedReadHalf,
    write: Arc<OwnedWriteHalf>,
}

/// The same connection, for whoever waits for its end.
pub(super) struct Watch(Arc<OwnedWriteHalf>);

impl Socket {
    pub(super) fn new(stream: TcpStream) -> (Self, Watch) {
        let (read, write) = stream.into_split();
        let write = Arc::new(write);
        (Self { read, write: write.clone() }, Watch(write))
    }

    fn poll_try(&self, context: &mut Context<'_>, write: impl Fn(&TcpStream) -> io::Result<usize>) -> Poll<io::Result<usize>> {
        let stream: &TcpStream = (*self.write).as_ref();
        loop {
            ready!(stream.poll_write_ready(context))?;
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl Watch {
    /// Waits until the client has shut its sending side, or the connection is broken.
    pub(super) async fn left(&self) {
        // Of what this interest stands for, only the end is ever reported: nobody has asked for urgent data.
        while self.0.ready(Interest::PRIORITY).await.is_ok_and(|ready| !ready.is_read_closed()) {}
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_try(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(self: Pin<&mut Self>, context: &mut Context<'_>, all: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.poll_try(context, |stream| stream.try_write_vectored(all))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(socket2::SockRef::from(AsRef::<TcpStream>::as_ref(&*self.write)).shutdown(std::net::Shutdown::Write))
    }
}
