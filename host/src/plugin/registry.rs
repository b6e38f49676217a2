//! The set of plugins in force: an immutable snapshot, built beside the running one and swapped in whole.
//!
//! What it does not do: it does not watch files and does not swap; `gateway/state` does both.
//!
//! **Invariant:** an exchange sees one set, from its beginning to its end.
//! **Invariant:** a component that does not load leaves the version before it in force.

use std::path::Path;
use std::sync::Arc;

use super::bindings::types::RequestHead;
use super::engine::Engine;
use super::load::{self, Hook, LoadError, Plugin, Refusal, Settings};

/// Plugins in the order of the configuration, which is the order in which they are asked.
#[derive(Default)]
pub struct PluginSet {
    all: Vec<Arc<Plugin>>,
    /// Places in `all`, by hook.
    hooks: [Vec<usize>; 3],
}

impl PluginSet {
    /// Loads what has changed and keeps what has not. Components are compiled in parallel, on threads of their own.
    ///
    /// Each error names a plugin that could not be loaded. If `previous` has one of that name, that version stays.
    pub fn build(engine: &Engine, settings: &[Settings], aot: Option<&Path>, previous: Option<&Self>) -> (Self, Vec<LoadError>) {
        let loaded: Vec<Result<Arc<Plugin>, Refusal>> = std::thread::scope(|scope| {
            let running: Vec<_> =
                settings.iter().map(|settings| scope.spawn(move || one(engine, settings, aot, previous))).collect();
            let crashed = |_| Err(Refusal::component("crashed the compiler", "rebuild it"));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(crashed)).collect()
        });
        let mut set = Self::default();
        let mut errors = Vec::new();
        for (settings, loaded) in settings.iter().zip(loaded) {
            match loaded {
                Ok(plugin) => set.all.push(plugin),
                Err(refusal) => {
                    set.all.extend(previous.and_then(|previous| previous.named(&settings.name)).cloned());
                    errors.push(LoadError { plugin: settings.name.clone(), file: settings.component.clone(), refusal });
                }
            }
        }
        for (place, plugin) in set.all.iter().enumerate() {
            for hook in &plugin.settings().hooks {
                set.hooks[*hook as usize].push(place);
            }
        }
        (set, errors)
    }

    /// All plugins, in order.
    pub fn all(&self) -> &[Arc<Plugin>] {
        &self.all
    }

    /// Is there anything to ask at all?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The places of the plugins that are asked at a hook about this request.
    pub(super) fn at(&self, hook: Hook, head: &RequestHead) -> impl Iterator<Item = usize> + use<> {
        let is_bound = |place: &usize| self.all[*place].settings().is_for(&head.tenant, &head.model);
        // At most a handful; the copy lets a session change itself while it goes through them.
        self.hooks[hook as usize].iter().copied().filter(is_bound).collect::<Vec<_>>().into_iter()
    }

    /// Is any plugin asked at this hook?
    pub fn has(&self, hook: Hook) -> bool {
        !self.hooks[hook as usize].is_empty()
    }

    pub(super) fn place(&self, plugin: &Arc<Plugin>) -> Option<usize> {
        self.all.iter().position(|own| Arc::ptr_eq(own, plugin))
    }

    fn named(&self, name: &str) -> Option<&Arc<Plugin>> {
        self.all.iter().find(|plugin| plugin.name() == name)
    }
}

fn one(engine: &Engine, settings: &Settings, aot: Option<&Path>, previous: Option<&PluginSet>) -> Result<Arc<Plugin>, Refusal> {
    let (bytes, digest) = load::read(settings)?;
    let before = previous.and_then(|previous| previous.named(&settings.name));
    if let Some(same) = before.filter(|plugin| plugin.digest() == digest && plugin.settings() == settings) {
        return Ok(same.clone());
    }
    let kept = before.and_then(|plugin| plugin.kv.clone());
    load::load(engine, settings, &bytes, digest, aot, kept).map(Arc::new)
}
