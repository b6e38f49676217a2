//! Parts of answers (`on-chunk`): what the component lets pass of those that were recorded.
//!
//! A component is asked about the batches that the recorded version was asked about, with what it has kept itself from one to the next. Where
//! it would be asked further, or about the answer of a model that was not asked, nobody knows what there would be.
//!
//! What it does not do: it cuts no batches of its own. A component that wants them larger or smaller is asked about the recorded ones.
//!
//! **Invariant:** an answer that it has ended, or wants to see no more of, it is asked no more about.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::stream::part::Part;
use crate::plugin::Plugin;
use crate::plugin::bindings::routing::{ChunkStep, Observe};
use crate::plugin::bindings::types::Target;
use crate::plugin::hooks::{Observer, Session};
use crate::plugin::tape::{Call, Function, Recorded, Said};

use super::around::Around;

/// What nobody knows is counted under this name.
pub(super) const UNKNOWN: &str = "on-chunk";

/// The recorded batches of one answer.
pub(super) struct Heard<'a> {
    /// The model that gave it.
    pub(super) model: &'a str,
    calls: Vec<&'a Call>,
}

/// What comes of an answer that is observed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    /// The client gets it, or the beginning of it.
    Goes,
    /// This one answers instead.
    Escalates(String),
    /// The client gets an error in its place.
    Refused,
}

/// The answers of which parts were recorded, in their order.
pub(super) fn heard<'a>(calls: &[&'a Call]) -> VecDeque<Heard<'a>> {
    let mut all: VecDeque<Heard<'a>> = VecDeque::new();
    for call in calls.iter().filter(|call| call.function == Function::OnChunk) {
        let Some(batch) = call.told.as_ref().and_then(|told| told.batch.as_ref()) else { continue };
        match all.back_mut().filter(|last| batch.index > 0 && last.model == batch.model) {
            Some(last) => last.calls.push(call),
            None => all.push_back(Heard { model: &batch.model, calls: vec![call] }),
        }
    }
    all
}

/// A step, as it was decided; none: nothing was.
fn step(said: &Said) -> Option<ChunkStep> {
    match said {
        Said::Decided(value) => serde_json::from_value(value.clone()).ok(),
        _ => None,
    }
}

/// What a call comes to, whatever it was asked about. An error in the middle of an answer leaves its beginning.
fn outcome(call: &Call, step: Option<&ChunkStep>, by: &Plugin) -> Outcome {
    let is_begun = call.told.as_ref().and_then(|told| told.batch.as_ref()).is_some_and(|batch| batch.committed);
    match step {
        Some(ChunkStep::Escalate(Target { model, .. })) => Outcome::Escalates(model.clone()),
        Some(ChunkStep::Reject(_)) if !is_begun => Outcome::Refused,
        // Its owner has written what follows.
        None if by.settings().fail && !is_begun => Outcome::Refused,
        Some(ChunkStep::GoOn | ChunkStep::Enough | ChunkStep::Stop(_) | ChunkStep::Reject(_)) | None => Outcome::Goes,
    }
}

impl Heard<'_> {
    /// What came of it.
    pub(super) fn recorded(&self, by: &Plugin) -> Outcome {
        self.calls.last().map_or(Outcome::Goes, |call| outcome(call, step(&call.said).as_ref(), by))
    }

    /// What comes of it now, and whether all is known that the component would have been asked about.
    pub(super) async fn ask(
        &self,
        session: &mut Session,
        around: &Around,
        by: &Arc<Plugin>,
        (requests, recorded): (&[Arc<ChatRequest>], &Recorded),
    ) -> Result<(Outcome, bool), String> {
        let mut observer = Observer::new(by.clone(), Observe { events: None, ms: None });
        for call in &self.calls {
            let told = call.told.as_ref().ok_or("has a call of which nothing was kept")?;
            let batch = told.batch.as_ref().ok_or("has a call without its batch")?;
            let request = requests.get(told.request).ok_or("has a call without its request")?;
            let heard =
                told.part.and_then(|place| recorded.parts.get(place)).ok_or("has a call without its part of an answer")?;
            // A rule of the recording has taken it out.
            let Some(text) = &heard.text else { return Ok((Outcome::Goes, false)) };
            let bytes = Bytes::copy_from_slice(text.as_bytes());
            let part = Arc::new(if heard.whole { Part::of_answer(bytes) } else { Part::of_stream(vec![bytes]) });
            around.turn_to(call);
            session.see_prompt(told.prompt.clone());
            // What a failure means for the exchange is on the tape already.
            match batch.committed {
                true => drop(session.on_next_chunk(&mut observer, request, batch, &part).await),
                false => drop(session.on_first_chunk(&mut observer, request, batch, &part).await),
            }
            session.shed();
            let now = around.said_last().as_ref().and_then(step);
            if !matches!(now, Some(ChunkStep::GoOn)) {
                return Ok((outcome(call, now.as_ref(), by), true));
            }
        }
        let last = self.calls.last();
        let was_asked_all = last.and_then(|call| call.told.as_ref()?.batch.as_ref()).is_some_and(|batch| batch.last);
        let went_on = last.and_then(|call| step(&call.said)).is_some_and(|step| matches!(step, ChunkStep::GoOn));
        // One that was left by its client, or of which only the beginning was kept, is known as far as it is for both.
        Ok((Outcome::Goes, was_asked_all || went_on))
    }
}
