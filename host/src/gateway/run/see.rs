//! Looking at an answer before the client does.
//!
//! **Invariant:** what was read of a stream is put back, byte for byte.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use crate::dialect::answer::Answer;
use crate::dialect::sse;
use crate::dialect::stream::{End, Tap, gist};
use crate::error::{Error, Kind, Retry};
use crate::upstream::{Body, Reply};

/// Bytes of a stream that are held back. A longer one is judged by so much of it.
const MAX_HELD: usize = 1 << 20;

/// What a piece takes beside its bytes.
const PIECE: usize = 64;

/// An answer, or its beginning.
pub(super) struct Sight {
    pub(super) answer: Arc<Answer>,
    /// Nothing of its first choice, which is looked at, is still to come.
    pub(super) whole: bool,
    /// Events that have come: about one a token.
    pub(super) events: u32,
}

/// It broke off meanwhile.
pub(super) struct Broke {
    pub(super) error: Error,
    /// Events that had come.
    pub(super) events: u32,
}

/// Looks at an answer: all of it, or so many events of a stream, or what there is of it by then, as far as it can be read. None if nothing
/// can.
///
/// # Errors
/// When it breaks off meanwhile.
pub(super) async fn see(reply: &mut Reply, enough: u32, until: Instant) -> Result<Option<Sight>, Broke> {
    let is_events = sse::is_readable(&reply.headers);
    let stream = match &mut reply.body {
        Body::Whole(bytes) => {
            let sight = |answer| Sight { answer: Arc::new(answer), whole: true, events: 0 };
            return Ok(Answer::read(bytes.clone()).map(sight));
        }
        Body::Stream(stream) if is_events => stream,
        Body::Stream(_) => return Ok(None),
    };
    let (mut tap, mut held, mut bytes, mut ended) = (Tap::new(0), Vec::new(), 0, false);
    while !tap.is_done() && tap.end() != End::Error && tap.events() < enough && bytes <= MAX_HELD {
        // Whoever waits for the answer waits no longer.
        let Ok(piece) = timeout_at(until, stream.piece()).await else { break };
        match piece {
            None => {
                ended = true;
                break;
            }
            Some(piece) => {
                let piece = piece.map_err(|error| Broke { error, events: tap.events() })?;
                tap.feed(&piece);
                bytes += piece.len() + PIECE;
                held.push(piece);
            }
        }
    }
    if tap.end() == End::Error || (ended && tap.end() == End::Cut) {
        let message = format!("{} ended its stream before the answer was finished.", reply.endpoint);
        let error = Error::upstream(Kind::UpstreamBroken, &reply.endpoint, Retry::Elsewhere, message);
        return Err(Broke { error, events: tap.events() });
    }
    let seen = held.concat();
    stream.put_back(held.into_iter());
    if tap.is_done() {
        // All has been said: whoever is asked about it may need the place.
        stream.gives_way();
    }
    let (events, all) = (tap.events(), ended || tap.is_done());
    let answer = gist(&seen).and_then(|gist| Answer::read(Bytes::from(gist)));
    let is_finished = |answer: &Answer| answer.sense().is_some_and(|sense| sense.finish_reason.is_some());
    Ok(answer.map(|answer| Sight { whole: all || is_finished(&answer), answer: Arc::new(answer), events }))
}
