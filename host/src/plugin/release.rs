//! How versions of one plugin come and go: which serves, which is on trial and how, which was before, which was taken back and why.
//!
//! A version is its digest. One serves; beside it at most one is on **trial**: it waits, decides as a `shadow`, or gets a share of the
//! traffic as a `canary`. `judge` says by `figures` whether a version does harm, `shadow` asks without consequences, `store` keeps what
//! must outlive the process. [`Slot`] has the steps from one state to the next; each gives another slot and leaves the old one as it was.
//!
//! What it does not do: it loads no component (`load`), asks none (`hooks`) and takes nothing back by itself (`gateway/releases`).
//!
//! **Invariant:** a trial never decides for an exchange alone: where it cannot, the version that serves does.
//! **Invariant:** who gets the canary hangs on the plugin's name, the canary's digest and whose request it is, so also after a restart.
//! **Invariant:** a version that was taken back, and is remembered, takes over again only when an administrator says so. Why it was taken back stays
//! known also then.

pub mod figures;
pub mod judge;
pub mod shadow;
mod slot;
pub mod store;
pub mod told;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderName;
use tokio::time::Instant;

use super::load::Plugin;
use figures::Figures;
use shadow::Shadow;
pub use slot::{Harm, Nothing, Slot};

/// A share of traffic is counted in this many parts.
pub const WHOLE: u32 = 10_000;

/// Versions that are remembered after they have ended.
const REMEMBERED: usize = 8;

/// What becomes of another component at the plugin's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnChange {
    /// It takes over.
    #[default]
    Promote,
    /// It gets a share of the traffic.
    Canary,
    /// It decides, and nothing follows.
    Shadow,
    /// It waits.
    Hold,
}

/// Whose requests stay with one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sticky {
    /// Those of a session, which this header names.
    Session(HeaderName),
    /// Those with the same key.
    Key,
    /// Those of a tenant.
    Tenant,
}

/// What the owner has written about releases.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// What becomes of another component.
    pub on_change: OnChange,
    /// A canary's share where nobody says another, in parts of [`WHOLE`].
    pub share: u32,
    /// Whose requests stay with one version.
    pub sticky: Sticky,
    /// Whether a version is taken back by itself.
    pub rollback: bool,
    /// How long a version that took over is judged.
    pub probation: Duration,
    /// Beyond what.
    pub limits: judge::Limits,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            on_change: OnChange::Promote,
            share: WHOLE / 20,
            sticky: Sticky::Session(HeaderName::from_static("x-session-id")),
            rollback: true,
            probation: Duration::from_secs(600),
            limits: judge::Limits::default(),
        }
    }
}

/// What a version on trial does.
#[derive(Clone)]
pub enum Role {
    /// Nothing.
    Waiting,
    /// It decides, and nothing follows.
    Shadow(Arc<Shadow>),
    /// It decides for so many parts of [`WHOLE`].
    Canary(u32),
}

impl Role {
    /// The name in the admin API, metrics and the state that is kept.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Shadow(_) => "shadow",
            Self::Canary(_) => "canary",
        }
    }
}

/// A version on trial.
#[derive(Clone)]
pub struct Trial {
    /// The version.
    pub plugin: Arc<Plugin>,
    /// What it does.
    pub role: Role,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
    /// The same moment, or that of the start after it, on the monotonic clock.
    pub began: Instant,
}

impl Trial {
    /// Does this canary decide for whoever this is?
    pub fn takes(&self, whose: &str) -> bool {
        match self.role {
            Role::Canary(share) => {
                let salt = format!("release {} {}", self.plugin.name(), self.plugin.digest());
                super::imports::bucket(&salt, whose, WHOLE) < share
            }
            _ => false,
        }
    }
}

/// A version that has just taken over is judged for a while, by what the one before it did.
#[derive(Clone, Debug)]
pub struct Probation {
    /// When it began, or the process did.
    pub began: Instant,
    /// When it ends, in milliseconds since the Unix epoch.
    pub until: u64,
    /// What the version before it did in the last window; none where that is not known any more.
    pub baseline: Option<Figures>,
}

/// How a version has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It did harm, or an administrator said so.
    RolledBack,
    /// Another one took its place before it was promoted.
    Replaced,
}

/// A version that has ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ended {
    /// Its digest.
    pub digest: String,
    /// How.
    pub how: How,
    /// Why, in words.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// It was taken back, and an administrator has released it again since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released_again: Option<u64>,
}

/// The wall clock, in milliseconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}
