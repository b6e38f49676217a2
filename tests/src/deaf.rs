//! Addresses where nobody opens the door. [`Deaf`] is a listener whose queue is full: who connects waits for as long as the system
//! lets them, which is what a host that is down, or a firewall that drops packets, looks like. [`Nobody`] refuses at once, as a host
//! does on which the server has ended.
//!
//! What they do not do: they never accept. A plain `TcpListener` that nobody accepts from is the other kind of silence: there
//! the system shakes hands, and nobody speaks.
//!
//! **Invariant:** a [`Deaf`] is full when [`Deaf::new`] returns, and the port of either is its own for as long as it lives: a test
//! beside it never gets it.

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
        let (listener, address) = bound();
        listener.listen(0).expect("it can listen");
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

/// A port that is taken, and at which nobody listens.
pub struct Nobody {
    address: SocketAddr,
    _socket: Socket,
}

impl Nobody {
    /// Takes a free port.
    pub fn new() -> Self {
        let (socket, address) = bound();
        Self { address, _socket: socket }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

impl Default for Nobody {
    fn default() -> Self {
        Self::new()
    }
}

/// A socket with a free port of loopback, which does not listen yet.
fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be had");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port is free");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("it is bound");
    (socket, address)
}
