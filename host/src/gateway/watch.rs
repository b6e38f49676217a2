//! Plugins that observe an answer: it is gathered in batches, and the client gets none of one that they have not let pass.
//!
//! The first batch is seen before the commit point (`run`), where another model may still answer; those that follow as they pass
//! (`body`), where an answer can be ended but not begun anew. The two have types of their own: only an [`Opening`] has another target in it.
//!
//! What it does not do: it reads no event of an answer that nobody observes, and writes none.
//!
//! **Invariant:** an event waits no longer than the shortest `ms` of the observers and the deadline of each; at most [`MAX_HELD`] bytes, a piece and
//! the beginning of an event are held, and nothing is read ahead of the client beyond that.
//! **Invariant:** events go on in their order, byte for byte, or not at all.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, Sleep, timeout_at};

use super::course::Course;
use super::prompt::rejected;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::sse::MAX_EVENT;
use crate::dialect::stream::part::{Envelope, Part};
use crate::dialect::stream::{End, Tap};
use crate::error::{Error, Kind, Retry};
use crate::plugin::Plugin;
use crate::plugin::bindings::routing::{Batch, Ending};
use crate::plugin::bindings::types::Target;
use crate::plugin::hooks::{First, Flow, Observer, Session};
use crate::upstream::UpstreamBody;

/// Bytes of a batch. A longer one is looked at before it has its events.
const MAX_HELD: usize = 1 << 20;

/// Why the client gets no more of an answer.
pub(super) enum Verdict {
    /// A plugin has ended it, with this reason.
    Stopped { by: Arc<Plugin>, ending: Ending },
    /// A plugin has refused it, or has failed and must not be gone without.
    Failed(Error),
}

/// What becomes of an answer of which nobody has got anything.
pub(super) enum Opening {
    /// It goes to the client, as far as [`Watch::poll`] lets it.
    Goes,
    /// A plugin has another target answer.
    Escalates { by: Arc<Plugin>, target: Target },
    /// It goes to nobody.
    Ends(Verdict),
}

/// What comes next.
pub(super) enum Next {
    Piece(Bytes),
    Broke(Error),
    End,
    Over(Verdict),
}

/// Who is asked.
struct Panel {
    session: Session,
    request: Arc<ChatRequest>,
    observers: Vec<Observer>,
    /// One has failed, and might have ended the answer.
    unseen: bool,
}

/// A batch, while it is gathered.
#[derive(Default)]
struct Gathered {
    pieces: Vec<Bytes>,
    bytes: usize,
    events: u32,
}

/// An answer under observation.
pub(super) struct Watch {
    /// None while it is asked.
    panel: Option<Panel>,
    asking: Option<BoxFuture<'static, (Panel, Option<Verdict>)>>,
    events: u32,
    pause: Duration,
    tap: Tap,
    batch: Gathered,
    /// The beginning of an event.
    carry: Vec<Bytes>,
    carried: usize,
    /// When the batch is over; set with its first event.
    timer: Pin<Box<Sleep>>,
    /// What may pass.
    released: VecDeque<Bytes>,
    /// The upstream's body has ended, or broken.
    ended: Option<Option<Error>>,
    /// What was said of the first batch, if it was said that the answer ends.
    verdict: Option<Verdict>,
    /// The last batch has been seen.
    over: bool,
    index: u32,
    before: u32,
    model: Arc<str>,
    started: Instant,
    envelope: Envelope,
}

impl Panel {
    /// All of them about the first batch.
    async fn open(&mut self, batch: &Batch, part: &Arc<Part>) -> Opening {
        let mut flows = Vec::with_capacity(self.observers.len());
        for observer in &mut self.observers {
            let flow = match self.session.on_first_chunk(observer, &self.request, batch, part).await {
                Ok(First::Flow(flow)) => flow,
                Ok(First::Escalate(target)) => return Opening::Escalates { by: observer.by.clone(), target },
                Err(error) => return Opening::Ends(Verdict::Failed(error)),
            };
            match verdict(observer, flow) {
                Ok(flow) => flows.push(flow),
                Err(verdict) => return Opening::Ends(verdict),
            }
        }
        self.go_on(&flows);
        Opening::Goes
    }

    /// All of them about another one.
    async fn ask(&mut self, batch: &Batch, part: &Arc<Part>) -> Option<Verdict> {
        let mut flows = Vec::with_capacity(self.observers.len());
        for observer in &mut self.observers {
            let flow = match self.session.on_next_chunk(observer, &self.request, batch, part).await {
                Ok(flow) => flow,
                Err(error) => return Some(Verdict::Failed(error)),
            };
            match verdict(observer, flow) {
                Ok(flow) => flows.push(flow),
                Err(verdict) => return Some(verdict),
            }
        }
        self.go_on(&flows);
        None
    }

    /// Those that want no more are asked no more.
    fn go_on(&mut self, flows: &[Flow]) {
        self.unseen |= flows.iter().any(|flow| matches!(flow, Flow::Unseen));
        let mut flows = flows.iter();
        self.observers.retain(|_| matches!(flows.next(), Some(Flow::GoOn)));
    }
}

fn verdict(observer: &Observer, flow: Flow) -> Result<Flow, Verdict> {
    match flow {
        Flow::Stop(ending) => Err(Verdict::Stopped { by: observer.by.clone(), ending }),
        Flow::Reject(rejection) => Err(Verdict::Failed(rejected(&observer.by, rejection))),
        Flow::GoOn | Flow::Enough | Flow::Unseen => Ok(flow),
    }
}

/// The `finish_reason` of an answer that a plugin has ended.
pub(super) fn reason(ending: Ending) -> &'static str {
    match ending {
        Ending::ContentFilter => "content_filter",
        Ending::Length => "length",
    }
}

impl Watch {
    /// None where nobody observes.
    pub(super) fn new(
        course: &Course,
        request: &Arc<ChatRequest>,
        observers: &[Observer],
        model: &Arc<str>,
    ) -> Option<Box<Self>> {
        let session = course.session.as_ref().filter(|_| !observers.is_empty())?.apart();
        Some(Box::new(Self {
            panel: Some(Panel { session, request: request.clone(), observers: observers.to_vec(), unseen: false }),
            asking: None,
            events: observers.iter().map(|observer| observer.events).min().unwrap_or(1),
            pause: observers.iter().map(|observer| observer.pause).min().unwrap_or_default(),
            tap: Tap::new(0),
            batch: Gathered::default(),
            carry: Vec::new(),
            carried: 0,
            timer: Box::pin(tokio::time::sleep(Duration::ZERO)),
            released: VecDeque::new(),
            ended: None,
            verdict: None,
            over: false,
            index: 0,
            before: 0,
            model: model.clone(),
            started: course.exchange.started,
            envelope: Envelope::default(),
        }))
    }

    /// Was all that has passed seen by everybody who wanted to see it?
    pub(super) fn has_seen(&self) -> bool {
        self.panel.as_ref().is_some_and(|panel| !panel.unseen)
    }

    /// Events of the answer so far, one a token or so.
    pub(super) fn so_far(&self) -> u32 {
        self.before + self.batch.events
    }

    /// Tokens of the request, about.
    pub(super) fn prompt(&self) -> u32 {
        self.panel.as_ref().map_or(0, |panel| panel.request.estimated_tokens())
    }

    fn choices(&self) -> usize {
        self.panel.as_ref().map_or(1, |panel| panel.request.choices())
    }

    /// The events that end the stream here.
    pub(super) fn closing(&self, by: &Plugin, ending: Ending) -> Bytes {
        self.envelope.closing(reason(ending), by.name(), self.choices())
    }

    /// An answer in the place of one that is not streamed.
    pub(super) fn empty(&self, by: &Plugin, ending: Ending) -> Bytes {
        self.envelope.empty(reason(ending), by.name(), self.choices())
    }

    /// The stream ends before its first batch.
    pub(super) fn ends(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
    }

    /// Another endpoint goes on with the answer.
    pub(super) fn goes_on(&mut self) {
        (self.tap, self.ended, self.carried, self.over) = (Tap::new(0), None, 0, false);
        self.carry.clear();
        // What came behind a failure of the one before it.
        self.released.clear();
        self.batch = Gathered::default();
    }

    /// Looks at the beginning of a stream: its first batch, or what there is of it at `until`.
    ///
    /// # Errors
    /// The stream breaks before that.
    pub(super) async fn open(&mut self, upstream: &mut UpstreamBody, endpoint: &str, until: Instant) -> Result<Opening, Error> {
        let gathered = std::future::poll_fn(|context| self.poll_batch(upstream, context));
        // Whoever waits for the answer waits no longer.
        let _ = timeout_at(until, gathered).await;
        if let Some(Some(error)) = self.ended.take_if(|ended| ended.is_some()) {
            return Err(error);
        }
        if self.tap.end() == End::Error || (self.ended.is_some() && self.tap.end() == End::Cut) {
            let message = format!("{endpoint} ended its stream before the answer was finished.");
            return Err(Error::upstream(Kind::UpstreamBroken, endpoint, Retry::Elsewhere, message));
        }
        let part = Arc::new(Part::of_stream(self.batch.pieces.clone()));
        let last = self.is_last();
        Ok(self.first(part, last).await)
    }

    /// Looks at an answer that is not streamed.
    pub(super) async fn open_whole(&mut self, body: Bytes) -> Opening {
        (self.batch.events, self.ended) = (1, Some(None));
        self.first(Arc::new(Part::of_answer(body)), true).await
    }

    async fn first(&mut self, part: Arc<Part>, last: bool) -> Opening {
        self.envelope = Envelope::of(&part);
        let batch = self.described(&part, last);
        let Some(panel) = self.panel.as_mut().filter(|_| batch.events > 0 || batch.last) else { return Opening::Goes };
        let opening = Box::pin(panel.open(&batch, &part)).await;
        if matches!(opening, Opening::Goes) {
            self.is_over(last);
            self.pass();
        }
        opening
    }

    /// Is nothing of the answer still to come?
    fn is_last(&self) -> bool {
        let has_ended = self.ended.as_ref().is_some_and(Option::is_none);
        self.tap.is_done() || (has_ended && self.tap.end() == End::Whole)
    }

    fn is_over(&mut self, over: bool) {
        self.over = over;
        if over {
            // What no blank line ends is no event.
            self.carry.clear();
        }
    }

    fn described(&self, part: &Part, last: bool) -> Batch {
        Batch {
            index: self.index,
            events: self.batch.events,
            before: self.before,
            model: self.model.to_string(),
            elapsed_ms: u32::try_from(self.started.elapsed().as_millis()).unwrap_or(u32::MAX),
            committed: false,
            last,
            missed: self.tap.has_overflowed() || !part.is_clear(),
        }
    }

    /// The next piece that may go to the client.
    pub(super) fn poll(&mut self, upstream: &mut UpstreamBody, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            if let Some(asking) = &mut self.asking {
                let (panel, verdict) = ready!(asking.as_mut().poll(context));
                (self.panel, self.asking) = (Some(panel), None);
                if let Some(verdict) = verdict {
                    return Poll::Ready(Next::Over(verdict));
                }
                self.pass();
            }
            if let Some(piece) = self.released.pop_front() {
                return Poll::Ready(Next::Piece(piece));
            }
            if let Some(verdict) = self.verdict.take() {
                return Poll::Ready(Next::Over(verdict));
            }
            if self.over || self.panel.as_ref().is_some_and(|panel| panel.observers.is_empty()) {
                return self.poll_rest(upstream, context);
            }
            ready!(self.poll_batch(upstream, context));
            self.ask();
        }
    }

    /// What nobody wants to see.
    fn poll_rest(&mut self, upstream: &mut UpstreamBody, context: &mut Context<'_>) -> Poll<Next> {
        if !self.carry.is_empty() {
            self.carried = 0;
            self.released.extend(self.carry.drain(..));
        }
        if let Some(piece) = self.released.pop_front() {
            return Poll::Ready(Next::Piece(piece));
        }
        let piece = match self.ended.take() {
            Some(ended) => ended.map(Err),
            None => ready!(upstream.poll_piece(context)),
        };
        Poll::Ready(match piece {
            Some(Ok(piece)) => Next::Piece(piece),
            Some(Err(error)) => Next::Broke(error),
            None => Next::End,
        })
    }

    /// Gathers a batch.
    fn poll_batch(&mut self, upstream: &mut UpstreamBody, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_at_end = self.ended.is_some() || self.tap.is_done() || (self.index == 0 && self.tap.end() == End::Error);
            if is_at_end || self.batch.events >= self.events || self.batch.bytes > MAX_HELD {
                return Poll::Ready(());
            }
            // Comments need not wait for the rest of a batch that has not begun.
            if self.index > 0 && !self.released.is_empty() {
                return Poll::Ready(());
            }
            match upstream.poll_piece(context) {
                Poll::Ready(Some(Ok(piece))) => self.feed(&piece),
                Poll::Ready(Some(Err(error))) => self.ended = Some(Some(error)),
                Poll::Ready(None) => self.ended = Some(None),
                Poll::Pending if self.batch.events == 0 => return Poll::Pending,
                Poll::Pending => return self.timer.as_mut().poll(context),
            }
        }
    }

    fn feed(&mut self, piece: &Bytes) {
        let before = self.tap.events();
        let complete = self.tap.feed(piece);
        let mut events = self.tap.events() - before;
        if complete > 0 {
            self.hold_carry();
            self.batch.bytes += complete;
            self.batch.pieces.push(piece.slice(..complete));
        }
        if complete < piece.len() {
            self.carried += piece.len() - complete;
            self.carry.push(piece.slice(complete..));
        }
        if self.carried > MAX_EVENT {
            // Nobody can read it, but it is something.
            events += 1;
            self.hold_carry();
        }
        if events > 0 {
            if self.batch.events == 0 {
                self.timer.as_mut().reset(Instant::now() + self.pause);
            }
            self.batch.events += events;
        } else if self.batch.events == 0 && !self.tap.is_done() && !self.tap.has_overflowed() {
            // Comments tell the client that the connection lives.
            self.batch.bytes = 0;
            self.released.extend(self.batch.pieces.drain(..));
        }
    }

    fn hold_carry(&mut self) {
        self.batch.bytes += std::mem::take(&mut self.carried);
        self.batch.pieces.append(&mut self.carry);
    }

    /// Asks about the batch, if it is one.
    fn ask(&mut self) {
        if !self.released.is_empty() {
            return;
        }
        let part = Arc::new(Part::of_stream(self.batch.pieces.clone()));
        let batch = self.described(&part, self.is_last());
        self.is_over(self.ended.is_some() || batch.last);
        match self.panel.take() {
            Some(mut panel) if batch.events > 0 || batch.last => {
                self.asking = Some(Box::pin(async move {
                    let verdict = panel.ask(&batch, &part).await;
                    (panel, verdict)
                }));
            }
            panel => {
                self.panel = panel;
                self.pass();
            }
        }
    }

    /// The batch may pass.
    fn pass(&mut self) {
        let Gathered { pieces, events, .. } = std::mem::take(&mut self.batch);
        self.released.extend(pieces);
        self.index += u32::from(events > 0);
        self.before += events;
    }
}
