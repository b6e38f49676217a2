//! From a file of labelled pairs to questions that a trial can send: embedded, grouped, and without those of which nobody knows enough.
//!
//! Of a question with a close neighbour that nobody has labelled nobody knows whether a hit on that one would be right. In data of
//! which only some pairs were labelled most such neighbours are the same question, so to count them as wrong would measure the labels.
//!
//! What it does not do: it judges nothing.
//!
//! **Invariant:** the same file, model and seed give the same questions in the same order.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Runtime;

use super::Failed;
use super::pairs::{self, Groups};
use crate::cache::trial::{self, Item};
use crate::cache::verify::Question;
use crate::config;
use crate::embed::{self, EmbedError, Embedder, Limits};
use crate::gateway::vectors::Embedders;
use crate::vector::Vector;

/// A neighbour of this cosine is close.
const CLOSE: f32 = 0.92;
/// Texts that are embedded at a time, for models that take several at once.
const AT_ONCE: usize = 32;
/// How long one of them may take: nobody waits for it but whoever has called the command.
const PATIENCE: config::Duration = config::Duration::from_secs(600);

/// What turns text into vectors.
#[derive(clap::Args)]
pub(super) struct Source {
    /// What turns text into vectors, as under `[cache.semantic]`
    #[arg(long, value_name = "EMBEDDER", default_value = "built-in", value_parser = embedder)]
    embedder: config::Embedder,
    /// The configuration whose `[embedders]` has that name: a model that a provider serves is asked as the node asks it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The model that is asked for, opened, and what it runs on.
pub(super) struct Model {
    embedder: Arc<dyn Embedder>,
    runtime: Runtime,
}

/// The questions of a file.
pub(super) struct Questions {
    pub(super) items: Vec<Item>,
    /// Questions that were left out.
    pub(super) dropped: usize,
}

impl Source {
    pub(super) fn open(&self) -> Result<Model, Failed> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| Failed::system(error.to_string()))?;
        let opened = match &self.config {
            Some(file) => {
                let mut config = config::load(file).map_err(|report| Failed::input(report.to_string()))?.config;
                for entry in config.embedders.values_mut() {
                    (entry.queue, entry.timeout) = (2 * AT_ONCE, PATIENCE);
                }
                // Its connections are of this runtime.
                runtime.block_on(async { Embedders::alone(&config, &self.embedder) })
            }
            None => {
                let limits = Limits { queue: 2 * AT_ONCE, batch: AT_ONCE, timeout: PATIENCE.get(), ..Limits::default() };
                embed::open(&embed::Settings::of(&self.embedder, limits, None)).map_err(|error| match &self.embedder {
                    config::Embedder::Named(_) => format!("{error}; of an entry of [embedders], `--config` names the file"),
                    _ => error.to_string(),
                })
            }
        };
        Ok(Model { embedder: opened.map_err(Failed::input)?, runtime })
    }
}

impl Model {
    /// The embedder's, with its digest.
    pub(super) fn id(&self) -> &str {
        self.embedder.id()
    }

    /// Reads and embeds a file.
    pub(super) fn read(&self, file: &Path) -> Result<Questions, Failed> {
        let pairs = pairs::read(file).map_err(Failed::input)?;
        let groups = pairs.groups();
        let vectors = self.runtime.block_on(embed_all(&*self.embedder, &pairs.questions));
        let vectors = vectors.map_err(|error| Failed::system(error.to_string()))?;
        let known: Vec<(usize, &Vector)> =
            vectors.iter().enumerate().filter_map(|(place, vector)| Some((place, vector.as_ref()?))).collect();
        let doubtful = doubtful(&known, &pairs.questions, &groups);
        let items: Vec<Item> = known
            .iter()
            .zip(&doubtful)
            .filter(|(_, doubtful)| !**doubtful)
            .map(|((place, vector), _)| Item {
                text: pairs.questions[*place].clone(),
                vector: (*vector).clone(),
                group: groups.of[*place],
            })
            .collect();
        Ok(Questions { dropped: pairs.questions.len() - items.len(), items })
    }
}

/// The vectors; none for a text without a word.
async fn embed_all(embedder: &dyn Embedder, texts: &[String]) -> Result<Vec<Option<Vector>>, EmbedError> {
    let one = |text: &String| {
        let text = text.clone();
        async move {
            match embedder.embed(&text).await {
                Ok(vector) => Ok(Some(vector)),
                Err(EmbedError::Empty) => Ok(None),
                Err(error) => Err(error),
            }
        }
    };
    stream::iter(texts.iter().map(one)).buffered(AT_ONCE).try_collect().await
}

/// Those with a close neighbour, or one of the same words, of which nobody has said whether one answer serves both.
fn doubtful(known: &[(usize, &Vector)], questions: &[String], groups: &Groups) -> Vec<bool> {
    let mut doubtful = vec![false; known.len()];
    let vectors: Vec<&Vector> = known.iter().map(|(_, vector)| *vector).collect();
    let mut doubt = |a: usize, b: usize| {
        if !groups.knows(known[a].0, known[b].0) {
            (doubtful[a], doubtful[b]) = (true, true);
        }
    };
    trial::close(&vectors, CLOSE, &mut doubt);
    let mut alike: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, (place, _)) in known.iter().enumerate() {
        let question = Question::new(&questions[*place]);
        let others = alike.entry(question.words()).or_default();
        others.iter().filter(|other| question.veto(&questions[known[**other].0]).is_none()).for_each(|other| doubt(*other, at));
        others.push(at);
    }
    doubtful
}

/// An order in which to ask so many questions.
pub(super) fn order(count: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    random.shuffle(&mut order);
    order
}

/// An embedder, as the configuration names it.
fn embedder(text: &str) -> Result<config::Embedder, String> {
    config::Embedder::try_from(text.to_owned()).map_err(|wrong| wrong.to_string())
}

/// A share on the command line.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is between 0 and 1: 0.05 is one of twenty".to_owned()) }
}
