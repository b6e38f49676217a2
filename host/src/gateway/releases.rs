//! Releases of plugins: what an administrator asks for, and what is taken back by itself.
//!
//! Each step gives the next snapshot, which differs from the running one in its plugins alone. Once a second the figures of versions on
//! trial, and of those that have just taken over, are looked at.
//!
//! What it does not do: it knows no state of a version (`plugin::release`) and speaks no HTTP (`admin`).
//!
//! **Invariant:** a step is put into force, and kept for the next start, before its caller hears that it was taken.
//! **Invariant:** each step has one line in the log, whatever it followed from: a command, a version's figures, or another component at its place.
//! **Invariant:** of two steps at a time each sees what the other has done; a reload that did not is built again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Gateway;
use super::state::{self, State};
use crate::listen::drain::Drain;
use crate::plugin::Plugin;
use crate::plugin::load::{Refusal, Settings};
use crate::plugin::registry::{Named, PluginSet, load_version};
use crate::plugin::release::{Ended, Harm, How, Role, Slot, WHOLE};

/// How often figures are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Digits of a digest that an administrator must give.
const MIN_DIGITS: usize = 6;

/// Who takes a step, in the log.
const ADMINISTRATOR: &str = "an administrator";
const FIGURES: &str = "its figures";

/// Versions that were taken back by themselves, by plugin and limit.
#[derive(Default)]
pub struct TakenBack(Mutex<BTreeMap<(String, &'static str), u64>>);

impl TakenBack {
    /// How many, by plugin and limit.
    pub fn read(&self) -> BTreeMap<(String, &'static str), u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What an administrator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The version decides, and nothing follows.
    Shadow,
    /// It gets a share of the traffic, in parts of [`crate::plugin::release::WHOLE`]; none: as the configuration says.
    Canary(Option<u32>),
    /// It takes over.
    Promote,
}

/// Why a step is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no plugin of that name.
    #[error("there is no plugin `{0}`; `pointsman plugin list` has those that there are")]
    NoPlugin(String),
    /// No version is named, and there is none on trial.
    #[error("`{0}` has no version on trial; name one, by its digest or its file, behind the plugin's name")]
    NoTrial(String),
    /// There is no such version.
    #[error(
        "no version of `{plugin}` begins with `{digits}`; name its file, or one of those that `pointsman plugin list {plugin}` has"
    )]
    NoVersion {
        /// The plugin.
        plugin: String,
        /// What was asked for.
        digits: String,
    },
    /// It is neither a digest nor a file.
    #[error("`{0}` is no digest: write at least {MIN_DIGITS} of its hexadecimal digits, or a component's file")]
    NoDigits(String),
    /// There are several.
    #[error("more than one version begins with `{0}`; give more digits")]
    Several(String),
    /// It serves already.
    #[error("{0} serves already; name another version, or go back to the one before it with `pointsman plugin rollback`")]
    Serves(String),
    /// The configuration is another one by now.
    #[error("what the configuration says of `{0}` has changed since the version was loaded; ask again")]
    Changed(String),
    /// There is no version before the one that serves.
    #[error(
        "`{0}` has no version on trial, and none before the one that serves; promote the one that is to serve, by its digest or its file"
    )]
    Nothing(String),
    /// The version does not load.
    #[error("{what} {refusal}")]
    Unfit {
        /// The version, as it was named.
        what: String,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// There is nothing that could load it.
    #[error("this process loads no components; ask a node whose configuration has [plugins]")]
    NoEngine,
}

impl Gateway {
    /// Keeps for the next start which versions serve.
    pub(crate) fn keep(&self, plugins: &PluginSet) {
        if let Some(lasting) = self.lasting.get() {
            lasting.releases.save(plugins.saved());
        }
    }

    /// The version that is meant: by a digest's first digits, by its file, or, where nothing is said, the one on trial. It may have to be
    /// compiled: not for a thread that has other things to do.
    ///
    /// # Errors
    /// There is none, or it cannot be loaded.
    pub fn version(&self, name: &str, wanted: Option<&str>) -> Result<Arc<Plugin>, Refused> {
        let state = self.state();
        let slot = state.plugins.slot(name).ok_or_else(|| Refused::NoPlugin(name.to_owned()))?;
        let settings = state::settings(&state.config, name).ok_or_else(|| Refused::NoPlugin(name.to_owned()))?;
        // One that was loaded under other settings, and could not be under these, is looked at again.
        let usable = |digest: &str| slot.version(digest).filter(|version| version.settings().is_like(&settings)).cloned();
        let lasting = self.lasting.get().ok_or(Refused::NoEngine)?;
        let named = match wanted.map(|wanted| (wanted, digits(wanted))) {
            None => {
                let trial = slot.trial.as_ref().ok_or_else(|| Refused::NoTrial(name.to_owned()))?;
                match usable(trial.plugin.digest()) {
                    Some(version) => return Ok(version),
                    None => Named::Digest(trial.plugin.digest().to_owned()),
                }
            }
            Some((wanted, None)) if is_meant_as_digits(wanted) => return Err(Refused::NoDigits(wanted.to_owned())),
            Some((wanted, None)) => Named::File(PathBuf::from(wanted)),
            Some((_, Some(digits))) => {
                let mut known: Vec<String> = lasting.releases.find(digits);
                known.extend(versions(slot).map(|plugin| plugin.digest().to_owned()).filter(|own| own.starts_with(digits)));
                known.sort();
                known.dedup();
                match known.as_slice() {
                    [] => return Err(Refused::NoVersion { plugin: name.to_owned(), digits: digits.to_owned() }),
                    [digest] => match usable(digest) {
                        Some(version) => return Ok(version),
                        None => Named::Digest(digest.clone()),
                    },
                    _ => return Err(Refused::Several(digits.to_owned())),
                }
            }
        };
        let engine = lasting.engine().map_err(|_| Refused::NoEngine)?;
        load_version(engine, &settings, lasting.shelves(), slot, &named)
            .map_err(|refusal| Refused::Unfit { what: wanted.unwrap_or("the version on trial").to_owned(), refusal })
    }

    /// Takes a step with a version.
    ///
    /// # Errors
    /// It does not go with the state that the plugin is in.
    pub fn release(&self, name: &str, plugin: Arc<Plugin>, step: Step) -> Result<(), Refused> {
        let label = plugin.label().to_owned();
        self.change(name, ADMINISTRATOR, |slot, settings| {
            // It may have taken long to compile: a grant that is gone by now, or a pin that is there, holds for it too.
            if !plugin.settings().is_like(settings) {
                return Err(Refused::Changed(name.to_owned()));
            }
            let unfit = |refusal| Refused::Unfit { what: label.clone(), refusal };
            settings.source.admits(plugin.digest()).map_err(unfit)?;
            if slot.serving.digest() == plugin.digest() {
                return Err(Refused::Serves(label.clone()));
            }
            Ok(match step {
                Step::Shadow => slot.begin_shadow(plugin),
                Step::Canary(share) => slot.begin(plugin, Role::Canary(share.unwrap_or(slot.rules.share))),
                Step::Promote => slot.promote(plugin),
            })
        })
    }

    /// Takes back the version on trial, or else the one that serves, for a reason in words.
    ///
    /// # Errors
    /// There is nothing to take back to.
    pub fn roll_back(&self, name: &str, reason: &str) -> Result<(), Refused> {
        self.change(name, ADMINISTRATOR, |slot, _| slot.roll_back(reason).map_err(|_| Refused::Nothing(name.to_owned())))
    }

    /// Looks at the figures, and takes back what does harm.
    fn look(&self) {
        let now = Instant::now();
        for slot in self.state().plugins.slots() {
            let Some(harm) = slot.look(now) else { continue };
            let (name, Harm { reason, .. }) = (slot.serving.name(), &harm);
            // Somebody may have taken a step since.
            let changed =
                self.change(name, FIGURES, |slot, _| slot.take_back(&harm).map_err(|_| Refused::Nothing(name.to_owned())));
            if changed.is_ok() {
                let mut counts = self.taken_back.0.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry((name.to_owned(), reason.what)).or_default() += 1;
            }
        }
    }

    /// A step from a plugin's state, and what its owner has written by now, to its next state.
    fn change(&self, name: &str, by: &str, step: impl FnOnce(&Slot, &Settings) -> Result<Slot, Refused>) -> Result<(), Refused> {
        let _one_at_a_time = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.state());
        let none = || Refused::NoPlugin(name.to_owned());
        let slot = state.plugins.slot(name).ok_or_else(none)?;
        let settings = state::settings(&state.config, name).ok_or_else(none)?;
        let next = step(slot, &settings)?;
        tell(slot, &next, by);
        state.plugins = Arc::new(state.plugins.with(next));
        self.keep(&state.plugins);
        self.state.store(Arc::new(state));
        Ok(())
    }
}

/// The steps between two states of all plugins, in the log: those that follow from what lies at their places.
pub(super) fn tell_all(before: &PluginSet, after: &PluginSet) {
    for next in after.slots() {
        if let Some(slot) = before.slot(next.serving.name()) {
            tell(slot, next, "another component at its place");
        }
    }
}

/// The steps between two states of a plugin, in the log: a line each, whoever has taken them.
fn tell(before: &Slot, after: &Slot, by: &str) {
    let digest = |slot: &Slot| slot.trial.as_ref().map(|trial| trial.plugin.digest().to_owned());
    let is_new = |ended: &&Ended| !before.ended.iter().any(|own| (&own.digest, own.at) == (&ended.digest, ended.at));
    for ended in after.ended.iter().filter(is_new) {
        let (plugin, digest, reason) = (after.serving.name(), &ended.digest, &ended.reason);
        match ended.how {
            How::RolledBack if by == FIGURES => tracing::error!(plugin, digest, by, "a version was taken back: {reason}"),
            How::RolledBack => tracing::warn!(plugin, digest, by, "a version was taken back: {reason}"),
            How::Replaced => tracing::warn!(plugin, digest, by, "a trial has ended: {reason}"),
        }
    }
    // Where it goes back, that has been said.
    let goes_back = before.before.as_ref().is_some_and(|own| own.digest() == after.serving.digest())
        && after.rolled_back(before.serving.digest()).is_some_and(|ended| is_new(&ended));
    if before.serving.digest() != after.serving.digest() && !goes_back {
        tracing::warn!(plugin = after.serving.label(), step = "promote", by, "a version was released");
    }
    let Some(trial) = &after.trial else { return };
    let share = |slot: &Slot| match slot.trial.as_ref().map(|trial| &trial.role) {
        Some(Role::Canary(share)) => Some(f64::from(*share) / f64::from(WHOLE)),
        _ => None,
    };
    let role = |slot: &Slot| slot.trial.as_ref().map(|trial| trial.role.name());
    if (digest(before), role(before), share(before)) != (digest(after), role(after), share(after)) {
        let (plugin, step, share) = (trial.plugin.label(), trial.role.name(), share(after));
        tracing::warn!(plugin, step, share, by, "a version was released");
    }
}

/// Looks once a second, until the process drains: from then on another one may keep what it decides.
pub async fn run(gateway: Arc<Gateway>, drain: Drain) {
    loop {
        tokio::select! {
            biased;
            () = drain.begun() => return,
            () = sleep(TICK) => gateway.look(),
        }
    }
}

/// The first digits of a digest, where that is what it is.
fn digits(wanted: &str) -> Option<&str> {
    let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    // `name@digits`, as headers and logs show it.
    let digits = digits.rsplit_once('@').map_or(digits, |(_, digits)| digits);
    let is_digits = (MIN_DIGITS..=64).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digits.then_some(digits)
}

/// Is it too short for a digest, or too long, rather than a file's name?
fn is_meant_as_digits(wanted: &str) -> bool {
    let digits = wanted.rsplit_once('@').map_or(wanted, |(_, digits)| digits);
    let bare = digits.strip_prefix("sha256:").unwrap_or(digits);
    let is_bare = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
    !wanted.contains(['/', '\\']) && (digits.len() > bare.len() || is_bare)
}

fn versions(slot: &Slot) -> impl Iterator<Item = &Arc<Plugin>> {
    [Some(&slot.serving), slot.before.as_ref(), slot.trial.as_ref().map(|trial| &trial.plugin)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::{digits, is_meant_as_digits};

    #[test]
    fn digests_are_told_from_files() {
        for (wanted, expect) in [
            ("sha256:0123456789ab", Some("0123456789ab")),
            ("0123456789ab", Some("0123456789ab")),
            ("router@0123456789ab", Some("0123456789ab")),
            ("abc", None),
            ("router.wasm", None),
            ("/a/b/0123456789ab.wasm", None),
            ("./0123456789ab", None),
        ] {
            assert_eq!(digits(wanted), expect, "{wanted}");
        }
        // Not told of a file that is not there.
        for (wanted, expect) in [
            ("abc", true),
            ("sha256:12", true),
            ("sha256:xyz", true),
            ("router@12", true),
            ("router.wasm", false),
            ("/a/abc", false),
        ] {
            assert_eq!(is_meant_as_digits(wanted), expect, "{wanted}");
        }
    }
}
