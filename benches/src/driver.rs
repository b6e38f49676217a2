//! The load: connections that send what is due (open loop), or as fast as they are answered (closed loop).
//!
//! In the open loop each free connection takes the next request of the schedule, waits until it is due, and sends it. Where all
//! are busy the next one waits, and its wait counts: latency is measured from when a request was due, not from when it could be
//! sent. So a server that stalls pays for everybody who would have come meanwhile.
//!
//! What it does not do: it opens no connection beyond the first ones, but in place of one that broke.
//!
//! **Invariant:** a run ends within its length and [`GRACE`] and one [`wire::PATIENCE`], however the server behaves.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Result;
use crate::report::{Report, Tally};
use crate::request::{Mix, Template};
use crate::schedule::Schedule;
use crate::wire::{self, Answer, Connection};

/// How long after the last moment of the schedule what is still due is sent. What is left then was not sent.
pub const GRACE: Duration = Duration::from_secs(5);

/// From the threads' start to the first moment of the schedule, so that all of them are there.
const LEAD: Duration = Duration::from_millis(20);

/// Where to, with how many connections, and what.
#[derive(Clone, Debug)]
pub struct Target {
    /// The gateway, or the upstream itself.
    pub address: SocketAddr,
    /// Connections.
    pub connections: usize,
    /// What is sent.
    pub template: Template,
    /// Which numbers are put into it.
    pub mix: Mix,
    /// The answer is a stream, which counts only if it ends with its last event.
    pub streams: bool,
}

/// Sends what is due, when it is due.
///
/// # Errors
/// When the connections cannot be opened.
pub fn open_loop(target: &Target, schedule: &Schedule) -> Result<Report> {
    let (tally, elapsed) = send_when_due(target, schedule, Duration::ZERO)?;
    Ok(tally.report(Some(schedule.len()), elapsed))
}

/// The same, as counts that can be added to those of other runs. What is due before `settle` is sent and not counted.
///
/// # Errors
/// As [`open_loop`].
pub fn send_when_due(target: &Target, schedule: &Schedule, settle: Duration) -> Result<(Tally, Duration)> {
    let next = AtomicUsize::new(0);
    let last = schedule.len().checked_sub(1).and_then(|last| schedule.due(last)).unwrap_or_default();
    run(target, |client, start| {
        let mut free = start;
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(due) = schedule.due(place).map(|offset| start + offset) else { return };
            client.counts = due >= start + settle;
            let now = Instant::now();
            if now > start + last + GRACE {
                return client.failed("not sent: too far behind");
            }
            if let Some(wait) = due.checked_duration_since(now) {
                std::thread::sleep(wait);
            }
            free = client.exchange(place, due, free.max(due));
        }
    })
}

/// Sends on each connection as soon as it is answered, for this long.
///
/// # Errors
/// When the connections cannot be opened.
pub fn closed_loop(target: &Target, length: Duration) -> Result<Report> {
    let next = AtomicUsize::new(0);
    let (tally, elapsed) = run(target, |client, start| {
        let mut free = start;
        while Instant::now() < start + length {
            let place = next.fetch_add(1, Ordering::Relaxed);
            free = client.exchange(place, free, free);
        }
    })?;
    Ok(tally.report(None, elapsed))
}

/// Runs `work` on a thread per connection, and adds up what they found.
fn run(target: &Target, work: impl Fn(&mut Client, Instant) + Sync) -> Result<(Tally, Duration)> {
    let mut clients = (0..target.connections).map(|_| Client::open(target)).collect::<Result<Vec<_>>>()?;
    let start = Instant::now() + LEAD;
    std::thread::scope(|scope| {
        for client in &mut clients {
            let work = &work;
            scope.spawn(move || {
                std::thread::sleep(start.saturating_duration_since(Instant::now()));
                work(client, start);
            });
        }
    });
    let elapsed = start.elapsed();
    let mut all = Tally::new()?;
    for client in &clients {
        all.add(&client.tally)?;
    }
    Ok((all, elapsed))
}

/// One connection and its thread's counts.
struct Client<'a> {
    target: &'a Target,
    template: Template,
    connection: Option<Connection>,
    /// What it finds is counted.
    counts: bool,
    tally: Tally,
}

impl<'a> Client<'a> {
    fn open(target: &'a Target) -> Result<Self> {
        let connection = Connection::open(target.address).map_err(|error| format!("connect to {}: {error}", target.address))?;
        Ok(Self { target, template: target.template.clone(), connection: Some(connection), counts: true, tally: Tally::new()? })
    }

    fn failed(&mut self, kind: &str) {
        *self.tally.errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// One request and its answer; gives back when it was over. It was due at one moment, and could be sent from another on.
    fn exchange(&mut self, place: usize, due: Instant, possible: Instant) -> Instant {
        let sent = Instant::now();
        let answer = self.ask(self.target.mix.number(place));
        let now = Instant::now();
        if !self.counts {
            return now;
        }
        self.tally.sent += 1;
        match answer {
            Err(error) => self.failed(&format!("broken: {}", error.kind())),
            Ok(answer) if answer.status != 200 => {
                if matches!(answer.status, 429 | 503) {
                    self.tally.refused.record(now - sent);
                }
                self.failed(&format!("status {}", answer.status));
            }
            Ok(answer) if self.target.streams && !answer.done => self.failed("a stream without an end"),
            Ok(answer) => {
                self.tally.answered += 1;
                self.tally.bytes += answer.bytes as u64;
                self.tally.outcomes[answer.outcome] += 1;
                self.tally.latency.record(now - due);
                self.tally.service.record(now - sent);
                self.tally.late.record(sent.saturating_duration_since(possible));
                if let Some(first) = answer.first_byte {
                    self.tally.first_byte.record(first - due);
                }
            }
        }
        now
    }

    fn ask(&mut self, number: u64) -> io::Result<Answer> {
        // Taken out, so that one that breaks is not used again.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.target.address)?,
        };
        connection.send(self.template.numbered(number))?;
        let answer = connection.answer()?;
        self.connection = (!answer.close).then_some(connection);
        Ok(answer)
    }
}

/// The most that a run may take.
pub fn bound(length: Duration) -> Duration {
    LEAD + length + GRACE + wire::PATIENCE
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::schedule::Arrivals;
    use crate::upstream::{self, Wish};

    fn target(address: SocketAddr, connections: usize, wish: Option<Wish>) -> Target {
        Target {
            address,
            connections,
            template: Template::new(address, wish.as_ref()),
            mix: Mix::new(0.0, 1),
            streams: wish.is_some(),
        }
    }

    #[test]
    fn an_open_loop_sends_what_the_schedule_says() {
        let target = target(upstream::start().unwrap(), 4, None);
        let schedule = Schedule::new(Arrivals::Poisson, 500.0, Duration::from_millis(500), 9);
        let report = open_loop(&target, &schedule).unwrap();
        assert_eq!((report.scheduled, report.answered), (Some(schedule.len() as u64), schedule.len() as u64));
        assert!(report.is_all("none"), "{report:?}");
        assert!(report.seconds > 0.4, "{report:?}");
    }

    /// The very point of an open loop. A server that stalls once for 200 ms, asked 100 times a second over one connection, delays
    /// the twenty requests that were due meanwhile; timed from when they were sent, only one would have been slow.
    #[test]
    fn a_stall_counts_for_everyone_who_was_due_meanwhile() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            for count in 0.. {
                if stream.read(&mut buffer).unwrap_or(0) == 0 {
                    return;
                }
                if count == 10 {
                    std::thread::sleep(Duration::from_millis(200));
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx").unwrap();
            }
        });
        let schedule = Schedule::new(Arrivals::Uniform, 100.0, Duration::from_millis(500), 1);
        let report = open_loop(&target(address, 1, None), &schedule).unwrap();
        let (latency, service) = (report.latency_us.unwrap(), report.service_us.unwrap());
        assert_eq!(report.answered, schedule.len() as u64);
        assert!(latency.p90 > 100_000.0, "{latency:?}");
        assert!(service.p90 < 50_000.0, "{service:?}");
        assert!(report.late_us.unwrap().p90 < 50_000.0, "waiting for a connection is not the driver's fault");
    }

    #[test]
    fn a_closed_loop_runs_for_its_time() {
        let report = closed_loop(&target(upstream::start().unwrap(), 2, None), Duration::from_millis(200)).unwrap();
        assert!(report.is_all("none") && report.answered > 10, "{report:?}");
        assert!((0.2..2.0).contains(&report.seconds), "{report:?}");
    }

    #[test]
    fn streams_are_timed_to_their_first_byte_and_to_their_end() {
        let wish = Wish { events: 3, pause_us: 50_000, hold_ms: 0 };
        let schedule = Schedule::new(Arrivals::Uniform, 20.0, Duration::from_millis(200), 1);
        let report = open_loop(&target(upstream::start().unwrap(), 4, Some(wish)), &schedule).unwrap();
        assert_eq!(report.answered, 4, "{report:?}");
        assert!(report.latency_us.unwrap().p50 >= 150_000.0, "{report:?}");
        assert!(report.first_byte_us.unwrap().p50 < 100_000.0, "{report:?}");
    }

    #[test]
    fn wrong_answers_are_errors_and_have_no_times() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in [
                "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\ncut",
            ] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let schedule = Schedule::new(Arrivals::Uniform, 100.0, Duration::from_millis(15), 1);
        let report = open_loop(&target(address, 1, None), &schedule).unwrap();
        assert_eq!((report.sent, report.answered, report.latency_us), (2, 0, None));
        assert_eq!(
            report.errors.keys().map(String::as_str).collect::<Vec<_>>(),
            ["broken: unexpected end of file", "status 503"]
        );
    }
}
