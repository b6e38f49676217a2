//! A stored answer as the stream of a model that says so many tokens in a second.
//!
//! What it does not do: it makes no client wait longer than it gives; the rate is what is given up.
//!
//! **Invariant:** a piece is whole events, and all of them come, in their order.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::dialect::answer::Answer;
use crate::gateway::course::Course;
use crate::record::Ending;

/// Bytes of an answer for each of its tokens, where nobody has counted them.
const TOKEN: usize = 4;

/// Events that wait for their time.
pub(super) struct Paced {
    rest: Bytes,
    /// When the next one is due, and how long it is from one to the next.
    due: Instant,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// The process ends, and nothing waits any more.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Paced {
    /// The events of this answer, at so many tokens a second. `rate`: above 0.
    pub(super) fn new(course: &Course, events: Bytes, answer: &Bytes, rate: u32) -> Self {
        let said = Answer::read(answer.clone()).and_then(|answer| answer.usage()).map_or(0, |usage| usage.completion_tokens);
        let tokens = if said > 0 { said } else { (answer.len() / TOKEN) as u64 };
        let now = Instant::now();
        // A tenth of the client's time is for the way there.
        let most = course.exchange.deadline.ends().saturating_duration_since(now) * 9 / 10;
        let takes = Duration::try_from_secs_f64(tokens as f64 / f64::from(rate)).unwrap_or(most).min(most);
        let count = memmem::find_iter(&events, b"\n\n").count().max(1) as u32;
        Self { rest: events, due: now, pause: takes / count, sleep: None, cut: course.gateway.cut().map(Box::pin) }
    }

    pub(super) fn poll_piece(&mut self, course: &mut Course, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        if self.cut.as_mut().is_some_and(|cut| cut.as_mut().poll(context).is_ready()) {
            (self.cut, self.sleep, self.pause, self.due) = (None, None, Duration::ZERO, Instant::now());
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(context));
            self.sleep = None;
        }
        // Everything that is due by now: a client that has read slowly has it at once.
        let (now, mut end) = (Instant::now(), 0);
        while self.due <= now && end < self.rest.len() {
            end += memmem::find(&self.rest[end..], b"\n\n").map_or(self.rest.len() - end, |at| at + 2);
            self.due += self.pause;
        }
        if end == 0 {
            self.sleep = Some(Box::pin(tokio::time::sleep_until(self.due)));
            return self.poll_piece(course, context);
        }
        course.first_byte();
        let piece = self.rest.split_to(end);
        if self.rest.is_empty() && course.record.ending == Ending::Left {
            course.record.ending = Ending::Whole;
        }
        Poll::Ready(Some(piece))
    }
}
