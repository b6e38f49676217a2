//! Whatever a caching plugin says, a tenant's entry is never served to another.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tests::{FakeUpstream, Host, Plugin, Running};

fn host(fake: &FakeUpstream) -> Running {
    let host = Host::new().upstream(fake).semantic().key("one", "ours").key("two", "ours").key("foreign", "theirs");
    host.plugin(Plugin::puppet().hooks("\"caching\"").set("deadline = \"500ms\"")).start()
}

#[test]
fn tenants_share_nothing_and_keys_of_one_tenant_do() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    assert_eq!(host.ask("hi").key("one").send().cache(), "miss");
    assert_eq!(host.ask("hi").key("two").send().cache(), "exact");
    let foreign = host.ask("hi").key("foreign").send();
    assert_eq!((foreign.cache(), foreign.content().as_str()), ("miss", "Answer 2 of tiny-1 to: hi"));
    host.ask("How do I reset my password?").key("one").send();
    assert_eq!(host.ask("how do i reset my password").key("two").send().cache(), "semantic");
    assert_eq!(host.ask("how do i reset my password").key("foreign").send().cache(), "miss");
}

/// A key that a plugin may make up: small alphabets, so that two of them meet often.
fn key() -> impl Strategy<Value = Value> {
    let word = || prop::sample::select(vec!["", "a", "ours", "theirs", "tenant", "default", "\u{0}", "é"]);
    let scope = prop_oneof![Just(json!("tenant")), Just(json!("principal")), word().prop_map(|word| json!({ "custom": word }))];
    let exact = prop::option::of(prop::collection::vec(word(), 0..3));
    let semantic = prop::option::of(
        (prop::option::of(word()), prop::collection::vec(word(), 0..2))
            .prop_map(|(text, partition)| json!({ "text": text, "partition": partition, "min_similarity": -1.0 })),
    );
    (scope, exact, semantic, prop::option::of(word())).prop_map(|(scope, exact, semantic, generation)| json!({ "scope": scope, "exact": exact, "semantic": semantic, "generation": generation }))
}

fn directive() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(json!("pass")),
        8 => key().prop_map(|key| json!({ "key": key })),
        2 => key().prop_map(|key| json!({ "read-only": key })),
        1 => key().prop_map(|key| json!({ "refresh": key })),
    ]
}

/// Two tenants ask with whatever directives; the upstream's answers carry the key of who caused them, so a foreign one shows.
#[test]
fn no_directive_makes_tenants_share() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let question = prop::sample::select(vec!["hi", "How do I reset my password?", "how do i reset my password"]);
    let asked = (prop::sample::select(vec!["one", "two", "foreign"]), question, directive());
    let mut runner = TestRunner::new(Config { cases: 250, failure_persistence: None, ..Config::default() });
    let hits = std::cell::Cell::new(0);
    let owners = std::cell::RefCell::new(std::collections::HashMap::<String, &str>::new());
    let done = runner.run(&prop::collection::vec(asked, 1..6), |asked| {
        for (who, question, directive) in asked {
            let answer = host.ask(question).key(who).puppet("key", directive.clone()).send();
            prop_assert_eq!(answer.status, 200);
            let tenant = if who == "foreign" { "theirs" } else { "ours" };
            // An answer's content has a number, so it names the exchange that made it.
            let owner = *owners.borrow_mut().entry(answer.content()).or_insert(tenant);
            prop_assert_eq!(owner, tenant, "{} was served to {}: {}", answer.content(), who, directive);
            hits.set(hits.get() + usize::from(matches!(answer.cache(), "exact" | "semantic")));
        }
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{error}"));
    assert!(hits.get() > 50, "only {} hits: nothing was tried", hits.get());
}

/// A constant key is a plugin's mistake: its own tenant gets one answer for questions that the plugin calls the same, with all
/// else of the request still in the key.
#[test]
fn a_constant_key_stays_in_its_tenant_and_its_model() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let constant = json!({ "key": { "exact": [""], "semantic": { "text": "same", "min_similarity": -1.0 } } });
    let ask = |who: &str, text: &str, model: &str| host.ask(text).key(who).model(model).puppet("key", constant.clone()).send();
    assert_eq!(ask("one", "first question", "small").cache(), "miss");
    assert_eq!(ask("two", "second question", "small").cache(), "exact");
    assert_eq!(ask("one", "third question", "large").cache(), "miss");
    assert_eq!(ask("foreign", "first question", "small").cache(), "miss");
}
