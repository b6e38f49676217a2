//! Everything that the configuration turns into, as one immutable snapshot: [`State`]. A reload builds the next one beside
//! the running one, taking over what has not changed, and swaps it in whole.
//!
//! What it does not do: it does not watch files (`process` does) and answers no request.
//!
//! **Invariant:** a snapshot is complete or not there: a configuration that cannot be built leaves the running one.
//! **Invariant:** exchanges in flight keep the snapshot that they began with.

mod parts;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::explain::Stories;
use super::models::{self, Models};
use super::outbound::Lanes;
use super::recording::Recording;
use super::vectors::Embedders;
use crate::cache::Cache;
use crate::config::{Config, Finding};
use crate::embed::Embedder;
use crate::embed::examples::ExampleSets;
use crate::identity::Keys;
use crate::plugin::PluginSet;
use crate::plugin::engine::Engine;
use crate::plugin::load::{LoadError, Settings};
use crate::plugin::oci::Kept;
use crate::plugin::registry::Shelves;
use crate::plugin::release::store::Store;
use crate::prompt::{Problem, Registry};
use crate::upstream::pool::Pool;

/// What lives longer than one snapshot.
#[derive(Default)]
pub struct Lasting {
    /// The one engine of the process, made when there is a first plugin.
    engine: OnceLock<Engine>,
    /// Cores that serve; upstream connections are kept per core.
    pub workers: usize,
    /// Where compiled components are kept between starts.
    pub aot: Option<std::path::PathBuf>,
    /// What plugins send over, made when one may.
    outbound: OnceLock<Arc<Lanes>>,
    /// Where it is kept which versions of plugins serve.
    pub releases: Store,
    /// What was pulled from registries.
    pub pulled: Kept,
}

impl Lasting {
    /// For this many cores, with compiled components in this folder.
    pub fn new(workers: usize, aot: Option<std::path::PathBuf>) -> Self {
        // Beside each other, and each its own: one has machine code.
        let pulled =
            aot.as_deref().and_then(std::path::Path::parent).map(|base| Kept::open(&base.join("oci"))).unwrap_or_default();
        Self { workers, aot, pulled, ..Self::default() }
    }

    /// The same, and this folder for what must outlive the process.
    #[must_use]
    pub fn with_state(self, folder: &std::path::Path) -> Self {
        Self { releases: Store::open(folder), ..self }
    }

    pub(super) fn shelves(&self) -> Shelves<'_> {
        Shelves { aot: self.aot.as_deref(), store: Some(&self.releases), pulled: Some(&self.pulled) }
    }

    pub(super) fn engine(&self) -> Result<&Engine, Finding> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let made = Engine::for_cores(self.workers).map_err(|error| {
            Finding::new(&["plugins"], format!("{error:#}"), "run pointsman on a system that wasmtime supports")
        })?;
        Ok(self.engine.get_or_init(|| made))
    }
}

/// What the configuration says about one plugin, in the words of its room.
pub(super) fn settings(config: &Config, name: &str) -> Option<Settings> {
    parts::settings(config).into_iter().find(|settings| settings.name == name)
}

/// The snapshot.
#[derive(Clone)]
pub struct State {
    /// What it was built from.
    pub config: Config,
    /// Who may call.
    pub keys: Arc<Keys>,
    /// What may be asked for.
    pub models: Models,
    /// Pools by provider.
    pub pools: BTreeMap<String, Arc<Pool>>,
    /// The plugins.
    pub plugins: Arc<PluginSet>,
    /// Components that could not be loaded; an older version serves in their place.
    pub problems: Arc<[LoadError]>,
    /// The prompts.
    pub prompts: Option<Arc<Registry>>,
    /// Templates that could not be loaded.
    pub prompt_problems: Vec<Problem>,
    /// The cache of answers.
    pub cache: Option<Arc<Cache>>,
    /// Embedding models.
    pub embedders: Embedders,
    /// The one of the cache and the plugins, where any of them needs one.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// `[examples]`.
    pub examples: Arc<ExampleSets>,
    /// The stories of the last exchanges.
    pub stories: Option<Arc<Stories>>,
    /// `[recording]`.
    pub recording: Option<Recording>,
    /// What plugins send over; none where none may.
    pub outbound: Option<Arc<Lanes>>,
    /// The longest that an exchange may take.
    pub longest: Duration,
}

/// Why a snapshot could not be built: everything that keeps it from being in force.
#[derive(Debug)]
pub struct BuildError(pub Vec<Finding>);

impl std::error::Error for BuildError {}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// What a configuration says of its plugins.
pub fn plugin_settings(config: &Config) -> Vec<Settings> {
    parts::settings(config)
}

impl State {
    /// It is about to be in force: what works beside exchanges begins. Before that a snapshot touches nothing that lasts.
    pub(super) fn start(&self) {
        self.cache.iter().for_each(|cache| cache.start());
    }

    /// What is wrong with single prompts, at their keys.
    pub fn unread(&self) -> Vec<Finding> {
        self.prompt_problems.iter().map(parts::unread).collect()
    }

    /// Builds a snapshot; what is the same as in `previous` is taken over.
    ///
    /// # Errors
    /// All that keeps the whole configuration from being in force. A plugin that does not load is an error only where `previous`
    /// has no version of it; a prompt that cannot be read is none, but is told among them.
    pub async fn build(lasting: &Lasting, config: Config, previous: Option<&Self>) -> Result<Self, BuildError> {
        let mut found = Vec::new();
        let mut note = |findings: Vec<Finding>| found.extend(findings);
        let keys = parts::keys(&config).map_err(&mut note).ok();
        let pools = models::pools(&config, lasting.workers, previous.map(|previous| &previous.pools)).map_err(&mut note).ok();
        let models = pools.as_ref().and_then(|pools| Models::build(&config, pools).map_err(&mut note).ok());
        let before = previous.map(|previous| &previous.embedders);
        let embedders = models.as_ref().and_then(|models| Embedders::build(&config, models, before).map_err(&mut note).ok());
        let examples = match &embedders {
            Some(embedders) => parts::examples(&config, embedders.shared.as_deref()).await.map_err(&mut note).ok(),
            None => None,
        };
        let plugins = parts::plugins(lasting, &config, previous).map_err(&mut note).ok();
        let prompts = parts::prompts(&config, previous).map_err(&mut note).ok();
        let unread: Vec<Finding> = prompts.iter().flat_map(|(_, problems)| problems).map(parts::unread).collect();
        let (
            Some(keys),
            Some(pools),
            Some(models),
            Some(embedders),
            Some(examples),
            Some((plugins, problems)),
            Some((prompts, prompt_problems)),
        ) = (keys, pools, models, embedders, examples, plugins, prompts)
        else {
            found.extend(unread);
            return Err(BuildError(found));
        };
        let embedder = embedders.shared.clone();
        let cache = match parts::cache(&config, lasting.workers, embedder.as_deref(), previous) {
            Ok(cache) => cache,
            Err(findings) => return Err(BuildError(findings)),
        };
        let stories = parts::stories(&config, lasting.workers, previous);
        let recording = match parts::recording(&config, &plugins, &models, previous) {
            Ok(recording) => recording,
            Err(findings) => return Err(BuildError(findings)),
        };
        let longest =
            config.providers.values().map(|provider| provider.timeouts.total.get()).max().unwrap_or(Duration::from_secs(600));
        Ok(Self {
            keys: Arc::new(keys),
            models,
            pools,
            plugins: Arc::new(plugins),
            problems: problems.into(),
            prompts,
            prompt_problems,
            cache,
            embedders,
            embedder,
            examples: Arc::new(examples),
            stories,
            recording,
            outbound: config
                .plugins
                .values()
                .any(|plugin| plugin.http.is_some())
                .then(|| lasting.outbound.get_or_init(|| Arc::new(Lanes::new(lasting.workers))).clone()),
            longest,
            config,
        })
    }
}
