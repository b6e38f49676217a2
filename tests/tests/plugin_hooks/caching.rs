//! `caching`: each directive, the veto of a near hit, and the admission of an answer.

use serde_json::{Value, json};
use tests::{Answer, FakeUpstream, Host, Plugin, Running};

fn host(fake: &FakeUpstream) -> Running {
    let host = Host::new().upstream(fake).semantic().key("one", "ours").key("two", "ours");
    host.plugin(Plugin::puppet().set("deadline = \"500ms\"")).start()
}

fn ask(host: &Running, text: &str, directive: Value) -> Answer {
    let answer = host.ask(text).key("one").puppet("key", directive).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer
}

#[test]
fn directives() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let key = json!({});
    assert_eq!(ask(&host, "a", json!("bypass")).cache(), "bypass");
    assert_eq!(ask(&host, "a", json!({ "read-only": key })).cache(), "miss", "a bypass stores nothing");
    assert_eq!(ask(&host, "a", json!({ "key": key })).cache(), "miss", "neither does reading");
    assert_eq!(ask(&host, "a", json!({ "read-only": key })).cache(), "exact");
    let refreshed = ask(&host, "a", json!({ "refresh": key }));
    assert_eq!(refreshed.cache(), "miss");
    let now = ask(&host, "a", json!({ "key": key }));
    assert_eq!((now.cache(), now.content()), ("exact", refreshed.content()), "a refresh replaces");
    assert!(now.header("x-pointsman-plugin").unwrap().starts_with("puppet@"));
    assert_eq!(
        ask(&host, "a", json!("pass")).cache(),
        "exact",
        "the host's own key is the same where the plugin's says nothing more"
    );
}

#[test]
fn parts_of_a_key() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let normalised = json!({ "key": { "exact": ["greeting"] } });
    assert_eq!(ask(&host, "Hi there!", normalised.clone()).cache(), "miss");
    assert_eq!(ask(&host, "hi   THERE", normalised.clone()).cache(), "exact", "the parts stand for the text");
    assert_eq!(ask(&host, "Hi there!", json!({ "key": { "exact": ["greeting", ""] } })).cache(), "miss");
    assert_eq!(ask(&host, "Hi there!", json!({ "key": { "exact": ["greeting"], "generation": "2" } })).cache(), "miss");
    assert_eq!(ask(&host, "Hi there!", json!({ "key": { "exact": ["greeting"], "scope": { "custom": "u1" } } })).cache(), "miss");
    let own = json!({ "key": { "exact": ["greeting"], "scope": "principal" } });
    assert_eq!(ask(&host, "Hi there!", own.clone()).cache(), "miss");
    assert_eq!(ask(&host, "Hi there!", own.clone()).cache(), "exact");
    assert_eq!(host.ask("Hi there!").key("two").puppet("key", own).send().cache(), "miss", "another key of the tenant");
    assert_eq!(host.ask("Hi there!").key("two").puppet("key", normalised).send().cache(), "exact");
}

#[test]
fn a_time_to_live_of_ones_own() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let brief = json!({ "key": { "ttl_ms": 400 } });
    assert_eq!(ask(&host, "a", brief.clone()).cache(), "miss");
    assert_eq!(ask(&host, "a", brief.clone()).cache(), "exact");
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert_eq!(ask(&host, "a", brief).cache(), "miss");
}

#[test]
fn near_hits_need_a_semantic_part_and_the_plugins_yes() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let (question, reworded) = ("How do I reset my password?", "how do i reset my password");
    let with = |semantic: Value| json!({ "key": { "semantic": semantic } });
    ask(&host, question, with(json!({})));
    assert_eq!(ask(&host, reworded, json!({ "read-only": {} })).cache(), "miss", "no semantic part, no near hit");
    let read = |semantic: Value| json!({ "read-only": { "semantic": semantic } });
    assert_eq!(ask(&host, reworded, read(json!({}))).cache(), "semantic");
    assert_eq!(ask(&host, reworded, read(json!({ "partition": ["de"] }))).cache(), "miss");
    assert_eq!(ask(&host, reworded, read(json!({ "min_similarity": 1.5 }))).cache(), "miss", "stricter than the host");
    assert_eq!(ask(&host, "How do I delete my account?", read(json!({ "min_similarity": -1.0 }))).cache(), "miss", "never laxer");
    let confirm = |verdict: Value| {
        let ask = host.ask(reworded).key("one").puppet("key", read(json!({ "confirm": true })));
        ask.puppet("confirm", verdict).send()
    };
    assert_eq!(confirm(json!("serve")).cache(), "semantic");
    assert_eq!(confirm(json!("veto")).cache(), "miss");
    assert_eq!(confirm(json!("serve")).cache(), "semantic", "a veto is of this request alone");
    assert_eq!(confirm(json!("panic")).cache(), "miss", "a veto that fails is a veto");
    assert_eq!(confirm(json!({ "fail": "x" })).cache(), "miss");
    assert_eq!(confirm(json!("evict")).cache(), "miss");
    assert_eq!(host.metrics().sum("pointsman_plugin_vetoes_total", &["plugin=\"puppet@"]), 4.0);
    assert_eq!(confirm(json!("serve")).cache(), "miss", "it is gone");
}

#[test]
fn admission() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let admitted = |text: &str, admit: Value, streamed: bool| {
        let ask = host.ask(text).key("one").puppet("key", json!({ "key": { "admit": true } })).puppet("admit", admit);
        let ask = if streamed { ask.streamed() } else { ask };
        assert_eq!(ask.send().cache(), "miss", "{text}");
        ask.send().cache() == "exact"
    };
    for (index, streamed) in [false, true].into_iter().enumerate() {
        let text = |name: &str| format!("{name} {index}");
        assert!(admitted(&text("yes"), json!({ "for": 60_000 }), streamed));
        assert!(!admitted(&text("no"), json!("no"), streamed));
        assert!(!admitted(&text("no time"), json!({ "for": 0 }), streamed));
        assert!(!admitted(&text("panic"), json!("panic"), streamed), "an admission that fails is none");
        assert!(admitted(&text("seen"), json!({ "if-text-has": "to: seen" }), streamed), "the guest sees the answer");
        assert!(admitted(&text("fresh"), json!("if-first-call"), streamed), "no instance waits for the model");
        assert!(!admitted(&text("not seen"), json!({ "if-text-has": "nothing of the kind" }), streamed));
    }
}

/// It might have said that nobody may share.
#[test]
fn a_key_that_fails_is_a_bypass() {
    let fake = FakeUpstream::start();
    let plugin = Plugin::puppet().hooks("\"caching\"").set("deadline = \"500ms\"");
    let host = Host::new().upstream(&fake).cache().key("one", "t").key("two", "u").plugin(plugin).start();
    for misdeed in [json!("panic"), json!({ "fail": "x" })] {
        let ask = || host.ask("mine").key("one").puppet("key", misdeed.clone()).send();
        assert_eq!((ask().cache(), ask().cache()), ("bypass", "bypass"));
    }
    assert_eq!(host.ask("mine").key("one").send().cache(), "miss", "nothing was kept for everybody");
    // Long enough to be left alone, whoever's fault that is.
    for _ in 0..20 {
        host.ask("mine").key("one").puppet("key", json!("panic")).send();
    }
    assert_eq!(host.metrics().sum("pointsman_plugin_quarantined", &[]), 1.0);
    assert_eq!(host.ask("alone").key("one").send().cache(), "bypass");
    assert_eq!(host.ask("other").key("two").send().cache(), "miss", "whose requests it fails on has it left alone for itself");
}
