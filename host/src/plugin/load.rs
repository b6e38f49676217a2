//! From a component's file to a [`Plugin`] that may take traffic: read, compile, check, link what is granted.
//!
//! What it does not do: it decides nothing about which version serves (`registry`).
//!
//! **Invariant:** nothing here runs on a thread that serves requests.
//! **Invariant:** a component that imports what was not granted, exports none of the hooks that it is configured for, or
//! refuses its configuration, does not load; the error says what to change.

mod effort;
mod precompiled;

use std::io::Read;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use wasmtime::component::{Component, HasSelf, InstancePre, Linker};

use super::bindings::{self, lifecycle, types};
use super::bundle::{self, PublicKey};
use super::engine::Engine;
use super::exports::{Exports, Live};
use super::hooks::Cause;
use super::http;
use super::imports::{self, State};
use super::kv::{self, Kv};
use super::last_words;
use super::limits;
use super::numbers::Numbers;
use super::oci::{self, Kept};
use super::quarantine::{self, Quarantine};
use super::release::Rules;
use super::reuse::Resting;
use crate::config::OciReference;

/// The largest component file that is read.
const MAX_FILE: u64 = 64 << 20;
/// The version of the contract that this host serves.
pub const CONTRACT: &str = "pointsman:plugin@0.1";

/// A hook of the straight line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Which model answers.
    Routing,
    /// Which version of which prompt.
    Prompting,
    /// Which requests share an answer.
    Caching,
}

impl Hook {
    /// All hooks, in the order of [`Numbers::calls`].
    pub const ALL: [Self; 3] = [Self::Routing, Self::Prompting, Self::Caching];

    /// The name in configuration, contract and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Routing => "routing",
            Self::Prompting => "prompting",
            Self::Caching => "caching",
        }
    }
}

/// What the owner has written about one plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The name under `[plugins]`.
    pub name: String,
    /// The component's file.
    pub component: PathBuf,
    /// The hooks that it is called at.
    pub hooks: Vec<Hook>,
    /// The tenants about whose requests it is asked; empty: all.
    pub tenants: Vec<String>,
    /// The models, by the names that clients ask for; empty: all.
    pub models: Vec<String>,
    /// The interfaces of `wit/host.wit` that it may import, by name.
    pub grants: Vec<String>,
    /// Whether a failure of the plugin fails the exchange.
    pub fail: bool,
    /// Time for one call.
    pub deadline: Duration,
    /// Bytes of linear memory.
    pub memory: usize,
    /// Whether an instance serves one exchange after another.
    pub reuse: bool,
    /// How much it may keep in `kv`.
    pub kv: kv::Limits,
    /// Where it may send to with `http`; none: nowhere.
    pub http: Option<http::Limits>,
    /// Where its component comes from, and what is asked of it.
    pub source: Source,
    /// When it is left alone, because it fails.
    pub quarantine: quarantine::Rules,
    /// How its versions are released.
    pub release: Rules,
    /// Its own `config` table.
    pub config: serde_json::Map<String, serde_json::Value>,
}

impl Settings {
    /// Does a version that was loaded under these go with those? How it is released changes nothing about it.
    pub fn is_like(&self, other: &Self) -> bool {
        Self { release: other.release.clone(), ..self.clone() } == *other
    }

    /// Is it asked about this tenant's requests for this model?
    pub(super) fn is_for(&self, tenant: &str, model: &str) -> bool {
        let has = |list: &[String], name: &str| list.is_empty() || list.iter().any(|own| own == name);
        has(&self.tenants, tenant) && has(&self.models, model)
    }
}

/// Where a component comes from, and what is asked of it. By default it is a file, and anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source {
    /// It is a registry's.
    pub oci: Option<OciReference>,
    /// The only digest that it may have.
    pub pin: Option<String>,
    /// Who must have signed it; empty: nobody.
    pub trust: Vec<PublicKey>,
    /// The name that it must be signed for; none: the plugin's own.
    pub signed_as: Option<String>,
    /// Bytes that it may have; none: as many as any component.
    pub max_size: Option<u64>,
}

impl Source {
    /// Is this the version that is pinned, if one is?
    ///
    /// # Errors
    /// Another one is.
    pub fn admits(&self, digest: &str) -> Result<(), Refusal> {
        match &self.pin {
            Some(pin) if pin != digest => {
                let reason = format!("is sha256:{digest}, and sha256:{pin} is pinned");
                Err(Refusal::new("digest", reason, "put the pinned component there, or pin this one"))
            }
            _ => Ok(()),
        }
    }
}

/// Why a component is not in force.
#[derive(Debug, thiserror::Error)]
#[error("plugin `{plugin}` ({}): {refusal}", file.display())]
pub struct LoadError {
    /// The plugin's name.
    pub plugin: String,
    /// Its component's file.
    pub file: PathBuf,
    /// What is wrong, and what to do.
    pub refusal: Refusal,
}

/// What is wrong with a component, as something that is said of its file, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct Refusal {
    /// The key in the plugin's section that does not go with the component.
    pub key: &'static str,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl Refusal {
    pub(super) fn new(key: &'static str, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { key, reason: reason.into(), remedy: remedy.into() }
    }

    /// The file itself is not what it should be.
    pub(super) fn component(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new("component", reason, remedy)
    }
}

/// What makes a component anew.
const BUILD: &str = "build it with `pointsman plugin build DIR`";

/// One version of one plugin, as its instances know it.
pub struct Version {
    pub(super) settings: Settings,
    digest: String,
    label: String,
    config: Vec<(String, String)>,
    document: String,
    /// What is counted about it.
    pub numbers: Numbers,
    /// What it keeps, where it may: one store for all versions of a name.
    pub kv: Option<Arc<Kv>>,
    /// Its outbound calls that may be under way.
    pub(super) places: http::Places,
}

/// One version of one plugin, ready to be called.
pub struct Plugin {
    /// Apart, since instances that rest in `resting` hold it.
    version: Arc<Version>,
    info: lifecycle::Info,
    pub(super) engine: Engine,
    /// The component with its imports in place.
    pub(super) pre: InstancePre<State>,
    /// Where its hooks are.
    pub(super) exports: Exports,
    /// The guest may wait in a host function, so that the epoch alone does not end its call.
    pub(super) waits: bool,
    /// Where and for whom it is left alone, because it fails.
    pub quarantine: Quarantine,
    /// Its instances between exchanges; none where each exchange gets a fresh one.
    pub(super) resting: Option<Resting>,
}

impl Deref for Plugin {
    type Target = Version;

    fn deref(&self) -> &Version {
        &self.version
    }
}

impl Version {
    /// The plugin's name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// SHA-256 of the component, as hexadecimal digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// `name@` and the first twelve digits of the digest: what headers, logs and metrics show.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What its owner has written.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn config(&self, key: &str) -> Option<&str> {
        self.config.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    pub(super) fn config_document(&self) -> &str {
        &self.document
    }
}

impl Plugin {
    /// What the component says of itself.
    pub fn info(&self) -> &lifecycle::Info {
        &self.info
    }

    /// What an instance begins with that knows no exchange.
    pub(super) fn state(&self) -> State {
        State::new(self.version.clone())
    }

    /// An instance. Start code runs here, so the clock does too.
    pub(super) async fn instantiate(&self, patience: Duration, state: State) -> wasmtime::Result<Live> {
        let mut store = wasmtime::Store::new(&self.engine, state);
        limits::apply(&mut store);
        limits::start(&mut store, patience, self.engine.is_metered());
        let instance = self.pre.instantiate_async(&mut store).await?;
        self.numbers.instances.add(1);
        Ok(Live::new(store, instance))
    }

    /// An instance that has done its work for an exchange, and is sound.
    pub(super) fn give_back(&self, live: Live) {
        if let Some(resting) = &self.resting {
            resting.put(live);
        }
    }
}

/// Reads a component where it is, and its digest. A pin is kept to.
pub(super) fn read(settings: &Settings, pulled: &Kept) -> Result<(Vec<u8>, String), Refusal> {
    let bytes = match &settings.source.oci {
        Some(reference) => pull(reference, settings.source.pin.as_deref(), pulled)?,
        None => read_file(&settings.component)?,
    };
    let most = settings.source.max_size.unwrap_or(MAX_FILE);
    if bytes.len() as u64 > most {
        let reason = format!("has {} bytes, more than the {most} that it may have", bytes.len());
        return Err(Refusal::new(
            "max_component",
            reason,
            "name the component's file, make it smaller, or allow for more with `max_component`",
        ));
    }
    let digest = digest_of(&bytes);
    settings.source.admits(&digest)?;
    Ok((bytes, digest))
}

/// By a pin what was pulled is found without a word of the registry's.
fn pull(reference: &OciReference, pin: Option<&str>, pulled: &Kept) -> Result<Vec<u8>, Refusal> {
    if let Some(bytes) = pin.and_then(|pin| pulled.get(pin)) {
        return Ok(bytes);
    }
    oci::pull(reference, pulled).map_err(|error| {
        let remedy = "see that the registry has it (`pointsman plugin push`), and that this machine may pull it";
        Refusal::component(format!("cannot be pulled: {error}"), remedy)
    })
}

fn read_file(file: &Path) -> Result<Vec<u8>, Refusal> {
    let unreadable = |error: std::io::Error| Refusal::component(format!("cannot be read: {error}"), BUILD);
    // Whoever opened a pipe would wait for somebody who writes to it.
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err(Refusal::component("is no file", "name the component's file"));
    }
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(unreadable)?;
    // Whatever its size is said to be, and while it grows.
    opened.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        let reason = format!("has more than {MAX_FILE} bytes, which is the most that any component may have");
        return Err(Refusal::component(reason, "name the component's file, or make it smaller"));
    }
    Ok(bytes)
}

/// The digest of what a component came as.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compiles (or takes from the cache folder `aot`), links and checks one component. `kept` is what the version before it keeps.
pub(super) fn load(
    engine: &Engine,
    settings: &Settings,
    bytes: &[u8],
    digest: String,
    aot: Option<&Path>,
    kept: Option<Arc<Kv>>,
) -> Result<Plugin, Refusal> {
    bundle::check(bytes, &settings.name, &settings.grants, &settings.source)?;
    let component = precompiled::component(engine, bytes, aot).map_err(|error| explain(&error, bytes))?;
    let linker = link(engine, &component, settings)?;
    let pre = linker.instantiate_pre(&component).map_err(|error| {
        let reason = format!("does not fit this host's contract ({CONTRACT}): {error:#}");
        Refusal::component(reason, "rebuild it against the host's wit/")
    })?;
    let exports = Exports::find(&component, &settings.hooks).map_err(|hook| {
        let reason = format!("does not export the hook `{}` of {CONTRACT}", hook.name());
        Refusal::new("hooks", reason, "take it out of `hooks`, or implement it")
    })?;
    let imports = |prefix: &str| component.component_type().imports(engine).any(|(name, _)| name.starts_with(prefix));
    let config = settings
        .config
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
        .collect();
    let version = Version {
        label: format!("{}@{}", settings.name, &digest[..12]),
        digest,
        config,
        document: serde_json::Value::Object(settings.config.clone()).to_string(),
        numbers: Numbers::default(),
        kv: settings.grants.iter().any(|grant| grant == "kv").then(|| kept.unwrap_or_default()),
        places: Arc::new(tokio::sync::Semaphore::new(settings.http.as_ref().map_or(0, |http| http.at_once))),
        settings: settings.clone(),
    };
    let mut plugin = Plugin {
        version: Arc::new(version),
        info: lifecycle::Info { name: String::new(), version: String::new(), description: String::new() },
        engine: engine.clone(),
        pre,
        exports,
        waits: imports("pointsman:plugin/embeddings@") || imports("pointsman:plugin/http@") || imports("wasi:"),
        quarantine: Quarantine::new(settings.quarantine),
        resting: settings.reuse.then(|| Resting::new(engine.cores)),
    };
    plugin.info = ask(&plugin)?;
    engine.expects(settings.deadline);
    Ok(plugin)
}

/// `describe` and `check`, in an instance of their own; where instances are reused, the first of them.
fn ask(plugin: &Plugin) -> Result<lifecycle::Info, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|error| Refusal::component(format!("cannot be checked: {error}"), "try again"))?;
    // A check may do more than a hook: it is not on anybody's way.
    let patience = plugin.settings.deadline.max(Duration::from_millis(200));
    let asked = runtime.block_on(async {
        let indices = lifecycle::GuestIndices::new(&plugin.pre)?;
        let _running = plugin.engine.running();
        let answers = async {
            let mut live = plugin.instantiate(patience, plugin.state()).await?;
            let guest = indices.load(&mut live.store, &live.instance)?;
            plugin.exports.check(&mut live)?;
            let info = guest.call_describe(&mut live.store).await?;
            let check = guest.call_check(&mut live.store).await;
            let check = check.map_err(|error| last_words::with(error, &live.store))?;
            if check.is_ok() {
                warm(plugin, live, &indices, patience).await?;
            }
            Ok((info, check))
        };
        tokio::time::timeout(patience * 2, answers)
            .await
            .unwrap_or_else(|_| Err(wasmtime::format_err!("no answer in {patience:?}")))
    });
    const MEND: &str = "mend its `describe` and `check`";
    let (info, check) = asked.map_err(|error| match Cause::of(&error) {
        Cause::Memory => Refusal::new(
            "memory",
            format!("needs more than the {} KiB that it may have: {}", plugin.settings.memory >> 10, last_words::told(&error)),
            "write more, at most \"64MiB\"",
        ),
        _ => Refusal::component(format!("failed while it was checked: {}", last_words::told(&error)), MEND),
    })?;
    check.map_err(|error| match error {
        types::PluginError::Config(reason) => {
            Refusal::new("config", format!("refuses its configuration: {reason}"), "change its `config` table")
        }
        types::PluginError::Unavailable(reason) | types::PluginError::Internal(reason) => {
            Refusal::component(format!("failed its own check: {reason}"), MEND)
        }
    })?;
    Ok(info)
}

/// One instance for each core that serves, so that nobody's first call waits for one. Each has been checked: what a guest sets up when it
/// is first asked is there.
async fn warm(plugin: &Plugin, first: Live, indices: &lifecycle::GuestIndices, patience: Duration) -> wasmtime::Result<()> {
    let Some(resting) = &plugin.resting else { return Ok(()) };
    resting.stock(first);
    for _ in 1..resting.count() {
        let mut live = plugin.instantiate(patience, plugin.state()).await?;
        let guest = indices.load(&mut live.store, &live.instance)?;
        if guest.call_check(&mut live.store).await?.is_err() {
            // It has said otherwise a moment ago, so what it says hangs on something else: the exchange will see.
            break;
        }
        resting.stock(live);
    }
    Ok(())
}

/// The interfaces that were granted, and WASI for those that import it.
fn link(engine: &Engine, component: &Component, settings: &Settings) -> Result<Linker<State>, Refusal> {
    let mut linker = Linker::new(engine);
    let mut add = |name: &str| -> wasmtime::Result<()> {
        type Own = HasSelf<State>;
        match name {
            "types" => types::add_to_linker::<_, Own>(&mut linker, |state| state),
            "request-data" => bindings::request_data::add_to_linker::<_, Own>(&mut linker, |state| state),
            "config" => bindings::config::add_to_linker::<_, Own>(&mut linker, |state| state),
            "log" => bindings::log::add_to_linker::<_, Own>(&mut linker, |state| state),
            "metrics" => bindings::metrics::add_to_linker::<_, Own>(&mut linker, |state| state),
            "upstreams" => bindings::upstreams::add_to_linker::<_, Own>(&mut linker, |state| state),
            "embeddings" => bindings::embeddings::add_to_linker::<_, Own>(&mut linker, |state| state),
            "clock" => bindings::clock::add_to_linker::<_, Own>(&mut linker, |state| state),
            "random" => bindings::random::add_to_linker::<_, Own>(&mut linker, |state| state),
            "kv" => bindings::kv::add_to_linker::<_, Own>(&mut linker, |state| state),
            "http" => bindings::http::add_to_linker::<_, Own>(&mut linker, |state| state),
            _ => Ok(()),
        }
    };
    let unlinked = |error: wasmtime::Error| Refusal::component(format!("cannot be linked: {error:#}"), BUILD);
    let mut wasi = false;
    for (name, _) in component.component_type().imports(engine) {
        let bare = name.split('@').next().unwrap_or(name);
        match bare.strip_prefix("pointsman:plugin/") {
            Some(interface @ ("types" | "request-data")) => add(interface).map_err(unlinked)?,
            Some(interface) if settings.grants.iter().any(|grant| grant == interface) => add(interface).map_err(unlinked)?,
            Some(interface) => {
                return Err(Refusal::new(
                    "grant",
                    format!("imports `{interface}`, which is not granted"),
                    format!("if it may have it, add \"{interface}\" to `grant`"),
                ));
            }
            None if bare.starts_with("wasi:") => wasi = true,
            None => {
                let reason = format!("imports `{name}`, which this host does not offer");
                return Err(Refusal::component(reason, "build it against the host's wit/ alone"));
            }
        }
    }
    if wasi {
        imports::wasi::add(&mut linker).map_err(unlinked)?;
    }
    Ok(linker)
}

/// Says in the author's words what is wrong with bytes that are no component.
fn explain(error: &wasmtime::Error, bytes: &[u8]) -> Refusal {
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Refusal::component("is a core module, not a component", BUILD);
    }
    if !bytes.starts_with(b"\0asm") {
        return Refusal::component("is not WebAssembly", "name the component's file");
    }
    if let Some(excess) = error.downcast_ref::<effort::Excess>() {
        return Refusal::component(
            excess.to_string(),
            "make it of smaller parts; no toolchain for plugins makes such code by itself",
        );
    }
    Refusal::component(format!("does not compile: {error:#}"), BUILD)
}
