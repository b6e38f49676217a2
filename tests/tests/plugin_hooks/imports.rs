//! What a plugin may ask the host: each interface, as it answers to a guest.

use serde_json::{Value, json};
use tests::{Act, FakeUpstream, Host, Plugin, Running, eventually};

const CONFIG: &str = "config = { limit = 400, name = \"n\", nested = { list = [1, 2.5] } }";
const EXAMPLES: &str = "[examples.topic]\ncode = [\"fix this Rust compiler error\", \"why does my Python function raise a TypeError\"]\nfood = [\"a recipe for tomato soup\", \"how long do I bake bread\"]";

fn host(fake: &FakeUpstream) -> Running {
    Host::new().upstream(fake).section(EXAMPLES).plugin(Plugin::asker().set(CONFIG)).start()
}

/// What the host answers, as the guest prints it.
fn ask(host: &Running, text: &str, what: Value) -> String {
    let answer = host.ask(text).model("auto").puppet("ask", what.clone()).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
        .header("x-pointsman-reason")
        .unwrap_or_else(|| panic!("{what}: no answer; see the failures: {}", host.api("/api/plugins")))
        .to_owned()
}

#[test]
fn config() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    for (key, expect) in
        [("name", "Some(\"n\")"), ("limit", "Some(\"400\")"), ("nested", r#"Some("{\"list\":[1,2.5]}")"#), ("none", "None")]
    {
        assert_eq!(ask(&host, "hi", json!({ "config": key })), expect);
    }
    assert_eq!(ask(&host, "hi", json!("document")), r#"{"limit":400,"name":"n","nested":{"list":[1,2.5]}}"#);
}

#[test]
fn upstreams() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    assert_eq!(ask(&host, "hi", json!("candidates")), "small,large");
    let small = ask(&host, "hi", json!({ "model": "small" }));
    for part in ["model: \"small\"", "provider: \"fake\"", "input: 50000", "output: 100000", "endpoints: 1"] {
        assert!(small.contains(part), "{part} is not in {small}");
    }
    assert_eq!(ask(&host, "hi", json!({ "model": "none" })), "None");
    // 1,000 tokens at 2 dollars a million, 100 at 8: 2,800 millionths.
    assert_eq!(ask(&host, "hi", json!({ "estimate": { "model": "large", "prompt": 1000, "completion": 100 } })), "Some(2800)");
}

/// The rate limits are the provider's own words, the rest is what the host itself goes by.
#[test]
fn the_status_of_a_provider() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .provider("in_flight = 9\nretries = 0\nbreaker = { failures = 2 }")
        .plugin(Plugin::asker())
        .start();
    let status = |model: &str| ask(&host, "hi", json!({ "status": model }));
    let is = |said: &str, parts: &[&str]| parts.iter().for_each(|part| assert!(said.contains(part), "{part} is not in {said}"));
    assert_eq!(status("none"), "None");
    is(
        &status("small"),
        &["Circuit::Closed", "available: 1", "endpoints: 1", "limit: Some(9)", "requests-left: None", "memory: None"],
    );
    fake.next(Act::answer().header("x-ratelimit-remaining-requests", "41").header("x-ratelimit-reset-requests", "60"));
    assert_eq!(host.chat("hi").status, 200);
    is(&status("large"), &["requests-left: Some(4", "in-flight: 0", "waiting: 0"]);
    (0..30).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    is(&status("small"), &["whole: Some(", "p95-ms: ", "first-byte: None"]);
    fake.when("giant-1", Act::refuse(500, "broken"));
    (0..3).for_each(|_| drop(host.ask("hi").model("large").send()));
    let answer = host.ask("hi").model("large").puppet("ask", json!({ "status": "large" })).send();
    let said = answer.header("x-pointsman-reason").unwrap_or_default();
    is(said, &["Circuit::Open", "available: 0", "retry-after-ms: Some("]);
}

#[test]
fn embeddings() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    assert_eq!(
        ask(&host, "What is wrong with this Rust code?", json!({ "classify": { "examples": "topic", "k": 2 } })),
        "code,food"
    );
    assert_eq!(ask(&host, "How do I cook tomato soup?", json!({ "classify": { "examples": "topic", "k": 1 } })), "food");
    assert_eq!(ask(&host, "hi", json!({ "classify": { "examples": "none", "k": 1 } })), "EmbedError::Unavailable");
    let of = |a: &str, b: &str| -> f32 {
        let said = ask(&host, "hi", json!({ "similarity": [a, b] }));
        said.trim_start_matches("Ok(").trim_end_matches(')').parse().unwrap_or_else(|_| panic!("{said}"))
    };
    assert!(of("a small dog", "a small dog") > 0.99);
    assert!(of("reset my password", "forgot my password") > of("reset my password", "the capital of France"));
    let (dimensions, length) = ask(&host, "hello world", json!("embedding"))
        .split_once(' ')
        .map(|(x, y)| (x.parse::<u32>().unwrap(), y.to_owned()))
        .unwrap();
    assert!(dimensions >= 64 && length == "1.000", "{dimensions} {length}");
    assert_eq!(ask(&host, "hi", json!({ "embed": "hello world" })), format!("{dimensions} 1.000"));
}

#[test]
fn clock_and_random() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let wall = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let before = wall();
    let now: u64 = ask(&host, "hi", json!("now")).parse().unwrap();
    assert!((before - 1..=wall() + 1).contains(&now), "{before} {now}");
    assert_eq!(ask(&host, "hi", json!("later")), "true");
    let elapsed: u64 = ask(&host, "hi", json!("elapsed")).parse().unwrap();
    assert!(elapsed < 20_000_000, "{elapsed}");
    let drawn = ask(&host, "hi", json!({ "random": 8 }));
    let mut numbers: Vec<&str> = drawn.split(',').collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 8);
    assert_ne!(ask(&host, "hi", json!({ "random": 8 })), drawn, "another exchange, another seed");
    let bucket = |key: &str| ask(&host, "hi", json!({ "bucket": { "salt": "s", "key": key, "buckets": 1000 } }));
    let first = bucket("ada");
    assert!((0..5).all(|_| bucket("ada") == first), "always the same");
    assert!((0..5).any(|index| bucket(&index.to_string()) != first));
    assert_eq!(ask(&host, "hi", json!({ "bucket": { "salt": "s", "key": "k", "buckets": 0 } })), "0");
}

#[test]
fn metrics() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let send = |what: Value| assert_eq!(host.ask("hi").puppet("ask", what).send().status, 200);
    send(json!({ "count": { "name": "seen", "delta": 2, "labels": [["kind", "a\"b\nc"]] } }));
    send(json!({ "count": { "name": "seen", "delta": 3, "labels": [["kind", "a\"b\nc"]] } }));
    send(json!({ "gauge": { "name": "depth", "value": -1.5 } }));
    send(json!({ "observe": { "name": "size", "value": 3.0 } }));
    send(json!({ "count": { "name": "up{x=\"1\"} 9\nforged", "delta": 1, "labels": [] } }));
    send(json!({ "count": { "name": "failures_total", "delta": 1, "labels": [] } }));
    send(json!({ "count": { "name": "seen", "delta": 1, "labels": [["plugin", "another"]] } }));
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_plugin_dropped_total", &["what=\"metric\""]), 3.0);
    assert_eq!(metrics.sum("pointsman_plugin_seen", &["plugin=\"asker\"", r#"kind="a\"b\nc""#]), 5.0, "{metrics:?}");
    assert_eq!(metrics.sum("pointsman_plugin_depth", &[]), -1.5);
    assert_eq!(metrics.sum("pointsman_plugin_size_count", &[]), 1.0);
    assert!(!metrics.has("forged"));
}

#[test]
fn log() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).log("info").plugin(Plugin::asker()).spawn();
    let lines =
        json!({ "log": { "level": 3, "message": "tricky\n{\"level\":\"FORGED\"}", "fields": [["k", "v\"\n"]], "times": 20 } });
    let answer = host.ask("hi").puppet("ask", lines).send();
    assert_eq!(answer.header("x-pointsman-reason"), Some("false"), "the lines of this exchange are used up");
    host.ask("hi").puppet("ask", json!({ "log": { "level": 0, "message": "too quiet", "fields": [], "times": 1 } })).send();
    let id = answer.header("x-request-id").unwrap();
    let said = || -> Vec<Value> {
        let log = host.log();
        let json = |line: &String| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: a line of the log is no JSON: {line}"))
        };
        log.iter().map(json).filter(|line: &Value| line["target"] == "pointsman::plugin::guest").collect()
    };
    let said = eventually("sixteen lines", || Some(said()).filter(|said| said.len() >= 16));
    assert_eq!(said.len(), 16, "no more than the contract allows");
    assert_eq!(
        (said[0]["message"].as_str(), said[0]["level"].as_str(), said[0]["exchange"].as_str()),
        (Some("tricky\\n{\"level\":\"FORGED\"}"), Some("WARN"), Some(id))
    );
    assert!(said[0]["plugin"].as_str().unwrap().starts_with("asker@") && said[0]["fields"] == json!({ "k": "v\"\n" }));
    assert!(!host.log().iter().any(|line| line.contains("too quiet")));
}
