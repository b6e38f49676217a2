//! The hook `prompting`: which version of which prompt, and what else changes in the request.

use crate::bindings::prompting::exports::pointsman::plugin::prompting::Guest;
use crate::export::Exported;
use crate::{Message, PluginError, PromptRef, Rejection, Request, RequestHead, Result, Role, last_words};

#[doc(inline)]
pub use crate::bindings::prompting::exports::pointsman::plugin::prompting::{Edit, Outcome, PromptChoice, Rewrite};

/// A plugin that chooses prompts, or edits requests.
pub trait Prompting {
    /// Is the configuration one to work with? Asked once, before this version takes traffic; an error keeps the one before it in
    /// place and is shown to whoever wrote the configuration.
    ///
    /// # Errors
    /// What is wrong, and what to write instead ([`PluginError::setting`]).
    fn check() -> Result<()> {
        Ok(())
    }

    /// What is to be rendered into this request, or changed in it.
    ///
    /// # Errors
    /// Counted, logged, and handled as the plugin's owner wrote in `on_failure`.
    fn select(head: &RequestHead, request: &Request) -> Result<Outcome>;
}

impl PromptChoice {
    /// A version of a prompt in the configuration's `[prompts]` folder.
    ///
    /// ```
    /// use pointsman_plugin::{Outcome, PromptChoice};
    ///
    /// let choice = PromptChoice::of("support", "v2").arm("tone-2026", "friendly").label("team", "care");
    /// assert_eq!(choice.prompt.version.as_deref(), Some("v2"));
    /// let outcome: Outcome = choice.into();
    /// # assert!(matches!(outcome, Outcome::Choose(_)));
    /// ```
    pub fn of(prompt: impl Into<String>, version: impl Into<String>) -> Self {
        Self { prompt: PromptRef { name: prompt.into(), version: Some(version.into()) }, experiment: None, labels: Vec::new() }
    }

    /// The experiment that it was chosen by, and its arm. Both are recorded with the answer.
    pub fn arm(mut self, experiment: impl Into<String>, arm: impl Into<String>) -> Self {
        self.experiment = Some((experiment.into(), arm.into()));
        self
    }

    /// Recorded with the exchange, and seen by later plugins through [`Request::metadata`].
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }
}

impl Rewrite {
    /// Changes in the request, applied in order.
    ///
    /// ```
    /// use pointsman_plugin::{Edit, Message, Outcome, Rewrite, Role};
    ///
    /// let brief = Message::new(Role::Developer, "Answer in one sentence.");
    /// let rewrite = Rewrite::by([Edit::Append(brief), Edit::SetParameter(("temperature".into(), "0".into()))]);
    /// let outcome: Outcome = rewrite.into();
    /// # assert!(matches!(outcome, Outcome::Rewrite(_)));
    /// ```
    pub fn by(edits: impl IntoIterator<Item = Edit>) -> Self {
        Self { choice: None, edits: edits.into_iter().collect() }
    }

    /// The prompt that is rendered before the edits; one that the registry does not have is recorded only.
    pub fn of(mut self, choice: PromptChoice) -> Self {
        self.choice = Some(choice);
        self
    }
}

impl Message {
    /// A message.
    pub fn new(role: Role, text: impl Into<String>) -> Self {
        Self { role, text: text.into() }
    }
}

impl From<PromptChoice> for Outcome {
    fn from(choice: PromptChoice) -> Self {
        Self::Choose(choice)
    }
}

impl From<Rewrite> for Outcome {
    fn from(rewrite: Rewrite) -> Self {
        Self::Rewrite(rewrite)
    }
}

impl From<Rejection> for Outcome {
    fn from(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}

impl<T: Prompting> Guest for Exported<T> {
    fn select(head: RequestHead, request: &Request) -> core::result::Result<Outcome, PluginError> {
        last_words::listen();
        T::select(&head, request)
    }
}
