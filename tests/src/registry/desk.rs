//! A server that answers what a test says to each request, and remembers who asked what: a registry's front, its token service, the place where
//! its blobs lie.
//!
//! What it does not do: it knows nothing of registries, speaks HTTP/1.1 without TLS, and one request a connection.
//!
//! **Invariant:** whatever it was asked is in [`Desk::asked`], in the order in which it came.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    times: usize,
}

impl Reply {
    /// With a body.
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), times: 1, ..Self::default() }
    }

    /// With a header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the body so many times.
    #[must_use]
    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Elsewhere.
    pub fn elsewhere(place: &str) -> Self {
        Self::new(307, "").header("location", place)
    }

    fn write(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = self.body.len() * self.times;
        write!(stream, "HTTP/1.1 {} So\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n", self.status)?;
        (0..self.times).try_for_each(|_| stream.write_all(&self.body))
    }
}

/// The server. Dropping it ends it.
pub struct Desk {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopped: Arc<AtomicBool>,
}

impl Desk {
    /// Starts one on a free port of loopback.
    pub fn start(answer: impl Fn(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (asked, stopped) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicBool>::default());
        let (seen, ended) = (asked.clone(), stopped.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
                let Some(request) = read(&stream) else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
                // Whoever has heard enough leaves in the middle.
                let _ = answer(&request).write(&mut stream);
            }
        });
        Self { address, asked, stopped }
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let header = |line: String| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let headers = lines.take_while(|line| !line.is_empty()).filter_map(header).collect();
    Some(Asked { path, headers })
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}
