//! An [`Act`] in bytes: what goes over the wire for one request, and how it is framed.
//!
//! **Invariant:** a stream is sent in chunks, one a piece; everything else has a `content-length`.

use std::io::{self, Write};
use std::net::TcpStream;

use super::act::{Act, Fault, Place, What};
use super::{Seen, completion};

/// An act in bytes.
pub(super) struct Shape {
    pub(super) head: Vec<u8>,
    pub(super) pieces: Vec<Vec<u8>>,
    pub(super) keep_alive: bool,
    chunked: bool,
}

impl Act {
    /// The bytes for one request.
    pub(super) fn shape(&self, request: &Seen, number: usize) -> Shape {
        let (kind, pieces) = match &self.what {
            What::Raw(bytes) => {
                return Shape { head: Vec::new(), pieces: vec![bytes.clone()], keep_alive: false, chunked: false };
            }
            What::Bytes { kind, pieces } => (*kind, pieces.clone()),
            // Who asks how it is, and not for an answer.
            What::Answer | What::Say(_) if request.line.starts_with("GET ") => ("application/json", vec![b"{}".to_vec()]),
            What::Answer | What::Say(_) if request.line.contains("/embeddings") => {
                ("application/json", vec![completion::embeddings(&request.json()).to_string().into_bytes()])
            }
            What::Answer => self.completion(request, number, None),
            What::Say(text) => self.completion(request, number, Some(text)),
        };
        let chunked = kind == "text/event-stream" && self.length.is_none();
        let mut head =
            format!("HTTP/1.1 {} Fake\r\ncontent-type: {kind}\r\nx-request-id: fake-{number}\r\n", self.status.unwrap_or(200));
        match chunked {
            true => head.push_str("transfer-encoding: chunked\r\n"),
            false => head.push_str(&format!("content-length: {}\r\n", self.length.unwrap_or(pieces.iter().map(Vec::len).sum()))),
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Shape { head: head.into_bytes(), pieces, keep_alive: self.length.is_none(), chunked }
    }

    fn completion(&self, request: &Seen, number: usize, text: Option<&str>) -> (&'static str, Vec<Vec<u8>>) {
        let asked = request.json();
        let mut completion = completion::of(&asked, number, text);
        if let Some(edit) = &self.edit {
            edit(&mut completion);
        }
        if asked["stream"] == true {
            let usage = asked["stream_options"]["include_usage"] == true;
            ("text/event-stream", completion::stream(&completion, usage).into_iter().map(String::into_bytes).collect())
        } else {
            ("application/json", vec![completion.to_string().into_bytes()])
        }
    }
}

impl Shape {
    /// An act's faults by the bytes of head and body that go before each.
    pub(super) fn faults(&self, act: &Act) -> Vec<(usize, Fault)> {
        let before = |pieces: usize| self.pieces.iter().take(pieces).map(Vec::len).sum::<usize>();
        let bytes = |place: &Place| match *place {
            Place::Head(byte) => byte,
            Place::Body(byte) => self.head.len() + byte,
            Place::Piece(piece, byte) => self.head.len() + before(piece) + byte,
            Place::BeforeEnd(byte) => self.head.len() + before(usize::MAX) - byte,
        };
        act.faults.iter().map(|(place, fault)| (bytes(place), fault.clone())).collect()
    }

    pub(super) fn write(&self, stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        match (self.chunked, bytes.is_empty()) {
            (_, true) => Ok(()),
            (false, false) => stream.write_all(bytes),
            (true, false) => {
                let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
                chunk.extend_from_slice(bytes);
                chunk.extend_from_slice(b"\r\n");
                stream.write_all(&chunk)
            }
        }
    }

    pub(super) fn end(&self, stream: &mut TcpStream) -> io::Result<()> {
        if self.chunked { stream.write_all(b"0\r\n\r\n") } else { Ok(()) }
    }
}
