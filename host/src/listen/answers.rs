//! The answers that are on their way over one HTTP/2 connection.
//!
//! HTTP/2 lets a client hold back one answer while its connection lives: it grants no room for more. hyper then asks the body
//! for nothing, so the body cannot see how long that lasts. It is seen here, from outside.
//!
//! **Invariant:** an answer of which a client takes nothing for the time allowed is dropped, and with it whatever upstream works
//! for it; what is left of its stream is reset when the client comes back.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use tokio::time::Instant;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What has been asked and is not answered to its end.
pub(super) struct Answers<B>(Mutex<Open<B>>);

struct Open<B> {
    all: HashMap<u64, Arc<Mutex<Slot<B>>>>,
    next: u64,
    /// When the last one ended.
    quiet_since: Instant,
}

struct Slot<B> {
    body: Option<B>,
    /// When it gave something, since when nobody has asked it for more.
    gave: Option<Instant>,
}

impl<B> Answers<B> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Open { all: HashMap::new(), next: 0, quiet_since: Instant::now() }))
    }

    /// A request has come.
    pub(super) fn begin(self: &Arc<Self>) -> Place<B> {
        let slot = Arc::new(Mutex::new(Slot { body: None, gave: None }));
        let mut open = lock(&self.0);
        let number = open.next;
        open.next += 1;
        open.all.insert(number, slot.clone());
        Place { of: self.clone(), number, slot }
    }

    /// Drops the answers of which nothing was taken for so long.
    pub(super) fn drop_stalled(&self, at_most: Duration) {
        let slots: Vec<_> = lock(&self.0).all.values().cloned().collect();
        for slot in slots {
            let mut slot = lock(&slot);
            let dropped = if slot.gave.is_some_and(|gave| gave.elapsed() >= at_most) { slot.body.take() } else { None };
            // Whatever it cancels may take a while, and the slot may be wanted meanwhile.
            drop(slot);
            drop(dropped);
        }
    }

    /// For how long nothing has been under way.
    pub(super) fn quiet_for(&self) -> Duration {
        let open = lock(&self.0);
        if open.all.is_empty() { open.quiet_since.elapsed() } else { Duration::ZERO }
    }
}

/// One request's place among them, from its head to the end of its answer.
pub(super) struct Place<B> {
    of: Arc<Answers<B>>,
    number: u64,
    slot: Arc<Mutex<Slot<B>>>,
}

impl<B> Place<B> {
    /// Its answer begins.
    pub(super) fn answer(self, body: B) -> Answer<B> {
        // The head counts as something given: a client may not even take that.
        *lock(&self.slot) = Slot { body: Some(body), gave: Some(Instant::now()) };
        Answer::Shared(self)
    }
}

impl<B> Drop for Place<B> {
    fn drop(&mut self) {
        let mut open = lock(&self.of.0);
        open.all.remove(&self.number);
        open.quiet_since = Instant::now();
    }
}

/// The body of an answer, as hyper asks for it.
pub(super) enum Answer<B> {
    /// The listener's own refusal.
    Refused(Full<Bytes>),
    /// The only one on its connection (HTTP/1.1), where the connection's own bound on writing holds.
    Alone(B),
    /// One of many.
    Shared(Place<B>),
}

impl<B: Body<Data = Bytes, Error = BoxError> + Unpin> Body for Answer<B> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Refused(body) => Pin::new(body).poll_frame(context).map_err(|never| match never {}),
            Self::Alone(body) => Pin::new(body).poll_frame(context),
            Self::Shared(place) => {
                let mut slot = lock(&place.slot);
                let Some(body) = &mut slot.body else {
                    return Poll::Ready(Some(Err("nothing of the answer was taken for too long".into())));
                };
                let polled = Pin::new(body).poll_frame(context);
                slot.gave = polled.is_ready().then(Instant::now);
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Refused(body) => body.is_end_stream(),
            Self::Alone(body) => body.is_end_stream(),
            Self::Shared(place) => lock(&place.slot).body.as_ref().is_some_and(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Refused(body) => body.size_hint(),
            Self::Alone(body) => body.size_hint(),
            Self::Shared(place) => lock(&place.slot).body.as_ref().map(Body::size_hint).unwrap_or_default(),
        }
    }
}

/// A panic while a lock was held ended its own exchange; the count goes on.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
