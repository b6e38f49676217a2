//! Components that were built against the first published version of the contract, 0.1.0, and lie in `tests/fixtures/components/0.1.0` ever since:
//! whatever becomes of `wit/`, they load and do what they did.
//!
//! ```text
//! UPDATE=1 cargo test -p tests --test frozen
//! ```
//! makes those that are not there. What is there stays as it is: a component that no longer loads is a promise that was broken, and not a file
//! to be made anew.
//!
//! **Invariant:** nothing here is built from the sources of today but where a file is missing and `UPDATE` asks for it.

use std::path::{Path, PathBuf};

use serde_json::json;
use tests::guests::{self, fuzz};
use tests::{FakeUpstream, Host, Plugin, Running, sse};

type Make = fn() -> Vec<u8>;

/// The name of a component, and what makes it.
const ALL: [(&str, Make); 3] = [("router", || guests::router(1)), ("puppet", guests::puppet), ("each", fuzz::each)];

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/components/0.1.0/{name}.wasm"))
}

fn component(name: &str) -> Vec<u8> {
    let path = file(name);
    let made = ALL.iter().find(|(known, _)| *known == name).map(|(_, make)| make).unwrap();
    if std::env::var_os("UPDATE").is_some() && !path.exists() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn start(fake: &FakeUpstream, plugin: Plugin) -> Running {
    Host::new()
        .upstream(fake)
        .prompt("greet", "v1", "Greet {{ name }}.")
        .semantic()
        .plugin(plugin.set("deadline = \"500ms\""))
        .start()
}

#[test]
fn a_router_routes() {
    let fake = FakeUpstream::start();
    let host = start(&fake, Plugin::new("router", component("router")).hooks("\"routing\""));
    let answer = host.chat("hi");
    assert_eq!((answer.status, answer.header("x-pointsman-reason")), (200, Some("revision 00000001")));
}

/// Each hook once, with what is most in its records.
#[test]
fn all_hooks_are_asked_and_heard() {
    let fake = FakeUpstream::start();
    let host = start(&fake, Plugin::new("puppet", component("puppet")));
    let plan = json!({ "plan": {
        "targets": ["small", "large"], "headers": [["x-own", "1"]], "reason": "because", "labels": [["a", "b"]], "timeout_ms": 9_000,
        "first_byte_timeout_ms": 8_000, "review": { "answers": true, "logprobs": true, "tokens": 4 }, "observe": { "events": 3, "ms": 50 } } });
    let choice = json!({ "rewrite": { "choice": null, "edits": [{ "append": "And now?" }, { "set-parameter": ["temperature", "0.5"] }] } });
    let key = json!({ "key": { "scope": { "custom": "part" }, "exact": ["x"], "semantic": { "text": "hi", "partition": ["en"], "min_similarity": 0.9, "confirm": true }, "ttl_ms": 60_000, "generation": "1", "admit": true } });
    let answer = host
        .ask("hi")
        .model("auto")
        .puppet("route", plan)
        .puppet("select", choice)
        .puppet("key", key)
        .puppet("after", json!(["accept"]))
        .puppet("chunk", json!(["go-on", { "label": "said" }]))
        .puppet("admit", json!({ "for": 60_000 }))
        .streamed()
        .send();
    assert_eq!(
        (answer.status, answer.header("x-pointsman-reason"), sse::is_done(&answer.body)),
        (200, Some("because"), true),
        "{}",
        answer.text()
    );
    let seen = fake.last();
    assert_eq!((seen.header("x-own"), &seen.json()["temperature"]), (Some("1"), &json!(0.5)));
    assert_eq!(seen.json()["messages"][1]["content"], "And now?");
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &[]), 0.0, "{}", host.api("/api/plugins"));
}

/// A component that imports every function that 0.1.0 had.
#[test]
fn all_imports_are_there() {
    let fake = FakeUpstream::start();
    let found = pointsman::plugin::inspect::inspect(&file("each")).unwrap();
    assert_eq!((found.grants.len(), found.problems.len()), (9, 0), "{found}");
    let grants = r#""config", "log", "metrics", "upstreams", "embeddings", "clock", "random", "kv", "http""#;
    let plugin = Plugin::new("each", component("each")).hooks("\"routing\"");
    let host = start(&fake, plugin.set(&format!("grant = [{grants}]\nhttp = {{ allow = [\"http://127.0.0.1:1\"] }}")));
    assert_eq!(host.ask("hi").set("max_tokens", json!(1)).send().status, 200);
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &[]), 0.0);
    assert_eq!(host.metrics().sum("pointsman_plugin_call_seconds_count", &["hook=\"routing\""]), 1.0);
}
