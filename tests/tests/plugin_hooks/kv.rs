//! What a plugin keeps from one request to the next: whose it is, how much it may be, how long it stays.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tests::{Door, FakeUpstream, Host, Plugin, eventually, guests};

fn keeper() -> Plugin {
    Plugin::asker().set("on_failure = \"fail\"")
}

fn host(fake: &FakeUpstream, plugin: Plugin) -> Host {
    Host::new().upstream(fake).key("a", "a").key("a-too", "a").key("b", "b").plugin(plugin)
}

/// What the host answers to the guest, for the tenant of this key.
fn ask_of(door: &Door, model: &str, key: &str, what: Value) -> String {
    let answer = door.ask("hi").model(model).key(key).puppet("ask", what.clone()).send();
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    answer.header("x-pointsman-reason").unwrap_or_else(|| panic!("{what}: no answer")).to_owned()
}

fn ask(door: &Door, key: &str, what: Value) -> String {
    ask_of(door, "auto", key, what)
}

fn set(key: &str, value: &str) -> Value {
    json!({ "set": { "key": key, "value": value } })
}

fn add(key: &str, delta: i64) -> Value {
    json!({ "increment": { "key": key, "delta": delta } })
}

fn kept(door: &Door, what: &str, labels: &[&str]) -> f64 {
    door.metrics().sum(&format!("pointsman_plugin_kv_{what}"), labels)
}

#[test]
fn each_function_does_what_the_contract_says() {
    let fake = FakeUpstream::start();
    let host = host(&fake, keeper()).start();
    let cas = |expected: Option<&str>, value: &str| json!({ "cas": { "key": "k", "expected": expected, "value": value } });
    for (what, expect) in [
        (json!({ "get": "k" }), "None"),
        (cas(Some("one"), "two"), "false"),
        (cas(None, "one"), "true"),
        (cas(None, "two"), "false"),
        (cas(Some("one"), "two"), "true"),
        (json!({ "get": "k" }), "Some(\"two\")"),
        (add("k", 1), "not-a-number"),
        (set("k", "40"), "()"),
        (add("k", 2), "42"),
        (add("new", -2), "-2"),
        (json!({ "get": "new" }), "Some(\"-2\")"),
        (json!({ "delete": "k" }), "true"),
        (json!({ "delete": "k" }), "false"),
    ] {
        assert_eq!(ask(&host, "a", what.clone()), expect, "{what}");
    }
}

#[test]
fn tenants_do_not_meet() {
    let fake = FakeUpstream::start();
    let host = host(&fake, keeper()).start();
    assert_eq!(ask(&host, "a", set("k", "of a")), "()");
    assert_eq!(ask(&host, "a-too", json!({ "get": "k" })), "Some(\"of a\")", "another key of the same tenant");
    assert_eq!(ask(&host, "b", json!({ "get": "k" })), "None");
    assert_eq!((ask(&host, "b", json!({ "delete": "k" })), ask(&host, "b", add("n", 5))), ("false".into(), "5".into()));
    assert_eq!((ask(&host, "a", json!({ "get": "k" })), ask(&host, "a", add("n", 1))), ("Some(\"of a\")".into(), "1".into()));
}

#[test]
fn plugins_do_not_meet() {
    let fake = FakeUpstream::start();
    let other = Plugin::new("other", guests::asker()).like(&keeper().set("models = [\"large\"]"));
    let host = host(&fake, keeper().set("models = [\"small\"]")).plugin(other).start();
    assert_eq!(ask_of(&host, "small", "a", set("k", "mine")), "()");
    assert_eq!(ask_of(&host, "large", "a", json!({ "get": "k" })), "None", "the same component under another name");
    assert_eq!(ask_of(&host, "small", "a", json!({ "get": "k" })), "Some(\"mine\")");
}

#[test]
fn there_is_room_for_what_the_owner_allows() {
    let fake = FakeUpstream::start();
    let limits = "kv = { memory = \"48KiB\", tenant_memory = \"32KiB\", tenant_entries = 6 }";
    let host = host(&fake, keeper().set(limits)).start();
    let fill = |keys: u32, bytes: u32| json!({ "fill": { "keys": keys, "bytes": bytes } });
    assert_eq!(ask(&host, "a", fill(10, 100)), "4", "six entries");
    assert_eq!((kept(&host, "entries", &["plugin=\"asker\""]), kept(&host, "refused_total", &["why=\"tenant\""])), (6.0, 4.0));
    assert_eq!(ask(&host, "a", fill(6, 8 << 10)), "3", "three times 8 KiB");
    assert_eq!(ask(&host, "b", fill(3, 8 << 10)), "1", "what is left of 48 KiB");
    assert_eq!(kept(&host, "refused_total", &["why=\"memory\""]), 1.0);
    assert!(kept(&host, "bytes", &[]) <= 48.0 * 1024.0);
    assert_eq!(ask(&host, "a", add("more", 1)), "quota");
    assert!(ask(&host, "a", json!({ "get": "fill-0" })).starts_with("Some(\"xxx"), "what is there stays there");
    for bytes in [0, 257, 1 << 20] {
        assert_eq!(ask(&host, "a", json!({ "long-key": bytes })), "too-large", "{bytes}");
    }
    assert_eq!(ask(&host, "b", fill(1, 65_537)), "1");
    assert_eq!(kept(&host, "refused_total", &["why=\"too-large\""]), 4.0);
    let told = host.api("/api/plugins")["plugins"][0]["kv"].clone();
    assert_eq!(
        (told["entries"].as_f64(), told["bytes"].as_f64()),
        (Some(kept(&host, "entries", &[])), Some(kept(&host, "bytes", &[])))
    );
}

#[test]
fn what_has_a_time_is_gone_after_it() {
    let fake = FakeUpstream::start();
    let host = host(&fake, keeper().set("kv = { tenant_entries = 3 }")).start();
    ask(&host, "a", json!({ "set": { "key": "soon", "value": "x", "ttl": 50 } }));
    ask(&host, "a", json!({ "set": { "key": "later", "value": "x", "ttl": 600_000 } }));
    ask(&host, "a", json!({ "increment": { "key": "window", "delta": 1, "ttl": 50 } }));
    eventually("the end of the first", || (ask(&host, "a", json!({ "get": "soon" })) == "None").then_some(()));
    eventually("a new window", || {
        (ask(&host, "a", json!({ "increment": { "key": "window", "delta": 1, "ttl": 50 } })) == "1").then_some(())
    });
    assert_eq!(ask(&host, "a", json!({ "get": "later" })), "Some(\"x\")");
    assert_eq!(ask(&host, "a", set("in its place", "x")), "()");
}

/// Eight clients on two cores, each exchange with fifty steps of read, compare and set.
#[test]
fn compare_and_set_loses_nothing() {
    let fake = FakeUpstream::start();
    let host = host(&fake, keeper()).start();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..5).for_each(|_| _ = ask(&host, "a", json!({ "raise": { "key": "n", "times": 50 } }))));
        }
    });
    assert_eq!(ask(&host, "a", json!({ "get": "n" })), "Some(\"2000\")");
}

/// The same guest with another digest: a section that nobody reads at its end.
fn version(number: u8) -> Vec<u8> {
    let mut component = guests::asker();
    component.extend([0, 3, 1, b'v', number]);
    component
}

/// Five new versions and a new configuration while eight clients count: each of them has counted where the one before it has ended.
#[test]
fn what_is_kept_survives_new_versions_under_load() {
    let fake = FakeUpstream::start();
    let host = host(&fake, keeper()).start();
    let (stop, counted) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let said = ask(&host, "a", add("n", 1));
                    let number: u32 = said.parse().unwrap_or_else(|_| panic!("{said}"));
                    counted.lock().unwrap().push(number);
                }
            });
        }
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let plugin = || host.api("/api/plugins")["plugins"][0].clone();
            for number in 1..=5 {
                let before = plugin()["digest"].clone();
                host.folder.write("asker.wasm", &version(number));
                eventually("the next version", || {
                    (plugin()["digest"] != before && plugin()["calls"].as_u64() > Some(0)).then_some(())
                });
            }
            host.folder.change("on_failure = \"fail\"", "on_failure = \"fail\"\nmodels = [\"auto\"]");
            eventually("the next configuration", || (plugin()["models"] == json!(["auto"])).then_some(()));
        }));
        stop.store(true, Ordering::SeqCst);
        work.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let mut counted = counted.into_inner().unwrap();
    counted.sort_unstable();
    assert!(counted.iter().copied().eq(1..=counted.len() as u32), "a count is lost or there twice");
    assert!(counted.len() > 10);
}

/// It belongs to the name.
#[test]
fn another_name_begins_with_nothing() {
    let fake = FakeUpstream::start();
    let host = host(&fake, keeper()).start();
    assert_eq!(ask(&host, "a", add("n", 1)), "1");
    for name in ["renamed", "asker"] {
        let before = if name == "asker" { "renamed" } else { "asker" };
        host.folder.change(&format!("[plugins.{before}]"), &format!("[plugins.{name}]"));
        eventually(name, || (host.api("/api/plugins")["plugins"][0]["name"] == json!(name)).then_some(()));
        assert_eq!(ask(&host, "a", add("n", 1)), "1", "{name}");
    }
}
