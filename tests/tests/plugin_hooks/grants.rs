//! Deny by default: what loads, what does not, and what the owner is told.

use tests::{FakeUpstream, Host, Plugin, guests};

/// A host with this plugin does not start, and says why.
fn check(plugin: Plugin, reason: &str) {
    let fake = FakeUpstream::start();
    let Err(error) = Host::new().upstream(&fake).plugin(plugin).try_start() else { panic!("it loads, and should not: {reason}") };
    let error = error.to_string();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn an_import_needs_its_grant() {
    let all = ["config", "log", "metrics", "upstreams", "embeddings", "clock", "random", "kv"];
    for interface in all {
        let others: Vec<String> = all.iter().filter(|other| **other != interface).map(|other| format!("{other:?}")).collect();
        let plugin = Plugin::new("asker", guests::asker()).set(&format!("grant = [{}]", others.join(", ")));
        check(plugin, &format!("add \"{interface}\" to `grant`"));
    }
    check(Plugin::new("asker", guests::asker()), "not granted");
}

#[test]
fn a_grant_that_is_not_used_does_no_harm() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::router(1).set("grant = [\"clock\", \"random\"]")).start();
    assert_eq!(host.chat("hi").header("x-pointsman-reason"), Some("revision 00000001"));
}

#[test]
fn components_that_are_none_of_ours() {
    check(Plugin::new("stranger", guests::hostile::stranger()), "does not export the hook");
    check(Plugin::new("module", guests::hostile::core_module()), "core module, not a component");
    check(Plugin::new("text", *b"#!/bin/sh\n"), "not WebAssembly");
    check(Plugin::new("empty", *b""), "not WebAssembly");
    check(Plugin::router(1).hooks("\"routing\", \"caching\""), "does not export the hook `caching`");
}

/// Calls compare no types any more, so nothing that has others may come so far.
#[test]
fn a_component_of_other_types() {
    check(Plugin::new("mistyped", guests::hostile::mistyped()).hooks("\"caching\""), "type mismatch");
}

#[test]
fn a_configuration_that_is_refused() {
    check(Plugin::asker().set("config = { refuse = \"limit must be a number\" }"), "limit must be a number");
}

#[test]
fn a_component_that_is_not_there() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).section("[plugins.gone]\ncomponent = \"gone.wasm\"\nhooks = [\"routing\"]");
    let error = host.try_start().err().expect("there is nothing to load").to_string();
    assert!(error.contains("gone.wasm") && error.contains("pointsman plugin build"), "{error}");
}

#[test]
fn the_administrator_sees_what_is_loaded() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::asker()).start();
    let plugins = host.api("/api/plugins");
    let plugin = &plugins["plugins"][0];
    assert_eq!(
        (plugin["name"].as_str(), plugin["version"].as_str(), plugin["quarantined"].as_array().map(Vec::len)),
        (Some("asker"), Some("1.0.0"), Some(0))
    );
    assert_eq!(plugin["hooks"], serde_json::json!(["routing"]));
    assert_eq!(plugin["grant"].as_array().unwrap().len(), 8);
    assert!(plugin["digest"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(plugins["problems"], serde_json::json!([]));
}
