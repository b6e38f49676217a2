//! A TCP relay in front of a server, for what a network does: delay, throttle, cut, reset, swallow.
//!
//! What it does not do: it understands nothing of what it passes; [`crate::FakeUpstream`] has the faults that speak HTTP.
//!
//! **Invariant:** faults are of the way back, from the server to the client; the way there is always open, unless all is
//! swallowed.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
    /// Nobody is there: a connection is reset as soon as it is made, one that is open as soon as anything comes back.
    pub dead: bool,
}

impl Weather {
    /// Nobody is there.
    pub fn dead() -> Self {
        Self { dead: true, ..Self::default() }
    }
}

/// The relay. Dropping it stops accepting; open connections end with their ends.
pub struct FaultLink {
    address: SocketAddr,
    weather: Arc<Mutex<Weather>>,
    stopped: Arc<AtomicBool>,
}

impl FaultLink {
    /// A relay to a server, in fair weather.
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let weather = Arc::new(Mutex::new(Weather::default()));
        let stopped = Arc::new(AtomicBool::new(false));
        let (current, ended) = (weather.clone(), stopped.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let weather = current.clone();
                std::thread::spawn(move || relay(client, server, &weather));
            }
        });
        Self { address, weather, stopped }
    }

    /// The base URL of the server behind it.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the weather is this.
    pub fn set(&self, weather: Weather) {
        *self.weather.lock().expect("nobody panics with it") = weather;
    }
}

impl Drop for FaultLink {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

fn relay(client: TcpStream, server: SocketAddr, weather: &Arc<Mutex<Weather>>) {
    let now = || *weather.lock().expect("nobody panics with it");
    if now().dead {
        let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
        return;
    }
    if now().black_hole {
        // Read until the client gives up: a swallowed packet is no closed connection.
        let mut hole = [0; 1024];
        while matches!((&client).read(&mut hole), Ok(1..)) {}
        return;
    }
    let Ok(server) = TcpStream::connect(server) else { return };
    let pair = || -> io::Result<_> { Ok((client.try_clone()?, server.try_clone()?)) };
    let Ok((from, to)) = pair() else { return };
    let there = std::thread::spawn(move || {
        let _ = io::copy(&mut &from, &mut &to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let reset = back(&server, &client, now).unwrap_or(false);
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
        if weather.dead {
            return Ok(true);
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
