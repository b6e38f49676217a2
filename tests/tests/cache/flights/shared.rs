//! Who shares, and what is counted.

use serde_json::json;
use tests::{Act, FakeUpstream, Fault, Gate, Host, Place, Plugin, sse};

use super::{followed_by, host, words};

#[test]
fn a_thousand_equal_streams_are_one_upstream_call() {
    const CLIENTS: usize = 1_000;
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.always(Act::say(words(100)).at(Place::Piece(1, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let ask = host.ask("hi").key("one").streamed();
    let mut connections: Vec<_> = (0..CLIENTS).map(|_| ask.begin()).collect();
    // Each of them has the beginning before the upstream has said any more.
    let mut lives: Vec<_> = connections.iter_mut().map(|connection| connection.head().unwrap()).collect();
    let mut bodies: Vec<_> = lives.iter_mut().map(|live| live.portion().unwrap()).collect();
    gate.open();
    for (live, body) in lives.iter_mut().zip(&mut bodies) {
        while let Some(portion) = live.portion() {
            body.extend_from_slice(&portion);
        }
        assert!(live.is_whole());
        assert_eq!((live.head.status, live.head.header("x-pointsman-model")), (200, Some("small")));
    }
    assert!(sse::is_done(&bodies[0]));
    assert_eq!(sse::content(&bodies[0]), words(100));
    assert!(bodies.iter().all(|body| *body == bodies[0]), "every byte");
    let of = |cache: &str| lives.iter().filter(|live| live.head.header("x-pointsman-cache") == Some(cache)).count();
    assert_eq!((fake.count(), of("miss"), of("flight")), (1, 1, CLIENTS - 1));
    assert_eq!(ask.send().cache(), "exact");
    followed_by(&host, 0);
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_cache_lookups_total", &["outcome=\"flight\""]), (CLIENTS - 1) as f64);
    assert_eq!(metrics.sum("pointsman_flights", &[]), 0.0);
}

/// Whoever comes while the answer lands gets it from the flight or from the cache, and asks nobody.
#[test]
fn however_they_come_one_is_asked() {
    for lines in ["", "[cache.semantic]"] {
        come(lines);
    }
}

fn come(lines: &str) {
    let fake = FakeUpstream::start();
    let host = host(&fake, lines);
    for round in 0..20 {
        let ask = host.ask(&format!("question {round}")).key("one");
        let answers: Vec<_> = std::thread::scope(|scope| {
            let each = |number: usize| {
                // A stream may wait for a plain one's end, but not share it.
                let ask = if round % 2 == 0 { ask.clone().streamed() } else { ask.clone() };
                scope.spawn(move || {
                    std::thread::sleep(std::time::Duration::from_micros(number as u64 * 150));
                    ask.send()
                })
            };
            let threads: Vec<_> = (0..24).map(each).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(fake.count(), round + 1, "round {round}");
        let content = format!("Answer {} of tiny-1 to: question {round}", round + 1);
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.content() == content));
    }
}

/// Tokens and costs are the leader's.
#[test]
fn what_the_call_used_is_counted_once() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::answer().at(Place::Piece(2, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let ask = host.ask("hi").key("one").streamed().set("stream_options", json!({ "include_usage": true }));
    let mut leader = ask.begin();
    assert!(leader.head().unwrap().portion().is_some());
    let mut followers: Vec<_> = (0..5).map(|_| ask.begin()).collect();
    followed_by(&host, 5);
    gate.open();
    for follower in &mut followers {
        let answer = follower.answer().unwrap();
        assert_eq!((answer.cache(), answer.header("age")), ("flight", None));
        assert_eq!(sse::chunks(&answer.body).last().unwrap()["usage"]["total_tokens"], 13);
    }
    drop((leader, followers));
    tests::eventually("all are booked", || (host.metrics().sum("pointsman_exchanges_total", &[]) == 6.0).then_some(()));
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_tokens_total", &["prompt"]), 7.0);
    assert_eq!(metrics.sum("pointsman_cost_micro_usd_total", &[]), 1.0, "of one call");
    assert_eq!(metrics.sum("pointsman_endpoint_requests_total", &[]), 1.0);
}

/// Each of these asks for itself, though somebody leads with an equal request.
#[test]
fn who_shares_nothing() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.always(Act::answer().at(Place::Piece(1, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.begin();
    assert!(leader.head().unwrap().portion().is_some());
    let others = [
        ("another tenant", host.ask("hi").key("foreign").streamed()),
        ("no-store", ask.clone().header("cache-control", "no-store")),
        ("no-cache", ask.clone().header("cache-control", "no-cache")),
        ("another seed", ask.clone().set("seed", json!(1))),
        ("tools", ask.clone().set("tools", json!([{ "type": "function", "function": { "name": "f" } }]))),
        ("more said of the stream", ask.clone().set("stream_options", json!({ "include_obfuscation": false }))),
    ];
    let mut connections = Vec::new();
    for (index, (what, other)) in others.iter().enumerate() {
        let mut connection = other.begin();
        assert!(connection.head().unwrap().portion().is_some(), "{what}");
        assert_eq!(fake.count(), index + 2, "{what}");
        connections.push(connection);
    }
    // The key of the same tenant shares.
    let mut colleague = host.ask("hi").key("two").streamed().begin();
    assert_eq!(colleague.head().unwrap().head.header("x-pointsman-cache"), Some("flight"));
    gate.open();
    assert_eq!(fake.count(), others.len() + 1);
}

#[test]
fn it_can_be_switched_off() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.always(Act::answer().at(Place::Piece(1, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "flights = false");
    let ask = host.ask("hi").key("one").streamed();
    let mut both = [ask.begin(), ask.begin()];
    assert!(both.iter_mut().all(|connection| connection.head().unwrap().head.header("x-pointsman-cache") == Some("miss")));
    assert_eq!(fake.count(), 2);
    gate.open();
}

/// What a caching plugin says of a request holds for flights too.
#[test]
fn a_plugin_that_says_no_is_obeyed() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    let key = json!({});
    let directives = [
        (json!("bypass"), 2),
        (json!({ "refresh": key }), 2),
        (json!({ "read-only": key }), 2),
        (json!({ "key": { "admit": true } }), 2),
        (json!({ "key": key }), 1),
        (json!("pass"), 1),
    ];
    let mut before = 0;
    for (index, (directive, calls)) in directives.into_iter().enumerate() {
        let gate = Gate::new();
        fake.always(Act::answer().at(Place::Piece(1, 0), Fault::Hold(gate.clone())));
        let ask = host.ask(&format!("question {index}")).puppet("key", directive.clone()).streamed();
        let mut both = [ask.begin(), ask.begin()];
        for connection in &mut both {
            assert!(connection.head().unwrap().portion().is_some(), "{directive}");
        }
        assert_eq!(fake.count() - before, calls, "{directive}");
        before = fake.count();
        gate.open();
    }
}
