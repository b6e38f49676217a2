//! The body of an answer, read bit by bit, by whichever framing its head announces.
//!
//! **Invariant:** a body is whole only if its own framing has said so.

use super::{Connection, Head};

enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
    Over,
}

impl Framing {
    fn of(head: &Head) -> Self {
        if head.header("transfer-encoding").is_some() {
            Self::Chunked
        } else if head.status == 204 || head.status == 304 || head.status < 200 {
            Self::Length(0)
        } else {
            head.header("content-length")
                .map_or(Self::UntilClose, |length| Self::Length(length.parse().expect("a content-length is a number")))
        }
    }
}

/// An answer whose body is still coming.
pub struct Live<'a> {
    connection: &'a mut Connection,
    /// Its head.
    pub head: Head,
    framing: Framing,
    whole: bool,
}

impl<'a> Live<'a> {
    pub(super) fn new(connection: &'a mut Connection, head: Head) -> Self {
        let framing = Framing::of(&head);
        Self { connection, head, framing, whole: false }
    }

    /// The next bytes of the body; none at its end, for whatever reason it ended.
    pub fn portion(&mut self) -> Option<Vec<u8>> {
        match self.framing {
            Framing::Over => None,
            Framing::Length(0) => self.over(true),
            Framing::Length(left) => {
                let portion = self.take(left)?;
                self.framing = Framing::Length(left - portion.len());
                Some(portion)
            }
            Framing::UntilClose => {
                let portion = self.take(usize::MAX);
                self.whole = portion.is_none();
                portion
            }
            Framing::Chunked => self.chunk(),
        }
    }

    /// Did the body end as its framing says?
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Some bytes, at most `most`.
    fn take(&mut self, most: usize) -> Option<Vec<u8>> {
        if self.connection.buffer.is_empty() && !matches!(self.connection.more(), Ok(1..)) {
            return self.over(false);
        }
        let count = self.connection.buffer.len().min(most);
        Some(self.connection.buffer.drain(..count).collect())
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let Some(end) = self.find_line() else { return self.over(false) };
        let line = String::from_utf8_lossy(&self.connection.buffer[..end]).into_owned();
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .unwrap_or_else(|_| panic!("no chunk: {line:?}"));
        while self.connection.buffer.len() < end + 2 + size + 2 {
            if !matches!(self.connection.more(), Ok(1..)) {
                return self.over(false);
            }
        }
        let chunk: Vec<u8> = self.connection.buffer.drain(..end + 2 + size + 2).skip(end + 2).take(size).collect();
        if size == 0 { self.over(true) } else { Some(chunk) }
    }

    fn find_line(&mut self) -> Option<usize> {
        loop {
            if let Some(at) = self.connection.buffer.windows(2).position(|window| window == b"\r\n") {
                return Some(at);
            }
            if !matches!(self.connection.more(), Ok(1..)) {
                return None;
            }
        }
    }

    fn over(&mut self, whole: bool) -> Option<Vec<u8>> {
        self.framing = Framing::Over;
        self.whole = whole;
        None
    }
}
