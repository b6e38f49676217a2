//! The semantic tier: from a question to the stored answer that may stand for its own, or that almost might have.
//!
//! In this order: the nearest entries of the partition, the guards (a veto is a veto), the verifier's score of each that is left, the best of
//! them, and whether its score is trusted.
//!
//! What it does not do: it embeds nothing and asks no plugin; whoever looks something up brings the vector, and says if it was served.
//!
//! **Invariant:** what may be served has passed every guard and reaches the cut in force.
//! **Invariant:** an entry is found only in the partition that it was put into.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::near::Near;
use super::trust::calibration::Calibration;
use super::trust::levels::Level;
use super::trust::{Settings, Ticket, Trust};
use super::verify::{Guard, Question, Verifier};
use super::{Entry, Partition};
use crate::numbers::{Count, Exposition};

/// What is further away than this is not looked at: no verifier makes up for it.
const NEAR_ENOUGH: f32 = 0.5;

/// Near hits of one cache.
pub struct Semantic {
    near: Arc<Near>,
    verifier: Verifier,
    trust: Trust,
    numbers: Arc<Numbers>,
}

#[derive(Default)]
struct Numbers {
    vetoes: [Count; Guard::ALL.len()],
    below_cut: Count,
}

/// A question that is looked up.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Whose it is.
    pub tenant: &'a Arc<str>,
    /// Where it may find something.
    pub partition: &'a Partition,
    /// Its text.
    pub text: &'a str,
    /// Its vector.
    pub vector: &'a [f32],
    /// The least cosine that whoever asks accepts.
    pub least: f32,
}

/// The best entry for a question.
#[derive(Clone)]
pub struct Candidate {
    /// The entry.
    pub entry: Arc<Entry>,
    /// Cosine of the two texts.
    pub cosine: f32,
    /// The verifier's score, in steps.
    pub level: Level,
    /// It may be served.
    pub serve: bool,
    /// With which an audit reports, where one is wanted.
    pub audit: Option<Ticket>,
}

impl Semantic {
    /// No entry yet.
    pub fn new(near: Arc<Near>, verifier: Verifier, trust: Trust) -> Self {
        Self { near, verifier, trust, numbers: Arc::default() }
    }

    /// The same entries and ledgers under other settings.
    #[must_use]
    pub fn under(&self, settings: Settings, calibration: Option<Calibration>) -> Self {
        let trust = self.trust.under(settings, calibration);
        Self { near: self.near.clone(), verifier: self.verifier, trust, numbers: self.numbers.clone() }
    }

    /// The best entry that no guard objects to, and whether it may be served. `lives`: whether an entry may still be found.
    pub fn find(&self, asked: &Asked<'_>, lives: &dyn Fn(&Entry) -> bool) -> Option<Candidate> {
        let Asked { tenant, partition, text, vector, least } = *asked;
        let (mut question, mut best) = (None, None::<(f32, f32, Arc<Entry>)>);
        for (cosine, entry) in self.near.nearest(partition, vector) {
            if cosine < least.max(NEAR_ENOUGH) {
                break;
            }
            let Some(cached) = entry.text.as_ref().filter(|_| lives(&entry)) else { continue };
            match question.get_or_insert_with(|| Question::new(text)).compare(cached) {
                Err(guard) => self.numbers.vetoes[guard as usize].add(1),
                Ok(features) => {
                    let score = self.verifier.score(cosine, &features);
                    if best.as_ref().is_none_or(|(known, ..)| score > *known) {
                        best = Some((score, cosine, entry));
                    }
                }
            }
        }
        let (score, cosine, entry) = best?;
        let decision = self.trust.decide(tenant, partition, score);
        if !decision.serve {
            self.numbers.below_cut.add(1);
            self.trust.seen(tenant, partition, false);
        }
        Some(Candidate { entry, cosine, level: Level::of(score), serve: decision.serve, audit: decision.audit })
    }

    /// A candidate was served.
    pub fn served(&self, asked: &Asked<'_>, candidate: &Candidate) {
        candidate.entry.served();
        candidate.entry.near_level.store(candidate.level.number().saturating_add(1), Ordering::Relaxed);
        self.trust.seen(asked.tenant, asked.partition, true);
    }

    /// Adds an entry.
    pub fn insert(&self, partition: Partition, vector: &[f32], entry: &Arc<Entry>) {
        self.near.insert(partition, vector, entry);
    }

    /// What is known of near hits.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Its numbers for /metrics.
    pub fn expose(&self, text: &mut Exposition) {
        let help = "Near candidates that were not served, by what kept them.";
        text.counter("pointsman_cache_near_total", help, &[("kept_by", "cut")], self.numbers.below_cut.get());
        for guard in Guard::ALL {
            let value = self.numbers.vetoes[guard as usize].get();
            text.counter("pointsman_cache_near_total", help, &[("kept_by", guard.name())], value);
        }
        self.trust.expose(text);
    }
}
