//! What is in a recording, what never is, and what recording costs nobody.

use std::io::Write;

use serde_json::json;
use tests::{FakeUpstream, Host, Plugin, guests};

use super::{component, exchanges, lines, options, recording, replayed, written};

#[test]
fn an_exchange_is_kept_with_all_that_its_plugins_were_told() {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake).key("app", "team"), "").plugin(Plugin::asker()).start();
    let ask = json!({ "increment": { "key": "n", "delta": 3 } });
    let answer =
        host.ask("hello").key("app").header("x-tier", "gold").header("cookie", "secret-1").header("x-api-key", "secret-2");
    assert_eq!(answer.header("x-puppet-ask", &ask.to_string()).send().status, 200);
    let folder = written(&host, 1);
    let all = lines(&folder);
    assert_eq!(all[0]["recording"], 1);
    let facts = &all[1]["snapshot"]["plugins"][0];
    assert_eq!((&facts["name"], &facts["hooks"]), (&json!("asker"), &json!(["routing"])));
    assert_eq!(all[1]["snapshot"]["prices"][1], json!({ "model": "large", "input": 2.0, "output": 8.0, "cached_input": 2.0 }));
    let exchange = &all[2]["exchange"];
    assert_eq!(exchange["configuration"], all[1]["snapshot"]["digest"]);
    assert_eq!((&exchange["head"]["tenant"], &exchange["head"]["principal"]), (&json!("team"), &json!("app")));
    assert!(exchange["requests"][0].as_str().unwrap().contains("hello"));
    let headers = exchange["headers"].to_string();
    assert!(headers.contains("gold") && !headers.contains("cookie") && !headers.contains("authorization"), "{headers}");
    let text = all[2].to_string();
    assert!(!text.contains("secret-") && !text.contains(&host.keys["app"]), "credentials are in no recording: {text}");
    let call = &exchange["calls"][0];
    assert_eq!((&call["function"], &call["imports"][0]["call"]), (&json!("route"), &json!("kv.increment")));
    assert_eq!(call["imports"][0], json!({ "call": "kv.increment", "args": ["n", 3, null], "result": { "Ok": 3 } }));
    assert_eq!(call["said"]["decided"]["Plan"]["targets"][0]["model"], "small");
    let outcome = &exchange["outcome"];
    assert_eq!((&outcome["status"], &outcome["model"], &outcome["ending"]), (&json!(200), &json!("small"), &json!("whole")));
    assert_eq!((&outcome["attempts"][0]["model"], &outcome["attempts"][0]["status"]), (&json!("small"), &json!(200)));
    assert!(outcome["cost"].as_u64().unwrap() > 0 && outcome["tokens"][0].as_u64().unwrap() > 0, "{outcome}");
}

#[test]
fn what_rules_name_is_in_no_file() {
    let fake = FakeUpstream::start();
    let rules = "[recording.redact]\nheaders = [\"X-User\"]\npointers = [\"/user\"]\npatterns = ['[a-z]+@[a-z.]+']";
    let host = recording(Host::new().upstream(&fake), rules).plugin(Plugin::asker()).start();
    let ask = json!({ "set": { "key": "of eve@example.com", "value": "eve@example.com" } });
    let asked = host.ask("I am eve@example.com, hello").set("user", json!("eve")).header("x-user", "eve");
    assert_eq!(asked.header("x-puppet-ask", &ask.to_string()).send().status, 200);
    let [exchange] = &exchanges(&written(&host, 1))[..] else { panic!("one was kept") };
    let text = exchange.to_string();
    assert!(!text.contains("eve") && exchange["redacted"] == true, "{text}");
    assert!(text.contains("hello") && text.contains("[redacted]"), "{text}");
}

#[test]
fn whose_exchanges_and_how_large() {
    let fake = FakeUpstream::start();
    let limits = "tenants = [\"a\"]\nmax_exchange = \"8KiB\"";
    let host = recording(Host::new().upstream(&fake).key("a", "a").key("b", "b"), limits).plugin(Plugin::router(1)).start();
    for key in ["a", "b"] {
        assert_eq!(host.ask("short").key(key).send().status, 200);
    }
    assert_eq!(host.ask(&"long ".repeat(2_000)).key("a").send().status, 200);
    let [exchange] = &exchanges(&written(&host, 1))[..] else { panic!("one was kept") };
    assert_eq!(exchange["head"]["tenant"], "a");
    tests::eventually("the large one is counted", || {
        (host.metrics().sum("pointsman_recording_exchanges_total", &["outcome=\"too-large\""]) == 1.0).then_some(())
    });
}

/// A share is the same ids everywhere; exchanges that no plugin has seen are none to replay.
#[test]
fn a_share_is_kept_and_nothing_where_there_is_no_plugin() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::router(1));
    let host = host.section("[recording]\npath = \"recordings\"\nshare = 0.5").start();
    (0..200).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    let kept = tests::eventually("what is kept stays as it is", || {
        let count = || host.metrics().sum("pointsman_recording_exchanges_total", &["outcome=\"written\""]);
        let before = count();
        std::thread::sleep(std::time::Duration::from_millis(100));
        (before > 0.0 && before == count()).then_some(before)
    });
    assert!((50.0..150.0).contains(&kept), "{kept}");
    let bare = recording(Host::new().upstream(&fake), "").start();
    assert_eq!(bare.chat("hi").status, 200);
    assert_eq!(exchanges(&bare.folder.path("recordings")), [] as [serde_json::Value; 0]);
}

/// kill -9, a full disk: a line that was not written to its end is passed over, and said.
#[test]
fn a_torn_line_is_passed_over() {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake), "").plugin(Plugin::router(1).set("deadline = \"500ms\"")).spawn();
    for _ in 0..5 {
        assert_eq!(host.chat("hi").status, 200);
    }
    let folder = host.folder.path("recordings");
    tests::eventually("all are there", || (exchanges_so_far(&folder) == 5).then_some(()));
    host.signal("KILL");
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let mut torn = std::fs::OpenOptions::new().append(true).open(&file).unwrap();
    torn.write_all(b"{\"exchange\":{}}\n{\"exchange\":{\"configuration\":\"x\"").unwrap();
    let plugin = component(&host.folder, "again.wasm", &guests::router(1));
    let report = replayed(&options(&folder, &plugin));
    assert_eq!((report.exchanges, report.replayed, report.changed, report.unread), (6, 5, 0, 2), "{report}");
    assert!(report.problems[0].contains("is torn") && report.problems[1].contains("exchange 6"), "{:?}", report.problems);
}

fn exchanges_so_far(folder: &std::path::Path) -> usize {
    let text = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(entry.unwrap().path()).unwrap();
    std::fs::read_dir(folder).map_or(0, |entries| entries.map(text).map(|text| text.matches("{\"exchange\":").count()).sum())
}
