//! Example sets: labelled texts, and which label's examples a vector is nearest to.
//!
//! What it does not do: it embeds no request; whoever asks brings the vector.
//!
//! **Invariant:** a set's vectors and the vector that is asked about come from the same model.

use std::collections::BTreeMap;

use super::{EmbedError, Embedder};
use crate::vector::{Vector, cosine};

/// Sets by name.
#[derive(Default)]
pub struct ExampleSets(BTreeMap<String, Vec<(String, Vec<Vector>)>>);

impl ExampleSets {
    /// Embeds all texts: set, label, texts.
    ///
    /// # Errors
    /// When a text cannot be embedded; which one is in the message.
    #[allow(clippy::type_complexity, reason = "sets of labels of texts, as the configuration has them")]
    pub async fn build(embedder: &dyn Embedder, sets: Vec<(String, Vec<(String, Vec<String>)>)>) -> Result<Self, EmbedError> {
        let mut built = BTreeMap::new();
        for (set, labels) in sets {
            let mut known = Vec::with_capacity(labels.len());
            for (label, texts) in labels {
                let mut vectors = Vec::with_capacity(texts.len());
                for text in &texts {
                    let named = |error: EmbedError| EmbedError::Unavailable(format!("{set}.{label}: {text:?}: {error}"));
                    vectors.push(embedder.embed(text).await.map_err(named)?);
                }
                known.push((label, vectors));
            }
            built.insert(set, known);
        }
        Ok(Self(built))
    }

    /// The `k` nearest labels of a set, best first, each with the cosine of its nearest example. None if there is no such set.
    pub fn classify(&self, set: &str, vector: &[f32], k: usize) -> Option<Vec<(String, f32)>> {
        let nearest =
            |vectors: &[Vector]| vectors.iter().map(|example| cosine(example, vector)).fold(f32::NEG_INFINITY, f32::max);
        let mut found: Vec<(String, f32)> =
            self.0.get(set)?.iter().map(|(label, vectors)| (label.clone(), nearest(vectors))).collect();
        found.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.truncate(k);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embed::built_in::BuiltIn;

    #[tokio::test]
    async fn the_nearest_label_is_first() {
        let model = BuiltIn::new().unwrap();
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let sets = vec![(
            "tasks".to_owned(),
            vec![
                ("cooking".to_owned(), texts(&["how to bake bread", "a recipe for soup"])),
                ("code".to_owned(), texts(&["write a python function", "fix this bug"])),
            ],
        )];
        let sets = ExampleSets::build(&model, sets).await.unwrap();
        let found = sets.classify("tasks", &model.vector("give me a recipe for tomato soup").unwrap(), 5).unwrap();
        assert_eq!(found[0].0, "cooking");
        assert_eq!(found.len(), 2);
        assert!(sets.classify("none", &model.vector("x").unwrap(), 1).is_none());
    }
}
