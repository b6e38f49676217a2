//! Endpoints that are asked how they are: who is found ill gets no request, and who is found well gets one before its pause is over.

use serde_json::json;
use tests::link::Weather;
use tests::{Act, FakeUpstream, FaultLink, Host, Running, eventually};

/// Two fakes, the second behind a link, and a host that asks them ten times a second how they are.
struct Two {
    fakes: [FakeUpstream; 2],
    link: FaultLink,
    host: Running,
}

/// An opened breaker stays open for longer than any test waits, unless a probe ends it.
const LONG: &str = "breaker = { failures = 1, open = \"10m\", open_max = \"10m\" }\nretries = 1";
const PROBE: &str = "probe = { interval = \"100ms\", timeout = \"1s\", unhealthy = 2 }";

impl Two {
    fn start(provider: &str) -> Self {
        let fakes: [FakeUpstream; 2] = std::array::from_fn(|_| FakeUpstream::start());
        let link = FaultLink::to(fakes[1].address());
        let host = Host::new().upstream(&fakes[0]).endpoint(link.url()).provider(LONG).provider(provider).start();
        Self { fakes, link, host }
    }

    fn chats(&self, count: usize) {
        (0..count).for_each(|_| assert_eq!(self.host.chat("hi").status, 200));
    }

    /// Requests of clients at the second.
    fn asked(&self) -> usize {
        self.fakes[1].requests().iter().filter(|request| request.line.starts_with("POST ")).count()
    }

    fn wait_for(&self, what: &str, is: impl Fn(&serde_json::Value) -> bool) {
        eventually(what, || is(&self.host.api("/api/models")["providers"]["fake"]["each"][1]).then_some(()));
    }
}

fn is_healthy(endpoint: &serde_json::Value) -> bool {
    endpoint["probe"]["healthy"] == true
}

#[test]
fn one_that_dies_is_left_before_a_request_is_spent_on_it_and_comes_back_by_itself() {
    let two = Two::start(PROBE);
    two.wait_for("it is asked", |endpoint| is_healthy(endpoint) && endpoint["breaker"] == "closed");
    two.fakes[1].wait_for(2);
    assert_eq!(two.fakes[1].last().line, "GET /health HTTP/1.1");
    two.link.set(Weather::dead());
    two.wait_for("it is found ill", |endpoint| !is_healthy(endpoint) && endpoint["breaker"] == "open");
    two.chats(20);
    assert_eq!((two.asked(), two.host.metrics().sum("pointsman_retries_total", &[])), (0, 0.0), "nobody was sent there");
    assert_eq!(two.host.metrics().sum("pointsman_endpoint_healthy", &[]), 1.0);
    assert!(two.host.metrics().sum("pointsman_endpoint_probe_failures_total", &[]) >= 2.0);
    two.link.set(Weather::default());
    two.wait_for("it is found well", |endpoint| is_healthy(endpoint) && endpoint["breaker"] == "probation");
    two.chats(1);
    two.wait_for("one request has decided", |endpoint| endpoint["breaker"] == "closed");
    assert_eq!(two.asked(), 1);
}

/// A request finds it dead first: ten minutes would have to pass, but for the probe.
#[test]
fn a_pause_ends_when_it_is_well_again() {
    let two = Two::start("probe = { interval = \"100ms\", unhealthy = 1000 }");
    two.link.set(Weather::dead());
    eventually("a request was spent", || {
        two.chats(1);
        (two.host.api("/api/models")["providers"]["fake"]["each"][1]["breaker"] == "open").then_some(())
    });
    two.link.set(Weather::default());
    two.wait_for("it may be tried", |endpoint| endpoint["breaker"] == "probation");
}

#[test]
fn a_busy_one_is_ill_and_keeps_the_peace_that_it_has_asked_for() {
    let two = Two::start(PROBE);
    two.fakes[1].always(Act::refuse(429, "busy").header("retry-after", "300"));
    two.wait_for("it is found ill", |endpoint| !is_healthy(endpoint) && endpoint["breaker"] == "open");
    two.fakes[1].always(Act::answer());
    two.wait_for("it is found well", is_healthy);
    let probes = two.fakes[1].count();
    two.fakes[1].wait_for(probes + 5);
    two.wait_for("it has asked for five minutes", |endpoint| endpoint["breaker"] == "open");
    two.chats(10);
    assert_eq!(two.asked(), 0);
}

/// What is not below the base URL is somebody else's, perhaps.
#[test]
fn the_key_is_sent_below_the_base_url_alone() {
    for (path, key) in [("/v1/models", Some("Bearer sk-probed")), ("/health", None)] {
        let fake = FakeUpstream::start();
        let host = Host::new().file("key.txt", b"sk-probed").upstream(&fake).provider("key = \"file:key.txt\"");
        let _host = host.provider(&format!("probe = {{ path = {path:?}, interval = \"100ms\" }}")).start();
        fake.wait_for(1);
        let seen = fake.last();
        assert_eq!((seen.line.as_str(), seen.header("authorization")), (format!("GET {path} HTTP/1.1").as_str(), key));
    }
}

/// What is known of an endpoint that stays is kept, and whether it is asked is as the configuration in force has it.
#[test]
fn a_reload_keeps_what_is_known() {
    let two = Two::start(PROBE);
    two.link.set(Weather::dead());
    two.wait_for("it is found ill", |endpoint| !is_healthy(endpoint) && endpoint["breaker"] == "open");
    let done = two.host.api("/api/reload")["done"].as_u64();
    two.host.folder.change("unhealthy = 2 }", "unhealthy = 2, healthy = 1 }");
    eventually("it is in force", || (two.host.api("/api/reload")["done"].as_u64() > done).then_some(()));
    let each = two.host.api("/api/models")["providers"]["fake"]["each"].clone();
    assert_eq!((&each[1]["probe"]["healthy"], &each[1]["breaker"]), (&json!(false), &json!("open")), "{each}");
    two.host.folder.change("probe = {", "# probe = {");
    two.wait_for("nobody asks any more", |endpoint| endpoint["probe"].is_null());
    assert!(!two.host.metrics().has("pointsman_endpoint_healthy"));
}

/// Wrong settings are told with their place.
#[test]
fn settings() {
    for (probe, told) in [
        ("{ path = \"health\" }", "this is no path"),
        ("{ interval = \"10ms\" }", "a server is asked at most ten times a second"),
        ("{ timeout = \"0s\" }", "this may not be 0"),
        ("{ healthy = 0 }", "this may not be 0"),
        ("{ sick = 1 }", "sick"),
    ] {
        let text = format!("[providers.p]\nkind = \"openai\"\nendpoints = [\"http://h/v1\"]\nprobe = {probe}\n");
        let report = pointsman::config::load_text(&text, std::path::Path::new("p.toml")).expect_err("it is wrong").to_string();
        assert!(report.contains(told) && report.contains(":4:"), "{probe}: {report}");
    }
}
