//! What is seen of an endpoint: lines in the log, numbers, the admin API, and what a client is told.

use std::time::Duration;

use serde_json::Value;
use tests::{Act, Binary, FakeUpstream, Host, eventually};

/// A binary with one endpoint, whose breaker opens after three failures.
fn serve(fake: &FakeUpstream, breaker: &str) -> Binary {
    let endpoint = format!("{{ url = {:?}, weight = 2, zone = \"a\" }}", fake.url());
    let provider = format!(
        "[providers.own]\nkind = \"openai\"\nendpoints = [{endpoint}]\nretries = 0\nin_flight = 9\n\
         concurrency = {{ start = 16 }}\nbreaker = {{ failures = 3, {breaker} }}\n\
         [models.one]\nprovider = \"own\"\nname = \"one-1\""
    );
    Host::new().top("zone = \"a\"").section(&provider).spawn()
}

fn chat(host: &Binary) -> u16 {
    host.ask("hi").model("one").send().status
}

fn line(host: &Binary, part: &str) -> Value {
    serde_json::from_str(&host.wait_for_log(part)).unwrap()
}

/// Four seconds of 429 from a pool, and neither the log nor /metrics had a word of it: whether an endpoint was left alone, since when and
/// why, only the admin API could say, and it said `open`.
#[test]
fn who_is_left_alone_is_in_the_log_in_the_metrics_and_in_the_api() {
    let fake = FakeUpstream::start();
    let host = serve(&fake, "open = \"300ms\", open_max = \"300ms\"");
    let each = || host.api("/api/models")["providers"]["own"]["each"][0].clone();
    let breaker = || host.metrics().sum("pointsman_endpoint_breaker", &["provider=\"own\""]);
    assert_eq!((chat(&host), each()["breaker"].as_str(), breaker()), (200, Some("closed"), 0.0));
    assert!(each()["why"].is_null() && each()["left_for_ms"].is_null(), "{}", each());

    fake.always(Act::refuse(429, "busy"));
    (0..3).for_each(|_| assert_eq!(chat(&host), 429));
    let opened = line(&host, "its breaker has opened");
    let endpoint = Value::from(fake.address().to_string());
    assert_eq!((&opened["level"], &opened["provider"], &opened["endpoint"]), (&"WARN".into(), &"own".into(), &endpoint));
    assert_eq!((&opened["why"], &opened["last"]), (&"3 failures in a row".into(), &"it answered 429".into()));
    assert!((1..=300).contains(&opened["for_ms"].as_u64().unwrap()), "{opened}");
    let seen = each();
    assert!(seen["breaker"] == "open" && seen["left_for_ms"].as_u64() <= Some(300) || seen["breaker"] == "probation", "{seen}");
    assert_eq!((&seen["why"], &seen["last_failure"]), (&"3 failures in a row".into(), &"it answered 429".into()));
    assert_eq!((seen["weight"].as_f64(), seen["zone"].as_str(), seen["limit"].as_u64()), (Some(2.0), Some("a"), Some(9)));
    assert_eq!((seen["requests"].as_u64(), seen["failures"]["busy"].as_u64()), (Some(4), Some(3)), "{seen}");
    assert_eq!(host.api("/api/models")["providers"]["own"]["concurrency"]["waiting"], 0);
    assert!(breaker() >= 1.0, "{}", breaker());

    fake.always(Act::answer());
    eventually("one request has decided", || {
        chat(&host);
        (breaker() == 0.0).then_some(())
    });
    let closed = line(&host, "in service again");
    assert_eq!((&closed["level"], &closed["provider"], &closed["endpoint"]), (&"INFO".into(), &"own".into(), &endpoint));
    let metrics = host.metrics();
    let own = ["provider=\"own\"", &format!("endpoint={endpoint}")];
    assert_eq!(
        metrics.sum("pointsman_endpoint_failures_total", &own),
        metrics.sum("pointsman_endpoint_failures_total", &["kind=\"busy\""])
    );
    assert!(metrics.sum("pointsman_endpoint_requests_total", &own) >= 5.0);
}

/// A breaker that opens and closes all the time is told of, and not each time.
#[test]
fn an_endpoint_that_comes_and_goes_does_not_fill_the_log() {
    let fake = FakeUpstream::start();
    let host = serve(&fake, "open = \"1ms\", open_max = \"1ms\"");
    for round in 0..20 {
        fake.always(Act::refuse(500, "broken"));
        (0..3).for_each(|_| assert_eq!(chat(&host), 500, "{round}"));
        fake.always(Act::answer());
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(chat(&host), 200, "{round}");
    }
    let told =
        host.log().iter().filter(|line| line.contains("its breaker has opened") || line.contains("in service again")).count();
    assert!((2..=6).contains(&told), "{told} lines about twenty times");
}

/// Two base URLs at one host gave each series twice, which ends a scrape.
#[test]
fn two_endpoints_at_one_host_are_told_apart() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).endpoint(fake.url().replace("/v1", "/v2")).start();
    host.chat("hi");
    let metrics = host.metrics();
    for path in ["v1", "v2"] {
        let label = format!("endpoint=\"{}/{path}\"", fake.address());
        assert!(
            metrics.sum("pointsman_endpoint_breaker", &[&label]) >= 0.0 && metrics.has("pointsman_endpoint_breaker"),
            "{label}"
        );
    }
    let sum = |label: &str| metrics.sum("pointsman_endpoint_requests_total", &[label]);
    assert_eq!(sum(&format!("{}/v1", fake.address())) + sum(&format!("{}/v2", fake.address())), 1.0);
}

/// The client was told of a provider without room, though all its endpoints had failed and were left alone; and of another one only that it
/// gave no whole answer, when it had answered 500.
#[test]
fn a_client_is_told_why() {
    let (own, other) = (FakeUpstream::start(), FakeUpstream::start());
    let failing = Act::raw("HTTP/1.1 500 no\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    own.always(failing.clone());
    other.always(failing);
    let provider = |name: &str, fake: &FakeUpstream, breaker: &str| {
        format!("[providers.{name}]\nkind = \"openai\"\nendpoints = [{:?}]\nretries = 0\n{breaker}\n", fake.url())
    };
    let sections = format!(
        "{}{}[models.one]\nprovider = \"own\"\nname = \"one-1\"\nfallback = [\"two\"]\n[models.two]\nprovider = \"other\"\nname = \"two-1\"",
        provider("own", &own, "breaker = { failures = 1, open = \"50s\" }"),
        provider("other", &other, "breaker = { failures = 100 }"),
    );
    let host = Host::new().section(&sections).start();
    let told = || host.ask("hi").model("one").send().json()["error"]["message"].as_str().unwrap().to_owned();
    let elsewhere = "The provider `other` of the model `two` answered 500.";
    assert_eq!(told(), format!("No upstream answered. The provider `own` of the model `one` answered 500. {elsewhere}"));
    let again = told();
    let (first, rest) = again.split_once(" Try again in ").expect(&again);
    assert_eq!(
        first,
        "No upstream answered. Every endpoint of the provider `own` of the model `one` is left alone just now, after failures or at its limits."
    );
    let (seconds, rest) = rest.split_once(" s. ").expect(&again);
    assert!((1..=50).contains(&seconds.parse::<u32>().unwrap()) && rest == elsewhere, "{again}");
}

/// A path that is wrong was a 404 each second for ever, and nobody was told.
#[test]
fn metrics_that_cannot_be_read_are_in_the_log() {
    let fake = FakeUpstream::start();
    fake.always(Act::refuse(404, "no such page"));
    let host = Host::new().upstream(&fake).provider("metrics = \"/nometrics\"\nmetrics_interval = \"100ms\"").spawn();
    let unread = line(&host, "its metrics cannot be read");
    let endpoint = Value::from(fake.address().to_string());
    assert_eq!((&unread["level"], &unread["provider"], &unread["endpoint"]), (&"WARN".into(), &"fake".into(), &endpoint));
    assert_eq!((&unread["path"], &unread["why"]), (&"/nometrics".into(), &"it answered 404".into()));
    let before = fake.count();
    fake.wait_for(before + 5);
    let lines = |part: &str| host.log().iter().filter(|line| line.contains(part)).count();
    assert_eq!(lines("its metrics cannot be read"), 1, "once, and not each time");
    fake.always(Act::body("text/plain", ["vllm:num_requests_waiting 1\n"]));
    line(&host, "its metrics can be read");
}
