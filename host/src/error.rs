//! The one error of an exchange: what went wrong, whose side it was on, and whether another try can help.
//!
//! What it does not do: it writes no body; `dialect::error` does, and `gateway/reply` puts the two together.
//!
//! **Invariant:** a [`Kind`] has one HTTP status and one code; `docs/errors.md` is made from [`Kind::ALL`].
//! **Invariant:** a message names the field, the reason and the remedy, and never a credential; what a client is told of an upstream
//! has the configuration's names and no address.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body or a header cannot be read or has a field of the wrong type, or variables that do not fit the prompt.
    InvalidRequest,
    /// The body is larger than `listen.max_body`.
    BodyTooLarge,
    /// The body came too slowly.
    BodyTimeout,
    /// No key, or one that is not known.
    InvalidKey,
    /// No key is needed, but a web page of another machine asks.
    OriginNotAllowed,
    /// The key may not ask for this model.
    ModelNotAllowed,
    /// No such path.
    UnknownPath,
    /// The path has other methods.
    MethodNotAllowed,
    /// No model of that name.
    ModelNotFound,
    /// No prompt of that name, or no such version.
    PromptNotFound,
    /// A plugin refused the request; it chose status and code.
    Rejected,
    /// A plugin failed whose owner wrote `on_failure = "fail"`.
    PluginFailed,
    /// No endpoint could be connected to.
    UpstreamUnreachable,
    /// An endpoint did not answer in time, or not before the client's own was over.
    UpstreamTimeout,
    /// An endpoint did not accept the gateway's own credentials.
    UpstreamDenied,
    /// An endpoint's answer was cut, or is not HTTP.
    UpstreamBroken,
    /// Every endpoint has as many requests as it may have, or is left alone after failures or at its limits.
    Overloaded,
    /// Several endpoints were tried, and none answered.
    NoUpstream,
    /// Nobody may be asked, and the cache has nothing.
    NotCached,
    /// A defect of the gateway itself.
    Internal,
}

impl Kind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 20] = [
        Self::InvalidRequest,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::InvalidKey,
        Self::OriginNotAllowed,
        Self::ModelNotAllowed,
        Self::UnknownPath,
        Self::MethodNotAllowed,
        Self::ModelNotFound,
        Self::PromptNotFound,
        Self::Rejected,
        Self::PluginFailed,
        Self::UpstreamUnreachable,
        Self::UpstreamTimeout,
        Self::UpstreamDenied,
        Self::UpstreamBroken,
        Self::Overloaded,
        Self::NoUpstream,
        Self::NotCached,
        Self::Internal,
    ];

    /// Does it say how an upstream fares, or whether there is room at one?
    pub fn is_upstreams(self) -> bool {
        matches!(
            self,
            Self::UpstreamUnreachable
                | Self::UpstreamTimeout
                | Self::UpstreamDenied
                | Self::UpstreamBroken
                | Self::Overloaded
                | Self::NoUpstream
        )
    }

    /// Status, code, and when it happens.
    pub fn describe(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::InvalidRequest => (
                400,
                "invalid_request",
                "The body or a header cannot be read, or the prompt cannot be made with `prompt.variables`; `param` names the field.",
            ),
            Self::BodyTooLarge => (413, "body_too_large", "The body is larger than `listen.max_body`."),
            Self::BodyTimeout => {
                (408, "body_timeout", "The body came more slowly than `listen.body_idle` and `listen.body_total` allow.")
            }
            Self::InvalidKey => (401, "invalid_api_key", "No key was sent, or one that is not in `[keys]`."),
            Self::OriginNotAllowed => (
                403,
                "origin_not_allowed",
                "There are no `[keys]`, and the request came from a web page of another machine, or to a name that anybody may have pointed here.",
            ),
            Self::ModelNotAllowed => (403, "model_not_allowed", "The key's `models` do not list this model."),
            Self::UnknownPath => (404, "unknown_path", "There is no such path."),
            Self::MethodNotAllowed => (405, "method_not_allowed", "The path has other methods; `allow` lists them."),
            Self::ModelNotFound => {
                (404, "model_not_found", "`[models]` has no model of that name for this operation, or it is switched off.")
            }
            Self::PromptNotFound => (404, "prompt_not_found", "There is no prompt of that name, or no such version of it."),
            Self::Rejected => (
                400,
                "rejected",
                "A plugin refused the request, or its answer. It chooses status (400 to 499, or 503), code and message; `answer_refused` (503): it let no answer pass, and no other model gave one.",
            ),
            Self::PluginFailed => (500, "plugin_failed", "A plugin failed whose owner wrote `on_failure = \"fail\"`."),
            Self::UpstreamUnreachable => (502, "upstream_unreachable", "No endpoint could be connected to."),
            Self::UpstreamTimeout => (
                504,
                "upstream_timeout",
                "No endpoint answered within its timeouts, or within the time that the client gives; then `param` names its header.",
            ),
            Self::UpstreamDenied => (
                502,
                "upstream_denied",
                "The provider did not accept the gateway's own key (`key` or `keys` of `providers.NAME`).",
            ),
            Self::UpstreamBroken => (
                502,
                "upstream_broken",
                "The endpoint's answer was cut short or could not be read. In a stream, after content was sent, this is an event with `error`.",
            ),
            Self::Overloaded => (
                503,
                "overloaded",
                "Every endpoint has as many requests as `in_flight` allows, too many wait for one, or all are left alone after failures or at their limits; the provider takes no batch just now (`degrade.shed`); the gateway's memory is full; or its process ends before a stream does.",
            ),
            Self::NoUpstream => {
                (503, "no_upstream", "Several endpoints were tried, and none answered; the message has the reason of each.")
            }
            Self::NotCached => (
                504,
                "not_cached",
                "The request says `cache-control: only-if-cached`, and the cache has no answer that it may be given.",
            ),
            Self::Internal => (500, "internal_error", "A defect of the gateway. The log has more under the request's id."),
        }
    }
}

/// Whose side it was on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The client's.
    Downstream,
    /// Our own.
    Gateway,
    /// A plugin's, by name.
    Plugin(String),
    /// An upstream's, by endpoint.
    Upstream(String),
}

/// Whether another try can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// No.
    Never,
    /// At another endpoint.
    Elsewhere,
    /// At the same one, after this long.
    Same(Duration),
}

/// Who was asked upstream before it came to an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The configured model.
    pub model: Arc<str>,
    /// The endpoint, last.
    pub endpoint: Arc<str>,
    /// Tries in all.
    pub tries: u32,
}

/// What went wrong with an exchange.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    source: Source,
    retry: Retry,
    status: u16,
    code: String,
    message: String,
    detail: Option<String>,
    asked: Option<Asked>,
    param: Option<String>,
    retry_after: Option<Duration>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of a kind.
    pub fn new(kind: Kind, source: Source, message: impl Into<String>) -> Self {
        let (status, code, _) = kind.describe();
        Self(Box::new(Inner {
            kind,
            source,
            retry: Retry::Never,
            status,
            code: code.to_owned(),
            message: message.into(),
            detail: None,
            asked: None,
            param: None,
            retry_after: None,
            cause: None,
        }))
    }

    /// The client's mistake.
    pub fn downstream(kind: Kind, message: impl Into<String>) -> Self {
        Self::new(kind, Source::Downstream, message)
    }

    /// A field that the client must change.
    pub fn bad_request(param: Option<String>, message: impl Into<String>) -> Self {
        let mut error = Self::downstream(Kind::InvalidRequest, message);
        error.0.param = param;
        error
    }

    /// A defect of our own. What it was goes to the log, not to the client.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Kind::Internal, Source::Gateway, "The gateway failed. Its log has more under this request's id.").because(cause)
    }

    /// A plugin that failed and must not be gone without.
    pub fn plugin_failed(plugin: &str, hook: &str, cause: &str) -> Self {
        Self::new(
            Kind::PluginFailed,
            Source::Plugin(plugin.to_owned()),
            format!("The plugin `{plugin}` failed at its {hook} hook ({cause}), and its owner has it fail requests."),
        )
    }

    /// A plugin's refusal.
    pub fn rejected(plugin: &str, status: u16, code: &str, message: &str, retry_after: Option<Duration>) -> Self {
        let mut error = Self::new(Kind::Rejected, Source::Plugin(plugin.to_owned()), message);
        error.0.status = status;
        code.clone_into(&mut error.0.code);
        error.0.retry_after = retry_after;
        error
    }

    /// An upstream's failure.
    pub fn upstream(kind: Kind, endpoint: &str, retry: Retry, message: impl Into<String>) -> Self {
        let mut error = Self::new(kind, Source::Upstream(endpoint.to_owned()), message);
        error.0.retry = retry;
        error
    }

    /// The same, where another try can help in this way.
    #[must_use]
    pub fn again(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// The same with what caused it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The same in other words for the client; `detail`, which may name addresses, is for the log alone.
    #[must_use]
    pub fn told(mut self, message: String, detail: String) -> Self {
        self.0.message = message;
        self.0.detail = Some(detail);
        self
    }

    /// The same with who was asked.
    #[must_use]
    pub fn having_asked(mut self, asked: Asked) -> Self {
        self.0.asked = Some(asked);
        self
    }

    /// The same with the field that it is about.
    #[must_use]
    pub fn about(mut self, param: &str) -> Self {
        self.0.param = Some(param.to_owned());
        self
    }

    /// The same with when to come back.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whose side it was on.
    pub fn source(&self) -> &Source {
        &self.0.source
    }

    /// Whether another try can help.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// The status that the client gets.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The code that the client gets.
    pub fn code(&self) -> &str {
        &self.0.code
    }

    /// The field that it is about.
    pub fn param(&self) -> Option<&str> {
        self.0.param.as_deref()
    }

    /// The message that the client gets.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The message that the log gets.
    pub fn detail(&self) -> &str {
        self.0.detail.as_deref().unwrap_or(&self.0.message)
    }

    /// Who was asked upstream; none where nobody was.
    pub fn asked(&self) -> Option<&Asked> {
        self.0.asked.as_ref()
    }

    /// When to come back.
    pub fn comes_back_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// What caused it, for the log.
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync)> {
        self.0.cause.as_deref()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("source", &self.0.source)
            .field("message", &self.detail())
            .field("cause", &self.0.cause)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_code_of_its_own() {
        let mut codes: Vec<_> = Kind::ALL.iter().map(|kind| kind.describe().1).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
        // A `Result` of it travels through every stage.
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
