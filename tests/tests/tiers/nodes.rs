//! Flights across nodes: one upstream call for equal requests on several nodes, and nobody who waits for ever.
//!
//! **Invariant:** whatever becomes of the node that asks, and of Redis, whoever waits gets an answer.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::door::Ask;
use tests::{Act, Connection, Door, FakeUpstream, Fault, Gate, Host, Place, Redis, eventually};

use crate::redis::reads;

/// Longer than any test.
const LONG: &str = "10m";

fn node(fake: &FakeUpstream, redis: &Redis, wait: &str) -> Host {
    let lines = format!("[cache]\n[cache.redis]\nurl = {:?}\ndeadline = \"5s\"\nwait = {wait:?}", redis.url());
    Host::new().upstream(fake).provider("retries = 0").section(&lines)
}

fn events(host: &Door, event: &str) -> f64 {
    host.metrics().sum("pointsman_flight_events_total", &[&format!("event=\"{event}\"")])
}

/// Waits until so many follow, be it somebody who waits himself.
fn followed_by(host: &Door, count: usize) {
    eventually(&format!("{count} followers"), || {
        (host.metrics().sum("pointsman_flight_followers", &[]) == count as f64).then_some(())
    });
}

/// A node that asks upstream, which says this when the gate opens.
fn asks(fake: &FakeUpstream, ask: &Ask, act: Act) -> (Gate, Connection) {
    let (gate, before) = (Gate::new(), fake.count());
    fake.next(act.at(Place::Head(0), Fault::Hold(gate.clone())));
    let leader = ask.begin();
    fake.wait_for(before + 1);
    (gate, leader)
}

/// Plain and streamed, all of them wait for the one call.
#[test]
fn one_call_for_all_nodes() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let nodes: Vec<_> = (0..3).map(|_| node(&fake, &redis, LONG).start()).collect();
    nodes.iter().for_each(|node| reads(node));
    let before = fake.count();
    let (gate, mut leader) = asks(&fake, &nodes[0].ask("hi").streamed(), Act::answer());
    let mut others = Vec::new();
    for node in &nodes[1..] {
        others.extend((0..5).map(|_| node.ask("hi").streamed().begin()));
        followed_by(node, 4);
        others.extend((0..5).map(|_| node.ask("hi").begin()));
        followed_by(node, 9);
    }
    assert_eq!(fake.count(), before + 1);
    gate.open();
    let first = leader.answer().unwrap();
    assert_eq!((first.status, first.cache()), (200, "miss"));
    for other in &mut others {
        let answer = other.answer().unwrap();
        assert_eq!((answer.status, answer.cache(), answer.content()), (200, "exact", first.content()));
        assert_eq!(answer.header("age"), Some("0"));
    }
    assert_eq!(fake.count(), before + 1, "nobody else has asked");
    assert!(nodes[1..].iter().all(|node| events(node, "elsewhere") >= 1.0 && events(node, "in-vain") == 0.0));
    eventually("no lease is left", || redis.ask(&["KEYS", "pointsman:flight:*"]).is_empty().then_some(()));
}

#[test]
fn the_wait_is_bounded() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let (one, other) = (node(&fake, &redis, LONG).start(), node(&fake, &redis, "300ms").start());
    reads(&one);
    reads(&other);
    let (gate, mut leader) = asks(&fake, &one.ask("hi"), Act::answer());
    let began = Instant::now();
    let answer = other.chat("hi");
    assert_eq!((answer.status, answer.cache()), (200, "miss"));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!((events(&other, "in-vain"), events(&other, "elsewhere")), (1.0, 0.0));
    // Half of its own time is a bound as well: the other half is for asking.
    let hasty = node(&fake, &redis, LONG).start();
    reads(&hasty);
    let (other_gate, _leader) = asks(&fake, &one.ask("again"), Act::answer());
    let began = Instant::now();
    let own = hasty.ask("again").header("x-pointsman-timeout", "4s").send();
    assert_eq!((own.status, own.cache()), (200, "miss"), "{}", own.text());
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    gate.open();
    other_gate.open();
    assert_eq!(leader.answer().unwrap().status, 200);
}

/// The lease of a node that was killed ends, long before anybody's wait does; one of the others asks, for all of them.
#[test]
fn a_node_that_dies_is_noticed() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let dies = node(&fake, &redis, LONG).spawn();
    let others = [node(&fake, &redis, LONG).start(), node(&fake, &redis, LONG).start()];
    reads(&dies);
    others.iter().for_each(|node| reads(node));
    let (_gate, _leader) = asks(&fake, &dies.ask("hi"), Act::answer());
    let before = fake.count();
    let mut waiting: Vec<_> = others.iter().flat_map(|node| [node.ask("hi").begin(), node.ask("hi").begin()]).collect();
    others.iter().for_each(|node| followed_by(node, 1));
    // A lease that is prolonged outlives its own time.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(fake.count(), before, "it is there still, so nobody else asks");
    dies.signal("KILL");
    let answers: Vec<_> = waiting.iter_mut().map(|waits| waits.answer().unwrap()).collect();
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.content() == answers[0].content()));
    assert_eq!(fake.count(), before + 1);
}

/// Who gets no answer gives the lease back, so that one of those who wait asks at once.
#[test]
fn a_node_without_an_answer_hands_over() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let (one, other) = (node(&fake, &redis, LONG).start(), node(&fake, &redis, LONG).start());
    reads(&one);
    reads(&other);
    let (gate, mut leader) = asks(&fake, &one.ask("hi"), Act::refuse(500, "broken"));
    let before = fake.count();
    let mut waiting = [other.ask("hi").begin(), other.ask("hi").begin()];
    followed_by(&other, 1);
    gate.open();
    assert_eq!(leader.answer().unwrap().status, 500);
    let answers = waiting.each_mut().map(|waits| waits.answer().unwrap());
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.content() == answers[0].content()));
    assert_eq!(fake.count(), before + 1);
    // A client that leaves is no answer either.
    let (gate, leader) = asks(&fake, &one.ask("left"), Act::answer());
    let mut waits = other.ask("left").begin();
    std::thread::sleep(Duration::from_millis(100));
    drop(leader);
    assert_eq!(waits.answer().unwrap().status, 200);
    gate.open();
}

/// Whose answer was purged before it came is not waited for.
#[test]
fn nobody_waits_for_what_was_purged() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let (one, other) = (node(&fake, &redis, LONG).start(), node(&fake, &redis, LONG).start());
    reads(&one);
    reads(&other);
    let ask = |host: &Door| host.ask("hi").header("x-pointsman-cache-tags", "blue");
    let (gate, mut leader) = asks(&fake, &ask(&one), Act::answer());
    assert_eq!(other.tell("/api/cache/purge", &json!({ "tag": "blue" })).json()["told"], json!(true));
    let newer = ask(&other).send();
    assert_eq!((newer.status, newer.cache()), (200, "miss"));
    gate.open();
    let older = leader.answer().unwrap();
    assert_ne!(older.content(), newer.content());
    assert_eq!(ask(&other).send().content(), newer.content());
}

/// Redis that hangs costs its deadline, and Redis that is gone nothing: nobody waits for a node of which nothing is known.
#[test]
fn redis_slow_or_away_keeps_nobody_waiting() {
    let (fake, mut redis) = (FakeUpstream::start(), Redis::start());
    let lines = format!("[cache]\n[cache.redis]\nurl = {:?}\ndeadline = \"400ms\"\nwait = {LONG:?}", redis.url());
    let host = Host::new().upstream(&fake).section(&lines).start();
    reads(&host);
    let late = || host.metrics().sum("pointsman_cache_reads_total", &["tier=\"redis\"", "outcome=\"late\""]);
    let before = late();
    redis.pause();
    let began = Instant::now();
    let answer = host.chat("hi");
    assert_eq!((answer.status, answer.cache()), (200, "miss"));
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(late(), before + 1.0, "one deadline, not one for each question");
    redis.resume();
    redis.stop();
    assert_eq!(host.chat("still").status, 200);
    assert_eq!(events(&host, "in-vain"), 0.0);
}
