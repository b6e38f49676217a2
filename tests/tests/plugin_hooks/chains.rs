//! Several plugins at one hook: who is asked after whom, what the later ones see, and for whom each is asked at all.

use serde_json::json;
use tests::guests::hostile::{self, At};
use tests::{FakeUpstream, Host, Plugin, Running, eventually, guests};

fn router(name: &str, revision: u32) -> Plugin {
    Plugin::new(name, guests::router(revision)).hooks("\"routing\"").set("deadline = \"500ms\"")
}

fn puppet(name: &str, hooks: &str) -> Plugin {
    Plugin::new(name, guests::puppet()).hooks(hooks).set("deadline = \"500ms\"")
}

fn reason(host: &Running, orders: serde_json::Value) -> String {
    let answer = host.ask("hi").puppet("route", orders).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-pointsman-reason").unwrap_or_default().to_owned()
}

#[test]
fn the_first_with_an_opinion_decides_in_the_order_of_the_file() {
    let fake = FakeUpstream::start();
    let host =
        |first, second| Host::new().upstream(&fake).plugin(puppet("z", "\"routing\"")).plugin(first).plugin(second).start();
    for (first, second) in [(1, 2), (2, 1)] {
        // Names that are in no order.
        let host = host(router("y", first), router("x", second));
        assert_eq!(reason(&host, json!("pass")), format!("revision {first:08}"));
        assert_eq!(reason(&host, json!({ "plan": { "targets": ["small"], "reason": "mine" } })), "mine");
        let plugins = host.api("/api/plugins");
        let calls: Vec<_> = (0..3).map(|place| plugins["plugins"][place]["calls"].as_u64()).collect();
        assert_eq!(calls, [Some(2), Some(1), Some(0)], "nobody after an opinion is asked");
    }
}

/// Each passes and leaves one more for the next.
#[test]
fn who_passes_may_leave_labels_for_those_who_follow() {
    let fake = FakeUpstream::start();
    let host = ["one", "two", "three", "four"]
        .into_iter()
        .fold(Host::new().upstream(&fake), |host, name| host.plugin(puppet(name, "\"routing\"")));
    let host = host.start();
    for until in [0, 2, 3] {
        assert_eq!(reason(&host, json!({ "relay": { "name": "seen", "until": until } })), format!("seen {until}"));
    }
    assert_eq!(reason(&host, json!({ "relay": { "name": "seen", "until": 4 } })), "", "all four have passed");
}

#[test]
fn labels_are_recorded_and_those_of_a_call_that_fails_are_not() {
    let fake = FakeUpstream::start();
    let host =
        Host::new().upstream(&fake).plugin(puppet("first", "\"prompting\"")).plugin(puppet("second", "\"routing\"")).spawn();
    let ask = |order: &str, labels: serde_json::Value| {
        let tell = json!({ "tell": { "metadata": "topic" } });
        let answer = host.ask("hi").puppet("select", json!({ order: labels })).puppet("route", tell).send();
        let id = answer.header("x-request-id").unwrap().to_owned();
        let line = eventually("the exchange's line", || {
            host.log().into_iter().find(|line| line.contains(&id) && line.contains("\"ending\""))
        });
        (answer.header("x-pointsman-reason").unwrap().to_owned(), line)
    };
    let (seen, line) = ask("label", json!([["topic", "old"], ["topic", "maths"]]));
    assert!(seen == "Some(\"maths\")" && line.contains("topic"), "{seen} {line}");
    let (seen, line) = ask("label-and-panic", json!([["topic", "maths"]]));
    assert!(seen == "None" && !line.contains("topic"), "{seen} {line}");
    // What is over the limits is dropped.
    let long = "x".repeat(257);
    let mut many: Vec<[String; 2]> = (0..20).map(|index| [format!("n{index}"), String::new()]).collect();
    many.insert(0, ["topic".into(), long]);
    let (seen, line) = ask("label", json!(many));
    assert!(seen == "None" && line.contains("n15") && !line.contains("n16"), "{seen} {line}");
}

#[test]
fn one_that_fails_in_the_middle_is_stepped_over() {
    let fake = FakeUpstream::start();
    let trap = hostile::ALL.into_iter().find(|guest| guest.name == "trap").unwrap().component(At::Route);
    let broken = |line: &str| Plugin::new("broken", trap.clone()).hooks("\"routing\"").set(line);
    let host = |broken| {
        Host::new()
            .upstream(&fake)
            .plugin(puppet("one", "\"routing\""))
            .plugin(broken)
            .plugin(puppet("two", "\"routing\""))
            .start()
    };
    let relay = json!({ "relay": { "name": "seen", "until": 1 } });
    let lenient = host(broken(""));
    assert_eq!(reason(&lenient, relay.clone()), "seen 1");
    assert_eq!(lenient.metrics().sum("pointsman_plugin_failures_total", &["plugin=\"broken@", "cause=\"trap\""]), 1.0);
    let strict = host(broken("on_failure = \"fail\""));
    assert_eq!(strict.ask("hi").puppet("route", relay).send().status, 500);
    let mine = json!({ "plan": { "targets": ["small"], "reason": "mine" } });
    assert_eq!(reason(&strict, mine), "mine", "who comes before it need not care");
}

#[test]
fn each_is_asked_for_its_tenants_and_models_alone() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .cache()
        .key("a", "a")
        .key("b", "b")
        .plugin(
            Plugin::new("keys", guests::puppet())
                .hooks("\"caching\"")
                .set("tenants = [\"b\"]\nmodels = []\ndeadline = \"500ms\""),
        )
        .plugin(router("of-both", 1).set("tenants = [\"a\"]\nmodels = [\"large\"]"))
        .plugin(router("of-a", 2).set("tenants = [\"a\"]"))
        .plugin(router("of-large", 3).set("models = [\"large\", \"auto\"]"))
        .start();
    let ask = |key: &str, model: &str| {
        let answer =
            host.ask("hi").key(key).model(model).puppet("key", json!("bypass")).header("cache-control", "no-cache").send();
        (
            answer.header("x-pointsman-reason").map(|reason| reason.trim_start_matches("revision 0000000").to_owned()),
            answer.cache().to_owned(),
        )
    };
    for (key, model, decides, cache) in [
        ("a", "large", Some("1"), "miss"),
        ("a", "small", Some("2"), "miss"),
        ("b", "large", Some("3"), "bypass"),
        ("b", "small", None, "bypass"),
    ] {
        assert_eq!(ask(key, model), (decides.map(str::to_owned), cache.to_owned()), "{key} {model}");
    }
    let told = host.api("/api/plugins");
    assert_eq!((&told["plugins"][1]["tenants"], &told["plugins"][1]["models"]), (&json!(["a"]), &json!(["large"])));
}

/// One of a chain is replaced; the others are what they were, with all that is known of them.
#[test]
fn one_of_them_is_replaced() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .plugin(puppet("first", "\"routing\""))
        .plugin(router("second", 1))
        .plugin(router("third", 9))
        .start();
    let plugins = || host.api("/api/plugins")["plugins"].clone();
    (0..3).for_each(|_| assert_eq!(reason(&host, json!("pass")), "revision 00000001"));
    let before = plugins();
    host.folder.write("second.wasm", &guests::router(2));
    eventually("the new one", || (reason(&host, json!("pass")) == "revision 00000002").then_some(()));
    let after = plugins();
    assert_ne!(before[1]["digest"], after[1]["digest"]);
    assert!(after[0]["digest"] == before[0]["digest"] && after[0]["calls"].as_u64() > Some(3), "{after}");
    for what in ["digest", "calls", "times", "failures"] {
        assert_eq!(after[2][what], before[2][what], "never asked");
    }
}
