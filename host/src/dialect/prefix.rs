//! A prompt's beginning in blocks, each named by a hash of everything up to its end.
//!
//! A model server keeps what it has computed of a prompt (its KV cache) and takes it up again where another prompt begins alike.
//! Two requests that have a block's name in common begin alike up to that block's end, so whoever has served one of them is
//! cheaper to ask for the other.
//!
//! Blocks are counted in bytes of JSON as the client wrote it, not in tokens: no tokenizer is asked, and clients write what they
//! repeat alike. They are short at the beginning, where prompts part, and longer further on; after 256 KiB nothing is looked at.
//!
//! What it does not do: it says nothing about what a prompt means, and is no part of any cache key.
//!
//! **Invariant:** a block's name depends on nothing behind it, and is the same on every node and in every build.

/// Steps between the ends of blocks: so many blocks of so many bytes.
const STEPS: [(usize, usize); 3] = [(32, 512), (12, 4 << 10), (12, 16 << 10)];

/// The most blocks of one prompt.
pub const MOST: usize = STEPS[0].0 + STEPS[1].0 + STEPS[2].0;

/// A prompt's blocks, and how long it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefix {
    blocks: Vec<u64>,
    bytes: usize,
}

/// Where the block at `index` ends, in bytes from the prompt's beginning.
pub fn end(index: usize) -> usize {
    let (mut left, mut sum) = (index + 1, 0);
    for (count, step) in STEPS {
        let taken = left.min(count);
        sum += taken * step;
        left -= taken;
    }
    sum
}

impl Prefix {
    /// Of a prompt for a model, in the order in which a server reads its parts.
    pub fn of<'a>(model: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut prefix = Self::default();
        let mut state = hash(0, model.as_bytes());
        let mut next = end(0);
        for part in parts {
            let mut rest = part;
            while prefix.blocks.len() < MOST && !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(next - prefix.bytes));
                state = hash(state, now);
                prefix.bytes += now.len();
                rest = later;
                if prefix.bytes == next {
                    prefix.blocks.push(state);
                    next = end(prefix.blocks.len());
                }
            }
            prefix.bytes += rest.len();
        }
        prefix
    }

    /// Of blocks whose names are known already, such as a simulation's.
    pub fn of_blocks(mut blocks: Vec<u64>, bytes: usize) -> Self {
        blocks.truncate(MOST);
        Self { blocks, bytes }
    }

    /// The blocks' names, from the first.
    pub fn blocks(&self) -> &[u64] {
        &self.blocks
    }

    /// How long the prompt is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Mixes bytes into a state: eight at a time, by a multiplication whose halves are folded, as wyhash does it. It spreads well and
/// reads gigabytes a second; it is no protection against somebody who wants two texts to collide, which here gains him nothing.
pub fn hash(state: u64, bytes: &[u8]) -> u64 {
    let mut state = mix(state ^ bytes.len() as u64);
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        state = mix(state ^ u64::from_le_bytes([word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7]]));
    }
    let tail = words.remainder().iter().fold(0, |tail, byte| (tail << 8) | u64::from(*byte));
    mix(state ^ tail)
}

/// Spreads a word over all its bits.
pub fn mix(word: u64) -> u64 {
    let product = u128::from(word ^ 0xa076_1d64_78bd_642f) * u128::from(word.rotate_left(32) ^ 0xe703_7ed1_a0b4_28db);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(parts: &[&str]) -> Prefix {
        Prefix::of("m", parts.iter().map(|part| part.as_bytes()))
    }

    #[test]
    fn prompts_that_begin_alike_share_their_first_blocks() {
        let system = "s".repeat(2_000);
        let (one, other) = (prefix(&[&system, &"a".repeat(3_000)]), prefix(&[&system, &"b".repeat(100)]));
        let common = one.blocks().iter().zip(other.blocks()).take_while(|(a, b)| a == b).count();
        assert_eq!((common, one.blocks().len(), other.blocks().len(), other.bytes()), (3, 9, 4, 2_100));
        assert_ne!(Prefix::of("n", [system.as_bytes()]).blocks()[0], one.blocks()[0], "another model has another cache");
        assert_eq!(prefix(&["short"]).blocks(), [] as [u64; 0]);
    }

    #[test]
    fn nothing_is_looked_at_beyond_a_bound() {
        let long = prefix(&[&"x".repeat(1 << 20)]);
        assert_eq!((long.blocks().len(), end(MOST - 1), long.bytes()), (MOST, 256 << 10, 1 << 20));
        assert_eq!([end(0), end(31), end(32)], [512, 16 << 10, 20 << 10]);
    }

    #[test]
    fn names_are_the_same_in_every_build() {
        // Nodes of two versions agree on where a prefix is at home.
        assert_eq!(prefix(&[&"y".repeat(512)]).blocks(), [9_317_775_412_650_318_941]);
        let mut seen: Vec<u64> = (0..10_000_u64).map(|at| hash(0, &at.to_le_bytes())).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10_000);
    }
}
