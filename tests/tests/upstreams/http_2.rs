//! HTTP/2 to upstreams: one connection for many requests, each of which can fail, and be given up, alone.

use std::time::{Duration, Instant};

use tests::tls::Authority;
use tests::{Act, Binary, Connection, FakeUpstream, Front, Gate, Host, eventually, sse};

/// A host with one core, so that there is one connection, and what it sends to.
fn start(provider: &str) -> (FakeUpstream, Front, Binary) {
    let fake = FakeUpstream::start();
    let authority = Authority::new();
    let front = Front::of(&fake, &authority.sign("localhost"), &["h2", "http/1.1"]);
    let host = Host::new().file("ca.pem", authority.certificate().as_bytes()).endpoint(front.url());
    let file = host.path("ca.pem");
    let host = host.provider(provider).listen("threads = 1").spawn_with(&[("SSL_CERT_FILE", file.to_str().unwrap())]);
    // The connection is there before anything is counted.
    assert_eq!(host.chat("warm up").status, 200);
    (fake, front, host)
}

const EVENT: &str = r#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#;

#[test]
fn many_requests_share_a_connection() {
    let (fake, front, host) = start("");
    let gate = Gate::new();
    fake.always(Act::answer().hold_at(0, &gate));
    let mut clients: Vec<Connection> = (0..50).map(|_| Connection::open(host.address)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        let ask = host.ask(&format!("number {index}."));
        client.write(&if index % 2 == 0 { ask.streamed() } else { ask }.bytes()).unwrap();
    }
    eventually("all of them upstream at once", || (fake.active() == 50).then_some(()));
    gate.open();
    for (index, client) in clients.iter_mut().enumerate() {
        let answer = client.answer().unwrap();
        assert!(answer.whole && answer.content().ends_with(&format!("to: number {index}.")), "{index}: {}", answer.text());
    }
    assert_eq!(front.connections(), ["h2"]);
}

/// Servers allow a hundred requests or so at a time on one connection. There was only ever one, so that the next request waited
/// behind open streams, for minutes, at an upstream that had nothing to do.
#[test]
fn more_requests_than_a_connection_takes_go_over_several() {
    const MANY: usize = 220;
    let (fake, front, host) = start("");
    let mut connections = 0;
    for wave in 0..2 {
        let gate = Gate::new();
        fake.always(Act::answer().hold_at(0, &gate));
        let mut clients: Vec<Connection> = (0..MANY).map(|_| Connection::open(host.address)).collect();
        for client in &mut clients {
            client.write(&host.ask("hi").streamed().bytes()).unwrap();
        }
        eventually("all of them upstream at once", || (fake.active() == MANY).then_some(()));
        gate.open();
        for client in &mut clients {
            assert!(sse::is_done(&client.answer().unwrap().body));
        }
        if wave == 0 {
            connections = front.connections().len();
            assert!(connections >= MANY.div_ceil(100), "{connections}");
        }
    }
    assert_eq!(front.connections().len(), connections, "what is open is used again");
}

#[test]
fn a_stream_arrives_piece_by_piece() {
    let (fake, _front, host) = start("");
    let length = format!("data: {EVENT}\n\n").len();
    let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
    let act = gates
        .iter()
        .enumerate()
        .fold(Act::events([EVENT, EVENT, EVENT, "[DONE]"]), |act, (index, gate)| act.hold_at(length * (index + 1), gate));
    fake.next(act);
    let mut connection = Connection::open(host.address);
    let mut live = host.ask("hi").streamed().live(&mut connection);
    for gate in &gates {
        let portion = live.portion().expect("an event comes while the next is not there");
        assert_eq!(sse::events(&portion), [EVENT]);
        gate.open();
    }
    assert_eq!(sse::events(&live.portion().expect("the end")), ["[DONE]"]);
    assert_eq!(live.portion(), None);
}

/// RST_STREAM before the answer's first byte: another try, and nobody downstream notices.
#[test]
fn a_stream_that_is_reset_before_it_has_begun_is_tried_again() {
    let (fake, front, host) = start("");
    for act in [Act::raw(""), Act::answer().cut_at(0), Act::answer().reset_at(0)] {
        for streamed in [false, true] {
            let before = fake.count();
            fake.next(act.clone());
            let ask = if streamed { host.ask("hi").streamed() } else { host.ask("hi") };
            let answer = ask.send();
            assert_eq!((answer.status, answer.content()), (200, format!("Answer {} of tiny-1 to: hi", before + 2)));
            assert_eq!(fake.count(), before + 2, "one try, one more");
        }
    }
    // A plain answer has not begun before it is whole.
    fake.next(Act::answer().cut_at(50));
    assert_eq!(host.chat("hi").status, 200);
    assert_eq!(front.connections(), ["h2"], "a stream's end is not the connection's");
}

/// RST_STREAM after the first event: whole events, then one that says so; the connection's other requests go on.
#[test]
fn a_stream_that_is_reset_later_ends_with_an_error() {
    let (fake, front, host) = start("");
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(300, &gate));
    let mut connection = Connection::open(host.address);
    let mut other = host.ask("the other one").streamed().live(&mut connection);
    let first = other.portion().expect("it has begun");
    let event = format!("data: {EVENT}\n\n");
    for byte in [event.len(), event.len() + 10] {
        fake.next(Act::events([EVENT, EVENT, "[DONE]"]).cut_at(byte));
        let before = fake.count();
        let answer = host.ask("hi").streamed().send();
        assert_eq!((answer.status, answer.whole), (200, true));
        assert!(answer.text().starts_with(&event) && !sse::is_done(&answer.body), "{}", answer.text());
        assert_eq!(sse::error(&answer.body).unwrap()["code"], "upstream_broken", "{}", answer.text());
        assert_eq!(fake.count(), before + 1, "nobody starts over");
    }
    gate.open();
    let mut rest = first;
    while let Some(portion) = other.portion() {
        rest.extend_from_slice(&portion);
    }
    assert!(sse::is_done(&rest) && sse::content(&rest).ends_with("to: the other one"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(front.connections(), ["h2"]);
}

/// GOAWAY: what runs is finished where it runs, and what comes goes over another connection. Nobody gets an error.
#[test]
fn a_server_that_says_goodbye_hurts_nobody() {
    let (fake, front, host) = start("retries = 0");
    for round in 1..=5 {
        let gate = Gate::new();
        fake.next(Act::answer().hold_at(300, &gate));
        let mut connection = Connection::open(host.address);
        let mut running = host.ask("runs").streamed().live(&mut connection);
        let mut all = running.portion().expect("it has begun");
        front.goodbye();
        // One right behind the goodbye, which may cross it on the way, and some after it.
        for _ in 0..5 {
            let answer = host.chat("comes");
            assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
        }
        gate.open();
        while let Some(portion) = running.portion() {
            all.extend_from_slice(&portion);
        }
        assert!(sse::is_done(&all), "round {round}: {}", String::from_utf8_lossy(&all));
        let connections = front.connections().len();
        assert!((2..=round + 1).contains(&connections), "round {round}: {connections} connections");
    }
}

/// A client that leaves cancels its own stream, and no other on the connection.
#[test]
fn a_client_that_leaves_cancels_its_stream_alone() {
    let (fake, front, host) = start("");
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(300, &gate)).next(Act::answer().stall_at(300));
    let (mut stays, mut leaves) = (Connection::open(host.address), Connection::open(host.address));
    let mut stays = host.ask("stays").streamed().live(&mut stays);
    let mut all = stays.portion().expect("it has begun");
    assert!(host.ask("leaves").streamed().live(&mut leaves).portion().is_some());
    let gone = Instant::now();
    drop(leaves);
    let noticed = fake.wait_for_departures(1).saturating_duration_since(gone);
    assert!(noticed < Duration::from_secs(2), "{noticed:?}");
    gate.open();
    while let Some(portion) = stays.portion() {
        all.extend_from_slice(&portion);
    }
    assert!(sse::is_done(&all));
    assert_eq!(front.connections(), ["h2"]);
}
