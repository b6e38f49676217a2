//! What another component would change, and what nobody can know.

use std::time::Duration;

use serde_json::json;
use tests::guests::{self, hostile};
use tests::{Act, FakeUpstream, Host, Plugin, binary};

use super::{Options, component, options, recording, replayed, written};

#[test]
fn another_component_decides_otherwise() {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake), "")
        .plugin(Plugin::puppet().hooks("\"routing\"").set("deadline = \"500ms\""))
        .start();
    let plan = json!({ "plan": { "targets": ["small"], "reason": "revision 00000002" } });
    // The puppet sends to the small one what is asked of the large one; the router would not.
    for question in ["a", "b", "c"] {
        assert_eq!(host.ask(question).model("large").puppet("route", plan.clone()).send().status, 200);
    }
    assert_eq!(host.ask("d").model("small").puppet("route", plan.clone()).send().status, 200);
    assert_eq!(host.ask("e").model("large").puppet("route", json!("pass")).send().status, 200);
    let folder = written(&host, 5);
    let router = component(&host.folder, "router.wasm", &guests::router(2));
    let named = Options { name: Some("puppet".into()), ..options(&folder, &router) };
    let report = replayed(&named);
    assert_eq!((report.exchanges, report.replayed, report.changed), (5, 5, 4), "{report}");
    let kinds: Vec<_> = report.decisions.iter().map(|kind| (&*kind.before, &*kind.after, kind.count, kind.changed)).collect();
    assert_eq!(kinds, [("pass", "plan", 1, 1), ("plan", "plan", 4, 3)]);
    let [shift] = &report.models[..] else { panic!("{report}") };
    assert_eq!((&*shift.before, &*shift.after, shift.count), ("small", "large", 3));
    // The large one costs forty times as much for a prompt; the three are paid for at its price, the others as they were.
    assert!(report.cost.after > 3.0 * report.cost.before && report.cost.exchanges == 5, "{:?}", report.cost);
    assert!(report.latency.exchanges == 5 && report.latency.after > 0.0, "{:?}", report.latency);
    assert_eq!(report.examples.len(), 3, "two of one kind and one of the other: {report}");
    let before = &report.examples[0].before;
    assert!(before.contains("\"small\"") && report.examples[0].after.contains("\"large\""), "{report}");
    // Beside itself nothing changes.
    let same = replayed(&Options { against: Some(router), ..named });
    assert_eq!((same.changed, same.models.len()), (0, 0), "{same}");
}

/// The plan's first model is another one: what it would have said nobody knows, so `after-attempt` is not asked.
#[test]
fn a_cascade_is_followed_as_far_as_it_is_known() {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake), "")
        .plugin(Plugin::puppet().hooks("\"routing\"").set("deadline = \"500ms\""))
        .start();
    let plan = json!({ "plan": { "targets": ["small"], "review": { "answers": true } } });
    let answer =
        host.ask("a").model("large").puppet("route", plan).puppet("after", json!([{ "escalate": "large" }, "accept"])).send();
    assert_eq!(answer.header("x-pointsman-model"), Some("large"));
    let folder = written(&host, 1);
    let puppet = component(&host.folder, "puppet.wasm", &guests::puppet());
    let same = replayed(&options(&folder, &puppet));
    let kinds: Vec<_> = same.decisions.iter().map(|kind| (kind.function, &*kind.after, kind.changed)).collect();
    assert_eq!(kinds, [("route", "plan", 0), ("after-attempt", "accept", 0), ("after-attempt", "escalate", 0)], "{same}");
    assert!(same.models.is_empty() && same.cost.before == same.cost.after, "{same}");
    let router = component(&host.folder, "router.wasm", &guests::router(2));
    let other = replayed(&Options { name: Some("puppet".into()), ..options(&folder, &router) });
    assert!(other.decisions.iter().any(|kind| kind.function == "after-attempt" && kind.after == "not asked"), "{other}");
    assert!(other.models.is_empty() && other.cost.after < other.cost.before, "the small one was paid for in vain: {other}");
}

#[test]
fn what_was_never_asked_nobody_knows() {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake), "").plugin(Plugin::asker()).start();
    let folder = host.folder.path("recordings");
    assert_eq!(host.ask("a").header("x-puppet-ask", &json!({ "get": "k" }).to_string()).send().status, 200);
    written(&host, 1);
    // The question is in a header: another one makes the component ask something else.
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&file).unwrap();
    let plugin = component(&host.folder, "again.wasm", &guests::asker());
    for (question, unknown, said) in [
        // As an empty store answers, and as the recorded one did.
        (json!({ "get": "other" }), "kv.get", None),
        (json!({ "increment": { "key": "k", "delta": 2 } }), "kv.increment", Some("2")),
        (json!({ "classify": { "examples": "none", "k": 1 } }), "embeddings.classify", Some("EmbedError::Unavailable")),
        (json!("now"), "", Some("1")),
    ] {
        let quoted = |value: &serde_json::Value| serde_json::to_string(&value.to_string()).unwrap();
        let other = text.replace(&quoted(&json!({ "get": "k" })), &quoted(&question));
        assert_ne!(other, text);
        std::fs::write(&file, other).unwrap();
        let report = replayed(&options(&folder, &plugin));
        let calls: Vec<_> = report.unknown.keys().map(String::as_str).collect();
        assert_eq!(calls, if unknown.is_empty() { vec![] } else { vec![unknown] }, "{question}: {report}");
        assert_eq!(report.changed, u64::from(said.is_some()), "{question}: {report}");
        if let Some(said) = said {
            assert!(report.examples[0].after.contains(&format!("\"reason\":\"{said}")), "{question}: {report}");
        }
    }
}

/// A clock would end a loop here or there; instructions end it at the same one everywhere.
#[test]
fn a_deadline_is_the_same_on_every_machine() {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake), "").plugin(Plugin::router(1).set("deadline = \"20ms\"")).start();
    (0..30).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    let folder = written(&host, 30);
    let endless = hostile::ALL.iter().find(|guest| guest.name == "endless-loop").unwrap().component(hostile::At::Route);
    let endless = component(&host.folder, "endless.wasm", &endless);
    let report = replayed(&options(&folder, &endless));
    let [kind] = &report.decisions[..] else { panic!("{report}") };
    // It fails more often in a row than a host would put up with, and is asked all the same.
    assert_eq!((&*kind.before, &*kind.after, kind.count), ("plan", "failed: deadline", 30), "{report}");
}

#[test]
fn the_command_says_it_all() {
    let fake = FakeUpstream::start();
    fake.always(Act::answer().delay(Duration::from_millis(20)));
    let host = recording(Host::new().upstream(&fake), "").plugin(Plugin::router(1).set("deadline = \"500ms\"")).start();
    (0..3).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    let folder = written(&host, 3);
    let [folder, new, none] = [folder, component(&host.folder, "new.wasm", &guests::router(2)), host.folder.path("none.wasm")]
        .map(|path| path.to_str().unwrap().to_owned());
    let run = |more: &[&str]| binary::run(&[&["replay", "--recording", &folder, "--plugin", &new], more].concat());
    let (code, _, err) = run(&["--name", "zz"]);
    assert!(code != 0 && err.contains("that a plugin `zz` has seen") && err.contains("--name: router"), "{err}");
    let (code, out, err) = run(&[]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for part in
        ["compared with what was recorded", "3 recorded, 3 replayed, 3 decided otherwise", "revision 00000002", "estimated"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    let (code, json, _) = run(&["--json", "--threads", "3"]);
    let report: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (code, &report["changed"], report["digest"].as_str().map(|digest| out.contains(digest))),
        (0, &json!(3), Some(true))
    );
    // For a build it is a failure, and said why.
    let (code, out, err) = run(&["--fail-on-change"]);
    assert!(code == 1 && out.contains("3 decided otherwise"), "{out}");
    assert!(err.contains("of 3 exchanges: 3 decided otherwise; without --fail-on-change that is no failure"), "{err}");
    let (code, out, err) = run(&["--fail-on-change", "--against", &new]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let config = host.folder.config();
    let (code, out, err) = run(&["--config", config.to_str().unwrap(), "--name", "router", "--against", &new]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("0 decided otherwise"), "{out}");
    for (arguments, said) in [
        (vec!["replay", "--recording", &folder, "--plugin", &none], "cannot be read"),
        (vec!["replay", "--recording", &none, "--plugin", &new], "name a file that [recording] has written"),
        (vec!["replay", "--recording", &new, "--plugin", &new], "is no recording"),
        (vec!["replay", "--recording", &folder, "--plugin", &new, "--name", "other"], "has no exchange"),
    ] {
        let (code, out, err) = binary::run(&arguments);
        assert!(code == 2 && out.is_empty() && err.contains(said), "{arguments:?}: {code} {out} {err}");
    }
}
