//! TLS in front of a [`FakeUpstream`], as providers have it: HTTP/2 where both sides agree on it by ALPN, else HTTP/1.1.
//!
//! Each HTTP/2 request goes to the server behind over a connection of its own. So whatever an [`crate::Act`] does wrong becomes
//! what HTTP/2 has for it (a body that breaks off is a stream that is reset, a connection closed without a word is a reset
//! before the head), and a client that resets its stream has left the server behind.
//!
//! What it does not do: it orders and remembers nothing but the connections; the server behind it has the requests.
//!
//! **Invariant:** everything that it runs ends with its value.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::FakeUpstream;
use crate::tls::Pair;

/// How many requests an HTTP/2 connection takes at a time: what usual servers allow.
const STREAMS: u32 = 100;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The front.
pub struct Front {
    address: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    protocols: Vec<String>,
    opened: Arc<Mutex<Vec<String>>>,
    goodbye: watch::Sender<()>,
    runtime: Option<Runtime>,
}

impl Front {
    /// A front of this server, which shows this certificate and offers these protocols.
    pub fn of(fake: &FakeUpstream, pair: &Pair, protocols: &[&str]) -> Self {
        Self::at(fake.address(), pair, protocols)
    }

    /// A front of the server at this address.
    pub fn at(server: SocketAddr, pair: &Pair, protocols: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be had");
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let config = Arc::new(Mutex::new(Arc::new(pair.server(protocols))));
        let shown = config.clone();
        let opened = Arc::new(Mutex::new(Vec::new()));
        let (goodbye, told) = watch::channel(());
        let known = opened.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = TlsAcceptor::from(shown.lock().expect("nobody panics with it").clone());
                let (known, told) = (known.clone(), told.clone());
                tokio::spawn(async move {
                    // A client that does not like the certificate is gone before the connection has begun.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let protocol =
                        stream.get_ref().1.alpn_protocol().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
                    known.lock().expect("nobody panics with it").push(protocol.clone());
                    match protocol.as_str() {
                        "h2" => http_2(stream, server, told).await,
                        _ => http_1(stream, server).await,
                    }
                });
            }
        });
        let protocols = protocols.iter().map(|protocol| (*protocol).to_owned()).collect();
        Self { address, config, protocols, opened, goodbye, runtime: Some(runtime) }
    }

    /// Shows this certificate from now on.
    pub fn show(&self, pair: &Pair) {
        let protocols: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
        *self.config.lock().expect("nobody panics with it") = Arc::new(pair.server(&protocols));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL. The certificate is to be for `localhost`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/v1", self.address.port())
    }

    /// What was agreed on by ALPN, for each connection on which TLS began; nothing agreed on is an empty string.
    pub fn connections(&self) -> Vec<String> {
        self.opened.lock().expect("nobody panics with it").clone()
    }

    /// Says on each HTTP/2 connection that no further request is taken there (GOAWAY); those that run go on.
    pub fn goodbye(&self) {
        self.goodbye.send_replace(());
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn http_1(mut client: TlsStream<TcpStream>, server: SocketAddr) {
    if let Ok(mut server) = TcpStream::connect(server).await {
        // Whatever ends it: the test looks at the other sides of it.
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
    }
}

async fn http_2(client: TlsStream<TcpStream>, server: SocketAddr, mut told: watch::Receiver<()>) {
    let service = service_fn(move |request| relay(request, server));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let connection = builder.max_concurrent_streams(STREAMS).serve_connection(TokioIo::new(client), service);
    let mut connection = pin!(connection);
    told.mark_unchanged();
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = told.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// One request to the server behind, as HTTP/1.1. An error resets the stream.
async fn relay(request: Request<Incoming>, server: SocketAddr) -> Result<Response<Relayed>, BoxError> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    if let Some(authority) = head.uri.authority() {
        head.headers.insert(HOST, HeaderValue::from_str(authority.as_str())?);
    }
    head.uri = head.uri.path_and_query().map_or("/", |path| path.as_str()).parse()?;
    head.version = Version::HTTP_11;
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(server).await?)).await?;
    let behind = Behind(tokio::spawn(connection));
    let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
    Ok(answer.map(|body| Relayed { body, _behind: behind }))
}

/// The connection to the server behind; it ends with the request, however that ends.
struct Behind(JoinHandle<hyper::Result<()>>);

impl Drop for Behind {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Relayed {
    body: Incoming,
    _behind: Behind,
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}
