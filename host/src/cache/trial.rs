//! A trial of the semantic tier: labelled questions go through the tier that serves, one after the other, and what is right is known.
//!
//! `pointsman cache calibrate` and `pointsman cache evaluate` are made of this. A question that is served is not stored, and one that is not
//! is: as with real traffic, only that nobody answers. What is audited is told to the tier as it is at the host: of a sample, and
//! with as many mistakes as somebody wants to suppose.
//!
//! What it does not do: it reads no file and embeds nothing.
//!
//! **Invariant:** the tier never learns whether a near hit was right but by an audit that it has asked for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::Entry;
use super::key::KeyBuilder;
use super::near::Near;
use super::semantic::{Asked, Semantic};
use super::trust::levels::Tally;
use super::trust::{Settings, Trust};
use super::verify::Verifier;
use crate::vector::{Vector, cosine};

/// A question, and which others one answer serves.
#[derive(Clone)]
pub struct Item {
    /// As it is asked.
    pub text: String,
    /// Its vector.
    pub vector: Vector,
    /// Questions of one group may share an answer, others may not.
    pub group: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Questions.
    pub requests: u64,
    /// Those that were served a stored answer.
    pub hits: u64,
    /// Those of them that were served another question's.
    pub wrong: u64,
    /// Near hits, served or not, that were audited.
    pub audits: u64,
    /// The requests that could have been hits: somebody of their group had been there.
    pub possible: u64,
}

/// Sends questions through the tier. `noise`: the share of audits that say the opposite of what is right.
pub fn run(tier: &Semantic, items: &[Item], order: &[usize], noise: f64, random: &mut fastrand::Rng) -> Outcome {
    let mut outcome = Outcome::default();
    let partition = KeyBuilder::new("trial").partition();
    let tenant: Arc<str> = "trial".into();
    let mut store = Store::default();
    for item in order.iter().filter_map(|place| items.get(*place)) {
        outcome.requests += 1;
        outcome.possible += u64::from(store.has(item.group));
        let asked = Asked { tenant: &tenant, partition: &partition, text: &item.text, vector: &item.vector, least: 0.0 };
        let found = tier.find(&asked, &|_| true);
        if let Some(found) = &found {
            let right = store.group(&found.entry) == Some(item.group);
            if found.serve {
                tier.served(&asked, found);
                outcome.hits += 1;
                outcome.wrong += u64::from(!right);
            }
            if let Some(ticket) = &found.audit {
                outcome.audits += 1;
                let mistaken = random.f64() < noise;
                tier.trust().audited(ticket, right != mistaken);
            }
        }
        if found.is_none_or(|found| !found.serve) {
            tier.insert(partition, &item.vector, &store.keep(item));
        }
    }
    outcome
}

/// What became of the best candidate of each question that had one, by level. Nothing is served, so all of them are stored.
pub fn observe(verifier: Verifier, items: &[Item], order: &[usize]) -> Tally {
    let tier = tier(verifier, order.len(), Trust::new(Settings { wrong_hits: 0.5, audit: 0.0 }, None));
    let partition = KeyBuilder::new("trial").partition();
    let tenant: Arc<str> = "trial".into();
    let (mut store, mut tally) = (Store::default(), Tally::default());
    for item in order.iter().filter_map(|place| items.get(*place)) {
        let asked = Asked { tenant: &tenant, partition: &partition, text: &item.text, vector: &item.vector, least: 0.0 };
        let found = tier.find(&asked, &|_| true);
        if let Some(found) = &found {
            tally.add(found.level, store.group(&found.entry) == Some(item.group));
        }
        tier.insert(partition, &item.vector, &store.keep(item));
    }
    tally
}

/// A tier that has room for so many questions.
pub fn tier(verifier: Verifier, room: usize, trust: Trust) -> Semantic {
    Semantic::new(Arc::new(Near::new(room.max(1), Duration::from_secs(86_400))), verifier, trust)
}

/// Entries, kept alive, and whose group they are of.
#[derive(Default)]
struct Store {
    entries: Vec<Arc<Entry>>,
    groups: HashMap<*const Entry, usize>,
    known: HashMap<usize, usize>,
}

impl Store {
    fn keep(&mut self, item: &Item) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            text: Some(item.text.as_str().into()),
            ttl: Duration::from_secs(86_400),
            ..Entry::new(KeyBuilder::new("trial").exact(), Bytes::new(), 0)
        });
        self.groups.insert(Arc::as_ptr(&entry), item.group);
        *self.known.entry(item.group).or_default() += 1;
        self.entries.push(entry.clone());
        entry
    }

    fn group(&self, entry: &Arc<Entry>) -> Option<usize> {
        self.groups.get(&Arc::as_ptr(entry)).copied()
    }

    fn has(&self, group: usize) -> bool {
        self.known.contains_key(&group)
    }
}

/// Tells of every two vectors that are at least so near to one another.
pub fn close(vectors: &[&Vector], least: f32, found: &mut dyn FnMut(usize, usize)) {
    for (first, vector) in vectors.iter().enumerate() {
        for (second, other) in vectors.iter().enumerate().skip(first + 1) {
            if cosine(vector, other) >= least {
                found(first, second);
            }
        }
    }
}
