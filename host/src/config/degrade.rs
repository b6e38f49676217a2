//! `[degrade]`: how a node gives way, provider by provider, before it gives errors.
//!
//! Does not check that thresholds are in order: `validate` does. What the levels do is `gateway::degrade`'s, when they are entered
//! and left `limit`'s.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// How answers become simpler where a provider has too much to do, or fails: each level is entered at a share of pressure, from 0 to
/// 1, and includes those before it. Absent: off.
///
/// Pressure is the larger of two shares: of the provider's endpoints that are not in service, and of its line that is full
/// (`concurrency`; 1 where requests are sent away, or where every endpoint has its `in_flight`), as a mean of the last two seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Degrade {
    /// From here on what is cached is served though the client asks for something newer (`cache-control: no-cache`, `max-age`).
    /// Default 0.5.
    pub cached: f64,
    /// From here on the cheaper models answer where there is a choice: of a virtual model's, or a model's `substitute`.
    /// Default 0.7.
    pub small: f64,
    /// From here on an answer of the cache whose time is over, to the very same request, is served and nobody is asked. In the place of
    /// an error it is at every level. Default 0.8.
    pub stale: f64,
    /// From here on requests of the priority `batch` are refused, where no `fallback` takes them. Default 0.9.
    pub shed: f64,
    /// A level is left when pressure has been below this share of its threshold for `hold`. Above 0, at most 1. Default 0.7.
    pub leave: f64,
    /// How long pressure must have been low before a level is left, one at a time. Default 10s.
    pub hold: Duration,
    /// How long after its `cache.ttl` an answer may still be served so. It takes its room in `cache.memory` until then. What a plugin
    /// has given a time of its own is not kept beyond that. Default 1h (0s: never).
    pub stale_for: Duration,
}

impl Default for Degrade {
    fn default() -> Self {
        Self {
            cached: 0.5,
            small: 0.7,
            stale: 0.8,
            shed: 0.9,
            leave: 0.7,
            hold: Duration::from_secs(10),
            stale_for: Duration::from_secs(3600),
        }
    }
}
