//! Flights and purges: whoever comes after a purge follows nobody whose answer it means, and that answer is not stored.

use serde_json::json;
use tests::{Act, FakeUpstream, Fault, Gate, Place};

use super::{followed_by, host};

/// By all that a purge can be said by, before an answer has begun and after.
#[test]
fn who_comes_after_a_purge_leads_anew() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    // Until it has begun it may be any model's answer.
    let cases = [
        (json!({}), true, true),
        (json!({ "tag": "blue" }), true, true),
        (json!({ "tenant": "ours" }), true, true),
        (json!({ "model": "small" }), true, true),
        (json!({ "model": "large" }), true, false),
        (json!({ "tag": "red" }), false, false),
        (json!({ "tenant": "theirs" }), false, false),
        (json!({ "tag": "blue", "tenant": "theirs" }), false, false),
    ];
    for (index, (selector, asking, live)) in cases.iter().enumerate() {
        for (has_begun, ends) in [(false, asking), (true, live)] {
            let place = if has_begun { Place::Piece(1, 0) } else { Place::Head(0) };
            let what = format!("{selector} at {place:?}");
            let (gate, before) = (Gate::new(), fake.count());
            fake.next(Act::answer().at(place, Fault::Hold(gate.clone())));
            let ask = host.ask(&format!("question {index} {place:?}")).key("one").streamed();
            let ask = ask.header("x-pointsman-cache-tags", "sky, blue");
            let mut leader = ask.begin();
            fake.wait_for(before + 1);
            if has_begun {
                super::read_events(&mut leader, 1);
            }
            let mut earlier = ask.begin();
            followed_by(&host, 1);
            assert_eq!(host.tell("/api/cache/purge", selector).status, 200);
            let mut later = ask.begin();
            if *ends {
                fake.wait_for(before + 2);
            } else {
                followed_by(&host, 2);
            }
            gate.open();
            let earlier = earlier.answer().unwrap();
            assert_eq!((earlier.status, earlier.cache()), (200, "flight"), "{what}: he had asked before");
            let later = later.answer().unwrap();
            assert_eq!((later.status, later.cache()), (200, if *ends { "miss" } else { "flight" }), "{what}");
            assert_eq!(later.content() != earlier.content(), *ends, "{what}");
            drop(leader);
            followed_by(&host, 0);
            tests::eventually("no flight is left", || (host.metrics().sum("pointsman_flights", &[]) == 0.0).then_some(()));
            // The leader's answer, which is over later, is not stored where the purge means it.
            let found = ask.send();
            assert_eq!(found.cache(), "exact", "{what}");
            assert!(found.content() == later.content() || !live, "{what}: {}", found.content());
            assert_eq!(fake.count(), before + 1 + usize::from(*ends), "{what}");
        }
    }
}

/// Who takes over from a leader has asked before the purge as well: those who came with him get his answer, those who come after it do
/// not, and it is not stored.
#[test]
fn who_takes_over_obeys_it_too() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    let (gate, held) = (Gate::new(), Gate::new());
    fake.next(Act::refuse(500, "broken").at(Place::Head(0), Fault::Hold(gate.clone())));
    fake.next(Act::answer().at(Place::Head(0), Fault::Hold(held.clone())));
    let ask = host.ask("hi").key("one").streamed();
    let mut leader = ask.begin();
    fake.wait_for(1);
    let mut followers = [ask.begin(), ask.begin()];
    followed_by(&host, 2);
    assert_eq!(host.tell("/api/cache/purge", &json!({ "tenant": "ours" })).status, 200);
    gate.open();
    assert_eq!(leader.answer().unwrap().status, 500);
    fake.wait_for(2);
    let newer = ask.send();
    assert_eq!((newer.cache(), newer.content().as_str()), ("miss", "Answer 3 of tiny-1 to: hi"));
    held.open();
    for follower in &mut followers {
        assert_eq!(follower.answer().unwrap().content(), "Answer 2 of tiny-1 to: hi");
    }
    tests::eventually("no flight is left", || (host.metrics().sum("pointsman_flights", &[]) == 0.0).then_some(()));
    assert_eq!(ask.send().content(), newer.content(), "what was asked for before the purge is not stored");
    assert_eq!(host.metrics().sum("pointsman_cache_fills_total", &["refused"]), 1.0);
}
