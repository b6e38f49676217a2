//! Connections that an upstream closes just as a request comes: who has not been served is served elsewhere or again, and no client
//! hears of it.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tests::{Connection, Host};

/// For how long an idle connection is kept at most, in microseconds: about as long as clients pause.
const PATIENCE_US: u64 = 3_000;

/// A server that answers, and closes each connection that is idle after a time that nobody could know.
struct Impatient {
    address: SocketAddr,
    closed: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Impatient {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (closed, stopped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counter, over) = (closed.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok).take_while(|_| !over.load(Ordering::SeqCst)) {
                let counter = counter.clone();
                std::thread::spawn(move || {
                    // However it ends: the clients are looked at.
                    let _ = serve(stream);
                    counter.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, closed, stopped }
    }
}

impl Drop for Impatient {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    const BODY: &str = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}"#;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    // A new connection's first request is waited for, as servers do.
    let mut patience = tests::SOON;
    loop {
        // What comes after this is not read: the connection is closed with it in the system's hands, which resets it.
        stream.set_read_timeout(Some(patience))?;
        let mut first = [0];
        if reader.read(&mut first)? == 0 {
            return Ok(());
        }
        stream.set_read_timeout(Some(tests::SOON))?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            reader.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
        reader.read_exact(&mut vec![0; length])?;
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}", BODY.len())?;
        patience = Duration::from_micros(fastrand::u64(1..PATIENCE_US));
    }
}

#[test]
fn idle_connections_that_are_closed_as_a_request_comes() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 250;
    let servers = [Impatient::start(), Impatient::start()];
    let host = servers.iter().fold(Host::new(), |host, server| host.endpoint(format!("http://{}/v1", server.address)));
    let host = host.start();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::open(host.address);
                for turn in 0..REQUESTS {
                    let answer = connection.exchange(&host.ask("hi").bytes()).unwrap();
                    assert_eq!((answer.status, answer.whole), (200, true), "turn {turn}: {}", answer.text());
                    std::thread::sleep(Duration::from_micros(fastrand::u64(0..2 * PATIENCE_US)));
                }
            });
        }
    });
    let closed: usize = servers.iter().map(|server| server.closed.load(Ordering::SeqCst)).sum();
    let retries = host.metrics().sum("pointsman_retries_total", &[]);
    println!("{} requests, {closed} connections closed, {retries} tries beyond the first", CLIENTS * REQUESTS);
    assert!(closed > 50, "{closed}");
    assert!(retries <= 5.0, "a connection that the server closes is no failure: {retries}");
}
