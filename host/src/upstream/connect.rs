//! Connections to endpoints: name, TCP and TLS, each with its own bound, under hyper-util's pooling client.
//!
//! HTTP/2 is used where the endpoint offers it in the TLS handshake. The pool opens a new connection when none is idle, and
//! sends a request again by itself if, and only if, it was never written to the connection that was found dead.
//!
//! What it does not do: it follows no redirects and keeps no cookies; upstream addresses come from the configuration alone.
//!
//! **Invariant:** a connection stays on the runtime that made it: no client is used by two cores.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use http_body_util::Full;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// A pooling client of one core; with HTTP/2 all that it sends goes over one connection.
pub type Client = legacy::Client<Connector, Full<Bytes>>;

/// A ping is sent on an HTTP/2 connection this often, and must be answered within half of it.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Idle connections are closed before usual servers would, so that fewer requests meet one that is just being closed.
const IDLE: Duration = Duration::from_secs(50);
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
}

impl Connector {
    /// A connector with its bounds.
    pub fn new(connect: Duration, tls: Duration) -> Self {
        Self { connect, tls }
    }

    /// A client over this connector.
    pub fn client(&self) -> Client {
        legacy::Client::builder(Tasks)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_max_idle_per_host(1024)
            // A connection that many requests share may be dead without a word.
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE / 2)
            .http2_keep_alive_while_idle(true)
            .build(self.clone())
    }

    async fn open(self, uri: Uri) -> Result<Stream, ConnectError> {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = tokio::time::timeout(self.connect, dial(&host, port))
            .await
            .map_err(|_| ConnectError::ConnectTimeout(self.connect))??;
        tcp.set_nodelay(true).map_err(ConnectError::Connect)?;
        if !secure {
            return Ok(Stream::Plain(TokioIo::new(tcp)));
        }
        let name = ServerName::try_from(host).map_err(|error| ConnectError::Tls(io::Error::other(error)))?;
        let handshake = TlsConnector::from(tls()).connect(name, tcp);
        let stream = tokio::time::timeout(self.tls, handshake)
            .await
            .map_err(|_| ConnectError::TlsTimeout(self.tls))?
            .map_err(ConnectError::Tls)?;
        Ok(Stream::Tls(Box::new(TokioIo::new(stream))))
    }
}

/// The first address of the name that can be reached: each is begun when the one before it has failed, or says nothing for a
/// while (RFC 8305). The last error if none can be.
async fn dial(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let mut addresses = tokio::net::lookup_host((host, port)).await.map_err(ConnectError::Resolve)?;
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
pub enum Stream {
    /// TCP alone.
    Plain(TokioIo<TcpStream>),
    /// TLS over TCP.
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_) => Connected::new(),
            Self::Tls(stream) => match stream.inner().get_ref().1.alpn_protocol() {
                Some(b"h2") => Connected::new().negotiated_h2(),
                _ => Connected::new(),
            },
        }
    }
}

/// Calls the same method of whichever stream it is.
macro_rules! either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Stream::Tls($stream) => {
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
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
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
