//! A calibration: what became of the near hits of labelled questions, by level of trust, for one model file and one verifier.
//!
//! `pointsman cache calibrate` makes one from the owner's own pairs; some are shipped ([`shipped`]), made by the same command. It holds counts
//! and no text. The cut for any `wrong_hits` follows from it, so one file serves them all.
//!
//! What it does not do: it asks nobody and learns nothing; audits are counted beside it ([`super::ledger`]).
//!
//! **Invariant:** a calibration of another model file or another verifier is refused: their scores mean something else.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bound::wilson;
use super::levels::{Level, Tally};
use crate::cache::verify::{SAME_WORDS, VERIFIER};

/// The layout of the file.
const FORMAT: u32 = 1;

/// What is shipped: a file for each model that pointsman brings or installs.
const SHIPPED: &[&str] = &[include_str!("shipped/built-in.json"), include_str!("shipped/minilm.json")];

/// What is shipped for all other models: no more is known of them than what texts of the same words are worth.
const OTHERS: &str = include_str!("shipped/any.json");

/// What stands for a model file there.
const ANY: &str = "any";

/// What became of labelled near hits.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The id of the model file that the vectors come from.
    pub embedder: String,
    /// Questions that were asked.
    pub requests: u64,
    /// The best candidate of each that had one, by level.
    pub tally: Tally,
}

/// Why a file is no calibration for this host.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is not of this layout.
    #[error("it is no calibration: {0}")]
    Layout(#[from] serde_json::Error),
    /// It was made for something else.
    #[error("it was made for {what} {theirs}, and here is {ours}")]
    Other {
        /// What differs.
        what: &'static str,
        /// As the file says.
        theirs: String,
        /// As it is.
        ours: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    embedder: String,
    verifier: String,
    requests: u64,
    /// Level, right ones, wrong ones.
    levels: Vec<(u8, f64, f64)>,
}

impl Calibration {
    /// Reads a file, for this model file.
    ///
    /// # Errors
    /// When it is not one, or of another model file or verifier.
    pub fn read(text: &str, embedder: &str) -> Result<Self, Unfit> {
        let file: File = serde_json::from_str(text)?;
        let other = |what, theirs: &str, ours: &str| Unfit::Other { what, theirs: theirs.to_owned(), ours: ours.to_owned() };
        if file.format != FORMAT {
            return Err(other("layout", &file.format.to_string(), &FORMAT.to_string()));
        }
        if file.verifier != VERIFIER {
            return Err(other("verifier", &file.verifier, VERIFIER));
        }
        if file.embedder != embedder {
            return Err(other("model", &file.embedder, embedder));
        }
        let mut tally = Tally::default();
        for (level, right, wrong) in file.levels {
            if !(right >= 0.0 && wrong >= 0.0 && right.is_finite() && wrong.is_finite()) {
                return Err(other("counts", "below nothing", "nothing and more"));
            }
            tally.add_many(Level::at(level), right, wrong);
        }
        Ok(Self { embedder: file.embedder, requests: file.requests, tally })
    }

    /// What of it holds for any model: texts of the same words, however near their vectors are.
    #[must_use]
    pub fn of_any_model(self) -> Self {
        let level = Level::of(SAME_WORDS);
        let (wrong, of) = self.tally.from_level(level);
        let mut tally = Tally::default();
        tally.add_many(level, of - wrong, wrong);
        Self { embedder: ANY.to_owned(), tally, ..self }
    }

    /// The lowest level from which on at most this share is wrong, as far as the sample can say: Wilson's bound on what is from there on.
    pub fn cut(&self, wrong_hits: f64) -> Option<Level> {
        cut(&self.tally, wrong_hits)
    }
}

/// The lowest level from which on Wilson's bound holds.
pub(super) fn cut(tally: &Tally, wrong_hits: f64) -> Option<Level> {
    tally.from_the_top().filter(|(_, wrong, of)| wilson(*wrong, *of) <= wrong_hits).map(|(level, ..)| level).last()
}

/// The calibration that is shipped for a model file.
pub fn shipped(embedder: &str) -> Option<Calibration> {
    let of_any = || Some(Calibration { embedder: embedder.to_owned(), ..Calibration::read(OTHERS, ANY).ok()? });
    SHIPPED.iter().find_map(|text| Calibration::read(text, embedder).ok()).or_else(of_any)
}

impl fmt::Display for Calibration {
    /// The file: a line for each level, so that two can be compared.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        writeln!(f, "{{")?;
        writeln!(f, "  \"format\": {FORMAT},")?;
        writeln!(f, "  \"embedder\": {},", quoted(&self.embedder))?;
        writeln!(f, "  \"verifier\": {},", quoted(VERIFIER))?;
        writeln!(f, "  \"requests\": {},", self.requests)?;
        write!(f, "  \"levels\": [")?;
        for (number, (level, right, wrong)) in self.tally.rows().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma}\n    [{}, {right}, {wrong}]", level.number())?;
        }
        writeln!(f, "\n  ]\n}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Calibration {
        let mut tally = Tally::default();
        for (score, right, wrong) in [(4.0, 500.0, 1.0), (2.0, 300.0, 10.0), (0.0, 100.0, 60.0)] {
            tally.add_many(Level::of(score), right, wrong);
        }
        Calibration { embedder: "model@1".into(), requests: 2_000, tally }
    }

    #[test]
    fn what_is_written_is_read() {
        let calibration = calibration();
        assert_eq!(Calibration::read(&calibration.to_string(), "model@1").unwrap(), calibration);
    }

    #[test]
    fn of_another_model_or_verifier_it_is_refused() {
        let text = calibration().to_string();
        for (text, embedder, expect) in [
            (text.clone(), "model@2", "made for model model@1, and here is model@2"),
            (
                text.replace(&format!("\"verifier\": \"{VERIFIER}\""), "\"verifier\": \"another\""),
                "model@1",
                "made for verifier another",
            ),
            (text.replace("\"format\": 1", "\"format\": 9"), "model@1", "made for layout 9"),
            (text.replace("1]", "-1]"), "model@1", "counts"),
            ("{}".into(), "model@1", "no calibration"),
        ] {
            let said = Calibration::read(&text, embedder).unwrap_err().to_string();
            assert!(said.contains(expect), "{said}");
        }
    }

    /// What is shipped can be read, or nobody would be served before audits allow it.
    #[test]
    fn what_is_shipped_is_of_this_verifier() {
        for text in SHIPPED {
            let embedder = serde_json::from_str::<File>(text).unwrap().embedder;
            let known = Calibration::read(text, &embedder).unwrap();
            assert!(known.requests > 10_000 && known.cut(0.05).is_some(), "{embedder}");
        }
        let other = shipped("another@000000000000").unwrap();
        let cut = other.cut(0.05).unwrap();
        assert!(cut >= Level::of(SAME_WORDS), "of a model that nobody has measured only the same words are served");
    }

    #[test]
    fn the_cut_is_the_lowest_that_holds() {
        let calibration = calibration();
        for (wrong_hits, expect) in [(0.005, None), (0.012, Some(4.0)), (0.03, Some(2.0)), (0.1, Some(0.0))] {
            assert_eq!(calibration.cut(wrong_hits).map(Level::score), expect, "{wrong_hits}");
        }
    }
}
