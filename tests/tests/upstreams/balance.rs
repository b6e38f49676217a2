//! Which of several endpoints gets a request: where its session is, where its prompt is cached, and not where a queue is long.

use serde_json::json;
use tests::fleet::gpu::Spec;
use tests::fleet::live::Live;
use tests::{FakeUpstream, Host, Running, eventually};

/// Quick enough for a test, and small enough to be full.
const SMALL: Spec =
    Spec { prefill: 100_000.0, step: 0.002, sequence: 0.0, attended: 0.0, batch: 8, budget: 2_048, blocks: 1_000 };

fn fakes(count: usize) -> Vec<FakeUpstream> {
    (0..count).map(|_| FakeUpstream::start()).collect()
}

fn counts(fakes: &[FakeUpstream]) -> Vec<usize> {
    fakes.iter().map(FakeUpstream::count).collect()
}

/// Who got the request?
fn who(fakes: &[FakeUpstream], send: impl FnOnce()) -> usize {
    let before = counts(fakes);
    send();
    counts(fakes).iter().zip(before).position(|(now, before)| *now > before).expect("somebody got it")
}

#[test]
fn a_session_stays_where_it_is() {
    let fakes = fakes(4);
    let host = fakes.iter().fold(Host::new(), Host::upstream);
    let host = host.provider("affinity = \"session\"\nsession_header = \"x-talk\"").start();
    let by_header = |name: &str| who(&fakes, || drop(host.ask("hi").header("x-talk", name).send()));
    let by_field = |field: &str, name: &str| who(&fakes, || drop(host.ask("hi").set(field, json!(name)).send()));
    let homes: Vec<usize> = (0..12).map(|talk| by_header(&format!("talk {talk}"))).collect();
    for (talk, home) in homes.iter().enumerate() {
        assert_eq!(by_header(&format!("talk {talk}")), *home);
    }
    assert!((1..4).any(|place| homes.contains(&place)) && homes.iter().any(|home| *home != homes[0]), "{homes:?}");
    for field in ["prompt_cache_key", "user"] {
        let home = by_field(field, "eve");
        assert!((0..6).all(|_| by_field(field, "eve") == home), "{field}");
    }
}

#[test]
fn what_begins_alike_goes_to_the_same_endpoint() {
    let fakes = fakes(4);
    let host = fakes.iter().fold(Host::new(), Host::upstream).provider("affinity = \"prefix\"").start();
    let ask = |system: &str, question: &str| {
        let system = system.repeat(3_000);
        let messages = json!([{ "role": "system", "content": system }, { "role": "user", "content": question }]);
        who(&fakes, || drop(host.ask("").set("messages", messages).send()))
    };
    let homes: Vec<usize> = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|system| ask(system, "first?")).to_vec();
    for (system, home) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().zip(&homes) {
        assert!((0..3).all(|index| ask(system, &format!("question {index}?")) == *home), "{system}");
    }
    assert!(homes.iter().any(|home| *home != homes[0]), "{homes:?}");
}

fn two(provider: &str) -> (Live, Live, Running) {
    let (one, other) = (Live::start(SMALL), Live::start(SMALL));
    let host = Host::new().endpoint(one.url()).endpoint(other.url()).provider(provider).start();
    (one, other, host)
}

/// A queue that others have filled is seen before it has cost us an answer.
#[test]
fn a_long_queue_is_left_though_its_answers_were_quick() {
    let (one, other, host) = two("metrics = \"/metrics\"\nmetrics_interval = \"100ms\"");
    let ask = || assert_eq!(host.ask("hi").set("max_tokens", json!(2)).streamed().send().status, 200);
    (0..20).for_each(|_| ask());
    // The one that has served us best.
    let (place, busy, free) = if one.count() > other.count() { (0, &one, &other) } else { (1, &other, &one) };
    busy.crowd(60, 1_000, 400);
    eventually("its queue is known", || (host.metrics().sum("pointsman_endpoint_waiting", &[]) > 20.0).then_some(()));
    let (before, beside) = (busy.count(), free.count());
    (0..20).for_each(|_| ask());
    assert!(busy.waiting() > 20, "it is long still");
    assert_eq!((busy.count() - before, free.count() - beside), (0, 20));
    let each = host.api("/api/models")["providers"]["fake"]["each"].clone();
    let queue = &each[place]["queue"];
    assert!(queue["waiting"].as_u64().unwrap() > 20 && queue["kv_usage"].as_f64().unwrap() > 0.1, "{each}");
    let other = &each[1 - place];
    assert!(other["queue"]["waiting"].as_u64().unwrap() < 5 && other["breaker"] == "closed", "{each}");
}

/// A model goes where it is loaded, and an adapter's slots are known.
#[test]
fn who_has_not_the_model_is_not_asked_for_it() {
    let (one, other, host) = two("metrics = \"/metrics\"\nmetrics_interval = \"100ms\"");
    let each = || host.api("/api/models")["providers"]["fake"]["each"].clone();
    let ask = |model: &str| {
        let before = (one.count(), other.count());
        let all = || (0..20).for_each(|_| assert_eq!(host.ask("hi").model(model).set("max_tokens", json!(1)).send().status, 200));
        all();
        (one.count() - before.0, other.count() - before.1)
    };
    assert!(each()[0]["models"].is_null(), "{}", each());
    [&one, &other].iter().for_each(|server| server.list("tiny-1", None));
    other.list("giant-1", Some("tiny-1"));
    other.run(4, "giant-1");
    let listed = json!(["giant-1", "tiny-1"]);
    eventually("it is known", || (each()[1]["models"] == listed && each()[0]["models"].is_array()).then_some(()));
    eventually("so is what runs", || (each()[1]["adapters"] == json!({ "slots": 4, "running": ["giant-1"] })).then_some(()));
    eventually("and that is kept to", || (ask("large") == (0, 20)).then_some(()));
    assert_eq!(ask("large"), (0, 20));
    eventually("what both have goes to both", || (ask("small").0 > 0).then_some(()));
    one.list("giant-1", Some("tiny-1"));
    other.run(1, "another");
    eventually("it is loaded there too, and the other has no slot for it", || (ask("large").0 > 0).then_some(()));
}

#[test]
fn metrics_that_cannot_be_read_change_nothing() {
    let (one, other, host) = two("metrics = \"/nothing-here\"\nmetrics_interval = \"100ms\"");
    eventually("it was tried", || (host.metrics().sum("pointsman_endpoint_metrics_failures_total", &[]) > 2.0).then_some(()));
    assert!(!host.metrics().has("pointsman_endpoint_waiting"));
    (0..20).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    assert_eq!(one.count() + other.count(), 20);
}

/// Metrics are asked for, or not, as the configuration in force has it.
#[test]
fn asking_begins_and_ends_with_a_reload() {
    let (_one, _other, host) = two("");
    let without = "kind = \"openai\"\n";
    let with = "kind = \"openai\"\nmetrics = \"/metrics\"\nmetrics_interval = \"100ms\"\n";
    assert!(!host.metrics().has("pointsman_endpoint_metrics_failures_total"));
    host.folder.change(without, with);
    eventually("it is known", || host.metrics().has("pointsman_endpoint_waiting").then_some(()));
    host.folder.change(with, without);
    eventually("it is known no more", || (!host.metrics().has("pointsman_endpoint_waiting")).then_some(()));
}

#[test]
fn conversations_find_their_prefixes_on_live_servers() {
    let servers: Vec<Live> = (0..3).map(|_| Live::start(SMALL)).collect();
    let host = servers.iter().fold(Host::new(), |host, server| host.endpoint(server.url()));
    let host = host.provider("affinity = \"prefix\"").start();
    let talk = |talk: usize| {
        let mut messages = vec![json!({ "role": "system", "content": format!("{talk} ").repeat(1_000) })];
        for turn in 0..4 {
            messages.push(json!({ "role": "user", "content": format!("turn {turn} ").repeat(30) }));
            let answer = host.ask("").set("messages", json!(messages)).set("max_tokens", json!(4)).streamed().send();
            assert_eq!(answer.status, 200);
            messages.push(json!({ "role": "assistant", "content": "word ".repeat(60) }));
        }
    };
    std::thread::scope(|scope| {
        (0..6).for_each(|index| {
            drop(scope.spawn({
                let talk = &talk;
                move || talk(index)
            }))
        })
    });
    let hits: Vec<f64> = servers.iter().filter(|server| server.count() > 0).map(Live::hits).collect();
    // Of four turns the first is read in full; with three servers by chance two thirds of the others would be as well.
    assert!(hits.len() > 1 && hits.iter().all(|share| *share > 0.55), "{hits:?}");
}
