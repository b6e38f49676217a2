//! Models that onnxruntime computes, through fastembed.
//!
//! What it does not do: it reads no folder (`folder`) and has no line of its own (`workers`).
//!
//! **Invariant:** a text's vector does not depend on which others are computed with it, but for the last bits of a float.

use std::path::Path;
use std::sync::Arc;

use fastembed::{InitOptionsUserDefined, TextEmbedding, UserDefinedEmbeddingModel};
use futures_util::future::BoxFuture;

use super::folder::Model;
use super::numbers::Numbers;
use super::workers::{Compute, Workers};
use super::{EmbedError, Embedder, Limits, runtime};
use crate::vector::Vector;

/// A model in onnxruntime.
pub(super) struct FastEmbed {
    id: String,
    dimensions: usize,
    workers: Workers,
}

impl FastEmbed {
    /// Loads a model once for each worker, and computes a first vector.
    pub(super) fn open(model: Model, limits: Limits, library: Option<&Path>) -> Result<Self, EmbedError> {
        let fail = |reason: &dyn std::fmt::Display| EmbedError::Unavailable(format!("{}: {reason}", model.dir.display()));
        runtime::load(library, &model.dir)?;
        // On the thread that asks: a pool of threads for one text of sixteen tokens costs more than it saves.
        tokenizers::parallelism::set_parallelism(false);
        let mut engines: Vec<Box<dyn Compute>> = Vec::new();
        let mut dimensions = 0;
        for _ in 0..limits.workers.max(1) {
            let mut engine = Engine { model: session(&model).map_err(|error| fail(&error))?, alone: model.alone };
            let first = engine.vectors(&["probe"]).map_err(|error| fail(&error))?;
            dimensions = first.first().map_or(0, Vec::len);
            if dimensions == 0 {
                return Err(fail(&"its vectors have no length"));
            }
            engines.push(Box::new(engine));
        }
        Ok(Self { dimensions, workers: Workers::start(engines, limits)?, id: model.id })
    }
}

fn session(model: &Model) -> Result<TextEmbedding, fastembed::Error> {
    let mut wanted =
        UserDefinedEmbeddingModel::new(model.onnx.clone(), model.tokenizer.clone()).with_pooling(model.pooling.clone());
    wanted.output_key.clone_from(&model.output);
    for (name, bytes) in &model.beside {
        wanted = wanted.with_external_initializer(name.clone(), bytes.clone());
    }
    let options = InitOptionsUserDefined::new().with_intra_threads(1).with_max_length(model.max_tokens);
    TextEmbedding::try_new_from_user_defined(wanted, options)
}

struct Engine {
    model: TextEmbedding,
    alone: bool,
}

impl Compute for Engine {
    fn vectors(&mut self, texts: &[&str]) -> Result<Vec<Vec<f32>>, String> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.len()).collect();
        let mut vectors = vec![Vec::new(); texts.len()];
        for places in together(&lengths, self.alone) {
            let some: Vec<&str> = places.iter().map(|place| texts[*place]).collect();
            let found = self.model.embed(&some, Some(some.len())).map_err(|error| error.to_string())?;
            for (place, vector) in places.into_iter().zip(found) {
                vectors[place] = vector;
            }
        }
        Ok(vectors)
    }
}

/// Which texts are computed together: those of about one length, since a batch costs each of them what its longest costs.
fn together(lengths: &[usize], alone: bool) -> Vec<Vec<usize>> {
    let mut places: Vec<usize> = (0..lengths.len()).collect();
    places.sort_by_key(|place| lengths[*place]);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for place in places {
        match groups.last_mut() {
            // A third more than the shortest, and a few bytes for those that are short anyway.
            Some(group) if !alone && lengths[place] <= lengths[group[0]] * 4 / 3 + 24 => group.push(place),
            _ => groups.push(vec![place]),
        }
    }
    groups
}

impl Embedder for FastEmbed {
    fn id(&self) -> &str {
        &self.id
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Vector, EmbedError>> {
        Box::pin(self.workers.vector(text))
    }

    fn numbers(&self) -> Option<&Arc<Numbers>> {
        Some(self.workers.numbers())
    }

    fn waiting(&self) -> usize {
        self.workers.waiting()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_about_one_length_go_together() {
        assert_eq!(together(&[], false), Vec::<Vec<usize>>::new());
        assert_eq!(together(&[40, 900, 50, 1000], false), [vec![0, 2], vec![1, 3]]);
        assert_eq!(together(&[40, 41], true), [vec![0], vec![1]]);
        let mixed = together(&[10, 500, 20, 4000, 30], false);
        assert_eq!(mixed, [vec![0, 2, 4], vec![1], vec![3]]);
    }
}
