//! What a leader's and a follower's client get of a stream that they share.
//!
//! What it does not do: it changes no byte of it.
//!
//! **Invariant:** who gets no more of an answer after the commit point is told so by an event, whatever the others get.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use super::listener::{Heard, Hearing};
use super::{Flight, Instead, Listener, Phase, State, wake};
use crate::dialect;
use crate::error::Error;
use crate::gateway::body::{BoxError, note};
use crate::gateway::course::Course;
use crate::record::Ending;
use crate::upstream::deadline::Deadline;

/// A stream for the client whose exchange has asked for it.
pub(in crate::gateway) struct Leads {
    flight: Arc<Flight>,
    deadline: Deadline,
    /// From when on somebody else listens too.
    hearing: Option<Hearing>,
    over: bool,
}

/// A stream for somebody else.
pub(in crate::gateway) struct Follows {
    hearing: Hearing,
    over: bool,
}

type Piece = Option<Result<Bytes, BoxError>>;

fn event(error: &Error) -> Bytes {
    dialect::error::event(error.status().as_u16(), error.message(), Some(error.code()))
}

impl Leads {
    pub(super) fn new(flight: Arc<Flight>, deadline: Deadline) -> Self {
        Self { flight, deadline, hearing: None, over: false }
    }

    pub(in crate::gateway) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Piece> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.hearing.is_none() {
            let mut place = self.flight.driven();
            let Some(driven) = place.as_mut() else { return Poll::Ready(None) };
            match driven.ear.take() {
                Some(ear) => self.hearing = Some(Hearing::new(Listener::of_leader(self.flight.clone(), ear), self.deadline)),
                None => {
                    if driven.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
                        driven.waker = Some(context.waker().clone());
                    }
                    let polled = driven.stream.poll_piece(&mut driven.course, context);
                    self.flight.mended(&driven.course);
                    drop(place);
                    if matches!(polled, Poll::Ready(None)) {
                        self.over = true;
                        self.flight.land();
                    }
                    return polled;
                }
            }
        }
        let Some(hearing) = &mut self.hearing else { return Poll::Ready(None) };
        let heard = ready!(hearing.poll(context));
        self.over = !matches!(heard, Heard::Piece(_));
        Poll::Ready(match heard {
            Heard::Piece(piece) => Some(Ok(piece)),
            Heard::Over(_) => None,
            Heard::Failed(error) => {
                if let Some(driven) = self.flight.driven().as_mut() {
                    driven.course.failed(&error);
                    driven.own = Some(Ending::Broken);
                }
                Some(Ok(event(&error)))
            }
        })
    }
}

impl Drop for Leads {
    fn drop(&mut self) {
        let (gone, keeper) = {
            let mut place = self.flight.driven();
            let mut state = self.flight.state();
            state.leads = false;
            let ear = place.as_mut().and_then(|driven| driven.ear.take());
            let ear = ear.or(self.hearing.as_ref().map(Hearing::ear)).and_then(|ear| state.ears.remove(&ear));
            let State { shared, log, .. } = &*state;
            if let Some(driven) = place.as_mut().filter(|_| *shared && !self.over) {
                // As for a client that is alone: an answer of which he has got all is whole, though he has not waited for its end.
                let has_all = ear.is_some_and(|ear| ear.place == log.end()) && driven.course.record.ending != Ending::Left;
                if !has_all {
                    driven.own.get_or_insert(Ending::Left);
                }
            }
            let is_over = state.ears.is_empty() || state.over.is_some();
            if state.ears.is_empty() && state.over.is_none() {
                // Before anybody else can board: there will be no more of it.
                state.phase = Phase::Gone(Instead::Alone);
            }
            (if is_over { place.take() } else { None }, state.keeper.take())
        };
        if gone.is_some() {
            self.flight.land();
        }
        drop(gone);
        wake(keeper);
    }
}

impl Follows {
    pub(in crate::gateway) fn new(listener: Listener, course: &Course) -> Self {
        Self { hearing: Hearing::new(listener, course.exchange.deadline), over: false }
    }

    pub(in crate::gateway) fn poll_piece(&mut self, course: &mut Course, context: &mut Context<'_>) -> Poll<Piece> {
        if self.over {
            return Poll::Ready(None);
        }
        let heard = ready!(self.hearing.poll(context));
        self.over = !matches!(heard, Heard::Piece(_));
        Poll::Ready(match heard {
            Heard::Piece(piece) => {
                course.first_byte();
                Some(Ok(piece))
            }
            Heard::Over(over) => {
                (course.record.ending, course.record.error, course.record.kind) = (over.ending, over.error, over.kind);
                None
            }
            Heard::Failed(error) => {
                note(course, &error);
                Some(Ok(event(&error)))
            }
        })
    }
}
