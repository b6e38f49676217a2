//! Heads and bodies that two readers could read differently, and those that are too large. Data: bytes in, status out.

use tests::{Connection, FakeUpstream, Host, Running, SOON};

fn host(fake: &FakeUpstream) -> Running {
    Host::new().upstream(fake).listen("max_body = \"4KiB\"\nmax_headers = 20").start()
}

const BODY: &str = r#"{"model":"small","messages":[]}"#;

/// The status of the answer to a head (lines joined by CRLF) and a body, and whether the connection was closed after it.
fn ask(host: &Running, head: &str, body: &[u8]) -> (u16, bool) {
    let mut bytes = head.replace('\n', "\r\n").into_bytes();
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body);
    let mut connection = Connection::open(host.address);
    connection.write(&bytes).unwrap();
    let answer = connection.answer().unwrap_or_else(|error| panic!("{head}: {error}"));
    let closes = answer.header("connection") == Some("close");
    if closes {
        assert!(connection.closed_within(SOON).is_some(), "{head}: it said that it closes");
    }
    (answer.status, closes)
}

#[test]
fn heads_that_must_be_refused() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let length = format!("content-length: {}", BODY.len());
    let post = |lines: &str| format!("POST /v1/chat/completions HTTP/1.1\n{lines}");
    let many: String = (0..30).map(|index| format!("\nx-{index}: v")).collect();
    let cases: Vec<(String, u16)> = vec![
        (post(&length), 400),
        (post(&format!("host: a\nhost: b\n{length}")), 400),
        (post(&format!("host: a\nhost: a\n{length}")), 400),
        (post(&format!("host:\n{length}")), 400),
        (format!("POST http://b/v1/chat/completions HTTP/1.1\nhost: a\n{length}"), 400),
        (post("host: a\ntransfer-encoding: gzip, chunked"), 400),
        (post("host: a\ntransfer-encoding: chunked, identity"), 400),
        (post("host: a\ntransfer-encoding: chunked\ntransfer-encoding: chunked"), 400),
        (post(&format!("host: a\ntransfer-encoding: chunked\n{length}")), 400),
        (post("host: a\ncontent-length: 5\ncontent-length: 6"), 400),
        (post("host: a\ncontent-length: +5"), 400),
        (post("host: a\ncontent-length: 0x10"), 400),
        (post("host: a\ncontent-length: -1"), 400),
        (post(&format!("host: a\nx-a : b\n{length}")), 400),
        (post(&format!("host: a\nx-a: b\n folded\n{length}")), 400),
        (post(&format!("host: a\nx-a: b\0c\n{length}")), 400),
        (post(&format!("host: a\nexpect: 200-ok\n{length}")), 417),
        ("TRACE /v1/models HTTP/1.1\nhost: a".to_owned(), 405),
        ("CONNECT b:443 HTTP/1.1\nhost: b:443".to_owned(), 405),
        (post(&format!("host: a{many}\n{length}")), 431),
        (post(&format!("host: a\nx-long: {}\n{length}", "x".repeat(200 << 10))), 431),
        (format!("GET /{} HTTP/1.1\nhost: a", "x".repeat(200 << 10)), 414),
        ("nonsense".to_owned(), 400),
    ];
    for (head, status) in &cases {
        let shown = format!("{head:.160}");
        // Large heads may be refused while they are still being sent, in either way.
        let bytes = format!("{}\r\n\r\n{BODY}", head.replace('\n', "\r\n"));
        let mut connection = Connection::open(host.address);
        let _ = connection.write(bytes.as_bytes());
        let answer = match connection.answer() {
            Ok(answer) => answer,
            Err(error) if head.len() > 100_000 => {
                assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{shown}");
                continue;
            }
            Err(error) => panic!("{shown}: {error}"),
        };
        assert!(
            answer.status == *status || (head.len() > 100_000 && (400..=431).contains(&answer.status)),
            "{shown}: {}",
            answer.status
        );
        assert!(connection.closed_within(SOON).is_some(), "{shown}: what follows may be anybody's");
    }
    assert_eq!(fake.count(), 0);
}

#[test]
fn heads_that_are_fine() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let length = format!("content-length: {}", BODY.len());
    let chunked = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let post = |lines: &str| format!("POST /v1/chat/completions HTTP/1.1\n{lines}");
    for (head, body) in [
        (post(&format!("host: a\n{length}")), BODY.to_owned()),
        (post("host: a\ntransfer-encoding: chunked"), chunked.clone()),
        (post("host: a\ntransfer-encoding: Chunked"), chunked),
        (post(&format!("host: a\nexpect: 100-continue\n{length}")), BODY.to_owned()),
        (format!("POST http://A/v1/chat/completions HTTP/1.1\nhost: a\n{length}"), BODY.to_owned()),
        (format!("POST /v1/chat/completions HTTP/1.0\n{length}"), BODY.to_owned()),
    ] {
        assert_eq!(ask(&host, &head, body.as_bytes()).0, 200, "{head}");
    }
    assert_eq!(fake.requests().iter().filter(|request| request.text() == BODY.replace("small", "tiny-1")).count(), 6);
}

/// A body that was refused must not be read as the next request.
#[test]
fn nothing_is_smuggled_in_a_body() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let hidden = "GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n";
    for head in [
        format!("POST /v1/chat/completions HTTP/1.1\nhost: a\ntransfer-encoding: chunked\ncontent-length: {}", hidden.len() + 5),
        format!("TRACE / HTTP/1.1\nhost: a\ncontent-length: {}", hidden.len()),
        format!("GET /nothing HTTP/1.1\nhost: a\ncontent-length: {}", hidden.len()),
    ] {
        let bytes = format!("{}\r\n\r\n{hidden}", head.replace('\n', "\r\n"));
        let mut connection = Connection::open(host.address);
        connection.write(bytes.as_bytes()).unwrap();
        let first = connection.answer().unwrap();
        assert!(first.status >= 400, "{head}");
        connection.socket().set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
        assert!(connection.answer().is_err(), "{head}: the body was answered");
    }
}

#[test]
fn bodies_have_a_limit() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let post = "POST /v1/chat/completions HTTP/1.1\nhost: a\n";
    let exact = host.ask("").bytes().len();
    let body = |bytes: usize| {
        let text = r#"{"model":"small","messages":[],"x":""}"#;
        text.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - text.len())))
    };
    assert!(exact > 0 && body(4096).len() == 4096);
    let length = |body: &str| format!("{post}content-length: {}", body.len());
    assert_eq!(ask(&host, &length(&body(4096)), body(4096).as_bytes()).0, 200);
    let large = body(4097);
    assert_eq!(ask(&host, &length(&large), large.as_bytes()).0, 413);
    // Announced and never sent: refused by the announcement alone.
    assert_eq!(ask(&host, &format!("{post}content-length: 999999999"), b"").0, 413);
    let chunked: String = (0..64).map(|_| format!("80\r\n{}\r\n", "x".repeat(128))).collect();
    assert_eq!(ask(&host, &format!("{post}transfer-encoding: chunked"), chunked.as_bytes()).0, 413);
    assert_eq!(fake.count(), 1);
}

/// A head and body that end too early are nobody's request.
#[test]
fn who_hangs_up_early_asks_nothing() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let whole = host.ask("hi").bytes();
    for end in [1, 20, whole.len() - 1] {
        let mut connection = Connection::open(host.address);
        connection.write(&whole[..end]).unwrap();
        drop(connection);
    }
    assert_eq!(host.chat("hi").status, 200);
    assert_eq!(fake.count(), 1);
}
