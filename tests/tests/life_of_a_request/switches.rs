//! A model that is switched off: its substitute answers, or it is as if it were not there.

use serde_json::{Value, json};
use tests::{FakeUpstream, Host, Plugin, Running, eventually};

const MODELS: &str = "[models.old]\nprovider = \"fake\"\nname = \"old-1\"\nenabled = false\nsubstitute = \"newer\"\n\
     [models.newer]\nprovider = \"fake\"\nname = \"newer-1\"\nsubstitute = \"small\"\n\
     [models.gone]\nprovider = \"fake\"\nname = \"gone-1\"\nenabled = false\n\
     [models.some]\nchoose = [\"old\", \"large\"]\n\
     [models.backed]\nprovider = \"fake\"\nname = \"tiny-1\"\nfallback = [\"gone\", \"large\"]";

fn host(fake: &FakeUpstream) -> Running {
    Host::new().upstream(fake).cache().section(MODELS).start()
}

fn switch(host: &Running, model: &str, enabled: Value) {
    let answer = host.tell(&format!("/api/models/{model}"), &json!({ "enabled": enabled }));
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Who answers a request for this model, and in whose place. Not from the cache.
fn who(host: &Running, model: &str) -> (Option<String>, Option<String>) {
    let answer = host.ask("who?").model(model).header("cache-control", "no-store").send();
    let header = |name| answer.header(name).map(str::to_owned);
    (header("x-pointsman-model"), header("x-pointsman-substitute"))
}

fn by(model: &str) -> (Option<String>, Option<String>) {
    (Some(model.to_owned()), None)
}

fn instead(model: &str, of: &str) -> (Option<String>, Option<String>) {
    (Some(model.to_owned()), Some(of.to_owned()))
}

fn listed(host: &Running) -> Vec<String> {
    let list = host.get("/v1/models", &[]).json();
    list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_substitute_answers_as_if_it_had_been_asked() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let answer = host.ask("hi").model("old").send();
    assert_eq!((answer.status, answer.cache(), answer.header("x-pointsman-model")), (200, "miss", Some("newer")));
    assert_eq!((answer.header("x-pointsman-substitute"), fake.last().json()["model"].as_str()), (Some("old"), Some("newer-1")));
    // One entry for both names: the answer is the substitute's.
    let same = host.ask("hi").model("newer").send();
    assert_eq!((same.cache(), same.header("x-pointsman-substitute")), ("exact", None));
    let again = host.ask("hi").model("old").streamed().send();
    assert_eq!((again.cache(), again.header("x-pointsman-substitute")), ("exact", Some("old")));
    // And not the old one's when it is on again.
    switch(&host, "old", json!(true));
    let own = host.ask("hi").model("old").send();
    assert_eq!((own.cache(), own.header("x-pointsman-model"), own.header("x-pointsman-substitute")), ("miss", Some("old"), None));
}

#[test]
fn without_a_substitute_it_is_not_there_and_the_client_is_told_why() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let answer = host.ask("hi").model("gone").send();
    assert_eq!((answer.status, answer.code().as_str()), (404, "model_not_found"));
    assert!(answer.text().contains("`gone` is switched off"), "{}", answer.text());
    assert_eq!(answer.json()["error"]["param"], "model");
    assert!(listed(&host).contains(&"old".to_owned()) && !listed(&host).contains(&"gone".to_owned()), "{:?}", listed(&host));
    assert_eq!((host.get("/v1/models/gone", &[]).status, host.get("/v1/models/old", &[]).status), (404, 200));
    // Neither is it chosen, nor fallen back to.
    assert_eq!(who(&host, "some"), by("large"));
    fake.when("tiny-1", tests::Act::refuse(503, "down"));
    assert_eq!(who(&host, "backed"), by("large"));
    assert_eq!(fake.count(), fake.requests().iter().filter(|seen| !seen.text().contains("gone-1")).count());
    // An embedding model has no substitute: it is there, or it is not.
    switch(&host, "vectors", json!(false));
    let body = json!({ "model": "vectors", "input": "x" }).to_string();
    let answer = host.post("/v1/embeddings", body.as_bytes(), &[]);
    assert_eq!((answer.status, answer.text().contains("is switched off")), (404, true), "{}", answer.text());
}

#[test]
fn the_administrator_switches_and_a_reload_does_not_switch_back() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    assert_eq!((who(&host, "newer"), who(&host, "old")), (by("newer"), instead("newer", "old")));
    switch(&host, "newer", json!(false));
    assert_eq!(
        (who(&host, "newer"), who(&host, "old")),
        (instead("small", "newer"), instead("small", "old")),
        "one leads to the next"
    );
    let models = host.api("/api/models")["models"].clone();
    assert_eq!((&models["newer"]["enabled"], &models["newer"]["substitute"]), (&json!(false), &json!("small")));
    // The choices of a virtual model go one by one; then it is off itself.
    assert_eq!(who(&host, "auto"), by("small"));
    switch(&host, "small", json!(false));
    assert_eq!(who(&host, "auto"), by("large"));
    switch(&host, "large", json!(false));
    assert_eq!(host.ask("hi").model("auto").send().code(), "model_not_found");
    for model in ["small", "large"] {
        switch(&host, model, Value::Null);
    }
    let before = host.api("/api/reload")["done"].as_u64();
    host.order("/api/reload");
    eventually("it is reloaded", || (host.api("/api/reload")["done"].as_u64() > before).then_some(()));
    assert_eq!((who(&host, "newer"), who(&host, "auto")), (instead("small", "newer"), by("small")));
    switch(&host, "newer", Value::Null);
    assert_eq!(who(&host, "newer"), by("newer"));
    // The file says otherwise from now on, about one that nobody has switched.
    let text = std::fs::read_to_string(host.folder.config()).unwrap();
    host.folder.write(tests::host::Folder::CONFIG, text.replace("enabled = false", "enabled = true").as_bytes());
    eventually("the file counts", || (who(&host, "gone") == by("gone")).then_some(()));

    assert_eq!(host.tell("/api/models/none", &json!({ "enabled": false })).status, 404);
    for wrong in [json!({}), json!({ "enabled": "no" }), json!({ "enabled": true, "more": 1 })] {
        assert_eq!(host.tell("/api/models/old", &wrong).status, 400, "{wrong}");
    }
}

/// A plugin that does not know of it names a model that is off.
#[test]
fn a_plan_that_names_it_is_carried_out_as_far_as_it_can_be() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).section(MODELS).plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    for (targets, expect) in [(json!(["old"]), "newer"), (json!(["gone"]), "small")] {
        let plan = json!({ "plan": { "targets": targets } });
        let answer = host.ask("hi").model("auto").puppet("route", plan).send();
        assert_eq!(answer.header("x-pointsman-model"), Some(expect), "{}", answer.text());
    }
}

/// Whose key may not ask for the substitute is not answered by it, and does not learn its name.
#[test]
fn a_key_keeps_its_models() {
    let fake = FakeUpstream::start();
    let narrow = "models = [\"old\", \"some\"]";
    let host = Host::new().upstream(&fake).section(MODELS).limited_key("narrow", "one", narrow).key("wide", "two").start();
    let answer = host.ask("hi").model("old").key("narrow").send();
    assert_eq!((answer.status, answer.text().contains("is switched off")), (404, true), "{}", answer.text());
    assert!(!answer.text().contains("newer"), "{}", answer.text());
    assert_eq!(host.ask("hi").model("some").key("narrow").send().header("x-pointsman-model"), Some("large"));
    assert_eq!(host.ask("hi").model("old").key("wide").send().header("x-pointsman-model"), Some("newer"));
    assert_eq!(fake.count(), 2);
}
