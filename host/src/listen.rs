//! The listener: accepts connections, bounds how many and how long, and hands requests to whoever answers them.
//!
//! hyper alone leaves a connection open for ever that says nothing, sends one byte, or dribbles its body. The deadlines
//! against that are here and in `http`: one from accept to the first request, one for an idle connection, two for a body.
//!
//! What it does not do: it knows no path and no key.
//!
//! **Invariant:** a connection that has sent no whole request head within `first_request` of being accepted is closed, TLS
//! handshake included.
//! **Invariant:** an error at accept never ends the loop and never makes it spin.

mod answers;
pub mod body;
pub mod crowd;
pub mod drain;
pub mod guard;
mod http;
#[cfg(test)]
mod panics;
mod socket;
pub mod tls;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{Request, Response};
use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

pub use body::{BodyError, RequestBody};
use crowd::{Crowd, Seat};
pub use drain::Drain;
use socket::Socket;

/// Where to listen, and what a connection may do.
pub struct Options {
    /// IP address and port.
    pub address: SocketAddr,
    /// From accept to the first complete request head; covers the TLS handshake.
    pub first_request: Duration,
    /// To read one request head; also how long an idle connection stays open.
    pub header_read: Duration,
    /// Between two pieces of a request body.
    pub body_idle: Duration,
    /// For a whole request body.
    pub body_total: Duration,
    /// For which a client may take nothing of an answer that waits for it.
    pub write_idle: Duration,
    /// Bytes of a request body.
    pub max_body: usize,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one address, or from one /64 of IPv6.
    pub max_connections_per_address: usize,
    /// Who goes where `max_connections` are open and another one comes; none: the other one.
    pub crowd: Option<Arc<Crowd>>,
    /// TLS; none: plain HTTP.
    pub tls: Option<Arc<tls::Reloading>>,
    /// What is counted.
    pub counters: Arc<Counters>,
}

impl Options {
    /// The defaults of the configuration.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            first_request: Duration::from_secs(5),
            header_read: Duration::from_secs(30),
            body_idle: Duration::from_secs(10),
            body_total: Duration::from_secs(60),
            write_idle: Duration::from_secs(60),
            max_body: 32 << 20,
            max_headers: 64,
            max_connections: 10_000,
            max_connections_per_address: 1_000,
            crowd: None,
            tls: None,
            counters: Arc::default(),
        }
    }
}

/// What is counted about connections.
#[derive(Debug, Default)]
pub struct Counters {
    /// Taken in.
    pub accepted: AtomicU64,
    /// Closed at accept: too many in all.
    pub refused_global: AtomicU64,
    /// Closed at accept: too many from one address.
    pub refused_per_address: AtomicU64,
    /// Closed because no request came.
    pub first_request_timeouts: AtomicU64,
    /// Open now.
    pub open: AtomicU64,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place among those that may be open.
struct Place {
    counters: Arc<Counters>,
    address: IpAddr,
    seat: Option<Arc<Seat>>,
}

impl Place {
    fn take(options: &Options, address: IpAddr) -> Option<Self> {
        let address = network(address);
        let counters = &options.counters;
        let makes_room = || options.crowd.as_ref().is_some_and(|crowd| crowd.make_room());
        if counters.open.fetch_add(1, Ordering::Relaxed) >= options.max_connections as u64 && !makes_room() {
            counters.open.fetch_sub(1, Ordering::Relaxed);
            counters.refused_global.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let taken = counters.by_address.lock().is_ok_and(|mut all| {
            let count = all.entry(address).or_default();
            let free = *count < options.max_connections_per_address;
            *count += usize::from(free);
            free
        });
        if !taken {
            counters.open.fetch_sub(1, Ordering::Relaxed);
            counters.refused_per_address.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        Some(Self { counters: counters.clone(), address, seat: options.crowd.as_ref().map(Crowd::sit) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
        if let Ok(mut all) = self.counters.by_address.lock()
            && let Some(count) = all.get_mut(&self.address)
        {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Whom an address stands for: whoever has one of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// The other end of the connection.
    pub address: SocketAddr,
    /// Came over TLS.
    pub secure: bool,
    /// The core that serves it.
    pub worker: usize,
}

/// What answers requests. If the client leaves, the future is dropped.
pub trait Handler: Send + Sync + 'static {
    /// The body of an answer.
    type Body: http_body::Body<Data = Bytes, Error = Box<dyn std::error::Error + Send + Sync>> + Send + Unpin + 'static;

    /// Answers one request.
    fn handle(self: Arc<Self>, request: Request<RequestBody>, peer: Peer) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// One socket per worker on the same address (SO_REUSEPORT): the kernel shares connections out, and no core wakes another.
///
/// # Errors
/// What the system says.
pub fn bind(mut address: SocketAddr, workers: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if address.port() == 0 {
        // A free one, chosen by a socket that shares with nobody: among those that share, the system may choose one in use.
        address.set_port(std::net::TcpListener::bind(address)?.local_addr()?.port());
    }
    let mut sockets = Vec::with_capacity(workers);
    for _ in 0..workers {
        let domain = if address.is_ipv4() { socket2::Domain::IPV4 } else { socket2::Domain::IPV6 };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

/// Accepts until a drain begins, then waits until this core's connections have ended or the grace is over.
pub async fn serve<H: Handler>(listener: TcpListener, options: Arc<Options>, handler: Arc<H>, drain: Drain, worker: usize) {
    let listening = drain.hold();
    loop {
        let accepted = tokio::select! {
            biased;
            () = drain.begun() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let Some(place) = Place::take(&options, address.ip()) else { continue };
                let connection = connect(stream, address, worker, place, options.clone(), handler.clone(), drain.clone());
                drain.spawn(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of descriptors, usually: give the open ones time to close.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // Connections that the kernel has already taken in for this socket would be reset with it: they are answered, too. The system
    // is asked: the runtime knows of those alone that it has been told of when it last looked.
    match listener.into_std() {
        Ok(listener) => {
            while let Ok((stream, address)) = listener.accept() {
                let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                let (Ok(stream), Some(place)) = (stream, Place::take(&options, address.ip())) else { continue };
                drain.spawn(connect(stream, address, worker, place, options.clone(), handler.clone(), drain.clone()));
            }
        }
        Err(error) => tracing::warn!(%error, "connections that nobody had accepted yet are lost"),
    }
    drop(listening);
    drain.ended().await;
}

async fn connect<H: Handler>(
    stream: TcpStream,
    address: SocketAddr,
    worker: usize,
    place: Place,
    options: Arc<Options>,
    handler: Arc<H>,
    drain: Drain,
) {
    let first = tokio::time::Instant::now() + options.first_request;
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a connection broke at once");
    }
    let peer = Peer { address, secure: options.tls.is_some(), worker };
    let (socket, watch) = Socket::new(stream);
    match &options.tls {
        None => http::serve(socket, (&watch, place.seat.as_ref()), peer, first, &options, handler, &drain).await,
        Some(tls) => match tokio::time::timeout_at(first, tls.accept(socket)).await {
            Ok(Ok(stream)) => {
                // Boxed: who comes without TLS does not carry what it needs.
                Box::pin(http::serve(stream, (&watch, place.seat.as_ref()), peer, first, &options, handler, &drain)).await;
            }
            Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
            Err(_) => {
                options.counters.first_request_timeouts.fetch_add(1, Ordering::Relaxed);
            }
        },
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        for (one, other, same) in [
            ("2001:db8::1", "2001:db8::ffff:2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
            ("10.0.0.1", "::ffff:10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
        ] {
            assert_eq!(network(one.parse().unwrap()) == network(other.parse().unwrap()), same, "{one} {other}");
        }
    }
}
