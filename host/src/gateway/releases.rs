//! Releases of plugins: what an administrator asks for, and what is taken back by itself.
//!
//! Each step gives the next snapshot, which differs from the running one in its plugins alone. Once a second the figures of versions on
//! trial, and of those that have just taken over, are looked at.
//!
//! What it does not do: it knows no state of a version (`plugin::release`) and speaks no HTTP (`admin`).
//!
//! **Invariant:** a step is put into force, and kept for the next start, before its caller hears that it was taken.
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
use crate::plugin::release::{Harm, Role, Slot};

/// How often figures are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Digits of a digest that an administrator must give.
const MIN_DIGITS: usize = 6;

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
    #[error("there is no plugin `{0}`; `GET /api/plugins` has those that there are")]
    NoPlugin(String),
    /// No version is named, and there is none on trial.
    #[error("`{0}` has no version on trial; name one by its digest or its file")]
    NoTrial(String),
    /// There is no such version.
    #[error(
        "no version of `{plugin}` begins with `{digits}`; name its file, or one of those that `GET /api/plugins/{plugin}` has"
    )]
    NoVersion {
        /// The plugin.
        plugin: String,
        /// What was asked for.
        digits: String,
    },
    /// There are several.
    #[error("more than one version begins with `{0}`; give more digits")]
    Several(String),
    /// It serves already.
    #[error("{0} serves already")]
    Serves(String),
    /// The configuration is another one by now.
    #[error("what the configuration says of `{0}` has changed since the version was loaded; ask again")]
    Changed(String),
    /// There is no version before the one that serves.
    #[error("`{0}` has no version on trial, and none before the one that serves")]
    Nothing(String),
    /// The version does not load.
    #[error("it {0}")]
    Unfit(#[from] Refusal),
    /// There is nothing that could load it.
    #[error("this process loads no components")]
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
        Ok(load_version(engine, &settings, lasting.shelves(), slot, &named)?)
    }

    /// Takes a step with a version.
    ///
    /// # Errors
    /// It does not go with the state that the plugin is in.
    pub fn release(&self, name: &str, plugin: Arc<Plugin>, step: Step) -> Result<(), Refused> {
        let label = plugin.label().to_owned();
        self.change(name, |slot, settings| {
            // It may have taken long to compile: a grant that is gone by now, or a pin that is there, holds for it too.
            if !plugin.settings().is_like(settings) {
                return Err(Refused::Changed(name.to_owned()));
            }
            settings.source.admits(plugin.digest())?;
            if slot.serving.digest() == plugin.digest() {
                return Err(Refused::Serves(label.clone()));
            }
            Ok(match step {
                Step::Shadow => slot.begin_shadow(plugin),
                Step::Canary(share) => slot.begin(plugin, Role::Canary(share.unwrap_or(slot.rules.share))),
                Step::Promote => slot.promote(plugin),
            })
        })?;
        tracing::warn!(plugin = label, ?step, "a version was released");
        Ok(())
    }

    /// Takes back the version on trial, or else the one that serves, for a reason in words.
    ///
    /// # Errors
    /// There is nothing to take back to.
    pub fn roll_back(&self, name: &str, reason: &str) -> Result<(), Refused> {
        self.change(name, |slot, _| slot.roll_back(reason).map_err(|_| Refused::Nothing(name.to_owned())))?;
        tracing::warn!(plugin = name, reason, "a version was taken back");
        Ok(())
    }

    /// Looks at the figures, and takes back what does harm.
    fn look(&self) {
        let now = Instant::now();
        for slot in self.state().plugins.slots() {
            let Some(harm) = slot.look(now) else { continue };
            let (name, Harm { digest, reason, .. }) = (slot.serving.name(), &harm);
            // Somebody may have taken a step since.
            let changed = self.change(name, |slot, _| slot.take_back(&harm).map_err(|_| Refused::Nothing(name.to_owned())));
            if changed.is_ok() {
                tracing::error!(plugin = name, digest, why = reason.what, "a version was taken back: {}", reason.text);
                let mut counts = self.taken_back.0.lock().unwrap_or_else(PoisonError::into_inner);
                *counts.entry((name.to_owned(), reason.what)).or_default() += 1;
            }
        }
    }

    /// A step from a plugin's state, and what its owner has written by now, to its next state.
    fn change(&self, name: &str, step: impl FnOnce(&Slot, &Settings) -> Result<Slot, Refused>) -> Result<(), Refused> {
        let _one_at_a_time = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.state());
        let none = || Refused::NoPlugin(name.to_owned());
        let slot = state.plugins.slot(name).ok_or_else(none)?;
        let settings = state::settings(&state.config, name).ok_or_else(none)?;
        state.plugins = Arc::new(state.plugins.with(step(slot, &settings)?));
        self.keep(&state.plugins);
        self.state.store(Arc::new(state));
        Ok(())
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

fn versions(slot: &Slot) -> impl Iterator<Item = &Arc<Plugin>> {
    [Some(&slot.serving), slot.before.as_ref(), slot.trial.as_ref().map(|trial| &trial.plugin)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::digits;

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
    }
}
