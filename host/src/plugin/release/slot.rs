//! The versions of one plugin, and the steps between their states.
//!
//! What it does not do: it loads and asks nothing, and keeps nothing on disk (`store`).
//!
//! **Invariant:** a step gives another slot; who holds the one before it, an exchange in flight say, sees no change.

use std::sync::Arc;

use tokio::time::Instant;

use super::figures::Figures;
use super::judge::{self, Limits, Other, Reason};
use super::shadow::Shadow;
use super::store::{Saved, SavedTrial};
use super::{Ended, How, OnChange, Probation, REMEMBERED, Role, Rules, Trial, now};
use crate::plugin::load::Plugin;

/// One plugin: which version serves, and what else there is of it.
#[derive(Clone)]
pub struct Slot {
    /// The version that serves.
    pub serving: Arc<Plugin>,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
    /// The version that served before it.
    pub before: Option<Arc<Plugin>>,
    /// It has just taken over.
    pub probation: Option<Probation>,
    /// The version that may take over.
    pub trial: Option<Arc<Trial>>,
    /// Versions that have ended, the last one last.
    pub ended: Vec<Ended>,
    /// The digest of the configuration's component, as it was seen last.
    pub file: String,
    /// What its owner has written.
    pub rules: Rules,
}

/// There is nothing to go back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nothing;

/// A version that is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harm {
    /// Its digest.
    pub digest: String,
    /// It is on trial; it serves otherwise.
    pub on_trial: bool,
    /// Why.
    pub reason: Reason,
}

impl Slot {
    /// A first version.
    pub fn first(plugin: Arc<Plugin>, rules: Rules) -> Self {
        let file = plugin.digest().to_owned();
        Self { serving: plugin, since: now(), before: None, probation: None, trial: None, ended: Vec::new(), file, rules }
    }

    /// One of its versions, by digest.
    pub fn version(&self, digest: &str) -> Option<&Arc<Plugin>> {
        let trial = self.trial.as_ref().map(|trial| &trial.plugin);
        [Some(&self.serving), self.before.as_ref(), trial].into_iter().flatten().find(|plugin| plugin.digest() == digest)
    }

    /// Was this version taken back, and is not to be tried again?
    pub fn taken_back(&self, digest: &str) -> Option<&Ended> {
        self.rolled_back(digest).filter(|ended| ended.released_again.is_none())
    }

    /// Was this version ever taken back, as far as that is remembered?
    pub fn rolled_back(&self, digest: &str) -> Option<&Ended> {
        self.ended.iter().rev().find(|ended| ended.digest == digest && ended.how == How::RolledBack)
    }

    /// Another component is at the plugin's place: what its owner has written about that.
    #[must_use]
    pub fn found(&self, plugin: Arc<Plugin>) -> Self {
        let digest = plugin.digest();
        let mut next = self.clone();
        digest.clone_into(&mut next.file);
        let on_trial = self.trial.as_ref().is_some_and(|trial| trial.plugin.digest() == digest);
        if digest == self.serving.digest() {
            // What serves is what is there again; whatever came in between is not wanted any more.
            next.end_trial(How::Replaced, "the component before it was put back");
        } else if self.taken_back(digest).is_none() {
            match (self.rules.on_change, on_trial) {
                (OnChange::Promote, _) => return next.promote(plugin),
                (_, true) => {}
                (OnChange::Canary, false) => return next.begin(plugin, Role::Canary(self.rules.share)),
                (OnChange::Shadow, false) => return next.begin_shadow(plugin),
                (OnChange::Hold, false) => return next.begin(plugin, Role::Waiting),
            }
        }
        next
    }

    /// Puts a version on trial, in the place of the one that is.
    #[must_use]
    pub fn begin(&self, plugin: Arc<Plugin>, role: Role) -> Self {
        let mut next = self.clone();
        if self.trial.as_ref().is_some_and(|trial| trial.plugin.digest() != plugin.digest()) {
            next.end_trial(How::Replaced, "another version took its place");
        }
        next.begins_again(plugin.digest());
        next.trial = Some(Arc::new(next.try_out(plugin, role, now())));
        next
    }

    /// Lets a version decide beside the one that serves.
    #[must_use]
    pub fn begin_shadow(&self, plugin: Arc<Plugin>) -> Self {
        // Where the system has no thread left it waits; the log has said why.
        let role = Shadow::start(&plugin).map_or(Role::Waiting, Role::Shadow);
        self.begin(plugin, role)
    }

    fn try_out(&self, plugin: Arc<Plugin>, role: Role, since: u64) -> Trial {
        let began = Instant::now();
        for version in [&plugin, &self.serving] {
            version.numbers.past.note(began, Figures::of(&version.numbers), self.rules.limits.window, true);
        }
        Trial { plugin, role, since, began }
    }

    /// A version takes over.
    #[must_use]
    pub fn promote(&self, plugin: Arc<Plugin>) -> Self {
        let (mut next, began, at) = (self.clone(), Instant::now(), now());
        if self.trial.as_ref().is_some_and(|trial| trial.plugin.digest() == plugin.digest()) {
            next.trial = None;
        } else {
            next.end_trial(How::Replaced, "another version was promoted");
        }
        next.begins_again(plugin.digest());
        plugin.numbers.past.note(began, Figures::of(&plugin.numbers), self.rules.limits.window, true);
        let is_judged = self.rules.rollback && !self.rules.probation.is_zero();
        next.probation = is_judged.then(|| Probation {
            began,
            until: at + self.rules.probation.as_millis() as u64,
            baseline: Some(of_late(&self.serving, began, &self.rules.limits)),
        });
        next.before = Some(std::mem::replace(&mut next.serving, plugin));
        next.since = at;
        next
    }

    /// Takes back the version on trial, or else the one that serves.
    ///
    /// # Errors
    /// There is nothing to take back to.
    pub fn roll_back(&self, reason: &str) -> Result<Self, Nothing> {
        if self.trial.is_none() {
            return self.go_back(reason);
        }
        let mut next = self.clone();
        next.end_trial(How::RolledBack, reason);
        Ok(next)
    }

    /// Takes back what does harm, if it still is where it did it.
    ///
    /// # Errors
    /// It is not, or there is nothing to go back to.
    pub fn take_back(&self, harm: &Harm) -> Result<Self, Nothing> {
        let is_on_trial = self.is_on_trial(&harm.digest);
        if is_on_trial != harm.on_trial || !(is_on_trial || self.serving.digest() == harm.digest) {
            return Err(Nothing);
        }
        if is_on_trial { self.roll_back(&harm.reason.text) } else { self.go_back(&harm.reason.text) }
    }

    /// The version before it serves again. What is on trial stays so.
    fn go_back(&self, reason: &str) -> Result<Self, Nothing> {
        let mut next = self.clone();
        let (before, moment) = (next.before.take().ok_or(Nothing)?, Instant::now());
        before.numbers.past.note(moment, Figures::of(&before.numbers), self.rules.limits.window, true);
        let gone = std::mem::replace(&mut next.serving, before);
        (next.since, next.probation) = (now(), None);
        if next.is_on_trial(next.serving.digest()) {
            next.trial = None;
        }
        next.remember(gone.digest(), How::RolledBack, reason);
        Ok(next)
    }

    fn is_on_trial(&self, digest: &str) -> bool {
        self.trial.as_ref().is_some_and(|trial| trial.plugin.digest() == digest)
    }

    pub(in crate::plugin) fn end_trial(&mut self, how: How, reason: &str) {
        if let Some(trial) = self.trial.take() {
            self.remember(trial.plugin.digest(), how, reason);
        }
    }

    /// A version has not ended any more. That it was taken back stays known.
    fn begins_again(&mut self, digest: &str) {
        self.ended.retain(|ended| ended.digest != digest || ended.how == How::RolledBack);
        self.ended.iter_mut().filter(|ended| ended.digest == digest).for_each(|ended| ended.released_again = Some(now()));
    }

    fn remember(&mut self, digest: &str, how: How, reason: &str) {
        let known = self.ended.iter().position(|ended| ended.digest == digest).map(|at| self.ended.remove(at));
        self.ended.push(match known {
            // Nothing was found out on this trial: what was found out before it holds.
            Some(known) if how == How::Replaced && known.how == How::RolledBack => Ended { released_again: None, ..known },
            _ => Ended { digest: digest.to_owned(), how, reason: reason.to_owned(), at: now(), released_again: None },
        });
        let beyond = self.ended.len().saturating_sub(REMEMBERED);
        self.ended.drain(..beyond);
    }

    /// Notes how its versions fare, and says what is to be taken back.
    pub fn look(&self, moment: Instant) -> Option<Harm> {
        let limits = &self.rules.limits;
        let trial = self.trial.as_ref().filter(|trial| matches!(trial.role, Role::Canary(_)));
        let versions = [Some(&self.serving), trial.map(|trial| &trial.plugin)];
        for version in versions.into_iter().flatten() {
            version.numbers.past.note(moment, Figures::of(&version.numbers), limits.window, false);
        }
        if !self.rules.rollback {
            return None;
        }
        let oldest = moment.checked_sub(limits.window).unwrap_or(moment);
        trial.and_then(|trial| self.look_at_trial(trial, oldest)).or_else(|| self.look_at_serving(oldest))
    }

    /// A canary, by what the version that serves does beside it.
    fn look_at_trial(&self, trial: &Trial, oldest: Instant) -> Option<Harm> {
        // Both over the same time.
        let (from, earlier) = trial.plugin.numbers.past.from(oldest.max(trial.began))?;
        let (_, others) = self.serving.numbers.past.from(from)?;
        let new = Figures::of(&trial.plugin.numbers).since(&earlier);
        let old = Figures::of(&self.serving.numbers).since(&others);
        let reason = judge::judge(&self.rules.limits, &new, Other::Beside(&old))?;
        Some(Harm { digest: trial.plugin.digest().to_owned(), on_trial: true, reason })
    }

    /// The version that has just taken over, whatever is on trial beside it, by what the one before it did.
    fn look_at_serving(&self, oldest: Instant) -> Option<Harm> {
        let probation = self.probation.as_ref().filter(|probation| now() < probation.until && self.before.is_some())?;
        let (_, earlier) = self.serving.numbers.past.from(oldest.max(probation.began))?;
        let new = Figures::of(&self.serving.numbers).since(&earlier);
        let old = probation.baseline.as_ref().map_or(Other::Unknown, Other::Before);
        let reason = judge::judge(&self.rules.limits, &new, old)?;
        Some(Harm { digest: self.serving.digest().to_owned(), on_trial: false, reason })
    }

    /// What must outlive the process.
    pub fn saved(&self) -> Saved {
        let digest = |plugin: &Arc<Plugin>| plugin.digest().to_owned();
        Saved {
            file: self.file.clone(),
            serving: digest(&self.serving),
            since: self.since,
            before: self.before.as_ref().map(digest),
            probation: self.probation.as_ref().map(|probation| probation.until).filter(|until| now() < *until),
            trial: self.trial.as_ref().map(|trial| SavedTrial {
                digest: digest(&trial.plugin),
                role: trial.role.name().to_owned(),
                share: if let Role::Canary(share) = trial.role { share } else { 0 },
                since: trial.since,
            }),
            ended: self.ended.clone(),
        }
    }

    /// A slot as it was kept, with its versions.
    pub fn restored(
        saved: &Saved,
        serving: Arc<Plugin>,
        before: Option<Arc<Plugin>>,
        trial: Option<Arc<Plugin>>,
        rules: Rules,
    ) -> Self {
        let began = Instant::now();
        let probation = saved.probation.map(|until| Probation { began, until, baseline: None });
        serving.numbers.past.note(began, Figures::default(), rules.limits.window, true);
        let slot = Self {
            serving,
            since: saved.since,
            probation: probation.filter(|_| before.is_some()),
            before,
            trial: None,
            ended: saved.ended.clone(),
            file: saved.file.clone(),
            rules,
        };
        let (Some(plugin), Some(kept)) = (trial, &saved.trial) else { return slot };
        let role = match kept.role.as_str() {
            "canary" => Role::Canary(kept.share),
            "shadow" => Shadow::start(&plugin).map_or(Role::Waiting, Role::Shadow),
            _ => Role::Waiting,
        };
        let trial = Arc::new(slot.try_out(plugin, role, kept.since));
        Self { trial: Some(trial), ..slot }
    }
}

/// What a version did in the last window, or for as long as that is known.
fn of_late(plugin: &Plugin, moment: Instant, limits: &Limits) -> Figures {
    let all = Figures::of(&plugin.numbers);
    let oldest = moment.checked_sub(limits.window).unwrap_or(moment);
    plugin.numbers.past.from(oldest).map_or(all, |(_, earlier)| all.since(&earlier))
}
