//! Why an exchange went as it went: the admin API's stories, and `pointsman explain`.

use serde_json::{Value, json};
use tests::{Act, Answer, FakeUpstream, Host, Plugin, Running, binary, eventually};

/// A host that keeps stories.
fn keeping(upstream: &FakeUpstream) -> Host {
    Host::new().upstream(upstream).admin("explain = \"2MiB\"")
}

fn puppet() -> Plugin {
    Plugin::puppet().set("deadline = \"500ms\"")
}

/// The story of an answer; it is there when its last byte has gone.
fn story(host: &Running, answer: &Answer) -> Value {
    let path = format!("/api/exchanges/{}", answer.header("x-request-id").expect("every answer has an id"));
    eventually("its story is there", || (host.admin(&path).status == 200).then(|| host.api(&path)))
}

fn ids(host: &Running, query: &str) -> Vec<String> {
    let said = host.api(&format!("/api/exchanges{query}"));
    said["exchanges"].as_array().unwrap().iter().map(|story| story["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn one_exchange_from_its_key_to_its_answer() {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::say("Is it?"));
    let host = keeping(&fake).cache().key("app", "team").prompt("greet", "v1", "Be kind.").plugin(puppet()).start();
    let plan =
        json!({ "plan": { "targets": ["small"], "reason": "short", "review": { "answers": true }, "labels": [["by", "plan"]] } });
    let ask = host.ask("hello").model("auto").key("app").puppet("select", json!({ "choose": { "prompt": "greet" } }));
    let answer = ask.puppet("route", plan).puppet("after", json!([{ "escalate": "large" }, "accept"])).send();
    assert_eq!(answer.header("x-pointsman-model"), Some("large"), "{}", answer.text());
    let told = story(&host, &answer);
    assert_eq!([&told["tenant"], &told["key"], &told["asked"], &told["prompt"]], ["team", "app", "auto", "greet@v1"]);
    assert_eq!((&told["cache"]["outcome"], told["cache"]["key"].as_str().map(str::len)), (&json!("miss"), Some(64)));
    let calls: Vec<_> = told["plugins"].as_array().unwrap().iter().map(|call| call["function"].as_str().unwrap()).collect();
    assert_eq!(calls, ["select", "key", "route", "after-attempt", "after-attempt"]);
    let route = &told["plugins"][2];
    assert!(route["plugin"].as_str().unwrap().starts_with("puppet@") && route["took_us"].as_u64().unwrap() > 0, "{route}");
    assert_eq!(route["decision"]["Plan"]["targets"][0]["model"], "small");
    assert_eq!((&told["plan"], &told["reason"]), (&json!(["small"]), &json!("short")));
    assert!(told["labels"].as_array().unwrap().contains(&json!(["by", "plan"])), "{told}");
    let attempts = told["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{told}");
    assert_eq!(
        (&attempts[0]["model"], &attempts[0]["status"], &attempts[0]["doubt"]),
        (&json!("small"), &json!(200), &json!("plugin"))
    );
    assert_eq!((&attempts[1]["model"], attempts[1].get("doubt")), (&json!("large"), None));
    assert!(attempts[0]["cost"].as_u64().is_some() && attempts[0]["endpoint"].as_str().unwrap().contains("127.0.0.1"), "{told}");
    let got = &told["answer"];
    assert_eq!((&got["status"], &got["ending"], &got["model"]), (&json!(200), &json!("whole"), &json!("large")));
    assert!(got["total_us"].as_u64().unwrap() > 0 && told["stages_us"]["run"].as_u64().unwrap() > 0, "{told}");
}

/// Stories that were too long for their core's share were not kept, and those are asked for most.
#[test]
fn a_long_story_is_shortened() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).admin("explain = \"64KiB\"\nexplain_texts = true").plugin(puppet()).start();
    let plan = json!({ "plan": { "targets": ["small"], "reason": "short", "labels": [["long", "x".repeat(3_000)], ["too", "x".repeat(3_000)]] } });
    let told = story(&host, &host.ask(&"words ".repeat(30_000)).model("auto").puppet("route", plan).send());
    assert_eq!((&told["reason"], &told["answer"]["status"]), (&json!("short"), &json!(200)), "{told}");
}

/// The client was told that the provider had not answered in time.
#[test]
fn a_target_has_time() {
    let fake = FakeUpstream::start();
    let host = keeping(&fake).plugin(puppet()).start();
    let plan = json!({ "plan": { "targets": ["large"], "timeout_ms": 0 } });
    let answer = host.ask("hello").model("auto").puppet("route", plan).send();
    assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("small")), "{}", answer.text());
    let told = story(&host, &answer);
    let failed: Vec<_> = told["plugins"].as_array().unwrap().iter().filter_map(|call| call["failed"].as_str()).collect();
    assert!(failed.len() == 1 && failed[0].starts_with("output: ") && failed[0].contains("timeout of 0 ms"), "{told}");
}

/// Of the parts of an answer those are told at which something happened.
#[test]
fn who_has_ended_an_answer() {
    let fake = FakeUpstream::start();
    fake.always(Act::say("one two three four five six seven eight"));
    let host = keeping(&fake).plugin(puppet().hooks("\"routing\"")).start();
    let route = json!({ "plan": { "targets": ["small"], "observe": { "events": 2 } } });
    let chunk = json!(["go-on", { "label": "said" }, "stop"]);
    let told = story(&host, &host.ask("hi").puppet("route", route).puppet("chunk", chunk).streamed().send());
    let calls: Vec<_> = told["plugins"].as_array().unwrap().iter().map(|call| (&call["function"], &call["decision"])).collect();
    let (on_chunk, stop) = (json!("on-chunk"), json!({ "Stop": "ContentFilter" }));
    assert_eq!(calls[1..], [(&on_chunk, &json!("GoOn")), (&on_chunk, &stop)], "{told}");
    assert_eq!((&told["answer"]["ending"], &told["plugins"][1]["labels"][0][0]), (&json!("stopped"), &json!("said")), "{told}");
}

#[test]
fn what_fails_says_why() {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", Act::refuse(503, "busy"));
    let host = keeping(&fake).provider("retries = 0").plugin(puppet().hooks("\"routing\"")).start();
    let plan = json!({ "plan": { "targets": ["small", "large"] } });
    let told = story(&host, &host.ask("a").model("auto").puppet("route", plan).send());
    assert_eq!((&told["attempts"][0]["failure"], &told["attempts"][1]["status"]), (&json!("upstream_broken"), &json!(200)));
    let told = story(&host, &host.ask("b").puppet("route", json!("panic")).model("large").send());
    assert!(told["plugins"][0]["failed"].as_str().unwrap().starts_with("trap: "), "{told}");
    let reject = json!({ "reject": { "status": 403, "code": "no", "message": "No." } });
    let told = story(&host, &host.ask("c").puppet("route", reject).send());
    assert_eq!((&told["answer"]["status"], &told["answer"]["error"]), (&json!(403), &json!("no")));
    let told = story(&host, &host.asking(json!({ "model": "none", "messages": [] })).send());
    assert_eq!((&told["answer"]["error"], told.get("plugins")), (&json!("model_not_found"), None));
}

/// A prompt is its client's: a story has none of its words, in decisions either, unless the owner wants them.
#[test]
fn words_are_kept_where_the_owner_says_so() {
    let fake = FakeUpstream::start();
    fake.always(Act::say("The answer is Zanzibar."));
    for (line, kept) in [("", false), ("explain_texts = true", true)] {
        let host = keeping(&fake).admin(line).semantic().plugin(puppet()).start();
        let select = json!({ "rewrite": { "edits": [{ "append": "of Timbuktu" }] } });
        let key = json!({ "key": { "exact": ["timbuktu"], "semantic": { "text": "of Timbuktu" } } });
        let answer = host.ask("Where is Timbuktu?").puppet("select", select).puppet("key", key).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = story(&host, &answer).to_string();
        assert_eq!(told.to_lowercase().contains("timbuktu"), kept, "{told}");
        assert_eq!(told.contains("Where is"), kept, "{told}");
        assert!(!told.contains("Zanzibar"), "an answer is in no story: {told}");
    }
}

#[test]
fn the_last_ones_are_listed() {
    let fake = FakeUpstream::start();
    let host = keeping(&fake).key("a", "a").key("b", "b").plugin(Plugin::router(1)).start();
    let ask = |key: &str, model: &str| {
        let answer = host.ask("hi").key(key).model(model).send();
        story(&host, &answer)["id"].as_str().unwrap().to_owned()
    };
    let all = [ask("a", "small"), ask("b", "large"), ask("a", "large")];
    let newest: Vec<String> = all.iter().rev().cloned().collect();
    assert_eq!(ids(&host, ""), newest);
    assert_eq!(ids(&host, "?limit=1"), newest[..1]);
    assert_eq!(ids(&host, "?model=large"), newest[..2]);
    assert_eq!(ids(&host, "?model=large&tenant=b"), newest[1..2]);
    assert_eq!(ids(&host, "?plugin=router").len(), 3);
    assert_eq!(ids(&host, "?plugin=other").len(), 0);
    assert_eq!((host.admin("/api/exchanges?modle=x").status, host.admin("/api/exchanges/none").status), (400, 404));
}

#[test]
fn stories_are_bounded_and_can_be_off() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).admin("explain = \"64KiB\"").start();
    let first = host.chat("hi");
    story(&host, &first);
    (0..200).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    let kept = ids(&host, "?limit=1000").len();
    assert!((20..70).contains(&kept), "a story takes a kilobyte and more: {kept}");
    assert_eq!(host.admin(&format!("/api/exchanges/{}", first.header("x-request-id").unwrap())).status, 404);
    let off = Host::new().upstream(&fake).start();
    assert_eq!(off.chat("hi").status, 200);
    let said = off.admin("/api/exchanges");
    assert!(said.status == 404 && said.text().contains("explain ="), "{}", said.text());
}

#[test]
fn the_command_tells_it() {
    let fake = FakeUpstream::start();
    let host = keeping(&fake).cache().admin("key = \"env:POINTSMAN_ADMIN_KEY\"").plugin(Plugin::router(7));
    let environment = [("POINTSMAN_ADMIN_KEY", "open-sesame")];
    let host = host.spawn_with(&environment);
    let answer = host.ask("hi").send();
    let (id, admin) = (answer.header("x-request-id").unwrap().to_owned(), host.admin.to_string());
    let run = |arguments: &[&str]| binary::run_with(&[&["explain", "--admin", &admin], arguments].concat(), &environment);
    let told = eventually("its story is there", || {
        let (code, out, _) = run(&[&id]);
        (code == 0).then_some(out)
    });
    for part in [
        "exchange",
        &id,
        "router@",
        "route in",
        "revision 00000007",
        "cache     miss, key ",
        "plan      small",
        "attempt   small at 127.0.0.1",
        "answer    200 whole, from small",
        "tokens",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (code, list, _) = run(&[]);
    assert!(code == 0 && list.starts_with(&id) && list.contains("small → small"), "{list}");
    let (code, json, _) = run(&["--json", &id]);
    assert_eq!((code, &serde_json::from_str::<Value>(&json).unwrap()["answer"]["status"]), (0, &json!(200)));
    for (arguments, code, said) in [(vec!["01998f3e"], 1, "no such exchange"), (vec!["a/b"], 2, "an id has letters")] {
        let (ended, _, err) = run(&arguments);
        assert!(ended == code && err.contains(said), "{arguments:?}: {ended} {err}");
    }
    let (code, _, err) = binary::run(&["explain", "--admin", &admin, &id]);
    assert!(code == 1 && err.contains("wants the key of [admin]"), "{err}");
}
