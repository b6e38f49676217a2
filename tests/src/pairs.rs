//! Pairs of questions: those that must not share an answer however near they lie, those that one answer serves, and which of them the
//! semantic tier serves with what pointsman knows beforehand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman::cache::Entry;
use pointsman::cache::key::KeyBuilder;
use pointsman::cache::semantic::Asked;
use pointsman::cache::trial;
use pointsman::cache::trust::calibration::shipped;
use pointsman::cache::trust::{Settings, Trust};
use pointsman::cache::verify::Verifier;
use pointsman::embed::Embedder;

/// Two questions.
pub type Pair = (&'static str, &'static str);

/// Pairs of which no answer may be shared.
#[must_use]
pub fn hard() -> Vec<Pair> {
    read(include_str!("../fixtures/trust/hard.tsv"))
}

/// Pairs that one answer serves.
#[must_use]
pub fn paraphrases() -> Vec<Pair> {
    read(include_str!("../fixtures/trust/paraphrases.tsv"))
}

/// The last two columns of each line.
fn read(file: &'static str) -> Vec<Pair> {
    let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split('\t').collect::<Vec<_>>().last_chunk().map(|[a, b]| (*a, *b))).collect()
}

/// Pairs of which one question is served the other one's answer.
#[must_use]
pub fn served(model: &dyn Embedder, wrong_hits: f64, pairs: &[Pair]) -> Vec<Pair> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let vector = |text: &str| runtime.block_on(model.embed(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
    let (tenant, partition): (Arc<str>, _) = ("t".into(), KeyBuilder::new("t").partition());
    let is_served = |first: &str, second: &str| {
        let trust = Trust::new(Settings { wrong_hits, audit: 0.0 }, shipped(model.id()));
        let tier = trial::tier(Verifier::of(model.id()), 10, trust);
        let entry = Arc::new(Entry {
            text: Some(first.into()),
            ttl: Duration::from_secs(60),
            ..Entry::new(KeyBuilder::new("t").exact(), Bytes::new(), 0)
        });
        tier.insert(partition, &vector(first), &entry);
        let vector = vector(second);
        let asked = Asked { tenant: &tenant, partition: &partition, text: second, vector: &vector, least: 0.0 };
        tier.find(&asked, &|_| true).is_some_and(|found| found.serve)
    };
    pairs.iter().copied().filter(|(a, b)| is_served(a, b) || is_served(b, a)).collect()
}
