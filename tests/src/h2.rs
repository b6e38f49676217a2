//! A client that speaks HTTP/2, plain or over TLS, for what only HTTP/2 has: many requests on one connection, one of them
//! dropped alone, a server that says goodbye.
//!
//! **Invariant:** nothing moves on its connection but during a call: the runtime is the session's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// One connection.
pub struct Session {
    runtime: Runtime,
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<Result<(), hyper::Error>>,
}

/// An answer that has begun: its first bytes are here.
pub struct Begun {
    first: Bytes,
    rest: Incoming,
}

impl Session {
    /// A plain connection whose client knows beforehand that the server speaks HTTP/2.
    pub fn plain(address: SocketAddr) -> Self {
        Self::open(address, async move { TcpStream::connect(address).await.expect("the host accepts") })
    }

    /// A connection over TLS, where ALPN must have chosen HTTP/2.
    pub fn over_tls(config: &rustls::ClientConfig, address: SocketAddr, name: &str) -> Self {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
        let name = ServerName::try_from(name.to_owned()).expect("a server's name");
        Self::open(address, async move {
            let stream = TcpStream::connect(address).await.expect("the host accepts");
            let stream = connector.connect(name, stream).await.expect("the handshake succeeds");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            stream
        })
    }

    fn open<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(address: SocketAddr, stream: impl Future<Output = S>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
        let (sender, connection) = runtime.block_on(in_time(async {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream.await)).await.expect("HTTP/2 begins");
            (sender, tokio::spawn(connection))
        }));
        Self { runtime, address, sender, connection }
    }

    /// Asks for chat completions with these bodies, all at once; status and body of each answer.
    pub fn ask(&mut self, bodies: &[String]) -> Vec<(u16, String)> {
        let Self { runtime, address, sender, .. } = self;
        runtime.block_on(in_time(async {
            let mut answers = Vec::new();
            for body in bodies {
                sender.ready().await.expect("a stream is free");
                answers.push(sender.send_request(request(*address, body)));
            }
            let mut answered = Vec::new();
            for answer in answers {
                let answer = answer.await.expect("it is answered");
                assert_eq!(answer.version(), Version::HTTP_2);
                let status = answer.status().as_u16();
                let body = answer.into_body().collect().await.expect("the body comes whole").to_bytes();
                answered.push((status, String::from_utf8(body.to_vec()).expect("UTF-8")));
            }
            answered
        }))
    }

    /// Asks with this body, and waits for the answer's first bytes.
    pub fn begin(&mut self, body: &str) -> Begun {
        let Self { runtime, address, sender, .. } = self;
        runtime.block_on(in_time(async {
            sender.ready().await.expect("a stream is free");
            let mut rest = sender.send_request(request(*address, body)).await.expect("it is answered").into_body();
            let first = rest.frame().await.expect("it has a body").expect("the body begins").into_data().expect("data");
            Begun { first, rest }
        }))
    }

    /// Reads the rest of an answer: all of it.
    pub fn finish(&mut self, begun: Begun) -> String {
        let rest = self.runtime.block_on(in_time(begun.rest.collect())).expect("the body comes whole").to_bytes();
        String::from_utf8([begun.first, rest].concat()).expect("UTF-8")
    }

    /// Reads the rest of an answer; was its stream reset before its end?
    pub fn is_reset(&mut self, begun: Begun) -> bool {
        self.runtime.block_on(in_time(begun.rest.collect())).is_err()
    }

    /// Drops an answer: its stream is reset, the connection stays.
    pub fn leave(&mut self, begun: Begun) {
        drop(begun);
        self.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
    }

    /// Asks again and again and resets each stream at once; how often, until the server has had enough or `most` is reached.
    pub fn reset_at_once(&mut self, body: &str, most: usize) -> usize {
        let Self { runtime, address, sender, .. } = self;
        runtime.block_on(in_time(async {
            for count in 0..most {
                if sender.ready().await.is_err() {
                    return count;
                }
                let asked = sender.send_request(request(*address, body));
                // The connection's own task sends the head; then the reset is all that is left to send.
                tokio::task::yield_now().await;
                drop(asked);
            }
            most
        }))
    }

    /// Waits for the server to end the connection, as it ought to: with a goodbye and no error.
    pub fn is_ended(self) -> bool {
        let Self { runtime, sender, connection, .. } = self;
        let ended = runtime.block_on(in_time(connection));
        drop(sender);
        ended.is_ok_and(|ended| ended.is_ok())
    }
}

fn request(address: SocketAddr, body: &str) -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://{address}/v1/chat/completions")).header("content-type", "application/json");
    request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request")
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(crate::SOON, work).await.expect("HTTP/2 goes on in time")
}
