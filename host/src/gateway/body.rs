//! A stream as it goes to the client, and what is noted while it passes.
//!
//! A stream's bytes go on as they come, event by event: the beginning of an event waits for its rest, which no client could
//! use before it is whole. So where an upstream breaks off in the middle of an event, what the client sees is whole events and
//! then one that says what happened.
//!
//! What it does not do: it changes no byte, and it holds at most one event ([`MAX_EVENT`] bytes of it). Where several clients read
//! it, `flight` says who polls it.
//!
//! **Invariant:** a piece ends where an event does, but for one that is too long to be held: whatever is said between pieces is an event.
//! **Invariant:** after the commit point a failure is an explicit error event, never a silent end and never `[DONE]`.
//! **Invariant:** dropped, since nobody is there any more who reads it, it cancels the upstream.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::continuation::{Asked, Continuation, GoesOn};
use super::course::Course;
use super::fill::Fill;
use super::watch::{Next, Verdict, Watch, reason};
use crate::dialect;
use crate::dialect::logprobs;
use crate::dialect::sse::{MAX_EVENT, Rewrite};
use crate::dialect::stream::said::{self, Said};
use crate::dialect::stream::{End, Tap};
use crate::error::{Error, Kind, Retry, Source};
use crate::record::Ending;
use crate::record::cost::Tokens;
use crate::upstream::UpstreamBody;

/// What an exchange's record has where an upstream's own event says that it failed.
pub(super) const ERROR_EVENT: &str = "upstream_error_event";

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How a stream broke off.
struct Broke {
    error: Error,
    /// The upstream's own event that says so; none where it has said nothing.
    own: Option<Bytes>,
}

/// An answer that is still coming.
pub(super) struct Stream {
    upstream: Box<UpstreamBody>,
    endpoint: Arc<str>,
    /// None for an answer that is no stream of events, but too large to be held.
    tap: Option<Tap>,
    /// Takes out what only we asked for, or a second role behind a seam. Never both: only plain text has a seam.
    rewrite: Option<Rewrite>,
    /// The beginning of an event.
    held: Vec<Bytes>,
    held_bytes: usize,
    /// Part of an event that is too long to be held has gone on.
    split: bool,
    /// Whole events, on their way.
    ready: VecDeque<Bytes>,
    fill: Option<Fill>,
    filling: Option<BoxFuture<'static, ()>>,
    /// What is being stored, for those who come before it is.
    kept: Option<Bytes>,
    continuation: Option<Box<Continuation>>,
    /// It broke off, and another endpoint is asked to go on.
    asked: Option<(Asked, Broke)>,
    /// Wakes it when the process ends.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Plugins that see it before the client does.
    watch: Option<Box<Watch>>,
    over: bool,
}

impl Stream {
    pub(super) fn new(
        upstream: Box<UpstreamBody>,
        is_events: bool,
        fill: Option<Fill>,
        endpoint: Arc<str>,
        choices: usize,
        strip: bool,
        continuation: Option<Box<Continuation>>,
    ) -> Self {
        let new = || Tap::new(fill.as_ref().map_or(0, Fill::limit)).of_choices(choices).listening(continuation.is_some());
        let tap = is_events.then(new);
        Self {
            upstream,
            endpoint,
            tap,
            rewrite: (strip && is_events).then(|| Rewrite::new(logprobs::strip_into)),
            held: Vec::new(),
            held_bytes: 0,
            split: false,
            ready: VecDeque::new(),
            fill,
            filling: None,
            kept: None,
            continuation,
            asked: None,
            cut: None,
            watch: None,
            over: false,
        }
    }

    /// The next piece; in place of what a panic or the end of the process takes away, the event that says so.
    pub(super) fn poll_piece(&mut self, course: &mut Course, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        if course.gateway.is_cut() {
            self.last_word(course);
        }
        // Whatever is half done is this stream's own, and nothing is done with it any more.
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll_data(course, context)));
        let Ok(polled) = polled else {
            let error = Error::internal("it panicked after the commit point");
            if self.tap.is_none() {
                return Poll::Ready(Some(Err(self.ends_unsaid(course, &error))));
            }
            self.breaks(course, error);
            return self.poll_data(course, context);
        };
        if polled.is_pending() && self.cut.is_none() {
            // Once for a stream: it asks what all cores share.
            self.cut = course.gateway.cut().map(Box::pin);
            if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(context).is_ready()) {
                self.last_word(course);
                return self.poll_data(course, context);
            }
        }
        polled
    }

    /// Bytes of no known form: only the connection's end can say that they are not all.
    fn ends_unsaid(&mut self, course: &mut Course, error: &Error) -> BoxError {
        self.over = true;
        note(course, error);
        error.message().into()
    }

    /// The process ends, and the answer is not all there. Where the upstream has said why it is not, nothing is added.
    fn last_word(&mut self, course: &mut Course) {
        if self.over || self.tap.as_ref().is_none_or(|tap| tap.is_done() || tap.end() == End::Error) {
            return;
        }
        let message = "This gateway ends, and with it what is still under way. Ask again; another one may be there already.";
        self.breaks(course, Error::new(Kind::Overloaded, Source::Gateway, message));
        course.record.ending = Ending::Drained;
    }

    /// Nothing more of the answer comes.
    fn breaks(&mut self, course: &mut Course, error: Error) {
        (self.asked, self.filling, self.fill) = (None, None, None);
        self.held.clear();
        self.broke_for_good(course, Broke { error, own: None });
    }

    /// Under observation.
    pub(super) fn watched(mut self, watch: Option<Box<Watch>>) -> Self {
        self.watch = watch;
        self
    }

    /// Can others read it too? What plugins look at is for whom they have let it pass, and what is not kept is for nobody else.
    pub(super) fn is_shareable(&self) -> bool {
        self.tap.is_some() && self.fill.is_some() && self.watch.is_none()
    }

    /// What has passed, and what is on its way, for somebody who begins with it now. None: it is too long, or has failed.
    pub(super) fn so_far(&self) -> Option<(Bytes, VecDeque<Bytes>)> {
        let tap = self.tap.as_ref().filter(|_| self.asked.is_none())?;
        if tap.end() == End::Error || (self.over && tap.end() == End::Cut) {
            return None;
        }
        let all = self.kept.clone().or_else(|| tap.copy().map(Bytes::from))?;
        let coming = self.held_bytes + self.ready.iter().map(Bytes::len).sum::<usize>();
        let past = all.slice(..all.len().checked_sub(coming)?);
        Some((past, self.ready.clone()))
    }

    /// From now on others read it too, and somebody else polls it: what is on its way he has already.
    pub(super) fn serves_several(&mut self) {
        self.ready.clear();
        // It wakes whoever has polled it.
        self.cut = None;
        self.upstream.serves_several();
    }

    fn poll_data(&mut self, course: &mut Course, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BoxError>>> {
        loop {
            if let Some(filling) = &mut self.filling {
                ready!(filling.as_mut().poll(context));
                (self.filling, self.kept) = (None, None);
            }
            if let Some(bytes) = self.ready.pop_front() {
                course.first_byte();
                return Poll::Ready(Some(Ok(bytes)));
            }
            if let Some((asked, _)) = &mut self.asked {
                let answer = ready!(asked.as_mut().poll(context));
                self.goes_on(course, answer);
                continue;
            }
            if self.over {
                return Poll::Ready(None);
            }
            let next = match &mut self.watch {
                None => ready!(self.upstream.poll_piece(context)),
                Some(watch) => match ready!(watch.poll(&mut self.upstream, context)) {
                    Next::Piece(piece) => Some(Ok(piece)),
                    Next::Broke(error) => Some(Err(error)),
                    Next::End => None,
                    Next::Over(verdict) => {
                        self.stopped(course, verdict);
                        continue;
                    }
                },
            };
            match next {
                Some(Ok(piece)) => {
                    let piece = match &mut self.rewrite {
                        Some(rewrite) => rewrite.feed(&piece),
                        None => piece,
                    };
                    self.pass(course, piece);
                }
                Some(Err(error)) => {
                    if self.tap.as_ref().is_some_and(|tap| tap.end() == End::Error) {
                        // It has said itself that it failed; how its connection ends says no more. Half an event is of no use.
                        self.held.clear();
                        self.ended(course);
                        continue;
                    }
                    if self.tap.is_none() {
                        return Poll::Ready(Some(Err(self.ends_unsaid(course, &error))));
                    }
                    self.broke(course, Broke { error, own: None });
                }
                None => {
                    if let Some(rest) = self.rewrite.as_mut().map(Rewrite::rest) {
                        self.pass(course, rest);
                    }
                    self.ended(course);
                }
            }
        }
    }

    fn pass(&mut self, course: &mut Course, piece: Bytes) {
        let Some(tap) = &mut self.tap else { return self.ready.push_back(piece) };
        if tap.is_done() {
            // Nothing of the answer follows `[DONE]`; the connection's end does.
            return;
        }
        let (complete, failed_at) = (tap.feed(&piece), tap.failed_at());
        if tap.is_done() {
            // What breaks after it breaks nothing.
            self.upstream.said_all();
        }
        if let Some(usage) = tap.usage() {
            course.used(usage);
        }
        if tap.is_done() && tap.end() == End::Whole && course.record.ending != Ending::Whole {
            course.record.ending = Ending::Whole;
            self.store();
        }
        if let Some(at) = failed_at {
            self.upstream.was_cut();
            if self.continuation.is_some() && (at > 0 || !self.split) {
                self.pass_events(&piece, at);
                self.held.push(piece.slice(at..complete));
                let own = self.take_held();
                let message = format!("{} has failed in the middle of its answer.", self.endpoint);
                let error = Error::upstream(Kind::UpstreamBroken, &self.endpoint, Retry::Never, message);
                return self.broke(course, Broke { error, own });
            }
        }
        self.pass_events(&piece, complete);
        let rest = piece.slice(complete..);
        if !rest.is_empty() {
            self.held_bytes += rest.len();
            self.held.push(rest);
            if self.held_bytes > MAX_EVENT {
                self.split = true;
                self.release();
            }
        }
    }

    /// So many bytes of this piece are whole events.
    fn pass_events(&mut self, piece: &Bytes, complete: usize) {
        if complete > 0 {
            self.split = false;
            self.held.push(piece.slice(..complete));
            self.release();
        }
    }

    fn release(&mut self) {
        let held = self.take_held();
        self.ready.extend(held);
    }

    /// What is held, in one: only an event that came in several reads is copied.
    fn take_held(&mut self) -> Option<Bytes> {
        self.held_bytes = 0;
        let last = self.held.pop()?;
        if self.held.is_empty() {
            return Some(last);
        }
        self.held.push(last);
        let whole = Bytes::from(self.held.concat());
        self.held.clear();
        Some(whole)
    }

    /// The answer is whole: the cache gets it before the client gets its last event.
    fn store(&mut self) {
        if self.watch.as_ref().is_some_and(|watch| !watch.has_seen()) {
            // Whoever has failed at it might have ended it.
            self.fill = None;
        }
        if let (Some(fill), Some(copy)) = (self.fill.take(), self.tap.as_mut().and_then(Tap::take_copy)) {
            let copy = Bytes::from(copy);
            self.kept = Some(copy.clone());
            self.filling = Some(Box::pin(fill.stream(copy)));
        }
    }

    /// The upstream has ended its body.
    fn ended(&mut self, course: &mut Course) {
        self.over = true;
        match self.tap.as_ref().map(Tap::end) {
            None => course.record.ending = Ending::Whole,
            Some(End::Whole) => {
                self.release();
                if course.record.ending != Ending::Whole {
                    course.record.ending = Ending::Whole;
                    // Its usage may be missing, at the least.
                    if !self.upstream.may_be_cut() {
                        self.store();
                    }
                }
            }
            Some(End::Error) => {
                self.release();
                course.record.ending = Ending::Broken;
                course.record.error = Some(ERROR_EVENT.to_owned());
            }
            Some(End::Cut) => {
                self.upstream.was_cut();
                let message = format!("{} ended its stream before the answer was finished.", self.endpoint);
                let error = Error::upstream(Kind::UpstreamBroken, &self.endpoint, Retry::Never, message);
                self.broke(course, Broke { error, own: None });
            }
        }
    }

    /// The upstream has broken off: whole events have gone on. Another endpoint goes on with it, or an event follows that says so.
    fn broke(&mut self, course: &mut Course, broke: Broke) {
        self.held.clear();
        self.held_bytes = 0;
        // Behind the answer's end, or an error of the upstream's own that the client has seen, nothing can follow.
        let said = self.tap.as_ref().filter(|tap| !self.split && tap.is_unfinished()).and_then(Tap::said);
        let asked = match (said.and_then(Said::so_far), &mut self.continuation) {
            (Some((text, events)), Some(continuation)) => continuation.ask(text, events, &self.endpoint),
            _ => None,
        };
        match asked {
            Some(asked) => self.asked = Some((asked, broke)),
            None => self.broke_for_good(course, broke),
        }
    }

    /// Another endpoint was asked to go on.
    fn goes_on(&mut self, course: &mut Course, answer: Result<GoesOn, Error>) {
        let Some((_, broke)) = self.asked.take() else { return };
        match (answer, &mut self.tap) {
            (Ok(GoesOn { body, endpoint, tries, prompt, cancelled }), Some(tap)) => {
                tracing::info!(exchange = course.exchange.id, "after the commit point: {} {endpoint} goes on", broke.error);
                if let Some(continuation) = &mut self.continuation {
                    continuation.took(tries);
                }
                let completion = u64::from(tap.goes_on());
                course.goes_on(&endpoint, tries, Tokens { prompt, completion, cached: 0 });
                if cancelled && let Some(model) = course.record.model.clone() {
                    course.overtaken(&model, prompt + completion);
                }
                self.ready.extend(tap.said().map(Said::seam));
                if let Some(watch) = &mut self.watch {
                    watch.goes_on();
                }
                (self.upstream, self.endpoint, self.over) = (body, endpoint, false);
                self.rewrite = Some(Rewrite::new(said::without_role));
                // Two halves are no answer that others should get.
                self.fill = None;
            }
            _ => self.broke_for_good(course, broke),
        }
    }

    /// Those who observe it let no more of it pass. What the client has are whole events.
    fn stopped(&mut self, course: &mut Course, verdict: Verdict) {
        let Some(watch) = self.watch.take() else { return };
        self.over = true;
        self.fill = None;
        self.upstream.leave();
        self.held.clear();
        course.left_at(watch.prompt(), watch.so_far());
        match verdict {
            Verdict::Stopped { by, ending } => {
                self.ready.push_back(watch.closing(&by, ending));
                course.stopped(&by, reason(ending));
            }
            Verdict::Failed(error) => {
                self.ready.push_back(dialect::error::event(error.status().as_u16(), error.message(), Some(error.code())));
                note(course, &error);
            }
        }
    }

    fn broke_for_good(&mut self, course: &mut Course, Broke { error, own }: Broke) {
        if let Some(own) = own {
            // The client gets the upstream's own words, and what follows them.
            return self.ready.push_back(own);
        }
        self.over = true;
        if self.split {
            self.ready.push_back(Bytes::from_static(b"\n\n"));
        }
        self.ready.push_back(dialect::error::event(error.status().as_u16(), &course.told(&error), Some(error.code())));
        note(course, &error);
    }
}

pub(super) fn note(course: &mut Course, error: &Error) {
    course.record.ending = Ending::Broken;
    course.failed(error);
    tracing::warn!(exchange = course.exchange.id, "after the commit point: {error}");
}
