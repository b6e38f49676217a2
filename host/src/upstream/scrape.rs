//! Reads what endpoints say of themselves: their metrics, and their lists of models.
//!
//! What it does not do: it says not when (`watch`), and judges no endpoint by whether it answers here; requests do that.
//!
//! **Invariant:** a reading has a bound on its time and on its size.

use std::time::Duration;

use http::StatusCode;
use tokio::time::{Instant, timeout};

use super::connect::Client;
use super::endpoint::Endpoint;
use super::gauges::Report;
use super::pool::Pool;
use super::watch;

/// Time for a whole reading.
const TIME: Duration = Duration::from_secs(2);
/// The largest page; vLLM's has some 100 KB.
const SIZE: usize = 4 << 20;

/// Reads an endpoint's metrics.
pub(super) async fn metrics(client: &Client, pool: &Pool, endpoint: &Endpoint) {
    let Some(metrics) = &pool.settings().metrics else { return };
    let own = endpoint.in_flight();
    let page = page(client, pool, endpoint, &metrics.path, metrics.interval.min(TIME)).await;
    match page.as_deref().and_then(Report::read) {
        Some(report) => endpoint.gauges.set(report, own.min(endpoint.in_flight()), metrics.interval, Instant::now()),
        None => {
            endpoint.gauges.failures.add(1);
            tracing::debug!(endpoint = &**endpoint.authority(), "its metrics cannot be read");
        }
    }
}

async fn page(client: &Client, pool: &Pool, endpoint: &Endpoint, path: &str, time: Duration) -> Option<String> {
    let get = watch::get(client, watch::address(endpoint, path)?, watch::headers(pool), SIZE);
    let answer = timeout(time, get).await.ok().flatten().filter(|answer| answer.status() == StatusCode::OK)?;
    String::from_utf8(answer.into_body().into()).ok()
}
