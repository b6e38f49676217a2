//! Each reads at his own pace: one who is slow delays nobody, and holds no more than there is room for.

use std::time::Duration;

use tests::{Act, FakeUpstream, Fault, Gate, Place, eventually, sse};

use super::{followed_by, host, words};

const MIB: u64 = 1 << 20;
/// An event's text; more of them than any socket takes.
const PIECE: usize = 60_000;

fn long(pieces: usize) -> String {
    vec!["x".repeat(PIECE); pieces].join(" ")
}

/// The leader, and one of those who follow, read nothing while the others read it all; then they read, and get every byte as well.
#[test]
fn who_reads_slowly_delays_nobody() {
    const PIECES: usize = 120;
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::say(long(PIECES)).at(Place::Piece(1, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.begin();
    fake.wait_for(1);
    let mut slow = ask.begin();
    let mut quick: Vec<_> = (0..6).map(|_| ask.begin()).collect();
    followed_by(&host, 7);
    gate.open();
    let bodies: Vec<_> = quick.iter_mut().map(|follower| follower.answer().unwrap()).collect();
    assert!(bodies.iter().all(|answer| answer.whole && sse::is_done(&answer.body) && answer.body == bodies[0].body));
    assert!(bodies[0].body.len() > PIECES * PIECE);
    // Somebody who comes now has it from the cache or from the flight: nobody is asked.
    for connection in [&mut slow, &mut leader] {
        let answer = connection.answer().unwrap();
        assert!(answer.whole && answer.body == bodies[0].body);
    }
    assert_eq!(fake.count(), 1);
}

/// However little may be kept of an answer, nobody loses what is read ahead of him.
#[test]
fn small_entries_break_no_stream() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::say(words(3_000)).at(Place::Piece(1, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "max_entry = \"1KiB\"");
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.begin();
    fake.wait_for(1);
    let mut follower = ask.begin();
    followed_by(&host, 1);
    gate.open();
    for connection in [&mut leader, &mut follower] {
        let answer = connection.answer().unwrap();
        assert!(answer.whole && sse::is_done(&answer.body), "{:?}", sse::error(&answer.body));
        assert_eq!(answer.content(), words(3_000));
    }
}

/// Where all are slow the upstream waits, as it does for one.
#[test]
fn where_nobody_reads_the_upstream_waits() {
    const PIECES: usize = 2_000;
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::say(long(PIECES)).at(Place::Piece(1, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let before = host.resident();
    let ask = host.ask("hi").key("one").streamed();
    let leader = ask.begin();
    fake.wait_for(1);
    let follower = ask.begin();
    followed_by(&host, 1);
    gate.open();
    let mut last = 0;
    eventually("the upstream waits", || {
        std::thread::sleep(Duration::from_millis(400));
        let sent = fake.sent();
        let waits = sent == last && sent > 0;
        last = sent;
        waits.then_some(())
    });
    assert!(last < PIECES * PIECE / 2, "{last} bytes were taken off the upstream");
    let grown = host.resident().saturating_sub(before) / MIB;
    assert!(grown < 64, "the host has grown by {grown} MiB");
    drop((leader, follower));
    fake.wait_for_departures(1);
}

/// An answer that is too long to be held is held in part: who is too far behind is told so, who comes too late asks for himself, and
/// whoever reads gets it all.
#[test]
fn who_is_too_far_behind_is_told() {
    const PIECES: usize = 600;
    let (fake, gate, end) = (FakeUpstream::start(), Gate::new(), Gate::new());
    let held = Act::say(long(PIECES)).at(Place::Piece(1, 0), Fault::Hold(gate.clone()));
    fake.next(held.at(Place::BeforeEnd(14), Fault::Hold(end.clone())));
    // Ten times as much of a stream.
    let host = host(&fake, "max_entry = \"64KiB\"");
    let before = host.resident();
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.begin();
    fake.wait_for(1);
    let mut slow = ask.begin();
    followed_by(&host, 1);
    gate.open();
    let mut live = leader.head().unwrap();
    let mut body = Vec::new();
    while !body.ends_with(b"\"stop\"}]}\n\n") {
        body.extend(live.portion().expect("it goes on"));
    }
    assert!(body.len() > PIECES * PIECE);
    let grown = host.resident().saturating_sub(before) / MIB;
    assert!(grown < 24, "the host has grown by {grown} MiB");
    // The answer is under way still, and nobody can begin with it.
    fake.next(Act::say("short"));
    assert_eq!(ask.send().content(), "short");
    end.open();
    assert!(live.portion().is_some_and(|done| done == b"data: [DONE]\n\n") && live.portion().is_none() && live.is_whole());
    let cut = slow.answer().unwrap();
    let error = sse::error(&cut.body).expect("an event that says so");
    assert_eq!(error["code"], "overloaded", "{error}");
    assert!(body.starts_with(&cut.body[..cut.body.len() / 2]), "what he has got are the same bytes");
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_flight_events_total", &["lost"]), 1.0);
    assert_eq!(metrics.sum("pointsman_flight_events_total", &["full"]), 1.0);
}
