//! The line from the plan to the reply, where an exchange leads a flight: it outlives its client while others wait for the answer.
//!
//! What it does not do: it adds nothing to the line; `gateway.rs` has it.
//!
//! **Invariant:** a client that leaves before an answer has begun ends its line, unless somebody else waits for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;

use super::{Flight, Seat};
use crate::error::Error;
use crate::gateway::course::Course;
use crate::gateway::reply::Reply;

/// An exchange on its way, with all that it has. On the heap, since whoever polls it may change.
pub(in crate::gateway) type Line = BoxFuture<'static, (Box<Course>, Result<Reply, Error>)>;

impl Seat {
    /// Goes down the line.
    pub(in crate::gateway) fn leads(self, line: impl FnOnce(Self) -> Line) -> Leading {
        let flight = self.flight.clone();
        Leading { line: Some(line(self)), flight }
    }
}

/// The leader's line, polled by his own connection while his client is there.
pub(in crate::gateway) struct Leading {
    line: Option<Line>,
    flight: Arc<Flight>,
}

impl Future for Leading {
    type Output = (Box<Course>, Result<Reply, Error>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(line) = &mut self.line else { return Poll::Pending };
        let done = ready!(line.as_mut().poll(context));
        self.line = None;
        Poll::Ready(done)
    }
}

impl Drop for Leading {
    fn drop(&mut self) {
        let (Some(line), Some(drain)) = (self.line.take(), self.flight.gateway.drain.get()) else { return };
        let runtime = {
            let mut state = self.flight.state();
            state.leads = false;
            if state.ears.is_empty() {
                // Nobody waits: with the line goes the upstream call, when the lock is free.
                None
            } else {
                Some(state.runtime.clone())
            }
        };
        let Some(runtime) = runtime else { return };
        let flight = self.flight.clone();
        drain.spawn_on(&runtime, async move {
            tokio::select! {
                biased;
                () = flight.deserted() => {}
                // The answer goes to those who wait, and the record says that the client has left.
                (course, answer) = line => drop(answer.map(|reply| reply.into_response(course))),
            }
        });
    }
}

impl Flight {
    /// Waits until nobody waits for it.
    async fn deserted(&self) {
        std::future::poll_fn(|context| {
            let mut state = self.state();
            if state.is_deserted() {
                return Poll::Ready(());
            }
            state.keeper = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
