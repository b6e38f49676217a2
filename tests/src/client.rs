//! A plain HTTP/1.1 client over one socket, which sees what a browser hides: the bytes, where a body was cut, what the socket
//! did. It sends whatever it is given, well formed or not.
//!
//! What it does not do: no redirects, no pooling, no decompression.
//!
//! **Invariant:** [`Answer::whole`] is true only if the body ended as its own framing says.

mod live;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::SOON;
pub use live::Live;

/// What a connection runs over: TCP, or TLS on top of it.
pub trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// One connection.
pub struct Connection {
    wire: Box<dyn Wire>,
    socket: TcpStream,
    buffer: Vec<u8>,
}

/// The head of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// A header's value, the first if there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers =
            lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
        Self { status: status.unwrap_or_else(|| panic!("no HTTP answer: {text:?}")), headers: headers.collect() }
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its head.
    pub head: Head,
    /// The status code.
    pub status: u16,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    /// Did the body end as its framing says?
    pub whole: bool,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The text of a chat completion's first choice, whether it came whole or as a stream.
    pub fn content(&self) -> String {
        if self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            crate::sse::content(&self.body)
        } else {
            self.json()["choices"][0]["message"]["content"]
                .as_str()
                .unwrap_or_else(|| panic!("no content: {}", self.text()))
                .to_owned()
        }
    }

    /// The `error.code` of a refusal; empty where there is none.
    pub fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The body without what `usage` says of an answer out of the cache: as it was when it was stored.
    pub fn as_stored(&self) -> String {
        self.text().replacen(r#","x_pointsman":{"cached":true}"#, "", 1)
    }

    /// The value of `x-pointsman-cache`; empty where there is none.
    pub fn cache(&self) -> &str {
        self.header("x-pointsman-cache").unwrap_or_default()
    }
}

impl Connection {
    /// Opens a connection.
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).unwrap_or_else(|error| panic!("no connection to {address}: {error}"))
    }

    /// Opens a connection, if it can be had.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, SOON)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(SOON))?;
        Ok(Self { wire: Box::new(socket.try_clone()?), socket, buffer: Vec::new() })
    }

    /// A connection over something on top of the socket.
    pub fn over(wire: impl Wire + 'static, socket: TcpStream) -> Self {
        Self { wire: Box::new(wire), socket, buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// What the system says; a peer that has closed, usually.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.write_all(bytes)?;
        self.wire.flush()
    }

    /// The socket, for what only a socket can do.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Ends the connection as a crash would: with a reset, unread data and all.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.socket);
        socket.set_linger(Some(Duration::ZERO)).expect("linger can be set");
        // `drop` closes; with a linger of zero that is a reset.
        let _ = self.socket.shutdown(Shutdown::Read);
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection ends before an answer's head.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.write(request)?;
        self.answer()
    }

    /// Reads a whole answer.
    ///
    /// # Errors
    /// When the connection ends before an answer's head.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut live = self.head()?;
        let mut body = Vec::new();
        while let Some(portion) = live.portion() {
            body.extend_from_slice(&portion);
        }
        let (head, whole) = (live.head.clone(), live.is_whole());
        Ok(Answer { status: head.status, head, body, whole })
    }

    /// Reads an answer's head; its body can then be read bit by bit. Informational answers (1xx) are skipped.
    ///
    /// # Errors
    /// When the connection ends first.
    pub fn head(&mut self) -> io::Result<Live<'_>> {
        loop {
            let end = loop {
                if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    break at;
                }
                if self.more()? == 0 {
                    return Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        format!("the connection ended after {:?}", String::from_utf8_lossy(&self.buffer)),
                    ));
                }
            };
            let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end + 4);
            let head = Head::parse(&text);
            if head.status >= 200 {
                return Ok(Live::new(self, head));
            }
        }
    }

    /// Waits for the peer to close, and gives what it sent until then. None: it did not close within `limit`.
    pub fn closed_within(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let ends = Instant::now() + limit;
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket.set_read_timeout(Some(left)).expect("a timeout can be set");
            match self.more() {
                Ok(0) => return Some(std::mem::take(&mut self.buffer)),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => return None,
                // A reset ends a connection too.
                Err(_) => return Some(std::mem::take(&mut self.buffer)),
            }
        }
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 << 10];
        let count = self.wire.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }
}
