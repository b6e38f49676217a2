//! `[providers.NAME.probe]`: endpoints are asked how they are, without a client's request.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Duration;

/// Asks each endpoint how it is, so that one that has died is left before a request is spent on it, and one that is well again is
/// tried before its pause is over. Any 2xx in time is good news; everything else, 429 included, is bad news. One that has asked to be left
/// alone (`retry-after` and its kin) is left for as long as it asked all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// The path at each endpoint's host that is asked with GET, as `metrics` is. The provider's key and `headers` are sent where it is
    /// below the endpoint's base URL: with "http://10.0.0.7:8000/v1" to "/v1/models", and not to "/health". Default /health.
    pub path: String,
    /// How often, a tenth more or less. Default 5s, at least 100ms.
    pub interval: Duration,
    /// How soon the whole answer must be there. Default 2s.
    pub timeout: Duration,
    /// Good answers in a row after which an endpoint that was left alone may be tried. Default 2.
    pub healthy: u32,
    /// Bad answers in a row after which an endpoint is left alone. Default 3.
    pub unhealthy: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            path: "/health".to_owned(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy: 2,
            unhealthy: 3,
        }
    }
}
