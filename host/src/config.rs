//! The whole configuration as one typed tree: every section, every limit, each with its meaning, unit and default.
//!
//! The doc comment of a field is its documentation everywhere: the JSON schema (`pointsman check --schema`) is made from it.
//! This file holds types and defaults alone. `load` reads a file into them, `validate` holds what a type cannot say
//! (references, ranges, who may listen where), `reload` watches files, `secret` resolves keys.
//!
//! **Invariant:** an unknown key is an error, at every depth.
//! **Invariant:** every duration and size is written with its unit and carries it in its type.
//! **Invariant:** maps keep the order of the file: plugins run in that order.
//! **Invariant:** configuration is a leaf: it uses no other module of the crate.

pub mod allow;
mod cascade;
mod degrade;
mod embedder;
mod endpoint;
mod finding;
mod json;
pub mod load;
mod locate;
mod model;
mod oci;
mod policy;
mod probe;
mod provider;
mod recording;
mod refresh;
mod release;
pub mod reload;
pub mod report;
pub mod schema;
pub mod secret;
pub mod sheet;
mod suggest;
mod tiers;
pub mod unit;
mod validate;

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use cascade::{Cascade, SelfCheck};
pub use degrade::Degrade;
pub use embedder::{Embedder, EmbedderEntry};
pub use endpoint::Endpoint;
pub use finding::Finding;
pub use load::{Loaded, admin, load, load_and, load_text, place};
pub use locate::bare_or_quoted as toml_key;
pub use model::{ConcreteModel, Model, ModelKind, Price, Switch, VirtualModel};
pub use oci::{NoReference, OciReference, is_digest};
pub use policy::{Prefer, Preference, Specialists};
pub use probe::Probe;
pub use provider::{Affinity, Breaker, Concurrency, Continuation, Hedge, HedgeAfter, Provider, ProviderKind, Timeouts};
pub use recording::{Recording, Redact};
pub use refresh::RefreshAhead;
pub use release::{OnChange, Release, Sticky};
pub use report::{Problem, Report};
pub use schema::schema;
pub use secret::{SecretOrString, SecretRef};
pub use tiers::{Disk, Redis, RedisUrl};
pub use unit::{ByteSize, Duration};
pub(crate) use validate::INTERPRETER;

/// A table whose entries the user names. It keeps the order of the file.
pub type Map<T> = indexmap::IndexMap<String, T>;

/// `provider = "built-in"`: the embedder inside pointsman instead of an entry of `[providers]`.
pub const BUILT_IN: &str = "built-in";

/// The configuration of pointsman. A section that is absent is off, except `[listen]` and `[log]`, which have defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `auth = "none"`: anyone who reaches the listener may call, from any address. Without it and without `[keys]`, only a
    /// loopback address may be listened on.
    pub auth: Option<Auth>,
    /// The zone that this gateway stands in: endpoints that have the same `zone`, or none, are asked before others.
    pub zone: Option<String>,
    /// Pays no heed to how long OpenAI's SDKs say they wait for an answer's first byte (`x-stainless-read-timeout`, `x-stainless-timeout`).
    /// For where something between them and here keeps them waiting for longer, by comments in a stream, say. Default false.
    pub ignore_sdk_timeouts: bool,
    /// The folder in which what must outlive a restart is kept: which version of a plugin serves, and the versions themselves. Default: one of
    /// this file's own in `$XDG_STATE_HOME/pointsman`, or `~/.local/state/pointsman`.
    pub state: Option<PathBuf>,
    /// onnxruntime's shared library, for embedders that are computed here. Absent: what ORT_DYLIB_PATH names, what lies beside the model, what
    /// `pointsman model install` has brought, or the system's. A process keeps the one that it has loaded first.
    pub onnxruntime: Option<PathBuf>,
    /// Where clients connect, and what a connection may do.
    pub listen: Listen,
    /// The administrator's listener: /healthz, /readyz, /metrics and the admin API. Absent: off.
    pub admin: Option<Admin>,
    /// The log on standard error.
    pub log: Log,
    /// The vendors' endpoints that requests go to, by name.
    pub providers: Map<Provider>,
    /// What a client may ask for and a plugin may choose, by name.
    pub models: Map<Model>,
    /// The components that decide, by name. They run in the order of the file.
    pub plugins: Map<Plugin>,
    /// The versioned prompts. Absent: off.
    pub prompts: Option<Prompts>,
    /// Example sets for plugins that route by meaning: set → label → texts. A plugin asks which label is nearest.
    pub examples: Map<Map<Vec<String>>>,
    /// Embedders by name, for those that are told more than their name. `cache.semantic.embedder` and models with `provider = "built-in"` name them.
    pub embedders: Map<EmbedderEntry>,
    /// The cache of answers. Absent: off.
    pub cache: Option<CacheConfig>,
    /// How answers become simpler before they become errors. Absent: off.
    pub degrade: Option<Degrade>,
    /// What is kept for `pointsman replay`. Absent: off.
    pub recording: Option<Recording>,
    /// Who may call, by name; `pointsman key new NAME` prints an entry. Empty: everyone is the tenant "default".
    pub keys: Map<Key>,
}

/// What `auth` may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Nobody needs a key.
    None,
}

/// Where clients connect, and what a connection may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// IP address and port. Default 127.0.0.1:8080. Not loopback needs `[keys]` or `auth = "none"`.
    pub address: SocketAddr,
    /// Threads that serve, each with a runtime, a listener and upstream connections of its own. Default: one per core.
    pub threads: Option<usize>,
    /// TLS. Absent: plain HTTP.
    pub tls: Option<Tls>,
    /// From accept to the first complete request head; covers the TLS handshake. Default 5s.
    pub first_request: Duration,
    /// To read one request head; also how long an idle keep-alive connection stays open. Default 30s.
    pub header_read: Duration,
    /// The longest pause between two pieces of a request body. Default 10s.
    pub body_idle: Duration,
    /// The longest time to send a whole request body. Default 60s.
    pub body_total: Duration,
    /// The longest that a client may take nothing of an answer that waits for it; then its connection is closed. Default 60s.
    pub write_idle: Duration,
    /// The largest request body. Default 32MiB.
    pub max_body: ByteSize,
    /// The most header fields of one request. Default 64.
    pub max_headers: usize,
    /// The most connections open at once. Default 10000.
    pub max_connections: usize,
    /// The most connections open at once from one IP address. Default 1000.
    pub max_connections_per_address: usize,
    /// Resident memory of the process at which requests with a body are refused with 503; those of `priority = "batch"` at nine tenths of
    /// it. Absent: none is.
    pub memory: Option<ByteSize>,
    /// How long requests in flight may go on after SIGTERM, or after another process has taken over. Default 30s.
    pub drain: Duration,
    /// A Unix socket at which a process that starts takes the listeners over from the one that runs, in a folder that only their user
    /// may write. Absent: off.
    pub handover: Option<PathBuf>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            threads: None,
            tls: None,
            first_request: Duration::from_secs(5),
            header_read: Duration::from_secs(30),
            body_idle: Duration::from_secs(10),
            body_total: Duration::from_secs(60),
            write_idle: Duration::from_secs(60),
            max_body: ByteSize::mib(32),
            max_headers: 64,
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            memory: None,
            drain: Duration::from_secs(30),
            handover: None,
        }
    }
}

/// TLS on the listener. The files are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The certificate chain, PEM, leaf first.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
    /// Certificates, PEM, of which one must have signed the client's. Absent: clients show none.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}

/// The administrator's listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// IP address and port. Loopback only, unless `key` is set.
    pub address: SocketAddr,
    /// The bearer token that admin requests must carry: `env:NAME` or `file:PATH`. Absent: none is asked for.
    #[serde(default)]
    pub key: Option<SecretRef>,
    /// The most memory for the stories of the last exchanges, which `GET /api/exchanges` and `pointsman explain` tell. Default 0B (none
    /// are kept). 2MiB are about a thousand.
    #[serde(default)]
    pub explain: ByteSize,
    /// A story has the question, and what plugins write into prompts and keys, word by word. Default false.
    #[serde(default)]
    pub explain_texts: bool,
}

/// The log on standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How a line looks. Default human.
    pub format: LogFormat,
    /// What is logged: a level (error, warn, info, debug, trace, off) or directives such as `info,pointsman::plugin=debug`.
    /// Default info.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Human, level: "info".to_owned() }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For a terminal.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// A component that decides something about every request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// The component's file, `.wasm`. When it changes the new one takes over. Or what an OCI registry has:
    /// `oci://REGISTRY/REPOSITORY[:TAG]@sha256:DIGEST`, the manifest's digest; by a tag alone only where `digest` stands beside it.
    pub component: PathBuf,
    /// The only component that is loaded, as `sha256:` and its digest. Absent: any.
    pub digest: Option<String>,
    /// Whose signatures are trusted, as `ed25519:` and the key that `pointsman plugin key new FILE` prints. A component that none of them has signed is
    /// not loaded. Empty or absent: signatures are not looked at.
    #[serde(default)]
    pub trust: Vec<String>,
    /// The plugin that it must be signed as (`pointsman plugin bundle --name`), where it is called otherwise here. Goes with `trust`. Absent: this
    /// plugin's own name.
    pub signed_as: Option<String>,
    /// The largest component that is loaded. Default 32MiB, at most 64MiB.
    #[serde(default = "default_component_size")]
    pub max_component: ByteSize,
    /// What it decides. At least one, none twice.
    pub hooks: Vec<Hook>,
    /// The tenants about whose requests it is asked. Empty or absent: all.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// The models about which it is asked, by the names that clients ask for. Empty or absent: all.
    #[serde(default)]
    pub models: Vec<String>,
    /// What it may use of the host. Default: nothing.
    #[serde(default)]
    pub grant: Vec<Grant>,
    /// What becomes of a request whose plugin failed. Default fall-through.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How long one call may take. Default 5ms, at least 2ms.
    #[serde(default = "default_deadline")]
    pub deadline: Duration,
    /// The most memory of one instance. Default 16MiB, at most 64MiB.
    #[serde(default = "default_plugin_memory")]
    pub memory: ByteSize,
    /// One instance serves one request after another, instead of each request getting a fresh one. For plugins in JavaScript and
    /// Python, which are slow to begin; what such a plugin keeps in its own memory, later requests of other tenants find there.
    /// Default false.
    #[serde(default)]
    pub reuse: bool,
    /// How much it may keep from one request to the next, where `kv` is granted.
    #[serde(default)]
    pub kv: Kept,
    /// Where it may send requests to, where `http` is granted. Absent: nowhere.
    #[serde(default)]
    pub http: Option<Outbound>,
    /// When it is left alone, because it fails.
    #[serde(default)]
    pub quarantine: Quarantine,
    /// How a new version comes into force.
    #[serde(default)]
    pub release: Release,
    /// The plugin's own configuration, given to it as JSON if `config` is granted. Default: empty.
    #[serde(default = "json::empty", deserialize_with = "json::from_table")]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    pub config: serde_json::Value,
}

/// What a plugin may send with `http`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outbound {
    /// `https://host[:port][/path]`: the host, and the beginning of the path up to a slash. A private address only where it stands there itself.
    pub allow: Vec<String>,
    /// Time for one call. The plugin's `deadline` holds as well. Default 1s.
    #[serde(default = "default_call")]
    pub timeout: Duration,
    /// The largest body of a request. Default 256KiB, at most 1MiB.
    #[serde(default = "default_call_size")]
    pub request: ByteSize,
    /// The largest body of an answer. Default 256KiB, at most 1MiB.
    #[serde(default = "default_call_size")]
    pub answer: ByteSize,
    /// Calls of one exchange. Default 4.
    #[serde(default = "default_calls")]
    pub calls: u32,
    /// Calls at a time. Each holds one of the node's 1000 instances. Default 64.
    #[serde(default = "default_calls_at_once")]
    pub at_once: usize,
}

fn default_component_size() -> ByteSize {
    ByteSize::mib(32)
}

fn default_call() -> Duration {
    Duration::from_secs(1)
}

fn default_call_size() -> ByteSize {
    ByteSize::new(256 << 10)
}

fn default_calls() -> u32 {
    4
}

fn default_calls_at_once() -> usize {
    64
}

impl Plugin {
    /// The component where it is a registry's. An error: it was meant to be.
    pub fn oci(&self) -> Option<Result<OciReference, NoReference>> {
        self.component.to_str().filter(|text| text.starts_with(oci::SCHEME)).map(str::parse)
    }
}

/// When a plugin is left alone: at the hook where it fails, and for the tenant whose requests it fails on. Its `on_failure` says what becomes
/// of a request meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Quarantine {
    /// After so many failures in a row. Default 20.
    pub after: u32,
    /// For so long. Then it is on probation: the first call decides, and one failure sends it back. Default 10s.
    pub lasts: Duration,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self { after: 20, lasts: Duration::from_secs(10) }
    }
}

/// What a plugin may keep in its `kv` store, in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Kept {
    /// For all tenants. Default 16MiB.
    pub memory: ByteSize,
    /// For one tenant. Default 1MiB.
    pub tenant_memory: ByteSize,
    /// The most entries of one tenant. Default 4000.
    pub tenant_entries: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { memory: ByteSize::mib(16), tenant_memory: ByteSize::mib(1), tenant_entries: 4_000 }
    }
}

fn default_deadline() -> Duration {
    Duration::from_millis(5)
}

fn default_plugin_memory() -> ByteSize {
    ByteSize::mib(16)
}

/// What a plugin may decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Which model answers.
    Routing,
    /// Which version of a prompt is used.
    Prompting,
    /// What counts as the same request, and who shares an answer.
    Caching,
}

/// What a plugin may use of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Its own `config` table.
    Config,
    /// The log.
    Log,
    /// Counters and histograms of its own.
    Metrics,
    /// The models, their endpoints' health and load.
    Upstreams,
    /// The request's embedding, and the nearest label of an example set.
    Embeddings,
    /// The time.
    Clock,
    /// Random numbers.
    Random,
    /// What it keeps from one request to the next.
    Kv,
    /// Requests to services that `http` allows.
    Http,
}

/// What becomes of a request whose plugin failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It goes on as if the plugin had no opinion.
    #[default]
    FallThrough,
    /// It is answered with an error.
    Fail,
}

/// The versioned prompts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prompts {
    /// The folder that holds them as `NAME/VERSION.j2`.
    pub path: PathBuf,
    /// The version of a prompt that is used when neither the client nor a plugin names one. Default: the newest.
    #[serde(default)]
    pub pin: Map<String>,
}

/// The cache of answers. A reload keeps the entries in memory unless it changes `memory`, `semantic.max_entries` or the embedder, or
/// shortens `ttl`; with `semantic`, any other `ttl` takes them out too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// The most memory for entries. Default 256MiB.
    pub memory: ByteSize,
    /// How long an entry is served. Default 1h.
    pub ttl: Duration,
    /// How long after its `ttl` an answer is still served at once, while it is asked for anew with the priority `batch`. It takes its room
    /// in `memory` until then. What a plugin has given a time of its own is not served after it. Default 0s (never).
    pub stale_while_revalidate: Duration,
    /// How long after its `ttl` an answer takes the place of an error, where no upstream has answered. The longer one of this and
    /// `degrade.stale_for` counts. Default 0s (never, without `[degrade]`).
    pub stale_if_error: Duration,
    /// Answers that are used often are asked for anew before their time is over. Absent: none.
    pub refresh_ahead: Option<RefreshAhead>,
    /// The largest answer that is kept. Default 1MiB.
    pub max_entry: ByteSize,
    /// Tokens in a second of a stored answer whose client has asked for a stream. Default 0 (as fast as the client reads).
    pub replay_rate: u32,
    /// Equal requests that are under way at the same time share one upstream call: those that come later get the answer of the first
    /// as it comes. Default true.
    pub flights: bool,
    /// Hits on requests of equal meaning. Absent: only identical requests hit.
    pub semantic: Option<Semantic>,
    /// A tier behind memory, which nodes share. Absent: none.
    pub redis: Option<Redis>,
    /// A tier behind those, whose entries outlive the process. Absent: none.
    pub disk: Option<Disk>,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            memory: ByteSize::mib(256),
            ttl: Duration::from_secs(3600),
            stale_while_revalidate: Duration::from_secs(0),
            stale_if_error: Duration::from_secs(0),
            refresh_ahead: None,
            max_entry: ByteSize::mib(1),
            replay_rate: 0,
            flights: true,
            semantic: None,
            redis: None,
            disk: None,
        }
    }
}

/// Hits on requests of equal meaning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Semantic {
    /// What turns text into a vector: `built-in`; `minilm`, once `pointsman model install minilm` has run; another model that is installed or
    /// that fastembed knows by its name; an entry of `[embedders]`; or the path of a folder with an ONNX model. Default built-in.
    pub embedder: Embedder,
    /// The share of semantic hits that may be wrong, above 0 and at most 0.5. What is served follows from it, from the calibration and from
    /// audits. Default 0.03.
    pub wrong_hits: f64,
    /// What is known of the embedder's near hits beforehand: a file that `pointsman cache calibrate` has written. Default: the one that
    /// pointsman brings for the embedder; where there is none, no semantic hit is served before audits allow it.
    pub calibration: Option<PathBuf>,
    /// The share of semantic hits that is compared with a fresh answer, asked for beside the exchange as a batch's request, from 0 to 1. Default
    /// 0.05.
    pub audit: f64,
    /// The most entries of one partition; the oldest leave first. Default 20000.
    pub max_entries: usize,
}

impl Default for Semantic {
    fn default() -> Self {
        Self { embedder: Embedder::BuiltIn, wrong_hits: 0.03, calibration: None, audit: 0.05, max_entries: 20_000 }
    }
}

/// Somebody who may call. `pointsman key new NAME` makes a key and prints this entry for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// `blake3:` and 64 hexadecimal digits. The key itself is stored nowhere.
    pub hash: String,
    /// Whose key it is. Tenants never share a cache entry.
    pub tenant: String,
    /// The models that it may ask for. Absent: every model.
    #[serde(default)]
    pub models: Option<Vec<String>>,
    /// How urgent its requests are where they must wait for a provider (`concurrency`). A request may say that it is less urgent, with
    /// the header `x-pointsman-priority`. Default interactive.
    #[serde(default)]
    pub priority: Priority,
    /// What matters most to it, where a virtual model has `prefer = "client"`. A request may say otherwise with the header
    /// `x-pointsman-prefer`. Absent: nothing.
    #[serde(default)]
    pub prefer: Option<Preference>,
}

/// Who waits for an answer, and how urgently; the most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Priority {
    /// Somebody who notices milliseconds: a voice, a machine.
    Realtime,
    /// Somebody who reads.
    #[default]
    Interactive,
    /// Nobody.
    Batch,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Realtime, Self::Interactive, Self::Batch];

    /// The name in configuration, headers and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

impl Config {
    /// Whether callers need no key.
    pub fn is_open(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Key {
    /// The hash's bytes, or `None` where `hash` is not of the form.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let hex = self.hash.strip_prefix("blake3:")?;
        blake3::Hash::from_hex(hex).ok().map(|hash| *hash.as_bytes())
    }
}
