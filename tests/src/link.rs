//! A TCP relay in front of a server, for what a network does: delay, throttle, cut, reset, swallow.
//!
//! What it does not do: it understands nothing of what it passes; [`crate::FakeUpstream`] has the faults that speak HTTP.
//!
//! **Invariant:** faults are of the way back, from the server to the client; the way there is open until something [`Stop`]s it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// What goes wrong. Faults are taken up by connections as they are when bytes pass, so they can be changed while one is open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Each portion waits this long.
    pub delay: Duration,
    /// Bytes a second; none: as fast as it goes.
    pub bytes_per_second: Option<usize>,
    /// After so many bytes on a connection it is closed.
    pub cut_at: Option<usize>,
    /// After so many bytes on a connection it is reset.
    pub reset_at: Option<usize>,
    /// Accepts and passes nothing, in either direction.
    pub black_hole: bool,
    /// The way there ends, and the server never hears of it.
    pub stop: Option<Stop>,
}

impl Weather {
    /// Nobody is there: a connection is reset as soon as it is made, one that is open as soon as anything comes back.
    pub fn dead() -> Self {
        Self { stop: Some(Stop { after: 0, then: Then::Reset }), reset_at: Some(0), ..Self::default() }
    }
}

/// The end of the way there.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Bytes from the client that are read, and no more.
    pub after: usize,
    /// What the client gets.
    pub then: Then,
}

/// What a client gets that was stopped.
#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// Nothing.
    Silence,
    /// The end of the connection; a reset, as the system has it, if there was more to read.
    Close,
    /// A reset.
    Reset,
    /// The end of the way back alone.
    HalfOpen,
    /// These bytes, on a connection that stays open.
    Says(&'static str),
}

/// The relay. Dropping it stops accepting; open connections end with their ends.
pub struct FaultLink {
    addresses: Vec<SocketAddr>,
    sky: Arc<Sky>,
}

/// What a link's connections have in common.
#[derive(Default)]
struct Sky {
    weather: Mutex<Weather>,
    /// The weather of the next connections, one each.
    next: Mutex<VecDeque<Weather>>,
    /// The clients' ends of the connections.
    clients: Mutex<HashMap<usize, TcpStream>>,
    opened: AtomicUsize,
    stopped: AtomicBool,
}

/// How long somebody who was stopped in the middle waits for more than nothing: longer than any bound of a test.
const STANDS: Duration = Duration::from_secs(4);

impl FaultLink {
    /// A relay to a server, in fair weather.
    pub fn to(server: SocketAddr) -> Self {
        Self::to_each(&[server])
    }

    /// A relay to each of these servers, under one sky.
    pub fn to_each(servers: &[SocketAddr]) -> Self {
        let sky = Arc::new(Sky::default());
        let addresses = servers.iter().map(|server| open(*server, &sky)).collect();
        Self { addresses, sky }
    }

    /// The base URL of the (first) server behind it.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.addresses[0])
    }

    /// Where it listens, for each server.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// From now on the weather is this.
    pub fn set(&self, weather: Weather) {
        *lock(&self.sky.weather) = weather;
    }

    /// The weather of the next connection that has none of its own yet, to whichever server.
    pub fn next(&self, weather: Weather) {
        lock(&self.sky.next).push_back(weather);
    }

    /// Closes the connections that are open, whatever passes on them, and says how many; those that come are none of its concern.
    pub fn cut(&self) -> usize {
        let clients = lock(&self.sky.clients);
        for client in clients.values() {
            let _ = client.shutdown(Shutdown::Both);
        }
        clients.len()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.sky.opened.load(Ordering::SeqCst)
    }
}

impl Drop for FaultLink {
    fn drop(&mut self) {
        self.sky.stopped.store(true, Ordering::SeqCst);
        for address in &self.addresses {
            let _ = TcpStream::connect_timeout(address, Duration::from_secs(1));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

fn open(server: SocketAddr, sky: &Arc<Sky>) -> SocketAddr {
    // Little room for what nobody reads, so that a client notices.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket can be had");
    socket.set_recv_buffer_size(16 << 10).expect("a buffer can be small");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port is free");
    socket.listen(128).expect("it can listen");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("it is bound");
    let sky = sky.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            if sky.stopped.load(Ordering::SeqCst) {
                return;
            }
            let id = sky.opened.fetch_add(1, Ordering::SeqCst);
            let sky = sky.clone();
            std::thread::spawn(move || relay(id, client, server, &sky));
        }
    });
    address
}

fn relay(id: usize, client: TcpStream, server: SocketAddr, sky: &Sky) {
    let own = lock(&sky.next).pop_front();
    let now = || own.unwrap_or_else(|| *lock(&sky.weather));
    if let Some(stop) = now().stop {
        // Whatever ends it: the test looks at the other side.
        let _ = stopped(&client, stop, &sky.stopped);
        return;
    }
    if now().black_hole {
        // Read until the client gives up: a swallowed packet is no closed connection.
        let mut hole = [0; 1024];
        while matches!((&client).read(&mut hole), Ok(1..)) {}
        return;
    }
    let Ok(server) = TcpStream::connect(server) else { return };
    if let Ok(clone) = client.try_clone() {
        lock(&sky.clients).insert(id, clone);
    }
    let pair = || -> io::Result<_> { Ok((client.try_clone()?, server.try_clone()?)) };
    let Ok((from, to)) = pair() else { return };
    let there = std::thread::spawn(move || {
        let _ = io::copy(&mut &from, &mut &to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let reset = back(&server, &client, now).unwrap_or(false);
    // Whoever holds a socket keeps it from being reset.
    lock(&sky.clients).remove(&id);
    if reset {
        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(Shutdown::Read);
    } else {
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }
    let _ = there.join();
}

/// Reads what is allowed, and does what follows.
fn stopped(mut client: &TcpStream, stop: Stop, over: &AtomicBool) -> io::Result<()> {
    client.read_exact(&mut vec![0; stop.after])?;
    match stop.then {
        Then::Close => return Ok(()),
        Then::Reset => return socket2::SockRef::from(client).set_linger(Some(Duration::ZERO)),
        Then::Silence => {}
        Then::HalfOpen => client.shutdown(Shutdown::Write)?,
        Then::Says(bytes) => client.write_all(bytes.as_bytes())?,
    }
    if stop.after == 0 {
        io::copy(&mut client, &mut io::sink())?;
        return Ok(());
    }
    // To read on would be to let the request go on.
    let ends = Instant::now() + STANDS;
    while Instant::now() < ends && !over.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// From the server to the client. True: what follows is a reset.
fn back(mut server: &TcpStream, mut client: &TcpStream, now: impl Fn() -> Weather) -> io::Result<bool> {
    let mut passed = 0;
    let mut piece = [0; 4096];
    loop {
        let count = server.read(&mut piece)?;
        if count == 0 {
            return Ok(false);
        }
        let weather = now();
        std::thread::sleep(weather.delay);
        if let Some(rate) = weather.bytes_per_second {
            std::thread::sleep(Duration::from_secs_f64(count as f64 / rate as f64));
        }
        let end = weather.cut_at.into_iter().chain(weather.reset_at).min().unwrap_or(usize::MAX);
        let allowed = count.min(end.saturating_sub(passed));
        client.write_all(&piece[..allowed])?;
        passed += allowed;
        if passed >= end {
            return Ok(weather.reset_at == Some(end));
        }
    }
}
