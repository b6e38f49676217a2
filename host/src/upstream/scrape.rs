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
use super::loaded::{self, Lora, Models};
use super::pool::Pool;
use super::watch;

/// Time for a whole reading.
const TIME: Duration = Duration::from_secs(2);
/// The largest page; vLLM's has some 100 KB.
const SIZE: usize = 4 << 20;
/// Intervals of metrics from one list of models to the next.
pub(super) const MODELS_EVERY: u32 = 10;

/// Reads an endpoint's metrics.
pub(super) async fn metrics(client: &Client, pool: &Pool, endpoint: &Endpoint) {
    let Some(metrics) = &pool.settings().metrics else { return };
    let own = endpoint.in_flight();
    let page = page(client, pool, endpoint, &metrics.path, metrics.interval.min(TIME)).await;
    if let Ok(page) = &page {
        endpoint.said.lora(Lora::read(page), loaded::until(metrics.interval, Instant::now()));
    }
    let (provider, address, path) = (pool.name(), &**endpoint.authority(), &*metrics.path);
    match page.as_deref().ok().and_then(Report::read) {
        Some(report) => {
            endpoint.gauges.set(report, own.min(endpoint.in_flight()), metrics.interval, Instant::now());
            if endpoint.gauges.read() {
                tracing::info!(provider, endpoint = address, path, "its metrics can be read");
            }
        }
        None => {
            endpoint.gauges.failures.add(1);
            if endpoint.gauges.unread() {
                let why = match page {
                    Ok(_) => "the page has no metric of a server that is known".to_owned(),
                    Err(Unread(Some(status))) => format!("it answered {}", status.as_u16()),
                    Err(Unread(None)) => "it gave no answer in time".to_owned(),
                };
                tracing::warn!(
                    provider,
                    endpoint = address,
                    path,
                    why,
                    "its metrics cannot be read; only our own requests there are known"
                );
            }
        }
    }
}

/// There is no page, and perhaps a status that says why.
struct Unread(Option<StatusCode>);

/// Reads an endpoint's list of models. Many servers have none, so it is no failure that there is none.
pub(super) async fn models(client: &Client, pool: &Pool, endpoint: &Endpoint) {
    let Some(metrics) = &pool.settings().metrics else { return };
    let interval = metrics.interval * MODELS_EVERY;
    let Ok(base) = endpoint.base().parse::<http::Uri>() else { return };
    let path = format!("{}/models", base.path().trim_end_matches('/'));
    let page = page(client, pool, endpoint, &path, interval.min(TIME)).await;
    match page.ok().and_then(|page| Models::read(page.as_bytes())) {
        Some(models) => endpoint.said.models(models, loaded::until(interval, Instant::now())),
        None => tracing::debug!(endpoint = &**endpoint.authority(), "its models cannot be read"),
    }
}

async fn page(client: &Client, pool: &Pool, endpoint: &Endpoint, path: &str, time: Duration) -> Result<String, Unread> {
    let address = watch::address(endpoint, path).ok_or(Unread(None))?;
    let get = watch::get(client, address, watch::headers(pool), SIZE);
    let answer = timeout(time, get).await.ok().flatten().ok_or(Unread(None))?;
    let status = answer.status();
    let page = Some(answer).filter(|_| status == StatusCode::OK).ok_or(Unread(Some(status)))?;
    String::from_utf8(page.into_body().into()).map_err(|_| Unread(None))
}
