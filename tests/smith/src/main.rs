//! Writes components (or core modules) that wasm-smith makes of numbers: `smith FOLDER FIRST COUNT`. The same number makes the same file.
//!
//! What it does not do: it says nothing of what a loader makes of them.

use arbitrary::Unstructured;
use wasm_smith::{Component, Config, Module};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("smith FOLDER FIRST COUNT");
    let (folder, first, count) = (next(), next().parse::<u64>().expect("a number"), next().parse::<u64>().expect("a number"));
    for seed in first..first + count {
        std::fs::write(format!("{folder}/{seed}.wasm"), made(seed)).expect("the folder can be written");
    }
}

/// Two of three are components. What no sound one can be made of is written as it is.
fn made(seed: u64) -> Vec<u8> {
    let bytes = entropy(seed);
    let mut entropy = Unstructured::new(&bytes);
    let config = Config { max_memories: 4, max_memory32_bytes: 64 << 20, ..Config::default() };
    let made = match seed % 3 {
        0 => Module::new(config, &mut entropy).map(|module| module.to_bytes()),
        _ => Component::new(config, &mut entropy).map(|component| component.to_bytes()),
    };
    made.unwrap_or(bytes)
}

/// Some kilobytes that follow from a number (SplitMix64).
fn entropy(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut number = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let length = 64 + number() % 500;
    (0..length).flat_map(|_| number().to_le_bytes()).collect()
}
