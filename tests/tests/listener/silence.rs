//! Slow clients: each kind of waiting has a deadline, and a client that keeps to it is served.
//!
//! A deadline is tested from both sides: not before it, and within [`SOON`] after it.

use std::time::{Duration, Instant};

use tests::h2::Session;
use tests::tls::Authority;
use tests::{Connection, FakeUpstream, Host, Running, SOON};

const DEADLINE: Duration = Duration::from_millis(700);

fn listen(host: Host) -> Host {
    host.listen("first_request = \"700ms\"\nheader_read = \"700ms\"\nbody_idle = \"700ms\"\nbody_total = \"2500ms\"")
}

fn host(fake: &FakeUpstream) -> Running {
    listen(Host::new()).upstream(fake).start()
}

/// Sends these bytes and then nothing: the connection is closed, at about the deadline.
fn check(host: &Running, what: &str, bytes: &[u8]) -> Vec<u8> {
    let mut connection = Connection::open(host.address);
    let began = Instant::now();
    connection.write(bytes).unwrap();
    let said = connection.closed_within(SOON).unwrap_or_else(|| panic!("{what}: still open"));
    let after = began.elapsed();
    assert!(after >= DEADLINE - Duration::from_millis(50), "{what}: closed after {after:?}");
    said
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    check(&host, "silence", b"");
    check(&host, "one byte", b"P");
    check(&host, "half a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM");
    check(&host, "a preface and no settings", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    check(&host, "half a head", b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-a: ");
    assert!(host.metrics().sum("pointsman_connections_total", &["event=\"first_request_timeout\""]) >= 4.0);
}

#[test]
fn a_dribbled_head_is_cut() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let mut connection = Connection::open(host.address);
    let began = Instant::now();
    let mut head = b"GET /v1/models HTTP/1.1\r\nhost: a\r\n".iter().chain(b"x-a: b\r\n".iter().cycle());
    // A byte every tenth of a second, for ever, if it were let.
    while connection.write(&[*head.next().unwrap()]).is_ok() {
        assert!(began.elapsed() < SOON, "still open");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The administrator's listener has the deadlines that are the default.
#[test]
fn nobody_is_waited_for_at_the_admin_listener_either() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let mut silent: Vec<Connection> = (0..3).map(|_| Connection::open(host.admin)).collect();
    silent[1].write(b"GET /metrics HTTP/1.1\r\nhost: ").unwrap();
    silent[2].write(b"POST /api/reload HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5000000\r\n\r\n{").unwrap();
    for mut connection in silent {
        assert!(connection.closed_within(SOON).is_some());
    }
    assert_eq!(host.admin("/healthz").status, 200);
}

/// The time of an idle connection counts from its last answer.
#[test]
fn an_idle_connection_is_closed() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let mut connection = Connection::open(host.address);
    for _ in 0..4 {
        assert_eq!(connection.exchange(&host.ask("hi").bytes()).unwrap().status, 200);
        std::thread::sleep(DEADLINE / 3);
    }
    assert!(connection.closed_within(SOON).is_some());
}

/// Pings are no requests: they do not keep a connection of HTTP/2 open.
#[test]
fn an_idle_http_2_connection_is_told_goodbye() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let mut session = Session::plain(host.address);
    let body = r#"{"model":"small","messages":[{"role":"user","content":"hi"}]}"#.to_owned();
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(session.ask(std::slice::from_ref(&body))[0].0, 200);
        std::thread::sleep(DEADLINE / 3);
    }
    // One whose model thinks for long is not idle.
    fake.next(tests::Act::answer().delay(DEADLINE * 2));
    assert_eq!(session.ask(&[body])[0].0, 200);
    assert!(session.is_ended());
    assert!(began.elapsed() >= DEADLINE * 4);
}

#[test]
fn a_body_that_stalls_or_dribbles_is_refused() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let whole = host.ask(&"x".repeat(1_000)).bytes();
    let mut stalled = Connection::open(host.address);
    stalled.write(&whole[..whole.len() - 500]).unwrap();
    let answer = stalled.answer().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"), "{}", answer.text());
    assert!(answer.json()["error"]["message"].as_str().unwrap().contains("paused"));
    assert!(stalled.closed_within(SOON).is_some(), "what is left of the body is not waited for");

    let mut dribbled = Connection::open(host.address);
    dribbled.write(&whole[..whole.len() - 500]).unwrap();
    let began = Instant::now();
    // Never a pause, and never done.
    for byte in &whole[whole.len() - 500..] {
        if dribbled.write(&[*byte]).is_err() || began.elapsed() > Duration::from_secs(4) {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let answer = dribbled.answer().unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_timeout"), "{}", answer.text());
    assert_eq!(fake.count(), 0);
}

#[test]
fn a_slow_body_in_time_is_served() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let whole = host.ask("slow but steady").bytes();
    let mut connection = Connection::open(host.address);
    for piece in whole.chunks(whole.len() / 5 + 1) {
        connection.write(piece).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    assert_eq!(connection.answer().unwrap().status, 200);
}

/// A model may think for longer than any of the listener's deadlines.
#[test]
fn an_answer_has_no_such_deadline() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    fake.next(tests::Act::answer().delay(DEADLINE * 3));
    assert_eq!(host.chat("think").status, 200);
    fake.next(tests::Act::answer().pace(Duration::from_millis(400)));
    assert!(tests::sse::is_done(&host.ask("think").streamed().send().body));
}

#[test]
fn a_tls_port_waits_no_longer_than_a_plain_one() {
    let fake = FakeUpstream::start();
    let pair = Authority::new().sign("localhost");
    let host = listen(Host::new()).upstream(&fake).file("c.pem", pair.certificate.as_bytes()).file("k.pem", pair.key.as_bytes());
    let host = host.listen("tls = { certificate = \"c.pem\", key = \"k.pem\" }").start();
    check(&host, "no ClientHello", b"");
    check(&host, "the first byte of one", b"\x16");
    let mut plain = Connection::open(host.address);
    plain.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let said = plain.closed_within(SOON).expect("plain text is no handshake");
    assert!(!said.starts_with(b"HTTP/1.1 2"), "{said:?}");
}
