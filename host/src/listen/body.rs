//! A request's body, read frame by frame under its bounds.
//!
//! **Invariant:** a body never costs more memory than has really come, whatever its `content-length` says.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Options;

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is too large.
    #[error("The body is larger than {limit} bytes. Send less, or have `listen.max_body` raised.")]
    TooLarge {
        /// Bytes that a body may have.
        limit: usize,
    },
    /// It paused for too long.
    #[error("The body paused for more than {0:?}. Send it in one go.")]
    Idle(Duration),
    /// It took too long.
    #[error("The body took more than {0:?}. Send less, or faster.")]
    Total(Duration),
    /// The client left, or broke the protocol.
    #[error("The body ended early: {0}")]
    Broken(hyper::Error),
}

/// A body that has not been read yet.
pub struct RequestBody {
    incoming: Incoming,
    idle: Duration,
    total: Duration,
    limit: usize,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, options: &Options) -> Self {
        Self { incoming, idle: options.body_idle, total: options.body_total, limit: options.max_body }
    }

    /// Reads all of it. A body of one frame, as most are, is not copied.
    ///
    /// # Errors
    /// When it is too large, too slow, or ends early.
    pub async fn collect(mut self) -> Result<Bytes, BodyError> {
        let too_large = BodyError::TooLarge { limit: self.limit };
        let announced = self.incoming.size_hint();
        if announced.lower() > self.limit as u64 {
            return Err(too_large);
        }
        let ends = Instant::now() + self.total;
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        while let Some(frame) = self.frame(ends).await? {
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + all.len() + data.len() > self.limit {
                return Err(too_large);
            }
            if first.is_empty() && all.is_empty() {
                first = data;
                continue;
            }
            if all.is_empty() {
                // Room for what was announced, as far as it is believable; beyond that it grows as it comes.
                let exact = announced.exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
                all.reserve(exact.min(1 << 20).max(first.len() + data.len()));
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }

    /// The next frame. A timer is set only if it is not there yet.
    async fn frame(&mut self, ends: Instant) -> Result<Option<http_body::Frame<Bytes>>, BodyError> {
        let mut next = self.incoming.frame();
        let ready = std::future::poll_fn(|context| std::task::Poll::Ready(std::pin::Pin::new(&mut next).poll(context))).await;
        let frame = match ready {
            std::task::Poll::Ready(frame) => frame,
            std::task::Poll::Pending => {
                let idle = Instant::now() + self.idle;
                match tokio::time::timeout_at(idle.min(ends), next).await {
                    Ok(frame) => frame,
                    Err(_) if ends <= idle => return Err(BodyError::Total(self.total)),
                    Err(_) => return Err(BodyError::Idle(self.idle)),
                }
            }
        };
        frame.transpose().map_err(BodyError::Broken)
    }
}
