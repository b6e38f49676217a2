//! Asks endpoints what no client asks: for their metrics, their models, and how they are. One task for all pools, on the steward's
//! thread.
//!
//! What it does not do: it makes nothing of the answers; `scrape` and `probe` do.
//!
//! **Invariant:** an endpoint is asked the same once at a time; who is late keeps nobody else waiting but for [`AT_ONCE`].
//! **Invariant:** where no pool wants to know anything, nothing runs.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::HeaderMap;
use http::{Request, Uri};
use http_body_util::{BodyExt, Full, Limited};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::connect::{Client, Connector};
use super::endpoint::Endpoint;
use super::keys::Key;
use super::pool::Pool;
use super::{probe, scrape};

/// The longest that a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// Answers that are waited for at the same time.
const AT_ONCE: usize = 256;
/// The longest that nobody looks what is due.
const LONGEST: Duration = Duration::from_secs(60);
/// By how much of its interval a question comes sooner or later, so that gateways that began together do not ask together.
const JITTER: f32 = 0.1;

/// What endpoints are asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// How busy they are.
    Metrics,
    /// Which models they have.
    Models,
    /// Whether they are well.
    Probe,
}

impl Question {
    pub(super) const ALL: [Self; 3] = [Self::Metrics, Self::Models, Self::Probe];

    /// How often this is asked of a pool's endpoints; none: never.
    fn interval(self, pool: &Pool) -> Option<Duration> {
        let settings = pool.settings();
        match self {
            Self::Metrics => settings.metrics.as_ref().map(|metrics| metrics.interval),
            Self::Models => settings.metrics.as_ref().map(|metrics| metrics.interval * scrape::MODELS_EVERY),
            Self::Probe => settings.probe.as_ref().map(|probe| probe.interval),
        }
    }

    async fn ask(self, client: &Client, pool: &Pool, endpoint: &Endpoint) {
        match self {
            Self::Metrics => scrape::metrics(client, pool, endpoint).await,
            Self::Models => scrape::models(client, pool, endpoint).await,
            Self::Probe => probe::ask(client, pool, endpoint).await,
        }
    }
}

/// When an endpoint was last asked something.
#[derive(Default)]
pub(super) struct Turn {
    /// Milliseconds since the endpoint's epoch, and one; 0: never.
    last: AtomicU64,
    /// What this interval is multiplied by, as an `f32`.
    jitter: AtomicU32,
    /// It is being asked now.
    busy: AtomicBool,
}

impl Turn {
    /// When it is due, in milliseconds since the endpoint's epoch; none while it is being asked.
    fn due(&self, interval: Duration) -> Option<u64> {
        if self.busy.load(Ordering::Relaxed) {
            return None;
        }
        let jitter = f32::from_bits(self.jitter.load(Ordering::Relaxed));
        Some(match self.last.load(Ordering::Relaxed) {
            0 => 0,
            last => last - 1 + interval.mul_f32(jitter).as_millis() as u64,
        })
    }

    fn begin(&self, ms: u64) {
        self.last.store(ms + 1, Ordering::Relaxed);
        self.jitter.store((1.0 + JITTER * (2.0 * fastrand::f32() - 1.0)).to_bits(), Ordering::Relaxed);
        self.busy.store(true, Ordering::Relaxed);
    }
}

type Asking<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Runs for ever; `pools` are those in force, and `changed` is told when they change.
pub async fn run(pools: impl Fn() -> Vec<Arc<Pool>>, changed: Arc<Notify>) {
    let client = Connector::new(CONNECT, CONNECT).client();
    let mut asking: FuturesUnordered<Asking<'_>> = FuturesUnordered::new();
    loop {
        let now = Instant::now();
        let mut next = None;
        let mut due = Vec::new();
        for pool in pools() {
            pool.renew_fits(now);
            for question in Question::ALL {
                let Some(interval) = question.interval(&pool) else { continue };
                for endpoint in pool.endpoints() {
                    let Some(at) = endpoint.turn(question).due(interval) else { continue };
                    let at = endpoint.epoch() + Duration::from_millis(at);
                    if at <= now {
                        due.push((at, question, pool.clone(), endpoint.clone()));
                    } else {
                        next = Some(next.map_or(at, |next: Instant| next.min(at)));
                    }
                }
            }
        }
        // Who has waited longest comes first.
        due.sort_by_key(|(at, ..)| *at);
        due.truncate(AT_ONCE.saturating_sub(asking.len()));
        for (_, question, pool, endpoint) in due {
            endpoint.turn(question).begin(now.saturating_duration_since(endpoint.epoch()).as_millis() as u64);
            let client = &client;
            asking.push(Box::pin(async move {
                question.ask(client, &pool, &endpoint).await;
                endpoint.turn(question).busy.store(false, Ordering::Relaxed);
            }));
        }
        let sleep = async {
            match next {
                Some(next) => tokio::time::sleep_until(next.min(now + LONGEST)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = sleep => {}
            () = changed.notified() => {}
            Some(()) = asking.next(), if !asking.is_empty() => {}
        }
    }
}

/// A path at an endpoint's host.
pub(super) fn address(endpoint: &Endpoint, path: &str) -> Option<Uri> {
    let mut parts = endpoint.base().parse::<Uri>().ok()?.into_parts();
    parts.path_and_query = path.parse().ok();
    Uri::from_parts(parts).ok()
}

/// What the provider's owner sends with every request, and the first key.
pub(super) fn headers(pool: &Pool) -> HeaderMap {
    let settings = pool.settings();
    let mut headers = settings.headers.clone();
    headers.extend(settings.keys.first().map(|Key { header: (name, value), .. }| (Some(name.clone()), value.clone())));
    headers
}

/// An answer with at most so many bytes; none where there is none, or a larger one.
pub(super) async fn get(client: &Client, uri: Uri, headers: HeaderMap, size: usize) -> Option<http::Response<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::new()));
    (*request.uri_mut(), *request.headers_mut()) = (uri, headers);
    let (head, body) = client.request(request).await.ok()?.into_parts();
    let bytes = Limited::new(body, size).collect().await.ok()?.to_bytes();
    Some(http::Response::from_parts(head, bytes))
}
