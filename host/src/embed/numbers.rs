//! What an embedder has done, for /metrics.
//!
//! **Invariant:** each text that was asked for is counted once, by what became of it.

use std::time::Duration;

use super::{EmbedError, Embedder};
use crate::numbers::{Count, Exposition, Times};
use crate::vector::Vector;

/// What becomes of a text, by the labels of the metric.
const OUTCOMES: [&str; 6] = ["done", "empty", "full", "late", "failed", "left_alone"];

/// What one embedder has done.
#[derive(Default)]
pub struct Numbers {
    outcomes: [Count; OUTCOMES.len()],
    /// Computations or requests, each of one text or several.
    pub(super) batches: Count,
    times: Times,
}

impl Numbers {
    /// A text has its vector, or none.
    pub(super) fn note(&self, found: &Result<Vector, EmbedError>, took: Duration) {
        self.outcomes[outcome(found)].add(1);
        if found.is_ok() {
            self.times.observe(took);
        }
    }

    /// How many texts came out like this one.
    #[cfg(test)]
    pub(super) fn count(&self, found: &Result<Vector, EmbedError>) -> u64 {
        self.outcomes[outcome(found)].get()
    }
}

/// Writes what embedders have done, each once.
pub fn expose(embedders: &[&dyn Embedder], text: &mut Exposition) {
    let all: Vec<_> =
        embedders.iter().filter_map(|embedder| Some((embedder.id(), embedder.numbers()?, embedder.waiting()))).collect();
    for (id, numbers, _) in &all {
        for (outcome, count) in OUTCOMES.iter().zip(&numbers.outcomes) {
            let labels = [("embedder", *id), ("outcome", *outcome)];
            text.counter(
                "pointsman_embedder_texts_total",
                "Texts that an embedder was given, by what became of them.",
                &labels,
                count.get(),
            );
        }
    }
    for (id, numbers, _) in &all {
        let help = "Computations or requests of an embedder, each for one text or several.";
        text.counter("pointsman_embedder_batches_total", help, &[("embedder", id)], numbers.batches.get());
    }
    for (id, _, waiting) in &all {
        text.gauge("pointsman_embedder_waiting", "Texts that wait for an embedder.", &[("embedder", id)], *waiting as f64);
    }
    for (id, numbers, _) in &all {
        let help = "From the question for a vector to the vector, the wait included.";
        text.times("pointsman_embedder_seconds", help, &[("embedder", id)], &numbers.times);
    }
}

fn outcome(found: &Result<Vector, EmbedError>) -> usize {
    match found {
        Ok(_) => 0,
        Err(EmbedError::Empty) => 1,
        Err(EmbedError::Full) => 2,
        Err(EmbedError::Late) => 3,
        Err(EmbedError::Unavailable(_)) => 4,
        Err(EmbedError::LeftAlone) => 5,
    }
}
