//! The beginning of a stream: as much of it as is held back until it is certain that an answer has begun, its first whole event.
//!
//! Until then nobody downstream has seen anything, so an upstream that dies in the middle of its first event, or whose first event says
//! that it has failed, can be tried again like one that has said nothing.
//!
//! What it does not do: it bounds no time (`send` does), and looks at no second event.
//!
//! **Invariant:** at most [`MAX_EVENT`] bytes and one piece are held; what is longer, or cannot be read, counts as begun.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;

use crate::dialect::sse::{MAX_EVENT, Reader};
use crate::dialect::stream;

/// How a stream begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// With an answer: all bytes so far.
    Answer(Bytes),
    /// With an event that says that it has failed: the events so far, and whether it is the server that has.
    Error(Bytes, bool),
    /// It has ended without an event.
    Nothing,
}

/// Reads a stream up to its first whole event; comments are none.
pub(super) async fn read<B: Body<Data = Bytes> + Unpin>(body: &mut B) -> Result<Beginning, B::Error> {
    let (mut reader, mut first, mut held) = (Reader::default(), Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if data.is_empty() {
            continue;
        }
        let before = first.len() + held.len();
        let mut failed = None;
        let complete = reader.feed(&data, &mut |event| {
            failed.get_or_insert_with(|| stream::error(event));
        });
        if before == 0 {
            // Most first pieces are whole events: no copy.
            first = data;
        } else {
            held.extend_from_slice(&std::mem::take(&mut first));
            held.extend_from_slice(&data);
        }
        let all = |first: Bytes, held: BytesMut| if held.is_empty() { first } else { held.freeze() };
        match failed {
            Some(Some(is_servers)) => return Ok(Beginning::Error(all(first, held).slice(..before + complete), is_servers)),
            Some(None) => return Ok(Beginning::Answer(all(first, held))),
            None if before > MAX_EVENT || reader.overflowed() => return Ok(Beginning::Answer(all(first, held))),
            None => {}
        }
    }
    Ok(Beginning::Nothing)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;

    async fn begin(pieces: &[&str]) -> Beginning {
        let pieces: Vec<_> =
            pieces.iter().map(|piece| Ok::<_, Infallible>(Frame::data(Bytes::from(piece.to_string())))).collect();
        read(&mut StreamBody::new(stream::iter(pieces))).await.unwrap()
    }

    #[tokio::test]
    async fn a_stream_has_begun_with_its_first_whole_event() {
        let answer = |text: &str| Beginning::Answer(Bytes::from(text.to_owned()));
        for (pieces, expect) in [
            (&["data: a\n\n", "data: b\n\n"][..], answer("data: a\n\n")),
            (&["da", "", "ta: a\n", "\ndata: b", "x"], answer("data: a\n\ndata: b")),
            (&[": ping\n\n", ": ping\n\n", "data: a\r\n\r\n"], answer(": ping\n\n: ping\n\ndata: a\r\n\r\n")),
            (&["data: [DONE]\n\n"], answer("data: [DONE]\n\n")),
            (&["data: {\"error\":null}\n\n"], answer("data: {\"error\":null}\n\n")),
            (&[], Beginning::Nothing),
            (&[": ping\n\n", "data: a\n"], Beginning::Nothing),
            (
                &[": ping\n\ndata: {\"error\"", ":{\"code\":1}}\n\ndata: [DO"],
                Beginning::Error(Bytes::from_static(b": ping\n\ndata: {\"error\":{\"code\":1}}\n\n"), true),
            ),
            (&["data: a\n\ndata: {\"error\":{\"code\":1}}\n\n"], answer("data: a\n\ndata: {\"error\":{\"code\":1}}\n\n")),
        ] {
            assert_eq!(begin(pieces).await, expect, "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn no_more_is_held_than_an_event_may_have() {
        let piece = ": ".to_owned() + &"x".repeat(MAX_EVENT / 4) + "\n";
        let pieces = vec![piece.as_str(); 64];
        let Beginning::Answer(held) = begin(&pieces).await else { panic!("it has not begun") };
        assert!((MAX_EVENT..2 * MAX_EVENT).contains(&held.len()), "{}", held.len());
        let Beginning::Answer(held) = begin(&vec!["x".repeat(100_000).as_str(); 64]).await else { panic!("it has not begun") };
        assert!(held.len() < MAX_EVENT + 200_000, "{}", held.len());
    }
}
