//! Who is asking: from the request's headers to a [`Principal`], or to the reason why not.
//!
//! Decides nothing about how much a caller may do (`limit`), and does not answer: the gateway turns an [`AuthError`] into a 401.
//!
//! **Invariant:** no error and no `Debug` shows a key.
//! **Invariant:** a key that a client sends is for pointsman alone: it is never sent upstream.

mod keys;
pub mod page;

use std::sync::Arc;

use http::HeaderName;
use http::header::AUTHORIZATION;

use crate::config::{Preference, Priority};
pub use keys::{Generated, InvalidHash, Keys};

/// The headers in which a client may send its key. Whoever builds an upstream request leaves them out.
pub const CREDENTIALS: [HeaderName; 2] = [AUTHORIZATION, HeaderName::from_static("x-api-key")];

/// The tenant of everyone where no keys are configured.
pub const DEFAULT_TENANT: &str = "default";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name of the entry in `[keys]`; `None` where no keys are configured.
    pub key: Option<Arc<str>>,
    /// Whose key it is: what limits, records and cache partitions go by.
    pub tenant: Arc<str>,
    /// The models that it may ask for. `None`: all.
    pub models: Option<Arc<[String]>>,
    /// How urgent its requests are, at most.
    pub priority: Priority,
    /// What matters most to it.
    pub prefer: Option<Preference>,
}

impl Principal {
    /// Who was not let in, for the record.
    pub fn nobody() -> Self {
        Self { key: None, tenant: "".into(), models: None, priority: Priority::default(), prefer: None }
    }

    /// Whether it may ask for this model, by the name in `[models]`.
    pub fn may_use(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.iter().any(|allowed| allowed == model))
    }
}

/// Why a request is from nobody. The texts may be shown to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is neither header.
    #[error("no API key: send it as `Authorization: Bearer pm-…` or as `x-api-key`")]
    Missing,
    /// There is something, but not a key of pointsman: another vendor's, or one with a typing error.
    #[error("this is not a key of pointsman: it begins with `pm-` and has 50 characters; it may be cut off or mistyped")]
    Malformed,
    /// It is well formed and not in `[keys]`.
    #[error("this API key is not known here, or no longer")]
    Unknown,
    /// It needs no key, but a web page of another machine asks.
    #[error("without `[keys]` only programs and pages of this machine are answered: ask by address, or configure a key")]
    Page,
}
