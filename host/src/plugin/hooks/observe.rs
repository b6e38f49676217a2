//! The call `on-chunk`: may the client have this part of an answer?
//!
//! What it does not do: it gathers no batch and holds nothing back (`gateway/watch` does).
//!
//! **Invariant:** once something has gone to the client there is no word for another model: [`Flow`] has none.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Failed, Function, Hook, MAX_REVIEWED, Said, Session, Shown, bad_output, checked_rejection, patiently};
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::stream::part::Part;
use crate::error::Error;
use crate::plugin::Plugin;
use crate::plugin::bindings::routing::{self, Batch, ChunkStep, Ending, Observe, Observed};
use crate::plugin::bindings::types::{Rejection, Target};

/// Events of a batch, where the plugin does not say.
const EVENTS: u32 = 32;
/// Time for a batch, where the plugin does not say, and at most.
const MS: u32 = 200;
const MAX_MS: u32 = 10_000;
/// Bytes that a plugin finds again at its next batch.
const MAX_STATE: usize = 4_096;

/// What the plugins say to a request: the first with an opinion, and those that observe.
pub struct Routed {
    /// The first with an opinion.
    pub said: Option<Said<routing::Decision>>,
    /// In the order in which they are asked.
    pub observers: Vec<Observer>,
}

/// A plugin that wants to see an answer before the client does.
#[derive(Clone)]
pub struct Observer {
    /// Which one.
    pub by: Arc<Plugin>,
    /// Events after which it is asked.
    pub events: u32,
    /// Time after which it is asked.
    pub pause: Duration,
    /// What it gave back last.
    state: Vec<u8>,
    how: Observe,
}

impl Observer {
    /// One that has seen nothing yet.
    pub fn new(by: Arc<Plugin>, how: Observe) -> Self {
        let pause = Duration::from_millis(u64::from(how.ms.unwrap_or(MS)));
        Self { by, events: how.events.unwrap_or(EVENTS), pause, state: Vec::new(), how }
    }

    /// The same, with what it gave back at a batch before.
    pub(in crate::plugin) fn keeping(self, state: &str) -> Self {
        Self { state: state.as_bytes().to_vec(), ..self }
    }

    /// What it gave back last.
    pub(in crate::plugin) fn state(&self) -> &[u8] {
        &self.state
    }

    /// What it has said.
    pub fn how(&self) -> Observe {
        self.how
    }
}

pub(super) fn checked(how: Observe) -> Result<Observe, Failed> {
    if how.events.is_some_and(|events| !(1..=MAX_REVIEWED).contains(&events)) {
        return Err(bad_output(format!("a batch has 1 to {MAX_REVIEWED} events")));
    }
    if how.ms.is_some_and(|ms| !(1..=MAX_MS).contains(&ms)) {
        return Err(bad_output(format!("a batch takes 1 to {MAX_MS} ms")));
    }
    Ok(how)
}

/// What follows a batch.
#[derive(Debug)]
pub enum Flow {
    /// The client gets it, and the plugin is asked about the next one.
    GoOn,
    /// The client gets it and all that follows.
    Enough,
    /// The same, but because the plugin has failed.
    Unseen,
    /// The answer ends before it.
    Stop(Ending),
    /// A refusal in its place.
    Reject(Rejection),
}

/// What follows the first batch, of which the client has got nothing.
#[derive(Debug)]
pub enum First {
    /// As for any other.
    Flow(Flow),
    /// This target answers instead.
    Escalate(Target),
}

impl Session {
    /// A session that asks the same plugins about the same exchange, for a part of it that goes its own way.
    #[must_use]
    pub fn apart(&self) -> Self {
        let live = self.live.iter().filter(|(_, live)| live.is_none()).map(|(place, _)| (*place, None)).collect();
        let (set, around, head) = (self.set.clone(), self.around.clone(), self.head.clone());
        let mut apart = Self::new(set, around, head).of(self.whose.clone());
        (apart.live, apart.aside) = (live, self.aside.clone());
        apart
    }

    /// May the client have the beginning of an answer? Nothing has gone to it.
    ///
    /// # Errors
    /// As [`Session::select`].
    pub async fn on_first_chunk(
        &mut self,
        observer: &mut Observer,
        request: &Arc<ChatRequest>,
        batch: &Batch,
        part: &Arc<Part>,
    ) -> Result<First, Error> {
        let step = self.on_chunk(observer, request, Batch { committed: false, ..batch.clone() }, part).await?;
        Ok(match step {
            Some(ChunkStep::Escalate(target)) => First::Escalate(target),
            other => First::Flow(flow(other)),
        })
    }

    /// May the client have the next part of an answer, of which it has the beginning?
    ///
    /// # Errors
    /// As [`Session::select`].
    pub async fn on_next_chunk(
        &mut self,
        observer: &mut Observer,
        request: &Arc<ChatRequest>,
        batch: &Batch,
        part: &Arc<Part>,
    ) -> Result<Flow, Error> {
        Ok(flow(self.on_chunk(observer, request, Batch { committed: true, ..batch.clone() }, part).await?))
    }

    /// What the plugin says, in a fresh instance; none where it cannot.
    async fn on_chunk(
        &mut self,
        observer: &mut Observer,
        request: &Arc<ChatRequest>,
        batch: Batch,
        part: &Arc<Part>,
    ) -> Result<Option<ChunkStep>, Error> {
        for index in self.ways(&observer.by) {
            let began = Instant::now();
            self.begins(index, Function::OnChunk, request, Shown { part: Some((&batch, part)), ..Shown::default() });
            let Some((plugin, mut live)) = self.enter(index, Hook::Routing, request).await? else { continue };
            if !Arc::ptr_eq(&plugin, &observer.by) {
                // What a canary has kept is nothing to the version that serves.
                (observer.by, observer.state) = (plugin.clone(), Vec::new());
            }
            live.store.data_mut().part = Some(part.clone());
            let asked =
                async { Ok::<_, Failed>(plugin.exports.on_chunk(&mut live, &self.head, &batch, &observer.state).await??) };
            let mut kept = Vec::new();
            let step = patiently(&plugin, pin!(asked)).await.and_then(|observed| {
                let Observed { step, state } = self.checked_step(observed, &batch)?;
                kept = state;
                Ok(step)
            });
            if let Some(step) = self.leave(index, &plugin, Hook::Routing, live, false, began, step)? {
                observer.state = kept;
                return Ok(Some(step));
            }
        }
        Ok(None)
    }

    fn checked_step(&self, observed: Observed, batch: &Batch) -> Result<Observed, Failed> {
        if observed.state.len() > MAX_STATE {
            return Err(bad_output(format!("what a plugin keeps for its next batch has at most {MAX_STATE} bytes")));
        }
        match &observed.step {
            ChunkStep::Escalate(_) if batch.committed => {
                return Err(bad_output("no other model can answer once something has gone to the client"));
            }
            ChunkStep::Escalate(target) => self.checked_target(target)?,
            ChunkStep::Reject(rejection) => drop(checked_rejection(rejection.clone())?),
            ChunkStep::GoOn | ChunkStep::Enough | ChunkStep::Stop(_) => {}
        }
        Ok(observed)
    }
}

fn flow(step: Option<ChunkStep>) -> Flow {
    match step {
        // `checked_step` lets no escalation through here.
        None | Some(ChunkStep::Escalate(_)) => Flow::Unseen,
        Some(ChunkStep::GoOn) => Flow::GoOn,
        Some(ChunkStep::Enough) => Flow::Enough,
        Some(ChunkStep::Stop(ending)) => Flow::Stop(ending),
        Some(ChunkStep::Reject(rejection)) => Flow::Reject(rejection),
    }
}
