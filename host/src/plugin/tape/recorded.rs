//! What a recording has in it: one [`Recorded`] an exchange, and one [`Snapshot`] for all that were served under the same configuration.
//!
//! The contract's own records and variants stand in it with the names that Rust gives them: fields `in_snake_case`, cases `InCamelCase`.
//!
//! What it does not do: it reads and writes no file.
//!
//! **Invariant:** a field that is added has a default, so that what older versions have recorded is read.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Call;
use crate::plugin::bindings::types::RequestHead;
use crate::plugin::bindings::upstreams::{Status, Upstream};
use crate::plugin::load::{Hook, Settings};
use crate::plugin::release::Rules;
use crate::plugin::{Plugin, kv};

/// The version of the format. A file of another one is not read.
pub const FORMAT: u32 = 1;

/// One exchange.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// The digest of the snapshot that it was served under.
    pub configuration: String,
    /// What every call was told of the request.
    pub head: RequestHead,
    /// The headers that plugins can see, those that are redacted by their name among them.
    pub headers: Vec<(String, String)>,
    /// The requests that they were shown, as JSON texts: the client's, then what became of it.
    pub requests: Vec<String>,
    /// The answers that they were shown, as JSON texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Parts of answers that they were shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Heard>,
    /// They were shown further parts, of which nothing was kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The models, by the names that they can be asked for.
    pub models: Vec<Seen>,
    /// Those that may answer, in the order of `upstreams.candidates`.
    pub candidates: Vec<String>,
    /// The plugins' calls, in their order.
    pub calls: Vec<Call>,
    /// How it went on.
    pub outcome: Outcome,
    /// Something was taken out by a rule of the recording.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
}

/// Part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// It is all of an answer that is not streamed; else whole events of a stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// As it came. None: it was taken out by a rule of the recording.
    pub text: Option<String>,
}

/// A model as plugins see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The name that it is asked for by.
    pub name: String,
    /// Routing plugins may choose it.
    pub may_choose: bool,
    /// What `upstreams.get` says; of a model that is off it is the one in its place.
    pub upstream: Upstream,
    /// What `upstreams.status-of` says.
    #[serde(default)]
    pub status: Option<Status>,
}

/// How an exchange went on after its plugins were asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The status that the client got.
    pub status: u16,
    /// How it ended: `whole`, `broken`, `refused`, `left`, `drained`.
    pub ending: String,
    /// The model that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the cache did.
    pub cache: String,
    /// Tokens of the prompt and of the answer, as the upstream counted them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<(u64, u64)>,
    /// Micro-US-dollars, those for answers that the client did not get among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<u64>,
    /// Microseconds until the answer's first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_us: Option<u64>,
    /// Microseconds until the end.
    pub total_us: u64,
    /// The models that were asked, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempted>,
}

/// One attempt.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempted {
    /// The model.
    pub model: String,
    /// The answer's status; none: there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Microseconds until an answer had begun, or failed.
    pub took_us: u64,
    /// What was doubted of the answer, so that another model was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doubt: Option<String>,
}

/// What exchanges were served under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Of everything below.
    pub digest: String,
    /// The plugins, in the order in which they were asked.
    pub plugins: Vec<Facts>,
    /// The models that have a price.
    pub prices: Vec<Valued>,
}

/// A price, in US dollars per million tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Valued {
    /// The model.
    pub model: String,
    /// Of the prompt.
    pub input: f64,
    /// Of the answer.
    pub output: f64,
    /// Of what the upstream had cached of the prompt.
    pub cached_input: f64,
}

/// What a decision of a plugin hangs on, of what its owner has written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// SHA-256 of the component, as hexadecimal digits.
    pub digest: String,
    /// As in the configuration.
    pub hooks: Vec<Hook>,
    /// As in the configuration.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// As in the configuration.
    #[serde(default)]
    pub models: Vec<String>,
    /// As in the configuration.
    #[serde(default)]
    pub grant: Vec<String>,
    /// `on_failure = "fail"`
    #[serde(default)]
    pub fail: bool,
    /// Time for one call.
    pub deadline_ms: u64,
    /// Bytes of linear memory.
    pub memory: usize,
    /// Its own table.
    #[serde(default)]
    pub config: Map<String, Value>,
}

impl From<&Plugin> for Facts {
    fn from(plugin: &Plugin) -> Self {
        let settings = plugin.settings();
        Self {
            name: settings.name.clone(),
            digest: plugin.digest().to_owned(),
            hooks: settings.hooks.clone(),
            tenants: settings.tenants.clone(),
            models: settings.models.clone(),
            grant: settings.grants.clone(),
            fail: settings.fail,
            deadline_ms: settings.deadline.as_millis() as u64,
            memory: settings.memory,
            config: settings.config.clone(),
        }
    }
}

impl Facts {
    /// The same settings for another component.
    pub fn settings(&self, component: &std::path::Path) -> Settings {
        Settings {
            name: self.name.clone(),
            component: component.to_owned(),
            hooks: self.hooks.clone(),
            tenants: self.tenants.clone(),
            models: self.models.clone(),
            grants: self.grant.clone(),
            fail: self.fail,
            deadline: std::time::Duration::from_millis(self.deadline_ms),
            memory: self.memory,
            // A replay has no store.
            kv: kv::Limits { memory: 0, tenant_memory: 0, tenant_entries: 0 },
            // It sends nothing: what was answered is answered again.
            http: None,
            // Nor any other version.
            release: Rules::default(),
            // What is replayed is named by its file, and asked however it fails.
            source: Default::default(),
            quarantine: Default::default(),
            // Nor is any other exchange's instance here.
            reuse: false,
            config: self.config.clone(),
        }
    }
}
