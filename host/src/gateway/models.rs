//! `[models]` and `[providers]` as the line uses them: what may be asked for, what it stands for, where it is served.
//!
//! What it does not do: it chooses nothing.
//!
//! **Invariant:** every name in a choice is a model of the same snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use indexmap::IndexMap;
use secrecy::ExposeSecret;

use super::Exchange;
use super::course::Course;
use super::reply::{self, Reply};
use super::switches::Switches;
use crate::config::unit::Wrong;
use crate::config::{self, Config, Finding};
use crate::dialect;
use crate::error::{Error, Kind};
use crate::record::cost::Price;
use crate::route::judge::Rules;
use crate::route::policy::Policy;
use crate::upstream::balance::Rule;
use crate::upstream::gate;
use crate::upstream::hedge::After;
use crate::upstream::keys::Key;
use crate::upstream::pool::{self, Address, Metrics, Pool};
use crate::upstream::provider;

/// A model that an upstream serves.
#[derive(Clone)]
pub struct Model {
    /// Its name in `[models]`.
    pub name: Arc<str>,
    /// The provider's name in `[providers]`.
    pub provider: Arc<str>,
    /// The provider's name for it, as it is sent upstream.
    pub upstream_name: Arc<str>,
    /// What it costs.
    pub price: Option<Price>,
    /// Chat or embedding.
    pub kind: config::ModelKind,
    /// Where it is served.
    pub pool: Arc<Pool>,
    /// The models that answer where it does not.
    pub fallback: Vec<Arc<str>>,
    /// It has refused to say log-probabilities, so that nobody asks it for them again.
    pub says_no_logprobs: Arc<AtomicBool>,
}

/// An entry of `[models]`.
#[derive(Clone)]
pub enum Entry {
    /// Served upstream.
    Upstream(Model),
    /// Served by an embedder of ours.
    BuiltIn,
    /// A choice among others.
    Choice(Choice),
}

/// A name that stands for several models.
#[derive(Clone)]
pub struct Choice {
    /// The models.
    pub among: Vec<Arc<str>>,
    /// Without a plugin's choice they answer in this order until one answers well enough.
    pub cascade: Option<Arc<Cascade>>,
    /// Without a plugin's choice and a cascade this makes it.
    pub policy: Policy,
    /// What tells the choice from one that is made otherwise.
    rules: String,
}

/// What is demanded of a small model's answer.
pub struct Cascade {
    /// What the answer itself shows.
    pub rules: Rules,
    /// The model that is asked about it, and what.
    pub self_check: Option<config::SelfCheck>,
    /// Events of a stream after which the rules judge.
    pub tokens: u32,
}

/// `[models]`.
#[derive(Clone, Default)]
pub struct Models {
    entries: IndexMap<Arc<str>, Entry>,
    switches: Switches,
}

impl Models {
    /// The models of a configuration, each with its pool.
    pub(super) fn build(config: &Config, pools: &BTreeMap<String, Arc<Pool>>) -> Result<Self, Vec<Finding>> {
        let entries = config.models.iter().map(|(name, model)| {
            let name: Arc<str> = name.as_str().into();
            let entry = match model {
                config::Model::Virtual(model) => Entry::Choice(model.into()),
                config::Model::Concrete(model) if model.is_built_in() => Entry::BuiltIn,
                config::Model::Concrete(model) => Entry::Upstream(upstream(&name, model, pools)?),
            };
            Ok((name, entry))
        });
        let switches = Switches::new(config.models.iter());
        Ok(Self { entries: all(entries)?, switches })
    }

    /// An entry by name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The name itself where that model is on, else whoever answers in its place; none where nobody does.
    pub fn resolve(&self, name: &str) -> Option<&str> {
        let (name, _) = self.entries.get_key_value(name)?;
        self.switches.resolve(name)
    }

    /// The model that the configuration names to take this one's place.
    pub fn substitute(&self, name: &str) -> Option<&str> {
        self.switches.substitute(name)
    }

    /// Is this model on?
    pub fn is_on(&self, name: &str) -> bool {
        self.switches.is_on(name)
    }

    /// On or off as the administrator says; the configuration decides about all others.
    pub(super) fn switch(&mut self, said: &BTreeMap<String, bool>) {
        self.switches.set(said);
    }

    /// What a name stands for: providers and their names for the models, and how the choice among them is made. Part of every cache
    /// key, so that an entry does not outlive a change of the configuration that would give another answer.
    pub fn stands_for(&self, name: &str, feed: &mut dyn FnMut(&str)) {
        for model in self.choices(name) {
            feed(&model.provider);
            feed(&model.upstream_name);
        }
        if let Some(Entry::Choice(choice)) = self.entries.get(name) {
            feed(&choice.rules);
        }
    }

    /// A chat model that an upstream serves, or the one that answers in its place.
    pub fn chat(&self, name: &str) -> Option<&Model> {
        if self.is_on(name) { self.concrete(name) } else { self.choices(name).first().copied() }
    }

    /// Is there a chat model of this name, on or off?
    pub fn is_chat(&self, name: &str) -> bool {
        self.concrete(name).is_some()
    }

    fn concrete(&self, name: &str) -> Option<&Model> {
        match self.entries.get(name) {
            Some(Entry::Upstream(model)) if model.kind == config::ModelKind::Chat => Some(model),
            _ => None,
        }
    }

    /// The models among which a client leaves the choice by asking for `name`; none of them is off.
    pub fn choices(&self, name: &str) -> Vec<&Model> {
        let Some(name) = self.resolve(name) else { return Vec::new() };
        match self.entries.get(name) {
            Some(Entry::Choice(choice)) => {
                choice.among.iter().filter(|name| self.is_on(name)).filter_map(|name| self.concrete(name)).collect()
            }
            Some(Entry::Upstream(_)) => self.concrete(name).into_iter().collect(),
            Some(Entry::BuiltIn) | None => Vec::new(),
        }
    }

    /// How the models that `name` stands for take turns, where its owner says so.
    pub fn cascade(&self, name: &str) -> Option<&Arc<Cascade>> {
        match self.entries.get(name) {
            Some(Entry::Choice(choice)) => choice.cascade.as_ref(),
            _ => None,
        }
    }

    /// How the choice among the models that `name` stands for is made, where nobody else makes it.
    pub fn policy(&self, name: &str) -> &Policy {
        match self.entries.get(name) {
            Some(Entry::Choice(choice)) => &choice.policy,
            _ => &Policy::First,
        }
    }

    /// Does `name` stand for a choice?
    pub fn is_virtual(&self, name: &str) -> bool {
        matches!(self.entries.get(name), Some(Entry::Choice(_)))
    }

    /// An entry that makes embeddings.
    pub fn embedding(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name).filter(|_| self.is_on(name)).filter(|entry| match entry {
            Entry::BuiltIn => true,
            Entry::Upstream(model) => model.kind == config::ModelKind::Embedding,
            Entry::Choice(_) => false,
        })
    }

    /// What a model costs.
    pub fn price(&self, name: &str) -> Option<Price> {
        match self.entries.get(name) {
            Some(Entry::Upstream(model)) => model.price,
            _ => None,
        }
    }

    /// Is `model` one of the choices of the virtual model `name`?
    pub fn is_choice(&self, name: &str, model: &str) -> bool {
        matches!(self.entries.get(name), Some(Entry::Choice(choice)) if choice.among.iter().any(|choice| &**choice == model))
    }

    /// All names, in the configuration's order.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (&**name, entry))
    }

    /// Those that are answered, by the model itself or by another in its place.
    fn offered(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.names().filter(|(name, _)| self.resolve(name).is_some())
    }
}

impl From<&config::VirtualModel> for Choice {
    fn from(model: &config::VirtualModel) -> Self {
        Self {
            among: model.choose.iter().map(|choice| choice.as_str().into()).collect(),
            cascade: model.cascade.as_ref().map(|cascade| Arc::new(cascade.into())),
            policy: model.into(),
            rules: format!("{model:?}"),
        }
    }
}

impl From<&config::Cascade> for Cascade {
    fn from(cascade: &config::Cascade) -> Self {
        let config::Cascade { min_logprob, min_chars, refusals, json, ref self_check, tokens } = *cascade;
        let min_logprob = min_logprob.map(|least| least as f32);
        Self { rules: Rules { min_logprob, min_chars, refusals, json }, self_check: self_check.clone(), tokens }
    }
}

fn upstream(name: &Arc<str>, model: &config::ConcreteModel, pools: &BTreeMap<String, Arc<Pool>>) -> Result<Model, Finding> {
    let pool = pools.get(&model.provider).ok_or_else(|| {
        let reason = format!("there is no provider `{}`", model.provider);
        Finding::new(&["models", &**name, "provider"], reason, "name an entry of [providers]")
    })?;
    Ok(Model {
        name: name.clone(),
        provider: model.provider.as_str().into(),
        upstream_name: model.name.as_str().into(),
        price: model.price.map(|price| Price {
            input: price.input,
            output: price.output,
            cached_input: price.cached_input.unwrap_or(price.input),
        }),
        kind: model.kind,
        pool: pool.clone(),
        fallback: model.fallback.iter().map(|name| name.as_str().into()).collect(),
        says_no_logprobs: Arc::default(),
    })
}

/// The values, or everything that is wrong with any of them.
fn all<T, C: FromIterator<T>>(results: impl Iterator<Item = Result<T, Finding>>) -> Result<C, Vec<Finding>> {
    let mut found = Vec::new();
    let values: C = results.filter_map(|result| result.map_err(|finding| found.push(finding)).ok()).collect();
    if found.is_empty() { Ok(values) } else { Err(found) }
}

/// A pool per provider; endpoints that stay keep their connections and their history.
pub(super) fn pools(
    config: &Config,
    workers: usize,
    previous: Option<&BTreeMap<String, Arc<Pool>>>,
) -> Result<BTreeMap<String, Arc<Pool>>, Vec<Finding>> {
    all(config.providers.iter().map(|(name, provider)| {
        let before = previous.and_then(|previous| previous.get(name)).map(|pool| &**pool);
        let pool = Pool::build(settings(name, provider, config.zone.as_deref())?, workers, before)
            .map_err(|error| Finding::new(&["providers", name.as_str(), "endpoints"], error, "write absolute URLs"))?;
        Ok((name.clone(), Arc::new(pool)))
    }))
}

fn settings(name: &str, provider: &config::Provider, zone: Option<&str>) -> Result<pool::Settings, Finding> {
    const SENDABLE: &str = "remove line breaks and control characters";
    let wrong = |key: &[&str], wrong: Wrong| {
        let path: Vec<&str> = ["providers", name].iter().chain(key).copied().collect();
        Finding::new(&path, wrong.reason, wrong.remedy)
    };
    let kind = match provider.kind {
        config::ProviderKind::OpenAi => "openai",
    };
    let protocol = provider::named(kind)
        .ok_or_else(|| wrong(&["kind"], Wrong::new(format!("`{kind}` is not spoken"), "write \"openai\"")))?;
    let keys = provider.all_keys().enumerate().map(|(index, reference)| {
        let index = format!("[{index}]");
        let path: &[&str] = if provider.key.is_some() { &["key"] } else { &["keys", &index] };
        let secret = reference.resolve().map_err(|error| wrong(path, error))?;
        let header = (protocol.authenticate)(secret.expose_secret());
        let unfit = || Wrong::new(format!("{reference} cannot be sent in a header"), SENDABLE);
        Ok(Key { name: reference.to_string().into(), header: header.ok_or_else(|| wrong(path, unfit()))? })
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    let mut headers = HeaderMap::new();
    for (header, value) in &provider.headers {
        let wrong = |error: Wrong| wrong(&["headers", header.as_str()], error);
        let value_of = value.resolve().map_err(wrong)?;
        let mut value = HeaderValue::from_str(value_of.expose_secret())
            .map_err(|_| wrong(Wrong::new("the value cannot be sent in a header", SENDABLE)))?;
        value.set_sensitive(true);
        let header = HeaderName::from_bytes(header.as_bytes())
            .map_err(|error| wrong(Wrong::new(error.to_string(), "use letters, digits and -")))?;
        headers.insert(header, value);
    }
    Ok(pool::Settings {
        name: name.to_owned(),
        provider: protocol,
        endpoints: provider.endpoints.iter().map(address).collect(),
        metrics: provider.metrics.as_ref().map(|path| Metrics { path: path.clone(), interval: provider.metrics_interval.get() }),
        probe: provider.probe.as_ref().map(Into::into),
        zone: zone.map(str::to_owned),
        continuation: provider.continuation,
        affinity: match provider.affinity {
            config::Affinity::None => Rule::None,
            config::Affinity::Prefix => Rule::Prefix,
            config::Affinity::Session => Rule::Session(
                HeaderName::from_bytes(provider.session_header.as_bytes())
                    .map_err(|error| wrong(&["session_header"], Wrong::new(error.to_string(), "write a header's name")))?,
            ),
        },
        keys,
        headers,
        timeouts: (&provider.timeouts).into(),
        retries: provider.retries,
        retry_budget: provider.retry_budget as f32,
        hedge: provider.hedge.map(|hedge| match hedge.after {
            config::HedgeAfter::Percentile(percent) => After::Percentile(percent),
            config::HedgeAfter::Time(time) => After::Fixed(time.get()),
        }),
        hedge_budget: provider.hedge.map_or(0.0, |hedge| hedge.budget as f32),
        breaker: (&provider.breaker).into(),
        panic: provider.panic as f32,
        concurrency: provider.concurrency.map(|concurrency| gate::Settings {
            start: concurrency.start,
            min: concurrency.min,
            max: concurrency.max,
            queue: concurrency.queue,
            wait: concurrency.wait.get(),
        }),
        in_flight: provider.in_flight,
    })
}

fn address(endpoint: &config::Endpoint) -> Address {
    Address { url: endpoint.url.clone(), weight: endpoint.weight as f32, zone: endpoint.zone.clone() }
}

/// `GET /v1/models`: what this client may ask for.
pub(super) fn list(course: &Course) -> Reply {
    let models = course.exchange.state.models.offered().filter(|(name, _)| course.exchange.principal.may_use(name));
    reply::json(dialect::embeddings::models(models.map(|(name, entry)| (name, owner(entry)))))
}

/// `GET /v1/models/NAME`.
pub(super) fn one(course: &Course, name: &str) -> Result<Reply, Error> {
    let models = &course.exchange.state.models;
    match models.get(name).filter(|_| course.exchange.principal.may_use(name) && models.resolve(name).is_some()) {
        Some(entry) => Ok(reply::json(dialect::embeddings::model(name, owner(entry)).to_string().into())),
        None => Err(not_found(course, name, "anything")),
    }
}

fn owner(entry: &Entry) -> &str {
    match entry {
        Entry::Upstream(model) => &model.provider,
        Entry::BuiltIn | Entry::Choice(_) => "pointsman",
    }
}

/// No such model, with those that this client may ask for.
pub(super) fn not_found(course: &Course, name: &str, purpose: &str) -> Error {
    let fits = |entry: &Entry| match entry {
        Entry::Upstream(model) => {
            purpose == "anything" || (model.kind == config::ModelKind::Chat) == (purpose == "chat completions")
        }
        Entry::BuiltIn => purpose != "chat completions",
        Entry::Choice(_) => purpose != "embeddings",
    };
    let Exchange { state, principal, .. } = &*course.exchange;
    let usable = state.models.offered().filter(|(name, entry)| principal.may_use(name) && fits(entry));
    let known: Vec<&str> = usable.map(|(name, _)| name).take(12).collect();
    let known = if known.is_empty() { "`[models]` has none".to_owned() } else { format!("there are {}", known.join(", ")) };
    let is_off = principal.may_use(name) && state.models.get(name).is_some_and(fits);
    let what = match is_off {
        true => format!("The model `{name:.128}` is switched off, and no other may answer you in its place"),
        false => format!("There is no model `{name:.128}` for {purpose}"),
    };
    Error::downstream(Kind::ModelNotFound, format!("{what}; {known}. GET /v1/models lists all.")).about("model")
}

/// A path's segment without its percent signs.
pub(super) fn unescape(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match hex.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn names_in_paths() {
        for (segment, expect) in
            [("gpt-4o", "gpt-4o"), ("meta%2Fllama", "meta/llama"), ("a%", "a%"), ("a%zz%41", "a%zzA"), ("%E2%82%AC", "€")]
        {
            assert_eq!(unescape(segment), expect);
        }
    }
}
