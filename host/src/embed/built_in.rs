//! The model inside pointsman: a vector per WordPiece token, distilled from MiniLM by `host/model/distil.py`. A text's vector
//! is the sum of its tokens' vectors.
//!
//! It takes microseconds, and it is blind to word order: it serves routing, classification and near hits at a cut of its
//! own, beside guards that look at the words.
//!
//! What it does not do: nothing is unpacked at start. Tokens lie sorted in the file, which is part of the binary, and are
//! found by binary search.
//!
//! **Invariant:** tokens are those of BERT's uncased tokenizer, with which the vectors were fitted.

use futures_util::future::BoxFuture;

use super::tokenize::Tokenizer;
use super::{EmbedError, Embedder};
use crate::vector::{Vector, unit};

static FILE: &[u8] = include_bytes!("../../model/built-in.bin");

/// The name, with the beginning of the file's BLAKE3 digest. Written down, because to compute it would bring all of the file
/// into memory at start.
pub(super) const ID: &str = "built-in@29fce03f75c3";

/// Tokens of a text that are looked at.
const MAX_TOKENS: usize = 256;

/// The built-in model.
pub struct BuiltIn {
    dimensions: usize,
    tokenizer: Tokenizer,
    /// Half-precision scales, one per token.
    scales: &'static [u8],
    /// Two 4-bit values a byte.
    values: &'static [u8],
}

impl BuiltIn {
    /// Looks the file over.
    ///
    /// # Errors
    /// When the file is not of the layout that `distil.py` writes.
    pub fn new() -> Result<Self, EmbedError> {
        Self::read(FILE).ok_or_else(|| EmbedError::Unavailable("the built-in model is damaged; build pointsman anew".into()))
    }

    fn read(file: &'static [u8]) -> Option<Self> {
        let rest = file.strip_prefix(b"PMEM")?;
        let number =
            |at: usize| -> Option<usize> { Some(u32::from_le_bytes(rest.get(at * 4..at * 4 + 4)?.try_into().ok()?) as usize) };
        let (version, tokens, dimensions, text) = (number(0)?, number(1)?, number(2)?, number(3)?);
        let (offsets, rest) = rest.get(16..)?.split_at_checked((tokens + 1) * 4)?;
        let (scales, rest) = rest.split_at_checked(tokens * 2)?;
        let (values, texts) = rest.split_at_checked(tokens * dimensions / 2)?;
        if version != 1 || texts.len() != text {
            return None;
        }
        Some(Self { dimensions, tokenizer: Tokenizer::new(offsets, texts)?, scales, values })
    }

    /// The vector of a text, now.
    ///
    /// # Errors
    /// When the text has no token with a direction.
    pub fn vector(&self, text: &str) -> Result<Vector, EmbedError> {
        let row = self.dimensions / 2;
        // A byte has two neighbouring components. They are summed apart, so that the compiler can add up several at once.
        let (mut even, mut odd) = (vec![0.0_f32; row], vec![0.0_f32; row]);
        self.tokenizer.tokens(text, MAX_TOKENS, &mut |token| {
            let scale =
                self.scales.get(token * 2..token * 2 + 2).map_or(0.0, |bytes| half(u16::from_le_bytes([bytes[0], bytes[1]])));
            let values = self.values.get(token * row..(token + 1) * row).unwrap_or_default();
            for ((even, odd), byte) in even.iter_mut().zip(&mut odd).zip(values) {
                *even += scale * (f32::from(byte & 15) - 8.0);
                *odd += scale * (f32::from(byte >> 4) - 8.0);
            }
        });
        unit(even.iter().zip(&odd).flat_map(|(even, odd)| [*even, *odd]).collect()).ok_or(EmbedError::Empty)
    }
}

/// A half-precision number. Scales are positive and normal or zero; the rest of the format does not occur.
fn half(bits: u16) -> f32 {
    let exponent = u32::from(bits >> 10) & 31;
    let mantissa = u32::from(bits) & 0x3ff;
    if exponent == 0 {
        return mantissa as f32 * (-24.0_f32).exp2();
    }
    f32::from_bits(((exponent + 112) << 23) | (mantissa << 13))
}

impl Embedder for BuiltIn {
    fn id(&self) -> &str {
        ID
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>> {
        Box::pin(std::future::ready(self.vector(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        let model = BuiltIn::new().unwrap();
        model.vector(a).unwrap().iter().zip(model.vector(b).unwrap().iter()).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn meaning_is_nearer_than_letters() {
        let near = cosine("How do I reset my password?", "what is the way to change my password");
        let far = cosine("How do I reset my password?", "How do I bake a chocolate cake?");
        assert!(near > far + 0.2, "{near} {far}");
        assert!(cosine("How do I reset my password?", "how do i RESET my password") > 0.95);
    }

    #[test]
    fn vectors_have_unit_length_and_nothing_has_none() {
        let model = BuiltIn::new().unwrap();
        let vector = model.vector("café naïve 日本語 🎉 x").unwrap();
        assert_eq!(vector.len(), model.dimensions());
        assert!((vector.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-4);
        assert_eq!(model.vector(" \n\t"), Err(EmbedError::Empty));
    }

    #[test]
    fn the_id_is_of_the_file() {
        assert_eq!(ID, format!("built-in@{}", &blake3::hash(FILE).to_hex()[..12]), "write the new one into ID");
    }

    #[test]
    fn half_precision() {
        for (bits, expect) in [(0x3c00, 1.0), (0x3800, 0.5), (0x0000, 0.0), (0x2e66, 0.099_975_586), (0x0001, 5.960_464_5e-8)] {
            assert!((half(bits) - expect).abs() < 1e-9, "{bits:x}");
        }
    }
}
