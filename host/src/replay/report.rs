//! What a replay has found, in words and as JSON.
//!
//! Costs of what would be different are what the recorded tokens cost at the other model's price; times are the mean of what that model took
//! for recorded exchanges that it answered alone. Both are estimates and are called so.
//!
//! **Invariant:** exchanges are counted in the order of the recording, so sums and examples do not hang on threads.

mod text;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use serde_json::Value;

use super::drive::{Decided, Ran};
use super::path::{End, Path};
use super::read::Problems;
use crate::plugin::tape::{Function, Recorded, Said};
use crate::record::cost::{Price, Tokens};

/// Bytes of a decision in an example.
const SHOWN: usize = 240;

/// The report.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The plugin in whose place the component stood.
    pub plugin: String,
    /// SHA-256 of the component.
    pub component: String,
    /// The same of the one that it is compared with; none: with what was recorded.
    pub against: Option<String>,
    /// Exchanges in the recording.
    pub exchanges: u64,
    /// Those about which the plugin had been asked.
    pub replayed: u64,
    /// Those of them about which something is decided otherwise.
    pub changed: u64,
    /// Those of them from which rules of the recording have taken something out.
    pub redacted: u64,
    /// Those of them of whose answers only the beginning was kept.
    pub cut: u64,
    /// Lines that could not be read, or exchanges that could not be replayed.
    pub unread: u64,
    /// Where they are, and why; the first of them.
    pub problems: Vec<String>,
    /// How often a decision became which.
    pub decisions: Vec<Decision>,
    /// How often which model answers instead of which; only where they differ.
    pub models: Vec<Shift>,
    /// Micro-US-dollars.
    pub cost: Estimate,
    /// Microseconds of an exchange, on average.
    pub latency: Estimate,
    /// Questions of the component to the host that no record answers.
    pub unknown: BTreeMap<String, u64>,
    /// Exchanges in which there were some.
    pub uncertain: u64,
    /// Some of the exchanges about which something is decided otherwise.
    pub examples: Vec<Example>,
    /// BLAKE3 over all that the component has decided: two replays that decided alike have the same.
    pub digest: String,
}

/// One kind of decision that became another, or the same.
#[derive(Debug, Serialize)]
pub struct Decision {
    /// What was asked.
    pub function: &'static str,
    /// What was said.
    pub before: String,
    /// What is said.
    pub after: String,
    /// How often.
    pub count: u64,
    /// How often not all of it is the same.
    pub changed: u64,
}

/// Another model answers.
#[derive(Debug, Serialize)]
pub struct Shift {
    /// Who answered.
    pub before: String,
    /// Who would.
    pub after: String,
    /// How often.
    pub count: u64,
}

/// A figure before and after.
#[derive(Debug, Default, Serialize)]
pub struct Estimate {
    /// As recorded, or of the component that it is compared with.
    pub before: f64,
    /// Of the component.
    pub after: f64,
    /// Exchanges that are in both.
    pub exchanges: u64,
    /// Exchanges of which there is no figure, and which are in neither.
    pub without: u64,
}

/// One exchange.
#[derive(Debug, Serialize)]
pub struct Example {
    /// Its id.
    pub id: String,
    /// Its tenant.
    pub tenant: String,
    /// The model that was asked for.
    pub asked: String,
    /// What is decided otherwise.
    pub function: &'static str,
    /// The decision before.
    pub before: String,
    /// The decision now.
    pub after: String,
}

/// What one exchange comes to.
pub(super) struct One {
    /// None: the plugin was not asked.
    decided: Option<Compared>,
    /// What the model that answered alone took.
    took: Option<(String, u64)>,
}

struct Compared {
    id: String,
    tenant: String,
    asked: String,
    redacted: bool,
    cut: bool,
    calls: Vec<(Function, Option<Said>, Option<Said>, bool)>,
    ends: (End, End),
    cost: Option<(u64, u64)>,
    time: (Time, Time),
    unknown: Vec<String>,
    digest: blake3::Hash,
}

/// How long an exchange takes.
enum Time {
    Recorded(u64),
    /// These models, one after the other.
    Of(Vec<String>),
    Unknown,
}

/// The same without the time itself: exchanges of a kind are counted together, so that a report is no larger for more of them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Pace {
    Recorded,
    Of(Vec<String>),
    Unknown,
}

impl Time {
    fn parts(&self) -> (Pace, u64) {
        match self {
            Self::Recorded(us) => (Pace::Recorded, *us),
            Self::Of(models) => (Pace::Of(models.clone()), 0),
            Self::Unknown => (Pace::Unknown, 0),
        }
    }
}

/// Exchanges of one kind, and the sums of what was recorded.
#[derive(Default)]
struct Paced {
    count: u64,
    before: u64,
    after: u64,
}

impl One {
    pub(super) fn without(exchange: &Recorded) -> Self {
        Self { decided: None, took: took(exchange) }
    }

    pub(super) fn of(exchange: &Recorded, before: Ran, new: Ran, prices: &HashMap<String, Price>) -> Self {
        let digest = digest(exchange, &new);
        let costs = (cost(exchange, &before.path, prices), cost(exchange, &new.path, prices));
        let decided = Compared {
            id: exchange.head.id.clone(),
            tenant: exchange.head.tenant.clone(),
            asked: exchange.head.model.clone(),
            redacted: exchange.redacted,
            cut: exchange.cut,
            ends: (before.path.end.clone(), new.path.end.clone()),
            cost: costs.0.zip(costs.1),
            time: (time(exchange, &before.path), time(exchange, &new.path)),
            calls: pairs(before.calls, new.calls),
            unknown: new.unknown,
            digest,
        };
        Self { decided: Some(decided), took: took(exchange) }
    }
}

/// The time of a model that answered alone, and wholly.
fn took(exchange: &Recorded) -> Option<(String, u64)> {
    let outcome = &exchange.outcome;
    let alone = outcome.attempts.len() == 1 && outcome.ending == "whole" && outcome.status == 200;
    outcome.model.clone().filter(|_| alone).map(|model| (model, outcome.total_us))
}

fn cost(exchange: &Recorded, path: &Path, prices: &HashMap<String, Price>) -> Option<u64> {
    if path.is_as_recorded(exchange) {
        // Nothing is paid for a refusal and a cached answer.
        return match path.end {
            End::Refused | End::Cached => Some(exchange.outcome.cost.unwrap_or(0)),
            _ => exchange.outcome.cost,
        };
    }
    let (prompt, completion) = exchange.outcome.tokens?;
    let tokens = Tokens { prompt, completion, cached: 0 };
    match path.end {
        End::Unknown => None,
        _ => path.asked.iter().map(|model| prices.get(model).map(|price| price.of(tokens))).sum(),
    }
}

fn time(exchange: &Recorded, path: &Path) -> Time {
    if path.is_as_recorded(exchange) {
        return Time::Recorded(exchange.outcome.total_us);
    }
    match path.end {
        End::Unknown => Time::Unknown,
        _ => Time::Of(path.asked.clone()),
    }
}

fn digest(exchange: &Recorded, ran: &Ran) -> blake3::Hash {
    let mut hash = blake3::Hasher::new();
    hash.update(exchange.head.id.as_bytes());
    for Decided { function, said, labels } in &ran.calls {
        let part = serde_json::to_vec(&(function, said, labels)).unwrap_or_default();
        hash.update(&(part.len() as u64).to_le_bytes()).update(&part);
    }
    hash.update(ran.path.end.name().as_bytes());
    hash.finalize()
}

/// Calls of the same function, in their order, side by side; and whether they differ.
fn pairs(before: Vec<Decided>, mut after: Vec<Decided>) -> Vec<(Function, Option<Said>, Option<Said>, bool)> {
    let mut found = Vec::new();
    for Decided { function, said, labels } in before {
        let place = after.iter().position(|call| call.function == function);
        let now = place.map(|place| after.remove(place));
        let differs = now.as_ref().is_none_or(|now| !is_same(&said, &now.said) || labels != now.labels);
        found.push((function, Some(said), now.map(|now| now.said), differs));
    }
    found.extend(after.into_iter().map(|call| (call.function, None, Some(call.said), true)));
    found
}

/// Why a call failed is not compared: words hang on versions.
fn is_same(a: &Said, b: &Said) -> bool {
    match (a, b) {
        (Said::Decided(a), Said::Decided(b)) => is_equal(a, b),
        (Said::Failed { cause: a, .. }, Said::Failed { cause: b, .. }) => a == b,
        (a, b) => a == b,
    }
}

/// Numbers with a fraction are the contract's `f32`, whose last digits a text may not keep.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64().map(|a| a as f32) == b.as_f64().map(|b| b as f32),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_equal(a, b)))
        }
        (a, b) => a == b,
    }
}

type Kinds = (Function, String, String);

/// Counts.
pub(super) struct Tally {
    examples: usize,
    exchanges: u64,
    replayed: u64,
    changed: u64,
    redacted: u64,
    cut: u64,
    uncertain: u64,
    unread: Vec<String>,
    unreadable: u64,
    decisions: BTreeMap<Kinds, (u64, u64)>,
    shifts: BTreeMap<(End, End), u64>,
    cost: Estimate,
    times: BTreeMap<(Pace, Pace), Paced>,
    took: BTreeMap<String, (u64, u64)>,
    unknown: BTreeMap<String, u64>,
    shown: Vec<Example>,
    told: BTreeMap<Kinds, usize>,
    hash: blake3::Hasher,
}

impl Tally {
    pub(super) fn new(examples: usize) -> Self {
        Self {
            examples,
            exchanges: 0,
            replayed: 0,
            changed: 0,
            redacted: 0,
            cut: 0,
            uncertain: 0,
            unread: Vec::new(),
            unreadable: 0,
            decisions: BTreeMap::new(),
            shifts: BTreeMap::new(),
            cost: Estimate::default(),
            times: BTreeMap::new(),
            took: BTreeMap::new(),
            unknown: BTreeMap::new(),
            shown: Vec::new(),
            told: BTreeMap::new(),
            hash: blake3::Hasher::new(),
        }
    }

    pub(super) fn count(&mut self, one: Result<One, String>) {
        self.exchanges += 1;
        let One { decided, took } = match one {
            Ok(one) => one,
            Err(reason) => {
                self.unreadable += 1;
                if self.unread.len() < 20 {
                    self.unread.push(format!("exchange {} {reason}", self.exchanges));
                }
                return;
            }
        };
        if let Some((model, us)) = took {
            let (count, sum) = self.took.entry(model).or_default();
            (*count, *sum) = (*count + 1, *sum + us);
        }
        if let Some(compared) = decided {
            self.compare(compared);
        }
    }

    fn compare(&mut self, one: Compared) {
        self.replayed += 1;
        self.redacted += u64::from(one.redacted);
        self.cut += u64::from(one.cut);
        self.uncertain += u64::from(!one.unknown.is_empty());
        self.hash.update(one.digest.as_bytes());
        for call in &one.unknown {
            *self.unknown.entry(call.clone()).or_default() += 1;
        }
        if one.ends.0 != one.ends.1 {
            *self.shifts.entry(one.ends.clone()).or_default() += 1;
        }
        match one.cost {
            Some((before, after)) => {
                self.cost.exchanges += 1;
                self.cost.before += before as f64;
                self.cost.after += after as f64;
            }
            None => self.cost.without += 1,
        }
        let ((before, before_us), (after, after_us)) = (one.time.0.parts(), one.time.1.parts());
        let paced = self.times.entry((before, after)).or_default();
        (paced.count, paced.before, paced.after) = (paced.count + 1, paced.before + before_us, paced.after + after_us);
        self.changed += u64::from(one.calls.iter().any(|(.., differs)| *differs));
        for (function, before, after, differs) in &one.calls {
            let kinds = (*function, kind(before.as_ref()), kind(after.as_ref()));
            let (count, changed) = self.decisions.entry(kinds.clone()).or_default();
            *count += 1;
            *changed += u64::from(*differs);
            let told = self.told.entry(kinds).or_default();
            if *differs && *told < self.examples {
                *told += 1;
                self.shown.push(Example {
                    id: one.id.clone(),
                    tenant: one.tenant.clone(),
                    asked: one.asked.clone(),
                    function: function.name(),
                    before: shown(before.as_ref()),
                    after: shown(after.as_ref()),
                });
            }
        }
    }

    pub(super) fn report(self, plugin: &str, component: String, against: Option<String>, mut problems: Problems) -> Report {
        let latency = self.latency();
        problems.told.extend(self.unread);
        let decisions = self.decisions.into_iter().map(|((function, before, after), (count, changed))| Decision {
            function: function.name(),
            before,
            after,
            count,
            changed,
        });
        let mut models: Vec<Shift> = self
            .shifts
            .into_iter()
            .map(|((before, after), count)| Shift { before: before.name().to_owned(), after: after.name().to_owned(), count })
            .collect();
        models.sort_by_key(|shift| std::cmp::Reverse(shift.count));
        Report {
            plugin: plugin.to_owned(),
            component,
            against,
            exchanges: self.exchanges,
            replayed: self.replayed,
            changed: self.changed,
            redacted: self.redacted,
            cut: self.cut,
            unread: problems.count + self.unreadable,
            problems: problems.told,
            decisions: decisions.collect(),
            models,
            cost: self.cost,
            latency,
            unknown: self.unknown,
            uncertain: self.uncertain,
            examples: self.shown,
            digest: format!("blake3:{}", self.hash.finalize().to_hex()),
        }
    }

    /// Means, when all that models took is known.
    fn latency(&self) -> Estimate {
        let mean = |model: &String| self.took.get(model).map(|(count, sum)| *sum as f64 / *count as f64);
        let of = |pace: &Pace, count: u64, recorded: u64| match pace {
            Pace::Recorded => Some(recorded as f64),
            Pace::Of(models) => models.iter().map(mean).sum::<Option<f64>>().map(|mean| mean * count as f64),
            Pace::Unknown => None,
        };
        let mut found = Estimate::default();
        for ((before, after), paced) in &self.times {
            match of(before, paced.count, paced.before).zip(of(after, paced.count, paced.after)) {
                Some((before, after)) => {
                    found.exchanges += paced.count;
                    found.before += before;
                    found.after += after;
                }
                None => found.without += paced.count,
            }
        }
        if found.exchanges > 0 {
            found.before /= found.exchanges as f64;
            found.after /= found.exchanges as f64;
        }
        found
    }
}

/// A decision in a word or two.
fn kind(said: Option<&Said>) -> String {
    match said {
        None | Some(Said::Nothing) => "not asked".to_owned(),
        Some(Said::Skipped) => "left alone".to_owned(),
        Some(Said::Failed { cause, .. }) => format!("failed: {cause}"),
        Some(Said::Decided(value)) => match value {
            Value::String(case) => kebab(case),
            Value::Object(cases) => cases.keys().next().map_or_else(String::new, |case| kebab(case)),
            Value::Null => "no".to_owned(),
            _ => "yes".to_owned(),
        },
    }
}

/// A case's name as the contract writes it.
fn kebab(case: &str) -> String {
    let mut name = String::new();
    for letter in case.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn shown(said: Option<&Said>) -> String {
    let text = match said {
        Some(Said::Decided(value)) => value.to_string(),
        Some(Said::Failed { cause, reason }) => format!("failed: {cause}: {reason}"),
        other => kind(other),
    };
    if text.len() <= SHOWN { text } else { format!("{}…", &text[..text.floor_char_boundary(SHOWN)]) }
}
