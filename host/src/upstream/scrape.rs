//! Asks endpoints for their metrics, one task for all pools, on the steward's thread.
//!
//! What it does not do: it judges no endpoint by whether it answers here; requests do that.
//!
//! **Invariant:** an endpoint is asked once at a time; a reading has a bound on its time and on its size.
//! **Invariant:** where no pool wants metrics, nothing runs.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::HeaderMap;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::connect::{Client, Connector};
use super::endpoint::Endpoint;
use super::gauges::Report;
use super::pool::Pool;

/// Time for a whole reading.
const TIME: Duration = Duration::from_secs(2);
/// The largest page; vLLM's has some 100 KB.
const SIZE: usize = 4 << 20;
/// Endpoints that are asked at the same time.
const AT_ONCE: usize = 64;

/// Runs for ever; `pools` are those in force, and `changed` is told when they change.
pub async fn run(pools: impl Fn() -> Vec<Arc<Pool>>, changed: Arc<Notify>) {
    let client = Connector::new(TIME, TIME).client();
    loop {
        let pools = pools();
        let wanted = || pools.iter().filter_map(|pool| Some((pool, pool.settings().metrics.as_ref()?)));
        let Some(pause) = wanted().map(|(_, metrics)| metrics.interval).min() else {
            changed.notified().await;
            continue;
        };
        let next = Instant::now() + pause;
        let mut due: Vec<(Arc<Pool>, Arc<Endpoint>)> = Vec::new();
        for (pool, metrics) in wanted() {
            let endpoints = pool.endpoints().iter().filter(|endpoint| endpoint.is_due(metrics.interval, next - pause));
            due.extend(endpoints.map(|endpoint| (pool.clone(), endpoint.clone())));
        }
        let mut waiting = due.into_iter();
        let mut asked: FuturesUnordered<_> =
            waiting.by_ref().take(AT_ONCE).map(|(pool, endpoint)| read(&client, pool, endpoint)).collect();
        while asked.next().await.is_some() {
            asked.extend(waiting.next().map(|(pool, endpoint)| read(&client, pool, endpoint)));
        }
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = changed.notified() => {}
        }
    }
}

async fn read(client: &Client, pool: Arc<Pool>, endpoint: Arc<Endpoint>) {
    let settings = pool.settings();
    let Some(metrics) = &settings.metrics else { return };
    let own = endpoint.in_flight();
    let mut headers = settings.headers.clone();
    headers.extend(settings.key.iter().map(|(name, value)| (Some(name.clone()), value.clone())));
    let page = match address(&endpoint, &metrics.path) {
        Some(uri) => timeout(metrics.interval.min(TIME), get(client, uri, headers)).await,
        None => return,
    };
    match page.ok().flatten().as_deref().and_then(Report::read) {
        Some(report) => endpoint.gauges.set(report, own.min(endpoint.in_flight()), metrics.interval, Instant::now()),
        None => {
            endpoint.gauges.failures.add(1);
            tracing::debug!(endpoint = &**endpoint.authority(), "its metrics cannot be read");
        }
    }
}

fn address(endpoint: &Endpoint, path: &str) -> Option<Uri> {
    let mut parts = endpoint.base().parse::<Uri>().ok()?.into_parts();
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).ok()
}

async fn get(client: &Client, uri: Uri, headers: HeaderMap) -> Option<String> {
    let mut request = Request::new(Full::new(Bytes::new()));
    (*request.uri_mut(), *request.headers_mut()) = (uri, headers);
    let (head, body) = client.request(request).await.ok()?.into_parts();
    if head.status != StatusCode::OK {
        return None;
    }
    let bytes = Limited::new(body, SIZE).collect().await.ok()?.to_bytes();
    String::from_utf8(bytes.into()).ok()
}
