//! Bytes: what the client wrote reaches the provider with the model's name changed and nothing else; what the provider
//! answers reaches the client as it is.
//!
//! Requests and answers themselves are files, `tests/fixtures/openai/`, which `dialect_goldens.rs` goes through.

use serde_json::json;
use tests::{Act, FakeUpstream, Host, sse};

#[test]
fn an_answer_comes_down_byte_for_byte() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let bodies: [(u16, &'static str, &[u8]); 5] = [
        (200, "application/json", br#"{ "id":"x", "choices":[ {"index":0,"message":{"role":"assistant","content":"\u00e9"},"finish_reason":"stop"} ], "new":1.50 }"#),
        (200, "application/json; charset=utf-8", br#"{"choices":[{"message":{"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}}],"usage":null}"#),
        (200, "text/plain", br#"{"choices":[]}"#),
        (400, "application/json", br#"{"error":{"message":"no","type":"invalid_request_error","param":"x","code":"bad"}}"#),
        (404, "application/problem+json", b"{}"),
    ];
    for (status, kind, body) in bodies {
        fake.next(Act::body(kind, [body]).status(status));
        let answer = host.chat("hi");
        assert_eq!((answer.status, answer.header("content-type")), (status, Some(kind)));
        assert_eq!(answer.body, body, "{}", String::from_utf8_lossy(&answer.body));
        assert!(answer.whole);
    }
}

#[test]
fn a_streamed_answer_says_what_the_plain_one_says() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let plain = host.ask("tell me").send();
    let streamed = host.ask("tell me").streamed().set("stream_options", json!({ "include_usage": true })).send();
    assert_eq!(streamed.content(), plain.content().replace("Answer 1", "Answer 2"));
    assert!(streamed.header("content-type").unwrap().starts_with("text/event-stream"));
    assert!(sse::is_done(&streamed.body));
    let last = sse::chunks(&streamed.body).pop().unwrap();
    assert_eq!(last["usage"]["prompt_tokens"], 7);
}

#[test]
fn events_are_not_held_back() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let gate = tests::Gate::new();
    let event = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;
    fake.next(Act::events([event, "[DONE]"]).hold_at(format!("data: {event}\n\n").len(), &gate));
    let mut connection = tests::Connection::open(host.address);
    let mut live = host.ask("hi").streamed().live(&mut connection);
    let first = live.portion().expect("the first event comes while the second is not there");
    assert_eq!(sse::chunks(&first).len(), 1);
    gate.open();
    while live.portion().is_some() {}
}

#[test]
fn headers_say_where_the_answer_comes_from() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    fake.next(
        Act::answer()
            .header("x-ratelimit-remaining-requests", "9")
            .header("set-cookie", "a=b")
            .header("x-pointsman-model", "forged")
            .header("server", "fake"),
    );
    let answer = host
        .ask("hi")
        .model("auto")
        .header("x-my-own", "kept")
        .header("x-pointsman-forged", "1")
        .header("authorization", "Bearer sk-client")
        .header("cookie", "c=d")
        .header("accept-encoding", "gzip")
        .send();
    assert_eq!(answer.header("x-pointsman-model"), Some("small"), "the configured name, not the provider's");
    assert_eq!(answer.header("x-pointsman-upstream-request-id"), Some("fake-1"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("9"));
    assert_eq!((answer.header("set-cookie"), answer.header("server")), (None, None));
    let id = answer.header("x-request-id").expect("every answer has an id").to_owned();
    assert_eq!(id.len(), 36, "{id}");
    assert_eq!((answer.header("x-pointsman-cache"), answer.header("x-pointsman-plugin")), (None, None), "there is neither here");
    let up = fake.last();
    assert_eq!(up.header("x-my-own"), None, "what applications say among themselves stays in the house");
    for never in ["authorization", "cookie", "x-pointsman-forged"] {
        assert_eq!(up.header(never), None, "{never}");
    }
    assert_eq!(up.header("accept-encoding"), Some("identity"));
    assert_ne!(host.chat("hi").header("x-request-id"), Some(id.as_str()));
}

#[test]
fn the_providers_own_key_and_headers_go_up() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .file("secret.txt", b"sk-provider\n")
        .upstream(&fake)
        .provider("key = \"file:secret.txt\"\nheaders = { x-team = \"blue\" }")
        .start();
    host.ask("hi").header("authorization", "Bearer sk-client").header("x-team", "red").send();
    assert_eq!(fake.last().header("authorization"), Some("Bearer sk-provider"));
    assert_eq!(fake.last().header("x-team"), Some("blue"), "what the owner writes counts");
}

#[test]
fn one_connection_serves_many_requests_and_upstream_connections_are_kept() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("threads = 1").start();
    let mut connection = tests::Connection::open(host.address);
    for index in 0..10 {
        let answer = connection.exchange(&host.ask(&format!("hi {index}")).bytes()).unwrap();
        assert!(answer.content().ends_with(&format!("hi {index}")));
    }
    assert_eq!((fake.count(), fake.connections()), (10, 1));
}

#[test]
fn http_2_serves_many_at_once() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let bodies: Vec<String> = (0..20)
        .map(|index| {
            json!({ "model": "small", "messages": [{ "role": "user", "content": format!("number {index}") }] }).to_string()
        })
        .collect();
    for (index, (status, body)) in tests::h2::Session::plain(host.address).ask(&bodies).into_iter().enumerate() {
        assert_eq!(status, 200);
        assert!(body.contains(&format!("number {index}\"")), "{body}");
    }
}
