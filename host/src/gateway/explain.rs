//! The stories of the last exchanges: who was asked, what was decided, which models answered, and what the client got.
//!
//! Kept in memory, apart for each core, the oldest first to go. They cost an exchange with three decisions about a quarter more of a
//! core's time (30 µs; `compare` with and without `explain`), and so are kept for those alone who ask for them.
//!
//! What it does not do: it writes nothing to disk. Numbers over many exchanges are `record`'s, what plugins were told is `recording`'s.
//!
//! **Invariant:** a story has no text of a prompt or an answer, unless its owner has asked for that.
//! **Invariant:** all stories together take no more memory than they may.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::Exchange;
use crate::dialect::openai_chat::ChatRequest;
use crate::plugin::tape::{Call, Function, Said, weight};
use crate::record::Record;

/// Bytes of a story beside its texts.
const STORY: usize = 1 << 10;
/// Bytes of a call beside its texts.
const CALL: usize = 256;
/// Bytes of a text that is kept where texts are.
const LONGEST: usize = 16 << 10;

/// The stories of a node.
#[derive(Debug)]
pub struct Stories {
    rings: Vec<Mutex<Ring>>,
    /// Bytes of one ring.
    room: usize,
    /// Keep what was asked and decided word by word.
    texts: bool,
}

#[derive(Debug, Default)]
struct Ring {
    stories: VecDeque<(usize, Story)>,
    bytes: usize,
}

/// What is kept of one exchange.
#[derive(Debug)]
pub struct Story {
    received_at: u64,
    key: Option<String>,
    record: Record,
    calls: Vec<Call>,
}

/// Which stories are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The model that was asked for, or that answered.
    pub model: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// A plugin that was asked.
    pub plugin: Option<String>,
    /// At most so many, the newest.
    pub most: usize,
}

impl Stories {
    /// For so many cores, in so many bytes.
    pub fn new(cores: usize, bytes: usize, texts: bool) -> Self {
        let rings = std::iter::repeat_with(Mutex::default).take(cores.max(1)).collect();
        Self { rings, room: bytes / cores.max(1), texts }
    }

    /// Keeps the story of an exchange that has ended.
    pub(super) fn keep(&self, exchange: &Exchange, record: Record, mut calls: Vec<Call>) {
        calls.retain(|call| !call.lets_pass());
        calls.iter_mut().for_each(|call| self.shorten(call));
        let key = exchange.principal.key.as_deref().map(str::to_owned);
        let mut story = Story { received_at: exchange.received_at, key, record, calls };
        story.fit(self.room);
        let size = story.size();
        if size > self.room {
            return;
        }
        let mut ring = self.ring(exchange.worker);
        ring.bytes += size;
        ring.stories.push_back((size, story));
        while ring.bytes > self.room
            && let Some((size, _)) = ring.stories.pop_front()
        {
            ring.bytes -= size;
        }
    }

    /// Takes from a call what it was told, and texts where they are not kept.
    fn shorten(&self, call: &mut Call) {
        (call.told, call.imports) = (None, Vec::new());
        if let Said::Decided(decision) = &mut call.said
            && !self.texts
        {
            without_texts(call.function, decision);
        }
    }

    /// The beginning of a question, where texts are kept.
    pub(super) fn question(&self, request: &ChatRequest) -> Option<String> {
        let text = request.last_user_text().filter(|_| self.texts)?;
        Some(text[..text.floor_char_boundary(LONGEST)].to_owned())
    }

    /// One exchange's story.
    pub fn one(&self, id: &str) -> Option<Value> {
        self.rings()
            .find_map(|ring| ring.stories.iter().rev().find(|(_, story)| story.record.id == id).map(|(_, story)| story.whole()))
    }

    /// The last exchanges in short, the newest first.
    pub fn last(&self, wanted: &Wanted) -> Vec<Value> {
        let mut found: Vec<(u64, Value)> = Vec::new();
        for ring in self.rings() {
            let fit = ring.stories.iter().rev().filter(|(_, story)| story.is(wanted)).take(wanted.most);
            found.extend(fit.map(|(_, story)| (story.received_at, story.short())));
        }
        found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        found.into_iter().map(|(_, story)| story).take(wanted.most).collect()
    }

    fn rings(&self) -> impl Iterator<Item = MutexGuard<'_, Ring>> {
        self.rings.iter().map(|ring| ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ring(&self, worker: usize) -> MutexGuard<'_, Ring> {
        self.rings[worker % self.rings.len()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes out of a decision what may be words of a prompt: what is known of them is how long they are.
fn without_texts(function: Function, decision: &mut Value) {
    let hide = |value: &mut Value| {
        if let Value::String(text) = value {
            *text = format!("({} bytes)", text.len());
        }
    };
    match function {
        Function::Select => {
            for edit in decision.pointer_mut("/Rewrite/edits").and_then(Value::as_array_mut).into_iter().flatten() {
                strings(edit, &hide);
            }
        }
        Function::Key => {
            for case in ["Key", "ReadOnly", "Refresh"] {
                let Some(key) = decision.get_mut(case) else { continue };
                for part in ["/exact", "/semantic/text"] {
                    if let Some(part) = key.pointer_mut(part) {
                        strings(part, &hide);
                    }
                }
            }
        }
        _ => {}
    }
}

fn strings(value: &mut Value, change: &impl Fn(&mut Value)) {
    match value {
        Value::String(_) => change(value),
        Value::Array(list) => list.iter_mut().for_each(|item| strings(item, change)),
        Value::Object(fields) => fields.values_mut().for_each(|item| strings(item, change)),
        _ => {}
    }
}

/// The beginning of a text.
fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
    }
}

impl Story {
    /// Shortens what is long in it until it has room: the story that somebody asks for is often the one that was too long.
    fn fit(&mut self, room: usize) {
        for longest in [2 << 10, 256, 32] {
            if self.size() <= room {
                return;
            }
            self.cut(longest);
        }
        // A decision may have many parts rather than long ones.
        let is_long = self.size() > room;
        for call in self.calls.iter_mut().filter(|_| is_long) {
            if let Said::Decided(value) = &mut call.said {
                *value = json!(format!("({} bytes)", weight(value)));
            }
        }
    }

    fn cut(&mut self, longest: usize) {
        let record = &mut self.record;
        for text in [&mut record.question, &mut record.detail, &mut record.reason, &mut record.error].into_iter().flatten() {
            cut(text, longest);
        }
        record.labels.iter_mut().for_each(|(_, value)| cut(value, longest));
        for call in &mut self.calls {
            match &mut call.said {
                Said::Decided(value) => strings(value, &|value| {
                    if let Value::String(text) = value {
                        cut(text, longest);
                    }
                }),
                Said::Failed { reason, .. } => cut(reason, longest),
                Said::Nothing | Said::Skipped => {}
            }
            call.labels.iter_mut().for_each(|(_, value)| cut(value, longest));
            call.unfit.iter_mut().for_each(|text| cut(text, longest));
        }
    }

    fn size(&self) -> usize {
        let record = &self.record;
        let labels =
            |labels: &[(String, String)]| labels.iter().map(|(name, value)| name.len() + value.len() + 48).sum::<usize>();
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let calls = self.calls.iter().map(|call| {
            let said = match &call.said {
                Said::Decided(value) => weight(value),
                Said::Failed { reason, .. } => reason.len(),
                Said::Nothing | Said::Skipped => 0,
            };
            CALL + call.plugin.len() + call.digest.len() + said + labels(&call.labels) + text(&call.unfit)
        });
        STORY
            + calls.sum::<usize>()
            + labels(&record.labels)
            + [&self.key, &record.question, &record.detail, &record.reason, &record.error, &record.prompt, &record.endpoint]
                .into_iter()
                .map(text)
                .sum::<usize>()
            + record.plugins.iter().map(|plugin| plugin.len() + 24).sum::<usize>()
            + record.attempts.len() * 160
            + record.planned.len() * 24
    }

    fn is(&self, wanted: &Wanted) -> bool {
        let record = &self.record;
        let model = |name: &String| record.asked == *name || record.model.as_deref() == Some(name);
        wanted.model.as_ref().is_none_or(model)
            && wanted.tenant.as_ref().is_none_or(|tenant| record.tenant.as_deref() == Some(tenant))
            && wanted.plugin.as_ref().is_none_or(|plugin| self.calls.iter().any(|call| call.plugin == *plugin))
    }

    fn short(&self) -> Value {
        let record = &self.record;
        present(json!({
            "id": record.id,
            "received_at": self.received_at,
            "tenant": record.tenant,
            "asked": record.asked,
            "model": record.model,
            "status": record.status,
            "ending": record.ending.name(),
            "error": record.error,
            "cache": record.cache.name(),
            "reason": record.reason,
            "cost": record.spent(),
            "total_us": record.total_us,
        }))
    }

    fn whole(&self) -> Value {
        let record = &self.record;
        let stages: serde_json::Map<_, _> =
            record.stages.iter().map(|(stage, took)| (stage.name().to_owned(), (took.as_micros() as u64).into())).collect();
        let calls: Vec<Value> = self.calls.iter().map(call).collect();
        let attempts: Vec<Value> = record
            .attempts
            .iter()
            .map(|attempt| {
                present(json!({
                    "model": attempt.model,
                    "endpoint": attempt.endpoint,
                    "status": attempt.status,
                    "failure": attempt.failure,
                    "took_us": attempt.took_us,
                    "cost": attempt.cost,
                    "doubt": attempt.doubt,
                }))
            })
            .collect();
        present(json!({
            "id": record.id,
            "received_at": self.received_at,
            "tenant": record.tenant,
            "key": self.key,
            "asked": record.asked,
            "substitute_for": record.substitute_for,
            "streamed": record.streamed,
            "question": record.question,
            "prompt": record.prompt,
            "part_of": record.part_of,
            "fragments": record.fragments,
            "cache": present(json!({ "outcome": record.cache.name(), "tier": record.cache_tier, "key": record.cache_key, "partition": record.cache_partition, "score": record.cache_score })),
            "plugins": calls,
            "plan": record.planned,
            "reason": record.reason,
            "labels": record.labels,
            "attempts": attempts,
            "escalated": record.escalated,
            "answer": present(json!({
                "status": record.status,
                "ending": record.ending.name(),
                "error": record.error,
                "detail": record.detail,
                "model": record.model,
                "endpoint": record.endpoint,
                "tries": record.tries,
                "hedged": record.hedged.then_some(true),
                "continued": (record.continued > 0).then_some(record.continued),
                "degraded": record.degraded,
                "unjudged": record.unjudged.then_some(true),
                "prompt_tokens": record.tokens.map(|tokens| tokens.0),
                "completion_tokens": record.tokens.map(|tokens| tokens.1),
                "cost": record.spent(),
                "discarded": (record.discarded > 0).then_some(record.discarded),
                "first_byte_us": record.first_byte_us,
                "total_us": record.total_us,
            })),
            "stages_us": stages,
        }))
    }
}

fn call(call: &Call) -> Value {
    let version = call.digest.get(..12).unwrap_or_default();
    let (decision, failed) = match &call.said {
        Said::Decided(decision) => (Some(decision), None),
        Said::Failed { cause, reason } => (None, Some(format!("{cause}: {reason}"))),
        Said::Skipped => (None, Some("left alone after failures".to_owned())),
        Said::Nothing => (None, Some("no answer".to_owned())),
    };
    present(json!({
        "plugin": format!("{}@{version}", call.plugin),
        "function": call.function.name(),
        "at_us": call.at_us,
        "took_us": call.took_us,
        "decision": decision,
        "failed": failed,
        "unfit": call.unfit,
        "labels": (!call.labels.is_empty()).then_some(&call.labels),
    }))
}

/// An object without the fields that say nothing.
fn present(mut object: Value) -> Value {
    if let Value::Object(fields) = &mut object {
        fields.retain(|_, value| !(value.is_null() || value.as_array().is_some_and(Vec::is_empty)));
    }
    object
}

/// For a snapshot; the stories of the one before stay where it keeps as many.
pub(super) fn stories(wanted: Option<(usize, bool)>, cores: usize, before: Option<&Arc<Stories>>) -> Option<Arc<Stories>> {
    let (bytes, texts) = wanted.filter(|(bytes, _)| *bytes > 0)?;
    let made = Stories::new(cores, bytes, texts);
    let same =
        before.filter(|before| before.room == made.room && before.texts == texts && before.rings.len() == made.rings.len());
    Some(same.cloned().unwrap_or_else(|| Arc::new(made)))
}
