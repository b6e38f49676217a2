//! A fixed upstream: the same chat completion of 605 bytes to every request, or a stream as the request wishes.
//!
//! One thread per connection and two system calls per answer: what a gateway is measured against should cost as little as it
//! can of the core that it shares with the load driver.
//!
//! What it does not do: it reads of a request what it must: the length of the body, and whether a stream is wanted.
//!
//! **Invariant:** it listens on loopback alone.
//! **Invariant:** a stream ends when its client leaves; a held one ends by itself when its time is over.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use memchr::memmem;
use serde::{Deserialize, Serialize};

/// Bytes of the plain answer's body.
pub const ANSWER: usize = 605;

/// Threads are many where streams are held, and need little.
const STACK: usize = 128 << 10;
/// The longest request that is read.
const MAX_REQUEST: usize = 1 << 20;

/// How a stream shall be: the value of the request's field [`Wish::FIELD`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// Events with text.
    pub events: u32,
    /// Pause before each event but the first, in microseconds.
    pub pause_us: u64,
    /// Stay silent for so long after the first event, in milliseconds.
    pub hold_ms: u64,
}

impl Wish {
    /// The field's name. Gateways pass fields on that they do not know.
    pub const FIELD: &'static str = "x-bench";
}

/// Serves for as long as the process lives.
///
/// # Errors
/// When connections cannot be accepted or threads not be started any more.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::Builder::new().stack_size(STACK).spawn(move || {
            // The client left: that is how connections end.
            let _ = Peer::new(stream).run();
        })?;
    }
}

/// Serves on a free port of loopback, in threads that end with the process.
///
/// # Errors
/// When there is no port, or no thread.
pub fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().spawn(move || serve(listener))?;
    Ok(address)
}

/// A connection of a client.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
    held: usize,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; 4 << 10], held: 0 }
    }

    /// Reads a request to its end. False: the client has nothing more to say.
    pub(crate) fn asks(&mut self) -> io::Result<bool> {
        let length = self.request()?;
        length.iter().for_each(|length| self.take(*length));
        Ok(length.is_some())
    }

    fn take(&mut self, length: usize) {
        self.buffer.copy_within(length..self.held, 0);
        self.held -= length;
    }

    fn run(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let plain = plain();
        while let Some(length) = self.request()? {
            match wish(&self.buffer[..length]) {
                None => self.stream.write_all(&plain)?,
                Some(wish) => self.events(wish)?,
            }
            self.take(length);
        }
        Ok(())
    }

    /// Reads until a request is whole; its length. None: the client has nothing more to say.
    fn request(&mut self) -> io::Result<Option<usize>> {
        loop {
            if let Some(length) = whole(&self.buffer[..self.held])? {
                if length <= self.held {
                    return Ok(Some(length));
                }
                self.buffer.resize(length.max(self.buffer.len()), 0);
            } else if self.held == self.buffer.len() {
                self.buffer.resize(self.held * 2, 0);
            }
            match self.stream.read(&mut self.buffer[self.held..])? {
                0 => return Ok(None),
                read => self.held += read,
            }
        }
    }

    fn events(&mut self, wish: Wish) -> io::Result<()> {
        self.begin()?;
        if wish.hold_ms > 0 && self.hold(Duration::from_millis(wish.hold_ms))? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.go_on(wish.events, Duration::from_micros(wish.pause_us))
    }

    /// The head of a stream, and its first event.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        // nginx buffers a stream unless its source asks it not to, as sources of events do.
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n";
        let first = event(r#"{"role":"assistant","content":""}"#, "null");
        self.stream.write_all(format!("{head}{first}").as_bytes())
    }

    /// So many events, a pause before each, and the end.
    pub(crate) fn go_on(&mut self, events: u32, pause: Duration) -> io::Result<()> {
        let piece = event(r#"{"content":" and so the story goes"}"#, "null");
        for _ in 0..events {
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
            self.stream.write_all(piece.as_bytes())?;
        }
        let last = event("{}", "\"stop\"");
        self.stream.write_all(format!("{last}{}0\r\n\r\n", chunk("data: [DONE]\n\n")).as_bytes())
    }

    /// Waits until the time is over or the client has left, which is true.
    pub(crate) fn hold(&mut self, time: Duration) -> io::Result<bool> {
        self.stream.set_read_timeout(Some(time))?;
        let mut byte = [0];
        let left = match self.stream.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => false,
            Err(_) => true,
        };
        self.stream.set_read_timeout(None)?;
        Ok(left)
    }
}

/// The length of head and body, as soon as the head is there.
fn whole(bytes: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut headers);
    let wrong = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    request.parse(bytes).map_err(|error| wrong(error.to_string()))?;
    let length = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.parse::<usize>().ok());
    let length =
        length.filter(|length| *length <= MAX_REQUEST).ok_or_else(|| wrong("a request without a content-length".into()))?;
    Ok(Some(end + 4 + length))
}

/// What stream a request wants; none where it wants none.
fn wish(request: &[u8]) -> Option<Wish> {
    memmem::find(request, br#""stream":true"#)?;
    let body = memmem::find(request, b"\r\n\r\n")? + 4;
    let mut value: serde_json::Value = serde_json::from_slice(&request[body..]).ok()?;
    let wish = value.get_mut(Wish::FIELD).map(serde_json::Value::take).unwrap_or_default();
    Some(serde_json::from_value(wish).unwrap_or_default())
}

/// The answer to a request that wants no stream.
fn plain() -> Vec<u8> {
    let body = completion();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn completion() -> String {
    let of = |text: &str| {
        format!(
            r#"{{"id":"chatcmpl-bench","object":"chat.completion","created":1700000000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":120,"completion_tokens":64,"total_tokens":184,"prompt_tokens_details":{{"cached_tokens":0}}}},"system_fingerprint":"fp_bench"}}"#
        )
    };
    let text = "Clean the rim and the pads with alcohol, then set the pads so that their front edge touches first. ".repeat(8);
    let room = ANSWER.saturating_sub(of("").len());
    of(&text[..room.min(text.len())])
}

fn event(delta: &str, finish: &str) -> String {
    chunk(&format!(
        "data: {{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"bench\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
    ))
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::request::Template;
    use crate::wire::Connection;

    fn ask(wish: Option<&Wish>) -> (Connection, Template) {
        let address = start().unwrap();
        (Connection::open(address).unwrap(), Template::new(address, wish))
    }

    #[test]
    fn the_answer_has_the_size_that_is_said_and_is_json() {
        let completion: serde_json::Value = serde_json::from_str(&completion()).unwrap();
        assert_eq!(completion["choices"][0]["finish_reason"], "stop");
        let (mut connection, mut template) = ask(None);
        for number in 0..3 {
            connection.send(template.numbered(number)).unwrap();
            let answer = connection.answer().unwrap();
            assert_eq!((answer.status, answer.bytes, answer.done), (200, ANSWER, false));
        }
    }

    #[test]
    fn a_request_may_come_in_pieces_and_be_long() {
        let (mut connection, mut template) = ask(None);
        let request = template.numbered(1).to_vec();
        connection.send(&request[..20]).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        connection.send(&request[20..]).unwrap();
        assert_eq!(connection.answer().unwrap().bytes, ANSWER);
        let body = "x".repeat(100_000);
        connection
            .send(format!("POST / HTTP/1.1\r\nhost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
            .unwrap();
        assert_eq!(connection.answer().unwrap().bytes, ANSWER);
    }

    #[test]
    fn a_stream_has_the_events_and_pauses_that_are_wished_for() {
        let (mut connection, mut template) = ask(Some(&Wish { events: 4, pause_us: 50_000, hold_ms: 0 }));
        let began = Instant::now();
        connection.send(template.numbered(1)).unwrap();
        let answer = connection.answer().unwrap();
        assert!(answer.done);
        assert!(began.elapsed() >= Duration::from_millis(200));
        // On a busy machine the first byte may be read late, but hardly as late as the last.
        assert!(answer.first_byte.unwrap() - began < Duration::from_millis(150));
    }

    #[test]
    fn a_held_stream_ends_when_its_time_is_over() {
        let (mut connection, mut template) = ask(Some(&Wish { events: 0, pause_us: 0, hold_ms: 50 }));
        let began = Instant::now();
        connection.send(template.numbered(1)).unwrap();
        assert!(connection.answer().unwrap().done);
        assert!(began.elapsed() >= Duration::from_millis(50));
    }
}
