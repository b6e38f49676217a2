//! HTTP/1.1 and HTTP/2 on one connection. The only place where server builders are made, so that no listener can lack a
//! bound.
//!
//! **Invariant:** every builder has a timer; without one hyper ignores its own time bounds.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_io_timeout::TimeoutStream;

use super::answers::{Answer, Answers, Place};
use super::crowd::{Asking, Seat};
use super::drain::Drain;
use super::socket::Watch;
use super::{Handler, Options, Peer, RequestBody, guard};

/// HTTP/2 streams that one connection may have at a time.
const STREAMS: u32 = 128;
/// A ping is sent on an idle HTTP/2 connection this often, and must be answered within half of it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes of a request's head.
const HEAD: usize = 64 << 10;
/// Bytes that one HTTP/2 stream may have on their way to us: enough for a prompt at once, little enough for 128 of them.
const STREAM_WINDOW: u32 = 256 << 10;
/// The same for a connection.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Bytes of an answer that wait for a slow reader, per HTTP/2 stream.
const SEND_BUFFER: usize = 64 << 10;
/// From a client's end of sending to ours of answering: a request that needs no upstream is answered by then.
const PARTING: Duration = Duration::from_millis(50);

pub(super) async fn serve<H, S>(
    stream: S,
    (watch, seat): (&Watch, Option<&Arc<Seat>>),
    peer: Peer,
    first: Instant,
    options: &Arc<Options>,
    handler: Arc<H>,
    drain: &Drain,
) where
    H: Handler,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = Arc::new(Asked::default());
    let answers = Arc::new(Answers::new());
    let service = {
        let (asked, answers, options, seat) = (asked.clone(), answers.clone(), options.clone(), seat.cloned());
        service_fn(move |request: Request<Incoming>| {
            let shares = request.version() >= Version::HTTP_2;
            asked.note(shares);
            let place = shares.then(|| answers.begin());
            let asking = seat.as_ref().map(Seat::asks);
            // On the heap, and there for as long as it takes: hyper would keep room for it in each connection, and move it there.
            Box::pin(answer(request, peer, options.clone(), handler.clone(), (place, asking)))
        })
    };
    let builder = builder(options);
    let mut stream = TimeoutStream::new(stream);
    // A client that takes nothing keeps an upstream busy; when its connection goes, so does what was asked for on it.
    stream.set_write_timeout(Some(options.write_idle));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(Box::pin(stream)), service));
    let mut left = pin!(async {
        watch.left().await;
        // What is about to be said may still arrive.
        tokio::time::sleep(PARTING).await;
    });
    let mut sent_away = pin!(async {
        match seat {
            Some(seat) => seat.left().await,
            None => std::future::pending().await,
        }
    });
    let mut clock = pin!(tokio::time::sleep_until(first));
    let look = options.write_idle.min(options.header_read) / 2;
    let (mut clock_runs, mut draining, mut idle) = (true, false, false);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(peer = %peer.address, %error, "a connection ended early");
                }
                return;
            }
            () = left.as_mut() => return,
            // Another one needs its place.
            () = sent_away.as_mut() => return,
            () = clock.as_mut(), if clock_runs => {
                if !asked.was() {
                    options.counters.first_request_timeouts.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                // hyper has a clock for an idle connection of HTTP/1.1, but none for one of HTTP/2, nor for its single answers.
                clock_runs = asked.shares();
                clock.as_mut().reset(Instant::now() + look);
                answers.drop_stalled(options.write_idle);
                if clock_runs && answers.quiet_for() >= options.header_read {
                    if idle {
                        return;
                    }
                    idle = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
            // A connection that was taken in just before has its first request still to come, and gets an answer to it.
            () = async { tokio::join!(drain.begun(), asked.first()); }, if !draining => {
                draining = true;
                // HTTP/1.1: `connection: close` after the answer that is under way. HTTP/2: GOAWAY.
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Whether a request has come on a connection.
#[derive(Default)]
struct Asked {
    was: AtomicBool,
    /// It was one of HTTP/2, which others share the connection with.
    shares: AtomicBool,
    first: tokio::sync::Notify,
}

impl Asked {
    fn note(&self, shares: bool) {
        if !self.was.swap(true, Ordering::Relaxed) {
            self.shares.store(shares, Ordering::Relaxed);
            self.first.notify_one();
        }
    }

    fn was(&self) -> bool {
        self.was.load(Ordering::Relaxed)
    }

    fn shares(&self) -> bool {
        self.shares.load(Ordering::Relaxed)
    }

    /// Waits for the first request.
    async fn first(&self) {
        if !self.was() {
            self.first.notified().await;
        }
    }
}

fn builder(options: &Options) -> auto::Builder<Local> {
    let mut builder = auto::Builder::new(Local);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(options.header_read)
        .max_headers(options.max_headers)
        .max_buf_size(HEAD)
        // A client that shuts its sending side has left: its request is dropped, and the upstream with it.
        .half_close(false)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE / 2)
        .max_header_list_size(HEAD as u32)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER);
    builder
}

async fn answer<H: Handler>(
    request: Request<Incoming>,
    peer: Peer,
    options: Arc<Options>,
    handler: Arc<H>,
    (place, _asking): (Option<Place<H::Body>>, Option<Asking>),
) -> Result<Response<Answer<H::Body>>, Infallible> {
    let (head, body) = request.into_parts();
    if let Err(refusal) = guard::check(&head, options.max_headers) {
        tracing::debug!(peer = %peer.address, reason = refusal.message, "a request was refused for its framing");
        let mut response = Response::new(Answer::Refused(Full::new(refusal.body())));
        *response.status_mut() = refusal.status;
        response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if head.version < Version::HTTP_2 {
            // What follows on a connection whose framing is in doubt may be anybody's.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        return Ok(response);
    }
    let body = RequestBody::new(body, &options);
    let response = handler.handle(Request::from_parts(head, body), peer).await;
    Ok(response.map(|body| match place {
        Some(place) => place.answer(body),
        None => Answer::Alone(body),
    }))
}

/// HTTP/2 runs each stream as a task of its own. They end with their connection, which drain waits for.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output: Send + 'static> + Send + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        #[allow(clippy::disallowed_methods, reason = "see the type's comment")]
        drop(tokio::spawn(task));
    }
}
