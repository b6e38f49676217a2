//! Everything that the configuration turns into, as one immutable snapshot: [`State`]. A reload builds the next one beside
//! the running one, taking over what has not changed, and swaps it in whole.
//!
//! What it does not do: it does not watch files (`process` does) and answers no request.
//!
//! **Invariant:** a snapshot is complete or not there: a configuration that cannot be built leaves the running one.
//! **Invariant:** exchanges in flight keep the snapshot that they began with.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::models::{self, Models};
use crate::cache::Cache;
use crate::config::{self, Config};
use crate::embed::examples::ExampleSets;
use crate::embed::{self, Embedder};
use crate::identity::Keys;
use crate::plugin::PluginSet;
use crate::plugin::engine::Engine;
use crate::plugin::load::{Hook, LoadError, Settings};
use crate::prompt::Registry;
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
}

impl Lasting {
    /// For this many cores, with compiled components in this folder.
    pub fn new(workers: usize, aot: Option<std::path::PathBuf>) -> Self {
        Self { workers, aot, ..Self::default() }
    }

    fn engine(&self) -> Result<&Engine, BuildError> {
        if let Some(engine) = self.engine.get() {
            return Ok(engine);
        }
        let made = Engine::new().map_err(|error| BuildError::Other(format!("plugins: {error:#}")))?;
        Ok(self.engine.get_or_init(|| made))
    }
}

/// The snapshot.
pub struct State {
    /// What it was built from.
    pub config: Config,
    /// Who may call.
    pub keys: Keys,
    /// What may be asked for.
    pub models: Models,
    /// Pools by provider.
    pub pools: BTreeMap<String, Arc<Pool>>,
    /// The plugins.
    pub plugins: Arc<PluginSet>,
    /// Components that could not be loaded; an older version serves in their place.
    pub problems: Vec<LoadError>,
    /// The prompts.
    pub prompts: Option<Arc<Registry>>,
    /// Templates that could not be loaded.
    pub prompt_problems: Vec<String>,
    /// The cache of answers.
    pub cache: Option<Arc<Cache>>,
    /// The embedding model of the cache and the plugins, where any of them needs one.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// The same one, where it may serve near hits.
    pub near_embedder: Option<Arc<dyn Embedder>>,
    /// The model inside pointsman, where `[models]` offers it.
    pub built_in: Option<Arc<dyn Embedder>>,
    /// `[examples]`.
    pub examples: ExampleSets,
    /// The longest that an exchange may take.
    pub longest: Duration,
}

/// Why a snapshot could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A plugin that has no older version to go on with.
    #[error("{0}")]
    Plugin(#[from] LoadError),
    /// Anything else; the text names the key of the configuration.
    #[error("{0}")]
    Other(String),
}

impl State {
    /// Builds a snapshot; what is the same as in `previous` is taken over.
    ///
    /// # Errors
    /// Whatever keeps the whole configuration from being in force. A plugin that does not load is an error only where
    /// `previous` has no version of it.
    pub async fn build(lasting: &Lasting, config: Config, previous: Option<&Self>) -> Result<Self, BuildError> {
        let other = |key: &str| {
            let key = key.to_owned();
            move |error: &dyn std::fmt::Display| BuildError::Other(format!("{key}: {error}"))
        };
        let keys = Keys::new(&config).map_err(|error| other("keys")(&error))?;
        let pools =
            models::pools(&config, lasting.workers, previous.map(|previous| &previous.pools)).map_err(BuildError::Other)?;
        let models = Models::build(&config, &pools).map_err(BuildError::Other)?;
        let embedder = embedder(&config, previous)?;
        let examples = match (&embedder, config.examples.is_empty()) {
            (Some(embedder), false) => {
                let sets = config
                    .examples
                    .iter()
                    .map(|(set, labels)| {
                        (set.clone(), labels.iter().map(|(label, texts)| (label.clone(), texts.clone())).collect())
                    })
                    .collect();
                ExampleSets::build(&**embedder, sets).await.map_err(|error| other("examples")(&error))?
            }
            _ => ExampleSets::default(),
        };
        let (plugins, mut problems) = match &settings(&config)[..] {
            [] => Default::default(),
            settings => {
                let before = previous.map(|previous| &*previous.plugins);
                PluginSet::build(lasting.engine()?, settings, lasting.aot.as_deref(), before)
            }
        };
        let without_version =
            problems.iter().position(|problem| plugins.all().iter().all(|plugin| plugin.name() != problem.plugin));
        if let Some(position) = without_version {
            return Err(problems.swap_remove(position).into());
        }
        let (prompts, prompt_problems) = match &config.prompts {
            Some(prompts) => {
                let pins = prompts.pin.iter().map(|(name, version)| (name.clone(), version.clone())).collect();
                let before = previous.and_then(|previous| previous.prompts.as_deref());
                let (registry, problems) =
                    Registry::load(&prompts.path, &pins, before).map_err(|error| other("prompts.path")(&error))?;
                (Some(Arc::new(registry)), problems)
            }
            None => (None, Vec::new()),
        };
        let cache = cache(&config, embedder.as_deref(), previous);
        let near_embedder = embedder.clone().filter(|embedder| may_serve_near(&config, &**embedder));
        let built_in = built_in(&config, embedder.as_ref(), previous)?;
        let longest =
            config.providers.values().map(|provider| provider.timeouts.total.get()).max().unwrap_or(Duration::from_secs(600));
        Ok(Self {
            keys,
            models,
            pools,
            plugins: Arc::new(plugins),
            problems,
            prompts,
            prompt_problems,
            cache,
            embedder,
            near_embedder,
            built_in,
            examples,
            longest,
            config,
        })
    }
}

/// `[plugins]` in the words of the plugin room.
fn settings(config: &Config) -> Vec<Settings> {
    let hook = |hook: &config::Hook| match hook {
        config::Hook::Routing => Hook::Routing,
        config::Hook::Prompting => Hook::Prompting,
        config::Hook::Caching => Hook::Caching,
    };
    let grant = |grant: &config::Grant| {
        serde_json::to_value(grant).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    };
    config
        .plugins
        .iter()
        .map(|(name, plugin)| Settings {
            name: name.clone(),
            component: plugin.component.clone(),
            hooks: plugin.hooks.iter().map(hook).collect(),
            grants: plugin.grant.iter().map(grant).collect(),
            fail: plugin.on_failure == config::OnFailure::Fail,
            deadline: plugin.deadline.get(),
            memory: plugin.memory.as_usize(),
            config: plugin.config.as_object().cloned().unwrap_or_default(),
        })
        .collect()
}

/// `[cache]`: kept over a reload that does not touch it, so that entries stay.
fn cache(config: &Config, embedder: Option<&dyn Embedder>, previous: Option<&State>) -> Option<Arc<Cache>> {
    let wanted = config.cache.as_ref()?;
    let same = previous.filter(|previous| {
        previous.config.cache.as_ref() == Some(wanted)
            && previous.embedder.as_deref().map(Embedder::id) == embedder.map(Embedder::id)
    });
    if let Some(cache) = same.and_then(|previous| previous.cache.clone()) {
        return Some(cache);
    }
    Some(Arc::new(Cache::new(crate::cache::Settings {
        memory: wanted.memory.bytes(),
        ttl: wanted.ttl.get(),
        max_entry: wanted.max_entry.as_usize(),
        max_near: wanted.semantic.as_ref().map_or(0, |semantic| semantic.max_entries),
    })))
}

/// Until a partition's own hits are audited, near hits are served at a fixed cut, whose share of wrong hits was measured. An
/// owner who allows fewer gets none, and is told.
fn may_serve_near(config: &Config, embedder: &dyn Embedder) -> bool {
    let Some(semantic) = config.cache.as_ref().and_then(|cache| cache.semantic.as_ref()) else { return false };
    let (allowed, measured) = (semantic.wrong_hits, embedder.wrong_at_cut());
    if measured > allowed {
        tracing::warn!(
            "cache.semantic.wrong_hits allows {allowed}, and {} was measured at {measured}: no semantic hit is served",
            embedder.id()
        );
    }
    measured <= allowed
}

/// The model of `provider = "built-in"`: the cache's own one where that is the built-in one too.
fn built_in(
    config: &Config,
    embedder: Option<&Arc<dyn Embedder>>,
    previous: Option<&State>,
) -> Result<Option<Arc<dyn Embedder>>, BuildError> {
    if !config.models.values().any(|model| matches!(model, config::Model::Concrete(model) if model.is_built_in())) {
        return Ok(None);
    }
    if let Some(same) = embedder.filter(|embedder| embedder.id().starts_with("built-in@")) {
        return Ok(Some(same.clone()));
    }
    if let Some(kept) = previous.and_then(|previous| previous.built_in.clone()) {
        return Ok(Some(kept));
    }
    embed::open(&embed::Settings::BuiltIn).map(Some).map_err(|error| BuildError::Other(format!("models: {error}")))
}

/// One embedder serves the cache, the example sets and the plugins.
fn embedder(config: &Config, previous: Option<&State>) -> Result<Option<Arc<dyn Embedder>>, BuildError> {
    let semantic = config.cache.as_ref().and_then(|cache| cache.semantic.as_ref());
    let granted = config.plugins.values().any(|plugin| plugin.grant.contains(&config::Grant::Embeddings));
    if semantic.is_none() && !granted && config.examples.is_empty() {
        return Ok(None);
    }
    let wanted = semantic.map_or(config::Embedder::BuiltIn, |semantic| semantic.embedder.clone());
    let before = |state: &State| {
        state
            .config
            .cache
            .as_ref()
            .and_then(|cache| cache.semantic.as_ref())
            .map_or(config::Embedder::BuiltIn, |semantic| semantic.embedder.clone())
    };
    if let Some(kept) = previous.filter(|previous| before(previous) == wanted).and_then(|previous| previous.embedder.clone()) {
        return Ok(Some(kept));
    }
    let settings = match &wanted {
        config::Embedder::BuiltIn => embed::Settings::BuiltIn,
        config::Embedder::FastEmbed(dir) => embed::Settings::FastEmbed { dir: dir.clone(), workers: 1, queue: 64 },
    };
    embed::open(&settings).map(Some).map_err(|error| BuildError::Other(format!("cache.semantic.embedder: {error}")))
}
