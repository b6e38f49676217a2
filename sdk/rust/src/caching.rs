//! The hook `caching`: which requests may share an answer.
//!
//! Nothing that a plugin says makes two tenants share: the host puts the tenant before every key.

use std::time::Duration;

use crate::bindings::caching::exports::pointsman::plugin::caching::Guest;
use crate::error::milliseconds;
use crate::export::Exported;
use crate::{PluginError, Request, RequestHead, Response, Result, last_words};

#[doc(inline)]
pub use crate::bindings::caching::exports::pointsman::plugin::caching::{
    CacheKey, Candidate, Directive, Scope, SemanticKey, Verdict,
};

/// A plugin that says what may be shared.
pub trait Caching {
    /// Is the configuration one to work with? Asked once, before this version takes traffic; an error keeps the one before it in
    /// place and is shown to whoever wrote the configuration.
    ///
    /// # Errors
    /// What is wrong, and what to write instead ([`PluginError::setting`]).
    fn check() -> Result<()> {
        Ok(())
    }

    /// What another request must have in common with this one to get its answer.
    ///
    /// # Errors
    /// Counted, logged, and handled as the plugin's owner wrote in `on_failure`.
    fn key(head: &RequestHead, request: &Request) -> Result<Directive>;

    /// May this near hit be served? Asked if the key says [`SemanticKey::confirm`].
    ///
    /// # Errors
    /// The near hit is not served.
    fn confirm(_head: &RequestHead, _request: &Request, _hit: &Candidate) -> Result<Verdict> {
        Ok(Verdict::Serve)
    }

    /// May this answer be kept? Asked if the key says [`CacheKey::admit`], of a fresh instance.
    ///
    /// # Errors
    /// The answer is not kept.
    fn admit(_head: &RequestHead, _request: &Request, _response: &Response) -> Result<Admission> {
        Ok(Admission::Keep)
    }
}

/// Whether an answer may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// For as long as its key says.
    Keep,
    /// For this long, or as long as its key says if that is shorter.
    KeepFor(Duration),
    /// No.
    Refuse,
}

impl CacheKey {
    /// Requests that `scope` holds together share, if they are equal.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pointsman_plugin::{CacheKey, Directive, Scope, SemanticKey};
    ///
    /// let key = CacheKey::of(Scope::Custom("user-7".into()))
    ///     .text("what is the capital of france?")
    ///     .near(SemanticKey::new().within("en").at_least(0.95).confirm())
    ///     .ttl(Duration::from_secs(600))
    ///     .admit();
    /// assert_eq!(key.ttl_ms, Some(600_000));
    /// let directive: Directive = key.into();
    /// # assert!(matches!(directive, Directive::Key(_)));
    /// ```
    pub fn of(scope: Scope) -> Self {
        Self { scope, exact: None, semantic: None, ttl_ms: None, generation: None, admit: false }
    }

    /// Stands for the text of the last user message in the exact key, say because it is written in one way only. Called again, it
    /// adds a part. The rest of the request is always part of the key.
    pub fn text(mut self, part: impl Into<String>) -> Self {
        self.exact.get_or_insert_default().push(part.into());
        self
    }

    /// Requests of nearly the same meaning may share as well.
    pub fn near(mut self, key: SemanticKey) -> Self {
        self.semantic = Some(key);
        self
    }

    /// How long an answer is kept.
    pub fn ttl(mut self, time: Duration) -> Self {
        self.ttl_ms = Some(milliseconds(time));
        self
    }

    /// Entries of another generation are not found: a way to let go of all that were made so far.
    pub fn generation(mut self, name: impl Into<String>) -> Self {
        self.generation = Some(name.into());
        self
    }

    /// [`Caching::admit`] is asked before an answer is kept.
    pub fn admit(mut self) -> Self {
        self.admit = true;
        self
    }
}

impl SemanticKey {
    /// Near by the last user message.
    pub fn new() -> Self {
        Self { text: None, partition: Vec::new(), min_similarity: None, confirm: false }
    }

    /// Near by this text instead.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Something that must be equal however near two texts are, such as the language. Called again, it adds another.
    pub fn within(mut self, part: impl Into<String>) -> Self {
        self.partition.push(part.into());
        self
    }

    /// A cosine below which nothing is near. The host's own cut holds if it is higher.
    pub fn at_least(mut self, similarity: f32) -> Self {
        self.min_similarity = Some(similarity);
        self
    }

    /// [`Caching::confirm`] is asked before a near hit is served.
    pub fn confirm(mut self) -> Self {
        self.confirm = true;
        self
    }
}

impl Default for SemanticKey {
    fn default() -> Self {
        Self::new()
    }
}

impl From<CacheKey> for Directive {
    fn from(key: CacheKey) -> Self {
        Self::Key(key)
    }
}

impl<T: Caching> Guest for Exported<T> {
    fn key(head: RequestHead, request: &Request) -> core::result::Result<Directive, PluginError> {
        last_words::listen();
        T::key(&head, request)
    }

    fn confirm(head: RequestHead, request: &Request, hit: Candidate) -> core::result::Result<Verdict, PluginError> {
        last_words::listen();
        T::confirm(&head, request, &hit)
    }

    fn admit(head: RequestHead, request: &Request, response: &Response) -> core::result::Result<Option<u32>, PluginError> {
        last_words::listen();
        Ok(match T::admit(&head, request, response)? {
            // The host takes the shorter of this and the key's.
            Admission::Keep => Some(u32::MAX),
            Admission::KeepFor(time) => Some(milliseconds(time)),
            Admission::Refuse => None,
        })
    }
}
