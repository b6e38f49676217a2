//! Parts of answers: what was shown of them is recorded, and shown again.

use pointsman::replay::Report;
use serde_json::{Value, json};
use tests::guests;
use tests::{Act, FakeUpstream, Host, Plugin, Running, eventually};

use super::{Options, component, exchanges, options, recording, replayed, written};

const WORDS: &str = "one two three four five six seven eight nine ten";
/// Ends each answer before it has begun.
const STOPS: u32 = 50_000_000;

fn fake() -> FakeUpstream {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::say(WORDS));
    fake.when("giant-1", Act::say("A long and careful answer."));
    fake
}

fn host(fake: &FakeUpstream, lines: &str) -> Running {
    let puppet = Plugin::puppet().hooks("\"routing\"").set("deadline = \"500ms\"");
    recording(Host::new().upstream(fake), lines).plugin(puppet).start()
}

fn plan() -> Value {
    json!({ "plan": { "targets": ["small"], "observe": { "events": 3 } } })
}

fn ask(host: &Running, route: &Value, chunk: &Value, streamed: bool) {
    let ask = host.ask("hi").model("small").puppet("route", route.clone()).puppet("chunk", chunk.clone());
    let answer = if streamed { ask.streamed().send() } else { ask.send() };
    assert!(matches!(answer.status, 200 | 403), "{chunk}: {}", answer.text());
}

#[test]
fn what_it_was_shown_of_an_answer_it_is_shown_again() {
    let fake = fake();
    let host = host(&fake, "");
    let observe = json!({ "observe": { "events": 3 } });
    let refusal = json!({ "reject": { "status": 403, "code": "no", "message": "No." } });
    let chunks = [
        json!([]),
        json!(["go-on", "stop"]),
        json!(["enough"]),
        json!([refusal]),
        json!(["go-on", refusal]),
        json!([{ "unless": ["large", { "escalate": "large" }] }]),
        json!(["go-on", { "misdeed": "panic" }]),
        json!(["go-on", { "label": "said" }]),
    ];
    let mut count = 0;
    for route in [plan(), observe] {
        for chunk in &chunks {
            for streamed in [false, true] {
                ask(&host, &route, chunk, streamed);
                count += 1;
            }
        }
    }
    let folder = written(&host, count);
    let plugin = component(&host.folder, "again.wasm", &guests::puppet());
    let report = replayed(&options(&folder, &plugin));
    assert_eq!((report.replayed, report.changed, report.uncertain, report.cut), (u64::from(count), 0, 0, 0), "{report}");
    assert!(report.models.is_empty() && report.cost.before == report.cost.after, "{report}");
    let mut steps: Vec<_> = report.decisions.iter().filter(|kind| kind.function == "on-chunk").map(|kind| &*kind.after).collect();
    steps.sort_unstable();
    assert_eq!(steps, ["enough", "escalate", "failed: trap", "go-on", "reject", "stop"], "{report}");
}

#[test]
fn another_component_ends_an_answer_elsewhere() {
    let fake = fake();
    let host = host(&fake, "");
    ask(&host, &plan(), &json!(["go-on", "go-on", "enough"]), true);
    ask(&host, &plan(), &json!([{ "unless": ["large", { "escalate": "large" }] }]), true);
    // Nobody observed this one, so nobody knows what there would have been to see.
    ask(&host, &json!({ "plan": { "targets": ["small"] } }), &json!([]), true);
    let folder = written(&host, 3);
    let of = |number: u32| {
        let router = component(&host.folder, "router.wasm", &guests::router(number));
        replayed(&Options { name: Some("puppet".into()), ..options(&folder, &router) })
    };
    let kinds = |report: &Report| -> Vec<(String, String, u64)> {
        let parts = report.decisions.iter().filter(|kind| kind.function == "on-chunk");
        parts.map(|kind| (kind.before.clone(), kind.after.clone(), kind.count)).collect()
    };
    let strict = of(STOPS);
    assert!(kinds(&strict).contains(&("go-on".into(), "stop".into(), 1)), "{strict}");
    assert!(kinds(&strict).contains(&("escalate".into(), "stop".into(), 1)), "{strict}");
    assert_eq!((strict.unknown.get("on-chunk"), strict.uncertain), (Some(&1), 1), "{strict}");
    let [shift] = &strict.models[..] else { panic!("{strict}") };
    assert_eq!((&*shift.before, &*shift.after, shift.count), ("large", "small", 1), "{strict}");
    let blind = of(2);
    assert!(kinds(&blind).iter().all(|(_, after, _)| after == "not asked") && blind.uncertain == 0, "{blind}");
}

/// A long answer takes no more than half of the room, and its exchange is kept with what there is.
#[test]
fn of_a_long_answer_the_beginning_is_kept() {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::say("word ".repeat(500)));
    let host = host(&fake, "max_exchange = \"32KiB\"");
    ask(&host, &plan(), &json!([]), true);
    let folder = written(&host, 1);
    let [exchange] = &exchanges(&folder)[..] else { panic!("one was kept") };
    let parts = exchange["parts"].as_array().unwrap();
    let bytes: usize = parts.iter().map(|part| part["text"].as_str().unwrap().len()).sum();
    assert!(exchange["cut"] == true && (4_000..16 << 10).contains(&bytes), "{bytes} bytes in {} parts", parts.len());
    let plugin = component(&host.folder, "again.wasm", &guests::puppet());
    let report = replayed(&options(&folder, &plugin));
    assert_eq!((report.changed, report.uncertain, report.cut), (0, 0, 1), "{report}");
}

/// The words of a pattern come in parts, and are in no file all the same.
#[test]
fn what_rules_name_is_in_no_part() {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::say("Write to eve the second of example street today."));
    let host = host(&fake, "[recording.redact]\npatterns = ['eve the second']");
    ask(&host, &plan(), &json!([]), true);
    let folder = written(&host, 1);
    let [exchange] = &exchanges(&folder)[..] else { panic!("one was kept") };
    assert!(exchange["redacted"] == true && exchange["parts"][0]["text"].is_null(), "{exchange}");
    assert!(!exchange["parts"].to_string().contains("second"), "{exchange}");
    let plugin = component(&host.folder, "again.wasm", &guests::puppet());
    let report = replayed(&options(&folder, &plugin));
    assert_eq!((report.redacted, report.unknown.get("on-chunk")), (1, Some(&1)), "{report}");
}

/// A guest asks as much as its time allows: what it is told is kept up to a bound, and beyond it the exchange is not recorded.
#[test]
fn what_a_guest_asks_for_does_not_fill_the_memory() {
    let fake = FakeUpstream::start();
    let keeping = Host::new().upstream(&fake).admin("explain = \"2MiB\"");
    let host = recording(keeping, "max_exchange = \"64KiB\"").plugin(Plugin::asker()).start();
    let ask = |times: u32| {
        let raise = json!({ "raise": { "key": "n", "times": times } });
        host.ask("hi").header("x-puppet-ask", &raise.to_string()).send()
    };
    assert_eq!(ask(10).status, 200);
    written(&host, 1);
    let answer = ask(400);
    assert_eq!((answer.status, answer.header("x-pointsman-reason")), (200, Some("Some(\"410\")")));
    eventually("it is counted", || {
        (host.metrics().sum("pointsman_recording_exchanges_total", &["outcome=\"too-large\""]) == 1.0).then_some(())
    });
    // What happened is told all the same.
    let story = host.api(&format!("/api/exchanges/{}", answer.header("x-request-id").unwrap()));
    assert_eq!(story["plugins"][0]["function"], "route", "{story}");
    written(&host, 1);
}
