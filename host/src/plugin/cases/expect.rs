//! Decisions as a case writes them. The same types say what is expected and what has come, so the two can be compared field by field.
//!
//! What it does not do: it compares nothing (`compare`), and asks nobody (`run`).
//!
//! **Invariant:** what has come has every field, an absent one as null; what is expected has those that are written.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::file::Call;
use crate::config::Map;
use crate::plugin::bindings::{caching, prompting, routing, types};
use crate::plugin::hooks::{First, Flow};

/// What a plugin has decided: one word, or one word and a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Expect {
    /// `route`, `select`, `key`: no opinion.
    Pass,
    /// `route`: these models, in this order.
    Plan(Plan),
    /// `route`: no opinion on models, and the answer is observed.
    Observe(Observe),
    /// `route`, `select`, `after-attempt`, `on-chunk`: a refusal that the client sees.
    Reject(Reject),
    /// `after-attempt`: the client gets this answer.
    Accept,
    /// `after-attempt`: the plan's next target.
    FallBack,
    /// `after-attempt`: the same target again, after so many milliseconds.
    Again(u32),
    /// `after-attempt`, `on-chunk`: this model, before those that are left.
    Escalate(Target),
    /// `on-chunk`: the client gets the batch, and the plugin is asked about the next one.
    GoOn,
    /// `on-chunk`: the client gets the batch and all that follows.
    Enough,
    /// `on-chunk`: the answer ends before the batch, with `"content-filter"` or `"length"`.
    Stop(Ending),
    /// `select`: a prompt of the registry.
    Choose(Choice),
    /// `select`: changes in the request.
    Rewrite(Rewrite),
    /// `key`: past the cache.
    Bypass,
    /// `key`: who shares what.
    Key(Key),
    /// `key`: look up, do not store.
    ReadOnly(Key),
    /// `key`: store, do not look up.
    Refresh(Key),
    /// `confirm`: the near hit is served.
    Serve,
    /// `confirm`: it is not.
    Veto,
    /// `confirm`: it is not, and goes.
    Evict,
    /// `admit`: kept for as long as its key says.
    Keep,
    /// `admit`: kept for so many milliseconds at most.
    KeepFor(u32),
    /// `admit`: not kept.
    Refuse,
    /// `check`: the configuration is accepted.
    Good,
    /// Any: the plugin fails, or refuses its configuration.
    Fails(Fails),
}

/// A plan of `route`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// All of them, in order: names, or tables that say more.
    pub targets: Option<Vec<Target>>,
    /// Headers for the upstream.
    pub headers: Option<Map<String>>,
    /// Why.
    pub reason: Option<String>,
    /// What is recorded.
    pub labels: Option<Map<String>>,
    /// What `after-attempt` is asked about.
    pub review: Option<Review>,
    /// When `on-chunk` is asked.
    pub observe: Option<Observe>,
}

/// When `on-chunk` is asked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Observe {
    /// After so many events.
    pub events: Option<u32>,
    /// After so many milliseconds.
    pub ms: Option<u32>,
}

impl From<routing::Observe> for Observe {
    fn from(how: routing::Observe) -> Self {
        Self { events: how.events, ms: how.ms }
    }
}

/// Why an answer is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Of what it says.
    ContentFilter,
    /// Of its length.
    Length,
}

/// A model, and how long it may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Target {
    /// Its name.
    pub model: Option<String>,
    /// For the whole answer.
    pub timeout_ms: Option<u32>,
    /// Until the first byte.
    pub first_byte_timeout_ms: Option<u32>,
}

/// A name alone, or a table.
impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        struct Table {
            model: Option<String>,
            timeout_ms: Option<u32>,
            first_byte_timeout_ms: Option<u32>,
        }
        let named = |model| Table { model: Some(model), ..Table::default() };
        let Table { model, timeout_ms, first_byte_timeout_ms } =
            name_or_table(deserializer, "a model's name, or a table", named)?;
        Ok(Self { model, timeout_ms, first_byte_timeout_ms })
    }
}

/// What `after-attempt` is asked about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Review {
    /// Answers, too.
    pub answers: Option<bool>,
    /// With log-probabilities.
    pub logprobs: Option<bool>,
    /// Of a stream, after so many tokens.
    pub tokens: Option<u32>,
}

/// A refusal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reject {
    /// 400 to 499, or 503.
    pub status: Option<u16>,
    /// For programs.
    pub code: Option<String>,
    /// For people.
    pub message: Option<String>,
    /// When to come again.
    pub retry_after_ms: Option<u32>,
}

/// A prompt of the registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Choice {
    /// Its name.
    pub prompt: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// The experiment that it was chosen by.
    pub experiment: Option<String>,
    /// The experiment's arm.
    pub arm: Option<String>,
    /// What is recorded.
    pub labels: Option<Map<String>>,
}

/// Changes in a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// The prompt that is rendered before the edits, or recorded only.
    pub choice: Option<Choice>,
    /// All of them, in order.
    pub edits: Option<Vec<Edit>>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    /// A message before all others.
    Prepend(Message),
    /// A message after all others.
    Append(Message),
    /// The text of the first system or developer message.
    ReplaceSystem(String),
    /// The text of one message.
    Replace(Replace),
    /// The message at this index.
    Remove(u32),
    /// A field of the body.
    SetParameter(Parameter),
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Message {
    /// system, developer, user, assistant or tool.
    pub role: Option<String>,
    /// Its text.
    pub text: Option<String>,
}

/// A message's new text.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Replace {
    /// Which message, from 0.
    pub index: Option<u32>,
    /// Its text.
    pub text: Option<String>,
}

/// A field of the body, and its value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Parameter {
    /// The field.
    pub name: Option<String>,
    /// Its value.
    pub value: Option<Value>,
}

/// What another request must have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Key {
    /// Who shares: `"tenant"`, `"principal"`, or `{ custom = "…" }`.
    pub scope: Option<Scope>,
    /// What stands for the last user message's text.
    pub exact: Option<Vec<String>>,
    /// Near hits.
    pub semantic: Option<Semantic>,
    /// How long an answer is kept.
    pub ttl_ms: Option<u32>,
    /// The generation that must be the same.
    pub generation: Option<String>,
    /// `admit` is asked.
    pub admit: Option<bool>,
}

/// Who shares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// The tenant's requests.
    Tenant,
    /// Those of one key.
    Principal,
    /// Those of a part of the tenant.
    Custom(String),
}

/// What a near hit must have in common.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Semantic {
    /// The text that is embedded.
    pub text: Option<String>,
    /// What must be equal.
    pub partition: Option<Vec<String>>,
    /// The least cosine.
    pub min_similarity: Option<f32>,
    /// `confirm` is asked.
    pub confirm: Option<bool>,
}

/// A failure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fails {
    /// `config` (it refuses its configuration), `error` (of its own), `trap`, `deadline`, `memory`, `output` (what the contract does not
    /// allow).
    pub cause: Option<String>,
    /// A part of what is said of it.
    pub reason: Option<String>,
}

impl Expect {
    /// Can this be the answer to that call?
    pub(super) fn fits(&self, call: Call) -> bool {
        let calls: &[Call] = match self {
            Self::Pass => &[Call::Route, Call::Select, Call::Key],
            Self::Reject(_) => &[Call::Route, Call::Select, Call::AfterAttempt, Call::OnChunk],
            Self::Plan(_) | Self::Observe(_) => &[Call::Route],
            Self::Accept | Self::FallBack | Self::Again(_) => &[Call::AfterAttempt],
            Self::Escalate(_) => &[Call::AfterAttempt, Call::OnChunk],
            Self::GoOn | Self::Enough | Self::Stop(_) => &[Call::OnChunk],
            Self::Choose(_) | Self::Rewrite(_) => &[Call::Select],
            Self::Bypass | Self::Key(_) | Self::ReadOnly(_) | Self::Refresh(_) => &[Call::Key],
            Self::Serve | Self::Veto | Self::Evict => &[Call::Confirm],
            Self::Keep | Self::KeepFor(_) | Self::Refuse => &[Call::Admit],
            Self::Good => &[Call::Check],
            Self::Fails(_) => return true,
        };
        calls.contains(&call)
    }
}

impl Call {
    /// What it can come to, in a case's words.
    pub(super) fn answers(self) -> &'static str {
        match self {
            Self::Route => "pass, plan, observe, reject, fails",
            Self::AfterAttempt => "accept, fall-back, again, escalate, reject, fails",
            Self::OnChunk => "go-on, enough, stop, escalate, reject, fails",
            Self::Select => "pass, choose, rewrite, reject, fails",
            Self::Key => "pass, bypass, key, read-only, refresh, fails",
            Self::Confirm => "serve, veto, evict, fails",
            Self::Admit => "keep, keep-for, refuse, fails",
            Self::Check => "good, fails",
        }
    }
}

/// Of several labels of one name the newest counts.
fn pairs(pairs: Vec<(String, String)>) -> Option<Map<String>> {
    Some(pairs.into_iter().collect())
}

impl From<routing::Decision> for Expect {
    fn from(said: routing::Decision) -> Self {
        match said {
            routing::Decision::Pass => Self::Pass,
            routing::Decision::Plan(plan) => Self::Plan(Plan {
                targets: Some(plan.targets.into_iter().map(Target::from).collect()),
                headers: pairs(plan.headers),
                reason: Some(plan.reason),
                labels: pairs(plan.labels),
                review: plan.review.map(|review| Review {
                    answers: Some(review.answers),
                    logprobs: Some(review.logprobs),
                    tokens: review.tokens,
                }),
                observe: plan.observe.map(Observe::from),
            }),
            routing::Decision::Observe(how) => Self::Observe(how.into()),
            routing::Decision::Reject(rejection) => Self::Reject(rejection.into()),
        }
    }
}

impl From<routing::NextStep> for Expect {
    fn from(said: routing::NextStep) -> Self {
        match said {
            routing::NextStep::Accept => Self::Accept,
            routing::NextStep::FallBack => Self::FallBack,
            routing::NextStep::Again(ms) => Self::Again(ms),
            routing::NextStep::Escalate(target) => Self::Escalate(target.into()),
            routing::NextStep::Reject(rejection) => Self::Reject(rejection.into()),
        }
    }
}

impl From<Flow> for Expect {
    fn from(said: Flow) -> Self {
        match said {
            Flow::GoOn => Self::GoOn,
            // What has failed is told as a failure.
            Flow::Enough | Flow::Unseen => Self::Enough,
            Flow::Stop(routing::Ending::ContentFilter) => Self::Stop(Ending::ContentFilter),
            Flow::Stop(routing::Ending::Length) => Self::Stop(Ending::Length),
            Flow::Reject(rejection) => Self::Reject(rejection.into()),
        }
    }
}

impl From<First> for Expect {
    fn from(said: First) -> Self {
        match said {
            First::Flow(flow) => flow.into(),
            First::Escalate(target) => Self::Escalate(target.into()),
        }
    }
}

impl From<prompting::Outcome> for Expect {
    fn from(said: prompting::Outcome) -> Self {
        match said {
            prompting::Outcome::Pass => Self::Pass,
            prompting::Outcome::Choose(choice) => Self::Choose(choice.into()),
            prompting::Outcome::Rewrite(rewrite) => Self::Rewrite(Rewrite {
                choice: rewrite.choice.map(Choice::from),
                edits: Some(rewrite.edits.into_iter().map(Edit::from).collect()),
            }),
            prompting::Outcome::Reject(rejection) => Self::Reject(rejection.into()),
        }
    }
}

impl From<caching::Directive> for Expect {
    fn from(said: caching::Directive) -> Self {
        match said {
            caching::Directive::Pass => Self::Pass,
            caching::Directive::Bypass => Self::Bypass,
            caching::Directive::Key(key) => Self::Key(key.into()),
            caching::Directive::ReadOnly(key) => Self::ReadOnly(key.into()),
            caching::Directive::Refresh(key) => Self::Refresh(key.into()),
        }
    }
}

impl From<caching::Verdict> for Expect {
    fn from(said: caching::Verdict) -> Self {
        match said {
            caching::Verdict::Serve => Self::Serve,
            caching::Verdict::Veto => Self::Veto,
            caching::Verdict::Evict => Self::Evict,
        }
    }
}

impl From<types::Target> for Target {
    fn from(target: types::Target) -> Self {
        Self { model: Some(target.model), timeout_ms: target.timeout_ms, first_byte_timeout_ms: target.first_byte_timeout_ms }
    }
}

impl From<types::Rejection> for Reject {
    fn from(rejection: types::Rejection) -> Self {
        Self {
            status: Some(rejection.status),
            code: Some(rejection.code),
            message: Some(rejection.message),
            retry_after_ms: rejection.retry_after_ms,
        }
    }
}

impl From<prompting::PromptChoice> for Choice {
    fn from(choice: prompting::PromptChoice) -> Self {
        let (experiment, arm) = choice.experiment.unzip();
        Self { prompt: Some(choice.prompt.name), version: choice.prompt.version, experiment, arm, labels: pairs(choice.labels) }
    }
}

impl From<prompting::Edit> for Edit {
    fn from(edit: prompting::Edit) -> Self {
        match edit {
            prompting::Edit::Prepend(message) => Self::Prepend(message.into()),
            prompting::Edit::Append(message) => Self::Append(message.into()),
            prompting::Edit::ReplaceSystem(text) => Self::ReplaceSystem(text),
            prompting::Edit::Replace((index, text)) => Self::Replace(Replace { index: Some(index), text: Some(text) }),
            prompting::Edit::Remove(index) => Self::Remove(index),
            prompting::Edit::SetParameter((name, value)) => Self::SetParameter(Parameter {
                name: Some(name),
                // Text that is no JSON is shown as it is: the gateway would refuse it.
                value: Some(serde_json::from_str(&value).unwrap_or(Value::String(value))),
            }),
        }
    }
}

impl From<types::Message> for Message {
    fn from(message: types::Message) -> Self {
        let role = match message.role {
            types::Role::System => "system",
            types::Role::Developer => "developer",
            types::Role::User => "user",
            types::Role::Assistant => "assistant",
            types::Role::Tool => "tool",
        };
        Self { role: Some(role.to_owned()), text: Some(message.text) }
    }
}

impl From<caching::CacheKey> for Key {
    fn from(key: caching::CacheKey) -> Self {
        Self {
            scope: Some(match key.scope {
                caching::Scope::Tenant => Scope::Tenant,
                caching::Scope::Principal => Scope::Principal,
                caching::Scope::Custom(part) => Scope::Custom(part),
            }),
            exact: key.exact,
            semantic: key.semantic.map(|near| Semantic {
                text: near.text,
                partition: Some(near.partition),
                min_similarity: near.min_similarity,
                confirm: Some(near.confirm),
            }),
            ttl_ms: key.ttl_ms,
            generation: key.generation,
            admit: Some(key.admit),
        }
    }
}

/// A text, which `named` makes a `T` of, or a table of a `T`'s own fields.
pub(super) fn name_or_table<'de, D, T>(deserializer: D, expecting: &'static str, named: fn(String) -> T) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    struct Either<T> {
        expecting: &'static str,
        named: fn(String) -> T,
        of: PhantomData<T>,
    }
    impl<'de, T: DeserializeOwned> Visitor<'de> for Either<T> {
        type Value = T;
        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str(self.expecting)
        }
        fn visit_str<E>(self, name: &str) -> Result<T, E> {
            Ok((self.named)(name.to_owned()))
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Either { expecting, named, of: PhantomData })
}
