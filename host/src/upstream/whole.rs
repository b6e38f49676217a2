//! Whether JSON that comes in pieces is all there, where nothing but the connection's end says so.
//!
//! What it does not do: it holds nothing, and takes what is no JSON for JSON as long as its brackets close.
//!
//! **Invariant:** what ends inside an object, a list or a text is not whole.

/// How deep in it the last byte was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Depth {
    open: u64,
    in_text: bool,
    escaped: bool,
    has_begun: bool,
}

impl Depth {
    /// Goes on with the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_text => self.escaped = true,
                b'"' => (self.in_text, self.has_begun) = (!self.in_text, true),
                _ if self.in_text => {}
                b'{' | b'[' => (self.open, self.has_begun) = (self.open + 1, true),
                b'}' | b']' => self.open = self.open.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Is it all there?
    pub(super) fn is_whole(&self) -> bool {
        self.has_begun && self.open == 0 && !self.in_text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_at_its_end_alone() {
        let json = br#"{"a":"}\"]\\","b":[1,{"c":null}]}"#;
        for cut in 0..json.len() {
            let mut depth = Depth::default();
            json[..cut].iter().for_each(|byte| depth.feed(&[*byte]));
            assert!(!depth.is_whole(), "{cut}");
        }
        let mut depth = Depth::default();
        json.chunks(3).for_each(|piece| depth.feed(piece));
        assert!(depth.is_whole());
    }
}
