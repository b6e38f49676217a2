//! The verifier: how sure is it that one answer serves both, by the cosine and by what the words do not have in common?
//!
//! A logistic function, of which the logarithm of the odds is enough. `host/model/verifier.py` fits the cosine's weight and the bias to pairs of our own;
//! what a difference in words costs was chosen by figures on labelled pairs (host/model/README.md), since near questions that
//! people ask differ in other ways than those that a grammar makes.
//!
//! Texts of the same words stand above all others, whatever the model: among labelled pairs those are most often right.
//!
//! What it does not do: it has no cut; what a score is worth is found by calibration.
//!
//! **Invariant:** of two pairs that differ in the cosine alone, the nearer one never scores lower.
//! **Invariant:** a difference in words never raises the score.

use super::features::{COUNT, Features};

/// Changes with the guards, the features and the weights: scores of two of them mean something else.
pub const VERIFIER: &str = "2";

/// Each pair of the same words scores at least so, and all others lower.
pub const SAME_WORDS: f32 = 6.0;
/// What the cosine adds to that.
const SAME_COSINE: f32 = 4.0;

/// Weights for one kind of model.
#[derive(Clone, Copy, Debug)]
pub struct Verifier {
    bias: f32,
    cosine: f32,
    /// What each feature costs.
    costs: [f32; COUNT],
}

/// The model inside pointsman: blind to the order of words, and with a softer cosine.
const BUILT_IN: Verifier = Verifier { bias: -10.0, cosine: 12.1, costs: [1.2, 2.4, 0.3] };
/// Sentence transformers such as MiniLM.
const MINILM: Verifier = Verifier { bias: -18.4, cosine: 21.4, costs: [1.0, 1.0, 0.1] };

impl Verifier {
    /// The one for a model, by its id.
    pub fn of(embedder: &str) -> Self {
        if embedder.starts_with("built-in@") { BUILT_IN } else { MINILM }
    }

    /// The logarithm of the odds that one answer serves both; above [`SAME_WORDS`], no more than a higher number for a nearer pair.
    pub fn score(&self, cosine: f32, features: &Features) -> f32 {
        if features.same_words {
            return SAME_WORDS + SAME_COSINE * cosine.clamp(0.0, 1.0);
        }
        let cost: f32 = self.costs.iter().zip(features.differences).map(|(cost, value)| cost * value).sum();
        (self.bias + self.cosine * cosine - cost).min(SAME_WORDS - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearer_is_never_worse_and_another_word_never_better() {
        for verifier in [BUILT_IN, MINILM] {
            let same = Features { same_words: false, ..Features::NONE };
            let scores: Vec<f32> = (0..=100).map(|step| verifier.score(step as f32 / 100.0, &same)).collect();
            assert!(scores.windows(2).all(|pair| pair[0] <= pair[1]));
            let words: Vec<f32> = (0..=100).map(|step| verifier.score(step as f32 / 100.0, &Features::NONE)).collect();
            assert!(words.windows(2).all(|pair| pair[0] <= pair[1]) && scores[100] < words[0]);
            for place in 0..COUNT {
                let mut other = same;
                other.differences[place] = 0.5;
                assert!(verifier.score(0.9, &other) <= verifier.score(0.9, &same));
            }
        }
    }
}
