//! The task that polls an answer which several listen to, on the core that has the upstream's connection.
//!
//! What it does not do: it runs no ahead of them all. Where the quickest has not read what is there, the upstream waits, as it does for
//! one client alone.
//!
//! **Invariant:** one keeper a flight, from the moment that somebody listens beside the leader to the answer's end.
//! **Invariant:** when nobody listens any more, the answer is dropped, and with it the upstream's connection.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Driven, Flight, Instead, Over, Phase, wake};
use crate::record::Ending;

/// Bytes that are read ahead of the quickest listener, so that he need not be asked for each piece.
pub(super) const AHEAD: u64 = 64 << 10;

impl Flight {
    /// From now on a task polls it.
    pub(super) fn kept(self: &Arc<Self>) {
        let Some(drain) = self.gateway.drain.get() else { return };
        let (flight, runtime) = (self.clone(), self.state().runtime.clone());
        drain.spawn_on(&runtime, async move {
            std::future::poll_fn(|context| flight.poll_kept(context)).await;
            flight.ended();
        });
    }

    fn poll_kept(self: &Arc<Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            {
                let mut state = self.state();
                if state.is_deserted() {
                    // Before anybody else can board: there will be no more of it.
                    state.phase = Phase::Gone(Instead::Alone);
                    return Poll::Ready(());
                }
                state.keeper = Some(context.waker().clone());
                if state.log.ahead() >= AHEAD {
                    return Poll::Pending;
                }
            }
            let polled = match self.driven().as_mut() {
                Some(driven) => {
                    let polled = driven.stream.poll_piece(&mut driven.course, context);
                    self.mended(&driven.course);
                    polled
                }
                None => return Poll::Ready(()),
            };
            match polled {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(piece))) => {
                    let sleepers = {
                        let mut state = self.state();
                        state.log.push(&piece);
                        state.sleepers()
                    };
                    wake(sleepers);
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
            }
        }
    }

    /// The answer is all there, or nobody wants the rest.
    fn ended(self: &Arc<Self>) {
        let (sleepers, over) = {
            let mut driven = self.driven();
            let mut state = self.state();
            let record = driven.as_ref().map(|driven| &driven.course.record);
            state.over = Some(Over {
                ending: record.map_or(Ending::Left, |record| record.ending),
                error: record.and_then(|record| record.error.clone()),
                kind: record.and_then(|record| record.kind),
                halves: record.is_some_and(|record| record.continued > 0),
            });
            // The leader's record is booked when he has read it too, or now where he has left.
            (state.sleepers(), if state.leads { None } else { driven.take() })
        };
        self.land();
        wake(sleepers);
        drop(over);
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        if let Some(own) = self.own {
            self.course.record.ending = own;
        }
    }
}
