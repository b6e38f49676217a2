//! The same recording and the same component: the same report, letter by letter, and nothing that is decided otherwise.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tests::{FakeUpstream, Host, Plugin, Running, guests};

use super::{component, options, recording, replayed, written};

const TASKS: &str = "[examples.task]\ncode = [\"Sort a list in Python.\"]\ncooking = [\"A recipe for soup.\"]";

/// All that a plugin can ask the host and that is not the same tomorrow.
fn questions() -> Vec<Value> {
    vec![
        json!("now"),
        json!("elapsed"),
        json!({ "random": 3 }),
        json!({ "bucket": { "salt": "s", "key": "k", "buckets": 7 } }),
        json!({ "get": "n" }),
        json!({ "increment": { "key": "n", "delta": 1 } }),
        json!({ "cas": { "key": "c", "expected": null, "value": "v" } }),
        json!({ "delete": "c" }),
        json!({ "raise": { "key": "r", "times": 3 } }),
        json!({ "classify": { "examples": "task", "k": 2 } }),
        json!({ "similarity": ["a soup", "a list"] }),
        json!("embedding"),
        json!({ "embed": "text" }),
        json!("candidates"),
        json!({ "model": "large" }),
        json!({ "estimate": { "model": "large", "prompt": 1_000, "completion": 100 } }),
        json!({ "model": "none" }),
    ]
}

fn asker_at_work(rounds: usize) -> (Running, PathBuf) {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake).section(TASKS), "").plugin(Plugin::asker()).start();
    let mut count = 0;
    for round in 0..rounds {
        for question in questions() {
            let text = format!("A recipe for {round} soups, please.");
            assert_eq!(
                host.ask(&text).model("auto").header("x-puppet-ask", &question.to_string()).send().status,
                200,
                "{question}"
            );
            count += 1;
        }
    }
    let folder = written(&host, count);
    (host, folder)
}

#[test]
fn whatever_a_plugin_asks_it_is_told_again() {
    let (host, folder) = asker_at_work(2);
    let plugin = component(&host.folder, "again.wasm", &guests::asker());
    let report = replayed(&options(&folder, &plugin));
    assert_eq!((report.replayed, report.changed, report.uncertain), (2 * questions().len() as u64, 0, 0), "{report}");
    let against = replayed(&super::Options { against: Some(plugin.clone()), ..options(&folder, &plugin) });
    assert_eq!((against.changed, &against.digest), (0, &report.digest), "{against}");
}

/// All functions of all hooks, with what they are told beside the request: prompts, answers, attempts, failures, labels.
#[test]
fn whatever_a_plugin_is_asked_it_is_asked_again() {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake).cache().provider("retries = 0").prompt("p", "1", "Be kind."), "");
    let host = host.plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    let plan = |review: bool| json!({ "plan": { "targets": ["small", "large"], "review": { "answers": review }, "labels": [["by", "plan"]] } });
    let select =
        json!({ "rewrite": { "choice": { "prompt": "p", "labels": [["arm", "a"]] }, "edits": [{ "append": "And be short." }] } });
    let asks = [
        host.ask("a").puppet("select", json!({ "choose": { "prompt": "p" } })).puppet("route", json!({ "tell": "messages" })),
        host.ask("b").puppet("select", select).puppet("route", json!({ "tell": { "metadata": "arm" } })),
        host.ask("c").puppet("route", plan(true)).puppet("after", json!([{ "escalate": "large" }, "tell"])),
        host.ask("d").puppet("route", plan(true)).puppet("after", json!(["fall-back", "accept"])),
        host.ask("e").puppet("key", json!({ "key": { "admit": true } })).puppet("admit", json!({ "if-text-has": "zzz" })),
        host.ask("f").puppet("key", json!("bypass")).puppet("route", json!({ "tell": "calls" })),
        host.ask("g").puppet("route", json!("panic")),
        host.ask("h").puppet("select", json!({ "fail": "not now" })).puppet("route", json!({ "tell": "head" })),
        host.ask("i").puppet("route", json!({ "reject": { "status": 403, "code": "no", "message": "No." } })),
        host.ask("j").puppet("route", plan(false)).streamed(),
        host.ask("k").puppet("select", json!({ "choose": { "prompt": "none" } })),
    ];
    let count = asks.len() as u32;
    asks.into_iter().for_each(|ask| drop(ask.send()));
    let folder = written(&host, count);
    let plugin = component(&host.folder, "again.wasm", &guests::puppet());
    let report = replayed(&options(&folder, &plugin));
    assert_eq!((report.replayed, report.changed, report.unread), (u64::from(count), 0, 0), "{report}");
    assert!(report.models.is_empty(), "{report}");
    let functions: std::collections::BTreeSet<_> = report.decisions.iter().map(|decision| decision.function).collect();
    assert_eq!(functions.into_iter().collect::<Vec<_>>(), ["admit", "after-attempt", "key", "route", "select"]);
}

/// Ten thousand exchanges, made of some that were recorded: each with an id and a question of its own.
fn ten_thousand(folder: &Path, into: &Path) {
    let all: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    let (head, exchanges): (Vec<&str>, Vec<&str>) =
        all.iter().flat_map(|text| text.lines()).partition(|line| !line.starts_with("{\"exchange\":"));
    let mut text = head.join("\n") + "\n";
    for number in 0..10_000 {
        let line = exchanges[number % exchanges.len()];
        let id = serde_json::from_str::<Value>(line).unwrap()["exchange"]["head"]["id"].as_str().unwrap().to_owned();
        let other = format!("{number:08}{}", &id[8..]);
        text.push_str(&line.replace(&id, &other).replace(" soups", &format!(" soups for {number}")));
        text.push('\n');
    }
    std::fs::write(into, text).unwrap();
}

#[test]
fn ten_thousand_exchanges_are_replayed_alike_on_any_number_of_threads() {
    let (host, folder) = asker_at_work(1);
    let file = host.folder.path("many.jsonl");
    ten_thousand(&folder, &file);
    let plugin = component(&host.folder, "again.wasm", &guests::asker());
    let run = |threads| {
        let began = std::time::Instant::now();
        let report = replayed(&super::Options { threads, ..options(&file, &plugin) });
        eprintln!("{threads} threads: {:?} a thousand", began.elapsed() / 10);
        assert_eq!((report.exchanges, report.replayed, report.unread), (10_000, 10_000, 0), "{report}");
        (report.to_string(), serde_json::to_string(&report).unwrap())
    };
    let first = run(1);
    for threads in [1, 2, 7] {
        assert!(run(threads) == first, "{threads} threads gave another report:\n{}", first.0);
    }
}
