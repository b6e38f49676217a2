//! Leaders without an answer, answers that break off, and time that runs out.

use std::time::{Duration, Instant};

use tests::{Act, Connection, FakeUpstream, Fault, Gate, Host, Place, eventually, sse};

use super::{followed_by, host, read_events, words};

/// Four who follow a leader that fails; the answer is held back until all are there.
fn four_behind(host: &tests::Door, fake: &FakeUpstream, fails: Act, cut: bool, what: &str) -> (Connection, Vec<Connection>) {
    let gate = Gate::new();
    let held = fails.at(Place::Head(0), Fault::Hold(gate.clone()));
    fake.next(if cut { held.at(Place::Body(0), Fault::Cut) } else { held });
    let (ask, before) = (host.ask(what).key("one").streamed(), fake.count());
    let leader = ask.begin();
    fake.wait_for(before + 1);
    let followers = (0..4).map(|_| ask.begin()).collect();
    followed_by(host, 4);
    gate.open();
    (leader, followers)
}

/// The leader gets what went wrong, and one of the others asks in his place, for all that are left.
#[test]
fn a_leader_that_fails_before_the_commit_point_hands_over() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    let failures = [
        ("a refusal", Act::refuse(500, "broken"), 500),
        ("no room", Act::refuse(429, "rate_limit"), 429),
        ("the request's own fault", Act::refuse(400, "bad"), 400),
        ("nothing", Act::answer(), 502),
        ("an error in the place of the first event", Act::events([r#"{"error":{"message":"gone"}}"#]), 200),
    ];
    for (round, (what, fails, status)) in failures.into_iter().enumerate() {
        let (mut leader, mut followers) = four_behind(&host, &fake, fails, status == 502, what);
        assert_eq!(leader.answer().unwrap().status, status, "{what}");
        let answers: Vec<_> = followers.iter_mut().map(|follower| follower.answer().unwrap()).collect();
        let number = 2 * (round + 1);
        assert_eq!(fake.count(), number, "{what}: one has asked again");
        let of = |cache: &str| answers.iter().filter(|answer| answer.cache() == cache).count();
        // One that is woken late may find it in the cache.
        assert_eq!((of("miss"), of("flight") + of("exact")), (1, 3), "{what}");
        let content = format!("Answer {number} of tiny-1 to: {what}");
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.content() == content), "{what}");
    }
    assert_eq!(host.metrics().sum("pointsman_flight_events_total", &["handed-over"]), 5.0);
}

/// Whoever leads in the place of another one may want another form: each gets his own. (Streams got a plain answer.)
#[test]
fn a_plain_request_that_leads_in_the_place_of_a_stream_answers_streams() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    let gate = Gate::new();
    fake.next(Act::refuse(500, "broken").at(Place::Head(0), Fault::Hold(gate.clone())));
    let (ask, mut connections) = (host.ask("hi").key("one"), Vec::new());
    let mut leader = ask.clone().streamed().begin();
    fake.wait_for(1);
    // Who is woken first leads: of each form there are some.
    for round in 0..3 {
        connections.push((false, ask.begin()));
        followed_by(&host, 2 * round + 1);
        connections.push((true, ask.clone().streamed().begin()));
        followed_by(&host, 2 * round + 2);
    }
    gate.open();
    assert_eq!(leader.answer().unwrap().status, 500);
    for (streamed, connection) in &mut connections {
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.content().as_str()), (200, "Answer 2 of tiny-1 to: hi"), "{}", answer.text());
        assert_eq!(answer.header("content-type").unwrap().starts_with("text/event-stream"), *streamed, "{}", answer.text());
        assert!(!*streamed || sse::is_done(&answer.body), "{}", answer.text());
    }
    assert_eq!(fake.count(), 2);
}

/// Where the second leader fails too, the others do not wait for a third's failure: each asks for himself.
#[test]
fn after_two_failures_each_asks_for_himself() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    fake.always(Act::refuse(500, "broken"));
    let (mut leader, mut followers) = four_behind(&host, &fake, Act::refuse(500, "broken"), false, "hi");
    assert_eq!(leader.answer().unwrap().status, 500);
    for follower in &mut followers {
        let answer = follower.answer().unwrap();
        assert_eq!((answer.status, answer.cache()), (500, "miss"));
    }
    assert_eq!(fake.count(), 5);
}

/// An answer that came only when something had failed before it is for its own exchange, as it is not stored.
#[test]
fn a_fallback_is_not_shared() {
    let (fake, other, gate) = (FakeUpstream::start(), FakeUpstream::start(), Gate::new());
    fake.always(Act::refuse(500, "broken").at(Place::Head(0), Fault::Hold(gate.clone())));
    let models = format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\n[models.other]\nprovider = \"other\"\nname = \"other-1\"\n[models.first]\nprovider = \"fake\"\nname = \"first-1\"\nfallback = [\"other\"]",
        other.url()
    );
    let host = Host::new().upstream(&fake).provider("retries = 0").cache().section(&models).spawn();
    let ask = host.ask("hi").model("first").streamed();
    let mut leader = ask.begin();
    fake.wait_for(1);
    let mut follower = ask.begin();
    followed_by(&host, 1);
    gate.open();
    for connection in [&mut leader, &mut follower] {
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.cache(), answer.header("x-pointsman-model")), (200, "miss", Some("other")));
    }
    assert_eq!(other.count(), 2);
}

/// After the commit point all get the same event that says so, and nobody an end that looks like one.
#[test]
fn a_stream_that_breaks_off_tells_everybody() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    let faults = [
        ("cut", Fault::Cut),
        ("reset", Fault::Reset),
        ("its own error", Fault::Event("data: {\"error\":{\"message\":\"gone\",\"type\":\"server_error\"}}\n\n")),
    ];
    for (round, (what, fault)) in faults.into_iter().enumerate() {
        let gate = Gate::new();
        let held = Act::say(words(8)).at(Place::Piece(3, 0), Fault::Hold(gate.clone()));
        fake.next(held.at(Place::Piece(5, 0), fault));
        let ask = host.ask(what).key("one").streamed();
        let mut leader = ask.begin();
        let mut lives = [leader.head().unwrap()];
        let mut first = lives[0].portion().unwrap();
        let mut connections: Vec<_> = (0..3).map(|_| ask.begin()).collect();
        followed_by(&host, 3);
        // One who waits for a plain answer has got nothing yet, so he asks for himself.
        let plain = host.ask(what).key("one").begin();
        followed_by(&host, 4);
        gate.open();
        while let Some(portion) = lives[0].portion() {
            first.extend_from_slice(&portion);
        }
        assert!(sse::error(&first).is_some() && sse::content(&first).starts_with("word0 word1"), "{what}");
        for connection in &mut connections {
            let answer = connection.answer().unwrap();
            assert!(answer.whole && !sse::is_done(&answer.body), "{what}");
            assert_eq!(answer.body, first, "{what}");
        }
        let mut plain = plain;
        let answer = plain.answer().unwrap();
        assert_eq!((answer.status, answer.cache()), (200, "miss"), "{what}: {}", answer.text());
        assert_eq!(fake.count(), 2 * (round + 1));
    }
    eventually("all are booked", || {
        (host.metrics().sum("pointsman_exchanges_total", &["ending=\"broken\""]) == 12.0).then_some(())
    });
}

/// An answer that another endpoint has gone on with shows its seam to those who hear it as it comes. Whoever waits for a whole one gets
/// none of it, nor does whoever comes behind the seam.
#[test]
fn an_answer_in_two_halves_is_for_those_who_hear_it() {
    let (fake, cut, seam) = (FakeUpstream::with_doors(2), Gate::new(), Gate::new());
    let first = Act::say(words(8)).at(Place::Piece(3, 0), Fault::Hold(cut.clone()));
    fake.next(first.at(Place::Piece(5, 0), Fault::Cut)).always(Act::say(words(8)));
    let second = Act::say("word4 word5 word6 word7").at(Place::Piece(2, 0), Fault::Hold(seam.clone()));
    fake.when("continue_final_message", second);
    let doors = fake.addresses().iter().map(|address| format!("http://{address}/v1"));
    let host = doors.fold(Host::new(), Host::endpoint).provider("continuation = \"vllm\"\nretry_budget = 1.0");
    let host = host.cache().key("one", "ours").spawn();
    let ask = host.ask("hi").key("one");
    let mut leader = ask.clone().streamed().begin();
    fake.wait_for(1);
    let mut streamed = ask.clone().streamed().begin();
    followed_by(&host, 1);
    let mut plain = ask.begin();
    followed_by(&host, 2);
    cut.open();
    eventually("another goes on", || (host.metrics().sum("pointsman_flights", &[]) == 0.0).then_some(()));
    let late = ask.clone().streamed().send();
    seam.open();
    for connection in [&mut leader, &mut streamed] {
        let answer = connection.answer().unwrap();
        assert_eq!((answer.whole, sse::content(&answer.body)), (true, words(8)), "{}", answer.text());
        assert!(sse::chunks(&answer.body).iter().any(|chunk| chunk["x_pointsman"]["continued"] == true));
    }
    let plain = plain.answer().unwrap();
    assert_eq!((sse::content(&late.body), late.cache()), (words(8), "miss"), "{}", late.text());
    // He looks once more, and finds what the late one has brought.
    assert_eq!((plain.status, plain.content(), plain.cache()), (200, words(8), "exact"));
    assert_eq!(fake.count(), 3);
}

/// Each keeps to his own time: one who waits too long gets his time-out, and the others their answer.
#[test]
fn a_follower_whose_time_is_over_gets_his_time_out() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::say(words(8)).at(Place::Head(0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.begin();
    fake.wait_for(1);
    let mut patient = ask.begin();
    followed_by(&host, 1);
    let began = Instant::now();
    let late = ask.clone().header("x-pointsman-timeout", "300ms").send();
    assert_eq!((late.status, late.code().as_str()), (504, "upstream_timeout"), "{}", late.text());
    assert_eq!(late.json()["error"]["param"], "x-pointsman-timeout");
    assert!(began.elapsed() >= Duration::from_millis(300));
    gate.open();
    assert_eq!(leader.answer().unwrap().content(), words(8));
    assert_eq!(patient.answer().unwrap().content(), words(8));
    assert_eq!(fake.count(), 1);
}

/// The same in the middle of an answer, for a follower and for the leader: whoever has more time gets all of it.
#[test]
fn time_that_ends_in_the_middle_ends_it_for_one() {
    for leader_is_short in [false, true] {
        let (fake, gate) = (FakeUpstream::start(), Gate::new());
        fake.next(Act::say(words(8)).at(Place::Piece(3, 0), Fault::Hold(gate.clone())));
        let host = host(&fake, "");
        let (long, short) = (host.ask("hi").key("one").streamed(), "700ms");
        let hasty = long.clone().header("x-pointsman-timeout", short);
        let (first, second) = if leader_is_short { (&hasty, &long) } else { (&long, &hasty) };
        let mut leader = first.begin();
        fake.wait_for(1);
        let mut follower = second.begin();
        followed_by(&host, 1);
        let (hasty, patient) = if leader_is_short { (&mut leader, &mut follower) } else { (&mut follower, &mut leader) };
        let cut = hasty.answer().unwrap();
        let error = sse::error(&cut.body).unwrap_or_else(|| panic!("{}", cut.text()));
        assert_eq!((cut.status, error["code"].as_str()), (200, Some("upstream_timeout")), "{error}");
        gate.open();
        assert_eq!(patient.answer().unwrap().content(), words(8), "the leader is short: {leader_is_short}");
        assert_eq!(fake.count(), 1);
    }
}

/// A leader whose own time is over before anything has come hands over to those who have more.
#[test]
fn a_leader_whose_time_is_over_hands_over() {
    let fake = FakeUpstream::start();
    fake.next(Act::silent());
    let host = host(&fake, "");
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.clone().header("x-pointsman-timeout", "300ms").begin();
    fake.wait_for(1);
    let mut follower = ask.begin();
    assert_eq!(leader.answer().unwrap().status, 504);
    assert_eq!(follower.answer().unwrap().content(), "Answer 2 of tiny-1 to: hi");
    let mut again = ask.begin();
    read_events(&mut again, 3);
    assert_eq!(fake.count(), 2);
}
