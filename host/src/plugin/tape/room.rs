//! How much a tape may take: all that a recording keeps of one exchange is held until the exchange ends.
//!
//! **Invariant:** what a guest asks for, as often as it likes, adds to no more than the room; beyond it the exchange is not recorded, and what
//! was kept for that is gone at once.

use serde_json::Value;

/// What a call takes beside its texts.
pub(super) const CALL: usize = 512;

/// Room for one exchange.
#[derive(Debug, Default)]
pub(super) struct Room {
    most: usize,
    taken: usize,
    /// Of that, parts of answers.
    parts: usize,
}

impl Room {
    pub(super) fn of(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Bytes that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Is there room for so much more? It is taken in any case: what is beyond the room stays beyond it.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        self.taken = self.taken.saturating_add(bytes);
        self.taken <= self.most
    }

    /// The same for part of an answer. Parts leave half of the room to all else, and where there is none for one, there is for none after it.
    pub(super) fn take_part(&mut self, bytes: usize) -> bool {
        let sum = self.parts.saturating_add(bytes);
        if sum > self.most / 2 || self.taken.saturating_add(bytes) > self.most {
            self.parts = usize::MAX;
            return false;
        }
        (self.parts, self.taken) = (sum, self.taken + bytes);
        true
    }
}

/// Bytes of all strings in a value, about.
pub fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 32,
        Value::Array(list) => list.iter().map(weight).sum::<usize>() + 32,
        Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + weight(value) + 64).sum::<usize>() + 32,
        _ => 32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_room_for_the_rest() {
        let mut room = Room::of(100);
        assert!(room.take(30) && room.take_part(30) && room.take_part(20));
        assert!(!room.take_part(1), "half of it is taken by parts");
        assert!(room.take(20) && !room.take(1), "and the rest by the rest");
        assert_eq!(room.taken(), 101);
        let mut room = Room::of(100);
        assert!(!room.take_part(51) && !room.take_part(1), "none follows one that was left out");
        assert!(!room.take(usize::MAX) && !room.take(1));
    }
}
