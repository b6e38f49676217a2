//! What of a shared answer has come so far, for those who listen to it, each at his own pace.
//!
//! One copy of the bytes for all of them: a piece is handed out as a slice that counts its holders. Who begins later begins at the first
//! byte. There is a bound on all of it; beyond that the beginning goes, nobody can begin any more, and who has not read it has lost it.
//!
//! What it does not do: it wakes and waits for nobody.
//!
//! **Invariant:** at most `limit` bytes and one piece are held, however slowly anybody reads.
//! **Invariant:** a place is given every piece in its order, or told that it has lost some.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// What a piece takes beside its bytes.
const PIECE: usize = 32;

/// Room that is made at a time: the more there is, the more will come.
const LEAST_ROOM: usize = 1 << 10;
const MOST_ROOM: usize = 64 << 10;

/// The pieces.
#[derive(Debug)]
pub(super) struct Log {
    pieces: VecDeque<Bytes>,
    /// The number of the first of them.
    first: usize,
    held: usize,
    limit: usize,
    room: BytesMut,
    /// Bytes in all, and how many of them whoever is furthest has read.
    end: u64,
    front: u64,
}

/// How far somebody has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    next: usize,
    at: u64,
}

/// What somebody gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A piece.
    Piece(Bytes),
    /// Nothing yet.
    None,
    /// It has come and gone: he reads too slowly.
    Lost,
}

impl Log {
    pub(super) fn new(limit: usize) -> Self {
        Self { pieces: VecDeque::new(), first: 0, held: 0, limit, room: BytesMut::new(), end: 0, front: 0 }
    }

    /// The next bytes, copied: the slice that came would keep the connection's whole read buffer.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.room.capacity() < bytes.len() {
            let room = (self.held / 4).clamp(LEAST_ROOM, MOST_ROOM);
            self.room = BytesMut::with_capacity(room.max(bytes.len()));
        }
        self.room.extend_from_slice(bytes);
        self.pieces.push_back(self.room.split().freeze());
        self.end += bytes.len() as u64;
        self.held += bytes.len() + PIECE;
        while self.held > self.limit && self.pieces.len() > 1 {
            let gone = self.pieces.pop_front().unwrap_or_default();
            self.held -= gone.len() + PIECE;
            self.first += 1;
        }
    }

    /// All of an answer that came in one piece: no copy, since it is there for a moment.
    pub(super) fn whole(&mut self, bytes: Bytes) {
        self.end += bytes.len() as u64;
        self.held += bytes.len() + PIECE;
        self.pieces.push_back(bytes);
    }

    /// Is there room for so many bytes in so many pieces, so that nothing is gone?
    pub(super) fn holds(&self, bytes: usize, pieces: usize) -> bool {
        bytes + pieces * PIECE <= self.limit
    }

    /// Can somebody begin at the first byte?
    pub(super) fn is_from_the_beginning(&self) -> bool {
        self.first == 0
    }

    /// Where the next piece will be.
    pub(super) fn end(&self) -> Place {
        Place { next: self.first + self.pieces.len(), at: self.end }
    }

    /// The next piece for a place, which moves on.
    pub(super) fn read(&mut self, place: &mut Place) -> Next {
        let Some(index) = place.next.checked_sub(self.first) else { return Next::Lost };
        let Some(piece) = self.pieces.get(index) else { return Next::None };
        place.next += 1;
        place.at += piece.len() as u64;
        self.front = self.front.max(place.at);
        Next::Piece(piece.clone())
    }

    /// Bytes that nobody has read yet.
    pub(super) fn ahead(&self) -> u64 {
        self.end - self.front
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: &mut Log, place: &mut Place) -> String {
        let mut all = Vec::new();
        while let Next::Piece(piece) = log.read(place) {
            all.extend_from_slice(&piece);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn each_reads_everything_at_his_own_pace() {
        let mut log = Log::new(1 << 20);
        let (mut quick, mut slow) = (Place::default(), Place::default());
        log.push(b"one ");
        assert_eq!(read(&mut log, &mut quick), "one ");
        log.push(b"");
        log.push(b"two ");
        assert_eq!((log.ahead(), log.read(&mut slow)), (4, Next::Piece(Bytes::from_static(b"one "))));
        assert_eq!(read(&mut log, &mut quick), "two ");
        assert_eq!((log.ahead(), log.read(&mut quick)), (0, Next::None));
        log.push(b"three");
        let mut late = Place::default();
        assert_eq!((read(&mut log, &mut late), read(&mut log, &mut slow)), ("one two three".into(), "two three".into()));
        let mut joined = log.end();
        assert_eq!(log.read(&mut joined), Next::None);
    }

    #[test]
    fn memory_is_bounded_and_who_is_too_slow_is_told() {
        const LIMIT: usize = 10_000;
        let mut log = Log::new(LIMIT);
        let (mut quick, mut slow) = (Place::default(), Place::default());
        for _ in 0..100 {
            log.push(&[b'x'; 1_000]);
            assert!(matches!(log.read(&mut quick), Next::Piece(_)));
            let held: usize = log.pieces.iter().map(Bytes::len).sum();
            assert!(held <= LIMIT + 1_000, "{held}");
        }
        assert_eq!((log.read(&mut quick), log.read(&mut slow)), (Next::None, Next::Lost));
        assert!(!log.is_from_the_beginning());
        // One piece that is larger than all that may be held is held, or nobody would ever get it.
        log.push(&[b'y'; 2 * LIMIT]);
        assert!(matches!(log.read(&mut quick), Next::Piece(piece) if piece.len() == 2 * LIMIT));
    }

    /// Pieces come by the token; each a buffer of its own would take many times their bytes.
    #[test]
    fn small_pieces_share_their_room() {
        let mut log = Log::new(1 << 20);
        (0..100).for_each(|_| log.push(b"0123456789"));
        let first = log.pieces[0].as_ptr() as usize;
        let second = log.pieces[1].as_ptr() as usize;
        assert_eq!(second - first, 10);
    }
}
