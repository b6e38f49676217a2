//! Upstreams that fail: before the commit point nobody downstream notices while another try can help; after it the client is
//! told, and a cut answer is never taken for a whole one.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::link::Weather;
use tests::{Act, Answer, Connection, FakeUpstream, Fault, FaultLink, Gate, Host, Nobody, Place, Running, eventually, sse};

const BRIEF: &str = "timeouts = { headers = \"400ms\", first_token = \"400ms\", between_tokens = \"400ms\" }";

fn host(fake: &FakeUpstream) -> Running {
    Host::new().upstream(fake).provider(BRIEF).start()
}

/// Every way to fail before the first byte of an answer has come.
fn early_failures() -> Vec<(&'static str, Act)> {
    vec![
        ("500", Act::refuse(500, "broken")),
        ("502", Act::body("text/html", ["<h1>bad gateway</h1>"]).status(502)),
        ("closed without a word", Act::raw("")),
        ("reset without a word", Act::raw("x").reset_at(0)),
        ("garbage", Act::raw("SSH-2.0-OpenSSH_9.2\r\n")),
        ("half a head", Act::raw("HTTP/1.1 200 OK\r\ncontent-")),
        ("a head and the end", Act::answer().cut_at(0)),
        ("a head and a reset", Act::answer().reset_at(0)),
    ]
}

#[test]
fn before_the_commit_point_another_try_is_made() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    for (what, act) in early_failures() {
        for streamed in [false, true] {
            let before = fake.count();
            fake.next(act.clone());
            let ask = if streamed { host.ask("hi").streamed() } else { host.ask("hi") };
            let answer = ask.send();
            assert_eq!((answer.status, answer.whole), (200, true), "{what}: {}", answer.text());
            assert_eq!(answer.content(), format!("Answer {} of tiny-1 to: hi", before + 2), "{what}");
            assert_eq!(fake.count(), before + 2, "{what}: one try, one more");
            assert_eq!(fake.requests()[before].body, fake.requests()[before + 1].body, "{what}");
        }
    }
}

/// Who is busy, or still at work on the first request, is not given it a second time: another endpoint gets it, if there is one.
#[test]
fn who_is_busy_or_silent_is_not_asked_again() {
    let (busy, other) = (FakeUpstream::start(), FakeUpstream::start());
    let alone = host(&busy);
    let both = Host::new().upstream(&busy).upstream(&other).provider(BRIEF).start();
    for (status, act) in [
        (429, Act::refuse(429, "slow_down")),
        (503, Act::refuse(503, "busy")),
        (504, Act::silent()),
        (504, Act::answer().stall_at(0)),
    ] {
        busy.always(act);
        for streamed in [false, true] {
            let ask = |host: &Running| if streamed { host.ask("hi").streamed().send() } else { host.chat("hi") };
            let before = busy.count();
            assert_eq!(ask(&alone).status, status);
            assert_eq!(busy.count(), before + 1);
            assert_eq!(ask(&both).status, 200);
        }
    }
}

#[test]
fn a_plain_answer_that_is_cut_anywhere_is_asked_for_again() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    for byte in [1, 50, 200] {
        for act in [Act::answer().cut_at(byte), Act::answer().reset_at(byte), Act::answer().length(10_000)] {
            fake.next(act);
            let answer = host.chat("hi");
            assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
            assert_eq!(answer.content(), format!("Answer {} of tiny-1 to: hi", fake.count()));
        }
    }
}

/// An answer without a length ends with its connection, whatever ends that: half of one looked whole, and was passed on.
#[test]
fn a_plain_answer_without_a_length_is_whole_if_its_json_is() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
    let body = r#"{"choices":[{"message":{"content":"without a length"},"finish_reason":"stop"}]}"#;
    let act = Act::raw(format!("{head}{body}\n"));
    fake.next(act.clone());
    assert_eq!(host.chat("hi").content(), "without a length");
    for byte in [1, 20, body.len() - 1] {
        fake.next(act.clone().cut_at(head.len() + byte));
        let answer = host.chat("hi");
        assert_eq!(
            (answer.status, answer.content()),
            (200, format!("Answer {} of tiny-1 to: hi", fake.count())),
            "cut at {byte}"
        );
        fake.next(act.clone().cut_at(head.len() + byte)).next(act.clone().cut_at(head.len() + byte));
        let answer = host.chat("hi");
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_broken"), "cut at {byte}: {}", answer.text());
    }
    // Nor does it become an answer by saying that it is something else.
    let text = head.replace("application/json", "text/plain");
    fake.next(Act::raw(format!("{text}hello"))).next(Act::raw(format!("{text}hello")));
    assert_eq!(host.chat("hi").status, 502);
    fake.next(Act::raw(format!("{text}{body}")));
    assert_eq!(host.chat("hi").content(), "without a length");
}

#[test]
fn the_other_try_goes_elsewhere() {
    let (bad, absent, good) = (FakeUpstream::start(), Nobody::new(), FakeUpstream::start());
    bad.always(Act::refuse(500, "broken"));
    let host = Host::new().upstream(&bad).endpoint(absent.url()).upstream(&good).provider("retries = 2").start();
    for _ in 0..30 {
        assert_eq!(host.chat("hi").status, 200);
    }
    assert_eq!(good.count(), 30);
    assert!(bad.count() <= 10, "{}: an endpoint that fails is left aside", bad.count());
    assert!(host.metrics().sum("pointsman_retries_total", &[]) >= 1.0);
}

/// What the client is told when no try has helped.
#[test]
fn when_nothing_helps_the_client_is_told() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let check = |act: Act, status: u16, code: &str| {
        fake.always(act);
        for ask in [host.ask("hi"), host.ask("hi").streamed()] {
            let answer = ask.send();
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
            assert!(answer.whole);
        }
    };
    check(Act::raw(""), 502, "upstream_broken");
    check(Act::raw("x").reset_at(0), 502, "upstream_broken");
    check(Act::raw("SSH-2.0-OpenSSH_9.2\r\n"), 502, "upstream_broken");
    check(Act::answer().cut_at(0), 502, "upstream_broken");
    check(Act::silent(), 504, "upstream_timeout");
    check(Act::answer().stall_at(0), 504, "upstream_timeout");
    let absent = Nobody::new();
    let nowhere = Host::new().endpoint(absent.url()).start().chat("hi");
    assert_eq!((nowhere.status, nowhere.code().as_str()), (502, "upstream_unreachable"), "{}", nowhere.text());
}

/// An upstream that says itself why it cannot is quoted, not paraphrased.
#[test]
fn an_upstreams_own_refusal_passes() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    for (status, retry_after) in [(429, Some("17")), (500, None), (503, Some("3")), (400, None), (404, None), (413, None)] {
        let mut act = Act::refuse(status, "their_code");
        if let Some(seconds) = retry_after {
            act = act.header("retry-after", seconds);
        }
        fake.always(act);
        let answer = host.ask("hi").streamed().send();
        assert_eq!((answer.status, answer.code().as_str(), answer.header("retry-after")), (status, "their_code", retry_after));
        assert_eq!(answer.header("x-pointsman-model"), Some("small"));
    }
}

/// A provider that does not know the gateway's key is the owner's trouble; a client that got its 401 would look at its own key.
#[test]
fn a_provider_that_denies_the_gateway_is_not_the_clients_fault() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    for status in [401, 403] {
        fake.next(Act::refuse(status, "invalid_api_key"));
        let answer = host.chat("hi");
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_denied"), "{}", answer.text());
    }
}

/// After the commit point: whole events, then an error and nothing else. `[DONE]` only if the upstream got that far.
fn check_cut(answer: &Answer, whole: &str, byte: usize) {
    let text = answer.text();
    assert_eq!((answer.status, answer.whole), (200, true), "our own framing is sound, cut at {byte}");
    if let Some(rest) = whole.strip_prefix(text) {
        assert_eq!(rest, "", "cut at {byte}: a silent end");
        assert!(sse::is_done(&answer.body) && byte >= whole.len(), "cut at {byte}");
        return;
    }
    let error = sse::error(&answer.body).unwrap_or_else(|| panic!("cut at {byte}: no error in {text}"));
    assert!(["upstream_broken", "upstream_timeout"].contains(&error["code"].as_str().unwrap()), "{error}");
    assert!(!text.contains("[DONE]"), "cut at {byte}: an error is no end");
    let passed = text.rsplit_once("data: {\"error\"").unwrap().0;
    assert!(
        whole.starts_with(passed) && (passed.is_empty() || passed.ends_with("\n\n")) && passed.len() <= byte,
        "cut at {byte}: {text}"
    );
}

#[test]
fn a_stream_that_breaks_off_anywhere_ends_with_an_error() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let events = [
        "{\"choices\":[{\"delta\":{\"content\":\"one\"},\"finish_reason\":null}]}",
        "{\"choices\":[{\"delta\":{\"content\":\" two\"},\"finish_reason\":null}]}",
        "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}",
        "[DONE]",
    ];
    let whole: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    let first = events[0].len() + "data: \n\n".len();
    for byte in (1..first).step_by(9).chain([first - 1]) {
        fake.next(Act::events(events).cut_at(byte)).next(Act::events(events));
        let answer = host.ask("hi").streamed().send();
        assert_eq!((answer.status, answer.text()), (200, whole.as_str()), "half an event is no beginning, cut at {byte}");
    }
    for byte in (first..whole.len()).step_by(9).chain([whole.len()]) {
        fake.next(Act::events(events).cut_at(byte)).next(Act::refuse(500, "there must be no second start"));
        check_cut(&host.ask("hi").streamed().send(), &whole, byte);
        fake.next(Act::refuse(500, "uses up the order above"));
        assert_eq!(host.ask("hi").send().status, 500);
        if byte % 4 == 0 {
            fake.next(Act::events(events).reset_at(byte));
            check_cut(&host.ask("hi").streamed().send(), &whole, byte);
        }
    }
    fake.next(Act::events(events).stall_at(100));
    let stalled = host.ask("hi").streamed().send();
    check_cut(&stalled, &whole, 100);
    assert_eq!(sse::error(&stalled.body).unwrap()["code"], "upstream_timeout");
    assert!(host.metrics().sum("pointsman_exchanges_total", &["ending=\"broken\""]) >= 20.0);
}

/// A model that says `stop` and closes without `[DONE]` has finished; one that just closes has not.
#[test]
fn a_clean_end_is_judged_by_what_was_said() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let stop = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;
    let word = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;
    let error = r#"{"error":{"message":"out of memory","code":500}}"#;
    for (events, failed) in [(vec![word, stop], false), (vec![word], true), (vec![word, error], false)] {
        fake.next(Act::events(events.clone()));
        let answer = host.ask("hi").streamed().send();
        let expect: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        if failed {
            check_cut(&answer, &expect, expect.len() + 1);
        } else {
            assert_eq!(answer.text(), expect, "what the upstream said itself goes on as it is");
        }
    }
}

/// An upstream that said that it had failed, and then closed its connection without an end, gave the client two errors: its own, and ours
/// about the connection. So did one that said nothing more.
#[test]
fn what_an_upstream_says_of_its_failure_is_the_last_word() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let word = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;
    let error = r#"{"error":{"message":"out of memory","code":500}}"#;
    let told = format!("data: {word}\n\ndata: {error}\n\n");
    let acts = [
        ("cut", Act::events([word, error]).cut_at(told.len())),
        ("reset", Act::events([word, error, word]).reset_at(told.len())),
        ("cut inside an event after it", Act::events([word, error, word]).cut_at(told.len() + 9)),
        ("silence", Act::events([word, error, word]).stall_at(told.len())),
    ];
    for (index, (what, act)) in acts.into_iter().enumerate() {
        fake.next(act);
        let answer = host.ask("hi").streamed().send();
        assert_eq!((answer.status, answer.text()), (200, told.as_str()), "{what}");
        let broken = host.metrics().sum("pointsman_endpoint_failures_total", &["kind=\"cut\""]);
        assert_eq!(broken, index as f64 + 1.0, "{what}: the endpoint is blamed once");
        fake.next(Act::answer());
        host.chat("so that its breaker stays closed");
    }
    assert_eq!(host.metrics().sum("pointsman_exchanges_total", &["ending=\"broken\""]), 4.0);
}

/// After `[DONE]` the end of the upstream's body was waited for as long as for a token: half a minute in which a client that reads to the
/// end stood still, with all of its answer, and then the endpoint was blamed.
#[test]
fn an_upstream_that_does_not_end_after_done_holds_nobody_up() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let events = [r#"{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}"#, "[DONE]"];
    fake.next(Act::events(events).at(Place::BeforeEnd(0), Fault::Hold(Gate::new())));
    let began = Instant::now();
    let answer = host.ask("hi").streamed().send();
    assert!(answer.whole && sse::is_done(&answer.body), "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    fake.wait_for_departures(1);
    assert_eq!(host.metrics().sum("pointsman_exchanges_total", &["ending=\"whole\""]), 1.0);
}

#[test]
fn the_total_time_is_bounded() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).provider("timeouts = { total = \"700ms\" }\nretries = 0").start();
    let word = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;
    fake.next(Act::events(vec![word; 200]).pace(Duration::from_millis(50)));
    let answer = host.ask("hi").streamed().send();
    let passed = sse::chunks(&answer.body).len();
    assert!((2..100).contains(&passed), "{passed}");
    assert_eq!(sse::error(&answer.body).unwrap()["code"], "upstream_timeout");
}

#[test]
fn an_endpoint_gets_no_more_than_it_may_have() {
    let fake = FakeUpstream::start();
    let gate = Gate::new();
    let host = Host::new().upstream(&fake).provider("in_flight = 2").start();
    fake.always(Act::answer().hold_at(40, &gate));
    let mut held: Vec<Connection> = (0..2).map(|_| Connection::open(host.address)).collect();
    for connection in &mut held {
        connection.write(&host.ask("hi").streamed().bytes()).unwrap();
    }
    eventually("two requests upstream", || (fake.active() == 2).then_some(()));
    let refused = host.chat("hi");
    assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"));
    assert!(refused.header("retry-after").is_some());
    gate.open();
    for mut connection in held {
        assert!(connection.answer().unwrap().whole);
    }
    assert_eq!(eventually("a free place", || Some(host.chat("hi").status).filter(|status| *status == 200)), 200);
}

/// An answer after which the server closes, without having said that it would.
fn closing() -> Act {
    let body = json!({ "choices": [] }).to_string();
    Act::body("application/json", [body.clone()]).length(body.len())
}

/// Servers close connections that they have kept long enough. One that is seen to be closed is not used, whatever the retries.
#[test]
fn connections_that_were_closed_meanwhile_are_not_used() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).provider("retries = 0").listen("threads = 1").start();
    fake.always(closing());
    for index in 0..20 {
        let answer = host.chat(&format!("hi {index}"));
        assert_eq!(answer.status, 200, "{index}: {}", answer.text());
        eventually("the close", || (fake.open() == 0).then_some(()));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(fake.connections(), 20);
}

/// One that is closed at just the moment when somebody wants to use it is what retries are for.
#[test]
fn connections_that_are_just_being_closed_hurt_nobody() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("threads = 1").start();
    fake.always(closing());
    for index in 0..100 {
        let answer = host.chat(&format!("hi {index}"));
        assert_eq!(answer.status, 200, "{index}: {}", answer.text());
        std::thread::sleep(Duration::from_millis(index % 3));
    }
}

#[test]
fn the_network_fails_too() {
    let fake = FakeUpstream::start();
    let link = FaultLink::to(fake.address());
    let host = Host::new().endpoint(link.url()).provider(BRIEF).start();
    assert_eq!(host.chat("hi").status, 200);
    link.set(Weather { bytes_per_second: Some(8_000), delay: Duration::from_millis(20), ..Weather::default() });
    assert!(sse::is_done(&host.ask("hi").streamed().send().body), "slow is not broken");
    link.set(Weather { reset_at: Some(700), ..Weather::default() });
    let reset = host.ask("hi").streamed().send();
    assert_eq!(sse::error(&reset.body).map(|error| error["code"].clone()), Some(json!("upstream_broken")), "{}", reset.text());
    link.set(Weather { black_hole: true, ..Weather::default() });
    let swallowed = eventually("connections to a black hole", || Some(host.chat("hi")).filter(|answer| answer.status == 504));
    assert_eq!(swallowed.code(), "upstream_timeout");
    link.set(Weather::default());
    assert_eq!(host.chat("hi").status, 200, "fair weather again");
}

#[test]
fn what_is_no_answer_is_not_passed_on() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let acts = [
        Act::body("text/html", ["<h1>moved</h1>"]).status(302).header("location", "http://169.254.169.254/"),
        Act::body("application/json", [""]),
        Act::body("application/json", [""]).status(500),
    ];
    for act in acts {
        fake.next(act.clone());
        fake.next(act);
        let answer = host.chat("hi");
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_broken"), "{}", answer.text());
        assert_eq!(answer.header("location"), None);
    }
}

#[test]
fn the_providers_key_does_not_come_back() {
    let fake = FakeUpstream::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "sk-canary-0123456789").unwrap();
    let host = Host::new().upstream(&fake).provider(&format!("key = \"file:{}\"", file.display())).start();
    for status in [400, 404, 429, 500] {
        let quoting = Act::json(&json!({ "error": { "message": "Bearer sk-canary-0123456789 and sk-canary-0123456789" } }));
        fake.always(quoting.status(status).header("x-seen", "sk-canary-0123456789"));
        let answer = host.chat("hi");
        assert_eq!((answer.status, answer.header("x-seen")), (status, None));
        assert_eq!(answer.json()["error"]["message"], "Bearer [key] and [key]");
    }
    fake.always(Act::events([r#"{"error":{"message":"Bearer sk-canary-0123456789"}}"#]));
    let answer = host.ask("hi").streamed().send();
    assert_eq!((answer.status, answer.text()), (200, "data: {\"error\":{\"message\":\"Bearer [key]\"}}\n\n"));
}
