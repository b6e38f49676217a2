//! `[providers.NAME]`: a vendor's or one's own endpoints, how to speak to them, and what to do when they fail.
//!
//! Does not check that endpoints are URLs, or that shares are shares: `validate` does.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::unit::Wrong;
use super::{Duration, Endpoint, Map, Probe, SecretOrString, SecretRef};

/// A vendor's endpoints, and how to speak to them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// The protocol that it speaks.
    pub kind: ProviderKind,
    /// Base URLs, http or https, such as `https://api.openai.com/v1`. Requests go to the least loaded one. An endpoint that is unlike
    /// the others is a table: `{ url = "http://10.0.0.7:8000/v1", weight = 2, zone = "a" }`. It gets requests by its `weight`
    /// (default 1), and those of our own top-level `zone` come first, until they are twice as busy.
    pub endpoints: Vec<Endpoint>,
    /// Which requests go to the same endpoint, as long as that is not much busier than the others: those of a session, or those whose prompts
    /// begin alike for 512 bytes at least. Default none.
    #[serde(default)]
    pub affinity: Affinity,
    /// The request header that names a session, for `affinity = "session"`. Where it is absent, the body's `prompt_cache_key` does, or
    /// else its `user`. Default x-session-id.
    #[serde(default = "default_session_header")]
    pub session_header: String,
    /// The path at each endpoint's host where a model server says how busy it is, such as "/metrics" of vLLM and SGLang: requests that
    /// wait and run, its KV memory, and the adapters that it runs. Its list of models (`/models` below the base URL) is read, too, ten times
    /// less often: where some endpoints list a model and others do not, only those are asked for it. Absent: nobody asks.
    #[serde(default)]
    pub metrics: Option<String>,
    /// How often it is asked, and how soon it must answer. What is older than three times this counts no more. Default 1s, at least
    /// 100ms.
    #[serde(default = "default_metrics_interval")]
    pub metrics_interval: Duration,
    /// The key that the provider asks for: `env:NAME` or `file:PATH`, never the key itself. Absent: none is sent.
    #[serde(default)]
    pub key: Option<SecretRef>,
    /// Several keys in place of `key`. A request goes with the one that has the largest share of its limits left, as `x-ratelimit-*` of
    /// answers tells. One that is used up, refused (429) or not accepted (401) is left, and the others go on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<SecretRef>,
    /// Header fields sent with every request. A value may be `env:NAME` or `file:PATH`.
    #[serde(default)]
    pub headers: Map<SecretOrString>,
    /// How long each phase of a request may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How many times a request that failed before the commit point is tried again, at another endpoint if there is one.
    /// Default 1.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// Further tries per request, counted over all requests of ten seconds, so that retries do not multiply an overload. From 0 to
    /// 1. Above 0 three tries a second are free, however few requests there are; 0: none. Default 0.2.
    #[serde(default = "default_retry_budget")]
    pub retry_budget: f64,
    /// How the provider's servers go on with an answer that was begun elsewhere: "vllm" (its `continue_final_message`, of SGLang too), or
    /// "prefill" (an assistant's message at the end is the beginning of the answer). A stream of text that breaks off after the commit
    /// point is then gone on with by another endpoint, within `retries` and their budget. Absent: it ends in an error event.
    #[serde(default)]
    pub continuation: Option<Continuation>,
    /// Asks a second endpoint too where the first is late. Absent: never.
    #[serde(default)]
    pub hedge: Option<Hedge>,
    /// When an endpoint that fails is left alone, and for how long.
    #[serde(default)]
    pub breaker: Breaker,
    /// Asks endpoints how they are. Absent: only requests tell.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// The share of endpoints in service below which all are asked: better one that may fail than few that drown. From 0 to 1.
    /// Default 0.25.
    #[serde(default = "default_panic")]
    pub panic: f64,
    /// How many requests the endpoints together get at a time, found out from how they bear it, and who waits. Absent: as many as come.
    #[serde(default)]
    pub concurrency: Option<Concurrency>,
    /// The most requests in flight at one endpoint. Absent: no bound.
    #[serde(default)]
    pub in_flight: Option<u32>,
}

/// How a server is made to go on with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Continuation {
    /// `continue_final_message` and no `add_generation_prompt`.
    Vllm,
    /// The last message is the assistant's.
    Prefill,
}

fn default_session_header() -> String {
    "x-session-id".to_owned()
}

fn default_metrics_interval() -> Duration {
    Duration::from_secs(1)
}

impl Provider {
    /// The one key, or all of several.
    pub fn all_keys(&self) -> impl Iterator<Item = &SecretRef> {
        self.key.iter().chain(&self.keys)
    }
}

/// Which requests go to the same endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// Each goes where it costs least.
    #[default]
    None,
    /// Those of a session.
    Session,
    /// Those whose prompts begin alike, so that a model server finds their beginning in its KV cache. What is alike must have 512 bytes at
    /// least.
    Prefix,
}

fn default_retries() -> u32 {
    1
}

fn default_retry_budget() -> f64 {
    0.2
}

fn default_panic() -> f64 {
    0.25
}

/// Hedging: the same request at two endpoints, of which the first to answer wins and the other is cancelled. It costs what the
/// other has done until then.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hedge {
    /// When the second is asked: after a time such as "800ms", or when a share of the provider's answers would have begun, such as
    /// "p95". Plain and streamed answers are counted apart; before 20 have come, there is no percentile and no hedge. Default p95.
    pub after: HedgeAfter,
    /// Requests that may be sent twice, as a share of all: with 0.05 each twentieth, the twentieth first. Default 0.05.
    pub budget: f64,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { after: HedgeAfter::Percentile(95), budget: 0.05 }
    }
}

/// When a second endpoint is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HedgeAfter {
    /// When so many of 100 answers would have begun.
    Percentile(u8),
    /// After so long.
    Time(Duration),
}

impl TryFrom<String> for HedgeAfter {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        match text.strip_prefix('p').and_then(|percent| percent.parse().ok()) {
            Some(percent) if (50..=99).contains(&percent) => Ok(Self::Percentile(percent)),
            Some(_) => Err(Wrong::new("a percentile to hedge after is from p50 to p99", "write \"p95\"")),
            None => text
                .parse()
                .map(Self::Time)
                .map_err(|_| Wrong::new("this is neither a time nor a percentile", "write a time such as \"800ms\", or \"p95\"")),
        }
    }
}

impl From<HedgeAfter> for String {
    fn from(after: HedgeAfter) -> Self {
        match after {
            HedgeAfter::Percentile(percent) => format!("p{percent}"),
            HedgeAfter::Time(time) => time.to_string(),
        }
    }
}

impl JsonSchema for HedgeAfter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HedgeAfter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A time such as \"800ms\", or a percentile from \"p50\" to \"p99\"." })
    }
}

/// Adaptive concurrency: the number of requests at a time grows while streamed answers begin as soon as they do when there is little to do,
/// and shrinks when they take about half as long again, or when a tenth is refused. (How long a plain answer takes says how long it is.) What is beyond it waits: by priority first, then by tenant in turn, then by age. Where the line is full or the
/// wait too long a request gets 503 with `retry-after`, the least urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Concurrency {
    /// Requests at a time, at first. Default 32.
    pub start: u32,
    /// At least so many. Default 4.
    pub min: u32,
    /// At most so many; the same as `min` for a fixed number. Default 1024.
    pub max: u32,
    /// Requests that may wait. Default 256.
    pub queue: u32,
    /// For how long they may wait. Default 5s.
    pub wait: Duration,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { start: 32, min: 4, max: 1024, queue: 256, wait: Duration::from_secs(5) }
    }
}

/// When an endpoint that fails is left alone, and for how long. A failure is a connection that cannot be made or breaks, one of its own
/// `timeouts` that runs out, 408, 425, 429 and 5xx but for 501 and 505. Where it is left alone and has said when it wants to be asked again
/// (`retry-after` and its kin), that holds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row. Default 5.
    pub failures: u32,
    /// The share of a window's requests that must succeed. From 0 to 1. Default 0.5.
    pub success_rate: f64,
    /// Requests below which a window says nothing. Default 20.
    pub min_requests: u32,
    /// How long a window is. Default 10s.
    pub window: Duration,
    /// For how long it is left alone at first; then one request decides, and each time it fails it is twice as long. Default 1s.
    pub open: Duration,
    /// For how long at most, whatever the endpoint asks for. Default 60s.
    pub open_max: Duration,
    /// How long an endpoint that comes back takes to get its full share of requests. Default 10s.
    pub slow_start: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: 5,
            success_rate: 0.5,
            min_requests: 20,
            window: Duration::from_secs(10),
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(60),
            slow_start: Duration::from_secs(10),
        }
    }
}

/// The protocols that pointsman speaks upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub enum ProviderKind {
    /// OpenAI's API, and everything that speaks it: vLLM, Ollama, llama.cpp and many vendors.
    #[serde(rename = "openai")]
    OpenAi,
}

/// How long each phase of an upstream request may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// To resolve the name and open a TCP connection. Default 2s.
    pub connect: Duration,
    /// The TLS handshake. Default 5s.
    pub tls: Duration,
    /// From a try's beginning to the answer's head: connecting, and sending the request, are part of it. Default 5m.
    pub headers: Duration,
    /// From the answer's head to its first content. Default 60s.
    pub first_token: Duration,
    /// The longest pause between two pieces of an answer. Default 30s.
    pub between_tokens: Duration,
    /// One try, from its beginning to the answer's last byte. All tries of a request together have the longest `total` of all providers.
    /// Default 10m.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            tls: Duration::from_secs(5),
            // A plain answer's head comes when the model has said everything.
            headers: Duration::from_secs(300),
            first_token: Duration::from_secs(60),
            between_tokens: Duration::from_secs(30),
            total: Duration::from_secs(600),
        }
    }
}
