//! What a file of cases may say. The doc comment of a field is its documentation: `docs/plugin-cases.md` is made from them.
//!
//! What it does not do: it holds types, and how what a case says lies over what its file says. `check` holds what a type cannot say.
//!
//! **Invariant:** an unknown key is an error, at every depth; what is not written is not compared.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::expect::Expect;
use crate::config::{Duration, Map, Price};

/// A file of cases, in TOML or (`.json`) in JSON.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// What is given to every case of the file. What a case says itself comes before it: of `config`, `labels`, `examples`, `embeddings`, `kv`,
    /// `statuses`, `services`, `request.headers` and `request.body` entry by entry, of everything else as a whole.
    #[serde(default)]
    pub given: Given,
    /// The cases, `[[case]]` each.
    #[serde(default, rename = "case")]
    pub cases: Vec<Case>,
}

/// One call of a plugin, and what must come of it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows, in words; no other case of the file has the same.
    pub name: String,
    /// What the plugin is asked.
    pub hook: Call,
    /// What there is: the request, and what the host answers.
    #[serde(default)]
    pub given: Given,
    /// What must be decided. Of a decision's parts those are compared that are written; a list is compared as a whole.
    pub expect: Expect,
    /// Parts of the decision that must not be there, such as `["plan.review"]`.
    #[serde(default)]
    pub absent: Vec<String>,
    /// What the call must leave behind.
    #[serde(default)]
    pub leaves: Leaves,
}

/// A function that a plugin exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Call {
    /// `routing.route`: which models.
    Route,
    /// `routing.after-attempt`: what follows an attempt.
    AfterAttempt,
    /// `routing.on-chunk`: may the client have this part of an answer?
    OnChunk,
    /// `prompting.select`: which prompt, which edits.
    Select,
    /// `caching.key`: who shares.
    Key,
    /// `caching.confirm`: may a near hit be served?
    Confirm,
    /// `caching.admit`: may an answer be kept?
    Admit,
    /// `lifecycle.check`: is the configuration one to work with?
    Check,
}

/// What a plugin finds when it is asked. What is not given is not there: no model, no example set, no embedding.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Given {
    /// The plugin's own `config` table.
    pub config: Map<Value>,
    /// What the client has sent, and who it is.
    pub request: Asked,
    /// Labels that earlier plugins of the exchange have left.
    pub labels: Map<String>,
    /// The models that may answer, in order: names, or tables that say more. None: there are no candidates, and every model may be chosen.
    pub models: Option<Vec<Model>>,
    /// What `classify` answers, by example set: each label, and how near the last user message is to it.
    pub examples: Map<Map<f32>>,
    /// Vectors by text. Of another text there is none, and `embed` and `similarity` say `unavailable`.
    pub embeddings: Map<Vec<f32>>,
    /// Every embedding fails like this.
    pub embedder: Option<Embedder>,
    /// What the plugin has kept for the request's tenant: texts, or numbers.
    pub kv: Map<Value>,
    /// When the exchange began, such as `"2026-01-01T12:00:00Z"`, which is the default.
    pub now: Option<Moment>,
    /// How long ago that is. Default: `"0ms"`.
    pub elapsed: Option<Duration>,
    /// `after-attempt`: the attempt that has ended.
    pub attempt: Option<Attempt>,
    /// `after-attempt`, `admit`: the answer.
    pub answer: Option<Answer>,
    /// `confirm`: the near hit.
    pub hit: Option<Hit>,
    /// `on-chunk`: the part of an answer.
    pub batch: Option<Batch>,
    /// How a provider fares, by its name: what `status-of` says of its models. Of another one nothing is known.
    pub statuses: Map<Status>,
    /// What services answer, by URL. Nothing is sent. Another URL is `denied`, or `unreachable` where it is below one of these; without any,
    /// `http` is `unavailable`.
    pub services: Map<Service>,
}

/// A request for a chat completion.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    /// The model that the client asks for. Default: `"auto"`.
    pub model: Option<String>,
    /// The one message, a user's.
    pub message: Option<String>,
    /// All messages, as OpenAI's API has them: `[{ role = "user", content = "…" }]`.
    pub messages: Option<Vec<Value>>,
    /// Further fields of the request's body: `{ max_tokens = 50, stream = true }`.
    pub body: Map<Value>,
    /// The request's headers. Those with credentials are not visible to any plugin.
    pub headers: Map<String>,
    /// Whose request it is. Default: `"default"`.
    pub tenant: Option<String>,
    /// Name of the key that the client has. Default: none.
    pub principal: Option<String>,
    /// The exchange's id, which also seeds `random`. Default: `"case"`.
    pub id: Option<String>,
    /// Tokens of the prompt; otherwise the host's estimate, a quarter of the messages' bytes.
    pub prompt_tokens: Option<u32>,
    /// Time left for the exchange. Default: `"5m"`.
    pub deadline: Option<Duration>,
}

/// A model as `upstreams` shows it.
#[derive(Clone, Debug, PartialEq, JsonSchema)]
pub struct Model {
    /// Its name.
    pub model: String,
    /// Its provider's name. Default: `"local"`.
    pub provider: Option<String>,
    /// Dollars per million tokens: `{ input = 0.05, output = 0.10 }`.
    pub price: Option<Price>,
    /// Endpoints of the pool. Default: 1.
    pub endpoints: Option<u32>,
    /// Requests that run there. Default: 0.
    pub in_flight: Option<u32>,
    /// The share that failed of the last ones, 0 to 1. Default: 0.
    pub failing: Option<f32>,
    /// Time to the first byte in milliseconds. Default: none, as before the first answer.
    pub first_byte_ms: Option<u32>,
}

/// A name alone, or a table.
impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            model: String,
            provider: Option<String>,
            price: Option<Price>,
            endpoints: Option<u32>,
            in_flight: Option<u32>,
            failing: Option<f32>,
            first_byte_ms: Option<u32>,
        }
        let named = |model| Table {
            model,
            provider: None,
            price: None,
            endpoints: None,
            in_flight: None,
            failing: None,
            first_byte_ms: None,
        };
        let Table { model, provider, price, endpoints, in_flight, failing, first_byte_ms } =
            super::expect::name_or_table(deserializer, "a model's name, or a table", named)?;
        Ok(Self { model, provider, price, endpoints, in_flight, failing, first_byte_ms })
    }
}

/// How an embedder fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Embedder {
    /// There is none.
    Unavailable,
    /// Its queue is full.
    Busy,
}

/// A moment, in milliseconds since the Unix epoch; written as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub struct Moment(#[schemars(with = "String")] pub u64);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment = text.parse().ok().and_then(since_epoch);
        let wrong = || serde::de::Error::custom("this is no moment; write one such as \"2026-01-01T12:00:00Z\"");
        moment.map(Self).ok_or_else(wrong)
    }
}

/// Days are counted as in Howard Hinnant's `days_from_civil`: years begin in March, so that a leap day is the last one.
fn since_epoch(moment: toml::value::Datetime) -> Option<u64> {
    let (date, time) = (moment.date?, moment.time?);
    let minutes = match moment.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let year = i64::from(date.year) - i64::from(date.month <= 2);
    let (era, month) = (year.div_euclid(400), (i64::from(date.month) + 9) % 12);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + i64::from(date.day) - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = i64::from(time.hour) * 3_600 + i64::from(time.minute) * 60 + i64::from(time.second.unwrap_or(0));
    let ms = (days * 86_400 + seconds - minutes * 60) * 1_000 + i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    u64::try_from(ms).ok()
}

/// One target's turn.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Attempt {
    /// 1 for the first, which is the default.
    pub number: Option<u32>,
    /// The model that was asked. Default: the first of `models`.
    pub model: Option<String>,
    /// Why there is no answer; none: there is one, and it must be given.
    pub failure: Option<Failure>,
    /// The upstream's status. Default: 200 where there is an answer.
    pub status: Option<u16>,
    /// How long it took. Default: 100.
    pub latency_ms: Option<u32>,
    /// What it has cost, in micro-US-dollars. Default: not known.
    pub cost: Option<u64>,
    /// Targets of the plan that have not had their turn. Default: 0.
    pub left: Option<u32>,
}

/// Why an attempt has no answer.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// Such as `upstream_timeout`, `upstream_unreachable`, `upstream_broken`, `upstream_denied`, `overloaded`.
    pub code: String,
    /// The upstream's status, where it answered.
    #[serde(default)]
    pub status: Option<u16>,
    /// How long it asks to be left alone.
    #[serde(default)]
    pub retry_after_ms: Option<u32>,
}

/// A model's answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Answer {
    /// Its text; the rest of the body is that of a finished chat completion.
    pub text: Option<String>,
    /// Its whole body instead.
    pub body: Option<Map<Value>>,
    /// The mean log-probability of its tokens; none: the model has not said.
    pub mean_logprob: Option<f32>,
    /// More of it is to come: the beginning of a stream.
    pub begun: bool,
}

/// A near hit of the cache.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hit {
    /// The text whose answer it is.
    pub text: String,
    /// The answer's text.
    #[serde(default)]
    pub answer: String,
    /// Default: 0.95.
    #[serde(default)]
    pub similarity: Option<f32>,
    /// How old it is. Default: `"10s"`.
    #[serde(default)]
    pub age: Option<Duration>,
    /// The model that gave it. Default: `"small"`.
    #[serde(default)]
    pub model: Option<String>,
    /// How often it was served. Default: 0.
    #[serde(default)]
    pub hits: u32,
}

/// A part of an answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// The text of each event.
    pub texts: Option<Vec<String>>,
    /// Its events as OpenAI's API has them, instead.
    pub events: Option<Vec<Value>>,
    /// 0 for the first of the answer, which is the default.
    pub index: u32,
    /// Events before it. Default: 0.
    pub before: u32,
    /// The model that answers. Default: the first of `models`.
    pub model: Option<String>,
    /// Since the exchange began. Default: 100.
    pub elapsed_ms: Option<u32>,
    /// Something of the answer has gone to the client.
    pub committed: bool,
    /// Nothing of the answer is still to come.
    pub last: bool,
    /// Something in it could not be read.
    pub missed: bool,
    /// What the plugin gave back at the batch before. Default: nothing.
    pub state: String,
}

/// How a provider fares; what is not written is not known, and one endpoint takes requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Status {
    /// `"closed"` (the default), `"probation"` or `"open"`.
    pub circuit: Circuit,
    /// Endpoints that take requests. Default: all, or none where the circuit is open.
    pub available: Option<u32>,
    /// Endpoints that there are. Default: 1.
    pub endpoints: Option<u32>,
    /// Until the first may be asked again.
    pub retry_after_ms: Option<u32>,
    /// Requests that this node has there.
    pub in_flight: u32,
    /// Requests that wait here.
    pub waiting: u32,
    /// Requests that may run at a time.
    pub limit: Option<u32>,
    /// Requests that the servers answer.
    pub running: Option<u32>,
    /// Requests that wait there.
    pub queued: Option<u32>,
    /// The use of the fullest one's KV memory, 0 to 1.
    pub memory: Option<f32>,
    /// To the first byte, of streamed answers.
    pub first_byte: Option<Latency>,
    /// To the end, of answers that are not streamed.
    pub whole: Option<Latency>,
    /// What is left of the provider's limits.
    pub requests_left: Option<u64>,
    /// The same of tokens.
    pub tokens_left: Option<u64>,
}

/// Do endpoints take requests?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Circuit {
    /// At least one does.
    #[default]
    Closed,
    /// None does but for one request that decides.
    Probation,
    /// None does.
    Open,
}

/// How long answers have taken of late.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Half of them no longer than this.
    pub p50_ms: u32,
    /// 95 of 100 no longer than this.
    pub p95_ms: u32,
}

/// What a service answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Service {
    /// Default: 200.
    pub status: Option<u16>,
    /// Its headers.
    pub headers: Map<String>,
    /// Its body: text, or anything else as JSON.
    pub body: Option<Value>,
    /// No answer, but this.
    pub fails: Option<Trouble>,
}

/// Why a service gives no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Trouble {
    /// Not in time.
    Timeout,
    /// Larger than allowed.
    TooLarge,
    /// No connection.
    Unreachable,
}

/// What a call leaves behind. What is not written is not compared.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Leaves {
    /// Labels of `request.label`, the newest of each name. Those of a plan or a choice are a part of it.
    pub labels: Map<String>,
    /// What is kept for the request's tenant afterwards: texts, or numbers.
    pub kv: Map<Value>,
    /// `on-chunk`: what the plugin wants to find at the next batch.
    pub state: Option<String>,
}

impl Given {
    /// What a case gives, over what its file gives.
    pub(super) fn over(&self, file: &Self) -> Self {
        Self {
            config: laid(&self.config, &file.config),
            request: self.request.over(&file.request),
            labels: laid(&self.labels, &file.labels),
            models: self.models.clone().or_else(|| file.models.clone()),
            examples: laid(&self.examples, &file.examples),
            embeddings: laid(&self.embeddings, &file.embeddings),
            embedder: self.embedder.or(file.embedder),
            kv: laid(&self.kv, &file.kv),
            now: self.now.or(file.now),
            elapsed: self.elapsed.or(file.elapsed),
            attempt: self.attempt.clone().or_else(|| file.attempt.clone()),
            answer: self.answer.clone().or_else(|| file.answer.clone()),
            hit: self.hit.clone().or_else(|| file.hit.clone()),
            batch: self.batch.clone().or_else(|| file.batch.clone()),
            statuses: laid(&self.statuses, &file.statuses),
            services: laid(&self.services, &file.services),
        }
    }
}

impl Asked {
    fn over(&self, file: &Self) -> Self {
        let has_messages = self.message.is_some() || self.messages.is_some();
        let said = if has_messages { self } else { file };
        Self {
            model: self.model.clone().or_else(|| file.model.clone()),
            message: said.message.clone(),
            messages: said.messages.clone(),
            body: laid(&self.body, &file.body),
            headers: laid(&self.headers, &file.headers),
            tenant: self.tenant.clone().or_else(|| file.tenant.clone()),
            principal: self.principal.clone().or_else(|| file.principal.clone()),
            id: self.id.clone().or_else(|| file.id.clone()),
            prompt_tokens: self.prompt_tokens.or(file.prompt_tokens),
            deadline: self.deadline.or(file.deadline),
        }
    }
}

/// Entry by entry, the upper one first.
fn laid<T: Clone>(over: &Map<T>, under: &Map<T>) -> Map<T> {
    let mut all = under.clone();
    all.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let at = |text: &str| text.parse().ok().and_then(since_epoch);
        for (text, expect) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600_500)),
            ("2026-01-01T01:00:00+01:00", Some(1_767_225_600_000)),
            ("2024-12-31T23:59:59Z", Some(1_735_689_599_000)),
            ("2026-01-01", None),
            ("1960-01-01T00:00:00Z", None),
            ("noon", None),
        ] {
            assert_eq!(at(text), expect, "{text}");
        }
    }
}
