//! Connections to endpoints: name, TCP and TLS, each with its own bound, under hyper-util's pooling client.
//!
//! HTTP/2 is used where the endpoint offers it in the TLS handshake. The pool opens a new connection when none is idle, and
//! sends a request again by itself if, and only if, it was never written to the connection that was found dead.
//!
//! A name is resolved for each new connection, by the system and so as it is set up there; nothing is remembered here. Connections
//! that are never idle would stay where the name once pointed, so each is used for [`AGE`] at most.
//!
//! What it does not do: it follows no redirects and keeps no cookies; upstream addresses come from the configuration alone.
//!
//! **Invariant:** a connection stays on the runtime that made it: no client is used by two cores.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection, capture_connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// A pooling client of one core; with HTTP/2 all that it sends goes over one connection.
pub struct Client {
    pool: legacy::Client<Connector, Full<Bytes>>,
    made: Instant,
    /// When a connection's age is looked at next, in milliseconds since `made`.
    next_look: AtomicU64,
}

/// A ping is sent on an HTTP/2 connection this often, and must be answered within half of it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Idle connections are closed before usual servers would, so that fewer requests meet one that is just being closed.
const IDLE: Duration = Duration::from_secs(50);
/// For how long a connection takes requests; those that it has by then are finished on it. Some are given up earlier by chance, so that
/// not all are made anew at once.
const AGE: Duration = Duration::from_secs(300);
/// Between two looks at the age of the connection that a request is sent on: a look costs two allocations.
const LOOK: Duration = Duration::from_millis(10);
/// How long what was sent may stay without a sign that it has arrived: an address that is gone says nothing, not even that.
const UNHEARD: Duration = Duration::from_secs(20);
/// How long an address may say nothing before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// A phase that ran out of time or failed before a request was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// No TCP connection in time.
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    /// The connection was refused, or there is no route.
    #[error("{0}")]
    Connect(io::Error),
    /// No TLS handshake in time.
    #[error("no TLS handshake within {0:?}")]
    TlsTimeout(Duration),
    /// The TLS handshake failed.
    #[error("TLS: {0}")]
    Tls(io::Error),
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    connect: Duration,
    tls: Duration,
    age: Duration,
    resolve: Resolve,
}

/// From a name and a port to addresses.
type Resolve = Arc<dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// When a connection was made, and when it is given up.
#[derive(Clone, Copy)]
struct Life {
    made: Instant,
    until: Instant,
}

impl Client {
    /// Sends a request. If its connection has become too old, it is the last one there; those in use are looked at often enough
    /// for that.
    ///
    /// # Errors
    /// As the pooling client's own.
    pub async fn request(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, legacy::Error> {
        let now = Instant::now();
        let since = u64::try_from((now - self.made).as_millis()).unwrap_or(u64::MAX);
        if since < self.next_look.load(Ordering::Relaxed) {
            return self.pool.request(request).await;
        }
        self.next_look.store(since + LOOK.as_millis() as u64, Ordering::Relaxed);
        let captured = capture_connection(&mut request);
        let answer = self.pool.request(request).await?;
        let is_old = answer.extensions().get().is_some_and(|life: &Life| now >= life.until);
        if is_old && let Some(connected) = &*captured.connection_metadata() {
            connected.poison();
        }
        Ok(answer)
    }
}

/// Was a request of that time sent on a connection that had been kept from before it, and ended without a word of an answer? Then the server
/// was closing it just as the request came, as far as anybody can know.
pub fn met_an_end(error: &legacy::Error, sent: Instant) -> bool {
    let mut extras = http::Extensions::new();
    error.connect_info().into_iter().for_each(|connection| connection.get_extras(&mut extras));
    let is_end = |error: &hyper::Error| {
        let reason = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
        error.is_incomplete_message() || matches!(reason, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
    };
    extras.get().is_some_and(|life: &Life| life.made < sent)
        && std::error::Error::source(error).and_then(|source| source.downcast_ref()).is_some_and(is_end)
}

impl Connector {
    /// A connector with its bounds.
    pub fn new(connect: Duration, tls: Duration) -> Self {
        let resolve = |host: String, port| {
            let addresses = async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) };
            Box::pin(addresses) as BoxFuture<'static, _>
        };
        Self { connect, tls, age: AGE, resolve: Arc::new(resolve) }
    }

    /// The same, that connects to no address of a name but those of which `may` says so. An address in the place of a name is the URL's own
    /// word, and for whoever has let the URL pass to judge.
    #[must_use]
    pub fn only_to(mut self, may: fn(IpAddr) -> bool) -> Self {
        let all = self.resolve;
        self.resolve = Arc::new(move |host, port| {
            let is_address = host.parse::<IpAddr>().is_ok();
            let found = all(host, port);
            Box::pin(async move {
                let mut addresses = found.await?;
                addresses.retain(|address| is_address || may(address.ip()));
                match addresses.is_empty() {
                    true => {
                        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the name stands for no address that may be reached"))
                    }
                    false => Ok(addresses),
                }
            })
        });
        self
    }

    /// A client over this connector.
    pub fn client(&self) -> Client {
        let pool = legacy::Client::builder(Tasks)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_max_idle_per_host(1024)
            // A connection that many requests share may be dead without a word.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE / 2)
            .http2_keep_alive_while_idle(true)
            .build(self.clone());
        Client { pool, made: Instant::now(), next_look: AtomicU64::new(0) }
    }

    async fn open(self, uri: Uri) -> Result<Stream, ConnectError> {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses = (self.resolve)(host.clone(), port);
        let tcp = tokio::time::timeout(self.connect, async { dial(addresses.await.map_err(ConnectError::Resolve)?).await })
            .await
            .map_err(|_| ConnectError::ConnectTimeout(self.connect))??;
        tcp.set_nodelay(true).map_err(ConnectError::Connect)?;
        // Where it cannot be had, such a connection ends with the request's own bounds.
        let _ = socket2::SockRef::from(&tcp).set_tcp_user_timeout(Some(UNHEARD));
        let made = Instant::now();
        let life = Life { made, until: made + self.age.mul_f32(1.0 - 0.2 * fastrand::f32()) };
        if !secure {
            return Ok(Stream { wire: Wire::Plain(TokioIo::new(tcp)), life });
        }
        let name = ServerName::try_from(host).map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        let handshake = TlsConnector::from(tls()).connect(name, tcp);
        let stream = tokio::time::timeout(self.tls, handshake)
            .await
            .map_err(|_| ConnectError::TlsTimeout(self.tls))?
            .map_err(ConnectError::Tls)?;
        Ok(Stream { wire: Wire::Tls(Box::new(TokioIo::new(stream))), life })
    }
}

/// The first address of the name that can be reached: each is begun when the one before it has failed, or says nothing for a
/// while (RFC 8305). The last error if none can be.
async fn dial(addresses: Vec<SocketAddr>) -> Result<TcpStream, ConnectError> {
    let mut addresses = addresses.into_iter();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut dialling = FuturesUnordered::new();
    loop {
        let more = addresses.next();
        let none_left = more.is_none();
        dialling.extend(more.map(TcpStream::connect));
        let wait = async {
            match none_left {
                true => std::future::pending().await,
                false => tokio::time::sleep(STAGGER).await,
            }
        };
        tokio::select! {
            dialled = dialling.next() => match dialled {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => last = error,
                None => return Err(ConnectError::Connect(last)),
            },
            () = wait => {}
        }
    }
}

/// The roots that Mozilla trusts, and those of SSL_CERT_FILE for a private authority.
fn tls() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
                use rustls::pki_types::pem::PemObject;
                match rustls::pki_types::CertificateDer::pem_file_iter(&file) {
                    Ok(certificates) => drop(roots.add_parsable_certificates(certificates.filter_map(Result::ok))),
                    Err(error) => tracing::warn!(file = %file.display(), %error, "SSL_CERT_FILE cannot be read"),
                }
            }
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12]);
            let mut config = match builder {
                Ok(builder) => builder.with_root_certificates(roots).with_no_client_auth(),
                // Both versions are part of the provider; without them rustls' own default is the same set.
                Err(_) => rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
            };
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
            Arc::new(config)
        })
        .clone()
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().open(uri))
    }
}

/// A connection's own task ends with the connection, which ends with the last request on it or its idle time; a drain
/// waits for the requests, so it need not wait for these.
#[derive(Clone, Copy)]
struct Tasks;

impl<F: Future<Output: Send + 'static> + Send + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, task: F) {
        #[allow(clippy::disallowed_methods, reason = "see the type's comment")]
        drop(tokio::spawn(task));
    }
}

/// A connection.
pub struct Stream {
    wire: Wire,
    life: Life,
}

enum Wire {
    /// TCP alone.
    Plain(TokioIo<TcpStream>),
    /// TLS over TCP.
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        let connected = Connected::new().extra(self.life);
        match &self.wire {
            Wire::Tls(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().wire {
            Wire::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Wire::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_read(context, buffer))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => stream.poll_shutdown(context))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, stream => stream.poll_write_vectored(context, buffers))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Mutex;

    use http_body_util::BodyExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;

    use super::*;

    /// A server that keeps connections and answers with its name. It ends, with all of them, with its value.
    fn serve(listener: TcpListener, name: &'static str) -> JoinSet<()> {
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut request = [0; 4096];
                    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len());
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                });
            }
        });
        server
    }

    /// Two servers at two addresses and one port, and a name that points to the first until it is told otherwise.
    struct Moving {
        servers: [JoinSet<()>; 2],
        points_to: Arc<Mutex<Vec<IpAddr>>>,
        uri: Uri,
        client: Client,
    }

    const PLACES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2))];

    impl Moving {
        async fn start(age: Duration) -> Self {
            Self::start_with(age, |connector| connector).await
        }

        async fn start_with(age: Duration, change: fn(Connector) -> Connector) -> Self {
            let (first, second, port) = loop {
                let first = TcpListener::bind((PLACES[0], 0)).await.unwrap();
                let port = first.local_addr().unwrap().port();
                if let Ok(second) = TcpListener::bind((PLACES[1], port)).await {
                    break (first, second, port);
                }
            };
            let points_to = Arc::new(Mutex::new(vec![PLACES[0]]));
            let places = points_to.clone();
            let resolve = move |host: String, port: u16| {
                assert_eq!(host, "models.example");
                let addresses = places.lock().unwrap().iter().map(|place| SocketAddr::new(*place, port)).collect();
                Box::pin(async move { Ok(addresses) }) as BoxFuture<'static, _>
            };
            let usual = Connector::new(Duration::from_secs(5), Duration::from_secs(5));
            let client = change(Connector { age, resolve: Arc::new(resolve), ..usual }).client();
            let uri = format!("http://models.example:{port}/").parse().unwrap();
            Self { servers: [serve(first, "first"), serve(second, "second")], points_to, uri, client }
        }

        async fn ask(&self) -> String {
            let request = Request::get(&self.uri).body(Full::default()).unwrap();
            let answer = self.client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            // The connection goes back to the pool in a task of its own.
            tokio::task::yield_now().await;
            String::from_utf8(answer.to_vec()).unwrap()
        }
    }

    /// A name that leads somewhere else each time it is looked up leads nowhere but to addresses that may be: what is looked at is what is
    /// connected to.
    #[tokio::test]
    async fn a_name_leads_to_no_address_that_may_not_be() {
        let allowed = |connector: Connector| connector.only_to(|address| address == PLACES[0]);
        let moving = Moving::start_with(Duration::ZERO, allowed).await;
        let asked = || moving.client.request(Request::get(&moving.uri).body(Full::default()).unwrap());
        assert_eq!(moving.ask().await, "first");
        tokio::time::sleep(2 * LOOK).await;
        assert_eq!(moving.ask().await, "first", "the one that finds it too old is still answered");
        *moving.points_to.lock().unwrap() = vec![PLACES[1]];
        assert!(asked().await.is_err(), "it has moved to where it may not be");
        *moving.points_to.lock().unwrap() = vec![PLACES[1], PLACES[0]];
        assert_eq!(moving.ask().await, "first");
    }

    /// Where the old address is given up, its connections are closed there; requests go to the new one, and none fails.
    #[tokio::test]
    async fn a_name_that_moves_is_followed() {
        let mut moving = Moving::start(AGE).await;
        assert_eq!([moving.ask().await, moving.ask().await], ["first", "first"]);
        *moving.points_to.lock().unwrap() = vec![PLACES[1]];
        assert_eq!(moving.ask().await, "first", "what is open is good");
        moving.servers[0].shutdown().await;
        for _ in 0..20 {
            assert_eq!(moving.ask().await, "second");
        }
    }

    /// Where it goes on answering, connections that were never idle stayed there for ever.
    #[tokio::test]
    async fn a_connection_is_not_used_for_ever() {
        let moving = Moving::start(Duration::from_millis(100)).await;
        assert_eq!(moving.ask().await, "first");
        *moving.points_to.lock().unwrap() = vec![PLACES[1]];
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(moving.ask().await, "first", "the one that finds it too old is still answered");
        for _ in 0..20 {
            assert_eq!(moving.ask().await, "second");
        }
    }

    /// One of several addresses of a name is dead: the next one is tried.
    #[tokio::test]
    async fn a_dead_address_beside_a_good_one_harms_nobody() {
        let mut moving = Moving::start(AGE).await;
        moving.servers[0].shutdown().await;
        *moving.points_to.lock().unwrap() = PLACES.to_vec();
        assert_eq!(moving.ask().await, "second");
    }

    #[tokio::test]
    async fn an_address_that_is_gone_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri: Uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let stream = Connector::new(Duration::from_secs(5), Duration::from_secs(5)).open(uri).await.unwrap();
        let Wire::Plain(tcp) = &stream.wire else { panic!("it is plain") };
        assert_eq!(socket2::SockRef::from(tcp.inner()).tcp_user_timeout().unwrap(), Some(UNHEARD));
    }
}
