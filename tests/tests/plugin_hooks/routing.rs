//! `routing`: plan, fallback, refusal, and plans that the contract does not allow.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Act, Answer, FakeUpstream, Host, Plugin, Running};

fn host(fake: &FakeUpstream) -> Running {
    Host::new().upstream(fake).plugin(Plugin::puppet().set("deadline = \"500ms\"")).start()
}

fn route(host: &Running, orders: Value) -> Answer {
    host.ask("hi").model("auto").puppet("route", orders).send()
}

#[test]
fn a_plan_chooses_the_model_and_says_why() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let orders = json!({ "plan": { "targets": ["large"], "reason": "it looks hard", "headers": [["x-effort", "high"]], "labels": [["topic", "maths"]] } });
    let answer = route(&host, orders);
    assert_eq!(
        (answer.status, answer.header("x-pointsman-model"), answer.header("x-pointsman-reason")),
        (200, Some("large"), Some("it looks hard"))
    );
    let label = answer.header("x-pointsman-plugin").expect("who decided").to_owned();
    assert_eq!((&label[..7], label.len()), ("puppet@", 19));
    assert_eq!(host.api("/api/plugins")["plugins"][0]["label"], label.as_str());
    assert_eq!((fake.last().json()["model"].as_str(), fake.last().header("x-effort")), (Some("giant-1"), Some("high")));
}

#[test]
fn without_an_opinion_the_host_chooses() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    for ask in [host.ask("hi").model("auto"), host.ask("hi").model("auto").puppet("route", json!("pass"))] {
        let answer = ask.send();
        assert_eq!(
            (answer.header("x-pointsman-model"), answer.header("x-pointsman-plugin"), answer.header("x-pointsman-reason")),
            (Some("small"), None, None)
        );
    }
}

#[test]
fn the_second_target_answers_when_the_first_fails() {
    let (bad, good) = (FakeUpstream::start(), FakeUpstream::start());
    let elsewhere = format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\n[models.spare]\nprovider = \"other\"\nname = \"spare-1\"\n[models.any]\nchoose = [\"small\", \"spare\"]",
        good.url()
    );
    let host = Host::new().upstream(&bad).section(&elsewhere).plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    for act in [Act::refuse(500, "broken"), Act::answer().cut_at(0), Act::raw("")] {
        bad.always(act);
        let answer = host.ask("hi").model("any").puppet("route", json!({ "plan": { "targets": ["small", "spare"] } })).send();
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("spare")), "{}", answer.text());
        assert_eq!(good.last().json()["model"], "spare-1");
    }
    bad.always(Act::silent());
    let began = std::time::Instant::now();
    let orders = json!({ "plan": { "targets": ["small", "spare"], "first_byte_timeout_ms": 200 } });
    let answer = host.ask("hi").model("any").puppet("route", orders).send();
    assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("spare")));
    assert!(began.elapsed() < Duration::from_secs(20), "the plan's own bound holds, not the provider's minute");
}

#[test]
fn a_refusal_is_the_plugins_to_word() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let answer = route(
        &host,
        json!({ "reject": { "status": 429, "code": "too_long", "message": "Send less than \"that\".", "retry_after_ms": 1500 } }),
    );
    assert_eq!((answer.status, answer.code().as_str(), answer.header("retry-after")), (429, "too_long", Some("2")));
    assert_eq!(answer.json()["error"]["message"], "Send less than \"that\".");
    assert_eq!(fake.count(), 0);
}

/// What leaves a plugin and breaks the contract is its failure: the request goes on without it.
#[test]
fn what_the_contract_does_not_allow_falls_through() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let plan = |targets: Value, headers: Value| json!({ "plan": { "targets": targets, "headers": headers } });
    let bad = [
        plan(json!([]), json!([])),
        plan(json!(vec!["small"; 9]), json!([])),
        plan(json!(["none"]), json!([])),
        plan(json!(["tiny-1"]), json!([])),
        plan(json!(["auto"]), json!([])),
        plan(json!(["vectors"]), json!([])),
        plan(json!(["large"]), json!([["x-a", "b\r\nx-injected: 1"]])),
        plan(json!(["large"]), json!([["x-a\r\nx-injected", "b"]])),
        plan(json!(["large"]), json!([["", "b"]])),
        plan(json!(["large"]), json!([["authorization", "Bearer stolen"]])),
        plan(json!(["large"]), json!([["Host", "evil"]])),
        plan(json!(["large"]), json!([["content-length", "0"]])),
        plan(json!(["large"]), json!(vec![["x-a", "b"]; 17])),
        json!({ "reject": { "status": 200, "code": "x", "message": "y" } }),
        json!({ "reject": { "status": 302, "code": "x", "message": "y" } }),
        json!({ "reject": { "status": 500, "code": "x", "message": "y" } }),
    ];
    for orders in &bad {
        let answer = route(&host, orders.clone());
        assert_eq!(
            (answer.status, answer.header("x-pointsman-model"), answer.header("x-pointsman-plugin")),
            (200, Some("small"), None),
            "{orders}: {}",
            answer.text()
        );
        let up = fake.last();
        assert_eq!((up.header("x-injected"), up.header("authorization")), (None, None), "{orders}");
    }
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &["cause=\"output\""]), bad.len() as f64);
}

/// What a plugin says of its reason goes into a header, so it must fit into one.
#[test]
fn a_reason_is_made_safe() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let orders = json!({ "plan": { "targets": ["small"], "reason": format!("a\r\nx-injected: 1 \u{e9}{}", "z".repeat(5000)) } });
    let answer = route(&host, orders);
    let reason = answer.header("x-pointsman-reason").unwrap();
    assert!(reason.starts_with("a??x-injected: 1 ") && reason.len() <= 256, "{reason}");
    assert_eq!(answer.header("x-injected"), None);
}

/// A key's models bound what a plugin may choose for it, except within the choice that the key may ask for.
#[test]
fn a_plugin_does_not_widen_a_key() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .limited_key("thrifty", "t", "models = [\"small\"]\n")
        .limited_key("auto", "t", "models = [\"auto\"]\n")
        .plugin(Plugin::puppet().set("deadline = \"500ms\""))
        .start();
    let large = json!({ "plan": { "targets": ["large"] } });
    let bound = host.ask("hi").key("thrifty").puppet("route", large.clone()).send();
    assert_eq!(bound.header("x-pointsman-model"), Some("small"), "{}", bound.text());
    let chosen = host.ask("hi").key("auto").model("auto").puppet("route", large).send();
    assert_eq!(chosen.header("x-pointsman-model"), Some("large"));
}

#[test]
fn the_first_opinion_counts() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::router(7)).plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    let answer = route(&host, json!({ "plan": { "targets": ["large"], "reason": "second" } }));
    // The router asks for `auto` itself, which is no concrete model; so it fails, and the puppet is asked.
    assert_eq!(answer.header("x-pointsman-reason"), Some("second"));
    let answer = host.ask("hi").puppet("route", json!({ "plan": { "targets": ["small"], "reason": "second" } })).send();
    assert_eq!(answer.header("x-pointsman-reason"), Some("revision 00000007"));
}
