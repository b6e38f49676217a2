//! Plain answers, streams, and who of them waits for which.

use serde_json::json;
use tests::{Act, FakeUpstream, Fault, Gate, Place, sse};

use super::{followed_by, host, words};

#[test]
fn plain_requests_share_a_plain_answer() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::answer().at(Place::Body(10), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let ask = host.ask("hi").key("one");
    let mut leader = ask.begin();
    fake.wait_for(1);
    let mut followers: Vec<_> = (0..20).map(|_| ask.begin()).collect();
    followed_by(&host, 20);
    gate.open();
    let first = leader.answer().unwrap();
    assert_eq!((first.cache(), first.content().as_str()), ("miss", "Answer 1 of tiny-1 to: hi"));
    for follower in &mut followers {
        let answer = follower.answer().unwrap();
        assert_eq!((answer.status, answer.cache(), answer.header("content-type")), (200, "flight", Some("application/json")));
        assert_eq!(answer.body, first.body);
        assert_ne!(answer.header("x-request-id"), first.header("x-request-id"));
    }
    assert_eq!(fake.count(), 1);
}

/// The leader's client leaves before his plain answer is there: it goes on for those who wait.
#[test]
fn a_plain_answer_outlives_its_leader() {
    for place in [Place::Head(0), Place::Head(20), Place::Body(10)] {
        let (fake, gate) = (FakeUpstream::start(), Gate::new());
        fake.next(Act::answer().at(place, Fault::Hold(gate.clone())));
        let host = host(&fake, "");
        let ask = host.ask("hi").key("one");
        let leader = ask.begin();
        fake.wait_for(1);
        let mut follower = ask.begin();
        followed_by(&host, 1);
        drop(leader);
        std::thread::sleep(std::time::Duration::from_millis(100));
        gate.open();
        assert_eq!(follower.answer().unwrap().content(), "Answer 1 of tiny-1 to: hi", "{place:?}");
        assert_eq!((fake.count(), ask.send().cache()), (1, "exact"));
    }
}

/// A stream that has ended is a plain answer, and no later than one that is asked for would be.
#[test]
fn a_plain_request_gets_what_a_stream_makes() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::say(words(8)).at(Place::Piece(3, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let streamed = host.ask("hi").key("one").streamed().set("stream_options", json!({ "include_usage": true }));
    let mut leader = streamed.begin();
    fake.wait_for(1);
    let mut plain = host.ask("hi").key("one").begin();
    followed_by(&host, 1);
    gate.open();
    let answer = plain.answer().unwrap();
    assert_eq!((answer.status, answer.cache(), answer.content()), (200, "flight", words(8)));
    let whole = answer.json();
    assert_eq!((&whole["object"], &whole["usage"]["total_tokens"]), (&json!("chat.completion"), &json!(15)));
    assert_eq!(leader.answer().unwrap().content(), words(8));
    assert_eq!(fake.count(), 1);
}

/// Who wants a stream wants its beginning early, which a plain answer has not.
#[test]
fn a_stream_does_not_wait_for_a_plain_answer() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::answer().at(Place::Head(0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let mut plain = host.ask("hi").key("one").begin();
    fake.wait_for(1);
    let stream = host.ask("hi").key("one").streamed().send();
    assert_eq!((stream.cache(), stream.content().as_str()), ("miss", "Answer 2 of tiny-1 to: hi"));
    gate.open();
    assert_eq!(plain.answer().unwrap().content(), "Answer 1 of tiny-1 to: hi");
}

/// Nobody gets a chunk that he has not asked for, or lacks one that he has.
#[test]
fn usage_is_for_those_who_have_asked_for_it() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.always(Act::answer().at(Place::Piece(1, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let bare = host.ask("hi").key("one").streamed();
    let counted = bare.clone().set("stream_options", json!({ "include_usage": true }));
    let mut connections = [bare.begin(), counted.begin()];
    fake.wait_for(2);
    let mut followers = [bare.begin(), counted.clone().set("stream_options", json!({ "include_usage": true })).begin()];
    followed_by(&host, 2);
    gate.open();
    for (leader, follower) in connections.iter_mut().zip(&mut followers) {
        assert_eq!(leader.answer().unwrap().body, follower.answer().unwrap().body);
    }
    assert_eq!(fake.count(), 2);
}

/// A provider that answers plainly though it was asked for a stream: who follows gets what he has asked for all the same.
#[test]
fn a_provider_that_does_not_stream_is_shared_too() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    let completion = json!({ "id": "x", "object": "chat.completion", "choices": [{ "index": 0, "message": { "role": "assistant", "content": "plain" }, "finish_reason": "stop" }] });
    fake.next(Act::json(&completion).at(Place::Head(0), Fault::Hold(gate.clone())));
    let host = host(&fake, "");
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.begin();
    fake.wait_for(1);
    let mut follower = ask.begin();
    followed_by(&host, 1);
    gate.open();
    let (first, second) = (leader.answer().unwrap(), follower.answer().unwrap());
    assert_eq!((first.header("content-type"), first.content().as_str()), (Some("application/json"), "plain"));
    assert_eq!((second.cache(), sse::content(&second.body).as_str(), sse::is_done(&second.body)), ("flight", "plain", true));
    assert_eq!(fake.count(), 1);
}
