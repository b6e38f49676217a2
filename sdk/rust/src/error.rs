//! Failing, and refusing.
//!
//! What it does not do: it does not say what follows. The host counts a plugin's failure and goes on as its owner wants; a
//! refusal goes to the client.

use std::fmt::Display;
use std::time::Duration;

use crate::bindings::host::pointsman::plugin::embeddings::EmbedError;
use crate::{PluginError, Rejection};

/// What a hook returns.
pub type Result<T> = core::result::Result<T, PluginError>;

impl PluginError {
    /// A setting that cannot be worked with: which one, what is wrong with it, and what to write instead.
    ///
    /// ```
    /// use pointsman_plugin::PluginError;
    ///
    /// let error = PluginError::setting("limit", "is 0", "write 1 or more");
    /// assert_eq!(error, PluginError::Config("`limit` is 0: write 1 or more".into()));
    /// ```
    pub fn setting(key: &str, wrong: impl Display, remedy: impl Display) -> Self {
        Self::Config(format!("`{key}` {wrong}: {remedy}"))
    }
}

/// So that `?` gives up where there is no embedding. To go on without, match on it.
impl From<EmbedError> for PluginError {
    fn from(error: EmbedError) -> Self {
        Self::Unavailable(match error {
            EmbedError::Unavailable => "there is no embedding".into(),
            EmbedError::Busy => "the embedder is busy".into(),
            EmbedError::Empty => "there is nothing to embed".into(),
        })
    }
}

impl Rejection {
    /// A refusal that the client sees: a status of 400 to 499, or 503; a code for programs; a message for people.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pointsman_plugin::{Decision, Rejection};
    ///
    /// let refusal = Rejection::new(429, "too_many_drafts", "One draft a minute.").retry_after(Duration::from_secs(60));
    /// assert_eq!(refusal.retry_after_ms, Some(60_000));
    /// let decision: Decision = refusal.into();
    /// # assert!(matches!(decision, Decision::Reject(_)));
    /// ```
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), retry_after_ms: None }
    }

    /// When the client may try again.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after_ms = Some(milliseconds(wait));
        self
    }
}

/// As the contract writes durations; what does not fit is 49 days.
pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
