//! A handler that panics, or a body that does, ends its own exchange: the core goes on, and so do all others, also those on the same
//! connection of HTTP/2.

#![allow(clippy::disallowed_methods, reason = "clients of a test are nobody's exchange")]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{Drain, Handler, Options, Peer, RequestBody, serve};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// `/handler` panics at once, `/body` after the first piece of its answer, `/waits` when it is told to go on; everything else is "ok".
#[derive(Default)]
struct Moody {
    go_on: Notify,
}

struct Body {
    pieces: u8,
    panics: bool,
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.pieces += 1;
        match self.pieces {
            1 => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"ok"))))),
            _ if self.panics => panic!("the test's own panic, in a body"),
            _ => Poll::Ready(None),
        }
    }
}

impl Handler for Moody {
    type Body = Body;

    async fn handle(self: Arc<Self>, request: Request<RequestBody>, _: Peer) -> Response<Body> {
        match request.uri().path() {
            "/handler" => panic!("the test's own panic, in a handler"),
            "/waits" => self.go_on.notified().await,
            _ => {}
        }
        Response::new(Body { pieces: 0, panics: request.uri().path() == "/body" })
    }
}

type Got = Result<(StatusCode, Result<Bytes, hyper::Error>), hyper::Error>;

async fn read(answer: hyper::Result<Response<hyper::body::Incoming>>) -> Got {
    let (head, body) = answer?.into_parts();
    Ok((head.status, body.collect().await.map(http_body_util::Collected::to_bytes)))
}

fn ask(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://localhost{path}")).header("host", "localhost").body(Empty::new()).unwrap()
}

async fn connect_1(listener: std::net::SocketAddr) -> hyper::client::conn::http1::SendRequest<Empty<Bytes>> {
    let stream = TokioIo::new(TcpStream::connect(listener).await.unwrap());
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    Drain::new().spawn_detached(async { drop(connection.await) });
    sender
}

fn is_ok(got: &Got) -> bool {
    matches!(got, Ok((StatusCode::OK, Ok(body))) if body == "ok")
}

/// One core, as in the process.
#[tokio::test]
async fn a_panic_ends_its_own_exchange() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (options, handler, drain) = (Arc::new(Options::new(address)), Arc::new(Moody::default()), Drain::new());
    let core = tokio::spawn(serve(listener, options.clone(), handler.clone(), drain.clone(), 0));

    let mut neighbour = connect_1(address).await;
    let waiting = tokio::spawn(async move { read(neighbour.send_request(ask("/waits")).await).await });
    for path in ["/handler", "/body"] {
        let got = read(connect_1(address).await.send_request(ask(path)).await).await;
        // An answer that had begun is not whole.
        assert!(!is_ok(&got), "{path}: {got:?}");
        assert!(is_ok(&read(connect_1(address).await.send_request(ask("/")).await).await), "after {path}");
    }

    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut shared, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for path in ["/handler", "/body"] {
        let (mut other, answer) = (shared.clone(), shared.send_request(ask("/waits")));
        let beside = tokio::spawn(async move { read(answer.await).await });
        let got = read(other.send_request(ask(path)).await).await;
        assert!(!is_ok(&got), "{path}: {got:?}");
        handler.go_on.notify_waiters();
        // Whichever of the two waits longest is let go first; both are.
        handler.go_on.notify_one();
        assert!(is_ok(&beside.await.unwrap()), "on the same connection as {path}");
        assert!(is_ok(&read(shared.send_request(ask("/")).await).await), "after {path}");
    }
    assert!(is_ok(&waiting.await.unwrap()), "on another connection");

    // Nothing is held by what panicked: neither a place among the connections nor the drain.
    drop(shared);
    connection.await.unwrap().unwrap();
    assert!(!core.is_finished());
    drain.begin();
    assert_eq!(drain.wait(Duration::from_secs(20)).await.cut, 0);
    core.await.unwrap();
    assert_eq!(options.counters.open.load(Ordering::Relaxed), 0);
}
