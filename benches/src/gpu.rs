//! A pool of model servers with a bound on what they do at a time: so many slots each, and a line before them, as GPU servers have.
//!
//! A request waits for a slot, then for its first event, then says the rest; it holds its slot until then. Some requests may
//! straggle: their first event takes much longer, for no reason that anybody could see before. Whoever leaves before the first event
//! gives the slot back at once.
//!
//! What it does not do: it does not become slower with the number of requests that are at work (tests/src/fleet.rs models that).
//!
//! **Invariant:** it listens on loopback alone.
//! **Invariant:** every request that was read whole is counted, whatever becomes of it.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::schedule::Random;
use crate::upstream::Peer;

/// The kernel rounds the time for which a socket waits up to its own tick, at most this.
const TICK: Duration = Duration::from_millis(10);
const STACK: usize = 128 << 10;

/// What the servers of a pool are like.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Requests at a time at one server; the others wait there.
    pub slots: usize,
    /// From slot to first event: at least this,
    pub first: Duration,
    /// and this more in the mean, by an exponential distribution.
    pub spread: Duration,
    /// The share of requests whose first event comes after `straggle`.
    pub stragglers: f64,
    /// See `stragglers`.
    pub straggle: Duration,
    /// Further events in the mean; exactly so many, or by an exponential distribution where they are `varied`.
    pub events: u32,
    /// See `events`.
    pub varied: bool,
    /// Pause before each of these.
    pub pause: Duration,
}

impl Model {
    /// Requests a second of one server that is never idle.
    pub fn capacity(&self) -> f64 {
        let usual = (self.first + self.spread).mul_f64(1.0 - self.stragglers) + self.straggle.mul_f64(self.stragglers);
        self.slots as f64 / (usual + self.pause * self.events).as_secs_f64()
    }

    /// What one request is to get: time to the first event, whether it straggles, further events.
    fn draw(&self, random: &mut Random) -> (Duration, bool, u32) {
        let straggles = random.unit() <= self.stragglers;
        let first = if straggles { self.straggle } else { self.first + self.spread.mul_f64(-random.unit().ln()) };
        let events = if self.varied { (f64::from(self.events) * -random.unit().ln()).round() as u32 } else { self.events };
        (first, straggles, events)
    }
}

/// What became of requests.
#[derive(Debug, Default)]
pub struct Counters {
    /// Read whole.
    pub asked: AtomicU64,
    /// Left before their first event though they did not straggle.
    pub left: AtomicU64,
    /// Left before their first event, which was late.
    pub left_late: AtomicU64,
}

/// A pool.
#[derive(Debug)]
pub struct Pool {
    /// Where its servers listen.
    pub addresses: Vec<SocketAddr>,
    /// What became of all their requests.
    pub counters: Arc<Counters>,
}

impl Pool {
    /// Starts so many servers, in threads that end with the process.
    ///
    /// # Errors
    /// When there is no port, or no thread.
    pub fn start(servers: usize, model: Model, seed: u64) -> io::Result<Self> {
        let counters = Arc::<Counters>::default();
        let mut addresses = Vec::with_capacity(servers);
        for place in 0..servers {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            addresses.push(listener.local_addr()?);
            let random = Mutex::new(Random(seed.wrapping_add(place as u64)));
            let server = Arc::new(Server { model, random, slots: Slots::new(model.slots), counters: counters.clone() });
            std::thread::Builder::new().spawn(move || server.accept(&listener))?;
        }
        Ok(Self { addresses, counters })
    }
}

struct Server {
    model: Model,
    random: Mutex<Random>,
    slots: Slots,
    counters: Arc<Counters>,
}

impl Server {
    fn accept(self: Arc<Self>, listener: &TcpListener) -> io::Result<()> {
        loop {
            let (stream, _) = listener.accept()?;
            let server = self.clone();
            std::thread::Builder::new().stack_size(STACK).spawn(move || {
                // The client left: that is how connections end.
                let _ = server.serve(stream);
            })?;
        }
    }

    fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut peer = Peer::new(stream);
        while peer.asks()? {
            self.counters.asked.fetch_add(1, Ordering::Relaxed);
            let slot = self.slots.enter();
            let (first, straggles, events) = self.model.draw(&mut lock(&self.random));
            if is_left(&mut peer, first)? {
                let counter = if straggles { &self.counters.left_late } else { &self.counters.left };
                counter.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
            peer.begin()?;
            peer.go_on(events, self.model.pause)?;
            drop(slot);
        }
        Ok(())
    }
}

/// Waits exactly so long, or until the client has left, which is true.
fn is_left(peer: &mut Peer, time: Duration) -> io::Result<bool> {
    let ends = Instant::now() + time;
    if let Some(coarse) = time.checked_sub(TICK).filter(|coarse| !coarse.is_zero())
        && peer.hold(coarse)?
    {
        return Ok(true);
    }
    std::thread::sleep(ends.saturating_duration_since(Instant::now()));
    Ok(false)
}

/// Slots, given out in the order in which they were asked for.
struct Slots {
    state: Mutex<Line>,
    changed: Condvar,
}

struct Line {
    free: usize,
    next: u64,
    waiting: VecDeque<u64>,
}

struct Slot<'a>(&'a Slots);

impl Slots {
    fn new(free: usize) -> Self {
        Self { state: Mutex::new(Line { free, next: 0, waiting: VecDeque::new() }), changed: Condvar::new() }
    }

    fn enter(&self) -> Slot<'_> {
        let mut line = lock(&self.state);
        let own = line.next;
        line.next += 1;
        line.waiting.push_back(own);
        let is_behind = |line: &mut Line| line.free == 0 || line.waiting.front() != Some(&own);
        let mut line = self.changed.wait_while(line, is_behind).unwrap_or_else(PoisonError::into_inner);
        line.free -= 1;
        line.waiting.pop_front();
        self.changed.notify_all();
        Slot(self)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).free += 1;
        self.0.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Template;
    use crate::upstream::Wish;
    use crate::wire::Connection;

    const MODEL: Model = Model {
        slots: 1,
        first: Duration::from_millis(40),
        spread: Duration::ZERO,
        stragglers: 0.0,
        straggle: Duration::from_secs(60),
        events: 4,
        varied: false,
        pause: Duration::from_millis(10),
    };

    fn ask(address: SocketAddr) -> Connection {
        let mut connection = Connection::open(address).unwrap();
        connection.send(Template::new(address, Some(&Wish::default())).numbered(1)).unwrap();
        connection
    }

    #[test]
    fn who_comes_later_waits_for_the_slot() {
        let pool = Pool::start(1, MODEL, 1).unwrap();
        assert_eq!(MODEL.capacity().round(), 13.0, "80 ms a request");
        let began = Instant::now();
        let asked: Vec<_> = (0..3).map(|_| ask(pool.addresses[0])).collect();
        for mut connection in asked {
            assert!(connection.answer().unwrap().done);
        }
        assert!(began.elapsed() >= Duration::from_millis(240), "{:?}", began.elapsed());
        assert_eq!(pool.counters.asked.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn who_leaves_gives_the_slot_back() {
        let pool = Pool::start(1, Model { stragglers: 0.5, ..MODEL }, 1).unwrap();
        // Half of them would wait for a minute; each of those is left.
        for _ in 0..8 {
            let mut asked = ask(pool.addresses[0]);
            let patient = Instant::now() + Duration::from_secs(1);
            while asked.is_silent() && Instant::now() < patient {
                std::thread::sleep(Duration::from_millis(5));
            }
            if !asked.is_silent() {
                assert!(asked.answer().unwrap().done);
            }
        }
        let left = pool.counters.left_late.load(Ordering::Relaxed);
        assert!((1..8).contains(&left), "{left}");
    }

    #[test]
    fn shares_and_means_are_as_said() {
        let model = Model { stragglers: 0.02, spread: Duration::from_millis(20), varied: true, ..MODEL };
        let mut random = Random(5);
        let drawn: Vec<_> = (0..50_000).map(|_| model.draw(&mut random)).collect();
        let straggling = drawn.iter().filter(|(_, straggles, _)| *straggles).count();
        assert!((850..1_150).contains(&straggling), "{straggling}");
        let events = drawn.iter().map(|(.., events)| f64::from(*events)).sum::<f64>() / 50_000.0;
        assert!((events - 4.0).abs() < 0.1, "{events}");
        let usual: Vec<_> = drawn.iter().filter(|(_, straggles, _)| !straggles).map(|(first, ..)| first.as_secs_f64()).collect();
        let mean = usual.iter().sum::<f64>() / usual.len() as f64;
        assert!((mean - 0.06).abs() < 0.001 && usual.iter().all(|first| *first >= 0.04), "{mean}");
    }
}
