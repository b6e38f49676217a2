//! Recorded exchanges, decided again by another component: what would it change?
//!
//! `read` goes through the files, `around` stands for the host that was there, `drive` asks the component what was asked then, `observe` about
//! parts of answers, `path` says what would have followed, `report` counts.
//!
//! Deadlines are counted in instructions, plugins are never left alone for failing, and every exchange has instances of its own: so what
//! is decided about one hangs on its record and on the component, and on nothing else.
//!
//! What it does not do: it sends nothing and keeps nothing. What other plugins would do then, and what caches would have, it does not know.
//!
//! **Invariant:** the same recording and components give the same report, letter by letter, however many threads there are.

mod around;
mod drive;
mod observe;
mod path;
mod read;
mod report;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::Deserialize;

use crate::plugin::PluginSet;
use crate::plugin::engine::Engine;
use crate::plugin::load::{LoadError, Settings};
use crate::plugin::registry::Shelves;
use crate::plugin::tape::{Facts, Recorded, Snapshot, Valued};
use crate::record::cost::Price;
use drive::Ran;
use read::{Found, Reader};
pub use report::Report;
use report::{One, Tally};

/// Lines that a thread takes at once.
const BATCH: usize = 64;

/// What is to be replayed, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// A file of a recording, or a folder of them.
    pub recording: PathBuf,
    /// The component whose decisions are asked for.
    pub plugin: PathBuf,
    /// The component whose decisions they are compared with; none: the recorded ones.
    pub against: Option<PathBuf>,
    /// The plugin in whose place it stands; none: the one that was recorded.
    pub name: Option<String>,
    /// What its owner has written; none: as it was recorded.
    pub settings: Option<Settings>,
    /// What models cost; none: as it was recorded.
    pub prices: Option<Vec<Valued>>,
    /// How many threads replay.
    pub threads: usize,
    /// How many changed exchanges are told of each kind of change.
    pub examples: usize,
}

/// Why nothing is replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file cannot be read, or is none of a recording.
    #[error("{}: {reason}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A component cannot be put in the plugin's place.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It is not clear in which plugin's place.
    #[error("{0}")]
    Name(String),
    /// The system refused something.
    #[error("{0}")]
    System(String),
}

/// What exchanges of one snapshot are replayed with.
struct Cast {
    name: String,
    new: Arc<PluginSet>,
    against: Option<Arc<PluginSet>>,
    prices: HashMap<String, Price>,
}

/// What decisions and their costs hang on.
type Basis = (Facts, Vec<Valued>);

/// By the digest of the snapshot; none where the plugin was not in it.
type Casts = RwLock<HashMap<String, Option<Arc<Cast>>>>;

/// Replays a recording.
///
/// # Errors
/// When it cannot be read, or a component does not load. Single lines that cannot be read are told in the report.
pub fn run(options: &Options) -> Result<Report, ReplayError> {
    let engine = Engine::metered().map_err(|error| ReplayError::System(format!("{error:#}")))?;
    let mut reader = Reader::open(&options.recording)?;
    let casts = Casts::default();
    let (batches, waiting) = sync_channel::<(u64, Vec<String>)>(options.threads * 2);
    // The threads' alone: where all of them are gone, nobody waits for them to take more.
    let waiting = Arc::new(Mutex::new(waiting));
    let (done, results) = channel();
    let mut tally = Tally::new(options.examples);
    let (read, cast) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut stage = Stage { options, engine: &engine, casts: &casts, loaded: Vec::new(), seen: BTreeSet::new() };
            let read = hand_out(&mut reader, &mut stage, batches);
            (read, stage.loaded.into_iter().next().map(|(_, cast)| cast).ok_or(stage.seen))
        });
        for _ in 0..options.threads {
            let (casts, waiting, done) = (&casts, waiting.clone(), done.clone());
            scope.spawn(move || work(casts, &waiting, &done));
        }
        drop((done, waiting));
        collect(&results, &mut tally);
        reader.join().unwrap_or_else(|_| (Err(ReplayError::System("the reader has failed".to_owned())), Err(BTreeSet::new())))
    });
    read?;
    let cast = cast.map_err(|seen| {
        let reason = match (&options.name, seen.is_empty()) {
            (Some(name), false) => {
                let seen: Vec<&str> = seen.iter().map(String::as_str).collect();
                format!(
                    "has no exchange that a plugin `{name}` has seen; name one that was recorded with --name: {}",
                    seen.join(", ")
                )
            }
            _ => "has no exchange that plugins have seen; record some with [recording]".to_owned(),
        };
        ReplayError::File { file: options.recording.clone(), reason }
    })?;
    let digest = |set: &PluginSet| set.all().first().map(|plugin| plugin.digest().to_owned()).unwrap_or_default();
    Ok(tally.report(&cast.name, digest(&cast.new), cast.against.as_deref().map(digest), reader.problems()))
}

/// Where components are loaded as snapshots are met.
struct Stage<'a> {
    options: &'a Options,
    engine: &'a Engine,
    casts: &'a Casts,
    /// By what a decision hangs on.
    loaded: Vec<(Basis, Arc<Cast>)>,
    /// The names of all plugins that were recorded.
    seen: BTreeSet<String>,
}

impl Stage<'_> {
    fn meet(&mut self, snapshot: Snapshot) -> Result<(), ReplayError> {
        let cast = self.cast(&snapshot)?;
        self.casts.write().unwrap_or_else(PoisonError::into_inner).insert(snapshot.digest, cast);
        Ok(())
    }

    fn cast(&mut self, snapshot: &Snapshot) -> Result<Option<Arc<Cast>>, ReplayError> {
        self.seen.extend(snapshot.plugins.iter().map(|plugin| plugin.name.clone()));
        let Some(facts) = self.place(snapshot)? else { return Ok(None) };
        // Which version it was makes no difference.
        let facts = Facts { digest: String::new(), ..facts.clone() };
        let prices = self.options.prices.as_ref().unwrap_or(&snapshot.prices).clone();
        let key = (facts, prices);
        if let Some((_, cast)) = self.loaded.iter().find(|(known, _)| *known == key) {
            return Ok(Some(cast.clone()));
        }
        let settings = |component: &Path| match &self.options.settings {
            Some(settings) => Settings {
                component: component.to_owned(),
                name: key.0.name.clone(),
                // Another component is not the one that was pinned.
                source: Default::default(),
                ..settings.clone()
            },
            None => key.0.settings(component),
        };
        let against = self.options.against.as_deref().map(|component| self.load(&settings(component))).transpose()?;
        let cast = Arc::new(Cast {
            name: key.0.name.clone(),
            new: self.load(&settings(&self.options.plugin))?,
            against,
            prices: key.1.iter().map(|price| (price.model.clone(), price.into())).collect(),
        });
        self.loaded.push((key, cast.clone()));
        Ok(Some(cast))
    }

    fn load(&self, settings: &Settings) -> Result<Arc<PluginSet>, LoadError> {
        let (set, errors) = PluginSet::build(self.engine, std::slice::from_ref(settings), Shelves::default(), None);
        errors.into_iter().next().map_or(Ok(Arc::new(set)), Err)
    }

    /// In whose place the component stands: who was named, the only one, or the one that is called like the component's file.
    fn place<'a>(&self, snapshot: &'a Snapshot) -> Result<Option<&'a Facts>, ReplayError> {
        let named = |name: &str| snapshot.plugins.iter().find(|plugin| plugin.name == name);
        if let Some(name) = &self.options.name {
            return Ok(named(name));
        }
        if let [only] = &snapshot.plugins[..] {
            return Ok(Some(only));
        }
        let stem = self.options.plugin.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if snapshot.plugins.is_empty() || named(stem).is_some() {
            return Ok(named(stem));
        }
        let names: Vec<&str> = snapshot.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        Err(ReplayError::Name(format!(
            "several plugins were recorded, and none is called `{stem}`; say in whose place the component stands with --name, one of {}",
            names.join(", ")
        )))
    }
}

impl From<&Valued> for Price {
    fn from(price: &Valued) -> Self {
        Self { input: price.input, output: price.output, cached_input: price.cached_input }
    }
}

/// Reads, and gives lines to whoever is free.
fn hand_out(reader: &mut Reader, stage: &mut Stage<'_>, batches: SyncSender<(u64, Vec<String>)>) -> Result<(), ReplayError> {
    let (mut number, mut batch) = (0, Vec::with_capacity(BATCH));
    while let Some(found) = reader.more()? {
        match found {
            Found::Snapshot(snapshot) => stage.meet(snapshot)?,
            Found::Exchange(line) => batch.push(line),
        }
        if batch.len() == BATCH {
            let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            if batches.send((number, full)).is_err() {
                return Ok(());
            }
            number += 1;
        }
    }
    let _ = batches.send((number, batch));
    Ok(())
}

/// One thread's work: batches as long as there are some.
fn work(casts: &Casts, waiting: &Mutex<Receiver<(u64, Vec<String>)>>, done: &Sender<(u64, Vec<Result<One, String>>)>) {
    // No timers: a replay waits for nothing.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    loop {
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, lines)) = next else { return };
        let made = lines.iter().map(|line| runtime.block_on(one(casts, line))).collect();
        if done.send((number, made)).is_err() {
            return;
        }
    }
}

/// One exchange.
async fn one(casts: &Casts, line: &str) -> Result<One, String> {
    #[derive(Deserialize)]
    struct Line {
        exchange: Recorded,
    }
    let Line { exchange } = serde_json::from_str(line).map_err(|error| format!("is no exchange: {error}"))?;
    let cast = casts.read().unwrap_or_else(PoisonError::into_inner).get(&exchange.configuration).cloned();
    let Some(cast) = cast else { return Err("was served under a snapshot that the file has not".to_owned()) };
    let exchange = Arc::new(exchange);
    let Some(cast) = cast.filter(|cast| exchange.calls.iter().any(|call| call.plugin == cast.name)) else {
        return Ok(One::without(&exchange));
    };
    let new = drive::run(&cast.new, &cast.name, &exchange).await?;
    let before = match &cast.against {
        Some(against) => drive::run(against, &cast.name, &exchange).await?,
        None => Ran::recorded(&cast.name, &exchange),
    };
    Ok(One::of(&exchange, before, new, &cast.prices))
}

/// Counts results in the order of the recording.
fn collect(results: &Receiver<(u64, Vec<Result<One, String>>)>, tally: &mut Tally) {
    let (mut early, mut next) = (BTreeMap::new(), 0);
    for (number, batch) in results {
        early.insert(number, batch);
        while let Some(batch) = early.remove(&next) {
            batch.into_iter().for_each(|one| tally.count(one));
            next += 1;
        }
    }
}
