//! Answers that are not what their status or their end says.

use serde_json::json;
use tests::{Act, FakeUpstream, Host, Running, sse};

const WHOLE: &str = "all of it";
const KEY: &str = "sk-upstream-0123456789";

/// Two tries at the same endpoint.
fn host(fake: &FakeUpstream) -> Running {
    let host = Host::new().upstream(fake).file("key.txt", KEY.as_bytes());
    host.provider("key = \"file:key.txt\"\nretries = 1\nretry_budget = 1.0").start()
}

fn chunk(index: u32, text: &str, reason: Option<&str>) -> String {
    json!({ "id": "1", "object": "chat.completion.chunk", "model": "tiny-1", "choices": [
        { "index": index, "delta": { "content": text }, "finish_reason": reason }
    ] })
    .to_string()
}

/// An answer whose only end is its connection's.
fn until_close(kind: &str, body: &str) -> Act {
    Act::raw(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\n\r\n{body}"))
}

/// Under 200, and yet no answer: it is asked for once more.
#[test]
fn a_plain_answer_that_is_none_is_asked_for_again() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let half = r#"{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"ha"#;
    let lies = [
        ("an error", Act::json(&json!({ "error": { "message": "no room", "code": 500 } }))),
        ("an error in other words", Act::json(&json!({ "object": "error", "message": "no room", "code": 500 }))),
        ("half of it, framed as all", Act::body("application/json", [half])),
        ("no object", Act::body("application/json", ["[]"])),
        ("a page", Act::body("text/html", ["<html>{welcome}"])),
        ("half of it, of another kind", Act::body("text/plain", [half])),
        ("half of it, until the connection's end", until_close("application/json", half)),
    ];
    for (round, (what, lie)) in lies.into_iter().enumerate() {
        fake.next(lie);
        fake.next(Act::say(WHOLE));
        let answer = host.ask(what).send();
        assert_eq!((answer.status, answer.content().as_str()), (200, WHOLE), "{what}: {}", answer.text());
        assert_eq!(fake.count(), 2 * (round + 1), "{what}");
    }
}

/// Where nothing better comes an SDK makes an exception of it, and nobody learns the key.
#[test]
fn an_error_under_200_is_an_error_and_tells_no_key() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let error = json!({ "error": { "message": format!("who is {KEY}?"), "code": 500 } });
    fake.always(Act::json(&error));
    let answer = host.ask("hi").send();
    assert_eq!((answer.status, answer.json()["error"]["message"].as_str()), (502, Some("who is [key]?")), "{}", answer.text());
    // One of the request's own would come of it anywhere.
    let (own, before) = (json!({ "error": { "message": "too long", "code": "context_length_exceeded" } }), fake.count());
    fake.always(Act::json(&own));
    let answer = host.ask("hi").send();
    assert_eq!((answer.status, answer.json(), fake.count()), (400, own, before + 1), "{}", answer.text());
    fake.always(Act::events([chunk(0, "a", None), error.to_string()]));
    let answer = host.ask("hi").streamed().send();
    assert_eq!(sse::error(&answer.body).expect("an error")["message"], "who is [key]?");
    assert!(!answer.text().contains(KEY));
}

/// A field `error` that says nothing is none, and an answer of two choices is whole when both are.
#[test]
fn a_stream_is_whole_when_each_choice_is() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let (first, second, third) = (chunk(0, "a", None), chunk(1, "b", Some("stop")), chunk(0, "", Some("stop")));
    let none = r#"{"error":"","choices":[]}"#.to_owned();
    fake.always(Act::events([none, first.clone(), second.clone(), third.clone()]));
    let answer = host.ask("hi").set("n", json!(2)).streamed().send();
    assert!(answer.whole && answer.text().contains(&third), "{}", answer.text());
    assert!(!answer.text().contains("upstream_broken"), "{}", answer.text());
    fake.always(Act::events([first, second]));
    let answer = host.ask("hi").set("n", json!(2)).streamed().send();
    assert_eq!(sse::error(&answer.body).expect("half of it")["code"], "upstream_broken");
}

/// It does not say what it is, or says something else, and is read as what was asked for.
#[test]
fn a_stream_of_any_kind_is_read() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let raw = |head: &str, events: &str| Act::raw(format!("HTTP/1.1 200 OK\r\n{head}connection: close\r\n\r\n{events}"));
    let events = format!("data: {}\n\n", chunk(0, WHOLE, None));
    for head in [
        "",
        "content-type: application/octet-stream\r\n",
        "content-type: text/plain; charset=utf-8\r\n",
        "content-encoding: identity\r\ncontent-type: text/event-stream\r\n",
    ] {
        fake.always(raw(head, &format!("{events}data: [DONE]\n\n")));
        let answer = host.ask("hi").streamed().send();
        assert!(answer.whole && sse::is_done(&answer.body) && answer.content() == WHOLE, "{head}: {}", answer.text());
        fake.always(raw(head, &events));
        let answer = host.ask("hi").streamed().send();
        assert_eq!(sse::error(&answer.body).expect("half of it")["code"], "upstream_broken", "{head}");
    }
}

/// Nobody would see where it is cut, and nobody has asked for it.
#[test]
fn a_compressed_stream_is_none() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\nconnection: close\r\n\r\n";
    fake.always(Act::raw(format!("{head}\u{1f}")));
    let answer = host.ask("hi").streamed().send();
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_broken")), "{}", answer.text());
    assert!(fake.requests().iter().all(|request| request.header("accept-encoding") == Some("identity")));
    fake.always(Act::body("text/html", ["<html>welcome</html>"]));
    let answer = host.ask("hi").streamed().send();
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_broken")), "{}", answer.text());
}

/// More than is held, so that it cannot be asked for again: it does not look whole.
#[test]
fn a_long_answer_that_is_cut_is_not_whole() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let (text, rest) = ("x".repeat(17 << 20), r#""},"finish_reason":"stop"}]}"#);
    let half = format!(r#"{{"id":"1","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"#);
    fake.next(until_close("application/json", &half));
    assert!(!host.ask("hi").send().whole);
    fake.next(until_close("application/json", &(half + rest)));
    let answer = host.ask("hi").send();
    assert!(answer.whole && answer.content() == text);
}

/// It may be cut behind the reason to finish, with its usage missing.
#[test]
fn what_only_its_connection_ends_is_not_kept() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).section("[cache]").start();
    let events = |ends: &str| format!("data: {}\n\ndata: {}\n\n{ends}", chunk(0, WHOLE, None), chunk(0, "", Some("stop")));
    for (ends, then) in [("", "miss"), ("data: [DONE]\n\n", "exact")] {
        fake.always(until_close("text/event-stream", &events(ends)));
        let ask = host.ask(&format!("hi {then}")).streamed();
        let answer = ask.send();
        assert!(answer.whole && answer.content() == WHOLE, "{}", answer.text());
        assert_eq!(ask.send().cache(), then);
    }
}
