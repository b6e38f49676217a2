//! What a puppet can be told, as JSON in the request's `x-puppet-HOOK` headers, and how it reads in the contract's words.
//!
//! **Invariant:** nothing is checked here: bad orders are what the host is tested with.

use serde::Deserialize;

use crate::types::{Message, PluginError, PromptRef, Rejection, Role};
use crate::{caching, prompting, routing};

/// Names and values.
pub type Pairs = Vec<(String, String)>;

/// What any hook may be told to do instead of an answer.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misdeed {
    Panic,
    Fail(String),
}

impl Misdeed {
    pub fn commit<T>(self) -> Result<T, PluginError> {
        match self {
            Self::Panic => panic!("as ordered"),
            Self::Fail(reason) => Err(PluginError::Internal(reason)),
        }
    }
}

#[derive(Deserialize)]
pub struct Refusal {
    status: u16,
    code: String,
    message: String,
    retry_after_ms: Option<u32>,
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        let Refusal { status, code, message, retry_after_ms } = refusal;
        Self { status, code, message, retry_after_ms }
    }
}

#[derive(Deserialize)]
pub struct Review {
    #[serde(default)]
    answers: bool,
    #[serde(default)]
    logprobs: bool,
    tokens: Option<u32>,
}

impl From<Review> for routing::Review {
    fn from(review: Review) -> Self {
        let Review { answers, logprobs, tokens } = review;
        Self { answers, logprobs, tokens }
    }
}

#[derive(Deserialize)]
pub struct Observe {
    events: Option<u32>,
    ms: Option<u32>,
}

impl From<Observe> for routing::Observe {
    fn from(observe: Observe) -> Self {
        let Observe { events, ms } = observe;
        Self { events, ms }
    }
}

/// What follows a batch, by its index.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    GoOn,
    Enough,
    /// Because of what it says.
    Stop,
    /// Because it is long.
    Cut,
    Escalate(String),
    Reject(Refusal),
    /// Goes on, and leaves all that was said so far as a label of that name.
    Label(String),
    /// This, unless that model answers.
    Unless(String, Box<Flow>),
    /// Keeps more than it may.
    Swell,
    /// A refusal whose message is what the guest has been told.
    Tell,
    Misdeed(Misdeed),
}

/// What follows an attempt, by its number.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    Accept,
    FallBack,
    Again(u32),
    Escalate(String),
    Reject(Refusal),
    /// A refusal whose message is what the guest has been told.
    Tell,
    Misdeed(Misdeed),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Route {
    Pass,
    /// Counts in the label of that name: it tells what it found there if that is `until`, or else leaves one more and passes.
    Relay {
        name: String,
        until: u32,
    },
    Plan {
        targets: Vec<String>,
        #[serde(default)]
        headers: Pairs,
        #[serde(default)]
        reason: String,
        #[serde(default)]
        labels: Pairs,
        timeout_ms: Option<u32>,
        first_byte_timeout_ms: Option<u32>,
        /// Of answers too, with log-probabilities, after so many tokens.
        review: Option<Review>,
        observe: Option<Observe>,
    },
    /// No opinion, but `on-chunk` wants to be asked.
    Observe(Observe),
    /// A plan for the model that was asked for, with what the guest sees as its reason.
    Tell(Sight),
    Reject(Refusal),
    #[serde(untagged)]
    Misdeed(Misdeed),
}

/// Something that a guest can see of an exchange.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sight {
    Head,
    Calls,
    Header(String),
    HeaderNames,
    Messages,
    LastUserText(u32),
    Json(String),
    Metadata(String),
}

#[derive(Deserialize)]
pub struct Choice {
    prompt: String,
    version: Option<String>,
    #[serde(default)]
    labels: Pairs,
}

impl From<Choice> for prompting::PromptChoice {
    fn from(choice: Choice) -> Self {
        Self { prompt: PromptRef { name: choice.prompt, version: choice.version }, experiment: None, labels: choice.labels }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edit {
    Prepend(String),
    Append(String),
    ReplaceSystem(String),
    Replace(u32, String),
    Remove(u32),
    SetParameter(String, String),
}

impl From<Edit> for prompting::Edit {
    fn from(edit: Edit) -> Self {
        match edit {
            Edit::Prepend(text) => Self::Prepend(Message { role: Role::System, text }),
            Edit::Append(text) => Self::Append(Message { role: Role::User, text }),
            Edit::ReplaceSystem(text) => Self::ReplaceSystem(text),
            Edit::Replace(index, text) => Self::Replace((index, text)),
            Edit::Remove(index) => Self::Remove(index),
            Edit::SetParameter(name, value) => Self::SetParameter((name, value)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    Pass,
    /// No opinion, and labels.
    Label(Pairs),
    /// Labels, and then it fails.
    LabelAndPanic(Pairs),
    Choose(Choice),
    Rewrite {
        choice: Option<Choice>,
        #[serde(default)]
        edits: Vec<Edit>,
    },
    Reject(Refusal),
    #[serde(untagged)]
    Misdeed(Misdeed),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Scope {
    Tenant,
    Principal,
    Custom(String),
}

#[derive(Deserialize)]
struct Semantic {
    text: Option<String>,
    #[serde(default)]
    partition: Vec<String>,
    min_similarity: Option<f32>,
    #[serde(default)]
    confirm: bool,
}

#[derive(Deserialize)]
pub struct Key {
    scope: Option<Scope>,
    exact: Option<Vec<String>>,
    semantic: Option<Semantic>,
    ttl_ms: Option<u32>,
    generation: Option<String>,
    #[serde(default)]
    admit: bool,
}

impl From<Key> for caching::CacheKey {
    fn from(key: Key) -> Self {
        let scope = match key.scope {
            None | Some(Scope::Tenant) => caching::Scope::Tenant,
            Some(Scope::Principal) => caching::Scope::Principal,
            Some(Scope::Custom(part)) => caching::Scope::Custom(part),
        };
        let semantic = key.semantic.map(|semantic| {
            let Semantic { text, partition, min_similarity, confirm } = semantic;
            caching::SemanticKey { text, partition, min_similarity, confirm }
        });
        Self { scope, exact: key.exact, semantic, ttl_ms: key.ttl_ms, generation: key.generation, admit: key.admit }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Directive {
    Pass,
    Bypass,
    Key(Key),
    ReadOnly(Key),
    Refresh(Key),
    #[serde(untagged)]
    Misdeed(Misdeed),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Serve,
    Veto,
    Evict,
    #[serde(untagged)]
    Misdeed(Misdeed),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admit {
    No,
    For(u32),
    /// Only an answer whose text has this in it.
    IfTextHas(String),
    /// Only from an instance that nothing was asked of before.
    IfFirstCall,
    Panic,
}
