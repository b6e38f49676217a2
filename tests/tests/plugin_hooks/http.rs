//! `http`: what goes out, what does not, and what of an answer comes in.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Act, FakeUpstream, Host, Plugin, Running};

/// A host whose sender may send to the beginning of a path of this service.
fn host(fake: &FakeUpstream, service: &FakeUpstream, more: &str) -> Running {
    let allow = format!("http = {{ allow = [\"http://{}/v1/check\"], timeout = \"300ms\", {more} }}", service.address());
    Host::new().upstream(fake).plugin(Plugin::sender().set(&allow).set("deadline = \"1s\"")).start()
}

fn send(host: &Running, what: Value) -> String {
    let answer = host.ask("hi").model("auto").puppet("send", what.clone()).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-pointsman-reason").unwrap_or_else(|| panic!("no answer: {}", host.api("/api/plugins"))).to_owned()
}

fn to(service: &FakeUpstream, path: &str) -> Value {
    json!({ "url": format!("http://{}{path}", service.address()) })
}

#[test]
fn an_allowed_service_is_asked_and_answers() {
    let (fake, service) = (FakeUpstream::start(), FakeUpstream::start());
    let host = host(&fake, &service, "");
    service.always(Act::body("text/plain", ["fine"]).status(203).header("x-score", "0.5").header("set-cookie", "a=b"));
    let mut request = to(&service, "/v1/check?level=2");
    request["method"] = json!("POST");
    request["headers"] = json!([["x-own", "1"], ["Content-Type", "application/json"]]);
    request["body"] = json!("{\"text\":\"hi\"}");
    let told = send(&host, request);
    assert!(told.starts_with("203 fine ") && told.contains("x-score") && !told.contains("set-cookie"), "{told}");
    let seen = service.last();
    assert_eq!(seen.line, "POST /v1/check?level=2 HTTP/1.1");
    assert_eq!(
        (seen.header("x-own"), seen.header("content-type"), seen.text()),
        (Some("1"), Some("application/json"), "{\"text\":\"hi\"}")
    );
    // Nothing of the exchange's or the host's is added.
    for name in ["authorization", "cookie", "x-api-key", "x-request-id", "user-agent", "x-forwarded-for", "via"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

/// A redirect is an answer like any other: it is told, and not gone after.
#[test]
fn redirects_are_not_followed() {
    let (fake, service, inside) = (FakeUpstream::start(), FakeUpstream::start(), FakeUpstream::start());
    let host = host(&fake, &service, "");
    for place in [inside.url(), format!("http://{}/v1/admin", service.address()), "file:///etc/passwd".into()] {
        service.next(Act::body("text/plain", [""]).status(302).header("location", &place));
        let told = send(&host, to(&service, "/v1/check"));
        assert!(told.starts_with("302 "), "{told}");
    }
    assert_eq!((inside.count(), service.count()), (0, 3));
}

/// Each is a way to somewhere else that has worked elsewhere.
#[test]
fn what_is_not_allowed_is_not_sent() {
    let (fake, service, inside) = (FakeUpstream::start(), FakeUpstream::start(), FakeUpstream::start());
    let host = host(&fake, &service, "calls = 100");
    let (port, other) = (service.address().port(), inside.address());
    let own = format!("http://{}", service.address());
    for url in [
        format!("http://{other}/v1/check"),
        format!("{own}/v1/admin"),
        format!("{own}/v1/checks"),
        format!("{own}/v1/check/../admin"),
        format!("{own}/v1/check/%2e%2e/admin"),
        format!("{own}/v1/check/..%2f..%2fadmin"),
        format!("https://127.0.0.1:{port}/v1/check"),
        format!("http://127.1:{port}/v1/check"),
        format!("http://0x7f000001:{port}/v1/check"),
        format!("http://2130706433:{port}/v1/check"),
        format!("http://localhost:{port}/v1/check"),
        format!("http://[::ffff:127.0.0.1]:{port}/v1/check"),
        format!("http://127.0.0.1:{port}@{other}/v1/check"),
        format!("http://{other}#@127.0.0.1:{port}/v1/check"),
        "http://169.254.169.254/latest/meta-data/".into(),
        "file:///etc/passwd".into(),
        "unix:/var/run/docker.sock".into(),
        "".into(),
    ] {
        let told = send(&host, json!({ "url": url }));
        assert!(told.starts_with("HttpError::Denied"), "{url}: {told}");
    }
    for header in [
        ["host", "evil"],
        ["Transfer-Encoding", "chunked"],
        ["content-length", "0"],
        ["cookie", "a=b"],
        ["x-a", "1\r\nx-b: 2"],
        ["x-forwarded-for", "127.0.0.1"],
    ] {
        let mut request = to(&service, "/v1/check");
        request["headers"] = json!([header]);
        let told = send(&host, request);
        assert!(told.starts_with("HttpError::Denied"), "{header:?}: {told}");
    }
    let mut request = to(&service, "/v1/check");
    request["method"] = json!("CONNECT");
    assert!(send(&host, request).starts_with("HttpError::Denied"));
    assert_eq!((inside.count(), service.count()), (0, 0));
}

/// The allow-list has the name; what the name stands for is another matter.
#[test]
fn a_name_that_leads_inside_is_not_reached() {
    let (fake, service) = (FakeUpstream::start(), FakeUpstream::start());
    let port = service.address().port();
    let allow =
        format!("http = {{ allow = [\"http://localhost:{port}\", \"http://localhost.localdomain:{port}\"], timeout = \"5s\" }}");
    let plugin = Plugin::sender().set(&allow).set("deadline = \"6s\"");
    let host = Host::new().upstream(&fake).plugin(plugin).start();
    for name in ["localhost", "localhost.localdomain"] {
        assert_eq!(send(&host, json!({ "url": format!("http://{name}:{port}/") })), "HttpError::Unreachable", "{name}");
    }
    assert_eq!((service.count(), service.connections()), (0, 0), "nobody has even knocked");
}

#[test]
fn time_and_size_and_number_are_bounded() {
    let (fake, service) = (FakeUpstream::start(), FakeUpstream::start());
    let limits = host(&fake, &service, "request = \"1KiB\", answer = \"1KiB\", calls = 2");
    let mut large = to(&service, "/v1/check");
    (large["method"], large["body"]) = (json!("POST"), json!("x".repeat(1_025)));
    assert_eq!(send(&limits, large), "HttpError::TooLarge");
    assert_eq!(service.count(), 0);
    service.next(Act::body("text/plain", ["x".repeat(1_025)]));
    assert_eq!(send(&limits, to(&service, "/v1/check")), "HttpError::TooLarge");
    service.next(Act::body("text/plain", vec!["x".repeat(1_000); 3_000]));
    assert_eq!(send(&limits, to(&service, "/v1/check")), "HttpError::TooLarge", "however it comes");
    service.next(Act::body("text/plain", [""]).header("x-long", &"x".repeat(20_000)));
    assert_eq!(send(&limits, to(&service, "/v1/check")), "HttpError::TooLarge");
    for silent in [Act::silent(), Act::body("text/plain", vec!["x"; 1_000]).pace(Duration::from_millis(100))] {
        service.next(silent);
        assert_eq!(send(&limits, to(&service, "/v1/check")), "HttpError::Timeout");
    }
    service.next(Act::body("text/plain", ["a whole answer"]).cut_at(3));
    assert_eq!(send(&limits, to(&service, "/v1/check")), "HttpError::Unreachable");
    service.always(Act::body("text/plain", ["fine"]));
    let mut twice = to(&service, "/v1/check");
    twice["times"] = json!(3);
    assert_eq!(send(&limits, twice), "HttpError::Busy", "the third of an exchange");
    assert!(send(&limits, to(&service, "/v1/check")).starts_with("200 fine"), "another exchange has its own");
}

/// One core: while one guest waits for its service, others are served; and no more wait than may.
#[test]
fn the_core_goes_on_while_a_guest_waits() {
    let (fake, service) = (FakeUpstream::start(), FakeUpstream::start());
    service.always(Act::silent());
    let allow = format!("http = {{ allow = [\"http://{}\"], timeout = \"400ms\", at_once = 2 }}", service.address());
    let host =
        Host::new().upstream(&fake).listen("threads = 1").plugin(Plugin::sender().set(&allow).set("deadline = \"1s\"")).start();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..6).map(|_| scope.spawn(|| send(&host, to(&service, "/")))).collect();
        service.wait_for(2);
        for _ in 0..20 {
            assert_eq!(host.get("/v1/models", &[]).status, 200);
        }
        let told: Vec<String> = waiting.into_iter().map(|waits| waits.join().unwrap()).collect();
        assert_eq!(told.iter().filter(|told| *told == "HttpError::Timeout").count(), 2, "{told:?}");
        assert_eq!(told.iter().filter(|told| *told == "HttpError::Busy").count(), 4, "{told:?}");
    });
    tests::eventually("its connections are given up", || (service.active() == 0).then_some(()));
}

/// The plugin's own deadline ends a call that the owner of the service would let wait, and the request goes on.
#[test]
fn a_deadline_ends_a_call() {
    let (fake, service) = (FakeUpstream::start(), FakeUpstream::start());
    service.always(Act::silent());
    let allow = format!("http = {{ allow = [\"http://{}\"], timeout = \"30s\" }}", service.address());
    let host = Host::new().upstream(&fake).plugin(Plugin::sender().set(&allow).set("deadline = \"1s\"")).start();
    let answer = host.ask("hi").model("auto").puppet("send", to(&service, "/")).send();
    assert_eq!((answer.status, answer.header("x-pointsman-plugin")), (200, None));
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &["cause=\"deadline\""]), 1.0);
    tests::eventually("its connection is given up", || (service.active() == 0).then_some(()));
}
