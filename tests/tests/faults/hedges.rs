//! Of two endpoints that were asked at once, the one that lost is let go at once, wherever it stands: it has no bound here that would
//! end it, and does not end by itself.

use std::time::{Duration, Instant};

use tests::tls::Authority;
use tests::{Act, Door, FakeUpstream, Fault as Wrong, Front, Gate, Host, Place, sse};

/// Where the loser stands when the other one answers, and whether it can lose there: a stream that has begun has won.
const PLACES: [(&str, Place, bool); 4] = [
    ("before the head", Place::Head(0), true),
    ("inside the head", Place::Head(25), true),
    ("before the body", Place::Piece(0, 0), true),
    ("inside a plain body", Place::Body(100), false),
];

/// Far more than it takes to close a connection, and far less than any bound.
const SOON: Duration = Duration::from_secs(10);

fn host(urls: [String; 2]) -> Host {
    let hedging = "retries = 0\nhedge = { after = \"100ms\", budget = 1.0 }";
    let [one, other] = urls;
    Host::new().endpoint(one).endpoint(other).provider(hedging)
}

fn check(host: &Door, fake: &FakeUpstream) {
    let mut lost = 0;
    for (what, place, also_streamed) in PLACES {
        for streamed in [false, true].into_iter().filter(|streamed| !streamed || also_streamed) {
            let before = fake.count();
            fake.next(Act::answer().at(place, Wrong::Hold(Gate::new())));
            let ask = if streamed { host.ask("hi").streamed() } else { host.ask("hi") };
            let began = Instant::now();
            let answer = ask.send();
            assert_eq!((answer.status, answer.whole), (200, true), "{what}: {}", answer.text());
            assert_eq!(answer.content(), format!("Answer {} of tiny-1 to: hi", before + 2), "{what}");
            assert!(!streamed || sse::is_done(&answer.body), "{what}: {}", answer.text());
            assert_eq!(fake.count(), before + 2, "{what}");
            lost += 1;
            let let_go = fake.wait_for_departures(lost).saturating_duration_since(began);
            assert!(let_go < SOON, "{what}, streamed: {streamed}: let go after {let_go:?}");
        }
    }
    assert_eq!(host.metrics().sum("pointsman_hedges_total", &[]), lost as f64);
    assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
}

#[test]
fn the_loser_is_let_go_at_once() {
    let fake = FakeUpstream::with_doors(2);
    let host = host([0, 1].map(|door| format!("http://{}/v1", fake.addresses()[door]))).start();
    check(&host, &fake);
}

/// Its stream is reset; the connection stays for those that come.
#[test]
fn over_http_2_its_stream_is_reset() {
    let fake = FakeUpstream::with_doors(2);
    let authority = Authority::new();
    let pair = authority.sign("localhost");
    let fronts = [0, 1].map(|door| Front::at(fake.addresses()[door], &pair, &["h2"]));
    let host =
        host([0, 1].map(|door| fronts[door].url())).listen("threads = 1").file("ca.pem", authority.certificate().as_bytes());
    let file = host.path("ca.pem");
    let host = host.spawn_with(&[("SSL_CERT_FILE", file.to_str().unwrap())]);
    check(&host, &fake);
    assert!(fronts.iter().all(|front| front.connections() == ["h2"]), "one connection to each");
}

/// An endpoint on probation gets the next request before all others. One that was silent, and had its request answered by a hedge, stayed
/// on probation: each request went there first, and waited for the hedge.
#[test]
fn a_probation_that_a_hedge_has_won_is_not_passed() {
    let (sick, well) = (FakeUpstream::start(), FakeUpstream::start());
    sick.next(Act::refuse(500, "their_code")).always(Act::silent());
    let host = host([sick.url(), well.url()]).provider("breaker = { failures = 1, open = \"200ms\" }").start();
    while sick.count() == 0 {
        host.chat("hi");
    }
    std::thread::sleep(Duration::from_millis(250));
    for _ in 0..40 {
        assert_eq!(host.chat("hi").status, 200);
    }
    // Asked again after 200, 400, 800 ms and so on, each time by one request.
    assert!((2..=6).contains(&sick.count()), "{} of 41", sick.count());
}
