//! The end of a process: what is in flight may finish, nobody new is taken in, and whoever asks twice does not wait.

use std::time::{Duration, Instant};

use tests::h2::Session;
use tests::{Act, Binary, Connection, FakeUpstream, Gate, Host, SOON, eventually, sse};

const STREAMS: usize = 100;

fn host(fake: &FakeUpstream, drain: &str) -> Binary {
    Host::new().upstream(fake).listen(&format!("drain = {drain:?}")).spawn()
}

/// Opens streams that stand in the middle of their answers until the gate opens.
fn open_streams(host: &Binary, fake: &FakeUpstream, gate: &Gate, count: usize) -> Vec<Connection> {
    fake.always(Act::answer().hold_at(300, gate));
    let mut streams: Vec<Connection> = (0..count).map(|_| Connection::open(host.address)).collect();
    for (index, stream) in streams.iter_mut().enumerate() {
        stream.write(&host.ask(&format!("stream {index}")).streamed().bytes()).unwrap();
    }
    eventually("all streams", || (fake.active() == count).then_some(()));
    streams
}

#[test]
fn live_streams_finish_and_nobody_new_comes_in() {
    let fake = FakeUpstream::start();
    let mut host = host(&fake, "60s");
    assert_eq!(host.admin("/readyz").status, 200);
    let gate = Gate::new();
    let mut streams = open_streams(&host, &fake, &gate, STREAMS);
    let mut idle = Connection::open(host.address);
    assert_eq!(idle.exchange(&host.ask("hi").model("none").bytes()).unwrap().status, 404);

    host.signal("TERM");
    eventually("/readyz turns", || (host.admin("/readyz").status == 503).then_some(()));
    assert_eq!(host.admin("/healthz").status, 200, "alive to the last");
    eventually("new connections are refused", || Connection::try_open(host.address).is_err().then_some(()));
    assert!(idle.closed_within(SOON).is_some(), "an idle connection is closed");
    assert_eq!(host.ended(), None, "the process waits for its streams");
    // Streams that stand still are not cut while the grace lasts.
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(fake.active(), STREAMS);

    gate.open();
    for (index, stream) in streams.iter_mut().enumerate() {
        let answer = stream.answer().unwrap_or_else(|error| panic!("stream {index}: {error}"));
        assert_eq!((answer.status, answer.whole, sse::is_done(&answer.body)), (200, true, true), "stream {index}");
        assert!(stream.closed_within(SOON).is_some(), "stream {index}: no keep-alive after it");
    }
    let status = host.ends_within(SOON).expect("it ends when its last stream has");
    assert_eq!(status.code(), Some(0));
    let drained = host.wait_for_log("\"drained\"");
    assert!(drained.contains("\"cut\":0"), "{drained}");
}

/// A plain request whose answer begins during the drain says that the connection ends with it.
#[test]
fn an_answer_during_the_drain_closes_its_connection() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "60s");
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(0, &gate));
    let mut connection = Connection::open(host.address);
    connection.write(&host.ask("hi").bytes()).unwrap();
    eventually("a request upstream", || (fake.active() == 1).then_some(()));
    host.signal("TERM");
    eventually("the drain", || (host.admin("/readyz").status == 503).then_some(()));
    gate.open();
    let answer = connection.answer().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
}

/// HTTP/2 says goodbye: what is under way is finished, and then the connection ends without an error.
#[test]
fn an_http_2_connection_finishes_its_streams() {
    let fake = FakeUpstream::start();
    let mut host = host(&fake, "60s");
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(300, &gate));
    let mut session = Session::plain(host.address);
    let stream = session.begin(r#"{"model":"small","stream":true,"messages":[{"role":"user","content":"hi"}]}"#);
    host.signal("TERM");
    eventually("the drain", || (host.admin("/readyz").status == 503).then_some(()));
    gate.open();
    assert!(session.finish(stream).ends_with("data: [DONE]\n\n"));
    assert!(session.is_ended());
    assert_eq!(host.ends_within(SOON).expect("nothing is left").code(), Some(0));
}

#[test]
fn the_grace_ends() {
    let fake = FakeUpstream::start();
    let mut host = host(&fake, "1s");
    let mut streams = open_streams(&host, &fake, &Gate::new(), STREAMS);
    host.signal("TERM");
    assert_eq!(host.ends_within(SOON).expect("the grace is one second").code(), Some(0));
    for (index, stream) in streams.iter_mut().enumerate() {
        let answer = stream.answer().unwrap_or_else(|error| panic!("stream {index}: {error}"));
        // They were cut in the middle of an answer, and some clients take a connection's end for a stream's.
        let error = sse::error(&answer.body).unwrap_or_else(|| panic!("stream {index}: {}", answer.text()));
        assert_eq!((error["code"].as_str(), sse::is_done(&answer.body)), (Some("overloaded"), false), "stream {index}");
    }
    // Their clients were there to the last: it is not them who left.
    let booked = |ending: &str| host.log().iter().filter(|line| line.contains(&format!("\"ending\":\"{ending}\""))).count();
    eventually("all of them booked", || (booked("drained") == STREAMS).then_some(()));
    assert_eq!(booked("left"), 0);
    fake.wait_for_departures(STREAMS);
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM")] {
        let fake = FakeUpstream::start();
        let mut host = host(&fake, "60s");
        let _streams = open_streams(&host, &fake, &Gate::new(), STREAMS);
        host.signal(first);
        eventually("the drain", || (host.admin("/readyz").status == 503).then_some(()));
        let began = Instant::now();
        host.signal(second);
        assert!(host.ends_within(SOON).is_some(), "{first}, {second}");
        assert!(began.elapsed() < SOON);
    }
}

#[test]
fn without_work_it_ends_at_once() {
    let fake = FakeUpstream::start();
    let mut host = host(&fake, "60s");
    assert_eq!(host.chat("hi").status, 200);
    host.signal("TERM");
    assert_eq!(host.ends_within(SOON).expect("nobody is waited for").code(), Some(0));
}

/// Two processes share the port for a moment: the new one is there before the old one goes, and no client is refused. Whoever comes in the
/// very moment in which one of the old one's sockets is closed is reset by the system (`listen.handover` is without that), and asks again.
#[test]
fn a_new_process_takes_the_port_over() {
    let fake = FakeUpstream::start();
    let mut old = host(&fake, "30s");
    let new = Host::new().upstream(&fake).listen(&format!("address = \"{}\"", old.address)).spawn();
    let [answered, reset] = [(); 2].map(|()| std::sync::atomic::AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let stop = std::sync::atomic::AtomicBool::new(false);
        let stop = &*Box::leak(Box::new(stop));
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    let ask = || new.ask("hi").try_send();
                    let answer = ask().or_else(|error| {
                        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                        reset.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        ask()
                    });
                    assert_eq!(answer.expect("no client is turned away").status, 200);
                    answered.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        old.signal("TERM");
        let ended = old.ends_within(SOON);
        std::thread::sleep(Duration::from_millis(300));
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(ended.is_some());
    });
    let answered = answered.into_inner();
    assert!(answered > 10);
    assert!(reset.into_inner() <= 4, "it is a moment for each socket");
    assert_eq!(fake.count(), answered, "who was reset had not been let in: nothing that was asked upstream is lost");
}

/// While one process drained, the next one could not have the administrator's port and did not start: nobody served.
#[test]
fn the_next_process_starts_while_one_drains() {
    let fake = FakeUpstream::start();
    let mut old = host(&fake, "60s");
    let gate = Gate::new();
    let mut streams = open_streams(&old, &fake, &gate, 1);
    old.signal("TERM");
    old.wait_for_log("\"draining\"");
    fake.always(Act::answer());
    let new = Host::new().upstream(&fake).admin(&format!("address = \"{}\"", old.admin)).spawn();
    assert_eq!((new.admin, new.chat("hi").status, old.ended()), (old.admin, 200, None));
    gate.open();
    assert!(sse::is_done(&streams[0].answer().unwrap().body));
    old.ends_within(SOON).expect("its stream was the last");
    assert_eq!(new.admin("/readyz").status, 200);
}
