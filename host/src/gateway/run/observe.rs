//! Plugins that observe an answer see its beginning before anybody has got any of it.
//!
//! **Invariant:** an answer that one of them does not let pass goes to nobody, also where nothing better comes.

use bytes::Bytes;
use http::header::CONTENT_ENCODING;

use super::{Answered, Turns};
use crate::dialect::sse;
use crate::error::Error;
use crate::gateway::plan;
use crate::gateway::watch::{Opening, Verdict, Watch, reason};
use crate::plugin::Plugin;
use crate::record::cost::Tokens;
use crate::upstream::{Attempt, Body};

/// What becomes of an answer.
pub(super) enum Seen {
    /// The client gets it.
    Goes(Box<Answered>),
    /// Nobody gets it: another target answers.
    Left,
    /// It broke off meanwhile.
    Broke,
}

impl Turns<'_> {
    /// What those who observe say to an answer, or to the beginning of a stream.
    ///
    /// # Errors
    /// One of them refuses it, or fails and must not be gone without.
    pub(super) async fn observed(&mut self, mut answered: Answered, attempt: &Attempt) -> Result<Seen, Error> {
        let reply = &mut answered.reply;
        let watch = match reply.status.is_success() {
            true => Watch::new(self.course, self.request, &self.observers, &reply.model),
            false => None,
        };
        let Some(mut watch) = watch else { return Ok(Seen::Goes(Box::new(answered))) };
        let mut is_readable = true;
        let opening = match &mut reply.body {
            Body::Whole(body) if !reply.headers.contains_key(CONTENT_ENCODING) => watch.open_whole(body.clone()).await,
            Body::Stream(stream) if sse::is_readable(&reply.headers) => {
                match watch.open(stream, &reply.endpoint, self.run.begins()).await {
                    Ok(opening) => opening,
                    Err(error) => {
                        self.course.discard(&reply.model, tokens(&watch));
                        self.run.broke(attempt, &reply.endpoint, error);
                        return Ok(Seen::Broke);
                    }
                }
            }
            // Bytes of no known form, or too many: they are told that there is something.
            Body::Whole(_) | Body::Stream(_) => {
                is_readable = false;
                watch.open_whole(Bytes::new()).await
            }
        };
        match opening {
            Opening::Goes => {
                answered.storable &= watch.has_seen();
                answered.watch = is_readable.then_some(watch);
            }
            Opening::Ends(Verdict::Stopped { by, .. }) if !is_readable => {
                self.course.answered(Ok(reply));
                self.course.discard(&reply.model, tokens(&watch));
                return Err(refused(&by));
            }
            Opening::Ends(Verdict::Stopped { by, ending }) => {
                self.course.decided(&by, Vec::new());
                answered.storable = false;
                if let Body::Whole(body) = &mut reply.body {
                    let empty = watch.empty(&by, ending);
                    let whole = std::mem::replace(body, empty);
                    self.course.answered(Ok(reply));
                    self.course.stopped_whole(&whole, &by, reason(ending));
                } else {
                    watch.ends(Verdict::Stopped { by, ending });
                    answered.watch = Some(watch);
                }
            }
            Opening::Ends(Verdict::Failed(error)) => {
                self.course.answered(Ok(reply));
                self.course.discard(&reply.model, tokens(&watch));
                return Err(error);
            }
            Opening::Escalates { by, target } => {
                self.course.discard(&reply.model, tokens(&watch));
                self.course.record.escalated.push("plugin");
                // Where no other answers, this is why.
                self.run.broke(attempt, &reply.endpoint, refused(&by));
                let turn = plan::target(self.course, self.request, &target, self.judge.as_ref());
                turn.into_iter().for_each(|turn| self.left.push_front(turn));
                return Ok(Seen::Left);
            }
        }
        Ok(Seen::Goes(Box::new(answered)))
    }
}

/// What an answer has cost, about.
fn tokens(watch: &Watch) -> Tokens {
    Tokens { prompt: watch.prompt().into(), completion: watch.so_far().into(), cached: 0 }
}

/// Why the client has no answer, where no other model gives one.
fn refused(by: &Plugin) -> Error {
    let message = format!("the plugin `{}` did not let the answer pass", by.name());
    Error::rejected(by.name(), 503, "answer_refused", &message, None)
}
