//! Too many connections, or too much memory: who is over the bound is sent away at once, and a place that is left is free again.

use std::net::{SocketAddr, TcpStream};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tests::{Connection, FakeUpstream, Host, SOON, eventually};

/// A connection that is kept answers; one that is over the bound is closed without a word.
fn is_kept(host: SocketAddr, connection: &mut Connection) -> bool {
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\n\r\n");
    connection.write(request.as_bytes()).is_ok() && connection.answer().is_ok_and(|answer| answer.status == 200)
}

fn check(bound: &str, event: &str) {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen(bound).start();
    let mut kept: Vec<Connection> = Vec::new();
    let mut refused = 0;
    for _ in 0..14 {
        let mut connection = Connection::open(host.address);
        if is_kept(host.address, &mut connection) {
            kept.push(connection);
        } else {
            refused += 1;
        }
    }
    assert_eq!((kept.len(), refused), (8, 6), "{bound}");
    let label = format!("event=\"{event}\"");
    assert_eq!(host.metrics().sum("pointsman_connections_total", &[&label]), 6.0);
    assert_eq!(host.metrics().sum("pointsman_connections_open", &[]), 8.0);
    kept.truncate(5);
    eventually("three free places", || (host.metrics().sum("pointsman_connections_open", &[]) == 5.0).then_some(()));
    for _ in 0..3 {
        let mut connection = Connection::open(host.address);
        assert!(is_kept(host.address, &mut connection));
        kept.push(connection);
    }
    let mut one_more = Connection::open(host.address);
    assert!(one_more.closed_within(SOON).is_some());
}

#[test]
fn connections_in_all() {
    check("max_connections = 8", "refused_global");
}

#[test]
fn connections_from_one_address() {
    check("max_connections_per_address = 8", "refused_per_address");
}

/// Who takes all places of the administrator's listener shuts nobody out: health checks are answered, and the longest idle ones go.
#[test]
fn the_administrator_is_answered_in_a_crowd() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let ask = format!("GET /healthz HTTP/1.1\r\nhost: {}\r\n\r\n", host.admin);
    let mut kept: Vec<Connection> = Vec::new();
    // Some have asked and stay, others say nothing, and others send a body that does not end.
    for place in 0..256 {
        let mut connection = Connection::open(host.admin);
        match place % 3 {
            0 => assert_eq!(connection.exchange(ask.as_bytes()).unwrap().status, 200, "{place}"),
            1 => {
                let head = format!("POST /api/reload HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n\r\n1", host.admin);
                connection.write(head.as_bytes()).unwrap();
            }
            _ => {}
        }
        kept.push(connection);
    }
    for _ in 0..8 {
        assert_eq!((host.admin("/healthz").status, host.admin("/readyz").status), (200, 200));
    }
    let mut last = Connection::open(host.admin);
    for _ in 0..600 {
        kept.push(Connection::open(host.admin));
        assert_eq!(last.exchange(ask.as_bytes()).unwrap().status, 200, "who asks is not idle");
    }
    assert_eq!(host.admin("/healthz").status, 200);
    assert!(kept[0].closed_within(SOON).is_some(), "the longest idle one has gone");
}

/// A connection from another address of this machine.
fn from(address: [u8; 4], host: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.connect(&host.into())?;
    Ok(socket.into())
}

/// Another address has places of its own.
#[test]
fn one_address_does_not_shut_another_out() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("max_connections_per_address = 2").start();
    let mut kept: Vec<Connection> = (0..2).map(|_| Connection::open(host.address)).collect();
    assert!(kept.iter_mut().all(|connection| is_kept(host.address, connection)));
    let stream = from([127, 0, 0, 2], host.address).unwrap();
    let mut other = Connection::over(stream.try_clone().unwrap(), stream);
    assert!(is_kept(host.address, &mut other));
}

/// Ten thousand clients that keep their connections and say nothing: the next one is served, and each costs a few KiB.
#[test]
fn ten_thousand_idle_connections_are_carried() {
    const MANY: usize = 10_000;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < MANY as u64 + 1_000) {
        return eprintln!("not run: a hard limit of {} open files is needed (`ulimit -Hn`)", MANY + 1_000);
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .listen("max_connections = 10010\nmax_connections_per_address = 1000\nfirst_request = \"2m\"\nheader_read = \"2m\"")
        .spawn();
    assert_eq!(host.chat("before").status, 200);
    let before = host.resident();
    // For the moment of a question a connection takes a second file here.
    let is_answered = |stream: &TcpStream| {
        let mut connection = Connection::over(stream.try_clone().unwrap(), stream.try_clone().unwrap());
        is_kept(host.address, &mut connection)
    };
    let mut idle = Vec::with_capacity(MANY);
    for place in 0..MANY {
        let stream = from([127, 0, 1, (place / 1_000) as u8 + 1], host.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // One in ten has asked; the others have said nothing yet.
        assert!(place % 10 != 0 || is_answered(&stream), "{place}");
        idle.push(stream);
    }
    let open = || host.metrics().sum("pointsman_connections_open", &[]);
    eventually("all of them are open", || (open() >= MANY as f64).then_some(()));
    let each = host.resident().saturating_sub(before) / MANY as u64;
    println!("{} MiB before, {} KiB for each idle connection", before >> 20, each >> 10);
    for turn in 0..20 {
        let answer = if turn % 2 == 0 { host.chat("meanwhile") } else { host.ask("meanwhile").streamed().send() };
        assert_eq!((answer.status, answer.whole), (200, true));
    }
    assert!(each < 64 << 10, "{each} bytes each");
    assert!(idle.iter().step_by(500).all(is_answered), "they are kept");
    drop(idle);
    eventually("they are gone", || (open() < 10.0).then_some(()));
    assert_eq!(host.chat("after").status, 200);
}

/// A body is refused before it is read, where memory is full; who has none is answered.
#[test]
fn full_memory_refuses_bodies_at_once() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("memory = \"1MiB\"").spawn();
    host.wait_for_log("the pressure on memory has changed");
    for answer in [host.chat("hi"), host.ask("hi").streamed().send(), host.post("/v1/embeddings", b"{}", &[])] {
        assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{}", answer.text());
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // Its body has not come, and is not waited for.
    let mut connection = Connection::open(host.address);
    let whole = host.ask(&"x".repeat(100_000)).bytes();
    connection.write(&whole[..1_000]).unwrap();
    assert_eq!(connection.answer().unwrap().status, 503);
    assert_eq!((host.get("/v1/models", &[]).status, host.admin("/healthz").status, fake.count()), (200, 200, 0));
    assert_eq!(host.metrics().sum("pointsman_memory_refused_total", &["priority=\"interactive\""]), 4.0);
    assert_eq!(host.metrics().sum("pointsman_memory_pressure", &[]), 2.0);
}

/// Bodies that are held until they are whole fill the memory; when they are gone it is good again.
#[test]
fn memory_that_is_given_back_lets_requests_in_again() {
    let fake = FakeUpstream::start();
    // At rest it takes some 40 MiB as built for tests, and half as much as released.
    let host = Host::new().upstream(&fake).listen("memory = \"200MiB\"\nbody_idle = \"60s\"").spawn();
    assert_eq!(host.chat("before").status, 200);
    let body = vec![b' '; 31 << 20];
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        host.address,
        body.len() + 1
    );
    let pressure = || host.metrics().sum("pointsman_memory_pressure", &[]);
    let mut held = Vec::new();
    while pressure() < 2.0 {
        assert!(held.len() < 20, "{} MiB, and nobody is refused", host.resident() >> 20);
        let mut connection = Connection::open(host.address);
        // One that is refused while it sends is closed under its hands.
        let _ = connection.write(head.as_bytes()).and_then(|()| connection.write(&body));
        held.push(connection);
        std::thread::sleep(std::time::Duration::from_millis(150));
    }
    assert_eq!(host.chat("meanwhile").code(), "overloaded");
    drop(held);
    eventually("memory is free again", || (pressure() == 0.0).then_some(()));
    assert_eq!(host.chat("after").status, 200);
}
