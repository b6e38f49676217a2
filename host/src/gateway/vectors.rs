//! Embedders of a snapshot: each is opened once, whoever asks for it, and taken over by the next snapshot that wants the same.
//!
//! A provider's embedder is an upstream like any other: pools, keys, breakers and tries are those of its model.
//!
//! What it does not do: it computes nothing (`embed`) and sends nothing itself (`upstream`).
//!
//! **Invariant:** where a model's files were not changed in the configuration, a reload loads them no second time.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use tokio::time::Instant;

use super::models::{self, Entry, Model, Models};
use crate::config::{self, Config, EmbedderEntry, Finding, Priority};
use crate::dialect::embeddings as wire;
use crate::embed::remote::{Ask, Remote};
use crate::embed::{self, Embedder, Limits};
use crate::upstream::balance::Affinity;
use crate::upstream::deadline::Deadline;
use crate::upstream::provider::Operation;
use crate::upstream::{self, Attempt, Body, Context};

/// The embedders of a snapshot.
#[derive(Clone, Default)]
pub struct Embedders {
    /// Those that are computed here, with what they were opened as.
    opened: Vec<(embed::Settings, Arc<dyn Embedder>)>,
    /// Of the cache, the example sets and the plugins, where any of them needs one.
    pub shared: Option<Arc<dyn Embedder>>,
    /// Those that `[models]` offers, by the model's name.
    pub offered: BTreeMap<String, Arc<dyn Embedder>>,
}

impl Embedders {
    /// Opens what a configuration wants and the snapshot before has not.
    pub(super) fn build(config: &Config, models: &Models, before: Option<&Self>) -> Result<Self, Vec<Finding>> {
        let mut all = Self::default();
        let mut found = Vec::new();
        if let Some(wanted) = wanted(config) {
            match all.get(config, models, &wanted, before) {
                Ok(embedder) => all.shared = Some(embedder),
                Err(error) => {
                    found.push(Finding::new(&place(config, &wanted, &["cache", "semantic", "embedder"]), error, REMEDY))
                }
            }
        }
        let of_models =
            config.models.iter().filter_map(|(name, model)| Some((name, model.concrete().filter(|model| model.is_built_in())?)));
        for (name, model) in of_models {
            let at = ["models", name.as_str(), "name"];
            let opened = config::Embedder::try_from(model.name.clone())
                .map_err(|wrong| wrong.reason)
                .and_then(|wanted| all.get(config, models, &wanted, before));
            match opened {
                Ok(embedder) => drop(all.offered.insert(name.clone(), embedder)),
                Err(error) => found.push(Finding::new(&at, error, REMEDY)),
            }
        }
        if found.is_empty() { Ok(all) } else { Err(found) }
    }

    fn get(
        &mut self,
        config: &Config,
        models: &Models,
        wanted: &config::Embedder,
        before: Option<&Self>,
    ) -> Result<Arc<dyn Embedder>, String> {
        let entry = match wanted {
            config::Embedder::Named(name) => config.embedders.get(name).map(|entry| (name, entry)),
            _ => None,
        };
        let runtime = config.onnxruntime.as_deref();
        let settings = match entry {
            Some((name, entry)) if entry.model.is_some() => return remote(name, entry, models, before),
            Some((_, EmbedderEntry { local: Some(local), .. })) => {
                embed::Settings::of(local, limits(entry.map(|(_, entry)| entry), 1), runtime)
            }
            _ => embed::Settings::of(wanted, limits(None, 1), runtime),
        };
        let known = |all: &Self| all.opened.iter().find(|(opened, _)| *opened == settings).map(|(_, embedder)| embedder.clone());
        let embedder = match known(&*self).or_else(|| before.and_then(known)) {
            Some(embedder) => embedder,
            None => embed::open(&settings).map_err(|error| error.to_string())?,
        };
        if known(&*self).is_none() {
            self.opened.push((settings, embedder.clone()));
        }
        Ok(embedder)
    }

    /// One embedder of a configuration, where nothing else of it is wanted.
    ///
    /// # Errors
    /// It cannot be opened, or what it needs of the configuration cannot be had; the text says why.
    pub fn alone(config: &Config, wanted: &config::Embedder) -> Result<Arc<dyn Embedder>, String> {
        let told = |found: Vec<Finding>| found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        let models = models::pools(config, 1, None).and_then(|pools| Models::build(config, &pools)).map_err(told)?;
        Self::default().get(config, &models, wanted, None)
    }

    /// Each once.
    pub fn all(&self) -> Vec<&dyn Embedder> {
        let mut all: Vec<&dyn Embedder> = Vec::new();
        for embedder in self.shared.iter().chain(self.offered.values()) {
            if all.iter().all(|other| other.id() != embedder.id()) {
                all.push(&**embedder);
            }
        }
        all
    }
}

const REMEDY: &str = "put model and tokenizer there, or write \"built-in\"";

/// One embedder serves the cache, the example sets and the plugins: the cache's, where there is one.
fn wanted(config: &Config) -> Option<config::Embedder> {
    let semantic = config.cache.as_ref().and_then(|cache| cache.semantic.as_ref());
    let granted = || config.plugins.values().any(|plugin| plugin.grant.contains(&config::Grant::Embeddings));
    match semantic {
        Some(semantic) => Some(semantic.embedder.clone()),
        None => (granted() || !config.examples.is_empty()).then_some(config::Embedder::BuiltIn),
    }
}

/// Where it is to be told that a model cannot be opened: where its files are named.
fn place<'a>(config: &Config, wanted: &'a config::Embedder, otherwise: &[&'a str]) -> Vec<&'a str> {
    match wanted {
        config::Embedder::Named(name) if config.embedders.contains_key(name) => vec!["embedders", name, "local"],
        _ => otherwise.to_vec(),
    }
}

fn limits(entry: Option<&EmbedderEntry>, workers: usize) -> Limits {
    let Some(entry) = entry else { return Limits { workers, ..Limits::default() } };
    let EmbedderEntry { timeout, queue, batch, .. } = *entry;
    Limits { workers: entry.workers.unwrap_or(workers), queue, batch, timeout: timeout.get() }
}

fn remote(name: &str, entry: &EmbedderEntry, models: &Models, before: Option<&Embedders>) -> Result<Arc<dyn Embedder>, String> {
    let wanted = entry.model.as_deref().unwrap_or_default();
    let Some(Entry::Upstream(model)) = models.get(wanted) else {
        return Err(format!("no provider serves the model {wanted:?}"));
    };
    let dimensions = entry.dimensions.map_or_else(String::new, |dimensions| dimensions.to_string());
    let what = [&*model.provider, &*model.upstream_name, dimensions.as_str()];
    let way = Way { name: format!("embedder {name}"), model: model.clone(), dimensions: entry.dimensions };
    let before = before.and_then(|before| before.shared.as_deref());
    Ok(Arc::new(Remote::new(name, &what, limits(Some(entry), 4), Arc::new(way), before)))
}

/// The way to a provider's model.
struct Way {
    /// In the log, in place of an exchange's id.
    name: String,
    model: Model,
    dimensions: Option<u32>,
}

impl Ask for Way {
    fn ask<'a>(&'a self, core: usize, texts: &'a [String], until: Instant) -> BoxFuture<'a, Result<Vec<Vec<f32>>, String>> {
        Box::pin(async move {
            let Model { name, upstream_name, pool, .. } = &self.model;
            let attempt = Attempt {
                model: name.clone(),
                name: upstream_name.clone(),
                pool: pool.clone(),
                body: wire::request(upstream_name, texts, self.dimensions),
                affinity: Affinity::None,
                total: None,
                first_byte: None,
                after: None,
            };
            let context = Context {
                id: &self.name,
                worker: core,
                deadline: Deadline::new(until),
                operation: Operation::Embeddings,
                streamed: false,
                // Texts of several tenants go together: this is the node's own request.
                tenant: self.name.as_str().into(),
                priority: Priority::Interactive,
                headers: HeaderMap::new(),
            };
            let reply = upstream::run(&attempt, &context).await.map_err(|error| error.message().to_owned())?;
            match reply.body {
                Body::Whole(body) if reply.status.is_success() => wire::vectors(&body, texts.len()),
                Body::Whole(_) => Err(format!("{} answered {}", reply.endpoint, reply.status.as_u16())),
                Body::Stream(_) => Err(format!("the answer of {} is too large, or a stream", reply.endpoint)),
            }
        })
    }
}
