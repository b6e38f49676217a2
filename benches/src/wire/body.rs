//! Where a body ends: after a number of bytes, or with the last of its chunks.
//!
//! What it does not do: it reads no socket and keeps no bytes; pieces may be cut anywhere.
//!
//! **Invariant:** bytes behind the end are an error.

/// How a body is framed, and how far it has come.
#[derive(Debug)]
pub(super) enum Framing {
    /// So many bytes are still to come.
    Length(usize),
    /// In chunks.
    Chunked(Chunk),
}

/// What comes next in a body of chunks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunk {
    /// The size line; so far this size, and whether its digits are over.
    Size { size: usize, digits: bool },
    /// So many bytes of the chunk.
    Data(usize),
    /// The line's end behind a chunk.
    End,
    /// The empty line behind the last chunk.
    Last,
    /// Nothing.
    Over,
}

impl Framing {
    pub(super) fn length(bytes: usize) -> Self {
        Self::Length(bytes)
    }

    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunk::Size { size: 0, digits: true })
    }

    /// Takes the next piece, hands its payload on, and says whether the body is over.
    pub(super) fn feed(&mut self, piece: &[u8], mut payload: impl FnMut(&[u8])) -> Result<bool, &'static str> {
        match self {
            Self::Length(left) => {
                *left = left.checked_sub(piece.len()).ok_or("bytes behind the end of the body")?;
                if !piece.is_empty() {
                    payload(piece);
                }
                Ok(*left == 0)
            }
            Self::Chunked(chunk) => {
                let mut rest = piece;
                while !rest.is_empty() {
                    rest = chunk.step(rest, &mut payload)?;
                }
                Ok(matches!(chunk, Chunk::Over))
            }
        }
    }
}

impl Chunk {
    /// Takes one byte, or as many of a chunk as there are.
    fn step<'a>(&mut self, piece: &'a [u8], payload: &mut dyn FnMut(&[u8])) -> Result<&'a [u8], &'static str> {
        let (first, rest) = (piece[0], &piece[1..]);
        let (next, rest) = match *self {
            Self::Data(left) => {
                let (data, rest) = piece.split_at(left.min(piece.len()));
                payload(data);
                (if data.len() == left { Self::End } else { Self::Data(left - data.len()) }, rest)
            }
            Self::Size { size: 0, .. } if first == b'\n' => (Self::Last, rest),
            Self::Size { size, .. } if first == b'\n' => (Self::Data(size), rest),
            Self::Size { size, .. } if matches!(first, b'\r' | b';') => (Self::Size { size, digits: false }, rest),
            Self::Size { digits: false, .. } => (*self, rest),
            Self::Size { size, .. } => {
                let digit = char::from(first).to_digit(16).ok_or("a chunk without a size")?;
                (Self::Size { size: size.checked_mul(16).ok_or("a chunk without an end")? + digit as usize, digits: true }, rest)
            }
            Self::End | Self::Last if first == b'\r' => (*self, rest),
            Self::End if first == b'\n' => (Self::Size { size: 0, digits: true }, rest),
            Self::Last if first == b'\n' => (Self::Over, rest),
            Self::End => return Err("a chunk that is longer than it says"),
            Self::Last => return Err("trailers"),
            Self::Over => return Err("bytes behind the end of the body"),
        };
        *self = next;
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_split_gives_the_same_payload() {
        let text = b"5\r\nhello\r\nC;x=1\r\n, wide world\r\n0\r\n\r\n";
        for at in 0..=text.len() {
            let (mut framing, mut got) = (Framing::chunked(), Vec::new());
            let first = framing.feed(&text[..at], |bytes| got.extend_from_slice(bytes)).unwrap();
            assert_eq!(first, at == text.len());
            if !first {
                assert!(framing.feed(&text[at..], |bytes| got.extend_from_slice(bytes)).unwrap(), "{at}");
            }
            assert_eq!(got, b"hello, wide world");
        }
    }

    #[test]
    fn nothing_may_follow() {
        let mut chunked = Framing::chunked();
        assert!(chunked.feed(b"0\r\n\r\nx", |_| {}).is_err());
        let mut length = Framing::length(3);
        assert!(!length.feed(b"ab", |_| {}).unwrap());
        assert!(length.feed(b"cd", |_| {}).is_err());
        assert!(Framing::length(0).feed(b"", |_| {}).unwrap());
    }
}
