//! The hook `routing`: which model answers.

use std::time::Duration;

use crate::bindings::routing::exports::pointsman::plugin::routing::Guest;
use crate::error::milliseconds;
use crate::export::Exported;
use crate::{Chunk, PluginError, Rejection, Request, RequestHead, Response, Result, Target, last_words};

#[doc(inline)]
pub use crate::bindings::routing::exports::pointsman::plugin::routing::{
    Attempt, Batch, ChunkStep, Decision, Ending, Failure, NextStep, Observe, Observed, Plan, Review,
};

/// A plugin that chooses models.
pub trait Routing {
    /// Is the configuration one to work with? Asked once, before this version takes traffic; an error keeps the one before it in
    /// place and is shown to whoever wrote the configuration.
    ///
    /// # Errors
    /// What is wrong, and what to write instead ([`PluginError::setting`]).
    fn check() -> Result<()> {
        Ok(())
    }

    /// Which models are to be tried for this request, in which order.
    ///
    /// # Errors
    /// Counted, logged, and handled as the plugin's owner wrote in `on_failure`.
    fn route(head: &RequestHead, request: &Request) -> Result<Decision>;

    /// What follows an attempt of a plan that wants to be asked ([`Plan::reviewed`], [`Plan::watched`]): `answer` is the answer, or
    /// what of a stream has come; none if the attempt has failed. Without code of its own an answer is accepted, and a failure is
    /// followed by the next target.
    ///
    /// # Errors
    /// Counted, logged, and handled as the plugin's owner wrote in `on_failure`.
    fn after_attempt(_: &RequestHead, _: &Request, last: &Attempt, _answer: Option<&Response>) -> Result<NextStep> {
        Ok(if last.failure.is_some() { NextStep::FallBack } else { NextStep::Accept })
    }

    /// May the client have this part of an answer? Asked batch after batch about answers that the plugin wants to observe
    /// ([`Plan::observed`], [`Observe::every`]). `state` is what it gave back last ([`ChunkStep::keeping`]); each batch has an instance of its
    /// own. Without code of its own it lets the answer pass.
    ///
    /// ```
    /// use pointsman_plugin::{Batch, Chunk, ChunkStep, Decision, Ending, Observe, Observed, Request, RequestHead, Result, Routing};
    ///
    /// struct NoNames;
    ///
    /// impl Routing for NoNames {
    ///     fn route(_: &RequestHead, _: &Request) -> Result<Decision> {
    ///         Ok(Observe::every(16).into())
    ///     }
    ///
    ///     fn on_chunk(_: &RequestHead, _: &Request, _: &Batch, chunk: &Chunk, state: &[u8]) -> Result<Observed> {
    ///         // A word may be in two batches.
    ///         let text = [state, chunk.text(u32::MAX).as_bytes()].concat();
    ///         if text.windows(8).any(|word| word == b"Vladimir") {
    ///             return Ok(ChunkStep::Stop(Ending::ContentFilter).into());
    ///         }
    ///         Ok(ChunkStep::GoOn.keeping(&text[text.len().saturating_sub(7)..]))
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// Counted, logged, and handled as the plugin's owner wrote in `on_failure`.
    fn on_chunk(_: &RequestHead, _: &Request, _: &Batch, _: &Chunk, _state: &[u8]) -> Result<Observed> {
        Ok(ChunkStep::Enough.into())
    }
}

impl Plan {
    /// This model is tried first. Models have the names of the configuration's `[models]`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pointsman_plugin::Plan;
    ///
    /// let plan = Plan::to("small").first_byte_within(Duration::from_secs(2)).then("large").because("short").label("rule", "length");
    /// assert_eq!(plan.targets.len(), 2);
    /// assert_eq!(plan.targets[0].first_byte_timeout_ms, Some(2_000));
    /// assert_eq!(plan.reason, "short");
    /// ```
    pub fn to(model: impl Into<String>) -> Self {
        Self {
            targets: vec![target(model)],
            headers: Vec::new(),
            reason: String::new(),
            labels: Vec::new(),
            review: None,
            observe: None,
        }
    }

    /// [`Routing::on_chunk`] is asked about the answer, after each so many events or after the time that `observe` says.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pointsman_plugin::{Observe, Plan};
    ///
    /// let plan = Plan::to("small").observed(Observe::every(16).or_after(Duration::from_millis(50)));
    /// assert_eq!(plan.observe, Some(Observe { events: Some(16), ms: Some(50) }));
    /// ```
    pub fn observed(mut self, observe: Observe) -> Self {
        self.observe = Some(observe);
        self
    }

    /// [`Routing::after_attempt`] is asked about each attempt: about answers before the client gets any of them, and about
    /// failures. A stream is held back until so many tokens have come; 1 to 4096.
    ///
    /// ```
    /// use pointsman_plugin::Plan;
    ///
    /// let plan = Plan::to("small").then("large").reviewed(32).with_logprobs();
    /// let review = plan.review.unwrap();
    /// assert_eq!((review.answers, review.logprobs, review.tokens), (true, true, Some(32)));
    /// ```
    pub fn reviewed(mut self, tokens: u32) -> Self {
        let logprobs = self.review.is_some_and(|review| review.logprobs);
        self.review = Some(Review { answers: true, logprobs, tokens: Some(tokens) });
        self
    }

    /// [`Routing::after_attempt`] is asked about attempts that have failed.
    pub fn watched(mut self) -> Self {
        self.review = Some(self.review.unwrap_or(Review { answers: false, logprobs: false, tokens: None }));
        self
    }

    /// Models say how probable each token was, where they can ([`Response::mean_logprob`]).
    pub fn with_logprobs(mut self) -> Self {
        self.review =
            Some(Review { logprobs: true, ..self.review.unwrap_or(Review { answers: true, logprobs: true, tokens: None }) });
        self
    }

    /// This one is tried when those before it have failed. A plan has at most 8.
    pub fn then(mut self, model: impl Into<String>) -> Self {
        self.targets.push(target(model));
        self
    }

    /// Time for the whole answer of the model named last.
    pub fn within(mut self, time: Duration) -> Self {
        if let Some(last) = self.targets.last_mut() {
            last.timeout_ms = Some(milliseconds(time));
        }
        self
    }

    /// Time until the first byte of the answer of the model named last.
    pub fn first_byte_within(mut self, time: Duration) -> Self {
        if let Some(last) = self.targets.last_mut() {
            last.first_byte_timeout_ms = Some(milliseconds(time));
        }
        self
    }

    /// Why, in a few words. The client sees it as `x-pointsman-reason`.
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }

    /// A header for the upstream. A plan has at most 16, and none that the host sets itself.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Recorded with the exchange, and seen by later plugins through [`Request::metadata`].
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((name.into(), value.into()));
        self
    }
}

fn target(model: impl Into<String>) -> Target {
    Target { model: model.into(), timeout_ms: None, first_byte_timeout_ms: None }
}

impl From<Plan> for Decision {
    fn from(plan: Plan) -> Self {
        Self::Plan(plan)
    }
}

impl From<Observe> for Decision {
    fn from(observe: Observe) -> Self {
        Self::Observe(observe)
    }
}

impl Observe {
    /// A batch is so many events, about one a token; 1 to 4096.
    pub fn every(events: u32) -> Self {
        Self { events: Some(events), ms: None }
    }

    /// Or what has come in so much time; 1 ms to 10 s.
    pub fn or_after(mut self, time: Duration) -> Self {
        self.ms = Some(milliseconds(time));
        self
    }
}

impl ChunkStep {
    /// This model answers in the place of the one whose answer it is.
    pub fn escalate_to(model: impl Into<String>) -> Self {
        Self::Escalate(target(model))
    }

    /// This step, and what the plugin wants to find at the next batch; at most 4096 bytes.
    pub fn keeping(self, state: impl Into<Vec<u8>>) -> Observed {
        Observed { step: self, state: state.into() }
    }
}

impl From<ChunkStep> for Observed {
    fn from(step: ChunkStep) -> Self {
        step.keeping([])
    }
}

impl From<Rejection> for Decision {
    fn from(rejection: Rejection) -> Self {
        Self::Reject(rejection)
    }
}

impl<T: Routing> Guest for Exported<T> {
    fn route(head: RequestHead, request: &Request) -> core::result::Result<Decision, PluginError> {
        last_words::listen();
        T::route(&head, request)
    }

    fn after_attempt(
        head: RequestHead,
        request: &Request,
        last: Attempt,
        answer: Option<&Response>,
    ) -> core::result::Result<NextStep, PluginError> {
        last_words::listen();
        T::after_attempt(&head, request, &last, answer)
    }

    fn on_chunk(
        head: RequestHead,
        request: &Request,
        part: Batch,
        chunk: &Chunk,
        state: Vec<u8>,
    ) -> core::result::Result<Observed, PluginError> {
        last_words::listen();
        T::on_chunk(&head, request, &part, chunk, &state)
    }
}

impl NextStep {
    /// This model is asked next.
    pub fn escalate_to(model: impl Into<String>) -> Self {
        Self::Escalate(target(model))
    }
}
