//! One exchange on its way down the line: the exchange, its record, its plugins, and the clock of the stages.
//!
//! What it does not do: it decides nothing.
//!
//! **Invariant:** dropping it books the record, so that every exchange is booked once, also one whose client left.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use tokio::time::Instant;

use super::audit::Audit;
use super::degrade::Levels;
use super::fragments::Part;
use super::models::Entry;
use super::{Exchange, Gateway, deadline, recording};
use crate::cache;
use crate::config::{Preference, Priority};
use crate::dialect::answer::{Answer, Usage};
use crate::dialect::openai_chat::ChatRequest;
use crate::error::{Error, Kind, Source};
use crate::limit::ladder::Level;
use crate::plugin::Plugin;
use crate::plugin::bindings::types;
use crate::plugin::hooks::Session;
use crate::plugin::registry::Whose;
use crate::plugin::release::figures::Fate;
use crate::record::cost::Tokens;
use crate::record::{Ending, Record, Stage};
use crate::upstream;
use crate::upstream::deadline::Deadline;

/// Headers that name one request: another one under the same name would be taken for it.
const OF_ONE_REQUEST: [&str; 3] = ["idempotency-key", "x-request-id", "x-client-request-id"];

/// What goes down the line.
pub(super) struct Course {
    pub(super) exchange: Arc<Exchange>,
    pub(super) record: Record,
    /// The plugins' instances; none where there are no plugins, or no request for them to see.
    pub(super) session: Option<Box<Session>>,
    /// Whose exchange it is for the plugins, from when on it counts for them.
    whose: Option<Whose>,
    /// Where it must wait for a provider.
    pub(super) priority: Priority,
    /// What matters most to the client.
    pub(super) preference: Option<Preferred>,
    /// What each pool is at; none where all are at `full`.
    pub(super) levels: Option<Arc<Levels>>,
    /// What was answered to this very request, too long ago to be served but where there is nothing better.
    pub(super) stale: Option<Arc<cache::Entry>>,
    /// A stored answer that might have been this one's, and somebody wants to know.
    pub(super) near_miss: Option<Audit>,
    /// Parts of the prompt, where each is to be asked for by itself.
    pub(super) parts: Vec<Part>,
    /// The level that has made the answer another one.
    pub(super) degraded: Option<Level>,
    pub(super) gateway: Arc<Gateway>,
    since: Instant,
}

/// What matters most, and who says so.
#[derive(Clone, Copy)]
pub(super) struct Preferred {
    pub(super) what: Preference,
    pub(super) whose: &'static str,
}

impl Course {
    /// On the heap: it goes from stage to stage and into the answer's body, and none of them is to carry it.
    pub(super) fn new(gateway: Arc<Gateway>, exchange: Exchange) -> Box<Self> {
        let (record, since, priority) = (exchange.record(), exchange.started, exchange.principal.priority);
        Box::new(Self {
            exchange: Arc::new(exchange),
            record,
            session: None,
            whose: None,
            priority,
            preference: None,
            levels: gateway.degrade.levels(),
            stale: None,
            near_miss: None,
            parts: Vec::new(),
            degraded: None,
            gateway,
            since,
        })
    }

    /// One that belongs to another one: it asks as that one did, for the same client, with headers that name no request.
    pub(super) fn beside(of: &Self, request: &ChatRequest, deadline: Option<Deadline>) -> Box<Self> {
        let mut headers = of.exchange.headers.clone();
        OF_ONE_REQUEST.iter().for_each(|name| drop(headers.remove(HeaderName::from_static(name))));
        let mut exchange = Exchange::new(of.exchange.state.clone(), of.exchange.principal.clone(), headers, of.exchange.worker);
        exchange.deadline = deadline.unwrap_or(exchange.deadline);
        exchange.asks_for(request.model());
        let mut course = Self::new(of.gateway.clone(), exchange);
        course.record.asked = of.record.asked.clone();
        course.record.substitute_for = of.record.substitute_for.clone();
        course.record.prompt = of.record.prompt.clone();
        course.record.streamed = request.stream();
        (course.preference, course.priority) = (of.preference, of.priority);
        course
    }

    /// A stage is over, and the next one begins.
    pub(super) fn done(&mut self, stage: Stage) {
        self.since = self.record.stages.done(stage, self.since);
    }

    /// A client may say that a request is less urgent than its key's are.
    pub(super) fn set_priority(&mut self) -> Result<(), Error> {
        let Some(value) = self.exchange.headers.get("x-pointsman-priority") else { return Ok(()) };
        let named = Priority::ALL.into_iter().find(|priority| value.as_bytes().eq_ignore_ascii_case(priority.name().as_bytes()));
        let Some(named) = named else {
            let message = "x-pointsman-priority is none of realtime, interactive and batch. Send one of them, or none.";
            return Err(Error::bad_request(None, message));
        };
        self.priority = named.max(self.exchange.principal.priority);
        Ok(())
    }

    /// Is there memory for its body?
    pub(super) fn has_memory(&self) -> Result<(), Error> {
        self.gateway.memory.admits(self.priority)
    }

    /// What a key prefers, or what a request says in its place.
    pub(super) fn set_preference(&mut self) -> Result<(), Error> {
        let Some(value) = self.exchange.headers.get("x-pointsman-prefer") else {
            self.preference = self.exchange.principal.prefer.map(|what| Preferred { what, whose: ", as the key prefers" });
            return Ok(());
        };
        let named = Preference::ALL.into_iter().find(|known| value.as_bytes().eq_ignore_ascii_case(known.name().as_bytes()));
        let Some(what) = named else {
            let message = "x-pointsman-prefer is none of quality, speed and cost. Send one of them, or none.";
            return Err(Error::bad_request(None, message));
        };
        self.preference = Some(Preferred { what, whose: ", as the request prefers" });
        Ok(())
    }

    /// The body has come.
    ///
    /// # Errors
    /// The client says how long it waits, and not so that it can be read.
    pub(super) fn received(&mut self) -> Result<(), Error> {
        self.since = Instant::now();
        // Nor is it the upstreams'. Nobody else has the exchange yet.
        if let Some(exchange) = Arc::get_mut(&mut self.exchange) {
            let (configured, from_sdks) = (self.since + exchange.state.longest, !exchange.state.config.ignore_sdk_timeouts);
            exchange.deadline = deadline::read(&exchange.headers, configured, (exchange.started, self.since), from_sdks)?;
        }
        Ok(())
    }

    /// The model that the client asks for. A name as long as a body is no name; the record gets its beginning.
    pub(super) fn asks_for(&mut self, model: &str) {
        self.record.asked = model[..model.floor_char_boundary(256)].to_owned();
    }

    /// May the client ask for this model?
    pub(super) fn may_use(&self, model: &str) -> Result<(), Error> {
        if self.exchange.principal.may_use(model) {
            return Ok(());
        }
        let allowed = self.exchange.principal.models.as_deref().unwrap_or_default().join(", ");
        Err(Error::downstream(
            Kind::ModelNotAllowed,
            format!("This key may not ask for `{model:.128}`. It may ask for: {allowed}."),
        )
        .about("model"))
    }

    /// The model that answers in the place of one that is off, if the client may ask for it.
    pub(super) fn substitute(&mut self, model: &str) -> Option<String> {
        let models = &self.exchange.state.models;
        let other = models.resolve(model).filter(|other| *other != model && self.exchange.principal.may_use(other))?.to_owned();
        self.record.substitute_for = Some(self.record.asked.clone());
        Some(other)
    }

    /// From here on plugins may be asked.
    pub(super) fn meet_plugins(&mut self, request: &ChatRequest) {
        let exchange = &self.exchange;
        if let Some(tape) = recording::tape(exchange) {
            exchange.keeps(tape);
        }
        self.record.question = exchange.state.stories.as_ref().and_then(|stories| stories.question(request));
        if exchange.state.plugins.is_empty() {
            return;
        }
        let head = types::RequestHead {
            id: exchange.id.clone(),
            tenant: exchange.principal.tenant.to_string(),
            principal: exchange.principal.key.as_deref().map(str::to_owned),
            operation: types::Operation::Chat,
            model: request.model().to_owned(),
            prompt_tokens: request.estimated_tokens(),
            max_tokens: request.max_tokens(),
            temperature: request.temperature(),
            streaming: request.stream(),
            has_tools: request.has_tools(),
            prompt: request.prompt().map(|prompt| types::PromptRef { name: prompt.id.clone(), version: prompt.version.clone() }),
            deadline_ms: exchange.deadline.ends().saturating_duration_since(Instant::now()).as_millis() as u32,
            received_at: exchange.received_at,
        };
        let whose = exchange.state.plugins.whose(&head, &exchange.headers, request);
        self.whose = Some(whose.clone());
        self.session = Some(Box::new(Session::new(exchange.state.plugins.clone(), exchange.clone(), head).of(whose)));
    }

    /// Does somebody want to know how it goes?
    pub(super) fn is_told(&self) -> bool {
        self.exchange.tape.get().is_some()
    }

    /// A plugin has decided something.
    pub(super) fn decided(&mut self, by: &Arc<Plugin>, labels: Vec<(String, String)>) {
        let label = by.label();
        if !self.record.plugins.iter().any(|known| known == label) {
            self.record.plugins.push(label.to_owned());
        }
        self.exchange.add_labels(labels);
    }

    /// Name and version of the prompt.
    pub(super) fn prompt(&self) -> Option<(String, String)> {
        let (name, version) = self.record.prompt.as_deref()?.rsplit_once('@')?;
        Some((name.to_owned(), version.to_owned()))
    }

    /// An upstream has begun to answer, or none has.
    pub(super) fn answered(&mut self, answer: Result<&upstream::Reply, &Error>) {
        let (model, endpoint, tries) = match answer {
            Ok(answer) => (&answer.model, &answer.endpoint, answer.tries),
            Err(error) => match error.asked() {
                Some(asked) => (&asked.model, &asked.endpoint, asked.tries),
                None => return,
            },
        };
        self.record.model = Some(model.clone());
        self.record.endpoint = Some(endpoint.to_string());
        self.record.tries = tries;
        self.record.hedged = answer.is_ok_and(|answer| answer.hedged);
    }

    /// An error that the exchange ends in. Addresses of upstreams go no further than this.
    pub(super) fn failed(&mut self, error: &Error) {
        self.record.error = Some(error.code().to_owned());
        self.record.kind = Some(error.kind());
        if error.asked().is_some() || matches!(error.source(), Source::Upstream(_)) {
            self.record.detail = Some(error.detail().to_owned());
        }
    }

    /// Another endpoint goes on with an answer that broke off, after so much of it.
    pub(super) fn goes_on(&mut self, endpoint: &str, tries: u32, said: Tokens) {
        self.record.endpoint = Some(endpoint.to_owned());
        self.record.tries += tries;
        self.record.continued += 1;
        if let Some(model) = self.record.model.clone() {
            self.discard(&model, said);
        }
    }

    /// A failure of the upstream that has begun to answer, in words for the client.
    pub(super) fn told(&self, error: &Error) -> String {
        let model = self.record.model.as_deref().unwrap_or_default();
        match self.exchange.state.models.get(model) {
            Some(Entry::Upstream(model)) => {
                upstream::told(error, self.record.endpoint.as_deref().unwrap_or_default(), &model.name, &model.provider)
            }
            _ => "The upstream failed.".to_owned(),
        }
    }

    /// What the upstream has counted, and what it costs.
    pub(super) fn used(&mut self, usage: Usage) {
        self.record.tokens = Some((usage.prompt_tokens, usage.completion_tokens));
        let price = self.record.model.as_ref().and_then(|model| self.exchange.state.models.price(model));
        self.record.cost = price.map(|price| price.of(usage.into()));
    }

    /// What a model has done for nothing is paid for all the same.
    pub(super) fn discard(&mut self, model: &str, tokens: Tokens) {
        let cost = self.exchange.state.models.price(model).map_or(0, |price| price.of(tokens));
        self.record.discarded = self.record.discarded.saturating_add(cost);
    }

    /// An answer was left before the upstream had counted it: after so many events, about one a token.
    pub(super) fn left_at(&mut self, prompt: u32, events: u32) {
        let price = self.record.model.as_ref().and_then(|model| self.exchange.state.models.price(model));
        let tokens = Tokens { prompt: prompt.into(), completion: events.into(), cached: 0 };
        self.record.cost = self.record.cost.or_else(|| price.map(|price| price.of(tokens)));
    }

    /// A plugin has ended an answer that was whole.
    pub(super) fn stopped_whole(&mut self, answer: &Bytes, by: &Arc<Plugin>, reason: &'static str) {
        if let Some(usage) = Answer::read(answer.clone()).and_then(|answer| answer.usage()) {
            self.used(usage);
        }
        self.stopped(by, reason);
    }

    /// A plugin has ended the answer.
    pub(super) fn stopped(&mut self, by: &Arc<Plugin>, reason: &'static str) {
        self.decided(by, Vec::new());
        self.record.ending = Ending::Stopped;
        self.record.stopped = Some(reason);
    }

    /// A second endpoint was asked and cancelled: it has read the prompt as well, as far as anybody can say.
    pub(super) fn overtaken(&mut self, model: &str, prompt: u64) {
        self.discard(model, Tokens { prompt, ..Tokens::default() });
    }

    /// For each version that the exchange had to do with: how did it end, and what did it cost?
    fn count_for_plugins(&self, whose: &Whose) {
        if let Some(fate) = fate(&self.record) {
            self.exchange.count_for_plugins(whose, fate, self.record.spent().unwrap_or(0));
        }
    }

    /// The first byte of the answer's body goes to the client.
    pub(super) fn first_byte(&mut self) {
        let since = self.exchange.started.elapsed().as_micros() as u64;
        self.record.first_byte_us.get_or_insert(since);
    }
}

/// How an exchange ended for the plugins that had to do with it. None: a client that left says nothing.
fn fate(record: &Record) -> Option<Fate> {
    Some(match (record.ending, record.kind) {
        (Ending::Left | Ending::Drained, _) => return None,
        // To end answers is what a guard is for.
        (Ending::Stopped, _) => Fate::Well,
        (Ending::Whole, _) if record.status < 400 => Fate::Well,
        // The upstream refuses a request that is wrong. It is the client's own, who could have any version taken back with it, unless a
        // plugin has changed it.
        (Ending::Whole, _) if (400..500).contains(&record.status) && !matches!(record.status, 401..=403 | 408 | 429) => {
            if record.rewritten { Fate::Failed } else { Fate::Well }
        }
        (Ending::Whole, _) => Fate::FailedUpstream,
        // The same before anything was sent: a prompt that is not there, or lacks a variable.
        (Ending::Refused, Some(Kind::PromptNotFound | Kind::InvalidRequest)) => Fate::Well,
        // Nobody was to be asked.
        (Ending::Refused, Some(Kind::NotCached)) => Fate::Well,
        (_, Some(kind)) if kind.is_upstreams() => Fate::FailedUpstream,
        // The upstream has said in its stream that it failed.
        (Ending::Broken, None) => Fate::FailedUpstream,
        (Ending::Broken | Ending::Refused, _) => Fate::Failed,
    })
}

impl From<Usage> for Tokens {
    fn from(usage: Usage) -> Self {
        Self { prompt: usage.prompt_tokens, completion: usage.completion_tokens, cached: usage.cached_tokens() }
    }
}

impl Drop for Course {
    fn drop(&mut self) {
        self.record.total_us = self.exchange.started.elapsed().as_micros() as u64;
        if self.record.ending == Ending::Left && self.gateway.is_cut() {
            self.record.ending = Ending::Drained;
        }
        if std::thread::panicking() {
            self.record.ending = Ending::Broken;
            self.record.error.get_or_insert_with(|| Kind::Internal.describe().1.to_owned());
        }
        self.record.labels = self.exchange.labels();
        self.gateway.numbers.book(&self.record);
        if let Some(whose) = &self.whose {
            self.count_for_plugins(whose);
        }
        if let Some(level) = self.degraded {
            self.gateway.degrade.counts[level as usize].add(1);
        }
        recording::ended(&self.exchange, std::mem::take(&mut self.record));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_end_says_of_a_plugin() {
        let (well, failed, upstream) = (Some(Fate::Well), Some(Fate::Failed), Some(Fate::FailedUpstream));
        for (ending, status, kind, expect) in [
            (Ending::Whole, 200, None, well),
            (Ending::Stopped, 200, None, well),
            (Ending::Left, 200, None, None),
            (Ending::Drained, 200, Some(Kind::Overloaded), None),
            (Ending::Whole, 400, None, well),
            (Ending::Whole, 422, None, well),
            (Ending::Whole, 401, None, upstream),
            (Ending::Whole, 429, None, upstream),
            (Ending::Whole, 503, None, upstream),
            (Ending::Refused, 403, Some(Kind::Rejected), failed),
            (Ending::Refused, 400, Some(Kind::InvalidRequest), well),
            (Ending::Refused, 500, Some(Kind::PluginFailed), failed),
            (Ending::Refused, 502, Some(Kind::UpstreamBroken), upstream),
            (Ending::Refused, 503, Some(Kind::NoUpstream), upstream),
            (Ending::Refused, 504, Some(Kind::NotCached), well),
            (Ending::Broken, 200, Some(Kind::UpstreamTimeout), upstream),
            (Ending::Broken, 200, Some(Kind::Rejected), failed),
            (Ending::Broken, 200, None, upstream),
        ] {
            let record = Record { ending, status, kind, ..Record::default() };
            assert_eq!(fate(&record), expect, "{ending:?} {status} {kind:?}");
        }
        let record = Record { ending: Ending::Whole, status: 400, rewritten: true, ..Record::default() };
        assert_eq!(fate(&record), failed, "a plugin may have made it wrong");
    }
}
