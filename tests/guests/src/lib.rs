//! The contract of `wit/` as the test guests see it, and the reading of a puppet's strings.
//!
//! Uses wit-bindgen as it is and not the SDK: a hostile guest would not, and the host must stand up to any component.
//!
//! **Invariant:** a guest here has no opinion of its own: what it returns is in the request or in its configuration.

wit_bindgen::generate!({ path: "../../wit", world: "policy-plugin", pub_export_macro: true, generate_all });

pub mod puppet;

pub use exports::pointsman::plugin::{caching, lifecycle, prompting, routing};
pub use pointsman::plugin::{clock, config, embeddings, http, kv, log, metrics, random, request_data, types, upstreams};

use serde::de::DeserializeOwned;

/// The orders for one hook: the JSON in the request's header `x-puppet-HOOK`. None: no header, so no opinion.
///
/// A header and not the body, because a header is in no cache key.
pub fn orders<T: DeserializeOwned>(request: &request_data::Request, hook: &str) -> Result<Option<T>, types::PluginError> {
    let Some(text) = request.header(&format!("x-puppet-{hook}")) else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| types::PluginError::Internal(format!("x-puppet-{hook}: {error}")))
}

/// What every guest says of itself.
pub fn info(name: &str) -> lifecycle::Info {
    lifecycle::Info { name: name.into(), version: "1.0.0".into(), description: "A guest of the tests.".into() }
}
