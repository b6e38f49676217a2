//! `pointsman cache calibrate`: from labelled pairs to how far near hits can be trusted.
//!
//! What it does not do: it fits nothing. Weights are the verifier's own; what is found here is where to cut.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::Failed;
use super::questions::{self, Questions};
use crate::cache::trial;
use crate::cache::trust::bound::wilson;
use crate::cache::trust::calibration::Calibration;
use crate::cache::trust::levels::Tally;
use crate::cache::verify::Verifier;

/// Orders in which the questions are asked; what is counted is their mean. One order would decide by chance who finds whom.
const ORDERS: u32 = 3;
/// What the summary shows, where nobody asks for a share.
const SHARES: [f64; 5] = [0.01, 0.02, 0.03, 0.05, 0.10];

/// What the command line says.
#[derive(clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Labelled pairs, as TSV, may be compressed with gzip: columns a, b and label (1: one answer serves both). Several are taken together
    #[arg(long, value_name = "FILE", required = true)]
    pairs: Vec<PathBuf>,
    #[command(flatten)]
    source: questions::Source,
    /// Where to write what of it holds for any model: texts of the same words, however near their vectors are
    #[arg(long, value_name = "FILE")]
    out_any: Option<PathBuf>,
    /// Show the cut for this share of wrong hits alone
    #[arg(long, value_name = "SHARE", value_parser = super::questions::share)]
    wrong_hits: Option<f64>,
    /// Where to write the calibration; without it, only the summary is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The seed of the orders in which questions are asked
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

pub(super) fn calibrate(arguments: &Arguments) -> Result<String, Failed> {
    let model = arguments.source.open()?;
    let mut made = Calibration { embedder: model.id().to_owned(), requests: 0, tally: Tally::default() };
    let mut page = String::new();
    for file in &arguments.pairs {
        let questions = model.read(file)?;
        let _ = writeln!(
            page,
            "{}: {} questions, {} left out for a close neighbour that nobody has labelled",
            file.display(),
            questions.items.len(),
            questions.dropped
        );
        let of_file = of(&questions, model.id(), arguments.seed);
        made.requests += of_file.requests;
        made.tally.merge(&of_file.tally);
    }
    summary(&mut page, &made, arguments.wrong_hits);
    let of_any = arguments.out_any.as_ref().map(|out| (out, made.clone().of_any_model()));
    for (out, made) in arguments.out.iter().map(|out| (out, made.clone())).chain(of_any) {
        std::fs::write(out, made.to_string()).map_err(|error| Failed::system(format!("{}: {error}", out.display())))?;
        let _ = writeln!(page, "written to {}", out.display());
    }
    Ok(page)
}

/// The calibration that questions make.
pub(super) fn of(questions: &Questions, embedder: &str, seed: u64) -> Calibration {
    let verifier = Verifier::of(embedder);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tally = Tally::default();
    for _ in 0..ORDERS {
        let order = questions::order(questions.items.len(), &mut random);
        tally.merge(&trial::observe(verifier, &questions.items, &order));
    }
    let tally = tally.scaled(1.0 / f64::from(ORDERS));
    Calibration { embedder: embedder.to_owned(), requests: questions.items.len() as u64, tally }
}

fn summary(page: &mut String, made: &Calibration, only: Option<f64>) {
    let _ = writeln!(page, "{} requests, embedder {}", made.requests, made.embedder);
    let _ = writeln!(page, "wrong_hits       cut      hits     share     wrong     bound");
    for wrong_hits in only.map_or_else(|| SHARES.to_vec(), |one| vec![one]) {
        match made.cut(wrong_hits) {
            Some(cut) => {
                let (wrong, of) = made.tally.from_level(cut);
                let (hits, found) = (100.0 * of / made.requests.max(1) as f64, 100.0 * wrong / of);
                let bound = 100.0 * wilson(wrong, of);
                let cut = cut.score();
                let _ = writeln!(page, "{wrong_hits:<10} {cut:>9.3} {of:>9.1} {hits:>7.1} % {found:>7.2} % {bound:>7.2} %");
            }
            None => {
                let _ = writeln!(page, "{wrong_hits:<10}      none: no cut holds");
            }
        }
    }
}
