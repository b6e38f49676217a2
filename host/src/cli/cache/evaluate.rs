//! `pointsman cache evaluate`: what the semantic tier does with labelled questions that it has not been calibrated on.
//!
//! What it does not do: no answers are made, so nothing is judged; what is right is what the labels say.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::Failed;
use super::calibrate;
use super::questions::{self, Questions};
use crate::cache::trial;
use crate::cache::trust::calibration::{self, Calibration};
use crate::cache::trust::{Settings, Trust};
use crate::cache::verify::Verifier;

/// What the command line says.
#[derive(clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Labelled pairs to calibrate on: columns a, b and label, may be compressed with gzip. Default: the calibration that is shipped
    #[arg(long, value_name = "FILE")]
    calibrate: Option<PathBuf>,
    /// Labelled pairs whose questions are asked
    #[arg(long, value_name = "FILE")]
    stream: PathBuf,
    #[command(flatten)]
    source: questions::Source,
    /// The share of near hits that may be wrong. Several, with commas between them: a run for each, all with the same questions in the same order
    #[arg(long, value_name = "SHARE", default_value = "0.03", value_delimiter = ',', value_parser = super::questions::share)]
    wrong_hits: Vec<f64>,
    /// The seed of the order in which questions are asked, and of what is audited
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Start without a calibration: nothing is served before audits allow it
    #[arg(long)]
    cold: bool,
    /// The share of near hits that is audited, once any is served
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, value_parser = super::questions::share)]
    audit: f64,
    /// The share of audits that say the opposite of what is right
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = super::questions::share)]
    audit_noise: f64,
    /// As JSON: an object, or a list of them where there are several runs
    #[arg(long)]
    json: bool,
}

pub(super) fn evaluate(arguments: &Arguments) -> Result<String, Failed> {
    let model = arguments.source.open()?;
    let calibration = match &arguments.calibrate {
        _ if arguments.cold => None,
        Some(file) => Some(calibrate::of(&model.read(file)?, model.id(), arguments.seed)),
        None => calibration::shipped(model.id()),
    };
    let questions = model.read(&arguments.stream)?;
    let runs = arguments.wrong_hits.iter();
    let said: Vec<Value> =
        runs.map(|wrong_hits| run(arguments, model.id(), calibration.clone(), &questions, *wrong_hits)).collect();
    Ok(match &said[..] {
        [one] if arguments.json => format!("{one:#}\n"),
        all if arguments.json => format!("{:#}\n", Value::from(all)),
        all => all.iter().map(text).collect::<Vec<_>>().join("\n"),
    })
}

/// The questions of a stream, once through a tier of its own.
fn run(arguments: &Arguments, embedder: &str, known: Option<Calibration>, questions: &Questions, wrong_hits: f64) -> Value {
    let Questions { items, dropped } = questions;
    let warm = known.is_some();
    let mut random = fastrand::Rng::with_seed(arguments.seed);
    let order = questions::order(items.len(), &mut random);
    // What is audited is drawn inside the tier, from the thread's own generator.
    fastrand::seed(random.u64(..));
    let trust = Trust::new(Settings { wrong_hits, audit: arguments.audit }, known);
    let tier = trial::tier(Verifier::of(embedder), items.len(), trust);
    let outcome = trial::run(&tier, items, &order, arguments.audit_noise, &mut random);
    let account = tier.trust().accounts().into_iter().find(|account| account.partition.is_none());
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    // Of nothing that was served nothing is wrong.
    let bound = account.as_ref().filter(|_| outcome.hits > 0).map(|account| account.bound);
    json!({
        "requests": outcome.requests,
        "hits": outcome.hits,
        "wrong": outcome.wrong,
        "upper_bound": bound.map_or(0.0, |bound| bound.upper),
        "confidence": 0.95,
        "hit_share": share(outcome.hits, outcome.requests),
        "wrong_share": share(outcome.wrong, outcome.hits),
        "wrong_hits": wrong_hits,
        "possible_hits": outcome.possible,
        "audits": outcome.audits,
        "dropped": dropped,
        "embedder": embedder,
        "start": if warm { "warm" } else { "cold" },
        "serving": account.as_ref().is_some_and(|account| account.cut.is_some()),
        "cut": account.as_ref().and_then(|account| account.cut),
        "seed": arguments.seed,
        "audit_noise": arguments.audit_noise,
    })
}

fn text(said: &Value) -> String {
    let number = |name: &str| said[name].as_f64().unwrap_or_default();
    let mut page = String::new();
    let _ = writeln!(
        page,
        "{:.2} % may be wrong: {} requests, {} left out for a close neighbour that nobody has labelled; {} could have been hits",
        100.0 * number("wrong_hits"),
        said["requests"],
        said["dropped"],
        said["possible_hits"]
    );
    let _ = writeln!(page, "{} hits, {:.1} % of the requests", said["hits"], 100.0 * number("hit_share"));
    let _ = writeln!(
        page,
        "{} wrong, {:.2} % of the hits; {:.2} % are allowed, and by {} audits it is at most {:.2} % (95 % confidence)",
        said["wrong"],
        100.0 * number("wrong_share"),
        100.0 * number("wrong_hits"),
        said["audits"],
        100.0 * number("upper_bound")
    );
    let serving =
        if said["serving"] == true { "semantic hits are served at the end" } else { "no semantic hit is served at the end" };
    let _ = writeln!(page, "{} start; {serving}", said["start"].as_str().unwrap_or_default());
    page
}
