//! Dialects: what clients and upstreams say on the wire, and what we read of it.
//!
//! Same dialect in and out: bytes pass through, with only what must change spliced in. So nothing here turns a body into a
//! tree and back; a field that we never heard of arrives.
//!
//! What it does not do: no I/O, no async, no policy.
//!
//! **Invariant:** pure: it uses no other module of the crate.
//! **Invariant:** bytes that nobody asked to change leave as they came.

pub mod answer;
pub mod embeddings;
pub mod error;
pub mod json;
pub mod logprobs;
pub mod openai_chat;
pub mod prefix;
pub mod sse;
pub mod stream;
pub mod tokens;

/// A body that the client must change: which field, what is wrong, what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Invalid {
    /// The field, as a path such as `messages[2].role`; none where the body as a whole is meant.
    pub param: Option<String>,
    /// Field, reason and remedy, in one sentence.
    pub message: String,
}

impl Invalid {
    /// About one field.
    pub fn field(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), message: message.into() }
    }

    /// About the body as a whole.
    pub fn body(message: impl Into<String>) -> Self {
        Self { param: None, message: message.into() }
    }
}
