//! Where a plugin's values live: a piece of memory that is there from the start, and more from the host when that is used up.
//!
//! Each exchange gets an instance with fresh memory. The standard library's allocator asks the host for a page before its first
//! byte, which costs two system calls in every instance; most plugins never need more than what is here.
//!
//! What it does not do: nothing outside WebAssembly; native tests of a plugin use what they always use.
//!
//! **Invariant:** the piece is handed over once, and only the allocator touches it.

#![allow(unsafe_code, reason = "an allocator hands out memory; the one from talc does the work, this file gives it some")]

use core::alloc::Layout;
use core::arch::wasm32::memory_grow;
use core::mem::MaybeUninit;

use talc::base::{CHUNK_UNIT, Talc, binning::Binning};
use talc::cell::TalcSyncCell;
use talc::source::Source;
use talc::wasm::WasmBinning;

/// Costs nothing where it is not touched.
const FIRST: usize = 128 << 10;
const PAGE: usize = 64 << 10;

static mut MEMORY: [MaybeUninit<u8>; FIRST] = [MaybeUninit::uninit(); FIRST];

#[global_allocator]
static ALLOCATOR: TalcSyncCell<Supply, WasmBinning> = TalcSyncCell::new_wasm(Supply { first: true });

/// What the allocator asks when it has no room.
#[derive(Debug)]
struct Supply {
    first: bool,
}

// SAFETY: it allocates nothing itself, and claims each piece of memory once.
unsafe impl Source for Supply {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let (base, size) = if core::mem::take(&mut talc.source.first) {
            ((&raw mut MEMORY).cast(), FIRST)
        } else {
            // Room for the piece, for what the allocator notes beside it, and for the way to its alignment.
            let pages = (layout.size() + layout.align() + 4 * CHUNK_UNIT).div_ceil(PAGE);
            let end = memory_grow::<0>(pages);
            if end == usize::MAX {
                return Err(());
            }
            ((end * PAGE) as *mut u8, pages * PAGE)
        };
        // SAFETY: both are ours alone: a static that nothing else names, and pages that did not exist before.
        unsafe { talc.claim(base, size) }.map(drop).ok_or(())
    }
}
