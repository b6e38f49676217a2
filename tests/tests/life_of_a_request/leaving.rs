//! Clients that leave, and clients that read slowly: the upstream is told, and memory stays where it is.

use std::time::{Duration, Instant};

use tests::h2::Session;
use tests::{Act, Connection, FakeUpstream, Gate, Host, eventually};

/// The promise is 100 ms; a shared machine gets more, but no more than what a person would notice.
const PROMPTLY: Duration = Duration::from_secs(2);

#[test]
fn a_client_that_leaves_cancels_its_upstream() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let acts = [
        ("before the head", Act::silent()),
        ("before the first byte", Act::answer().stall_at(0)),
        ("in the middle", Act::answer().stall_at(300)),
    ];
    let mut left = 0;
    for (when, act) in acts {
        for streamed in [false, true] {
            for reset in [false, true] {
                fake.next(act.clone());
                let mut connection = Connection::open(host.address);
                let ask = if streamed { host.ask("hi").streamed() } else { host.ask("hi") };
                connection.write(&ask.bytes()).unwrap();
                eventually("a request upstream", || (fake.active() == 1).then_some(()));
                if streamed && when == "in the middle" {
                    let mut live = connection.head().unwrap();
                    assert!(live.portion().is_some());
                }
                let gone = Instant::now();
                if reset {
                    connection.reset()
                } else {
                    drop(connection)
                }
                left += 1;
                let noticed = fake.wait_for_departures(left).saturating_duration_since(gone);
                assert!(noticed < PROMPTLY, "{when}, streamed {streamed}, reset {reset}: {noticed:?}");
            }
        }
    }
    eventually("all of them booked", || {
        (host.metrics().sum("pointsman_exchanges_total", &["ending=\"left\""]) == left as f64).then_some(())
    });
    assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
}

/// What waits behind a request hid from the host that the client was gone: it was noticed only when the upstream had answered.
#[test]
fn a_client_that_leaves_is_noticed_whatever_it_has_sent_ahead() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    fake.always(Act::silent());
    let ask = host.ask("hi").bytes();
    let behind: [&[u8]; 3] = [b"x", b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", &ask];
    for (index, behind) in behind.iter().enumerate() {
        let mut connection = Connection::open(host.address);
        connection.write(&[&ask, *behind].concat()).unwrap();
        eventually("a request upstream", || (fake.active() == 1).then_some(()));
        let gone = Instant::now();
        drop(connection);
        let noticed = fake.wait_for_departures(index + 1).saturating_duration_since(gone);
        assert!(noticed < PROMPTLY, "{noticed:?}");
    }
}

/// With HTTP/2 a client leaves one request, and the connection goes on with the others.
#[test]
fn an_http_2_stream_that_is_dropped_cancels_its_upstream_alone() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let body = r#"{"model":"small","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut session = Session::plain(host.address);
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(300, &gate)).next(Act::answer().stall_at(300));
    let (stays, leaves) = (session.begin(body), session.begin(body));
    let gone = Instant::now();
    session.leave(leaves);
    let noticed = fake.wait_for_departures(1).saturating_duration_since(gone);
    assert!(noticed < PROMPTLY, "{noticed:?}");
    assert_eq!(fake.active(), 1, "the other one goes on");
    gate.open();
    assert!(session.finish(stays).ends_with("data: [DONE]\n\n"));
}

/// Eight clients that ask for 64 MiB each and read none of it: the upstream must wait, and the host must not keep it for them.
#[test]
fn a_slow_client_slows_its_upstream_and_fills_no_memory() {
    const PIECE: usize = 64 << 10;
    const TIMES: usize = 1 << 10;
    const MIB: u64 = 1 << 20;
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().spawn();
    assert_eq!(host.chat("warm up").status, 200);
    let text =
        format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}},\"finish_reason\":null}}]}}\n\n", "x".repeat(PIECE));
    fake.always(Act::body("text/event-stream", [text.clone()]).times(TIMES));
    let before = host.resident();
    let mut clients: Vec<Connection> = (0..8).map(|_| Connection::open(host.address)).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.write(&host.ask(&format!("client {index}")).streamed().bytes()).unwrap();
    }
    // What fits into the buffers of the system is sent; then the upstream waits.
    let mut last = 0;
    eventually("the upstreams wait", || {
        std::thread::sleep(Duration::from_millis(500));
        let sent = fake.sent();
        let waits = sent == last && fake.active() == 8;
        last = sent;
        waits.then_some(())
    });
    let grown = host.resident().saturating_sub(before) / MIB;
    assert!(grown < 64, "the host has grown by {grown} MiB");
    assert!(last < 8 * text.len() * TIMES / 2, "{last} bytes were taken off the upstreams");
    assert_eq!(host.get("/v1/models", &[]).status, 200, "others are served meanwhile");
    // Who reads on gets everything.
    let mut live = clients[3].head().unwrap();
    let mut read = 0;
    while let Some(portion) = live.portion() {
        read += portion.len();
        if read >= text.len() * TIMES {
            break;
        }
    }
    assert!(read >= text.len() * TIMES, "{read}");
}

/// An answer that a client takes nothing of is dropped, alone: the connection's other answers are taken, so it stays.
#[test]
fn an_http_2_stream_that_is_never_read_is_left() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("write_idle = \"1s\"").start();
    let piece = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(60_000));
    fake.next(Act::body("text/event-stream", [piece]).times(2_000));
    let mut session = Session::plain(host.address);
    let body = r#"{"model":"small","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let unread = session.begin(body);
    assert_eq!(fake.active(), 1);
    eventually("the upstream is left", || {
        assert_eq!(session.ask(&[body.replace("true", "false")])[0].0, 200);
        (fake.active() == 0).then_some(())
    });
    assert!(session.is_reset(unread), "what is left of it is no whole answer");
    assert_eq!(session.ask(&[body.to_owned()])[0].0, 200);
}

/// Who takes nothing does not hold an upstream for ever.
#[test]
fn a_client_that_never_reads_is_left() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("write_idle = \"1s\"").start();
    let piece = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n", "x".repeat(60_000));
    fake.always(Act::body("text/event-stream", [piece]).times(2_000));
    let mut client = Connection::open(host.address);
    client.write(&host.ask("hi").streamed().bytes()).unwrap();
    eventually("the upstream works", || (fake.active() == 1).then_some(()));
    eventually("the upstream is left", || (fake.active() == 0).then_some(()));
    eventually("its connection is closed", || (host.metrics().sum("pointsman_connections_open", &[]) == 0.0).then_some(()));
}
