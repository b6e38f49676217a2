//! A client's connection: HTTP/1.1 with keep-alive, one request at a time, over a blocking socket.
//!
//! What it does not do: no TLS, no redirects, no pipelining, no trailers: nothing that a request of `request` needs.
//!
//! **Invariant:** no wait is longer than [`PATIENCE`].
//! **Invariant:** an answer that ends early, or has bytes too many, is an error.

mod body;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use body::Framing;

/// The longest pause between two pieces of an answer.
pub const PATIENCE: Duration = Duration::from_secs(10);

const MAX_HEADERS: usize = 64;

/// What the header `x-pointsman-cache` may say, and the place of each in a count.
pub const OUTCOMES: [&str; 7] = ["none", "exact", "semantic", "miss", "bypass", "flight", "stale"];

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What an answer was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// What the cache did, as a place in [`OUTCOMES`].
    pub outcome: usize,
    /// When the first byte of the body was here; none for an empty one.
    pub first_byte: Option<Instant>,
    /// Bytes of the body.
    pub bytes: usize,
    /// It ended with the last event of a stream.
    pub done: bool,
    /// The server closes the connection.
    pub close: bool,
}

struct Head {
    length: usize,
    answer: Answer,
    framing: Framing,
}

fn broken(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, buffer: Vec::with_capacity(8 << 10) })
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the connection is closed, or nobody reads.
    pub fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// When it is cut, is no HTTP, or does not come in time.
    pub fn answer(&mut self) -> io::Result<Answer> {
        self.read(&|_| false)
    }

    /// Reads an answer up to the first bytes of its body.
    ///
    /// # Errors
    /// As [`Connection::answer`].
    pub fn begun(&mut self) -> io::Result<Answer> {
        self.read(&|answer| answer.bytes > 0)
    }

    /// Is the connection open, with nothing to read?
    pub fn is_silent(&self) -> bool {
        let peeked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let back = self.stream.set_nonblocking(false);
        back.is_ok() && peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    fn read(&mut self, enough: &dyn Fn(&Answer) -> bool) -> io::Result<Answer> {
        self.buffer.clear();
        let Head { length, mut answer, mut framing } = loop {
            self.more()?;
            if let Some(head) = head(&self.buffer)? {
                break head;
            }
        };
        self.buffer.drain(..length);
        let mut tail = Tail::default();
        loop {
            let payload = |bytes: &[u8]| {
                answer.first_byte.get_or_insert_with(Instant::now);
                answer.bytes += bytes.len();
                tail.push(bytes);
            };
            let over = framing.feed(&self.buffer, payload).map_err(broken)?;
            answer.done = tail.ends_with(b"data: [DONE]\n\n");
            if over || enough(&answer) {
                return Ok(answer);
            }
            self.buffer.clear();
            self.more()?;
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let held = self.buffer.len();
        self.buffer.resize(held + (8 << 10), 0);
        let read = self.stream.read(&mut self.buffer[held..])?;
        self.buffer.truncate(held + read);
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// None while it is not complete.
fn head(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(broken(format!("the answer's head: {error}"))),
    };
    let status = response.code.unwrap_or(0);
    let mut answer = Answer { status, outcome: 0, first_byte: None, bytes: 0, done: false, close: false };
    let mut framing = None;
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(header.value).ok().and_then(|value| value.parse().ok());
            framing = Some(Framing::length(length.ok_or_else(|| broken("content-length is no number"))?));
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Some(Framing::chunked());
        } else if header.name.eq_ignore_ascii_case("connection") {
            answer.close = header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case("x-pointsman-cache") {
            let place = OUTCOMES.iter().position(|outcome| outcome.as_bytes() == header.value);
            answer.outcome =
                place.ok_or_else(|| broken(format!("x-pointsman-cache: {:?}", header.value.escape_ascii().to_string())))?;
        }
    }
    let framing = framing.ok_or_else(|| broken("an answer without a length"))?;
    Ok(Some(Head { length, answer, framing }))
}

/// The last bytes of a body, however it was cut into pieces.
#[derive(Default)]
struct Tail {
    bytes: [u8; 16],
}

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        let room = self.bytes.len();
        let kept = room.saturating_sub(piece.len());
        self.bytes.copy_within(room - kept.., 0);
        self.bytes[kept..].copy_from_slice(&piece[piece.len() - (room - kept)..]);
    }

    fn ends_with(&self, end: &[u8]) -> bool {
        self.bytes.ends_with(end)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that sends these pieces, each in a write of its own, then closes.
    fn serve(pieces: &'static [&'static str]) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = Connection::open(listener.local_addr().unwrap()).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in pieces {
                stream.write_all(piece.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        connection
    }

    #[test]
    fn an_answer_in_pieces() {
        let mut connection = serve(&["HTTP/1.1 200 OK\r\nX-Pointsman-Cache: ex", "act\r\nContent-Length: 5\r\n\r\nhe", "llo"]);
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, OUTCOMES[answer.outcome], answer.bytes), (200, "exact", 5));
        assert!(answer.first_byte.is_some() && !answer.close);
    }

    #[test]
    fn two_answers_on_one_connection() {
        const ONE: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
        let mut connection = serve(&[ONE, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx"]);
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.first_byte, answer.bytes), (503, None, 0));
        assert!(connection.answer().unwrap().close);
    }

    #[test]
    fn a_stream_is_whole_only_with_its_last_event() {
        const HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = serve(&[HEAD, "9\r\ndata: {}\n\r\n", "1\r\n\n\r\n8\r\ndata: [D\r\n6\r", "\nONE]\n\n\r\n0\r\n", "\r\n"])
            .answer()
            .unwrap();
        assert_eq!((answer.done, answer.bytes), (true, 24));
        let answer = serve(&[HEAD, "a\r\ndata: {}\n\n\r\n0\r\n\r\n"]).answer().unwrap();
        assert!(!answer.done);
    }

    #[test]
    fn what_is_cut_or_wrong_is_an_error() {
        for pieces in [
            &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell"][..],
            &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello!"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n"],
            &["HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\nx-pointsman-cache: warm\r\ncontent-length: 0\r\n\r\n"],
            &["220 mail.example ESMTP\r\n"],
            &[],
        ] {
            assert!(serve(pieces).answer().is_err(), "{pieces:?}");
        }
    }
}
