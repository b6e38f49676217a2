//! A model server that does what a test tells it to: answers, streams, stalls, resets, cuts, lies, refuses; and remembers what
//! it was sent, byte for byte.
//!
//! Requests without an order get a deterministic answer that counts: a test can tell the second answer from the first played
//! back. Orders given with [`FakeUpstream::next`] are used up one a request, in their order.
//!
//! What it does not do: it speaks HTTP/1.1 alone, and checks nothing of what it is sent.
//!
//! **Invariant:** everything that it was sent is in [`FakeUpstream::requests`], also what it answered badly.

mod act;
mod completion;
pub(crate) mod serve;
mod shape;

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::eventually;
pub use act::{Act, Fault, Gate, Place};
use serve::{Shared, lock};

/// The server. Dropping it closes its connections.
pub struct FakeUpstream {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The request line.
    pub line: String,
    /// Names in lower case, in the order in which they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Seen {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the host sends JSON")
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the host sends UTF-8")
    }
}

impl FakeUpstream {
    /// Starts a server on a free port.
    pub fn start() -> Self {
        Self::with_doors(1)
    }

    /// Starts a server on several ports, all with one memory and one list of orders: whichever is asked first gets the first order.
    /// The `host` of a request says which it was.
    pub fn with_doors(count: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let addresses = (0..count).map(|_| open(&shared)).collect();
        Self { addresses, shared }
    }

    /// Host and port, of the first door.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Host and port of each door.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The base URL, as it stands in a configuration.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address())
    }

    /// What the next request that has no order yet is to get.
    pub fn next(&self, act: Act) -> &Self {
        lock(&self.shared.orders).push_back(act);
        self
    }

    /// What every request without an order of its own is to get from now on.
    pub fn always(&self, act: Act) -> &Self {
        *lock(&self.shared.always) = Some(act);
        self
    }

    /// What every request with this in its body or a header is to get; the newest order counts.
    pub fn when(&self, mark: &str, act: Act) -> &Self {
        lock(&self.shared.marked).push((mark.to_owned(), act));
        self
    }

    /// Everything that it was sent so far.
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.shared.requests).clone()
    }

    /// The last request.
    pub fn last(&self) -> Seen {
        self.requests().pop().expect("there was a request")
    }

    /// How many requests there were.
    pub fn count(&self) -> usize {
        lock(&self.shared.requests).len()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.opened.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn open(&self) -> usize {
        lock(&self.shared.sockets).len()
    }

    /// How many requests are being answered now.
    pub fn active(&self) -> usize {
        self.shared.active.load(Ordering::SeqCst)
    }

    /// How many faults its answers have met so far.
    pub fn faults(&self) -> usize {
        self.shared.faults.load(Ordering::SeqCst)
    }

    /// How many bytes of answers' bodies have been sent, as far as the system has taken them.
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, count: usize) {
        eventually(&format!("{count} requests upstream"), || (self.count() >= count).then_some(()));
    }

    /// Waits until so many clients have left before the end, and says when the last of them was missed.
    pub fn wait_for_departures(&self, count: usize) -> Instant {
        eventually(&format!("{count} departures upstream"), || lock(&self.shared.departures).get(count - 1).copied())
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for socket in lock(&self.shared.sockets).values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // Wakes the accepting threads.
        for address in &self.addresses {
            let _ = TcpStream::connect_timeout(address, Duration::from_secs(1));
        }
    }
}

/// Accepts connections on a free port, each served by a thread of its own.
fn open(shared: &Arc<Shared>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let serving = shared.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            if serving.stopped.load(Ordering::SeqCst) {
                return;
            }
            let shared = serving.clone();
            std::thread::spawn(move || shared.serve(stream));
        }
    });
    address
}
