//! Instances that serve one exchange after another: what they still know, what they must not know, and when they go.

use std::sync::Arc;

use pointsman::plugin::PluginSet;
use pointsman::plugin::engine::Engine;
use pointsman::plugin::load::{Hook, Settings};
use serde_json::{Value, json};
use tests::host::Folder;
use tests::{Door, FakeUpstream, Host, Plugin, Running, eventually, guests};

fn reused(plugin: Plugin) -> Plugin {
    plugin.hooks("\"routing\"").set("reuse = true\ndeadline = \"500ms\"")
}

/// One core, so that one instance gets all calls.
fn host(fake: &FakeUpstream, plugin: Plugin) -> Running {
    one_core(fake).plugin(plugin).start()
}

fn one_core(fake: &FakeUpstream) -> Host {
    Host::new().upstream(fake).listen("threads = 1").key("a", "a").key("b", "b")
}

fn reason(host: &Door, key: &str, what: &Value) -> String {
    let answer = host.ask("hi").model("auto").key(key).puppet("route", what.clone()).puppet("ask", what.clone()).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-pointsman-reason").unwrap_or_default().to_owned()
}

fn calls() -> Value {
    json!({ "tell": "calls" })
}

fn made(host: &Running) -> f64 {
    host.metrics().sum("pointsman_plugin_instances_total", &[])
}

/// The first ones are made before anybody asks, and a call is what it costs from then on.
#[test]
fn one_instance_serves_one_exchange_after_another() {
    let fake = FakeUpstream::start();
    let host = host(&fake, reused(Plugin::puppet()));
    let at_first = made(&host);
    assert!(at_first >= 1.0);
    for call in 1..=20 {
        let answer = host.ask(&format!("hi {call}")).key("a").puppet("route", calls()).send();
        assert_eq!(answer.header("x-pointsman-reason"), Some(&*call.to_string()));
    }
    assert_eq!(made(&host), at_first, "nothing was made for a call");
}

#[test]
fn what_the_host_knows_of_an_exchange_goes_with_it() {
    let fake = FakeUpstream::start();
    // A process of its own, for it has a log.
    let host = one_core(&fake).plugin(Plugin::asker().set("reuse = true")).spawn();
    // What is kept is the tenant's.
    assert_eq!(reason(&host, "a", &json!({ "set": { "key": "k", "value": "of a" } })), "()");
    assert_eq!(reason(&host, "b", &json!({ "get": "k" })), "None");
    assert_eq!(reason(&host, "a", &json!({ "get": "k" })), "Some(\"of a\")");
    // Each exchange has its own sixteen lines.
    let lines = |times: u32| json!({ "log": { "level": 2, "message": "m", "fields": [], "times": times } });
    assert_eq!(reason(&host, "a", &lines(16)), "false", "the last was the last");
    assert_eq!(reason(&host, "b", &lines(1)), "true");
    // And its own numbers.
    let [first, second] = [1, 2].map(|_| reason(&host, "a", &json!({ "random": 2 })));
    assert_ne!(first, second);
}

#[test]
fn head_headers_and_labels_are_those_of_the_exchange() {
    let fake = FakeUpstream::start();
    let host = one_core(&fake).cache().plugin(Plugin::puppet().set("reuse = true\ndeadline = \"500ms\"")).start();
    let label = json!({ "label": [["topic", "maths"]] });
    let metadata = json!({ "tell": { "metadata": "topic" } });
    let ask =
        |key: &str, route: &Value| host.ask("hi").header("cache-control", "no-cache").key(key).puppet("route", route.clone());
    let told = |answer: tests::Answer| answer.header("x-pointsman-reason").unwrap_or_default().to_owned();
    assert_eq!(told(ask("a", &metadata).puppet("select", label).send()), "Some(\"maths\")");
    assert_eq!(told(ask("b", &metadata).send()), "None");
    for (key, tier) in [("a", "gold"), ("b", "lead")] {
        let tell = json!({ "tell": { "header": "x-tier" } });
        assert_eq!(told(ask(key, &tell).header("x-tier", tier).send()), format!("Some({tier:?})"));
        assert!(told(ask(key, &json!({ "tell": "head" })).send()).contains(&format!("tenant: {key:?}")));
    }
    // Three hooks of one exchange are three calls of one instance; the next exchange goes on with it.
    let counts = [1, 2].map(|_| told(ask("a", &calls()).send()).parse::<u32>().unwrap());
    assert_eq!(counts[1] - counts[0], 3, "{counts:?}");
}

/// An instance that has trapped is in the middle of something, and one that has failed may be: neither is asked again.
#[test]
fn who_fails_is_not_asked_again() {
    let fake = FakeUpstream::start();
    let host = host(&fake, reused(Plugin::puppet()));
    for misdeed in [json!("panic"), json!({ "fail": "no reason" })] {
        let before: u32 = (0..3).map(|_| reason_of_own(&host).parse::<u32>().unwrap()).max().unwrap();
        assert!(before >= 3);
        assert_eq!(host.ask("hi").key("a").puppet("route", misdeed).send().status, 200);
        assert_eq!(reason_of_own(&host), "1");
    }
}

fn reason_of_own(host: &Running) -> String {
    let answer = host.ask("hi").key("a").puppet("route", calls()).send();
    answer.header("x-pointsman-reason").unwrap_or_default().to_owned()
}

/// What leaks in a guest is gone after a thousand exchanges.
#[test]
fn an_instance_serves_a_thousand_exchanges() {
    let fake = FakeUpstream::start();
    let host = host(&fake, reused(Plugin::puppet()));
    let request = host.ask("hi").key("a").puppet("route", calls()).bytes();
    let mut connection = tests::Connection::open(host.address);
    let mut count = || {
        let answer = connection.exchange(&request).unwrap();
        answer.header("x-pointsman-reason").unwrap().parse::<u32>().unwrap()
    };
    let counts: Vec<u32> = (0..1_010).map(|_| count()).collect();
    assert_eq!((counts[999], counts[1_000], counts[1_009]), (1_000, 1, 10));
}

#[test]
fn another_version_has_instances_of_its_own() {
    let fake = FakeUpstream::start();
    let host = host(&fake, reused(Plugin::puppet()));
    assert_eq!([1, 2].map(|_| reason_of_own(&host)), ["1", "2"]);
    let text = host.folder.read(Folder::CONFIG);
    host.folder.write(Folder::CONFIG, text.replace("reuse = true", "reuse = true\nmemory = \"8MiB\"").as_bytes());
    eventually("the new settings", || Some(reason_of_own(&host)).filter(|calls| calls == "1"));
}

/// A version's instances go when it goes, the last exchange on it included.
#[test]
fn what_rests_goes_with_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let component = folder.path().join("puppet.wasm");
    std::fs::write(&component, guests::puppet()).unwrap();
    let settings = |limit: u32| Settings {
        name: "puppet".to_owned(),
        component: component.clone(),
        hooks: Hook::ALL.to_vec(),
        tenants: Vec::new(),
        models: Vec::new(),
        grants: Vec::new(),
        fail: true,
        deadline: std::time::Duration::from_secs(1),
        memory: 16 << 20,
        reuse: true,
        kv: pointsman::plugin::kv::Limits { memory: 1 << 20, tenant_memory: 1 << 20, tenant_entries: 10 },
        http: None,
        source: Default::default(),
        quarantine: Default::default(),
        release: Default::default(),
        config: json!({ "limit": limit }).as_object().cloned().unwrap(),
    };
    let engine = Engine::for_cores(3).unwrap();
    let alive = || engine.pooling_allocator_metrics().unwrap().component_instances();
    let build = |limit, previous: Option<&PluginSet>| {
        let (set, errors) = PluginSet::build(&engine, &[settings(limit)], None, previous);
        assert!(errors.is_empty(), "{errors:?}");
        Arc::new(set)
    };
    let first = build(1, None);
    assert_eq!(alive(), 3, "one for each core");
    let same = build(1, Some(&first));
    assert_eq!(alive(), 3, "what has not changed is kept");
    let next = build(2, Some(&same));
    assert_eq!(alive(), 6);
    drop(first);
    assert_eq!(alive(), 6, "an exchange may still be on it");
    drop(same);
    assert_eq!(alive(), 3);
    drop(next);
    assert_eq!(alive(), 0);
}
