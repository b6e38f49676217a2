//! The body of an answer, whole or as it comes, for one client.
//!
//! What it does not do: it makes no byte of it; [`Stream`] does, or a flight that it shares.
//!
//! **Invariant:** it has the exchange's course, or a flight has it, so that the record is booked when nobody reads any more.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::paced::Paced;
use crate::gateway::body::{BoxError, Stream};
use crate::gateway::course::Course;
use crate::gateway::flight::{Follows, Leads};
use crate::record::Ending;

/// An answer's body.
pub struct ReplyBody(Content);

enum Content {
    /// All of it; none when it has gone.
    Whole(Option<Bytes>, Box<Course>),
    Paced(Box<Paced>, Box<Course>),
    Stream(Box<Stream>, Box<Course>),
    Leads(Leads),
    Follows(Box<Follows>, Box<Course>),
}

impl ReplyBody {
    pub(super) fn whole(bytes: Bytes, course: Box<Course>) -> Self {
        Self(Content::Whole(Some(bytes), course))
    }

    pub(super) fn paced(paced: Box<Paced>, course: Box<Course>) -> Self {
        Self(Content::Paced(paced, course))
    }

    pub(super) fn stream(stream: Box<Stream>, course: Box<Course>) -> Self {
        Self(Content::Stream(stream, course))
    }

    pub(super) fn leads(leads: Leads) -> Self {
        Self(Content::Leads(leads))
    }

    pub(super) fn follows(follows: Box<Follows>, course: Box<Course>) -> Self {
        Self(Content::Follows(follows, course))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let data = match &mut self.get_mut().0 {
            Content::Whole(bytes, course) => {
                let bytes = bytes.take();
                if bytes.is_some() {
                    course.first_byte();
                    if course.record.ending == Ending::Left {
                        course.record.ending = Ending::Whole;
                    }
                }
                bytes.map(Ok)
            }
            Content::Paced(paced, course) => ready!(paced.poll_piece(course, context)).map(Ok),
            Content::Stream(stream, course) => ready!(stream.poll_piece(course, context)),
            Content::Leads(leads) => ready!(leads.poll_piece(context)),
            Content::Follows(follows, course) => ready!(follows.poll_piece(course, context)),
        };
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.0, Content::Whole(None, _))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Whole(bytes, _) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Content::Paced(..) | Content::Stream(..) | Content::Leads(_) | Content::Follows(..) => SizeHint::default(),
        }
    }
}
