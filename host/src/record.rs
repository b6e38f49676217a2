//! What is kept of each exchange: one [`Record`], a line in the log, and the numbers on /metrics.
//!
//! What it does not do: it judges nothing and keeps no bodies.
//!
//! **Invariant:** every exchange that has a request is recorded exactly once, also one whose client left.
//! **Invariant:** labels on /metrics are names from the configuration or from fixed lists, never a client's string.

pub mod cost;
pub mod recording;
pub mod stages;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::error::Kind;
use crate::numbers::{Count, Exposition, Times};
use crate::printable::printable;
pub use stages::{Stage, Stages};

/// How an exchange ended, for the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// The client went away before the end; also where nothing else was noted.
    #[default]
    Left,
    /// A whole answer.
    Whole,
    /// An answer that ended in an explicit error after the commit point.
    Broken,
    /// An error instead of an answer.
    Refused,
    /// Cut, because the process ended and the time for a drain was over.
    Drained,
    /// An answer that a plugin has ended, with a reason that says so.
    Stopped,
}

impl Ending {
    /// All, in the order of the counters.
    pub const ALL: [Self; 6] = [Self::Left, Self::Whole, Self::Broken, Self::Refused, Self::Drained, Self::Stopped];

    /// The name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Whole => "whole",
            Self::Broken => "broken",
            Self::Refused => "refused",
            Self::Drained => "drained",
            Self::Stopped => "stopped",
        }
    }
}

/// What the cache had to do with an exchange.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheOutcome {
    /// No cache is configured, or the operation has none.
    #[default]
    Off,
    /// The request asked for no cache, or a plugin did.
    Bypass,
    /// Nothing was found.
    Miss,
    /// The same request had been answered.
    Exact,
    /// A request of the same meaning had been answered.
    Semantic,
    /// The same request had been answered, too long ago, and there was nothing better, or it may be served while it is asked for anew.
    Stale,
    /// The same request was being answered, and this one got that answer as it came.
    Flight,
    /// Nobody was answered: what was served of the cache was asked for anew.
    Refresh,
    /// The answer was put together of parts, each of which was looked up by itself.
    Fragments,
}

impl CacheOutcome {
    /// All, in the order of the counters.
    pub const ALL: [Self; 9] = [
        Self::Off,
        Self::Bypass,
        Self::Miss,
        Self::Exact,
        Self::Semantic,
        Self::Stale,
        Self::Flight,
        Self::Refresh,
        Self::Fragments,
    ];

    /// The value of `x-pointsman-cache`, and the label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Bypass => "bypass",
            Self::Miss => "miss",
            Self::Exact => "exact",
            Self::Semantic => "semantic",
            Self::Stale => "stale",
            Self::Flight => "flight",
            Self::Refresh => "refresh",
            Self::Fragments => "fragments",
        }
    }
}

/// One model's turn, where somebody wants to know.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The model.
    pub model: Arc<str>,
    /// The endpoint that answered, or was asked last.
    pub endpoint: Option<String>,
    /// The answer's status; none: there was none.
    pub status: Option<u16>,
    /// Why there was no answer, as in errors.
    pub failure: Option<&'static str>,
    /// Microseconds until an answer had begun, or failed.
    pub took_us: u64,
    /// Micro-US-dollars for an answer that the client did not get.
    pub cost: Option<u64>,
    /// What was doubted of the answer, so that another was asked for.
    pub doubt: Option<&'static str>,
}

/// Everything that is known of one exchange when it ends.
#[derive(Debug, Default)]
pub struct Record {
    /// The exchange's id.
    pub id: String,
    /// Whose it was.
    pub tenant: Option<Arc<str>>,
    /// The model that the client asked for.
    pub asked: String,
    /// The same where that model was off, and another answered in its place.
    pub substitute_for: Option<String>,
    /// The configured model that answered.
    pub model: Option<Arc<str>>,
    /// The endpoint that answered.
    pub endpoint: Option<String>,
    /// The status that the client got.
    pub status: u16,
    /// How it ended.
    pub ending: Ending,
    /// The error's code, where there was one. A plugin's refusal has the plugin's own.
    pub error: Option<String>,
    /// The error's kind, where there was one.
    pub kind: Option<Kind>,
    /// What became of each try, where all have failed; with addresses, which clients are not told.
    pub detail: Option<String>,
    /// What the cache did.
    pub cache: CacheOutcome,
    /// `name@version` of the prompt.
    pub prompt: Option<String>,
    /// Labels of the plugins that decided something.
    pub plugins: Vec<String>,
    /// Why the model was chosen.
    pub reason: Option<String>,
    /// Names and values that plugins have set.
    pub labels: Vec<(String, String)>,
    /// The level of degradation that made the answer another one than it would have been.
    pub degraded: Option<&'static str>,
    /// Was the answer streamed?
    pub streamed: bool,
    /// Tries made upstream.
    pub tries: u32,
    /// Two endpoints were asked at once.
    pub hedged: bool,
    /// Tokens of the prompt and of the answer, as the upstream counted them.
    pub tokens: Option<(u64, u64)>,
    /// Micro-US-dollars that the upstream will charge for the answer.
    pub cost: Option<u64>,
    /// Micro-US-dollars for what the client did not get: answers that were not good enough, questions about them, endpoints that
    /// another one was quicker than. Partly estimated.
    pub discarded: u64,
    /// The exchange of whose answer this is a part.
    pub part_of: Option<String>,
    /// Parts that the answer was put together of, and where each came from: `title=exact, text=miss`.
    pub fragments: Option<String>,
    /// How often another endpoint went on with it after it had broken off.
    pub continued: u32,
    /// What was doubted of answers that were dropped, in their order; last `kept` if one of them went to the client after all.
    pub escalated: Vec<&'static str>,
    /// A plugin has changed the request.
    pub rewritten: bool,
    /// The reason with which a plugin has ended the answer.
    pub stopped: Option<&'static str>,
    /// A cascade's judge could not judge an answer, or not by what a model was to say of it; it passed.
    pub unjudged: bool,
    /// The last question; none where nobody wants to know it.
    pub question: Option<String>,
    /// The exact key that was looked up; none where nobody wants to know.
    pub cache_key: Option<String>,
    /// The partition in which near hits were looked for; none where nobody wants to know.
    pub cache_partition: Option<String>,
    /// The tier that had the entry of an exact hit.
    pub cache_tier: Option<&'static str>,
    /// The cosine of a near hit.
    pub cache_score: Option<f32>,
    /// What a hit has saved: micro-US-dollars, and microseconds of waiting.
    pub saved: Option<(u64, u64)>,
    /// The plan's models, in their order; empty where nobody wants to know.
    pub planned: Vec<Arc<str>>,
    /// The models that were asked; empty where nobody wants to know.
    pub attempts: Vec<Attempt>,
    /// Time spent in each stage.
    pub stages: Stages,
    /// Microseconds until the first byte of the answer's body.
    pub first_byte_us: Option<u64>,
    /// Microseconds until the end.
    pub total_us: u64,
}

impl Record {
    /// What the exchange has cost, all in all.
    pub fn spent(&self) -> Option<u64> {
        if self.discarded > 0 { Some(self.cost.unwrap_or(0).saturating_add(self.discarded)) } else { self.cost }
    }
}

/// The numbers of all exchanges.
#[derive(Default)]
pub struct Numbers {
    endings: [Count; Ending::ALL.len()],
    errors: [Count; Kind::ALL.len()],
    caches: [Count; CacheOutcome::ALL.len()],
    statuses: [Count; 5],
    stages: [Times; Stage::ALL.len()],
    total: Times,
    first_byte: Times,
    retries: Count,
    hedges: Count,
    prompt_tokens: Count,
    completion_tokens: Count,
    cost_micros: Count,
    saved_micros: Count,
    saved_us: Count,
    discarded_micros: Count,
    continuations: Count,
    unjudged: Count,
    /// By reason; whoever judges knows them all.
    escalations: Mutex<BTreeMap<&'static str, u64>>,
}

impl Numbers {
    /// Books an exchange that has ended, and writes its line.
    pub fn book(&self, record: &Record) {
        self.caches[record.cache as usize].add(1);
        // Those are nobody's own.
        if record.cache != CacheOutcome::Refresh && record.part_of.is_none() {
            self.answered(record);
        }
        self.retries.add(u64::from(record.tries.saturating_sub(1 + u32::from(record.hedged))));
        self.hedges.add(u64::from(record.hedged));
        if let Some((prompt, completion)) = record.tokens {
            self.prompt_tokens.add(prompt);
            self.completion_tokens.add(completion);
        }
        self.cost_micros.add(record.spent().unwrap_or(0));
        self.discarded_micros.add(record.discarded);
        if let Some((micros, us)) = record.saved {
            self.saved_micros.add(micros);
            self.saved_us.add(us.saturating_sub(record.total_us));
        }
        self.continuations.add(u64::from(record.continued));
        self.unjudged.add(u64::from(record.unjudged));
        if !record.escalated.is_empty()
            && let Ok(mut escalations) = self.escalations.lock()
        {
            record.escalated.iter().for_each(|reason| *escalations.entry(reason).or_default() += 1);
        }
        line(record);
    }

    /// Exchanges by what the cache did.
    pub fn lookups(&self) -> impl Iterator<Item = (CacheOutcome, u64)> {
        CacheOutcome::ALL.into_iter().map(|outcome| (outcome, self.caches[outcome as usize].get()))
    }

    /// What hits have saved: micro-US-dollars, and microseconds of waiting.
    pub fn saved(&self) -> (u64, u64) {
        (self.saved_micros.get(), self.saved_us.get())
    }

    /// How a client has fared.
    fn answered(&self, record: &Record) {
        self.endings[record.ending as usize].add(1);
        if let Some(kind) = record.kind {
            self.errors[kind as usize].add(1);
        }
        self.statuses[usize::from(record.status / 100).clamp(1, 5) - 1].add(1);
        for (stage, took) in record.stages.iter() {
            self.stages[stage as usize].observe(took);
        }
        self.total.observe(std::time::Duration::from_micros(record.total_us));
        if let Some(us) = record.first_byte_us {
            self.first_byte.observe(std::time::Duration::from_micros(us));
        }
    }

    /// Writes the numbers for /metrics.
    pub fn expose(&self, text: &mut Exposition) {
        for ending in Ending::ALL {
            let value = self.endings[ending as usize].get();
            text.counter(
                "pointsman_exchanges_total",
                "Exchanges by how they ended for the client.",
                &[("ending", ending.name())],
                value,
            );
        }
        for kind in Kind::ALL {
            let (_, code, _) = kind.describe();
            text.counter(
                "pointsman_errors_total",
                "Exchanges that ended in an error, by its code; `rejected`: a plugin refused them.",
                &[("code", code)],
                self.errors[kind as usize].get(),
            );
        }
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].iter().zip(&self.statuses) {
            text.counter("pointsman_answers_total", "Answers by class of status.", &[("status", class)], count.get());
        }
        for outcome in CacheOutcome::ALL {
            let value = self.caches[outcome as usize].get();
            text.counter(
                "pointsman_cache_lookups_total",
                "Exchanges by what the cache did.",
                &[("outcome", outcome.name())],
                value,
            );
        }
        for stage in Stage::ALL {
            text.times(
                "pointsman_stage_seconds",
                "Time spent in each stage of the line.",
                &[("stage", stage.name())],
                &self.stages[stage as usize],
            );
        }
        text.times("pointsman_exchange_seconds", "Time from the request's head to the answer's last byte.", &[], &self.total);
        text.times(
            "pointsman_first_byte_seconds",
            "Time from the request's head to the answer's first byte.",
            &[],
            &self.first_byte,
        );
        text.counter("pointsman_retries_total", "Tries upstream beyond the first of an exchange.", &[], self.retries.get());
        text.counter(
            "pointsman_continuations_total",
            "Streams that broke off after the commit point and were gone on with by another endpoint.",
            &[],
            self.continuations.get(),
        );
        text.counter("pointsman_hedges_total", "Exchanges for which two endpoints were asked at once.", &[], self.hedges.get());
        text.counter(
            "pointsman_tokens_total",
            "Tokens as upstreams counted them.",
            &[("kind", "prompt")],
            self.prompt_tokens.get(),
        );
        text.counter(
            "pointsman_tokens_total",
            "Tokens as upstreams counted them.",
            &[("kind", "completion")],
            self.completion_tokens.get(),
        );
        text.counter(
            "pointsman_cost_micro_usd_total",
            "What upstreams will charge, in micro-US-dollars.",
            &[],
            self.cost_micros.get(),
        );
        text.counter(
            "pointsman_discarded_cost_micro_usd_total",
            "The part of it for answers that no client got: doubted ones, questions about them, hedges that were not needed.",
            &[],
            self.discarded_micros.get(),
        );
        text.counter(
            "pointsman_cache_saved_micro_usd_total",
            "What upstreams would have charged for answers that came out of the cache, in micro-US-dollars.",
            &[],
            self.saved_micros.get(),
        );
        text.counter(
            "pointsman_cache_saved_seconds_total",
            "How long clients would have waited for answers that came out of the cache.",
            &[],
            self.saved_us.get() / 1_000_000,
        );
        text.counter(
            "pointsman_unjudged_total",
            "Answers that passed a cascade's judge because they could not be read, or nobody said whether they are good.",
            &[],
            self.unjudged.get(),
        );
        for (reason, count) in self.escalations.lock().iter().flat_map(|escalations| escalations.iter()) {
            text.counter(
                "pointsman_escalations_total",
                "Answers that were not good enough, by what was doubted; `kept`: nothing better came, and the client got it.",
                &[("reason", reason)],
                *count,
            );
        }
    }
}

/// One line for one exchange. Client strings are field values: the log's format escapes them.
fn line(record: &Record) {
    if !tracing::enabled!(target: "pointsman::exchange", tracing::Level::INFO) {
        return;
    }
    // Names are plugins' own, so they travel as one value; the last of a name counts.
    let object = || record.labels.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
    let labels = (!record.labels.is_empty()).then(|| serde_json::Value::Object(object()));
    tracing::info!(
        target: "pointsman::exchange",
        id = record.id,
        tenant = record.tenant.as_deref(),
        asked = record.asked,
        model = record.model.as_deref(),
        endpoint = record.endpoint,
        status = record.status,
        ending = record.ending.name(),
        error = record.error,
        detail = record.detail,
        cache = record.cache.name(),
        cache_tier = record.cache_tier,
        prompt = record.prompt,
        plugins = record.plugins.join(","),
        reason = record.reason.as_deref().map(|reason| tracing::field::display(printable(reason))),
        degraded = record.degraded,
        labels = labels.map(tracing::field::display),
        streamed = record.streamed,
        tries = record.tries,
        hedged = record.hedged,
        prompt_tokens = record.tokens.map(|tokens| tokens.0),
        completion_tokens = record.tokens.map(|tokens| tokens.1),
        cost_micro_usd = record.spent(),
        discarded_micro_usd = (record.discarded > 0).then_some(record.discarded),
        part_of = record.part_of,
        fragments = record.fragments,
        continued = (record.continued > 0).then_some(record.continued),
        escalated = (!record.escalated.is_empty()).then(|| record.escalated.join(",")),
        unjudged = record.unjudged.then_some(true),
        stopped = record.stopped,
        first_byte_us = record.first_byte_us,
        total_us = record.total_us,
        "exchange"
    );
}
