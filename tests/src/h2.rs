//! A client that speaks HTTP/2, plain or over TLS, for what only HTTP/2 has.
//!
//! **Invariant:** nothing of it outlives the call.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Status and body of one request's answer.
pub type Answered = (u16, String);

/// Sends requests for chat completions with these bodies, all at once, over one plain connection whose client knows beforehand
/// that the server speaks HTTP/2.
pub fn plain(address: SocketAddr, bodies: &[String]) -> Vec<Answered> {
    run(async {
        let stream = TcpStream::connect(address).await.expect("the host accepts");
        exchange(stream, address, bodies).await
    })
}

/// The same over TLS, where ALPN must have chosen HTTP/2.
pub fn over_tls(config: &rustls::ClientConfig, address: SocketAddr, name: &str, bodies: &[String]) -> Vec<Answered> {
    run(async {
        let stream = TcpStream::connect(address).await.expect("the host accepts");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config.clone()));
        let name = ServerName::try_from(name.to_owned()).expect("a server's name");
        let stream = connector.connect(name, stream).await.expect("the handshake succeeds");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        exchange(stream, address, bodies).await
    })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be had");
    runtime.block_on(async { tokio::time::timeout(crate::SOON, work).await.expect("HTTP/2 answers in time") })
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: SocketAddr,
    bodies: &[String],
) -> Vec<Answered> {
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2 begins");
    let driver = tokio::spawn(connection);
    let mut answers = Vec::new();
    for body in bodies {
        sender.ready().await.expect("a stream is free");
        let request = Request::post(format!("http://{address}/v1/chat/completions"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.clone())))
            .expect("a request");
        answers.push(sender.send_request(request));
    }
    let mut answered = Vec::new();
    for answer in answers {
        let answer = answer.await.expect("it is answered");
        assert_eq!(answer.version(), Version::HTTP_2);
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.expect("the body comes whole").to_bytes();
        answered.push((status, String::from_utf8(body.to_vec()).expect("UTF-8")));
    }
    driver.abort();
    answered
}
