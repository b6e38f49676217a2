//! `[plugins.NAME.release]`: how a new version of a plugin comes into force, and when it is taken back.
//!
//! Does not check ranges: `validate` does. What is done with these numbers is `plugin::release`'s.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// How a new version of a plugin comes into force, and beyond which limits it is taken back by itself.
///
/// Limits compare a version with the one before it: a canary with the version that serves beside it, over the same time; a version
/// that has just taken over, for as long as its `probation` lasts, with how the one before it did last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Release {
    /// What becomes of another component at the plugin's place. Default promote.
    pub on_change: OnChange,
    /// The share of traffic that a canary gets where nobody says another, above 0 and at most 1. Default 0.05.
    pub share: f64,
    /// Whose requests are always decided by the same one of two versions. Default session.
    pub sticky: Sticky,
    /// The request header that names a session, for `sticky = "session"`. Where it is absent, the body's `prompt_cache_key` does, or else
    /// its `user`, or else the first message of a user. Default x-session-id.
    pub session_header: String,
    /// Whether a version is taken back by itself. Default true.
    pub rollback: bool,
    /// How long a version that took over is judged. Default 10m (0s: not at all).
    pub probation: Duration,
    /// How far back figures are compared. Default 5m.
    pub window: Duration,
    /// Calls, or exchanges, below which no version is judged; one whose first ten calls fail is taken back all the same. Default 100.
    pub min_samples: u64,
    /// The share of calls that may trap, exceed their memory, or answer with an error or what the contract does not allow, beyond the other
    /// version's. Default 0.005.
    pub traps: f64,
    /// The share of calls that may miss the plugin's deadline, beyond the other version's. Default 0.02.
    pub deadlines: f64,
    /// How many times as long as the other version's nine tenths of the calls may take. Default 3.
    pub latency: f64,
    /// The share of exchanges that may end in an error, beyond the other version's; of a version that has just taken over without errors that
    /// only say how an upstream fares. Default 0.02.
    pub errors: f64,
    /// How much more exchanges may cost in the mean than the other version's: 0.25 is a quarter more. Default 0.25.
    pub cost: f64,
}

impl Default for Release {
    fn default() -> Self {
        Self {
            on_change: OnChange::Promote,
            share: 0.05,
            sticky: Sticky::Session,
            session_header: "x-session-id".to_owned(),
            rollback: true,
            probation: Duration::from_secs(600),
            window: Duration::from_secs(300),
            min_samples: 100,
            traps: 0.005,
            deadlines: 0.02,
            latency: 3.0,
            errors: 0.02,
            cost: 0.25,
        }
    }
}

/// What becomes of another component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// It takes over at once.
    #[default]
    Promote,
    /// It gets a share of the traffic.
    Canary,
    /// It decides beside the version that serves, and nothing follows from it.
    Shadow,
    /// It is loaded and waits for a word.
    Hold,
}

/// Whose requests stay with one version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// Those of a session.
    #[default]
    Session,
    /// Those with the same key.
    Key,
    /// Those of a tenant.
    Tenant,
}
