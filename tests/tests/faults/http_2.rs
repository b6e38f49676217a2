//! The table over TLS and HTTP/2, with policies of each kind: a fault ends a stream there, and not the connection.
//!
//! Hosts are processes here, since an authority of our own is trusted by the environment alone; each has a provider per cell, so
//! that no cell knows of another.

use tests::link::Weather;
use tests::tls::Authority;
use tests::{Act, Connection, FakeUpstream, FaultLink, Front, Gate, Host, eventually, sse};

use super::cell::{Cell, DOORS, each, happen, policy, section};
use super::table::{FAULTS, PLAIN, Phase, STREAMED, fate};

/// Hosts at a time, each with its share of the cells.
const HOSTS: usize = 18;

const POLICIES_HERE: [&str; 7] =
    ["none", "retry, two endpoints", "hedge", "all of them", "cascade, first model", "cascade, second model", "continuation"];

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (streamed, phases) in [(false, &PLAIN[..]), (true, &STREAMED[..])] {
        for (phase, _) in phases.iter().filter(|(phase, _)| !matches!(phase, Phase::Connect | Phase::Accepted | Phase::Sending)) {
            for (fault, _, _) in FAULTS {
                let Some(fate) = fate(fault, *phase) else { continue };
                let policies = POLICIES_HERE.into_iter().map(policy).filter(|policy| streamed || !policy.continues);
                cells.extend(policies.map(|policy| Cell::of(fault, *phase, fate, streamed, policy)));
            }
        }
    }
    cells
}

fn run(cells: &[Cell]) {
    let fake = FakeUpstream::with_doors(DOORS);
    let authority = Authority::new();
    let pair = authority.sign("localhost");
    let fronts: Vec<Front> = fake.addresses().iter().map(|door| Front::at(*door, &pair, &["h2"])).collect();
    let addresses: Vec<_> = fronts.iter().map(Front::address).collect();
    let link = FaultLink::to_each(&addresses);
    let urls: Vec<String> = link.addresses().iter().map(|address| format!("https://localhost:{}/v1", address.port())).collect();
    let mut host = Host::new().file("ca.pem", authority.certificate().as_bytes());
    for (number, cell) in cells.iter().enumerate() {
        host = host.section(&section(&format!("cell{number}"), cell.policy, &urls[..cell.policy.endpoints], &urls[DOORS - 1]));
    }
    let file = host.path("ca.pem");
    let host = host.spawn_with(&[("SSL_CERT_FILE", file.to_str().unwrap())]);
    let numbered = cells.iter().enumerate().collect();
    each(
        numbered,
        1,
        |(_, cell)| cell.what.clone(),
        |(number, cell)| happen(cell, &format!("cell{number}"), &host, &fake, Some(&link)),
    );
    assert!(fronts.iter().flat_map(Front::connections).all(|protocol| protocol == "h2"));
}

#[test]
fn over_tls() {
    let mut hosts: Vec<Vec<Cell>> = (0..HOSTS).map(|_| Vec::new()).collect();
    for (number, cell) in cells().into_iter().enumerate() {
        hosts[number % HOSTS].push(cell);
    }
    each(hosts, HOSTS, |_| "a host".to_owned(), |cells| run(cells));
}

/// What ends the connection ends all that run on it: those that have begun with an error each, and those that have not begin elsewhere.
#[test]
fn a_connection_that_breaks() {
    const MANY: usize = 8;
    let fake = FakeUpstream::start();
    let authority = Authority::new();
    let front = Front::of(&fake, &authority.sign("localhost"), &["h2"]);
    let link = FaultLink::to(front.address());
    let url = link.url().replace("http://127.0.0.1", "https://localhost");
    let host = Host::new().file("ca.pem", authority.certificate().as_bytes()).endpoint(url).listen("threads = 1");
    let file = host.path("ca.pem");
    let host = host.spawn_with(&[("SSL_CERT_FILE", file.to_str().unwrap())]);
    for (begun, weather) in [
        (true, Weather { reset_at: Some(1), ..Weather::default() }),
        (true, Weather { cut_at: Some(1), ..Weather::default() }),
        (false, Weather::default()),
    ] {
        link.set(Weather::default());
        assert_eq!(host.chat("there is a connection").status, 200, "fair weather again");
        let gate = Gate::new();
        for _ in 0..MANY {
            fake.next(if begun { Act::answer().hold_at(300, &gate) } else { Act::silent() });
        }
        let mut clients: Vec<Connection> = (0..MANY).map(|_| Connection::open(host.address)).collect();
        for client in &mut clients {
            client.write(&host.ask("hi").streamed().bytes()).unwrap();
        }
        eventually("all of them upstream", || (fake.active() == MANY).then_some(()));
        let mut streams: Vec<_> = Vec::new();
        if begun {
            streams = clients.iter_mut().map(|client| client.head().unwrap()).collect();
            streams.iter_mut().for_each(|stream| assert!(stream.portion().is_some()));
        }
        link.set(weather);
        if begun {
            gate.open();
            for mut stream in streams {
                let mut rest = Vec::new();
                while let Some(portion) = stream.portion() {
                    rest.extend_from_slice(&portion);
                }
                assert!(stream.is_whole() && !sse::is_done(&rest));
                assert_eq!(sse::error(&rest).unwrap()["code"], "upstream_broken");
            }
        } else {
            link.cut();
            for client in &mut clients {
                let answer = client.answer().unwrap();
                assert!(answer.status == 200 && sse::is_done(&answer.body), "{}", answer.text());
            }
        }
        eventually("nobody upstream", || (fake.active() == 0).then_some(()));
        assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
    }
}
