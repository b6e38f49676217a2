//! What a guest said before it trapped: a panic's message, which the trap itself does not carry.
//!
//! The SDK leaves the message in the guest's memory behind a mark (`sdk/rust/src/last_words.rs`): the contract has no function for
//! it, an import would need a grant, and an instance that has trapped cannot be asked. What wasmtime keeps of a trap leads to the
//! memory, which is there until the store goes.
//!
//! What it does not do: it trusts nothing that it finds. A guest may write there what it likes, as it may into its own errors.
//!
//! **Invariant:** looked for only after a trap, and only at the beginning of a memory.

use std::fmt::{Display, Write};

use memchr::memmem;
use wasmtime::{Error, Store, WasmCoreDump};

use super::imports::State;

const MARK: &[u8] = b"\0pointsman panic";
/// Bytes of a memory that are looked at. Statics are at its beginning.
const LOOKED_AT: usize = 1 << 20;
/// Bytes of a message.
const LONGEST: usize = 480;
/// Bytes of one cause of an error.
const MOST: usize = 4 << 10;

/// A panic's message, as an error's outermost context.
#[derive(Debug)]
struct Panicked(String);

impl Display for Panicked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The same error, with what the guest said last if it has panicked.
pub(super) fn with(error: Error, store: &Store<State>) -> Error {
    let Some(dump) = error.downcast_ref::<WasmCoreDump>() else { return error };
    let said = dump.memories().iter().find_map(|memory| message(memory.data(store)));
    match said {
        Some(said) => error.context(Panicked(said)),
        None => error,
    }
}

fn message(memory: &[u8]) -> Option<String> {
    let looked_at = &memory[..memory.len().min(LOOKED_AT)];
    let place = looked_at.get(memmem::find(looked_at, MARK)? + MARK.len()..)?;
    let number = |at: usize| Some(u32::from_le_bytes(*place.get(at..)?.first_chunk()?) as usize);
    let (text, length) = (number(0)?, number(4)?.min(LONGEST));
    let bytes = memory.get(text..)?.get(..length).filter(|bytes| !bytes.is_empty())?;
    // One line, whatever it is shown in.
    let said = String::from_utf8_lossy(bytes);
    Some(said.split(|character: char| character.is_whitespace() || character.is_control()).collect::<Vec<_>>().join(" "))
}

/// An error in one line: the panic alone where there was one; why the guest ended, and then where it stood, otherwise. Whoever has
/// room for a part of it keeps the beginning.
pub(super) fn told(error: &Error) -> String {
    if let Some(Panicked(said)) = error.downcast_ref() {
        return said.clone();
    }
    in_order(error.chain().map(|cause| beginning(&cause)))
}

fn in_order(parts: impl Iterator<Item = String>) -> String {
    // What wasmtime keeps of a trap prints as a list of everything that was in the store.
    let parts = parts.filter(|text| !text.starts_with("wasm coredump "));
    let (stood, ended): (Vec<_>, Vec<_>) = parts.partition(|text| text.starts_with("error while executing at wasm backtrace:"));
    ended.into_iter().chain(stood).collect::<Vec<_>>().join(": ")
}

/// The beginning of what prints. The rest is not made: a guest can make it long.
fn beginning(printed: &impl Display) -> String {
    struct Short(String);
    impl Write for Short {
        fn write_str(&mut self, text: &str) -> std::fmt::Result {
            let room = MOST.saturating_sub(self.0.len());
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            if text.len() > room { Err(std::fmt::Error) } else { Ok(()) }
        }
    }
    let mut short = Short(String::new());
    let _ = write!(short, "{printed}");
    short.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(at: usize, text: u32, length: u32, said: &[u8]) -> Vec<u8> {
        let mut memory = vec![0; 4096];
        memory[at..at + 16].copy_from_slice(MARK);
        memory[at + 16..at + 20].copy_from_slice(&text.to_le_bytes());
        memory[at + 20..at + 24].copy_from_slice(&length.to_le_bytes());
        memory[2048..2048 + said.len()].copy_from_slice(said);
        memory
    }

    /// wasmtime puts the backtrace before the cause, and a backtrace is longer than what logs and lists show of an error: they
    /// showed no cause.
    #[test]
    fn the_cause_comes_before_the_backtrace() {
        let parts =
            ["error while executing at wasm backtrace:\n    0: 0x1d3 - m!f", "wasm coredump generated", "wasm trap: interrupt"];
        let told = in_order(parts.into_iter().map(str::to_owned));
        assert_eq!(told, format!("wasm trap: interrupt: {}", parts[0]));
    }

    #[test]
    fn what_is_found_is_not_trusted() {
        let said = |memory: Vec<u8>| message(&memory);
        assert_eq!(said(memory(100, 2048, 4, b"boom")).as_deref(), Some("boom"));
        assert_eq!(said(memory(100, 2048, 5, b"a\n\x1b\xff")).as_deref(), Some("a  \u{fffd} "));
        assert_eq!(said(memory(100, 2048, u32::MAX, b"boom")).unwrap().len(), LONGEST);
        for (at, text, length) in [(100, 2048, 0), (100, u32::MAX, 4), (100, 4094, 4), (4096 - 24, 2048, u32::MAX - 3)] {
            let found = said(memory(at, text, length, b"boom"));
            assert!(found.is_none_or(|found| found.len() <= LONGEST), "{at} {text} {length}");
        }
        assert_eq!(said(vec![0; 100]), None);
        assert_eq!(said([&[0; 84], MARK].concat()), None);
    }
}
