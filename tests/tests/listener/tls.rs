//! TLS: both protocols by ALPN, certificates that change while connections go on, clients that must show one.

use tests::tls::{self, Authority};
use tests::{FakeUpstream, Host, eventually};

const LINE: &str = "tls = { certificate = \"c.pem\", key = \"k.pem\" }";

fn host(fake: &FakeUpstream, pair: &tls::Pair) -> Host {
    Host::new().upstream(fake).file("c.pem", pair.certificate.as_bytes()).file("k.pem", pair.key.as_bytes())
}

#[test]
fn both_protocols_by_alpn() {
    let fake = FakeUpstream::start();
    let authority = Authority::new();
    let host = host(&fake, &authority.sign("localhost")).listen(LINE).start();
    for protocols in [&["http/1.1"][..], &[]] {
        let (mut connection, _) = tls::connect(&authority.client(None, protocols), host.address, "localhost").unwrap();
        let answer = connection.exchange(&host.ask("hi").streamed().bytes()).unwrap();
        assert_eq!((answer.status, tests::sse::is_done(&answer.body)), (200, true), "{protocols:?}");
    }
    let body = r#"{"model":"small","messages":[{"role":"user","content":"over two"}]}"#.to_owned();
    let client = authority.client(None, &["h2", "http/1.1"]);
    let answers = tests::h2::Session::over_tls(&client, host.address, "localhost").ask(&[body.clone(), body]);
    assert!(answers.iter().all(|(status, text)| *status == 200 && text.contains("over two")), "{answers:?}");
}

#[test]
fn who_does_not_trust_us_does_not_get_in() {
    let fake = FakeUpstream::start();
    let host = host(&fake, &Authority::new().sign("localhost")).listen(LINE).start();
    assert!(tls::connect(&Authority::new().client(None, &[]), host.address, "localhost").is_err());
    assert_eq!(host.admin("/healthz").status, 200);
}

#[test]
fn certificates_are_read_again() {
    let fake = FakeUpstream::start();
    let authority = Authority::new();
    let host = host(&fake, &authority.sign("localhost")).listen(LINE).start();
    let client = authority.client(None, &[]);
    let shown = || tls::connect(&client, host.address, "localhost").map(|(_, certificate)| certificate).unwrap();
    let (mut kept, first) = tls::connect(&client, host.address, "localhost").unwrap();
    assert_eq!(shown(), first);
    let next = authority.sign("localhost");
    // A certificate without its key is no pair: the one before stays, until the key is there too.
    host.folder.write("c.pem", next.certificate.as_bytes());
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!(shown(), first);
    host.folder.write("k.pem", next.key.as_bytes());
    eventually("the new certificate", || (shown() != first).then_some(()));
    assert_eq!(kept.exchange(&host.ask("hi").bytes()).unwrap().status, 200, "a connection that is open goes on");
    host.folder.write("c.pem", b"no certificate");
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_ne!(shown(), first);
}

#[test]
fn clients_show_a_certificate_where_one_is_asked_for() {
    let fake = FakeUpstream::start();
    let (authority, clients) = (Authority::new(), Authority::new());
    let host = host(&fake, &authority.sign("localhost")).file("ca.pem", clients.certificate().as_bytes());
    let host = host.listen("tls = { certificate = \"c.pem\", key = \"k.pem\", client_ca = \"ca.pem\" }").start();
    let ask = |own: Option<&tls::Pair>| -> std::io::Result<u16> {
        // With TLS 1.3 the client learns of its refusal when it reads.
        let (mut connection, _) = tls::connect(&authority.client(own, &[]), host.address, "localhost")?;
        Ok(connection.exchange(&host.ask("hi").bytes())?.status)
    };
    assert_eq!(ask(Some(&clients.sign("client"))).unwrap(), 200);
    assert!(ask(None).is_err());
    assert!(ask(Some(&authority.sign("client"))).is_err(), "signed by the wrong authority");
    assert_eq!(fake.count(), 1);
}

#[test]
fn files_that_cannot_be_used_are_told_at_the_start() {
    let fake = FakeUpstream::start();
    let (one, two) = (Authority::new().sign("localhost"), Authority::new().sign("localhost"));
    let start = |certificate: &str, key: &str| {
        let host = Host::new().upstream(&fake).file("c.pem", certificate.as_bytes()).file("k.pem", key.as_bytes());
        host.listen(LINE).try_start().err().expect("it cannot be used").to_string()
    };
    assert!(start(&one.certificate, &two.key).contains("does not go with the key"));
    assert!(start("", &one.key).contains("c.pem"));
    assert!(start(&one.certificate, "").contains("k.pem"));
}
