//! The set of plugins in force: an immutable snapshot, built beside the running one and swapped in whole.
//!
//! A plugin's **place** is its place in the order. A version on trial that an exchange may have to do with, a canary, has a place of its own,
//! behind all others; where it is asked, it is asked just before the version that serves.
//!
//! What it does not do: it does not watch files and does not swap; `gateway/state` does both.
//!
//! **Invariant:** an exchange sees one set, from its beginning to its end.
//! **Invariant:** a component that does not load leaves the version before it in force.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bindings::types::RequestHead;
use super::engine::Engine;
use super::load::{self, Hook, LoadError, Plugin, Refusal, Settings};
use super::oci::Kept;
use super::release::figures::Fate;
use super::release::shadow::Shadow;
use super::release::store::{Saved, Store};
use super::release::{How, Role, Rules, Slot, Sticky, Trial};
use crate::config::OciReference;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::prefix;

/// Folders that outlive the process.
#[derive(Clone, Copy, Default)]
pub struct Shelves<'a> {
    /// Compiled components.
    pub aot: Option<&'a Path>,
    /// Versions, and which of them serves.
    pub store: Option<&'a Store>,
    /// What was pulled from registries.
    pub pulled: Option<&'a Kept>,
}

impl<'a> From<Option<&'a Path>> for Shelves<'a> {
    fn from(aot: Option<&'a Path>) -> Self {
        Self { aot, ..Self::default() }
    }
}

impl Shelves<'_> {
    fn read(&self, settings: &Settings) -> Result<(Vec<u8>, String), Refusal> {
        load::read(settings, self.pulled.unwrap_or(&Kept::default()))
    }
}

/// Plugins in the order of the configuration, which is the order in which they are asked.
#[derive(Default)]
pub struct PluginSet {
    slots: Vec<Slot>,
    /// The versions that serve, by place.
    all: Vec<Arc<Plugin>>,
    /// The canaries, whose places follow, and the places of the versions that serve.
    canaries: Vec<(Arc<Trial>, usize)>,
    /// Is there a shadow?
    shadows: bool,
    /// Places in `all`, by hook.
    hooks: [Vec<usize>; 3],
}

impl PluginSet {
    /// Loads what has changed and keeps what has not. Components are compiled in parallel, on threads of their own.
    ///
    /// Each error names a plugin that could not be loaded. If `previous` has one of that name, that version stays.
    pub fn build<'a>(
        engine: &Engine,
        settings: &[Settings],
        shelves: impl Into<Shelves<'a>>,
        previous: Option<&Self>,
    ) -> (Self, Vec<LoadError>) {
        let shelves = shelves.into();
        // What was decided before the process began counts where nothing is known since.
        let saved = previous.is_none().then(|| shelves.store.map(Store::load)).flatten().unwrap_or_default();
        let built: Vec<(Option<Slot>, Option<Refusal>)> = std::thread::scope(|scope| {
            let running: Vec<_> = settings
                .iter()
                .map(|settings| {
                    let before = previous.and_then(|previous| previous.slot(&settings.name));
                    let one = One { engine, settings, shelves, before, saved: saved.get(&settings.name) };
                    (before, scope.spawn(move || one.build()))
                })
                .collect();
            let crashed =
                |before: Option<&Slot>| (before.cloned(), Some(Refusal::component("crashed the compiler", "rebuild it")));
            running.into_iter().map(|(before, thread)| thread.join().unwrap_or_else(|_| crashed(before))).collect()
        });
        let mut errors = Vec::new();
        let mut slots = Vec::new();
        for (settings, (slot, refusal)) in settings.iter().zip(built) {
            slots.extend(slot);
            errors.extend(refusal.map(|refusal| LoadError {
                plugin: settings.name.clone(),
                file: settings.component.clone(),
                refusal,
            }));
        }
        (Self::of(slots), errors)
    }

    fn of(slots: Vec<Slot>) -> Self {
        let mut set = Self { all: slots.iter().map(|slot| slot.serving.clone()).collect(), ..Self::default() };
        for (place, slot) in slots.iter().enumerate() {
            for hook in &slot.serving.settings().hooks {
                set.hooks[*hook as usize].push(place);
            }
            match slot.trial.as_ref().map(|trial| (trial, &trial.role)) {
                Some((trial, Role::Canary(_))) => set.canaries.push((trial.clone(), place)),
                Some((_, Role::Shadow(_))) => set.shadows = true,
                Some((_, Role::Waiting)) | None => {}
            }
        }
        set.slots = slots;
        set
    }

    /// One version by itself.
    pub(super) fn alone(plugin: Arc<Plugin>) -> Self {
        Self::of(vec![Slot::first(plugin, Rules::default())])
    }

    /// The same with another slot in the place of the one of its name.
    #[must_use]
    pub fn with(&self, slot: Slot) -> Self {
        let other = |own: &Slot| if own.serving.name() == slot.serving.name() { slot.clone() } else { own.clone() };
        Self::of(self.slots.iter().map(other).collect())
    }

    /// The versions that serve, in order.
    pub fn all(&self) -> &[Arc<Plugin>] {
        &self.all
    }

    /// All there is of each plugin, in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// All there is of one.
    pub fn slot(&self, name: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.serving.name() == name)
    }

    /// The versions that serve, and those on trial.
    pub fn versions(&self) -> impl Iterator<Item = &Arc<Plugin>> {
        self.slots.iter().flat_map(|slot| std::iter::once(&slot.serving).chain(slot.trial.as_ref().map(|trial| &trial.plugin)))
    }

    /// Plugins at whose place a component lies that was taken back.
    pub fn taken_back(&self) -> impl Iterator<Item = (&Slot, Refusal)> {
        self.slots.iter().filter_map(|slot| Some((slot, taken_back(slot)?)))
    }

    /// What must outlive the process.
    pub fn saved(&self) -> BTreeMap<String, Saved> {
        self.slots.iter().map(|slot| (slot.serving.name().to_owned(), slot.saved())).collect()
    }

    /// Is there anything to ask at all?
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The places of the versions that are asked at a hook about this request, a canary before the one that serves.
    pub(super) fn at(&self, hook: Hook, head: &RequestHead, whose: &Whose) -> impl Iterator<Item = usize> + use<> {
        let is_bound = |place: &usize| self.all[*place].settings().is_for(&head.tenant, &head.model);
        // At most a handful; the copy lets a session change itself while it goes through them.
        let own = self.hooks[hook as usize].iter().copied().filter(is_bound);
        let places: Vec<usize> = match self.canaries.is_empty() {
            true => own.collect(),
            false => own.flat_map(|place| self.canary(place, whose).into_iter().chain([place])).collect(),
        };
        places.into_iter()
    }

    /// The place of the canary that decides before the version at this place, for whoever this is.
    fn canary(&self, place: usize, whose: &Whose) -> Option<usize> {
        let at = self.canaries.iter().position(|(_, serving)| *serving == place)?;
        self.canaries[at].0.takes(whose.under(&self.slots[place].rules.sticky)).then_some(self.all.len() + at)
    }

    /// The version at a place.
    pub(super) fn version(&self, place: usize) -> &Arc<Plugin> {
        match place.checked_sub(self.all.len()) {
            None => &self.all[place],
            Some(at) => &self.canaries[at].0.plugin,
        }
    }

    /// The place of the version that serves where the one at this place is on trial.
    pub(super) fn serving(&self, place: usize) -> Option<usize> {
        place.checked_sub(self.all.len()).map(|at| self.canaries[at].1)
    }

    /// The shadow of the version at a place.
    pub(super) fn shadow(&self, place: usize) -> Option<&Arc<Shadow>> {
        let slot = if self.shadows { self.slots.get(place)? } else { return None };
        match &slot.trial.as_ref()?.role {
            Role::Shadow(shadow) => Some(shadow),
            _ => None,
        }
    }

    /// Is any plugin asked at this hook?
    pub fn has(&self, hook: Hook) -> bool {
        !self.hooks[hook as usize].is_empty()
    }

    pub(super) fn place(&self, plugin: &Arc<Plugin>) -> Option<usize> {
        (0..self.all.len() + self.canaries.len()).find(|place| Arc::ptr_eq(self.version(*place), plugin))
    }

    /// Whose request this is, where a canary hangs on it.
    pub fn whose(&self, head: &RequestHead, headers: &http::HeaderMap, request: &ChatRequest) -> Whose {
        if self.canaries.is_empty() {
            return Whose::default();
        }
        let named = |sticky: &Sticky| match sticky {
            Sticky::Session(name) => session(headers.get(name).map(http::HeaderValue::as_bytes), &head.tenant, request),
            Sticky::Key => format!("key {} {}", head.tenant, head.principal.as_deref().unwrap_or_default()),
            Sticky::Tenant => format!("tenant {}", head.tenant),
        };
        let rules = self.canaries.iter().map(|(_, place)| &self.slots[*place].rules.sticky);
        let mut all: Vec<(Sticky, String)> = Vec::new();
        for sticky in rules {
            if all.iter().all(|(known, _)| known != sticky) {
                all.push((sticky.clone(), named(sticky)));
            }
        }
        Whose(all)
    }

    /// An exchange is over: it counts for the versions that it had to do with.
    pub fn book(&self, tenant: &str, model: &str, whose: &Whose, fate: Fate, cost: u64) {
        for (place, plugin) in self.all.iter().enumerate().filter(|(_, plugin)| plugin.settings().is_for(tenant, model)) {
            let canary = if self.canaries.is_empty() { None } else { self.canary(place, whose) };
            canary.map_or(plugin, |place| self.version(place)).numbers.exchanges.note(fate, cost);
        }
    }
}

/// A session has a name, or is told by how it begins: later turns of a conversation repeat the first message.
fn session(named: Option<&[u8]>, tenant: &str, request: &ChatRequest) -> String {
    let said = || ["/prompt_cache_key", "/user"].iter().find_map(|pointer| request.pointer(pointer));
    let name = named.or_else(|| said().filter(|text| *text != "null").map(str::as_bytes));
    let (kind, name) = match name {
        Some(name) => ("session", prefix::hash(0, name)),
        None => {
            let first = request.messages().iter().find(|message| &*message.role == "user");
            ("beginning", prefix::hash(0, first.map(|message| message.text.to_string()).unwrap_or_default().as_bytes()))
        }
    };
    format!("{kind} {tenant} {name:x}")
}

/// Whose request it is, in each of the ways that a canary may hang on.
#[derive(Clone, Debug, Default)]
pub struct Whose(Vec<(Sticky, String)>);

impl Whose {
    fn under(&self, sticky: &Sticky) -> &str {
        self.0.iter().find(|(own, _)| own == sticky).map_or("", |(_, name)| name)
    }
}

/// One plugin that is to be built.
struct One<'a> {
    engine: &'a Engine,
    settings: &'a Settings,
    shelves: Shelves<'a>,
    before: Option<&'a Slot>,
    saved: Option<&'a Saved>,
}

/// A version that an administrator names.
#[derive(Clone, Debug)]
pub enum Named {
    /// One that was kept, by its digest.
    Digest(String),
    /// A component that nobody has seen yet.
    File(PathBuf),
}

/// Loads a version of a plugin under its settings, for it to be released.
///
/// # Errors
/// What is wrong with it.
pub fn load_version(
    engine: &Engine,
    settings: &Settings,
    shelves: Shelves<'_>,
    slot: &Slot,
    named: &Named,
) -> Result<Arc<Plugin>, Refusal> {
    let one = One { engine, settings, shelves, before: None, saved: None };
    let kept = slot.serving.kv.clone();
    match named {
        Named::Digest(digest) => {
            settings.source.admits(digest)?;
            one.load(digest, None, kept)
        }
        Named::File(file) => {
            let oci = file.to_str().filter(|text| text.starts_with("oci://")).map(str::parse::<OciReference>).transpose();
            let oci = oci.map_err(|error| {
                Refusal::component(
                    format!("is no component of a registry: {error}"),
                    "write oci://REGISTRY/REPOSITORY@sha256:DIGEST",
                )
            })?;
            // As of a configuration: what was looked at is to be what serves.
            if settings.source.pin.is_none() && oci.as_ref().is_some_and(|reference| reference.digest.is_none()) {
                return Err(Refusal::component(
                    "is a tag, and whoever may push can let a tag stand for another component",
                    "add @sha256:DIGEST, as `pointsman plugin push` prints it",
                ));
            }
            let source = load::Source { oci, ..settings.source.clone() };
            let (bytes, digest) = shelves.read(&Settings { component: file.clone(), source, ..settings.clone() }).map_err(
                |refusal| match refusal.reason.starts_with("cannot be read") {
                    // It need not be built, but to lie where the node finds it.
                    true => Refusal { remedy: "name a file on the node's machine, by its whole path".to_owned(), ..refusal },
                    false => refusal,
                },
            )?;
            let known = slot.version(&digest).filter(|version| version.settings().is_like(settings)).cloned();
            let found = Found { bytes, digest };
            let plugin = known.map_or_else(|| one.load(&found.digest, Some(&found), kept), Ok)?;
            one.keep(&found);
            Ok(plugin)
        }
    }
}

/// A component as it was found.
struct Found {
    bytes: Vec<u8>,
    digest: String,
}

impl One<'_> {
    fn build(self) -> (Option<Slot>, Option<Refusal>) {
        let found = match self.shelves.read(self.settings) {
            Ok((bytes, digest)) => Found { bytes, digest },
            Err(refusal) => return (self.before.cloned().or_else(|| self.restored(None)), Some(refusal)),
        };
        let (known, refusal) = match self.before {
            Some(before) => self.under_settings(before, &found),
            None => (self.restored(Some(&found)), None),
        };
        let Some(slot) = known else {
            return match self.load(&found.digest, Some(&found), None) {
                Ok(plugin) => {
                    self.keep(&found);
                    (Some(Slot::first(plugin, self.settings.release.clone())), None)
                }
                Err(refusal) => (None, Some(refusal)),
            };
        };
        let slot = if slot.file == found.digest && !self.is_astray(&slot) {
            // It has loaded before; where the folder is another one by now it is there, too.
            if slot.version(&found.digest).is_some() {
                self.keep(&found);
            }
            slot
        } else {
            let known = slot.version(&found.digest).filter(|version| version.settings().is_like(self.settings)).cloned();
            match known.map_or_else(|| self.load(&found.digest, Some(&found), slot.serving.kv.clone()), Ok) {
                Ok(plugin) => {
                    self.keep(&found);
                    slot.found(plugin)
                }
                Err(refusal) => return (Some(slot), Some(refusal)),
            }
        };
        (Some(slot), refusal)
    }

    /// Keeps a component that has been looked at and has loaded, and no other.
    fn keep(&self, found: &Found) {
        if let Some(store) = self.shelves.store {
            store.keep(&found.digest, &found.bytes);
        }
    }

    /// Is none of a plugin's versions the one that its owner has pinned, and was that one never taken back? Then it was pinned after another
    /// one had been released by hand.
    fn is_astray(&self, slot: &Slot) -> bool {
        self.settings.source.pin.as_deref().is_some_and(|pin| {
            let trial = slot.trial.as_ref().map(|trial| &trial.plugin);
            let is_there = std::iter::once(&slot.serving).chain(trial).any(|plugin| plugin.digest() == pin);
            !is_there && slot.taken_back(pin).is_none()
        })
    }

    /// A version by its digest: of the file that was found, or of those that are kept.
    fn load(&self, digest: &str, found: Option<&Found>, kept: Option<Arc<super::kv::Kv>>) -> Result<Arc<Plugin>, Refusal> {
        let stored;
        let bytes = match found.filter(|found| found.digest == digest) {
            Some(found) => &found.bytes,
            None => {
                let gone =
                    || Refusal::component(format!("is not what serves, and sha256:{digest} is not kept"), "deploy it anew");
                stored = self.shelves.store.and_then(|store| store.get(digest)).ok_or_else(gone)?;
                &stored
            }
        };
        load::load(self.engine, self.settings, bytes, digest.to_owned(), self.shelves.aot, kept).map(Arc::new)
    }

    /// The versions that there are, under the settings as they are now. One that does not load under them keeps its own.
    fn under_settings(&self, before: &Slot, found: &Found) -> (Option<Slot>, Option<Refusal>) {
        let mut slot = before.clone();
        slot.rules = self.settings.release.clone();
        let again = |plugin: &Arc<Plugin>| match plugin.settings().is_like(self.settings) {
            true => Ok(plugin.clone()),
            false => self.load(plugin.digest(), Some(found), before.serving.kv.clone()),
        };
        slot.before = slot.before.map(|plugin| again(&plugin).unwrap_or(plugin));
        if slot.trial.as_ref().is_some_and(|trial| self.settings.source.admits(trial.plugin.digest()).is_err()) {
            slot.end_trial(How::Replaced, "another component is pinned");
        } else if let Some(trial) = &before.trial
            && let Ok(plugin) = again(&trial.plugin)
            && !Arc::ptr_eq(&plugin, &trial.plugin)
        {
            let role = match &trial.role {
                Role::Shadow(_) => Shadow::start(&plugin).map_or(Role::Waiting, Role::Shadow),
                role => role.clone(),
            };
            slot.trial = Some(Arc::new(Trial { plugin, role, ..Trial::clone(trial) }));
        }
        match again(&before.serving) {
            Ok(plugin) => {
                slot.serving = plugin;
                (Some(slot), None)
            }
            // Another file is there: what matters is whether that one goes with the settings.
            Err(_) if found.digest != before.file => (Some(slot), None),
            Err(refusal) => (Some(slot), Some(refusal)),
        }
    }

    /// What was kept of the process before this one.
    fn restored(&self, found: Option<&Found>) -> Option<Slot> {
        let saved = self.saved?;
        let serving = self
            .load(&saved.serving, found, None)
            .inspect_err(|refusal| {
                tracing::error!(
                    plugin = self.settings.name,
                    "the version that served does not any more; the component does: it {refusal}"
                );
            })
            .ok()?;
        let load = |digest: &String| self.load(digest, found, serving.kv.clone()).ok();
        let before = saved.before.as_ref().and_then(load);
        let is_admitted = |digest: &&String| self.settings.source.admits(digest).is_ok();
        let trial = saved.trial.as_ref().map(|trial| &trial.digest).filter(is_admitted).and_then(load);
        Some(Slot::restored(saved, serving, before, trial, self.settings.release.clone()))
    }
}

/// The component is one that does not serve, because it was taken back.
fn taken_back(slot: &Slot) -> Option<Refusal> {
    let is_in_use =
        slot.file == slot.serving.digest() || slot.trial.as_ref().is_some_and(|trial| trial.plugin.digest() == slot.file);
    let ended = slot.taken_back(&slot.file).filter(|_| !is_in_use)?;
    let remedy = format!("put another one there, or run `pointsman plugin promote {} {}`", slot.serving.name(), &slot.file[..12]);
    Some(Refusal::component(format!("was taken back ({})", ended.reason), remedy))
}
