//! Too many connections: who is over the bound is closed at once, and a place that is left is free again.

use tests::{Connection, FakeUpstream, Host, Running, SOON, eventually};

/// A connection that is kept answers; one that is over the bound is closed without a word.
fn is_kept(host: &Running, connection: &mut Connection) -> bool {
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: {}\r\n\r\n", host.address);
    connection.write(request.as_bytes()).is_ok() && connection.answer().is_ok_and(|answer| answer.status == 200)
}

fn check(bound: &str, event: &str) {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen(bound).start();
    let mut kept: Vec<Connection> = Vec::new();
    let mut refused = 0;
    for _ in 0..14 {
        let mut connection = Connection::open(host.address);
        if is_kept(&host, &mut connection) {
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
        assert!(is_kept(&host, &mut connection));
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

/// Another address has places of its own.
#[test]
fn one_address_does_not_shut_another_out() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("max_connections_per_address = 2").start();
    let mut kept: Vec<Connection> = (0..2).map(|_| Connection::open(host.address)).collect();
    assert!(kept.iter_mut().all(|connection| is_kept(&host, connection)));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    socket.connect(&host.address.into()).unwrap();
    let stream = std::net::TcpStream::from(socket);
    let mut other = Connection::over(stream.try_clone().unwrap(), stream);
    assert!(is_kept(&host, &mut other));
}
