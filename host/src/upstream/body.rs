//! The body of an answer that is still coming.
//!
//! What it does not do: it understands nothing of it; `gateway/body` watches what passes.
//!
//! **Invariant:** dropping it cancels the upstream at once: HTTP/1.1 closes the connection, HTTP/2 resets the stream.
//! **Invariant:** its permit is held until it ends or is dropped, or gives way to another model's answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::endpoint::{Endpoint, Permit};
use super::secret::Secret;
use super::whole::Depth;
use crate::error::{Error, Kind, Retry};

/// How long the end of a body is waited for, when all that it has to say was said: long enough for the connection to be used again.
const LINGERS: Duration = Duration::from_secs(1);

/// Time for an answer that was kept until all other time was used up.
const LATE: Duration = Duration::from_secs(10);

/// How long the rest of an answer may take.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// The longest pause between two pieces.
    pub(super) between: Duration,
    /// When it must be whole.
    pub(super) ends: Instant,
    /// The client's header that says so.
    pub(super) ends_by: Option<&'static str>,
    /// When it must be whole by what its owner has written, whatever the client says.
    pub(super) own: Instant,
    /// It is the endpoint's own bound, and neither the request's nor what earlier tries have left.
    pub(super) is_own: bool,
}

/// Pieces of an answer, as they come.
pub struct UpstreamBody {
    /// Pieces that have been read, and not been given.
    first: VecDeque<Bytes>,
    /// None when nobody wants it any more.
    rest: Option<Incoming>,
    endpoint: Arc<str>,
    bounds: Bounds,
    /// Nothing of the answer is missing.
    said_all: bool,
    last: Instant,
    /// One timer for the whole body, moved only when it fires: a piece costs a clock reading, not a timer.
    timer: Pin<Box<Sleep>>,
    /// None when the answer has ended, or has given way.
    permit: Option<Permit>,
    over: bool,
    /// Whose answer it is, and since when.
    of: (Arc<Endpoint>, Instant),
    /// That it broke off has been counted.
    blamed: bool,
    /// The connection's end is the only sign of its own.
    until_close: bool,
    /// How far it is from being whole, where nothing else says so.
    depth: Option<Depth>,
    secret: Option<Secret>,
}

impl UpstreamBody {
    pub(super) fn new(first: Bytes, rest: Incoming, permit: Permit, endpoint: Arc<str>, bounds: Bounds) -> Self {
        let now = Instant::now();
        let timer = Box::pin(tokio::time::sleep_until((now + bounds.between).min(bounds.ends)));
        Self {
            first: VecDeque::from([first]),
            rest: Some(rest),
            endpoint,
            bounds,
            said_all: false,
            last: now,
            timer,
            of: (permit.endpoint().clone(), permit.since()),
            permit: Some(permit),
            over: false,
            blamed: false,
            until_close: false,
            depth: None,
            secret: None,
        }
    }

    /// Is the connection's end the only sign of its own?
    #[must_use]
    pub(super) fn until_close(mut self, is: bool) -> Self {
        self.until_close = is;
        self
    }

    /// The connection's end is the only sign of its own, and it is JSON: one that ends in the middle was cut.
    #[must_use]
    pub(super) fn until_whole(mut self) -> Self {
        let mut depth = Depth::default();
        self.first.iter().for_each(|piece| depth.feed(piece));
        (self.until_close, self.depth) = (true, Some(depth));
        self
    }

    /// With a key covered wherever it is quoted.
    #[must_use]
    pub(super) fn without(mut self, secret: Option<Secret>) -> Self {
        if let Some(secret) = &secret {
            self.first.iter_mut().for_each(|piece| *piece = secret.covered(std::mem::take(piece)));
        }
        self.secret = secret;
        self
    }

    /// May it have been cut though it ended in good order?
    pub fn may_be_cut(&self) -> bool {
        self.until_close
    }

    /// The next piece, as [`UpstreamBody::poll_piece`].
    pub async fn piece(&mut self) -> Option<Result<Bytes, Error>> {
        std::future::poll_fn(|context| self.poll_piece(context)).await
    }

    /// Pieces that somebody has looked at come again.
    pub fn put_back(&mut self, pieces: impl DoubleEndedIterator<Item = Bytes>) {
        pieces.rev().for_each(|piece| self.first.push_front(piece));
    }

    /// Others may have its place in the pool while nobody reads it.
    pub fn gives_way(&mut self) {
        self.permit = None;
    }

    /// Nobody wants the rest: the upstream learns of it at once.
    pub fn leave(&mut self) {
        self.first.clear();
        self.end();
    }

    /// Others wait for it beside the client that has asked: how long that one waits is no bound for it any more.
    pub fn serves_several(&mut self) {
        if !self.said_all && self.bounds.own > self.bounds.ends {
            (self.bounds.ends, self.bounds.ends_by, self.bounds.is_own) = (self.bounds.own, None, true);
        }
    }

    /// It has waited for another answer, and goes to the client after all: there is time to pass on what is there.
    pub fn has_its_turn(&mut self) {
        let now = Instant::now();
        (self.last, self.bounds.ends) = (now, self.bounds.ends.max(now + LATE));
    }

    /// The time for all of it is over, or that for a pause.
    fn late(&self, all: bool) -> Error {
        let what = match self.bounds.ends_by {
            _ if !all => "paused for too long in its answer".to_owned(),
            Some(header) => format!("did not finish its answer in the time that the client gives (`{header}`)"),
            None => "did not finish its answer in time".to_owned(),
        };
        let message = format!("{} {what}.", self.endpoint);
        Error::upstream(Kind::UpstreamTimeout, &self.endpoint, Retry::Never, message)
    }

    fn cut(&mut self, why: &str) -> Error {
        self.end();
        self.was_cut();
        let message = format!("The answer of {} was cut: {why}.", self.endpoint);
        Error::upstream(Kind::UpstreamBroken, &self.endpoint, Retry::Never, message)
    }

    fn end(&mut self) {
        (self.permit, self.over, self.rest) = (None, true, None);
    }

    /// It has ended in good order, and yet not all was said.
    pub fn was_cut(&mut self) {
        if !std::mem::replace(&mut self.blamed, true) {
            let (endpoint, since) = &self.of;
            endpoint.broke(*since);
        }
    }

    /// What comes now is of no use but for the body's end, which is waited for a moment. That it does not come, or comes badly, is no
    /// failure.
    pub fn said_all(&mut self) {
        if !std::mem::replace(&mut self.said_all, true) {
            self.bounds.ends = self.bounds.ends.min(Instant::now() + LINGERS);
            self.timer.as_mut().reset(self.bounds.ends);
        }
    }

    /// The next piece; none at the end of what the upstream sent, which need not be the end of what it had to say.
    pub fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if let Some(first) = self.first.pop_front() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.over {
            return Poll::Ready(None);
        }
        if Instant::now() >= self.bounds.ends && !self.said_all {
            // There may be more to read, and it may be the client that has not read it: whoever's time it was, it is over.
            self.end();
            return Poll::Ready(Some(Err(self.late(true))));
        }
        loop {
            let Some(rest) = &mut self.rest else { return Poll::Ready(None) };
            match Pin::new(rest).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.last = Instant::now();
                    if let Ok(data) = frame.into_data() {
                        if let Some(depth) = &mut self.depth {
                            depth.feed(&data);
                        }
                        return Poll::Ready(Some(Ok(match &self.secret {
                            Some(secret) => secret.covered(data),
                            None => data,
                        })));
                    }
                }
                Poll::Ready(Some(Err(_))) if self.said_all => {
                    self.end();
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(self.cut(&error.to_string())))),
                Poll::Ready(None) if self.depth.is_some_and(|depth| !depth.is_whole()) => {
                    return Poll::Ready(Some(Err(self.cut("it ended in the middle"))));
                }
                Poll::Ready(None) => {
                    self.end();
                    return Poll::Ready(None);
                }
                Poll::Pending => break,
            }
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            let due = (self.last + self.bounds.between).min(self.bounds.ends);
            if Instant::now() >= due {
                if self.said_all {
                    self.end();
                    return Poll::Ready(None);
                }
                self.end();
                let is_whole = due == self.bounds.ends;
                if !is_whole || self.bounds.is_own {
                    self.was_cut();
                }
                return Poll::Ready(Some(Err(self.late(is_whole))));
            }
            self.timer.as_mut().reset(due);
        }
    }
}
