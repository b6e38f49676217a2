//! Plugins' requests to services of their owner's, on their way: a client of its own for each core, beside those for upstreams.
//!
//! A guest that waits for an answer is put aside with its stack, as it is while it waits for a vector, and the core goes on with others. So
//! this costs plugins without the grant nothing, and one with it an instance while it waits: how many may is bounded for each plugin.
//!
//! What it does not do: it knows no allow-list (`plugin/http`), follows no redirects, keeps no cookies, adds no credentials and unpacks nothing.
//!
//! **Invariant:** a connection leads where the URL says, and where that is a name to a public address: looked at when it is made, and it is
//! made to the address that was looked at.
//! **Invariant:** an answer takes no more time and no more memory than the plugin's owner has written.

use std::sync::OnceLock;
use std::time::Duration;

use http::{Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy;

use crate::plugin::http::{Inbound, Outbound, is_public};
use crate::plugin::imports::HttpError;
use crate::upstream::connect::{Client, Connector};

/// Time for a connection, where the call has so much.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes of an answer's headers that a plugin sees.
const MAX_HEADERS: usize = 16 << 10;

/// The clients of all cores.
pub struct Lanes(Vec<OnceLock<Client>>);

impl Lanes {
    /// For so many cores.
    pub fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| OnceLock::new()).collect())
    }

    /// Sends a request that has been looked at, and waits for all of its answer.
    ///
    /// # Errors
    /// As the contract has them.
    pub async fn send(&self, exchange: &str, worker: usize, request: Outbound) -> Result<Inbound, HttpError> {
        let timeout = request.timeout;
        tokio::time::timeout(timeout, self.ask(exchange, worker, request)).await.unwrap_or(Err(HttpError::Timeout))
    }

    async fn ask(&self, exchange: &str, worker: usize, request: Outbound) -> Result<Inbound, HttpError> {
        let lane = &self.0[worker % self.0.len()];
        let client = lane.get_or_init(|| Connector::new(CONNECT, CONNECT).only_to(is_public).client());
        let mut sent = Request::new(Full::new(request.body.into()));
        (*sent.method_mut(), *sent.uri_mut(), *sent.headers_mut()) = (request.method, request.uri, request.headers);
        // Why is not the guest's to know: it would learn what there is behind names.
        let unreachable = |error: legacy::Error| {
            tracing::debug!(exchange, error = &error as &dyn std::error::Error, "a plugin's request has no answer");
            HttpError::Unreachable
        };
        let answer = client.request(sent).await.map_err(unreachable)?;
        let (head, body) = answer.into_parts();
        let mut left = MAX_HEADERS;
        let mut headers = Vec::with_capacity(head.headers.len());
        for (name, value) in head.headers.iter().filter(|(name, _)| !matches!(**name, header::SET_COOKIE)) {
            let Some(rest) = left.checked_sub(name.as_str().len() + value.len()) else { return Err(HttpError::TooLarge) };
            left = rest;
            headers.push((name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
        let body = Limited::new(body, request.answer).collect().await.map_err(|error| {
            let is_long = error.is::<http_body_util::LengthLimitError>();
            if is_long { HttpError::TooLarge } else { HttpError::Unreachable }
        })?;
        Ok(Inbound { status: head.status.as_u16(), headers, body: body.to_bytes().to_vec() })
    }
}
