//! Server-sent events, read as they come: bytes in any portions, the data of each event out.
//!
//! Our own reader, since a gateway must pass the very bytes on and bound what it holds; the crates at hand rebuild the
//! stream, or wait for the whole of an event without a limit.
//!
//! What it does not do: it changes and holds back nothing (but for [`Rewrite`], where somebody wants that); who forwards the stream forwards
//! the portions themselves.
//!
//! **Invariant:** any split into portions gives the same events.
//! **Invariant:** at most [`MAX_EVENT`] bytes are held; a longer event is dropped and noted.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

/// The longest event that is read, in bytes. Longer ones pass, unread.
pub const MAX_EVENT: usize = 1 << 20;

/// Is this the value of `content-type` of a stream of events? Its case says nothing.
pub fn is_events(content_type: &[u8]) -> bool {
    content_type.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}

/// Is a body with these headers in any encoding but its own?
pub fn is_compressed(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Is an answer with these headers a stream of events that can be read?
pub fn is_readable(headers: &HeaderMap) -> bool {
    !is_compressed(headers) && headers.get(CONTENT_TYPE).is_some_and(|value| is_events(value.as_bytes()))
}

/// An incremental reader.
#[derive(Debug, Default)]
pub struct Reader {
    /// The line that is not complete yet.
    line: Vec<u8>,
    /// The event's data lines so far, joined by line feeds; none before the first.
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return, so a line feed now belongs to it.
    after_return: bool,
    started: bool,
    /// Something was longer than allowed.
    overflowed: bool,
}

impl Reader {
    /// Takes a portion and hands the data of each event that it completes to `event`. Gives back how many of the portion's
    /// bytes are complete events; what follows is the beginning of one.
    pub fn feed(&mut self, mut portion: &[u8], event: &mut dyn FnMut(&[u8])) -> usize {
        let length = portion.len();
        let mut complete = 0;
        if self.after_return {
            self.after_return = false;
            portion = portion.strip_prefix(b"\n").unwrap_or(portion);
        }
        while let Some(end) = memchr::memchr2(b'\n', b'\r', portion) {
            let (line, rest) = (&portion[..end], &portion[end + 1..]);
            let is_blank = line.is_empty() && self.line.is_empty();
            if self.line.is_empty() {
                self.on_line(line, event);
            } else {
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                self.on_line(&whole, event);
                whole.clear();
                self.line = whole;
            }
            let by_return = portion[end] == b'\r';
            self.after_return = by_return && rest.is_empty();
            portion = if by_return { rest.strip_prefix(b"\n").unwrap_or(rest) } else { rest };
            if is_blank {
                complete = length - portion.len();
            }
        }
        if self.line.len() + portion.len() > MAX_EVENT {
            self.overflowed = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(portion);
        }
        complete
    }

    /// Was anything too long to be read?
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    fn on_line(&mut self, line: &[u8], event: &mut dyn FnMut(&[u8])) {
        let line = if self.started { line } else { line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            if let Some(data) = self.data.take() {
                event(&data);
            }
            return;
        }
        let Some(value) = line.strip_prefix(b"data") else { return };
        let value = match value {
            [] => value,
            [b':', b' ', value @ ..] | [b':', value @ ..] => value,
            _ => return,
        };
        match &mut self.data {
            None => self.data = Some(value.to_vec()),
            Some(data) if data.len() + value.len() < MAX_EVENT => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            Some(_) => self.overflowed = true,
        }
    }
}

/// Changes the data of events as they pass. A line waits for its end, since no event is whole before; what is not changed stays as it
/// came, byte for byte.
#[derive(Debug)]
pub struct Rewrite {
    line: BytesMut,
    change: Change,
}

/// Writes what the data of an event is to be. False, and nothing written: as it is.
pub type Change = fn(&[u8], &mut BytesMut) -> bool;

impl Rewrite {
    /// Nothing has come yet.
    pub fn new(change: Change) -> Self {
        Self { line: BytesMut::new(), change }
    }

    /// Takes a portion, and gives whole lines.
    pub fn feed(&mut self, portion: &[u8]) -> Bytes {
        self.line.extend_from_slice(portion);
        let end = memchr::memrchr2(b'\n', b'\r', &self.line).map_or(0, |at| at + 1);
        // What is too long to be an event goes on as it is.
        let end = if self.line.len() - end > MAX_EVENT { self.line.len() } else { end };
        let lines = self.line.split_to(end).freeze();
        let mut out = BytesMut::with_capacity(lines.len());
        for line in lines.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, end) = line.split_at(line.len() - usize::from(line.ends_with(b"\n") || line.ends_with(b"\r")));
            match line.strip_prefix(b"data:") {
                Some(data) => {
                    out.extend_from_slice(b"data:");
                    if !(self.change)(data, &mut out) {
                        out.extend_from_slice(data);
                    }
                }
                None => out.extend_from_slice(line),
            }
            out.extend_from_slice(end);
        }
        out.freeze()
    }

    /// What came behind the last whole line.
    pub fn rest(&mut self) -> Bytes {
        self.line.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(portions: &[&[u8]]) -> Vec<String> {
        let (mut reader, mut events) = (Reader::default(), Vec::new());
        for portion in portions {
            reader.feed(portion, &mut |data| events.push(String::from_utf8_lossy(data).into_owned()));
        }
        events
    }

    const STREAM: &str = "\u{feff}data: one\n\n: ping\n\nevent: x\nid: 7\ndata:two\r\ndata: 2\r\n\r\ndata\n\ndatax: no\n\ndata:  three\r\rdata: [DONE]\n\ndata: cut";

    #[test]
    fn every_split_gives_the_same_events() {
        let expect = ["one", "two\n2", "", " three", "[DONE]"];
        assert_eq!(events(&[STREAM.as_bytes()]), expect);
        for at in 0..=STREAM.len() {
            let (a, b) = STREAM.as_bytes().split_at(at);
            assert_eq!(events(&[a, b]), expect, "split at {at}");
        }
        let single: Vec<&[u8]> = STREAM.as_bytes().chunks(1).collect();
        assert_eq!(events(&single), expect);
    }

    #[test]
    fn complete_events_end_at_a_blank_line() {
        for (portions, expect) in [
            (vec!["data: a\n\ndata: b"], vec![9]),
            (vec!["data: a\n\ndata: b", "\n", "\nx"], vec![9, 0, 1]),
            (vec!["data: a\r\n\r", "\ndata"], vec![10, 0]),
            (vec![": ping\n", "\n"], vec![0, 1]),
            (vec!["data: a\r\r"], vec![9]),
        ] {
            let mut reader = Reader::default();
            let found: Vec<_> = portions.iter().map(|portion| reader.feed(portion.as_bytes(), &mut |_| {})).collect();
            assert_eq!(found, expect, "{portions:?}");
        }
    }

    #[test]
    fn what_is_too_long_is_dropped_and_noted() {
        let mut reader = Reader::default();
        let mut seen = 0;
        for _ in 0..64 {
            reader.feed(&[b'x'; 64 << 10], &mut |_| seen += 1);
        }
        assert!(reader.overflowed());
        assert!(reader.line.len() <= MAX_EVENT);
        assert_eq!(seen, 0);
    }
}
