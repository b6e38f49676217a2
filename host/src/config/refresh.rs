//! `[cache.refresh_ahead]`: which answers are asked for anew before their time is over.
//!
//! Does not ask: `gateway::refresh` does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers that are used often are asked for anew before their time is over, with the priority `batch`, so that nobody waits for them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RefreshAhead {
    /// An answer is asked for anew when it is used while less than this share of its `ttl` is left. Above 0, below 1. Default 0.1.
    pub share: f64,
    /// Only one that was used at least so often since it was stored. Default 10.
    pub hits: u32,
    /// At most so many a second. Default 1.
    pub per_second: f64,
}

impl Default for RefreshAhead {
    fn default() -> Self {
        Self { share: 0.1, hits: 10, per_second: 1.0 }
    }
}
