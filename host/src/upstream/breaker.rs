//! An endpoint's breaker: closed (in service), open (left alone), on probation (one request decides).
//!
//! It opens after failures in a row, or when too small a share of a window's requests succeed: the first sees an endpoint that is
//! dead, the second one that fails now and then. It stays open for a while, twice as long each time it opens again, and at least
//! for as long as the endpoint has asked for. One refusal, whatever it asks for, opens nothing: it may be about that one request. Back
//! in service, an endpoint gets its share of requests step by step.
//!
//! Whoever asks endpoints how they are (`probe`) opens it too, and ends its pause early, though never one that was asked for.
//!
//! What it does not do: it does not say what a failure is (`send`), nor what happens when all endpoints are open (`pool`).
//!
//! **Invariant:** pure but for its own state: time is given to it, so that a simulation can run it.
//! **Invariant:** while it is closed and requests succeed, it takes no lock.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Failures in a row.
    pub failures: u32,
    /// The share of a window's requests that must succeed.
    pub success_rate: f32,
    /// Requests below which a window says nothing.
    pub min_requests: u32,
    /// How long a window is.
    pub window: Duration,
    /// For how long it is open at first.
    pub open: Duration,
    /// For how long at most, whatever an endpoint asks for itself.
    pub open_max: Duration,
    /// From probation to a full share.
    pub slow_start: Duration,
}

impl From<&config::Breaker> for Rules {
    fn from(breaker: &config::Breaker) -> Self {
        Self {
            failures: breaker.failures,
            success_rate: breaker.success_rate as f32,
            min_requests: breaker.min_requests,
            window: breaker.window.get(),
            open: breaker.open.get(),
            open_max: breaker.open_max.get(),
            slow_start: breaker.slow_start.get(),
        }
    }
}

/// The share that an endpoint has when it comes back.
const FIRST_SHARE: f32 = 0.1;

/// What may be sent to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Anything.
    Closed,
    /// Nothing, for so long.
    Open(Duration),
    /// One request, whose outcome decides.
    Probation,
}

/// Why it has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Too many failures in a row.
    Row,
    /// Too few of a window's requests succeeded.
    Share,
    /// The one request of a probation failed.
    Probation,
    /// Who asks it how it is has found it ill.
    Probes,
}

impl Why {
    const ALL: [Self; 4] = [Self::Row, Self::Share, Self::Probation, Self::Probes];
}

/// The breaker of one endpoint.
pub struct Breaker {
    rules: Rules,
    epoch: Instant,
    /// Milliseconds since `epoch`; 0 while it is closed.
    open_until: AtomicU64,
    /// Until when the endpoint has asked to be left alone.
    asked_until: AtomicU64,
    /// The one request of a probation is under way.
    probing: AtomicBool,
    /// Until when there is none, after one that nobody waited for.
    probe_after: AtomicU64,
    row: AtomicU32,
    /// The window's number (16 bits), and its successes and failures (24 each).
    window: AtomicU64,
    /// When it was closed again, milliseconds since `epoch`; 0 if it never was open.
    closed_at: AtomicU64,
    /// When it last opened or closed. What began before says nothing about what is now.
    changed_at: AtomicU64,
    /// Why it has last opened: a number of `Why::ALL`.
    why: AtomicU8,
    /// How often it has opened, without having been closed for two windows in between.
    times: Mutex<u32>,
}

impl Breaker {
    pub(super) fn new(rules: Rules, now: Instant) -> Self {
        Self {
            rules,
            // So that 0 means never.
            epoch: now.checked_sub(Duration::from_millis(1)).unwrap_or(now),
            open_until: AtomicU64::new(0),
            asked_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            probe_after: AtomicU64::new(0),
            row: AtomicU32::new(0),
            window: AtomicU64::new(0),
            closed_at: AtomicU64::new(0),
            changed_at: AtomicU64::new(0),
            why: AtomicU8::new(0),
            times: Mutex::new(0),
        }
    }

    /// What may be sent there now.
    pub fn standing(&self, now: Instant) -> Standing {
        match self.state(now) {
            Standing::Probation => match self.probe_after.load(Ordering::Relaxed).saturating_sub(self.ms(now)) {
                0 => Standing::Probation,
                left => Standing::Open(Duration::from_millis(left)),
            },
            other => other,
        }
    }

    /// The same, whether or not a request of a probation has just been given up: its outcome may be on its way.
    fn state(&self, now: Instant) -> Standing {
        match self.open_until.load(Ordering::Relaxed) {
            // Asked of every endpoint for every request: the clock is read only where it matters.
            0 => Standing::Closed,
            until => match until.saturating_sub(self.ms(now)) {
                0 => Standing::Probation,
                left => Standing::Open(Duration::from_millis(left)),
            },
        }
    }

    /// Does it wait for the one request that decides?
    pub fn awaits_probe(&self, now: Instant) -> bool {
        self.standing(now) == Standing::Probation && !self.probing.load(Ordering::Relaxed)
    }

    /// The share of its usual requests that it is to get, above 0, up to 1.
    pub fn share(&self, now: Instant) -> f32 {
        let since = self.closed_at.load(Ordering::Relaxed);
        if since == 0 {
            return 1.0;
        }
        let age = self.ms(now).saturating_sub(since) as f32 / self.rules.slow_start.as_millis().max(1) as f32;
        (FIRST_SHARE + (1.0 - FIRST_SHARE) * age).min(1.0)
    }

    /// Takes the one request of a probation, if nobody has it.
    pub(super) fn begin_probe(&self) -> bool {
        !self.probing.swap(true, Ordering::Relaxed)
    }

    /// It is over, and its outcome has been told.
    pub(super) fn end_probe(&self) {
        self.probing.store(false, Ordering::Relaxed);
    }

    /// It is over without an outcome: nobody waited for one. The next is made after a pause as long as this one took, so that half
    /// of the requests at most wait in vain, and one whose client hardly waits keeps nobody away.
    pub(super) fn give_up_probe(&self, now: Instant, began: Instant) {
        let pause = now.saturating_duration_since(began).min(self.rules.open);
        self.probe_after.store(self.ms(now + pause), Ordering::Relaxed);
        self.end_probe();
    }

    /// A request that began then has succeeded.
    pub fn succeeded(&self, now: Instant, began: Instant) {
        if self.is_old(began) {
            return;
        }
        self.count(now, 1, 0);
        if self.row.load(Ordering::Relaxed) != 0 {
            self.row.store(0, Ordering::Relaxed);
        }
        let until = self.open_until.load(Ordering::Relaxed);
        if until != 0 && self.ms(now) >= until {
            self.window.store(0, Ordering::Relaxed);
            self.closed_at.store(self.ms(now), Ordering::Relaxed);
            self.changed_at.store(self.ms(now), Ordering::Relaxed);
            self.open_until.store(0, Ordering::Relaxed);
        }
    }

    /// A request that began then has failed; the endpoint may have said for how long it is to be left alone.
    pub fn failed(&self, now: Instant, began: Instant, asked: Option<Duration>) {
        if self.is_old(began) {
            return;
        }
        let (good, bad) = self.count(now, 0, 1);
        let row = self.row.fetch_add(1, Ordering::Relaxed) + 1;
        let all = good + bad;
        let too_few = all >= self.rules.min_requests && (good as f32) < self.rules.success_rate * all as f32;
        match self.state(now) {
            Standing::Probation => self.open(now, asked, Why::Probation),
            Standing::Closed if row >= self.rules.failures => self.open(now, asked, Why::Row),
            Standing::Closed if too_few => self.open(now, asked, Why::Share),
            Standing::Open(_) | Standing::Closed => {}
        }
    }

    /// An answer that had begun, and counted as a success for it, has broken off: it was none.
    pub fn broke(&self, now: Instant, began: Instant) {
        if !self.is_old(began) {
            self.count(now, -1, 0);
        }
        self.failed(now, began, None);
    }

    /// Somebody who is not a client has found it ill, and looks again within so long. Its probation is left to a request that has it.
    pub(super) fn found_ill(&self, now: Instant, asked: Option<Duration>, again: Duration) {
        match self.state(now) {
            Standing::Probation if self.probing.load(Ordering::Relaxed) => return,
            Standing::Open(_) => {
                let asked = asked.unwrap_or_default().min(self.rules.open_max);
                self.asked_until.fetch_max(self.ms(now + asked), Ordering::Relaxed);
            }
            Standing::Closed | Standing::Probation => self.open(now, asked, Why::Probes),
        }
        let until = self.ms(now + again).max(self.asked_until.load(Ordering::Relaxed));
        self.open_until.fetch_max(until, Ordering::Relaxed);
    }

    /// Somebody who is not a client has found it well: the next request may try, unless the endpoint has asked for more time.
    pub(super) fn found_well(&self, now: Instant) {
        if let Standing::Open(_) = self.state(now) {
            let until = self.ms(now).max(self.asked_until.load(Ordering::Relaxed));
            self.open_until.fetch_min(until, Ordering::Relaxed);
        }
    }

    /// Changes whenever it opens or closes.
    pub(super) fn era(&self) -> u64 {
        self.changed_at.load(Ordering::Relaxed)
    }

    /// Why it has last opened, in words.
    pub fn why(&self) -> String {
        let Rules { failures, success_rate, window, .. } = self.rules;
        match Why::ALL[usize::from(self.why.load(Ordering::Relaxed)) % Why::ALL.len()] {
            Why::Row => format!("{failures} {} in a row", if failures == 1 { "failure" } else { "failures" }),
            Why::Share => format!("fewer than {success_rate} of its requests succeeded within {window:?}"),
            Why::Probation => "the one request that was to decide has failed".to_owned(),
            Why::Probes => "its probes fail".to_owned(),
        }
    }

    fn open(&self, now: Instant, asked: Option<Duration>, why: Why) {
        self.why.store(why as u8, Ordering::Relaxed);
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let closed_at = self.closed_at.load(Ordering::Relaxed);
        let was_open = self.open_until.load(Ordering::Relaxed) != 0;
        let calm = self.ms(now).saturating_sub(closed_at) > 2 * self.rules.window.as_millis() as u64;
        *times = if !was_open && calm { 1 } else { (*times + 1).min(16) };
        let pause = self.rules.open.saturating_mul(1 << (*times - 1)).min(self.rules.open_max);
        let asked = asked.unwrap_or_default().min(self.rules.open_max);
        let pause = pause.max(asked);
        self.asked_until.store(self.ms(now + asked), Ordering::Relaxed);
        self.window.store(0, Ordering::Relaxed);
        self.row.store(0, Ordering::Relaxed);
        self.changed_at.store(self.ms(now), Ordering::Relaxed);
        self.open_until.store(self.ms(now + pause), Ordering::Relaxed);
    }

    /// Counts into the window of this moment, and gives what is in it.
    fn count(&self, now: Instant, good: i64, bad: u64) -> (u32, u32) {
        const MAX: u64 = (1 << 24) - 1;
        let number = (self.ms(now) / self.rules.window.as_millis().max(1) as u64) & 0xffff;
        let add = |word: u64| {
            let (good_so_far, bad_so_far) = if word >> 48 == number { ((word >> 24) & MAX, word & MAX) } else { (0, 0) };
            (number << 48) | (good_so_far.saturating_add_signed(good).min(MAX) << 24) | (bad_so_far + bad).min(MAX)
        };
        let mut before = self.window.load(Ordering::Relaxed);
        loop {
            let after = add(before);
            match self.window.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return (((after >> 24) & MAX) as u32, (after & MAX) as u32),
                Err(other) => before = other,
            }
        }
    }

    /// Did what began then begin before it last opened or closed?
    pub(super) fn is_old(&self, began: Instant) -> bool {
        self.ms(began) < self.changed_at.load(Ordering::Relaxed)
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        failures: 3,
        success_rate: 0.5,
        min_requests: 10,
        window: Duration::from_secs(10),
        open: Duration::from_secs(1),
        open_max: Duration::from_secs(8),
        slow_start: Duration::from_secs(10),
    };

    fn start() -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(RULES, now), now)
    }

    fn fail(breaker: &Breaker, now: Instant, times: u32) {
        (0..times).for_each(|_| breaker.failed(now, now, None));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_open_it_and_one_success_closes_it() {
        let (breaker, now) = start();
        fail(&breaker, now, 2);
        breaker.succeeded(now, now);
        fail(&breaker, now, 2);
        assert_eq!(breaker.standing(now), Standing::Closed);
        fail(&breaker, now, 1);
        assert_eq!(breaker.standing(now), Standing::Open(Duration::from_secs(1)));
        breaker.succeeded(now + Duration::from_secs(1), now - Duration::from_millis(1));
        assert_ne!(breaker.standing(now), Standing::Closed, "that request began before");
        let later = now + Duration::from_secs(1);
        assert_eq!(breaker.standing(later), Standing::Probation);
        assert!(breaker.begin_probe() && !breaker.begin_probe(), "one at a time");
        breaker.end_probe();
        breaker.succeeded(later, later);
        assert_eq!(breaker.standing(later), Standing::Closed);
        assert!((breaker.share(later) - 0.1).abs() < 0.01);
        assert!((breaker.share(later + Duration::from_secs(5)) - 0.55).abs() < 0.01);
        assert_eq!(breaker.share(later + Duration::from_secs(10)), 1.0);
    }

    /// Each beginning made up for the break that followed: half of everything had succeeded, and that was enough.
    #[tokio::test(start_paused = true)]
    async fn answers_that_break_off_are_no_successes() {
        let (breaker, now) = start();
        for turn in 0..10 {
            assert_eq!(breaker.standing(now), Standing::Closed, "{turn}");
            breaker.succeeded(now, now);
            breaker.broke(now, now);
        }
        assert_eq!(breaker.standing(now), Standing::Open(Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn each_time_in_a_row_it_is_open_for_twice_as_long() {
        let (breaker, mut now) = start();
        fail(&breaker, now, 3);
        for seconds in [1, 2, 4, 8, 8] {
            let Standing::Open(pause) = breaker.standing(now) else { panic!("{seconds}: it is open") };
            assert_eq!(pause, Duration::from_secs(seconds));
            now += pause;
            breaker.failed(now, now, None);
        }
        let Standing::Open(pause) = breaker.standing(now) else { panic!("it is open") };
        now += pause;
        breaker.succeeded(now, now);
        // Soon after, it counts on; after two windows of peace it begins anew.
        fail(&breaker, now + Duration::from_secs(1), 3);
        assert_eq!(breaker.standing(now + Duration::from_secs(1)), Standing::Open(Duration::from_secs(8)));
        now += Duration::from_secs(9);
        breaker.succeeded(now, now);
        now += Duration::from_secs(21);
        fail(&breaker, now, 3);
        assert_eq!(breaker.standing(now), Standing::Open(Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_with_too_few_successes_opens_it() {
        let (breaker, now) = start();
        for _ in 0..4 {
            breaker.succeeded(now, now);
            breaker.failed(now, now, None);
        }
        breaker.failed(now, now, None);
        assert_eq!(breaker.standing(now), Standing::Closed, "nine say nothing yet");
        breaker.failed(now, now, None);
        assert_ne!(breaker.standing(now), Standing::Closed, "four of ten");
        // What was in the last window does not count.
        let (breaker, now) = start();
        fail(&breaker, now, 2);
        (0..3).for_each(|_| breaker.succeeded(now, now));
        fail(&breaker, now + Duration::from_secs(10), 2);
        assert_eq!(breaker.standing(now + Duration::from_secs(10)), Standing::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_to_be_left_alone_is_but_not_for_one_refusal() {
        let (breaker, now) = start();
        breaker.failed(now, now, Some(Duration::from_secs(6)));
        assert_eq!(breaker.standing(now), Standing::Closed, "it may be about that one request");
        (0..2).for_each(|_| breaker.failed(now, now, Some(Duration::from_secs(6))));
        assert_eq!(breaker.standing(now), Standing::Open(Duration::from_secs(6)));
        let (breaker, now) = start();
        (0..3).for_each(|_| breaker.failed(now, now, Some(Duration::from_secs(86_400))));
        assert_eq!(breaker.standing(now), Standing::Open(RULES.open_max));
    }

    /// A try that began before the endpoint was well again, and fails long after, took it out of service a second time.
    #[tokio::test(start_paused = true)]
    async fn what_began_before_says_nothing_about_now() {
        let (breaker, began) = start();
        fail(&breaker, began + Duration::from_millis(1), 3);
        let later = began + Duration::from_secs(2);
        breaker.failed(later, began, None);
        assert_eq!(breaker.standing(later), Standing::Probation);
        breaker.succeeded(later, later);
        (0..3).for_each(|_| breaker.failed(later, began, None));
        assert_eq!(breaker.standing(later), Standing::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_without_an_outcome_is_made_again_after_as_long_as_it_took() {
        let (breaker, began) = start();
        fail(&breaker, began, 3);
        let later = began + Duration::from_secs(1);
        let probe = |took: Duration| {
            let until = later + took;
            assert!(breaker.begin_probe());
            breaker.give_up_probe(until, later);
            breaker.standing(until)
        };
        // One client that gave a millisecond kept the endpoint away from all others for as long as a failure does.
        assert_eq!(probe(Duration::ZERO), Standing::Probation);
        assert_eq!(probe(Duration::from_millis(1)), Standing::Open(Duration::from_millis(1)));
        assert_eq!(probe(Duration::from_millis(300)), Standing::Open(Duration::from_millis(300)));
        assert_eq!(probe(RULES.open * 5), Standing::Open(RULES.open));
        assert!(breaker.begin_probe());
    }

    /// Who holds the place of a probation's request lets it go before its failure is told: that the next had to wait then was taken for
    /// a breaker that is open already, and it never opened again.
    #[tokio::test(start_paused = true)]
    async fn a_probe_that_has_failed_opens_it_again() {
        let (breaker, began) = start();
        fail(&breaker, began, 3);
        let mut now = began + RULES.open;
        for pause in [2, 4, 8, 8].map(Duration::from_secs) {
            assert_eq!(breaker.standing(now), Standing::Probation);
            assert!(breaker.begin_probe());
            let (probed, failed) = (now, now + Duration::from_millis(30));
            breaker.give_up_probe(failed, probed);
            breaker.failed(failed, probed, None);
            assert_eq!(breaker.standing(failed), Standing::Open(pause));
            now = failed + pause;
        }
    }
}
