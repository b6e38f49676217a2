//! Each phase of an upstream request has a bound of its own. Here each is short in turn, and the others are so long that whoever
//! waited for one of them would be noticed.

use std::io::Read;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use tests::{Act, Answer, Deaf, Door, FakeUpstream, Host, Running, SOON, eventually, sse};

const PHASES: [&str; 6] = ["connect", "tls", "headers", "first_token", "between_tokens", "total"];
const SHORT: Duration = Duration::from_millis(400);
/// What a slow, shared machine may need on top of it; far less than any other bound.
const SLACK: Duration = Duration::from_secs(10);

/// A host whose phases are long, all but one. One try each, so that one bound is passed once.
fn host(url: String, short: &str) -> Running {
    let bounds = PHASES.map(|phase| format!("{phase} = {:?}", if phase == short { "400ms" } else { "90s" }));
    Host::new().endpoint(url).provider(&format!("timeouts = {{ {} }}\nretries = 0", bounds.join(", "))).start()
}

/// What is answered, with the time that it took held to the bound.
fn in_time(what: &str, ask: impl FnOnce() -> Answer) -> Answer {
    let began = Instant::now();
    let answer = ask();
    let took = began.elapsed();
    assert!((SHORT..SHORT + SLACK).contains(&took), "{what}: {took:?}");
    answer
}

/// Plain and streamed: nothing has begun, so the client gets a status, a code, and words that say which bound was passed.
fn is_told_before_it_began(door: &Door, why: &str) {
    for ask in [door.ask("hi"), door.ask("hi").streamed()] {
        let answer = in_time(why, || ask.send());
        assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"), "{}", answer.text());
        assert!(answer.text().contains(why), "{why:?} is not in {}", answer.text());
    }
}

/// After the first event: an event that says so, and no end.
fn is_told_in_the_stream(door: &Door, why: &str) {
    let answer = in_time(why, || door.ask("hi").streamed().send());
    assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
    let error = sse::error(&answer.body).unwrap_or_else(|| panic!("no error in {}", answer.text()));
    assert_eq!(error["code"], "upstream_timeout");
    assert!(error["message"].as_str().unwrap().contains(why), "{why:?} is not in {error}");
    assert!(!sse::is_done(&answer.body));
}

/// The upstream was told of each request that was given up, and none is counted as running.
fn nothing_is_left(host: &Running, fake: &FakeUpstream) {
    fake.wait_for_departures(fake.count());
    eventually("nothing is left upstream", || ((fake.active(), fake.open()) == (0, 0)).then_some(()));
    assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
}

const EVENT: &str = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;

#[test]
fn connect() {
    let deaf = Deaf::new();
    let host = host(deaf.url(), "connect");
    is_told_before_it_began(&host, "no connection within 400ms");
}

#[test]
fn tls() {
    // The system shakes hands for it, and nobody reads what comes.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = host(format!("https://{}/v1", silent.local_addr().unwrap()), "tls");
    is_told_before_it_began(&host, "no TLS handshake within 400ms");
    for _ in 0..2 {
        let (mut connection, _) = silent.accept().unwrap();
        connection.set_read_timeout(Some(SOON)).unwrap();
        let mut hello = Vec::new();
        connection.read_to_end(&mut hello).expect("the connection is closed, not kept");
        assert_eq!(hello.first(), Some(&0x16), "a ClientHello, and then the end");
    }
}

#[test]
fn headers() {
    let fake = FakeUpstream::start();
    let host = host(fake.url(), "headers");
    fake.always(Act::silent());
    is_told_before_it_began(&host, "did not send the answer's head within 0.4 s");
    nothing_is_left(&host, &fake);
}

#[test]
fn first_token() {
    let fake = FakeUpstream::start();
    let host = host(fake.url(), "first_token");
    fake.always(Act::events([EVENT]).stall_at(0));
    is_told_before_it_began(&host, "did not send the first event of its answer within 0.4 s");
    nothing_is_left(&host, &fake);
}

#[test]
fn between_tokens() {
    let fake = FakeUpstream::start();
    let host = host(fake.url(), "between_tokens");
    // In the middle of an event, and between two.
    for byte in [EVENT.len() + 30, EVENT.len() + 8] {
        fake.next(Act::events([EVENT, EVENT]).stall_at(byte));
        is_told_in_the_stream(&host, "paused for too long");
    }
    // Each pause is shorter than the bound, all of them together are longer.
    fake.next(Act::events([EVENT, EVENT, EVENT, EVENT, EVENT, "[DONE]"]).pace(SHORT / 4));
    let answer = in_time("slow, but going on", || host.ask("hi").streamed().send());
    assert!(sse::is_done(&answer.body), "{}", answer.text());
    eventually("the upstream is left", || (fake.active() == 0).then_some(()));
    assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
}

#[test]
fn total() {
    let fake = FakeUpstream::start();
    let host = host(fake.url(), "total");
    // Whatever phase it is in.
    fake.always(Act::silent());
    is_told_before_it_began(&host, "did not send the answer's head within 0.4 s");
    fake.always(Act::events([EVENT]).stall_at(0));
    is_told_before_it_began(&host, "did not send the first event of its answer within 0.4 s");
    fake.always(Act::events([EVENT; 100]).pace(Duration::from_millis(30)));
    is_told_in_the_stream(&host, "did not finish its answer in time");
    nothing_is_left(&host, &fake);
    let deaf = Deaf::new();
    is_told_before_it_began(&self::host(deaf.url(), "total"), "within 0.4 s");
}

/// A plain answer has no first token that could be seen: it has the longer of both bounds to come whole, and begins when it has.
#[test]
fn a_plain_answer_that_stops_half_way() {
    let fake = FakeUpstream::start();
    let bounds = "timeouts = { headers = \"90s\", first_token = \"100ms\", between_tokens = \"400ms\" }\nretries = 0";
    let host = Host::new().upstream(&fake).provider(bounds).start();
    fake.next(Act::answer().stall_at(20));
    let answer = in_time("a plain answer", || host.chat("hi"));
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"), "{}", answer.text());
    nothing_is_left(&host, &fake);
}
