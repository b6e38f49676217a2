//! A client says how long it waits: nothing is begun that it would not see the end of, it hears whose time was over, and the upstream
//! is told what is left. Here each wait is short, and every other bound so long that whoever waited for it would be noticed.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::{Act, Answer, FakeUpstream, Gate, Host, Running, eventually, sse};

const WHOLE: &str = "x-pointsman-timeout";
const FIRST_BYTE: &str = "x-pointsman-first-byte-timeout";
const PYTHON: &str = "x-stainless-read-timeout";
const NODE: &str = "x-stainless-timeout";
const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";

const EVENT: &str = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;
/// What a slow, shared machine may need on top of a client's time; far less than any other bound.
const SLACK: Duration = Duration::from_secs(10);

fn host(fake: &FakeUpstream, more: &str) -> Running {
    Host::new().upstream(fake).provider(&format!("{more}\nbreaker = {{ failures = 1, open = \"60s\" }}")).start()
}

/// Milliseconds that an upstream was told of.
fn told(seen: &tests::upstream::Seen, name: &str) -> Option<u128> {
    seen.header(name)
        .map(|value| value.strip_suffix("ms").and_then(|left| left.parse().ok()).unwrap_or_else(|| panic!("{value}")))
}

fn is_over(answer: &Answer, header: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"), "{header}: {}", answer.text());
    assert_eq!(answer.json()["error"]["param"], header, "{}", answer.text());
    assert!(answer.text().contains(&format!("The time that the client gives is over (`{header}`)")), "{}", answer.text());
}

#[test]
fn when_the_clients_time_is_over_it_hears_so_and_the_endpoint_is_not_blamed() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    for (header, value, at_least) in
        [(WHOLE, "400ms", 400), (FIRST_BYTE, "400ms", 400), (PYTHON, "0.2", 400), (ENVOY, "400", 400), (NODE, "0", 1_000)]
    {
        for streamed in [false, true] {
            fake.next(Act::silent());
            let ask = host.ask("hi").header(header, value);
            let (began, before) = (Instant::now(), fake.count());
            let answer = if streamed { ask.streamed().send() } else { ask.send() };
            is_over(&answer, header);
            assert!((Duration::from_millis(at_least)..SLACK).contains(&began.elapsed()), "{header}: {:?}", began.elapsed());
            assert_eq!(fake.count() - before, 1, "nobody is asked when the time is over");
            let name = if matches!(header, WHOLE | ENVOY) { WHOLE } else { FIRST_BYTE };
            let left = told(&fake.last(), name).expect("the upstream was told");
            assert!((1..=1_500).contains(&left), "{header}: {left}");
            fake.wait_for_departures(fake.count());
        }
    }
    assert_eq!(host.chat("hi").status, 200);
    let pool = host.api("/api/models").to_string();
    assert!(!pool.contains("\"open\""), "{pool}");
    assert_eq!(told(&fake.last(), WHOLE).or(told(&fake.last(), FIRST_BYTE)), None, "nobody has said anything");
}

/// An endpoint that takes requests and says nothing was in service for ever where clients waited for less time than the configuration
/// allows, and each of them waited in vain.
#[test]
fn an_endpoint_that_is_silent_for_much_longer_than_usual_is_blamed_however_patient_clients_are() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    for _ in 0..25 {
        assert_eq!(host.chat("hi").status, 200);
    }
    fake.next(Act::silent());
    is_over(&host.ask("hi").header(WHOLE, "5s").send(), WHOLE);
    let pool = host.api("/api/models").to_string();
    assert!(pool.contains("\"open\""), "{pool}");
}

/// The whole answer's time ends a stream too, with an event that says whose time it was. An SDK's time is no bound on a stream that has
/// begun: the one for Python counts it from each byte.
#[test]
fn a_stream_that_has_begun_is_bounded_by_the_time_for_all_of_it_alone() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    fake.always(Act::events([EVENT; 60]).pace(Duration::from_millis(20)));
    let answer = host.ask("hi").header(WHOLE, "500ms").streamed().send();
    assert_eq!((answer.status, answer.whole, sse::is_done(&answer.body)), (200, true, false), "{}", answer.text());
    let error = sse::error(&answer.body).expect("it ends in an error");
    assert_eq!(error["code"], "upstream_timeout");
    assert!(error["message"].as_str().unwrap().contains("the time that the client gives (`x-pointsman-timeout`)"), "{error}");
    let mut events = vec![EVENT; 60];
    events.push("[DONE]");
    fake.always(Act::events(events).pace(Duration::from_millis(20)));
    for (header, value) in [(FIRST_BYTE, "1s"), (PYTHON, "0.75")] {
        let began = Instant::now();
        let answer = host.ask("hi").header(header, value).streamed().send();
        assert!(sse::is_done(&answer.body), "{header}: {}", answer.text());
        assert!(began.elapsed() > Duration::from_secs(1), "it takes longer than the client waits for its beginning");
    }
    assert_eq!(fake.count(), 3, "the endpoint was not blamed, and nobody was asked twice");
}

/// Whoever has less time than this provider's answers take to begin gets what there is; another try would be for nothing.
#[test]
fn no_try_is_begun_that_cannot_end_in_time() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).provider("retries = 3\nbreaker = { failures = 100 }").start();
    fake.always(Act::answer().delay(Duration::from_millis(1_500)));
    std::thread::scope(|scope| {
        let known: Vec<_> = (0..24).map(|_| scope.spawn(|| host.chat("hi"))).collect();
        assert!(known.into_iter().all(|answer| answer.join().unwrap().status == 200));
    });
    fake.always(Act::refuse(500, "broken"));
    let tries = |ask: tests::door::Ask| {
        let before = fake.count();
        let answer = ask.send();
        assert_eq!((answer.status, answer.code().as_str()), (500, "broken"), "{}", answer.text());
        fake.count() - before
    };
    assert_eq!(tries(host.ask("hi").header(WHOLE, "1300ms")), 1);
    assert_eq!(tries(host.ask("hi").header(WHOLE, "60s")), 4);
    assert_eq!(tries(host.ask("hi")), 4);
}

#[test]
fn the_line_sees_what_is_left() {
    let fake = FakeUpstream::start();
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(0, &gate));
    let host =
        Host::new().upstream(&fake).provider("concurrency = { start = 1, min = 1, max = 1, queue = 9, wait = \"60s\" }").start();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| host.chat("held"));
        fake.wait_for(1);
        let began = Instant::now();
        is_over(&host.ask("waits").header(WHOLE, "400ms").send(), WHOLE);
        assert!(began.elapsed() < SLACK);
        let metrics = host.metrics();
        assert_eq!(metrics.sum("pointsman_upstream_waiting", &[]), 0.0);
        assert_eq!(metrics.sum("pointsman_upstream_shed_total", &[]), 0.0, "its own impatience is no pressure");
        gate.open();
        assert_eq!(held.join().unwrap().status, 200);
    });
    assert_eq!(fake.count(), 1);
}

/// Another model has what the first has left, and so has a second pointsman.
#[test]
fn what_follows_has_what_is_left() {
    let (fake, other) = (FakeUpstream::start(), FakeUpstream::start());
    let far = Host::new().upstream(&other).start();
    let more = format!(
        "[providers.far]\nkind = \"openai\"\nendpoints = [\"http://{}/v1\"]\n[models.far]\nprovider = \"far\"\nname = \"small\"\n\
         [models.near]\nprovider = \"fake\"\nname = \"tiny-1\"\nfallback = [\"far\"]",
        far.address
    );
    let host = Host::new().upstream(&fake).provider("retries = 0\ntimeouts = { headers = \"300ms\" }").section(&more).start();
    fake.always(Act::silent());
    let answer = host.ask("hi").model("near").header(WHOLE, "20s").send();
    assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("far")), "{}", answer.text());
    let left = told(&other.last(), WHOLE).expect("it has come through two gateways");
    assert!((1..=19_700).contains(&left), "{left}");
    other.always(Act::silent());
    let began = Instant::now();
    let answer = host.ask("hi").model("near").header(FIRST_BYTE, "900ms").streamed().send();
    assert!(matches!(answer.status, 503 | 504), "whichever gateway's clock is first: {}", answer.text());
    assert!(began.elapsed() < SLACK);
    assert!(told(&other.last(), FIRST_BYTE).is_some_and(|left| left <= 600), "{:?}", other.last().headers);
}

/// A doubted answer is better than none when there is no time for a better one.
#[test]
fn a_cascade_gives_what_it_has_when_the_time_is_over() {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::say("No."));
    fake.when("giant-1", Act::silent());
    let section = "[models.steps]\nchoose = [\"small\", \"large\"]\n[models.steps.cascade]\nmin_chars = 50";
    let host = Host::new().upstream(&fake).section(section).start();
    for streamed in [false, true] {
        let ask = host.ask("hi").model("steps").header(WHOLE, "500ms");
        let answer = if streamed { ask.streamed().send() } else { ask.send() };
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("small")), "{}", answer.text());
        assert_eq!(answer.header("x-pointsman-escalated"), Some("short, kept"));
        // It came when the client had given up: the better one was waited for until the very end.
        assert!(told(&fake.last(), FIRST_BYTE).is_some_and(|left| left <= 250), "{:?}", fake.last().headers);
    }
    // The judge waits no longer for the rest of a stream either.
    fake.when("stall", Act::events([EVENT, EVENT]).stall_at(EVENT.len() + 8));
    let began = Instant::now();
    let mut connection = tests::Connection::open(host.address);
    let mut live = host.ask("stall").model("steps").header(FIRST_BYTE, "500ms").streamed().live(&mut connection);
    assert!(live.portion().is_some_and(|portion| !portion.is_empty()), "its beginning is better than nothing");
    assert!(began.elapsed() < SLACK);
}

#[test]
fn embeddings_are_bounded_as_well() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "");
    fake.next(Act::silent());
    let body = serde_json::json!({ "model": "vectors", "input": "a" }).to_string();
    is_over(&host.post("/v1/embeddings", body.as_bytes(), &[(WHOLE, "300ms")]), WHOLE);
}

#[test]
fn a_client_makes_no_bound_longer_and_hears_what_cannot_be_read() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).provider("retries = 0\ntimeouts = { total = \"400ms\" }").start();
    fake.next(Act::silent());
    let answer = host.ask("hi").header(WHOLE, "90s").header(PYTHON, "90").send();
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"), "{}", answer.text());
    assert_eq!(answer.json()["error"]["param"], Value::Null, "it is the configuration's bound: {}", answer.text());
    let before = fake.count();
    for header in [WHOLE, FIRST_BYTE] {
        let answer = host.ask("hi").header(header, "20").send();
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{}", answer.text());
        assert_eq!(answer.json()["error"]["param"], header);
        assert!(answer.text().contains("Send a whole number with its unit, such as 1500ms"), "{}", answer.text());
    }
    assert_eq!(fake.count(), before);
    for header in [PYTHON, NODE, ENVOY] {
        assert_eq!(host.ask("hi").header(header, "soon").send().status, 200, "{header}");
    }
}

/// Where something keeps an SDK waiting for longer than it says.
#[test]
fn sdks_can_be_left_out() {
    let fake = FakeUpstream::start();
    let host = Host::new().top("ignore_sdk_timeouts = true").upstream(&fake).start();
    fake.next(Act::answer().delay(Duration::from_millis(900)));
    assert_eq!(host.ask("hi").header(PYTHON, "0.1").send().status, 200);
    fake.next(Act::silent());
    is_over(&host.ask("hi").header(WHOLE, "300ms").send(), WHOLE);
    eventually("nobody is left", || (fake.active() == 0).then_some(()));
}
