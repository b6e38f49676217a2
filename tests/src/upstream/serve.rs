//! The connections of a [`super::FakeUpstream`]: a thread each, which reads a request, remembers it, and does what was ordered.
//!
//! **Invariant:** whoever waits for anything looks again and again whether the client is still there.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::Seen;
use super::act::{Act, Fault, Gate};
use super::shape::Shape;

/// How often a server that waits looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(5);
/// Bytes at a time of an answer that dribbles.
const FEW: usize = 32;
/// What is no HTTP wherever it stands: not as a head, not in one, not as a chunk's length.
const GARBAGE: &[u8] = b"\0\x01 no HTTP at all\r\n\r\n";

/// What a server and its connections have in common.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) orders: Mutex<VecDeque<Act>>,
    pub(super) always: Mutex<Option<Act>>,
    /// Orders for requests that have this in their bodies or headers.
    pub(super) marked: Mutex<Vec<(String, Act)>>,
    pub(super) requests: Mutex<Vec<Seen>>,
    /// When a client was found to have left before its answer had ended.
    pub(super) departures: Mutex<Vec<Instant>>,
    pub(super) sockets: Mutex<HashMap<usize, TcpStream>>,
    pub(super) opened: AtomicUsize,
    /// Requests that are being answered.
    pub(super) active: AtomicUsize,
    /// Faults that answers have met.
    pub(super) faults: AtomicUsize,
    /// Bytes of answers' bodies that the system has taken.
    pub(super) sent: AtomicUsize,
    pub(super) stopped: AtomicBool,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    /// Answers the requests of one connection, one after the other.
    pub(super) fn serve(&self, stream: TcpStream) {
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
            let act = self.order(&request);
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

    /// What is to be done with a request: what was said of it, then what is next, then what is usual.
    fn order(&self, request: &Seen) -> Act {
        let is_meant = |mark: &str| {
            let in_body = request.body.windows(mark.len()).any(|window| window == mark.as_bytes());
            in_body || request.headers.iter().any(|(_, value)| value.contains(mark))
        };
        let marked = lock(&self.marked).iter().rev().find(|(mark, _)| is_meant(mark)).map(|(_, act)| act.clone());
        marked.or_else(|| lock(&self.orders).pop_front()).or_else(|| lock(&self.always).clone()).unwrap_or_default()
    }

    /// Answers one request. True: another one may follow on this connection. An error: the client has left.
    fn perform(&self, stream: &mut TcpStream, act: &Act, shape: &Shape) -> io::Result<bool> {
        self.wait(stream, act.delay)?;
        let (mut sent, mut portion) = (0, usize::MAX);
        let mut faults = shape.faults(act).into_iter().peekable();
        let pieces = std::iter::repeat_n(&shape.pieces, act.times).flatten();
        for (index, part) in std::iter::once(&shape.head).chain(pieces).enumerate() {
            if index > 1 {
                self.wait(stream, act.pace)?;
            }
            let (framed, mut rest) = (index > 0, &part[..]);
            while let Some((at, fault)) = faults.next_if(|(at, _)| *at <= sent + rest.len()) {
                let (now, later) = rest.split_at(at.saturating_sub(sent));
                self.write(stream, framed.then_some(shape), now, portion)?;
                sent += now.len();
                rest = later;
                self.faults.fetch_add(1, Ordering::SeqCst);
                match fault {
                    Fault::Cut => return Ok(false),
                    Fault::Reset => {
                        // The last close of the socket, which follows at once, is then a reset.
                        socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
                        return Ok(false);
                    }
                    Fault::Hold(gate) => self.hold(stream, &gate)?,
                    Fault::HalfOpen => {
                        stream.shutdown(Shutdown::Write)?;
                        self.hold(stream, &Gate::new())?;
                    }
                    Fault::Pause(time) => self.wait(stream, time)?,
                    Fault::Dribble => portion = FEW,
                    Fault::Garbage => {
                        stream.write_all(GARBAGE)?;
                        return Ok(false);
                    }
                    Fault::Event(event) => {
                        shape.write(stream, event.as_bytes())?;
                        shape.end(stream)?;
                        return Ok(shape.keep_alive);
                    }
                }
            }
            self.write(stream, framed.then_some(shape), rest, portion)?;
            sent += rest.len();
        }
        shape.end(stream)?;
        Ok(shape.keep_alive)
    }

    /// Sends bytes, so many at a time: of the head, or of the body as its shape frames them.
    fn write(&self, stream: &mut TcpStream, framed: Option<&Shape>, bytes: &[u8], portion: usize) -> io::Result<()> {
        for bytes in bytes.chunks(portion) {
            if portion == FEW {
                self.wait(stream, LOOK)?;
            }
            match framed {
                None => stream.write_all(bytes)?,
                Some(shape) => {
                    shape.write(stream, bytes)?;
                    self.sent.fetch_add(bytes.len(), Ordering::SeqCst);
                }
            }
        }
        Ok(())
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
pub(crate) fn read(reader: &mut impl BufRead) -> io::Result<Option<Seen>> {
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
