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

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::eventually;
pub use act::{Act, Gate};
use act::{Fault, Shape};

/// How often a server that waits looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(5);

/// The server. Dropping it closes its connections.
pub struct FakeUpstream {
    address: SocketAddr,
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

#[derive(Default)]
struct Shared {
    orders: Mutex<VecDeque<Act>>,
    always: Mutex<Option<Act>>,
    requests: Mutex<Vec<Seen>>,
    /// When a client was found to have left before its answer had ended.
    departures: Mutex<Vec<Instant>>,
    sockets: Mutex<HashMap<usize, TcpStream>>,
    opened: AtomicUsize,
    /// Requests that are being answered.
    active: AtomicUsize,
    /// Bytes of answers' bodies that the system has taken.
    sent: AtomicUsize,
    stopped: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl FakeUpstream {
    /// Starts a server on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
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
        Self { address, shared }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, as it stands in a configuration.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
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

    /// How many requests are being answered now.
    pub fn active(&self) -> usize {
        self.shared.active.load(Ordering::SeqCst)
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
        // Wakes the accepting thread.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let id = self.opened.fetch_add(1, Ordering::SeqCst);
        if let Ok(clone) = stream.try_clone() {
            lock(&self.sockets).insert(id, clone);
        }
        // Whatever ends the connection: the test looks at the other side of it.
        let _ = self.converse(stream);
        lock(&self.sockets).remove(&id);
    }

    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read(&mut reader)? {
            let number = {
                let mut requests = lock(&self.requests);
                requests.push(request.clone());
                requests.len()
            };
            let act = lock(&self.orders).pop_front().or_else(|| lock(&self.always).clone()).unwrap_or_default();
            self.active.fetch_add(1, Ordering::SeqCst);
            let done = self.perform(&mut stream, &act, &act.shape(&request, number));
            self.active.fetch_sub(1, Ordering::SeqCst);
            match done {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    lock(&self.departures).push(Instant::now());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Answers one request. True: another one may follow on this connection. An error: the client has left.
    fn perform(&self, stream: &mut TcpStream, act: &Act, shape: &Shape) -> io::Result<bool> {
        self.wait(stream, act.delay)?;
        stream.write_all(&shape.head)?;
        let mut sent = 0;
        let mut faults = act.faults.iter();
        let mut next = faults.next();
        let pieces = std::iter::repeat_n(&shape.pieces, act.times).flatten();
        for (index, piece) in pieces.enumerate() {
            if index > 0 {
                self.wait(stream, act.pace)?;
            }
            let mut rest = &piece[..];
            while let Some((_, fault)) = next.filter(|(at, _)| *at <= sent + rest.len()) {
                let (now, later) = rest.split_at(next.map_or(0, |(at, _)| at.saturating_sub(sent)));
                sent += self.write(stream, shape, now)?;
                rest = later;
                match fault {
                    Fault::Cut => return Ok(false),
                    Fault::Reset => {
                        // The last close of the socket, which follows at once, is then a reset.
                        socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
                        return Ok(false);
                    }
                    Fault::Hold(gate) => self.hold(stream, gate)?,
                }
                next = faults.next();
            }
            sent += self.write(stream, shape, rest)?;
        }
        shape.end(stream)?;
        Ok(shape.keep_alive)
    }

    fn write(&self, stream: &mut TcpStream, shape: &Shape, bytes: &[u8]) -> io::Result<usize> {
        shape.write(stream, bytes)?;
        self.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        Ok(bytes.len())
    }

    /// Waits for a gate, or for the client to leave.
    fn hold(&self, stream: &TcpStream, gate: &Gate) -> io::Result<()> {
        while !gate.is_open() {
            self.is_there(stream)?;
        }
        stream.set_read_timeout(None)
    }

    fn wait(&self, stream: &TcpStream, time: Duration) -> io::Result<()> {
        let ends = Instant::now() + time;
        while Instant::now() < ends {
            self.is_there(stream)?;
        }
        stream.set_read_timeout(None)
    }

    /// Looks for [`LOOK`] whether the client is still there.
    fn is_there(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(LOOK))?;
        match stream.peek(&mut [0]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {
                std::thread::sleep(LOOK);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Reads one request. None: the client closed before another began.
fn read(reader: &mut impl BufRead) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut seen = Seen { line: line.trim_end().to_owned(), headers, body: Vec::new() };
    let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    seen.body.resize(length, 0);
    reader.read_exact(&mut seen.body)?;
    Ok(Some(seen))
}
