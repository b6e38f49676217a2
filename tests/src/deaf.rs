//! An address where nobody answers the door: a listener whose queue is full. Who connects waits for as long as the system lets
//! them, which is what a host that is down, or a firewall that drops packets, looks like.
//!
//! What it does not do: it never accepts. A plain `TcpListener` that nobody accepts from is the other kind of silence: there
//! the system shakes hands, and nobody speaks.
//!
//! **Invariant:** it is full when [`Deaf::new`] returns.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// The listener, and the connections that fill its queue.
pub struct Deaf {
    address: SocketAddr,
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl Deaf {
    /// Starts to listen on a free port, and fills the queue.
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be had");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port is free");
        listener.listen(0).expect("it can listen");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queue.push(stream);
            assert!(queue.len() < 64, "the queue has no end");
        }
        Self { address, _listener: listener, _queue: queue }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Default for Deaf {
    fn default() -> Self {
        Self::new()
    }
}
