//! What a plugin sees, how long it lives, and what its failure means.

use serde_json::{Value, json};
use tests::{FakeUpstream, Host, Plugin, Running};

fn host(fake: &FakeUpstream, plugin: Plugin) -> Running {
    Host::new().upstream(fake).key("app", "team").plugin(plugin.set("deadline = \"500ms\"")).start()
}

#[test]
fn a_plugin_sees_its_request_and_no_credentials() {
    let fake = FakeUpstream::start();
    let host = host(&fake, Plugin::puppet());
    let body = json!({ "model": "small", "max_tokens": 9, "metadata": { "a/b": [1, { "c": "d" }] }, "messages": [
        { "role": "system", "content": "s" }, { "role": "user", "content": [{ "type": "text", "text": "héllo" }, { "type": "text", "text": "two" }] }, { "role": "odd", "content": null }] });
    let sees = |what: Value| {
        let ask =
            host.asking(body.clone()).key("app").header("x-tier", "gold").header("cookie", "c=d").header("x-api-key", "secret");
        ask.puppet("route", json!({ "tell": what })).send().header("x-pointsman-reason").unwrap_or_default().to_owned()
    };
    assert_eq!(sees(json!({ "header": "x-tier" })), "Some(\"gold\")");
    for hidden in ["authorization", "cookie", "x-api-key", "AUTHORIZATION", "bad name"] {
        assert_eq!(sees(json!({ "header": hidden })), "None", "{hidden}");
    }
    let names = sees(json!("header-names"));
    assert!(names.contains("x-tier") && !names.contains("authorization") && !names.contains("cookie"), "{names}");
    assert_eq!(sees(json!("messages")), "Role::System=s|Role::User=h??llo?two|Role::User=");
    assert_eq!(sees(json!({ "last-user-text": 2 })), "h", "cut on a character's border");
    assert_eq!(sees(json!({ "json": "/metadata/a~1b/1/c" })), "Some(\"\\\"d\\\"\")");
    assert_eq!(sees(json!({ "json": "/metadata/none" })), "None");
    let head = sees(json!("head"));
    assert!(head.contains("tenant: \"team\"") && head.contains("principal: Some(\"app\")"), "{head}");
}

/// Nothing leaks from one request to the next: whatever an exchange leaves in a guest's memory is gone with it.
#[test]
fn each_exchange_has_an_instance_of_its_own() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    for index in 0..50 {
        let answer = host.ask(&format!("hi {index}")).puppet("route", json!({ "tell": "calls" })).send();
        // select, key, route: the third call of this exchange, whatever came before it.
        assert_eq!(answer.header("x-pointsman-reason"), Some("3"), "exchange {index}");
    }
}

#[test]
fn labels_are_seen_by_later_plugins() {
    let fake = FakeUpstream::start();
    let second = Plugin::new("second", tests::guests::puppet()).hooks("\"routing\"").set("deadline = \"500ms\"");
    let first = Plugin::puppet().hooks("\"prompting\"").set("deadline = \"500ms\"");
    let host = Host::new().upstream(&fake).plugin(first).plugin(second).start();
    let select =
        json!({ "rewrite": { "choice": { "prompt": "p", "version": "1", "labels": [["topic", "old"], ["topic", "maths"]] } } });
    let answer = host.ask("hi").puppet("select", select).puppet("route", json!({ "tell": { "metadata": "topic" } })).send();
    assert_eq!(answer.header("x-pointsman-reason"), Some("Some(\"maths\")"), "the newest value");
    let plugins = answer.header("x-pointsman-plugin").unwrap();
    assert!(plugins.starts_with("puppet@") && plugins.contains(", second@"), "{plugins}");
}

/// The rule for a failure, hook by hook.
#[test]
fn a_failure_follows_the_owners_rule() {
    let fake = FakeUpstream::start();
    let hooks = [("select", "prompting"), ("key", "caching"), ("route", "routing")];
    let lenient = Host::new().upstream(&fake).cache().plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    let strict = Host::new().upstream(&fake).cache().plugin(Plugin::puppet().set("deadline = \"500ms\"").must_not_fail()).start();
    for (order, hook) in hooks {
        for misdeed in [json!("panic"), json!({ "fail": "no reason" }), json!("not an order")] {
            let passes = lenient.ask("hi").header("cache-control", "no-cache").puppet(order, misdeed.clone()).send();
            // Who fails before the key, or at it, might have said that nobody may share.
            assert_eq!(
                (passes.status, passes.cache()),
                (200, if order == "route" { "miss" } else { "bypass" }),
                "{hook} {misdeed}"
            );
            let fails = strict.ask("hi").puppet(order, misdeed.clone()).send();
            assert_eq!((fails.status, fails.code().as_str()), (500, "plugin_failed"), "{hook} {misdeed}");
            let message = fails.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains("`puppet`") && message.contains(hook), "{message}");
            assert!(!message.contains("no reason"), "a guest's words are for the log: {message}");
        }
    }
    let metrics = lenient.metrics();
    assert_eq!(metrics.sum("pointsman_plugin_failures_total", &["cause=\"trap\""]), 3.0);
    assert_eq!(metrics.sum("pointsman_plugin_failures_total", &["cause=\"error\""]), 6.0);
}

#[test]
fn the_administrator_sees_how_each_version_fares() {
    let fake = FakeUpstream::start();
    let lenient = Plugin::puppet().hooks("\"routing\"").set("deadline = \"500ms\"");
    let strict = Plugin::new("strict", tests::guests::puppet()).like(&lenient).must_not_fail();
    let host = Host::new().upstream(&fake).plugin(lenient).plugin(strict).start();
    for (orders, status) in [(json!("pass"), 200), (json!("panic"), 500)] {
        assert_eq!(host.ask("hi").puppet("route", orders).send().status, status);
    }
    let told = host.api("/api/plugins");
    let [lenient, strict] = [0, 1].map(|place| told["plugins"][place].clone());
    for plugin in [&lenient, &strict] {
        assert_eq!((&plugin["times"]["routing"]["calls"], &plugin["failures"]["trap"]), (&json!(2), &json!(1)), "{plugin}");
        let [p50, p99] = ["p50_us", "p99_us"].map(|which| plugin["times"]["routing"][which].as_u64());
        assert!(p50 > Some(0) && p99 >= p50, "{plugin}");
        let memory = plugin["memory"].as_u64().unwrap();
        assert!(
            memory > 0 && memory.is_multiple_of(64 << 10) && memory <= 16 << 20,
            "whole pages, and no more than it may have: {plugin}"
        );
    }
    // What fails the request has not fallen through.
    assert_eq!((&lenient["fall_throughs"], &strict["fall_throughs"]), (&json!(1), &json!(0)));
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_plugin_fall_throughs_total", &["plugin=\"puppet@"]), 1.0);
    assert_eq!(metrics.sum("pointsman_plugin_memory_bytes", &["plugin=\"strict@"]), strict["memory"].as_f64().unwrap());
}
