//! Purges: which entries are not to be served any more, on this node and on all others.
//!
//! A purge is a rule: entries that it means, and that were asked for by somebody who could not know of it yet, are gone. So an entry carries
//! the last purge that was known when it was asked for ([`Stamp`]), and is held against later ones before it is served, in whatever tier it
//! was found. That is the guarantee; that tiers also take out what is meant only gives room and privacy back.
//!
//! What it does not do: it carries no rule to other nodes (`tier/redis/log`), and keeps none over a restart (`tier/disk`).
//!
//! **Invariant:** an entry that an applied rule means is served by no tier, however late it gets there: one that was on its way too.
//! **Invariant:** no clock of a node decides between an entry and a rule; the order of rules does.
//! **Invariant:** at most [`MAX_RULES`] are kept; in place of the oldest, all entries that are as old as it are gone.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::entry::Entry;
use super::key::{ExactKey, Partition};
use crate::numbers::Count;

/// The most rules that are kept.
pub const MAX_RULES: usize = 4_096;

/// A place in the order of all purges: milliseconds since the Unix epoch, and which one of that millisecond (20 bits).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(pub u64);

impl Stamp {
    /// The nth one of a millisecond.
    pub fn at(ms: u64, nth: u64) -> Self {
        Self((ms << 20) | nth.min((1 << 20) - 1))
    }

    /// Its millisecond.
    pub fn ms(self) -> u64 {
        self.0 >> 20
    }

    /// Which one of its millisecond it is.
    pub fn nth(self) -> u64 {
        self.0 & ((1 << 20) - 1)
    }
}

/// Which entries are meant: those of which all that is said is true; where nothing is said, all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Selector {
    /// The entry under this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<ExactKey>,
    /// Entries with this tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Entries of this partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Entries of this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Answers of this model, by its configured name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Answers to this prompt, `NAME` or `NAME@VERSION`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

impl Selector {
    /// Does it mean all entries?
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Does it mean this one?
    pub fn means(&self, entry: &Entry) -> bool {
        self.model.as_ref().is_none_or(|model| **model == *entry.model) && self.may_mean(entry)
    }

    /// The same of an entry of which all is known but the model: whichever it will be.
    pub fn may_mean(&self, entry: &Entry) -> bool {
        let Self { key, tag, partition, tenant, model: _, prompt } = self;
        let has_prompt = |wanted: &str| {
            entry.prompt.as_ref().is_some_and(|(name, version)| match wanted.rsplit_once('@') {
                Some((own, exact)) => own == name && exact == version,
                None => wanted == name,
            })
        };
        key.is_none_or(|key| key == entry.key)
            && tag.as_ref().is_none_or(|tag| entry.tags.iter().any(|own| **own == **tag))
            && partition.is_none_or(|partition| entry.partition == Some(partition))
            && tenant.as_ref().is_none_or(|tenant| **tenant == *entry.tenant)
            && prompt.as_deref().is_none_or(has_prompt)
    }
}

/// What other nodes know of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing yet.
    No,
    /// It is in the log that all read.
    Logged,
    /// It was, and the log has been lost.
    Lost,
}

/// A purge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which entries.
    pub selector: Selector,
    /// Those with an older stamp.
    pub bound: Stamp,
    /// What other nodes know of it.
    pub told: Told,
}

impl Rule {
    /// Is this entry gone?
    pub fn takes(&self, entry: &Entry) -> bool {
        entry.stamp < self.bound && self.selector.means(entry)
    }

    /// Does it take all that the other one does?
    fn covers(&self, other: &Self) -> bool {
        self.bound >= other.bound && (self.selector.is_all() || self.selector == other.selector)
    }
}

/// What takes entries out that a rule takes; served they are not even before.
pub trait Sweep: Send + Sync {
    /// Takes them out, now or in a while. `own`: the rule was made on this node, which does it for tiers that nodes share.
    fn sweep(&self, rule: &Rule, own: bool);
}

/// How far this node has read what others have purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Read {
    /// It has not tried yet.
    NotYet,
    /// It has tried, and Redis was away.
    Tried,
    /// It has read all that there was.
    Once,
}

/// The rules that are in force.
pub struct Purges {
    /// In the order of their bounds.
    rules: ArcSwap<Vec<Rule>>,
    /// Held while they are changed.
    changing: Mutex<()>,
    /// The newest bound.
    known: AtomicU64,
    /// How often they were changed.
    changes: AtomicU64,
    read: AtomicU8,
    sweepers: Mutex<Vec<Weak<dyn Sweep>>>,
    /// Asked for on this node.
    pub here: Count,
    /// Learnt from others.
    pub elsewhere: Count,
}

impl Default for Purges {
    fn default() -> Self {
        Self {
            rules: ArcSwap::default(),
            changing: Mutex::default(),
            known: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            read: AtomicU8::new(Read::NotYet as u8),
            sweepers: Mutex::default(),
            here: Count::default(),
            elsewhere: Count::default(),
        }
    }
}

impl Purges {
    /// The last purge that is known: the stamp of what is asked for from now on.
    pub fn known(&self) -> Stamp {
        Stamp(self.known.load(Ordering::Acquire))
    }

    /// May an entry be served? One look at a number where nothing was purged since the last time.
    pub fn spare(&self, entry: &Entry) -> bool {
        let changes = self.changes.load(Ordering::Acquire);
        if entry.held_against.load(Ordering::Relaxed) == changes {
            return true;
        }
        let rules = self.rules.load();
        let later = rules.partition_point(|rule| rule.bound <= entry.stamp);
        let spared = !rules[later..].iter().any(|rule| rule.selector.means(entry));
        if spared {
            entry.held_against.store(changes, Ordering::Relaxed);
        }
        spared
    }

    /// May an entry be served that was made where nobody knew this node's purges? Not if it was before one that means it, by the clocks.
    pub fn spare_made_at(&self, entry: &Entry) -> bool {
        !self.rules.load().iter().any(|rule| rule.bound.ms() >= entry.created_at && rule.selector.means(entry))
    }

    /// May what is being asked for be served once it is there? Of it all is known but the model.
    pub fn spare_coming(&self, entry: &Entry) -> bool {
        self.spare_since(entry.stamp, entry)
    }

    /// The same where somebody has asked for it who knew no later purge than this.
    pub fn spare_since(&self, stamp: Stamp, entry: &Entry) -> bool {
        let rules = self.rules.load();
        let later = rules.partition_point(|rule| rule.bound <= stamp);
        !rules[later..].iter().any(|rule| rule.selector.may_mean(entry))
    }

    /// A new rule of this node's, in force at once. `now`: milliseconds since the Unix epoch.
    pub fn make(&self, selector: Selector, now: u64) -> Rule {
        let bound = Stamp::at(now, 0).max(Stamp(self.known().0 + 1));
        let rule = Rule { selector, bound, told: Told::No };
        self.apply(rule.clone());
        self.here.add(1);
        self.sweep(&rule, true);
        rule
    }

    /// Puts a rule into force. False: it says nothing new.
    pub fn apply(&self, rule: Rule) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.known.fetch_max(rule.bound.0, Ordering::AcqRel);
        let before = self.rules.load_full();
        if let Some(same) = before.iter().find(|known| known.covers(&rule)) {
            // What is new may be that others know of it.
            if rule.told == Told::Logged
                && same.told != Told::Logged
                && same.selector == rule.selector
                && same.bound == rule.bound
            {
                let marked = before.iter().map(|known| if known == same { rule.clone() } else { known.clone() });
                self.rules.store(Arc::new(marked.collect()));
            }
            return false;
        }
        let mut rules: Vec<Rule> = before.iter().filter(|known| !rule.covers(known)).cloned().collect();
        rules.insert(rules.partition_point(|known| known.bound <= rule.bound), rule);
        if rules.len() > MAX_RULES {
            // Half at a time, so that not each of the next ones empties a little more.
            let bound = rules[MAX_RULES / 2].bound;
            let oldest = Rule { selector: Selector::default(), bound, told: Told::Logged };
            rules.retain(|rule| !oldest.covers(rule));
            rules.insert(0, oldest);
        }
        self.rules.store(Arc::new(rules));
        self.changes.fetch_add(1, Ordering::AcqRel);
        true
    }

    /// A rule of another node's, or one that this node has logged itself.
    pub fn learn(&self, rule: Rule, from_elsewhere: bool) {
        if self.apply(rule.clone()) && from_elsewhere {
            self.elsewhere.add(1);
            self.sweep(&rule, false);
        }
    }

    /// All of them.
    pub fn rules(&self) -> Arc<Vec<Rule>> {
        self.rules.load_full()
    }

    /// The log is not the one that was known: rules that it does not have are to be written again.
    pub fn lost(&self, logged: impl Fn(&Rule) -> bool) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rules = Vec::clone(&self.rules.load());
        for rule in &mut rules {
            if rule.told == Told::Logged && !logged(rule) {
                rule.told = Told::Lost;
            }
        }
        self.rules.store(Arc::new(rules));
    }

    /// Do the others know this rule, or one that takes no less?
    pub fn is_told(&self, rule: &Rule) -> bool {
        self.rules.load().iter().any(|known| known.told == Told::Logged && known.covers(rule))
    }

    /// How far what others have purged was read.
    pub fn read(&self) -> Read {
        match self.read.load(Ordering::Acquire) {
            0 => Read::NotYet,
            1 => Read::Tried,
            _ => Read::Once,
        }
    }

    /// It was read so far.
    pub fn has_read(&self, read: Read) {
        self.read.fetch_max(read as u8, Ordering::AcqRel);
    }

    /// From now on told of rules, for as long as it is there. Again: nothing.
    pub fn tell(&self, sweeper: Weak<dyn Sweep>) {
        let mut sweepers = self.sweepers.lock().unwrap_or_else(PoisonError::into_inner);
        sweepers.retain(|known| known.strong_count() > 0 && !std::ptr::addr_eq(known.as_ptr(), sweeper.as_ptr()));
        sweepers.push(sweeper);
    }

    fn sweep(&self, rule: &Rule, own: bool) {
        let sweepers: Vec<Arc<dyn Sweep>> = {
            let sweepers = self.sweepers.lock().unwrap_or_else(PoisonError::into_inner);
            sweepers.iter().filter_map(Weak::upgrade).collect()
        };
        sweepers.iter().for_each(|sweeper| sweeper.sweep(rule, own));
    }
}

#[cfg(test)]
mod tests;
