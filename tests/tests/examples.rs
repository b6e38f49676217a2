//! The policies among the worked plugins, built as `pointsman plugin build` builds them, in a real host. The three that `pointsman dev`
//! shows are tested with it (`commands/dev.rs`).
//!
//! **Invariant:** nothing is written into the tree.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tests::{Act, Connection, FakeUpstream, Gate, Host, Plugin, Running, eventually, sse};

/// The component of a folder of `plugins/`, with the settings that it comes with; a failure of it fails the request.
fn plugin(name: &str, grant: &str, config: &str) -> Plugin {
    use pointsman::plugin::build;
    let folder = tempfile::tempdir().unwrap();
    let options = build::Options {
        target_dir: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples-target")),
        component: Some(folder.path().join("built.wasm")),
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name);
    let built = build::build(&source, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(built.warnings, "", "{name}");
    Plugin::new(name, std::fs::read(built.component).unwrap())
        .hooks("\"routing\"")
        .must_not_fail()
        .set("deadline = \"1s\"")
        .set(&format!("grant = [{grant}]\nconfig = {config}"))
}

fn told(host: &Running, question: &str, header: Option<&str>) -> (u16, String, String) {
    let ask = host.ask(question).model("auto").set("max_tokens", json!(50));
    let answer = header.map_or(ask.clone(), |header| ask.header("x-pointsman-prefer", header)).send();
    let header = |name| answer.header(name).unwrap_or_default().to_owned();
    (answer.status, header("x-pointsman-model"), header("x-pointsman-reason"))
}

fn says(status: u16, model: &str, reason: &str) -> (u16, String, String) {
    (status, model.to_owned(), reason.to_owned())
}

#[test]
fn cascade() {
    let fake = FakeUpstream::start();
    let host =
        Host::new().upstream(&fake).plugin(plugin("cascade", r#""config", "upstreams""#, "{ min_logprob = -0.5, tokens = 4 }"));
    let host = host.start();
    for (said, model, escalated) in [("Paris, of course.", "small", None), ("Is it? Paris? Rome? Oslo?", "large", Some("plugin"))]
    {
        fake.when("tiny-1", Act::say(said));
        fake.when("giant-1", Act::say("A long and careful answer."));
        for streamed in [false, true] {
            let ask = host.ask("hi").model("auto");
            let answer = if streamed { ask.streamed().send() } else { ask.send() };
            assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some(model)), "{said} {streamed}");
            assert_eq!(answer.header("x-pointsman-escalated"), escalated, "{said} {streamed}");
            assert!(!streamed || sse::is_done(&answer.body));
        }
    }
    let alone = host.ask("hi").model("small").send();
    assert_eq!((alone.header("x-pointsman-model"), alone.header("x-pointsman-escalated")), (Some("small"), None));
}

#[test]
fn guard() {
    let fake = FakeUpstream::start();
    let config = "{ words = [\"Project Aurora\"], instead = \"large\" }";
    let host = Host::new().upstream(&fake).plugin(plugin("guard", "\"config\"", config)).start();
    let early = "Ask about project AURORA there.".to_owned();
    let late = format!("{}project aurora, they say.", "word ".repeat(40));
    let (harmless, other) = ("Projects have an aurora.", "I cannot say.");
    for (small, large, model, says, reason) in [
        (harmless, other, "small", harmless, "stop"),
        (&early, other, "large", other, "stop"),
        (&early, &early, "large", "", "content_filter"),
    ] {
        fake.when("tiny-1", Act::say(small));
        fake.when("giant-1", Act::say(large));
        for streamed in [false, true] {
            let ask = host.ask("hi").model("auto");
            let answer = if streamed { ask.streamed().send() } else { ask.send() };
            assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some(model)), "{small} {streamed}");
            let said = if streamed { sse::content(&answer.body) } else { answer.content() };
            assert!(
                said == says && answer.text().contains(&format!("\"finish_reason\":{reason:?}")),
                "{small} {streamed}: {}",
                answer.text()
            );
        }
    }
    fake.when("tiny-1", Act::say(late));
    let answer = host.ask("hi").model("auto").streamed().send();
    assert!(answer.text().contains("content_filter") && sse::is_done(&answer.body), "{}", answer.text());
    assert!(!sse::content(&answer.body).contains("aurora") && sse::content(&answer.body).starts_with("word word"));
}

#[test]
fn specialists() {
    let fake = FakeUpstream::start();
    let tasks =
        "[examples.task]\ncode = [\"Write a function in Python that sorts a list.\"]\ncooking = [\"A recipe for tomato soup.\"]";
    let config = r#"{ examples = "task", models = { code = "large" }, min_score = 0.4 }"#;
    let grant = r#""config", "upstreams", "embeddings""#;
    let host = Host::new().upstream(&fake).section(tasks).plugin(plugin("specialists", grant, config)).start();
    assert_eq!(told(&host, "Write a function in Python that reverses a list.", None), says(200, "large", "like code"));
    assert_eq!(told(&host, "Give me a recipe for soup.", None), says(200, "small", ""));
    assert_eq!(told(&host, "Zebras, quarks and violins.", None), says(200, "small", ""));
}

#[test]
fn cheapest_in_time() {
    let (fake, other) = (FakeUpstream::start(), FakeUpstream::start());
    fake.next(Act::answer().delay(Duration::from_secs(3)));
    let elsewhere = format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\n\
         [models.dear]\nprovider = \"other\"\nname = \"dear-1\"\nprice = {{ input = 20.0, output = 80.0 }}\n\
         [models.either]\nchoose = [\"small\", \"dear\"]",
        other.url()
    );
    let config = "{ first_byte_ms = 1000, look_again = 0 }";
    let plugin = plugin("cheapest-in-time", r#""config", "upstreams", "random""#, config);
    let host = Host::new().upstream(&fake).section(&elsewhere).plugin(plugin).start();
    for model in ["small", "dear"] {
        let answer = host.ask("hi").model("either").send();
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some(model)), "{}", answer.text());
        assert_eq!(answer.header("x-pointsman-reason"), Some("cheapest in time"));
    }
}

#[test]
fn cost_ceiling() {
    let fake = FakeUpstream::start();
    let ceiling = |config| plugin("cost-ceiling", r#""config", "upstreams", "clock", "kv""#, config);
    let best = "[models.best]\nchoose = [\"large\", \"small\"]";
    let start = |config| Host::new().upstream(&fake).section(best).key("a", "a").key("b", "b").plugin(ceiling(config)).start();
    let ask = |host: &Running, key: &str, tokens: u32| {
        let answer = host.ask("hi").model("best").key(key).set("max_tokens", json!(tokens)).send();
        (answer.status, answer.header("x-pointsman-model").unwrap_or_default().to_owned())
    };
    let (dear, cheap) = ((200, "large".to_owned()), (200, "small".to_owned()));

    let host = start("{ calls = 3, careful = 0.5 }");
    assert_eq!([1, 2, 3].map(|_| ask(&host, "a", 50)), [dear.clone(), cheap.clone(), cheap.clone()]);
    let refused = host.ask("hi").model("best").key("a").send();
    assert_eq!((refused.status, refused.code().as_str()), (429, "ceiling_reached"), "{}", refused.text());
    assert!(refused.header("retry-after").is_some_and(|seconds| (1..=86_400).contains(&seconds.parse::<u32>().unwrap())));
    assert_eq!((ask(&host, "b", 50), ask(&host, "a", 50).0), (dear.clone(), 429), "each tenant has its own");

    // A thousand millionths of a dollar. 50 tokens of `large` are 400 of them, 5,000 of `small` 500, and the prompt one or two.
    let host = start("{ dollars = 0.001 }");
    assert_eq!([50, 50, 5_000].map(|tokens| ask(&host, "a", tokens)), [dear, cheap.clone(), cheap.clone()]);
    assert_eq!((ask(&host, "a", 5_000).0, ask(&host, "a", 50)), (429, cheap), "what is left is enough for less");
}

#[test]
fn prefer() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().plugin(plugin("prefer", r#""config", "upstreams""#, "{}")).start();
    assert_eq!(told(&host, "hi", None), says(200, "small", ""));
    assert_eq!(told(&host, "hi", Some("cost")), says(200, "small", "cheapest"));
    assert_eq!(told(&host, "hi", Some("quality")), says(200, "large", "best"), "and not the answer that is cached for cost");

    // Another header is the plugin's own, and so is what is said of a wrong value; a label of an earlier plugin counts as well.
    let own = plugin("prefer", r#""config", "upstreams""#, r#"{ header = "x-wish", label = "wish" }"#);
    let puppet = Plugin::puppet().hooks("\"prompting\"").set("deadline = \"500ms\"");
    let host = Host::new().upstream(&fake).prompt("greet", "v1", "Greet.").plugin(puppet).plugin(own).start();
    let ask = || host.ask("hi").model("auto");
    assert_eq!(ask().header("x-wish", "quality").send().header("x-pointsman-model"), Some("large"));
    let wrong = ask().header("x-wish", "all").send();
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "unknown_preference"), "{}", wrong.text());
    let labelled = ask()
        .puppet("select", json!({ "choose": { "prompt": "greet", "version": "v1", "labels": [["wish", "quality"]] } }))
        .send();
    assert_eq!((labelled.status, labelled.header("x-pointsman-model")), (200, Some("large")), "{}", labelled.text());
}

/// A second provider with one model, and a name that stands for that and for `small`, in this order.
fn elsewhere(other: &FakeUpstream, choose: &str) -> String {
    format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\nretries = 0\nbreaker = {{ failures = 1000 }}\n\
         [models.far]\nprovider = \"other\"\nname = \"far-1\"\nprice = {{ input = 20.0, output = 80.0 }}\n\
         [models.either]\nchoose = [{choose}]",
        other.url()
    )
}

#[test]
fn private_data() {
    let (vendor, own) = (FakeUpstream::start(), FakeUpstream::start());
    let config = r#"{ providers = ["other"], words = ["confidential"], private_tenants = ["clinic"] }"#;
    let plugin = plugin("private-data", r#""config", "upstreams""#, config).hooks(r#""caching", "routing""#);
    let host = Host::new().upstream(&vendor).cache().section(&elsewhere(&own, r#""small", "far""#)).plugin(plugin);
    let host = host.key("app", "shop").key("ward", "clinic").start();
    let ask = |key: &str, text: &str| host.ask(text).model("either").key(key);
    for cache in ["miss", "exact"] {
        let answer = ask("app", "hello").send();
        assert_eq!(
            (answer.header("x-pointsman-model"), answer.cache()),
            (Some("small"), cache),
            "what is not private is as ever"
        );
    }
    for (ask, reason) in [
        (ask("app", "secret one").header("x-private", "1"), "private, as the client says"),
        (ask("app", "secret two is CONFIDENTIAL"), "private, by its words"),
        (ask("ward", "secret three"), "private, as all of this tenant"),
    ] {
        for _ in 0..2 {
            let answer = ask.clone().send();
            assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("far")), "{reason}: {}", answer.text());
            assert_eq!((answer.header("x-pointsman-reason"), answer.cache()), (Some(reason), "bypass"));
        }
    }
    // A request for a model that may not see it is refused, and nobody has seen it.
    let refused = host.ask("secret four").key("app").header("x-private", "1").send();
    assert_eq!((refused.status, refused.code().as_str()), (403, "private_data"), "{}", refused.text());
    assert!(vendor.requests().iter().all(|request| !request.text().contains("secret")));
    assert_eq!(own.count(), 6);
}

#[test]
fn model_pin() {
    let (fake, pinned) = (FakeUpstream::start(), FakeUpstream::start());
    let config = r#"{ pin = { either = "far" }, before = { either = "small" }, failing = 0.2, back_for_s = 60 }"#;
    let plugin = plugin("model-pin", r#""config", "upstreams", "kv""#, config);
    let host = Host::new().upstream(&fake).section(&elsewhere(&pinned, r#""small", "far""#)).plugin(plugin).start();
    let ask = || {
        let answer = host.ask("hi").model("either").send();
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        (answer.status, header("x-pointsman-model"), header("x-pointsman-reason"))
    };
    assert_eq!(ask(), says(200, "far", "pinned"));
    pinned.always(Act::refuse(500, "down"));
    assert_eq!(ask(), says(200, "small", "pinned"), "the one before it answers where an attempt fails");
    eventually("it is taken back", || {
        let said = ask();
        assert_eq!((said.0, said.1.as_str()), (200, "small"));
        (said.2 == "the pinned model fails").then_some(())
    });
    // It has recovered, and stays taken back for a while.
    pinned.always(Act::answer());
    let before = pinned.count();
    for _ in 0..5 {
        assert_eq!(ask(), says(200, "small", "the pinned model fails"));
    }
    assert_eq!(pinned.count(), before);
    assert_eq!(host.ask("hi").send().header("x-pointsman-reason"), None, "other names are not pinned");
}

#[test]
fn peak_hours() {
    let (own, other) = (FakeUpstream::start(), FakeUpstream::start());
    // Peak all day long: the hours themselves are a case of the plugin's.
    let config = r#"{ own = ["fake"], from = 0, to = 24, busy = 1 }"#;
    let plugin = plugin("peak-hours", r#""config", "upstreams", "clock""#, config);
    let host = Host::new().upstream(&own).section(&elsewhere(&other, r#""far", "small""#)).plugin(plugin).start();
    let ask = || {
        let answer = host.ask("hi").model("either").send();
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        (answer.status, header("x-pointsman-model"), header("x-pointsman-reason"))
    };
    assert_eq!(ask(), says(200, "small", "our own have room"));
    let gate = Gate::new();
    own.next(Act::answer().hold_at(300, &gate));
    let mut connection = Connection::open(host.address);
    let mut live = host.ask("hi").model("either").streamed().live(&mut connection);
    assert_eq!(live.head.header("x-pointsman-model"), Some("small"));
    assert_eq!(ask(), says(200, "far", "peak, and our own are busy"));
    gate.open();
    while live.portion().is_some() {}
    eventually("our own have room again", || (ask() == says(200, "small", "our own have room")).then_some(()));
}
