//! Flights where there are tiers behind memory.
//!
//! **Invariant:** whoever follows asks no tier; whoever cannot follow does.

use serde_json::json;
use tests::{Act, Connection, Door, FakeUpstream, Fault, Gate, Host, Place, Redis, eventually};

use crate::redis::reads;
use crate::{up, written};

const DISK: &str = "[cache.disk]\npath = \"kept\"\ndeadline = \"10s\"";

fn host(fake: &FakeUpstream, redis: &Redis, more: &str) -> tests::Running {
    let lines = format!("[cache]\n[cache.redis]\nurl = {:?}\ndeadline = \"5s\"\n{more}", redis.url());
    let host = Host::new().upstream(fake).section(&lines).start();
    reads(&host);
    host
}

/// A stream that goes on when the gate opens, and its leader.
fn held(fake: &FakeUpstream, host: &Door, ask: &tests::door::Ask) -> (Gate, Connection) {
    let (gate, before) = (Gate::new(), fake.count());
    fake.next(Act::answer().at(Place::Piece(2, 0), Fault::Hold(gate.clone())));
    let leader = ask.begin();
    fake.wait_for(before + 1);
    assert_eq!(host.metrics().sum("pointsman_flights", &[]), 1.0);
    (gate, leader)
}

/// Waits until so many follow.
fn followed_by(host: &Door, count: usize) {
    eventually(&format!("{count} followers"), || {
        (host.metrics().sum("pointsman_flight_followers", &[]) == count as f64).then_some(())
    });
}

#[test]
fn who_follows_asks_no_tier_behind_memory() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let host = host(&fake, &redis, DISK);
    up(&host, "disk");
    let ask = host.ask("hi").streamed();
    let (gate, mut leader) = held(&fake, &host, &ask);
    let reads = || host.metrics().sum("pointsman_cache_reads_total", &[]);
    let before = reads();
    let mut followers: Vec<_> = (0..20).map(|_| ask.begin()).collect();
    followed_by(&host, 20);
    assert_eq!(reads(), before);
    // Whoever wants it in another form, or asks nobody, may find it where others have it.
    let counted = ask.clone().set("stream_options", json!({ "include_usage": true }));
    assert_eq!(counted.send().cache(), "miss");
    assert_eq!(reads(), before + 2.0);
    gate.open();
    let first = leader.answer().unwrap();
    for follower in &mut followers {
        let answer = follower.answer().unwrap();
        assert_eq!((answer.cache(), &answer.body), ("flight", &first.body));
    }
}

#[test]
fn who_asks_nobody_is_told_of_what_others_have() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let (one, other) = (host(&fake, &redis, ""), host(&fake, &redis, ""));
    let ask = |host: &Door| host.ask("hi").streamed();
    let (gate, _leader) = held(&fake, &one, &ask(&one));
    assert_eq!(ask(&other).send().cache(), "miss");
    written(&other, "redis");
    let cached = ask(&one).header("cache-control", "only-if-cached").send();
    assert_eq!((cached.status, cached.cache()), (200, "exact"), "{}", cached.text());
    gate.open();
}

/// A purge that another node has made ends a flight for those who come after it is known.
#[test]
fn a_purge_of_another_node_ends_a_flight() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let (one, other) = (host(&fake, &redis, ""), host(&fake, &redis, ""));
    let ask = one.ask("hi").header("x-pointsman-cache-tags", "blue").streamed();
    let (gate, mut leader) = held(&fake, &one, &ask);
    let mut follower = ask.begin();
    followed_by(&one, 1);
    assert_eq!(other.tell("/api/cache/purge", &json!({ "tag": "blue" })).json()["told"], json!(true));
    eventually("the purge is known", || (one.metrics().sum("pointsman_cache_purges_total", &["elsewhere"]) >= 1.0).then_some(()));
    let newer = ask.send();
    assert_eq!((newer.status, newer.cache()), (200, "miss"));
    gate.open();
    let older = leader.answer().unwrap();
    assert_ne!(older.content(), newer.content());
    let earlier = follower.answer().unwrap();
    assert_eq!((earlier.cache(), &earlier.body), ("flight", &older.body));
    assert_eq!(ask.send().content(), newer.content(), "the older one is not stored");
}
