//! The table over TLS and HTTP/2, with the policies that differ: a fault ends a stream there, and not the connection.
//!
//! Hosts are processes here, since an authority of our own is trusted by the environment alone; each has a provider per cell, so
//! that no cell knows of another.

use tests::tls::Authority;
use tests::{FakeUpstream, FaultLink, Front, Host};

use super::cell::{Cell, DOORS, each, happen, section};
use super::table::{FAULTS, PLAIN, POLICIES, Phase, STREAMED, fate};

/// Hosts at a time, each with its share of the cells.
const HOSTS: usize = 12;

/// Without a policy, with another endpoint, with a hedge, with everything.
const POLICIES_HERE: [usize; 4] = [0, 2, 4, 6];

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for (streamed, phases) in [(false, &PLAIN[..]), (true, &STREAMED[..])] {
        for (phase, _) in phases.iter().filter(|(phase, _)| !matches!(phase, Phase::Connect | Phase::Accepted | Phase::Sending)) {
            for (fault, _, _) in FAULTS {
                let Some(fate) = fate(fault, *phase) else { continue };
                cells.extend(POLICIES_HERE.map(|policy| Cell::of(fault, *phase, fate, streamed, &POLICIES[policy])));
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
