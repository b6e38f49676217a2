//! A stream that breaks off after the commit point and is gone on with by another endpoint, where the owner says that it can be.

use std::time::Duration;

use serde_json::json;
use tests::{Act, Answer, FakeUpstream, Fault, Host, Place, Running, sse};

const WORDS: &str = "one two three four five six seven eight";

/// Two endpoints, each of which breaks off in the middle of a first request, and goes on when it is asked to.
fn two(policy: &str, fault: Fault, mark: &str) -> ([FakeUpstream; 2], Running) {
    let fakes = [FakeUpstream::start(), FakeUpstream::start()];
    for fake in &fakes {
        fake.always(Act::say(WORDS).at(Place::Piece(4, 9), fault.clone()));
        fake.when(mark, Act::say("four five six seven eight"));
    }
    let host = Host::new().upstream(&fakes[0]).upstream(&fakes[1]).provider(policy).cache().start();
    (fakes, host)
}

fn continued(answer: &Answer) -> usize {
    sse::chunks(&answer.body).iter().filter(|chunk| chunk["x_pointsman"]["continued"] == true).count()
}

#[test]
fn another_endpoint_goes_on_with_what_was_said() {
    for (how, mark) in [("vllm", "continue_final_message"), ("prefill", "\"role\":\"assistant\"")] {
        for fault in [Fault::Cut, Fault::Reset, Fault::Garbage, Fault::Event("")] {
            let policy = format!("continuation = {how:?}\nretry_budget = 1.0");
            let (fakes, host) = two(&policy, fault.clone(), mark);
            for turn in 0..2 {
                let ask = host.ask("count").set("max_tokens", json!(100)).streamed();
                let answer = ask.send();
                let what = format!("{how}, {fault:?}, {turn}: {}", answer.text());
                assert_eq!((answer.status, answer.whole, answer.cache()), (200, true, "miss"), "not kept for others: {what}");
                assert_eq!(sse::content(&answer.body), WORDS, "{what}");
                assert!(sse::is_done(&answer.body) && sse::error(&answer.body).is_none(), "{what}");
                assert_eq!(continued(&answer), 1, "{what}");
                assert_eq!(answer.text().matches("\"role\"").count(), 1, "one answer has one role: {what}");
            }
            let asked: Vec<_> = fakes.iter().flat_map(|fake| fake.requests()).filter(|seen| seen.text().contains(mark)).collect();
            assert_eq!(asked.len(), 2);
            for seen in asked {
                let messages = seen.json()["messages"].clone();
                assert_eq!(messages[1], json!({ "role": "assistant", "content": "one two three " }));
                assert_eq!(seen.json()["max_tokens"], 97);
                assert_eq!(seen.json()["add_generation_prompt"] == false, how == "vllm");
            }
            assert_eq!(host.metrics().sum("pointsman_continuations_total", &[]), 2.0);
            assert!(fakes.iter().all(|fake| fake.count() == 2), "never the one that broke off goes on: {how}");
        }
    }
}

#[test]
fn a_stream_that_nobody_goes_on_with_ends_in_an_error() {
    let cases = [
        // The owner has not said that it can be.
        ("retry_budget = 1.0", json!({})),
        ("continuation = \"vllm\"\nretries = 0", json!({})),
        // More than text, or of a form that a second half would not have.
        ("continuation = \"vllm\"", json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] })),
        ("continuation = \"vllm\"", json!({ "logprobs": true })),
        ("continuation = \"vllm\"", json!({ "n": 2 })),
        ("continuation = \"vllm\"", json!({ "response_format": { "type": "json_object" } })),
    ];
    for (policy, fields) in cases {
        let (_fakes, host) = two(policy, Fault::Cut, "continue_final_message");
        let fields = fields.as_object().unwrap().clone();
        let answer = fields.into_iter().fold(host.ask("count"), |ask, (name, value)| ask.set(&name, value)).streamed().send();
        assert!(sse::error(&answer.body).is_some() && !sse::is_done(&answer.body), "{policy}: {}", answer.text());
        assert_eq!(continued(&answer), 0);
    }
}

const FAILED: &str =
    "data: {\"error\":{\"message\":\"the engine is dead\",\"type\":\"InternalServerError\",\"code\":500}}\n\ndata: [DONE]\n\n";

/// Two endpoints, each of which says in its fourth event that it has failed.
fn failing(event: &'static str, goes_on: &Act) -> ([FakeUpstream; 2], Running) {
    let fakes = [FakeUpstream::start(), FakeUpstream::start()];
    for fake in &fakes {
        fake.always(Act::say(WORDS).at(Place::Piece(4, 0), Fault::Event(event)));
        fake.when("continue_final_message", goes_on.clone());
    }
    let policy = "continuation = \"vllm\"\nretry_budget = 1.0";
    let host = Host::new().upstream(&fakes[0]).upstream(&fakes[1]).provider(policy).start();
    (fakes, host)
}

/// A server that fails says so itself, if it can: its event went to the client and the answer ended there, though another one could go on.
#[test]
fn another_endpoint_goes_on_where_one_says_that_it_has_failed() {
    let (fakes, host) = failing(FAILED, &Act::say("four five six seven eight"));
    for _ in 0..2 {
        let answer = host.ask("count").streamed().send();
        assert_eq!((sse::content(&answer.body).as_str(), continued(&answer)), (WORDS, 1), "{}", answer.text());
        assert!(sse::is_done(&answer.body) && !answer.text().contains("dead"), "{}", answer.text());
    }
    assert!(fakes.iter().all(|fake| fake.count() == 2));
}

/// Where nobody goes on, and where it would not help, the client gets the upstream's own words.
#[test]
fn an_upstreams_own_error_arrives_where_nobody_goes_on() {
    const FILTER: &str = "data: {\"error\":{\"message\":\"dead words\",\"type\":\"content_filter\"}}\n\n";
    for (event, goes_on, count) in
        [(FAILED, Act::refuse(400, "unsupported"), 2), (FILTER, Act::say("four five six seven eight"), 1)]
    {
        let (fakes, host) = failing(event, &goes_on);
        let answer = host.ask("count").streamed().send();
        let error = sse::error(&answer.body).expect("it ends in an error");
        assert!(error["message"].as_str().unwrap().contains("dead"), "{}", answer.text());
        assert_eq!(sse::content(&answer.body), "one two three ", "{}", answer.text());
        assert_eq!((fakes.iter().map(FakeUpstream::count).sum::<usize>(), continued(&answer)), (count, 0));
    }
}

/// Who goes on may break off as well, or refuse; then the client is told of the first failure.
#[test]
fn what_goes_on_may_fail_too() {
    for act in
        [Act::refuse(400, "unsupported"), Act::refuse(500, "broken"), Act::say("five six").at(Place::Piece(1, 0), Fault::Cut)]
    {
        let fakes = [FakeUpstream::start(), FakeUpstream::start()];
        for fake in &fakes {
            fake.always(Act::say(WORDS).at(Place::Piece(4, 9), Fault::Cut));
            fake.when("continue_final_message", act.clone());
        }
        let host = Host::new().upstream(&fakes[0]).upstream(&fakes[1]).provider("continuation = \"vllm\"").start();
        let answer = host.ask("count").streamed().send();
        assert_eq!(sse::error(&answer.body).unwrap()["code"], "upstream_broken", "{}", answer.text());
        assert!(!sse::is_done(&answer.body) && sse::content(&answer.body).starts_with("one two three "), "{}", answer.text());
    }
}

/// A stream whose end has come has nothing to be gone on with: another model's words would follow the last ones.
#[test]
fn nothing_follows_the_end_of_an_answer() {
    // Behind the event that says why it ended, before `[DONE]`.
    let events = WORDS.split(' ').count() + 2;
    let (fakes, host) = two("continuation = \"vllm\"", Fault::Cut, "continue_final_message");
    for fake in &fakes {
        fake.always(Act::say(WORDS).at(Place::Piece(events, 0), Fault::Reset));
    }
    let answer = host.ask("count").streamed().send();
    assert_eq!((sse::content(&answer.body).as_str(), continued(&answer)), (WORDS, 0), "{}", answer.text());
    assert_eq!(fakes.iter().map(FakeUpstream::count).sum::<usize>(), 1);
}

/// A stream that broke off behind its role ended in an error, though nobody had said anything that could be said twice. What our own
/// judge has asked for beside does not reach the client from the second one either.
#[test]
fn what_has_said_nothing_yet_is_begun_anew() {
    let fake = FakeUpstream::with_doors(2);
    let urls = [0, 1].map(|door| format!("http://{}/v1", fake.addresses()[door]));
    let cascade = "[models.steps]\nchoose = [\"small\", \"large\"]\n[models.steps.cascade]\nmin_logprob = -0.5\ntokens = 1";
    let host = urls.into_iter().fold(Host::new(), Host::endpoint).provider("continuation = \"vllm\"").section(cascade).start();
    for model in ["small", "steps"] {
        // The role has arrived before.
        let pause = Fault::Pause(Duration::from_millis(50));
        fake.next(Act::say(WORDS).at(Place::Piece(1, 0), pause).at(Place::Piece(1, 0), Fault::Cut)).next(Act::say(WORDS));
        let answer = host.ask("count").model(model).streamed().send();
        let text = answer.text();
        assert_eq!((sse::content(&answer.body).as_str(), sse::is_done(&answer.body)), (WORDS, true), "{model}: {text}");
        assert_eq!(continued(&answer), 1, "{model}: {text}");
        assert_eq!((text.matches("\"role\"").count(), text.matches("\"logprob\"").count()), (1, 0), "{model}: {text}");
        assert_eq!(fake.last().json()["messages"].as_array().unwrap().len(), 1, "{model}");
    }
}

/// Each further try had further tries of its own: two became five.
#[test]
fn retries_are_counted_once() {
    let fake = FakeUpstream::with_doors(4);
    let urls = (0..4).map(|door| format!("http://{}/v1", fake.addresses()[door]));
    let policy = "continuation = \"vllm\"\nretries = 2\nretry_budget = 1.0";
    let host = urls.fold(Host::new(), Host::endpoint).provider(policy).start();
    let cut = |events| Act::say(WORDS).at(Place::Piece(events, 9), Fault::Cut);
    fake.next(cut(4)).next(Act::refuse(500, "broken")).next(cut(2)).always(Act::refuse(500, "broken"));
    let answer = host.ask("count").streamed().send();
    assert!(sse::error(&answer.body).is_some() && !sse::is_done(&answer.body), "{}", answer.text());
    assert_eq!((continued(&answer), fake.count()), (1, 3), "{}", answer.text());
}

/// The second half was taken for whole where it was cut, because the first one had said why it ended.
#[test]
fn a_second_half_that_is_cut_is_no_whole_answer() {
    for fault in [Fault::Cut, Fault::Event("")] {
        let (fakes, host) = two("continuation = \"vllm\"", Fault::Cut, "continue_final_message");
        for fake in &fakes {
            fake.when("continue_final_message", Act::say("four five six").at(Place::Piece(3, 0), fault.clone()));
        }
        let answer = host.ask("count").streamed().send();
        assert!(sse::error(&answer.body).is_some() && !sse::is_done(&answer.body), "{}", answer.text());
        assert_eq!(host.metrics().sum("pointsman_exchanges_total", &["ending=\"broken\""]), 1.0);
    }
}
