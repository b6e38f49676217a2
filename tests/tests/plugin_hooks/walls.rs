//! What a plugin cannot read: secrets, what another tenant has kept, headers that carry credentials, files, the network. One test each, with guests
//! that try.

use serde_json::{Value, json};
use tests::guests::walls;
use tests::{FakeUpstream, Host, Plugin, Running};

const PROVIDER: &str = "sk-canary-wall-51e07a6d";
const VARIABLE: &str = "canary-wall-variable-8d2c";

fn told(host: &Running, key: &str, what: Value) -> String {
    let answer = host.ask("hi").model("auto").key(key).puppet("ask", what.clone()).send();
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    answer.header("x-pointsman-reason").unwrap_or_default().to_owned()
}

/// The provider's key, the client's, and those of others: in nothing that any import tells.
#[test]
fn a_secret() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .file("provider.txt", PROVIDER.as_bytes())
        .provider("key = \"file:provider.txt\"")
        .key("a", "a")
        .key("b", "b")
        .plugin(Plugin::asker().set("config = { shown = \"to it\" }"))
        .start();
    let keys = [PROVIDER.to_owned(), host.keys["a"].clone(), host.keys["b"].clone()];
    let asks = [
        json!("document"),
        json!({ "config": "key" }),
        json!({ "config": "../providers/fake/key" }),
        json!("candidates"),
        json!({ "model": "small" }),
        json!({ "status": "small" }),
        json!({ "get": "key" }),
        json!({ "classify": { "examples": "keys", "k": 8 } }),
    ];
    for what in asks {
        let told = told(&host, "a", what.clone());
        assert!(keys.iter().all(|secret| !told.contains(secret.as_str())), "{what}: {told}");
    }
    assert_eq!(fake.last().header("authorization"), Some(&*format!("Bearer {PROVIDER}")), "it is in use");
    // Nor by what a guest sees of the request itself.
    let host = Host::new().upstream(&fake).key("a", "a").plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    for sight in [
        json!("head"),
        json!("header-names"),
        json!({ "json": "" }),
        json!({ "header": "authorization" }),
        json!({ "metadata": "authorization" }),
    ] {
        let answer = host.ask("hi").key("a").puppet("route", json!({ "tell": sight })).send();
        let told = answer.header("x-pointsman-reason").unwrap_or_default();
        assert!(answer.status == 200 && !told.contains(&host.keys["a"]), "{sight}: {told}");
    }
}

/// The tenant is no part of a key's name, whatever the name is.
#[test]
fn what_another_tenant_has_kept() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).key("a", "a").key("b", "b").plugin(Plugin::asker()).start();
    let set = json!({ "set": { "key": "secret", "value": "of a", "ttl": null } });
    assert_eq!(told(&host, "a", set), "()");
    assert_eq!(told(&host, "a", json!({ "get": "secret" })), "Some(\"of a\")");
    for key in [
        "secret",
        "a/secret",
        "../a/secret",
        "a\0secret",
        "a:secret",
        "\0a\0secret",
        "asker/a/secret",
        "tenant=a;secret",
        "secret\0",
    ] {
        assert_eq!(told(&host, "b", json!({ "get": key })), "None", "{key:?}");
        assert_eq!(told(&host, "b", json!({ "delete": key })), "false", "{key:?}");
    }
    let swap = json!({ "cas": { "key": "secret", "expected": "of a", "value": "of b" } });
    assert_eq!(told(&host, "b", swap), "false");
    assert_eq!(told(&host, "b", json!({ "increment": { "key": "secret", "delta": 1, "ttl": null } })), "1", "it counts its own");
    assert_eq!(told(&host, "a", json!({ "get": "secret" })), "Some(\"of a\")", "and nothing of it was changed");
}

/// By whatever spelling, one by one and all at once.
#[test]
fn a_header_that_carries_credentials() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    let names = [
        "authorization",
        "proxy-authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "x-auth-token",
        "x-amz-security-token",
        "cf-access-client-secret",
        "ocp-apim-subscription-key",
        "x-forwarded-access-token",
        "set-cookie",
    ];
    let ask = |sight: Value| {
        let ask = host.ask("hi").header("x-plain", "seen").puppet("route", json!({ "tell": sight }));
        let answer = names.iter().fold(ask, |ask, name| ask.header(name, "canary-credential")).send();
        answer.header("x-pointsman-reason").unwrap_or_default().to_owned()
    };
    for name in names {
        for spelt in [name.to_owned(), name.to_uppercase(), format!(" {name}"), format!("{name}\0"), format!("{name}:")] {
            assert_eq!(ask(json!({ "header": spelt })), "None", "{spelt:?}");
        }
    }
    let listed = ask(json!("header-names"));
    assert!(listed.contains("x-plain") && names.iter().all(|name| !listed.split(',').any(|seen| seen == *name)), "{listed}");
    assert_eq!(ask(json!({ "header": "x-plain" })), "Some(\"seen\")");
}

fn walled(wall: &walls::Wall, control: bool) -> f64 {
    let fake = FakeUpstream::start();
    let plugin = Plugin::new("wall", wall.component(control)).hooks("\"routing\"").set("deadline = \"1s\"");
    let host = Host::new().upstream(&fake).plugin(plugin).spawn_with(&[("CANARY_WALL", VARIABLE)]);
    assert_eq!(host.chat("hi").status, 200, "{}", wall.name);
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_plugin_call_seconds_count", &["hook=\"routing\""]), 1.0, "{}", wall.name);
    metrics.sum("pointsman_plugin_failures_total", &["cause=\"trap\""])
}

fn check(names: &[&str]) {
    for wall in walls::ALL.iter().filter(|wall| names.contains(&wall.name)) {
        assert_eq!((walled(wall, false), walled(wall, true)), (0.0, 1.0), "{}: got something, or was not asked", wall.name);
    }
}

#[test]
fn files_and_the_environment() {
    check(&["files", "environment", "arguments"]);
}

/// Neither through WASI nor, without its grant, through `http`.
#[test]
fn the_network() {
    check(&["a connection", "an address"]);
    let fake = FakeUpstream::start();
    let refused = Host::new().upstream(&fake).plugin(Plugin::sender().replace("\"http\"", "")).try_start();
    let refused = refused.err().expect("it imports what it was not granted").to_string();
    assert!(refused.contains("imports `http`, which is not granted"), "{refused}");
}
