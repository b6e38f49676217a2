//! One who follows: until an answer begins, and then to its end.
//!
//! What it does not do: it polls no upstream, and keeps none waiting.
//!
//! **Invariant:** dropping it takes its ear out, and the last of all ends the upstream call.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use super::log::{Next, Place};
use super::{Flight, Head, Instead, Over, Phase, Seat, State, keeper, wake};
use crate::cache::{Cache, Entry};
use crate::config::Priority;
use crate::error::{Error, Kind, Source};
use crate::record::Ending;
use crate::upstream::deadline::Deadline;

/// An ear on a flight.
pub(in crate::gateway) struct Listener {
    flight: Arc<Flight>,
    ear: u32,
    follows: bool,
}

/// What a follower has waited for.
pub(super) enum Begun {
    /// An answer.
    Live(Head),
    /// The leader had none, and he leads now.
    Leads(Seat),
    /// There will be none.
    Gone(Instead),
}

/// What comes next of an answer.
pub(super) enum Heard {
    Piece(Bytes),
    Over(Over),
    /// He gets no more of it: he was too slow, or his time is over.
    Failed(Error),
}

impl Flight {
    /// An ear on it, if it takes one more: somebody who waits as patiently, and for nothing newer.
    pub(super) fn accept(self: &Arc<Self>, urgency: Priority, max_age: Option<u64>, cache: &Cache) -> Option<Listener> {
        if self.is_too_old(max_age) {
            return None;
        }
        {
            let mut state = self.state();
            if !state.takes(urgency, cache) {
                return None;
            }
            match &state.phase {
                Phase::Gone(_) => return None,
                Phase::Asking | Phase::Vacant => return Some(self.listener(&mut state, Place::default())),
                Phase::Live(_) if state.shared => return self.from_the_beginning(&mut state),
                Phase::Live(_) => {}
            }
        }
        self.share()
    }

    /// Would it take him? As far as can be said before he comes: a long answer may have no beginning any more by then.
    pub(super) fn takes(&self, urgency: Priority, max_age: Option<u64>, cache: &Cache) -> bool {
        let state = self.state();
        let is_there = !state.shared || state.log.is_from_the_beginning();
        is_there && !self.is_too_old(max_age) && state.takes(urgency, cache)
    }

    fn is_too_old(&self, max_age: Option<u64>) -> bool {
        max_age.is_some_and(|seconds| self.began.elapsed().as_secs() > seconds)
    }

    fn listener(self: &Arc<Self>, state: &mut State, place: Place) -> Listener {
        self.gateway.flights.followers.fetch_add(1, Ordering::Relaxed);
        Listener { flight: self.clone(), ear: state.enter(place), follows: true }
    }

    fn from_the_beginning(self: &Arc<Self>, state: &mut State) -> Option<Listener> {
        if state.log.is_from_the_beginning() {
            return Some(self.listener(state, Place::default()));
        }
        self.gateway.flights.full.add(1);
        tracing::debug!(limit = self.limit, "an answer that others listen to is too long to begin with it now");
        None
    }

    /// Somebody follows a leader who has been alone with his answer: what has passed is copied for him, and the keeper takes over.
    fn share(self: &Arc<Self>) -> Option<Listener> {
        let (listener, leader) = {
            let mut driven = self.driven();
            let mut state = self.state();
            if state.shared {
                return self.from_the_beginning(&mut state);
            }
            let driven = driven.as_mut()?;
            let so_far = driven.stream.so_far().filter(|(past, coming)| {
                let bytes = past.len() + coming.iter().map(Bytes::len).sum::<usize>();
                state.log.holds(bytes, coming.len() + 1)
            });
            let Some((past, coming)) = so_far else {
                self.gateway.flights.full.add(1);
                tracing::debug!(limit = self.limit, "an answer is too long for others to begin with it now");
                return None;
            };
            driven.stream.serves_several();
            state.log.push(&past);
            // The leader has had what has passed.
            let at = state.log.end();
            coming.iter().for_each(|piece| state.log.push(piece));
            driven.ear = Some(state.enter(at));
            state.shared = true;
            (self.listener(&mut state, Place::default()), driven.waker.take())
        };
        self.kept();
        wake(leader);
        Some(listener)
    }
}

impl State {
    fn takes(&self, urgency: Priority, cache: &Cache) -> bool {
        let is_open = match &self.phase {
            Phase::Gone(_) => false,
            // Who is more urgent does not wait in a lane behind others.
            Phase::Asking | Phase::Vacant => self.urgency <= urgency,
            Phase::Live(_) => true,
        };
        is_open && self.is_spared(cache)
    }
}

impl Listener {
    /// The leader's, who has this ear.
    pub(super) fn of_leader(flight: Arc<Flight>, ear: u32) -> Self {
        Self { flight, ear, follows: false }
    }

    pub(super) fn ear(&self) -> u32 {
        self.ear
    }

    /// Waits for the answer to begin. `coming`: what it will be purged by, if he is to ask for it himself.
    pub(super) async fn begun(&mut self, urgency: Priority, runtime: &Handle, coming: Entry) -> Begun {
        let mut coming = Some(coming);
        std::future::poll_fn(|context| self.poll_begun(urgency, runtime, &mut coming, context)).await
    }

    fn poll_begun(
        &mut self,
        urgency: Priority,
        runtime: &Handle,
        coming: &mut Option<Entry>,
        context: &mut Context<'_>,
    ) -> Poll<Begun> {
        let mut state = self.flight.state();
        match &state.phase {
            Phase::Asking => {
                if let Some(ear) = state.ears.get_mut(&self.ear) {
                    ear.waker = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
            Phase::Live(head) => return Poll::Ready(Begun::Live(head.clone())),
            Phase::Gone(instead) => return Poll::Ready(Begun::Gone(*instead)),
            Phase::Vacant => {}
        }
        state.ears.remove(&self.ear);
        (state.phase, state.leads, state.urgency) = (Phase::Asking, true, urgency);
        state.runtime = runtime.clone();
        if let Some(coming) = coming.take() {
            state.coming = coming;
        }
        Poll::Ready(Begun::Leads(Seat::new(self.flight.clone())))
    }

    /// All of it, for somebody who wants no stream. None: it broke off, another endpoint went on with it, or it is too long.
    pub(super) async fn whole(&mut self) -> Option<Bytes> {
        let (mut pieces, mut bytes) = (Vec::new(), 0);
        loop {
            match std::future::poll_fn(|context| self.poll_next(context)).await {
                Ok(Heard::Piece(piece)) => {
                    bytes += piece.len();
                    pieces.push(piece);
                    if bytes > self.flight.limit {
                        return None;
                    }
                }
                Ok(Heard::Over(over)) if over.ending == Ending::Whole && !over.halves => break,
                Ok(Heard::Over(_) | Heard::Failed(_)) | Err(Lost) => return None,
            }
        }
        Some(match pieces.pop() {
            Some(only) if pieces.is_empty() => only,
            Some(last) => {
                pieces.push(last);
                Bytes::from(pieces.concat())
            }
            None => Bytes::new(),
        })
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Heard, Lost>> {
        let mut state = self.flight.state();
        let State { ears, log, over, keeper, .. } = &mut *state;
        let Some(ear) = ears.get_mut(&self.ear) else { return Poll::Ready(Err(Lost)) };
        match log.read(&mut ear.place) {
            Next::Piece(piece) => {
                // The keeper waits for whoever is quickest.
                let keeper = if log.ahead() < keeper::AHEAD { keeper.take() } else { None };
                drop(state);
                wake(keeper);
                Poll::Ready(Ok(Heard::Piece(piece)))
            }
            Next::Lost => {
                drop(state);
                self.flight.gateway.flights.lost.add(1);
                Poll::Ready(Err(Lost))
            }
            Next::None => match over {
                // Nobody is left who could still hear of it; but whoever is must not take it for all.
                Some(over) if over.ending == Ending::Left => {
                    let message = "The answer was given up before its end. Ask again.";
                    Poll::Ready(Ok(Heard::Failed(Error::new(Kind::UpstreamBroken, Source::Gateway, message))))
                }
                Some(over) => Poll::Ready(Ok(Heard::Over(over.clone()))),
                None => {
                    ear.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            },
        }
    }
}

/// What he has not read is gone.
struct Lost;

impl Drop for Listener {
    fn drop(&mut self) {
        if self.follows {
            self.flight.gateway.flights.followers.fetch_sub(1, Ordering::Relaxed);
        }
        let (keeper, is_over) = {
            let mut state = self.flight.state();
            if state.ears.remove(&self.ear).is_none() || !state.is_deserted() {
                return;
            }
            let is_over = matches!(state.phase, Phase::Vacant);
            if is_over {
                state.phase = Phase::Gone(Instead::Alone);
            }
            (state.keeper.take(), is_over)
        };
        if is_over {
            self.flight.land();
        }
        wake(keeper);
    }
}

/// A listener with his own time.
pub(super) struct Hearing {
    listener: Listener,
    deadline: Deadline,
    /// Only where the client has said when all of it must be there: the configuration's bound is the upstream's.
    ends: Option<Pin<Box<Sleep>>>,
}

impl Hearing {
    pub(super) fn new(listener: Listener, deadline: Deadline) -> Self {
        let ends = deadline.ends_as_said().map(|at| Box::pin(tokio::time::sleep_until(at)));
        Self { listener, deadline, ends }
    }

    pub(super) fn ear(&self) -> u32 {
        self.listener.ear()
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Heard> {
        if self.ends.as_mut().is_some_and(|ends| ends.as_mut().poll(context).is_ready()) {
            return Poll::Ready(Heard::Failed(self.deadline.late()));
        }
        self.listener.poll_next(context).map(|heard| {
            heard.unwrap_or_else(|Lost| {
                let message = "Others read this answer as well, and they are so far ahead that what you have not read is gone. Read faster, or ask with `cache-control: no-store`.";
                Heard::Failed(Error::new(Kind::Overloaded, Source::Gateway, message))
            })
        })
    }
}
