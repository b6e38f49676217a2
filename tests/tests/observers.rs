//! `on-chunk`: plugins that see an answer before the client does, end it, or have another model answer; the stream is otherwise what it
//! was without them, event by event.

use std::time::Duration;

use serde_json::{Value, json};
use tests::door::Ask;
use tests::guests::hostile;
use tests::{Act, Answer, Connection, FakeUpstream, Fault, Gate, Host, Place, Plugin, Running, sse};

const WORDS: &str = "one two three four five six seven eight nine ten";

fn host(fake: &FakeUpstream) -> Running {
    with(fake, puppet())
}

fn puppet() -> Plugin {
    Plugin::puppet().hooks("\"routing\"").set("deadline = \"500ms\"")
}

fn with(fake: &FakeUpstream, plugin: Plugin) -> Running {
    Host::new().upstream(fake).admin("explain = \"2MiB\"").plugin(plugin).cache().start()
}

fn fake() -> FakeUpstream {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::say(WORDS));
    fake.when("giant-1", Act::say("A long and careful answer."));
    fake
}

/// A plan for the small model, with batches of three events.
fn plan() -> Value {
    json!({ "plan": { "targets": ["small"], "observe": { "events": 3 } } })
}

fn ask(host: &Running, route: Value, chunk: Value) -> Ask {
    host.ask("hi").model("auto").puppet("route", route).puppet("chunk", chunk)
}

fn text(answer: &Answer, streamed: bool) -> String {
    if streamed { sse::content(&answer.body) } else { answer.content() }
}

/// The reasons of the first choice to finish.
fn reasons(answer: &Answer) -> Vec<String> {
    let chunks = sse::chunks(&answer.body);
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["finish_reason"].as_str().map(str::to_owned)).collect()
}

/// Byte for byte, however it is cut into batches, and whoever has the opinion about the model.
#[test]
fn what_passes_is_what_came() {
    let fake = fake();
    let host = host(&fake);
    let fresh = |ask: Ask| ask.header("cache-control", "no-store").streamed().send();
    let plain = fresh(host.ask("hi").model("small"));
    for how in [json!({ "events": 1 }), json!({ "events": 3 }), json!({ "events": 4096 }), json!({ "ms": 1 }), json!({})] {
        for route in [json!({ "plan": { "targets": ["small"], "observe": how } }), json!({ "observe": how })] {
            for chunk in [json!([]), json!(["go-on", "go-on", "enough"]), json!(["enough"])] {
                let answer = fresh(ask(&host, route.clone(), chunk.clone()).model("small"));
                let what = format!("{route} {chunk}");
                assert_eq!((answer.status, answer.whole), (200, true), "{what}");
                assert_eq!(sse::chunks(&answer.body).len(), sse::chunks(&plain.body).len(), "{what}");
                assert_eq!((sse::content(&answer.body).as_str(), sse::is_done(&answer.body)), (WORDS, true), "{what}");
                assert_eq!(reasons(&answer), ["stop"], "{what}");
            }
        }
    }
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &[]), 0.0);
}

#[test]
fn an_answer_that_is_ended_says_so() {
    let stop = |at: usize, how: &str| Value::from((0..at).map(|_| "go-on").chain([how]).collect::<Vec<_>>());
    // Of three events each; the first tells the role.
    for (at, said) in [(0, ""), (1, "one two "), (2, "one two three four five ")] {
        for (how, reason) in [("stop", "content_filter"), ("cut", "length")] {
            let fake = fake();
            let host = host(&fake);
            let answer = ask(&host, plan(), stop(at, how)).streamed().send();
            let what = format!("{how} at {at}: {}", answer.text());
            assert_eq!((answer.status, answer.whole), (200, true), "{what}");
            assert_eq!((sse::content(&answer.body).as_str(), reasons(&answer)), (said, vec![reason.to_owned()]), "{what}");
            assert!(sse::is_done(&answer.body), "{what}");
            let last = sse::chunks(&answer.body).pop().unwrap();
            assert_eq!(last["x_pointsman"]["stopped_by"], "puppet", "{what}");
            assert_eq!((&last["object"], last["id"].is_string()), (&json!("chat.completion.chunk"), true), "{what}");
            tests::eventually("the model is left, and it is counted", || {
                let metrics = host.metrics();
                let ended = metrics.sum("pointsman_exchanges_total", &["ending=\"stopped\""]);
                (fake.active() == 0 && ended == 1.0 && metrics.sum("pointsman_cost_micro_usd_total", &[]) >= 1.0).then_some(())
            });
            // It is nobody else's answer.
            assert_eq!(ask(&host, plan(), json!([])).streamed().send().cache(), "miss", "{what}");
        }
    }
}

/// A plugin that logs at each part of an answer has as many lines for an exchange as one that logs once: a long stream fills no log.
#[test]
fn a_long_stream_does_not_fill_the_log() {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::say("word ".repeat(1_000)));
    let chatty = Plugin::new("chatty", hostile::CHATTY.component(hostile::At::Chunk))
        .hooks("\"routing\"")
        .set("deadline = \"500ms\"\ngrant = [\"log\"]");
    let host = Host::new().upstream(&fake).log("info").plugin(chatty).spawn();
    let lines = || host.log().iter().filter(|line| line.contains("pointsman::plugin::guest")).count();
    for turn in 1..=2 {
        let answer = host.ask("hi").model("small").streamed().send();
        assert_eq!((answer.status, answer.whole), (200, true));
        tests::eventually("its lines", || (lines() >= 16 * turn).then_some(()));
        let dropped = host.metrics().sum("pointsman_plugin_dropped_total", &["what=\"log line\""]);
        // A thousand words are at least thirty parts, of 32 events each; each of them has five lines.
        assert!(dropped >= (100 * turn) as f64, "{dropped}");
        assert_eq!(lines(), 16 * turn);
    }
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &[]), 0.0);
}

/// An answer that is not streamed is one batch.
#[test]
fn a_whole_answer_can_be_ended_too() {
    let fake = fake();
    let host = host(&fake);
    let answer = ask(&host, plan(), json!(["stop"])).send();
    assert_eq!((answer.status, answer.content().as_str()), (200, ""));
    let body = answer.json();
    assert_eq!(
        (&body["choices"][0]["finish_reason"], &body["x_pointsman"]["stopped_by"]),
        (&json!("content_filter"), &json!("puppet"))
    );
    assert_eq!(host.metrics().sum("pointsman_exchanges_total", &["ending=\"stopped\""]), 1.0);
    assert!(host.metrics().sum("pointsman_cost_micro_usd_total", &[]) >= 1.0, "what the model has said is paid for");
    let passed = ask(&host, plan(), json!([])).send();
    assert_eq!((passed.cache(), passed.content().as_str()), ("miss", WORDS));
    assert_eq!(ask(&host, plan(), json!(["stop"])).send().cache(), "exact", "what has passed once is an answer like any other");
}

#[test]
fn a_refusal_is_an_error_before_the_beginning_and_an_event_after_it() {
    let refusal = json!({ "reject": { "status": 403, "code": "secret", "message": "This is a secret." } });
    for streamed in [false, true] {
        let fake = fake();
        let host = host(&fake);
        let ask = ask(&host, plan(), json!([refusal]));
        let answer = if streamed { ask.streamed().send() } else { ask.send() };
        assert_eq!((answer.status, answer.code().as_str()), (403, "secret"), "{streamed}");
        assert_eq!(answer.header("x-pointsman-plugin"), Some(&*label(&host)));
        tests::eventually("the model is left", || (fake.active() == 0).then_some(()));
        assert!(host.metrics().sum("pointsman_cost_micro_usd_total", &[]) >= 1.0, "{streamed}");
    }
    let fake = fake();
    let host = host(&fake);
    let answer = ask(&host, plan(), json!(["go-on", refusal])).streamed().send();
    assert_eq!((answer.status, sse::content(&answer.body).as_str()), (200, "one two "));
    let error = sse::error(&answer.body).unwrap();
    assert_eq!((&error["code"], &error["message"]), (&json!("secret"), &json!("This is a secret.")));
    assert!(!sse::is_done(&answer.body) && reasons(&answer).is_empty());
    assert_eq!(host.metrics().sum("pointsman_exchanges_total", &["ending=\"broken\""]), 1.0);
}

fn label(host: &Running) -> String {
    let plugin = &host.api("/api/plugins")["plugins"][0];
    format!("puppet@{}", &plugin["digest"].as_str().unwrap()["sha256:".len()..][..12])
}

#[test]
fn where_no_answer_may_pass_the_client_gets_an_error() {
    for streamed in [false, true] {
        let fake = fake();
        let host = host(&fake);
        let ask = ask(&host, plan(), json!([{ "escalate": "large" }]));
        let answer = if streamed { ask.streamed().send() } else { ask.send() };
        // Whoever lets no answer pass gets none.
        assert_eq!((answer.status, answer.code().as_str()), (503, "answer_refused"), "{}", answer.text());
        assert_eq!(fake.count(), 16, "attempts are bounded");
    }
}

#[test]
fn who_escalates_once_gets_the_other_answer() {
    // Its order is for the model that answers.
    let guard = json!([{ "unless": ["large", { "escalate": "large" }] }]);
    for streamed in [false, true] {
        for route in [plan(), json!({ "observe": { "events": 3 } })] {
            let fake = fake();
            let host = host(&fake);
            let ask = ask(&host, route.clone(), guard.clone()).model("small");
            let answer = if streamed { ask.streamed().send() } else { ask.send() };
            let what = format!("{route} {streamed}: {}", answer.text());
            assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("large")), "{what}");
            assert_eq!(answer.header("x-pointsman-escalated"), Some("plugin"), "{what}");
            assert_eq!((text(&answer, streamed).as_str(), fake.count()), ("A long and careful answer.", 2), "{what}");
            tests::eventually("the small model is left", || (fake.active() == 0).then_some(()));
            assert!(host.metrics().sum("pointsman_discarded_cost_micro_usd_total", &[]) >= 1.0, "{what}");
        }
    }
}

/// What it has refused goes to nobody, also where the other model fails.
#[test]
fn a_refused_answer_is_not_kept() {
    let guard = json!([{ "unless": ["large", { "escalate": "large" }] }]);
    for streamed in [false, true] {
        let fake = fake();
        fake.when("giant-1", Act::refuse(500, "broken"));
        let host = host(&fake);
        let ask = ask(&host, plan(), guard.clone());
        let answer = if streamed { ask.streamed().send() } else { ask.send() };
        assert!(answer.status >= 500 && !answer.text().contains("two"), "{streamed}: {}", answer.text());
    }
}

/// One that was doubted by `after-attempt` is kept for where nothing better comes; then it is looked at as well.
#[test]
fn a_doubted_answer_is_looked_at_before_it_is_given_after_all() {
    for streamed in [false, true] {
        for (chunk, status) in
            [(json!(["go-on"]), 200), (json!([{ "reject": { "status": 451, "code": "no", "message": "No." } }]), 451)]
        {
            let fake = fake();
            let host = host(&fake);
            let both = json!({ "plan": { "targets": ["small"], "observe": {}, "review": { "answers": true } } });
            let ask = ask(&host, both, chunk.clone()).puppet("after", json!(["fall-back"]));
            let answer = if streamed { ask.streamed().send() } else { ask.send() };
            assert_eq!(answer.status, status, "{chunk}, {streamed}: {}", answer.text());
            assert!(status != 200 || text(&answer, streamed) == WORDS, "{chunk}, {streamed}");
        }
    }
}

#[test]
fn no_model_can_answer_instead_once_something_has_gone() {
    let fake = fake();
    let host = host(&fake);
    let late = json!(["go-on", { "escalate": "large" }]);
    let answer = ask(&host, plan(), late.clone()).streamed().send();
    assert_eq!((sse::content(&answer.body).as_str(), sse::is_done(&answer.body)), (WORDS, true), "it goes on without the plugin");
    let failed = |cause: &str| host.metrics().sum("pointsman_plugin_failures_total", &[&format!("cause=\"{cause}\"")]);
    assert_eq!(failed("output"), 1.0);
    assert_eq!(ask(&host, plan(), json!([])).streamed().send().cache(), "miss", "what was not seen is for nobody else");
    let swollen = ask(&host, plan(), json!(["swell"])).header("cache-control", "no-store").streamed().send();
    assert_eq!((sse::content(&swollen.body).as_str(), failed("output")), (WORDS, 2.0), "it may not keep so much");
}

#[test]
fn a_plugin_that_fails_lets_the_answer_go_on_unless_its_owner_says_otherwise() {
    let fault =
        |at: usize| Value::from((0..at).map(|_| json!("go-on")).chain([json!({ "misdeed": "panic" })]).collect::<Vec<_>>());
    for at in [0, 1] {
        let fake = fake();
        let host = host(&fake);
        let answer = ask(&host, plan(), fault(at)).streamed().send();
        assert_eq!((sse::content(&answer.body).as_str(), sse::is_done(&answer.body)), (WORDS, true), "at {at}");
        assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &["cause=\"trap\""]), 1.0, "it is asked no more");
        assert_eq!(
            ask(&host, plan(), json!([])).streamed().send().cache(),
            "miss",
            "at {at}: what was not seen is for nobody else"
        );

        let host = with(&fake, puppet().must_not_fail());
        let answer = ask(&host, plan(), fault(at)).streamed().send();
        if at == 0 {
            assert_eq!((answer.status, answer.code().as_str()), (500, "plugin_failed"));
        } else {
            let error = sse::error(&answer.body).unwrap();
            assert_eq!((sse::content(&answer.body).as_str(), &error["code"]), ("one two ", &json!("plugin_failed")));
            assert!(!sse::is_done(&answer.body));
        }
        tests::eventually("the model is left", || (fake.active() == 0).then_some(()));
    }
}

#[test]
fn what_a_plugin_is_told_of_a_batch() {
    let fake = fake();
    let host = host(&fake);
    let first = ask(&host, plan(), json!(["tell"])).streamed().send();
    let told = first.json()["error"]["message"].as_str().unwrap().to_owned();
    for part in [
        "index: 0",
        "events: 3",
        "before: 0",
        "model: \"small\"",
        "committed: false",
        "last: false",
        "missed: false",
        "\"one two \"",
        "Some(\"\\\"chatcmpl",
        "None calls 1",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // The second knows by its state what the first has seen, and by nothing else.
    let second = ask(&host, plan(), json!(["go-on", "tell"])).streamed().send();
    let told = sse::error(&second.body).unwrap()["message"].as_str().unwrap().to_owned();
    for part in
        ["index: 1", "events: 3", "before: 3", "committed: true", "last: false", "\"one two three four five \"", "calls 1"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let all = json!({ "plan": { "targets": ["small"], "observe": { "events": 4096, "ms": 10000 } } });
    let whole = ask(&host, all, json!(["tell"])).streamed().send().json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(whole.contains("last: true") && whole.contains("nine ten"), "{whole}");
    let plain = ask(&host, plan(), json!(["tell"])).send().json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(plain.contains("events: 1,") && plain.contains("last: true") && plain.contains("nine ten"), "{plain}");
    // There is a last batch, whatever is in it.
    let last = (0..5).map(|_| json!("go-on")).chain([json!({ "label": "said" })]).collect::<Vec<_>>();
    let two = json!({ "plan": { "targets": ["small"], "observe": { "events": 2 } } });
    let answer = ask(&host, two, last.into()).streamed().send();
    let path = format!("/api/exchanges/{}", answer.header("x-request-id").unwrap());
    let story = tests::eventually("its story", || (host.admin(&path).status == 200).then(|| host.api(&path)));
    let labels = story["labels"].as_array().unwrap().iter().find(|label| label[0] == "said");
    assert!(labels.is_some_and(|label| label[1].as_str().unwrap().contains("nine ten")), "{story}");
}

#[test]
fn bad_bounds_are_a_failure_of_the_plugin() {
    let fake = fake();
    let host = host(&fake);
    for how in [json!({ "events": 0 }), json!({ "events": 4097 }), json!({ "ms": 0 }), json!({ "ms": 10001 })] {
        for route in [json!({ "plan": { "targets": ["large"], "observe": how } }), json!({ "observe": how })] {
            let answer = ask(&host, route, json!(["stop"])).model("small").header("cache-control", "no-store").streamed().send();
            assert_eq!(
                (sse::content(&answer.body).as_str(), answer.header("x-pointsman-model")),
                (WORDS, Some("small")),
                "{how}"
            );
        }
    }
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &["cause=\"output\""]), 8.0);
}

/// Two guards and a plan: all of them see it, in their order, and the first objection counts.
#[test]
fn several_plugins_observe_one_answer() {
    let fake = fake();
    let one = |name: &str| Plugin::new(name, tests::guests::puppet()).like(&puppet());
    let host = Host::new().upstream(&fake).plugin(one("first")).plugin(one("second")).start();
    let observe = json!({ "observe": { "events": 3 } });
    let answer = ask(&host, observe.clone(), json!(["go-on", "stop"])).model("small").streamed().send();
    assert_eq!(sse::chunks(&answer.body).pop().unwrap()["x_pointsman"]["stopped_by"], "first");
    let calls = |name: &str| host.metrics().sum("pointsman_plugin_call_seconds_count", &[&format!("plugin=\"{name}@")]);
    assert_eq!((calls("first"), calls("second")), (3.0, 2.0));
}

/// Events wait for their batch, and a batch for its time: not for a model that pauses.
#[test]
fn a_batch_is_over_when_its_time_is() {
    let gate = Gate::new();
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::say(WORDS).at(Place::Piece(5, 0), Fault::Hold(gate.clone())));
    let host = host(&fake);
    let slow = json!({ "plan": { "targets": ["small"], "observe": { "events": 4, "ms": 20 } } });
    let mut connection = Connection::open(host.address);
    let mut live = ask(&host, slow, json!([])).streamed().live(&mut connection);
    let mut stream = Vec::new();
    while !sse::content(&stream).contains("four") {
        stream.extend(live.portion().expect("what has come goes on"));
    }
    assert_eq!(live.head.header("x-pointsman-model"), Some("small"));
    gate.open();
    while let Some(portion) = live.portion() {
        stream.extend(portion);
    }
    assert_eq!((sse::content(&stream).as_str(), sse::is_done(&stream), live.is_whole()), (WORDS, true, true));
}

/// What breaks before the first batch is over has not begun for the client; what breaks later is seen, and then told.
#[test]
fn a_stream_that_breaks_under_observation() {
    let all = json!({ "plan": { "targets": ["small", "large"], "observe": { "events": 4096, "ms": 10000 } } });
    let few = json!({ "plan": { "targets": ["small", "large"], "observe": { "events": 3 } } });
    for fault in [Fault::Cut, Fault::Reset, Fault::Event("data: {\"error\":{\"message\":\"x\"}}\n\n")] {
        let fake = fake();
        fake.when("tiny-1", Act::say(WORDS).at(Place::Piece(6, 0), fault.clone()));
        let host = host(&fake);
        let answer = ask(&host, all.clone(), json!([])).streamed().send();
        assert_eq!(
            (sse::content(&answer.body).as_str(), sse::is_done(&answer.body)),
            ("A long and careful answer.", true),
            "{fault:?}"
        );
        if matches!(fault, Fault::Reset) {
            // Which takes along what nobody has read yet.
            continue;
        }
        let answer = ask(&host, few.clone(), json!([])).header("cache-control", "no-store").streamed().send();
        assert_eq!(sse::content(&answer.body), "one two three four five ", "{fault:?}: {}", answer.text());
        assert!(sse::error(&answer.body).is_some() && !sse::is_done(&answer.body), "{fault:?}");
    }
}

/// The batches go on behind the seam, and a plugin can end the answer there as well.
#[test]
fn what_another_endpoint_goes_on_with_is_seen() {
    let failed = "data: {\"error\":{\"message\":\"dead\",\"code\":500}}\n\ndata: [DONE]\n\n";
    // The event that says so is a batch of its own.
    let (six, four) = ("one two three four five six ", "one two three four ");
    for (fault, until) in [(Fault::Cut, six), (Fault::Event(failed), four)] {
        let fifth = json!(["go-on", "go-on", "go-on", "go-on", "stop"]);
        for (chunk, said, reason) in [(json!([]), WORDS, "stop"), (fifth, until, "content_filter")] {
            let fakes = [FakeUpstream::start(), FakeUpstream::start()];
            for fake in &fakes {
                fake.always(Act::say(WORDS).at(Place::Piece(4, 0), fault.clone()));
                fake.when("continue_final_message", Act::say("four five six seven eight nine ten"));
            }
            let policy = "continuation = \"vllm\"\nretry_budget = 1.0";
            let host = Host::new().upstream(&fakes[0]).upstream(&fakes[1]).provider(policy).plugin(puppet()).start();
            let route = json!({ "observe": { "events": 2 } });
            let answer = ask(&host, route, chunk.clone()).model("small").streamed().send();
            assert_eq!(
                (sse::content(&answer.body).as_str(), reasons(&answer)),
                (said, vec![reason.to_owned()]),
                "{fault:?} {chunk}: {}",
                answer.text()
            );
            assert!(sse::is_done(&answer.body) && !answer.text().contains("dead"), "{fault:?} {chunk}");
        }
    }
}

/// A model that never stops, and a client that does not read: what is held is bounded, and the plugin waits as the model does.
#[test]
fn back_pressure_is_kept() {
    let fake = FakeUpstream::start();
    let long = (0..1_500).map(|index| format!("{index}{} ", "x".repeat(20_000))).collect::<String>();
    fake.when("tiny-1", Act::say(long.clone()));
    let host = host(&fake);
    let mut connection = Connection::open(host.address);
    let mut live = ask(&host, plan(), json!([])).header("cache-control", "no-store").streamed().live(&mut connection);
    std::thread::sleep(Duration::from_millis(300));
    let calls = || host.metrics().sum("pointsman_plugin_call_seconds_count", &["plugin=\"puppet@"]);
    let before = calls();
    assert!(before < 400.0, "{before}: all of it was read while nobody took it");
    let mut stream = Vec::new();
    while let Some(portion) = live.portion() {
        stream.extend(portion);
    }
    assert_eq!((sse::content(&stream) == long, live.is_whole()), (true, true));
    assert!(calls() > before, "the rest was seen when it was taken");
}
