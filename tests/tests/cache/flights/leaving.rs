//! Those who leave: the call goes on while anybody listens, and no longer.

use std::time::{Duration, Instant};

use tests::{Act, FakeUpstream, Fault, Gate, Place, eventually, sse};

use super::{followed_by, host, read_events, words};

/// The promise is 100 ms; a shared machine gets more.
const PROMPTLY: Duration = Duration::from_secs(2);

/// Before the answer's head, before its first event, and behind each of its events: the leader's client goes, and whoever follows
/// gets every byte of the same call.
#[test]
fn the_leader_may_leave_at_any_event() {
    const WORDS: usize = 8;
    // The role, the words, the reason to finish, `[DONE]`.
    const EVENTS: usize = WORDS + 3;
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    let places = std::iter::once(Place::Head(0)).chain((0..EVENTS).map(|event| Place::Piece(event, 0)));
    for (round, place) in places.enumerate() {
        let gate = Gate::new();
        fake.next(Act::say(words(WORDS)).at(place, Fault::Hold(gate.clone())));
        let ask = host.ask(&format!("question {round}")).key("one").streamed();
        let mut leader = ask.begin();
        fake.wait_for(round + 1);
        let mut followers: Vec<_> = (0..3).map(|_| ask.begin()).collect();
        followed_by(&host, 3);
        if let Place::Piece(seen @ 1.., _) = place {
            read_events(&mut leader, seen);
        }
        // Some leave in good order, some as a crash does.
        if round % 2 == 0 {
            drop(leader)
        } else {
            leader.reset()
        }
        let left = followers.pop();
        drop(left);
        followed_by(&host, 2);
        gate.open();
        for follower in &mut followers {
            let answer = follower.answer().unwrap();
            assert_eq!((answer.status, answer.cache()), (200, "flight"), "{place:?}");
            assert!(answer.whole && sse::is_done(&answer.body), "{place:?}");
            assert_eq!(answer.content(), words(WORDS), "{place:?}");
        }
        assert_eq!(fake.count(), round + 1, "{place:?}: nobody has asked again");
        eventually("it is stored", || (ask.send().cache() == "exact").then_some(()));
    }
    eventually("all are booked", || {
        let left = host.metrics().sum("pointsman_exchanges_total", &["ending=\"left\""]);
        (left == 2.0 * (EVENTS + 1) as f64).then_some(())
    });
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_flights", &[]), 0.0);
    assert_eq!(metrics.sum("pointsman_upstream_in_flight", &[]), 0.0);
}

/// In whatever order they go: the last one ends the call.
#[test]
fn when_nobody_listens_the_call_is_cancelled() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    let acts = [
        ("before the head", Act::answer().at(Place::Head(0), Fault::Hold(Gate::new()))),
        ("in the middle", Act::answer().at(Place::Piece(3, 0), Fault::Hold(Gate::new()))),
    ];
    let mut departures = 0;
    for (when, act) in acts {
        for leader_first in [false, true] {
            fake.next(act.clone());
            let ask = host.ask(&format!("{when} {leader_first}")).key("one").streamed();
            let mut leader = ask.begin();
            fake.wait_for(departures + 1);
            let mut follower = ask.begin();
            followed_by(&host, 1);
            if when == "in the middle" {
                read_events(&mut leader, 3);
                read_events(&mut follower, 3);
            }
            let (first, last) = if leader_first { (leader, follower) } else { (follower, leader) };
            drop(first);
            std::thread::sleep(Duration::from_millis(150));
            assert_eq!(fake.active(), 1, "{when}, the leader first: {leader_first}: somebody is there");
            let gone = Instant::now();
            drop(last);
            departures += 1;
            let noticed = fake.wait_for_departures(departures).saturating_duration_since(gone);
            assert!(noticed < PROMPTLY, "{when}, the leader first: {leader_first}: {noticed:?}");
        }
    }
    assert_eq!(fake.count(), departures);
    eventually("no flight is left", || (host.metrics().sum("pointsman_flights", &[]) == 0.0).then_some(()));
    assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
}

/// "Stop", and once more: whoever comes while the last ones go follows nobody whose answer has been given up.
#[test]
fn whoever_asks_as_the_last_ones_leave_gets_all_of_it() {
    const WORDS: usize = 20;
    let fake = FakeUpstream::start();
    fake.always(Act::say(words(WORDS)).pace(Duration::from_millis(5)));
    let host = host(&fake, "");
    for round in 0..60 {
        let ask = host.ask(&format!("question {round}")).key("one").streamed();
        let (mut leader, mut follower) = (ask.begin(), ask.begin());
        read_events(&mut leader, 2);
        read_events(&mut follower, 2);
        let leaves = std::thread::spawn(move || {
            drop(follower);
            std::thread::sleep(Duration::from_micros(round * 20));
            drop(leader);
        });
        let answer = ask.send();
        leaves.join().unwrap();
        assert_eq!(answer.status, 200, "round {round}");
        assert!(answer.whole && sse::is_done(&answer.body), "round {round}: {}", answer.text());
        assert_eq!(answer.content(), words(WORDS), "round {round}");
    }
}

/// A drain waits for those who follow, though the leader has gone.
#[test]
fn a_drain_lets_those_who_follow_finish() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::say(words(8)).at(Place::Piece(3, 0), Fault::Hold(gate.clone())));
    let mut host = host(&fake, "");
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.begin();
    read_events(&mut leader, 3);
    let mut follower = ask.begin();
    followed_by(&host, 1);
    drop(leader);
    host.signal("TERM");
    std::thread::sleep(Duration::from_millis(100));
    gate.open();
    assert_eq!(follower.answer().unwrap().content(), words(8));
    assert_eq!(host.ends_within(tests::SOON).and_then(|status| status.code()), Some(0));
}
