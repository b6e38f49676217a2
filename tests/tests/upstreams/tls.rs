//! TLS to upstreams: the authority of SSL_CERT_FILE is trusted beside the public ones, a name is a name, and the protocol is what
//! both sides speak.

use tests::tls::{Authority, Pair};
use tests::{Binary, FakeUpstream, Front, Host, eventually, sse};

/// A host that sends to this front and trusts this authority beside the public ones. One try is enough to be told.
fn host(front: &Front, trusted: &Authority) -> Binary {
    let host = Host::new().file("ca.pem", trusted.certificate().as_bytes()).endpoint(front.url()).provider("retries = 0");
    let file = host.path("ca.pem");
    host.spawn_with(&[("SSL_CERT_FILE", file.to_str().unwrap())])
}

#[test]
fn the_protocol_is_what_the_upstream_offers() {
    let fake = FakeUpstream::start();
    let authority = Authority::new();
    for (offered, agreed) in [(&["h2", "http/1.1"][..], "h2"), (&["h2"], "h2"), (&["http/1.1"], "http/1.1"), (&[], "")] {
        let front = Front::of(&fake, &authority.sign("localhost"), offered);
        let host = host(&front, &authority);
        let plain = host.chat("hi");
        assert_eq!((plain.status, plain.whole), (200, true), "{offered:?}: {}", plain.text());
        assert_eq!(plain.content(), format!("Answer {} of tiny-1 to: hi", fake.count()));
        let streamed = host.ask("hi").streamed().send();
        assert!(sse::is_done(&streamed.body), "{offered:?}: {}", streamed.text());
        assert_eq!(fake.last().header("host"), Some(front.url().split('/').nth(2).unwrap()), "{offered:?}");
        assert!(front.connections().iter().all(|protocol| protocol == agreed), "{offered:?}: {:?}", front.connections());
    }
}

/// Who cannot show a certificate that is good for the name gets not one byte of a request, and the owner reads why.
#[test]
fn an_upstream_that_is_not_who_it_should_be_gets_nothing() {
    let fake = FakeUpstream::start();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let refuses = |shown: &Pair, why: &str| {
        let front = Front::of(&fake, shown, &["h2", "http/1.1"]);
        let host = host(&front, &ours);
        for answer in [host.chat("hi"), host.ask("hi").streamed().send()] {
            assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"), "{}", answer.text());
        }
        host.wait_for_log(&format!("TLS: {why}"));
    };
    refuses(&ours.sign("elsewhere.example"), "invalid peer certificate: certificate not valid for name");
    refuses(&theirs.sign("localhost"), "invalid peer certificate");
    assert_eq!(fake.count(), 0);
}

/// What is no TLS at all is told apart from a server that is down.
#[test]
fn an_upstream_without_tls_is_said_to_be_one() {
    let fake = FakeUpstream::start();
    let host = Host::new().endpoint(fake.url().replace("http:", "https:")).provider("retries = 0").spawn();
    let answer = host.chat("hi");
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"), "{}", answer.text());
    host.wait_for_log("cannot be reached: TLS: ");
}

/// A file of authorities that cannot be read leaves the public ones, and a line in the log.
#[test]
fn a_file_of_authorities_that_is_not_there_is_told() {
    let fake = FakeUpstream::start();
    let front = Front::of(&fake, &Authority::new().sign("localhost"), &[]);
    let host = Host::new().endpoint(front.url()).spawn_with(&[("SSL_CERT_FILE", "/nowhere/ca.pem")]);
    assert_eq!(host.chat("hi").code(), "upstream_unreachable");
    host.wait_for_log("SSL_CERT_FILE cannot be read");
}

/// A certificate that has expired is the owner's trouble and no client's, as long as another endpoint has a good one. When it is renewed
/// the endpoint is asked again.
#[test]
fn an_expired_certificate_harms_no_client() {
    let fake = FakeUpstream::start();
    let authority = Authority::new();
    let fronts = [authority.sign_expired("localhost"), authority.sign("localhost")].map(|pair| Front::of(&fake, &pair, &["h2"]));
    let host = fronts.iter().fold(Host::new(), |host, front| host.endpoint(front.url()));
    let host = host.file("ca.pem", authority.certificate().as_bytes());
    let host = host.provider("breaker = { failures = 3, open = \"100ms\", open_max = \"300ms\", slow_start = \"100ms\" }");
    let file = host.path("ca.pem");
    let host = host.log("debug").spawn_with(&[("SSL_CERT_FILE", file.to_str().unwrap())]);
    for turn in 0..40 {
        let answer = if turn % 2 == 0 { host.chat("hi") } else { host.ask("hi").streamed().send() };
        assert_eq!((answer.status, answer.whole), (200, true), "turn {turn}: {}", answer.text());
    }
    host.wait_for_log("invalid peer certificate: certificate expired");
    assert!(fronts[0].connections().is_empty());
    fronts[0].show(&authority.sign("localhost"));
    eventually("it is asked again", || {
        assert_eq!(host.chat("hi").status, 200);
        (!fronts[0].connections().is_empty()).then_some(())
    });
}
