//! A Redis that is stopped, stands still, is full, or comes and goes, while clients ask.
//!
//! **Invariant:** no client sees an error, and nobody waits for Redis much longer than the deadline.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::{Connection, Door, FakeUpstream, Host, Redis, eventually};

use crate::redis::reads;

const DEADLINE: Duration = Duration::from_millis(25);
/// What a machine that others use may add to a deadline.
const NOISE: Duration = Duration::from_millis(400);

/// Clients that ask while `work` goes on, half of them what was not asked yet. Gives how long each answer took, in order of length.
fn under_load(door: &Door, next: &AtomicUsize, work: impl FnOnce()) -> Vec<Duration> {
    let (stop, took) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut connection = Connection::open(door.address);
                while !stop.load(Ordering::SeqCst) {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    let text = if number.is_multiple_of(2) { "again".to_owned() } else { format!("question {number}") };
                    let began = Instant::now();
                    let answer = connection.exchange(&door.ask(&text).bytes()).expect("it is answered");
                    assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
                    took.lock().unwrap().push(began.elapsed());
                }
            });
        }
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::SeqCst);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let mut took = took.into_inner().unwrap();
    took.sort_unstable();
    took
}

fn quantile(took: &[Duration], share: f64) -> Duration {
    took[((took.len() - 1) as f64 * share) as usize]
}

fn check(what: &str, took: &[Duration], well: &[Duration]) {
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(took, share));
    eprintln!("{what}: {} answers, p50 {p50:?}, p99 {p99:?}, at most {most:?}", took.len());
    assert!(took.len() > 100, "{what}: {} answers are no load", took.len());
    let allowed = quantile(well, 0.99) + DEADLINE + NOISE;
    assert!(p99 < allowed, "{what}: p99 {p99:?}, and {allowed:?} are allowed");
}

#[test]
fn redis_in_trouble_costs_misses_and_no_errors() {
    let (fake, mut redis) = (FakeUpstream::start(), Redis::start_with(&["--maxmemory", "6mb"]));
    let section = format!("[cache]\n[cache.redis]\nurl = {:?}\ndeadline = \"{}ms\"", redis.url(), DEADLINE.as_millis());
    let host = Host::new().upstream(&fake).section(&section).spawn();
    reads(&host);
    let (next, while_for) = (AtomicUsize::new(0), Duration::from_secs(2));
    let sleep = || std::thread::sleep(while_for);
    let well = under_load(&host, &next, sleep);
    check("well", &well, &well);

    redis.pause();
    check("paused", &under_load(&host, &next, sleep), &well);
    redis.resume();
    check("resumed", &under_load(&host, &next, sleep), &well);

    redis.stop();
    check("stopped", &under_load(&host, &next, sleep), &well);
    check(
        "restarted",
        &under_load(&host, &next, || {
            for _ in 0..4 {
                redis.start_again();
                std::thread::sleep(while_for / 4);
                redis.stop();
                std::thread::sleep(while_for / 4);
            }
            redis.start_again();
        }),
        &well,
    );
    reads(&host);

    // Nothing more goes in, and what is there is served.
    let room = "x".repeat(1 << 20);
    let full = (0..20).any(|index| redis.ask(&["SET", &format!("filler-{index}"), &room[..100_000]]).contains("OOM"))
        || (0..200).any(|index| redis.ask(&["SET", &format!("more-{index}"), &room[..100_000]]).contains("OOM"));
    assert!(full, "it was to be full: {}", redis.ask(&["INFO", "memory"]));
    check("full", &under_load(&host, &next, sleep), &well);
    let failed = host.metrics().sum("pointsman_cache_writes_total", &["tier=\"redis\"", "outcome=\"failed\""]);
    assert!(failed > 0.0, "it took entries all the same");
    // Whoever it kept waiting three times in a row took it for away; the next one that asks finds it.
    eventually("it answers", || {
        host.chat(&format!("does it answer, {}?", fastrand::u64(..)));
        (host.metrics().sum("pointsman_cache_tier_up", &["tier=\"redis\""]) == 1.0).then_some(())
    });

    let log = host.log();
    let lines = |part: &str| log.iter().filter(|line| line.contains(part)).count();
    let (away, back) = (lines("Redis does not answer"), lines("Redis answers"));
    assert!((1..=20).contains(&away) && (1..=20).contains(&back), "one line for each change: {away} and {back}");
    eprintln!("{away} times away, {back} times back");
}
