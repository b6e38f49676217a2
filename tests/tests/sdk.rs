//! OpenAI's official SDKs against the real binary: scripts in their own languages (`sdk/python`, `sdk/node`) do what an
//! application does, and expect what it would get from OpenAI.
//!
//! What it does not do: it installs nothing; `tests/run` does. Without the SDKs the tests fail and say so: a test that skips
//! itself tests nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::{Act, Binary, FakeUpstream, Host, installed, within};

/// The longest that a script may take.
const LIMIT: Duration = Duration::from_secs(90);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk")
}

/// A host, and an upstream that takes certain texts for orders.
fn host(fake: &FakeUpstream) -> Binary {
    fake.when("fail with 429", Act::refuse(429, "slow_down").header("retry-after", "7"))
        .when("fail with 500", Act::refuse(500, "broken"))
        .when("say nothing", Act::silent())
        .when("break off", Act::answer().cut_at(700))
        .when("a point", Act::say(r#"{"x":1,"y":2}"#))
        .when(
            "call a tool",
            Act::answer().edit(|completion| {
                completion["choices"][0]["message"]["content"] = serde_json::Value::Null;
                completion["choices"][0]["message"]["tool_calls"] = json!([{ "id": "call_1", "type": "function", "function": { "name": "weather", "arguments": r#"{"city":"Graz"}"# } }]);
                completion["choices"][0]["finish_reason"] = json!("tool_calls");
            }),
        );
    Host::new()
        .upstream(fake)
        .provider("timeouts = { headers = \"600ms\" }\nretries = 0")
        .built_in()
        .cache()
        .prompt("greet", "v1", "Greet {{ name }}.")
        .key("app", "team")
        .limited_key("limited", "team", "models = [\"small\"]\n")
        .spawn()
}

/// Runs a script against a host; what it prints is shown if it fails.
fn check(command: &mut Command, script: &str, checks: usize) {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = command
        .arg(folder().join(script))
        .arg(format!("http://{}/v1", host.address))
        .env("KEY", &host.keys["app"])
        .env("LIMITED_KEY", &host.keys["limited"])
        // What an SDK takes from the environment of whoever runs this is nobody's business here.
        .env_remove("OPENAI_BASE_URL")
        .env_remove("OPENAI_API_KEY")
        .env("NO_PROXY", "*")
        .stdout(log.reopen().unwrap())
        .stderr(log.reopen().unwrap())
        .spawn()
        .expect("the interpreter runs");
    let ended = within(LIMIT, || child.try_wait().unwrap());
    let _ = child.kill();
    let _ = child.wait();
    let said = std::fs::read_to_string(log.path()).unwrap();
    assert!(ended.is_some_and(|status| status.success()), "{script}: {ended:?}\n{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), checks, "{said}");
    println!("{said}");
    let structured = fake.requests().into_iter().find(|request| request.text().contains("a point")).expect("it was asked");
    assert_eq!(structured.json()["response_format"]["type"], "json_schema");
    // Whoever waits for 200 ms at most says so by itself, in seconds, which the one for Node rounds down. The upstream hears of it, and the
    // SDK's own time-out comes before ours.
    let told =
        |name: &str| fake.requests().iter().filter_map(|request| request.header(name)?.strip_suffix("ms")?.parse().ok()).min();
    let left: u32 = told("x-pointsman-first-byte-timeout").expect("it was told");
    assert!((1..=1_250).contains(&left), "{left}");
}

#[test]
fn python() {
    let environment = installed("python", "python/requirements.txt");
    check(Command::new(environment.join("bin/python")).arg("-u"), "python/check.py", 9);
}

#[test]
fn node() {
    let modules = installed("node", "node/package-lock.json");
    check(Command::new("node").env("MODULES", &modules), "node/check.mjs", 9);
}
