//! What a plugin that panics said last, left where the host finds it.
//!
//! A panic ends in a trap, which carries no text, and an instance that has trapped cannot be asked. So the message is written into
//! a piece of memory behind a mark, and the host, which has the memory after the trap, looks for the mark
//! (`host/src/plugin/last_words.rs` has the other half). This takes no import, so it takes no grant.
//!
//! What it does not do: nothing outside WebAssembly; native tests of a plugin panic as they always do.
//!
//! **Invariant:** the mark is in memory once, and followed by the address of the text and its length, both in 32 bits.

/// Installs what notes the message; costs a look at a flag where that is done.
#[doc(hidden)]
pub fn listen() {
    #[cfg(target_arch = "wasm32")]
    wasm::listen();
}

#[cfg(target_arch = "wasm32")]
mod wasm {
    use core::fmt::{self, Write};
    use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
    use std::panic::{PanicHookInfo, set_hook};

    /// Bytes of a message; the host's log has little more room for one.
    const SIZE: usize = 480;

    /// Zeros from the start, so that they take no room in the component.
    static TEXT: [AtomicU8; SIZE] = [const { AtomicU8::new(0) }; SIZE];

    #[repr(C)]
    struct Place {
        mark: [u8; 16],
        text: &'static [AtomicU8; SIZE],
        length: AtomicU32,
    }

    // Kept as it stands here: the one who reads it is not in this program.
    #[used]
    static PLACE: Place = Place { mark: *b"\0pointsman panic", text: &TEXT, length: AtomicU32::new(0) };

    pub(super) fn listen() {
        static LISTENS: AtomicBool = AtomicBool::new(false);
        if !LISTENS.swap(true, Relaxed) {
            set_hook(Box::new(note));
        }
    }

    fn note(panic: &PanicHookInfo<'_>) {
        // What does not fit is left out.
        let _ = write!(Text, "{panic}");
    }

    struct Text;

    impl Write for Text {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let length = PLACE.length.load(Relaxed);
            let mut end = length;
            for (byte, place) in text.bytes().zip(PLACE.text.iter().skip(length as usize)) {
                place.store(byte, Relaxed);
                end += 1;
            }
            PLACE.length.store(end, Relaxed);
            Ok(())
        }
    }
}
