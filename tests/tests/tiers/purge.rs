//! Purges: by everything that they can be said by, in all tiers, on all nodes, and on those that were away.
//!
//! **Invariant:** what was purged is never served again, wherever it still lies.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Door, FakeUpstream, Host, Redis, binary, eventually};

use crate::redis::reads;
use crate::{up, written};

fn with_redis(redis: &Redis) -> String {
    format!("[cache.redis]\nurl = {:?}\ndeadline = \"5s\"", redis.url())
}

const DISK: &str = "[cache.disk]\npath = \"kept\"\ndeadline = \"10s\"";

fn purge(door: &Door, selector: Value) -> Value {
    let answer = door.tell("/api/cache/purge", &selector);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn by_whatever_is_said() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .admin("explain = \"2MiB\"")
        .key("a", "acme")
        .key("b", "other")
        .prompt("tone", "1", "Be kind.")
        .prompt("tone", "2", "Be brief.");
    let host = host.section(&format!("[cache]\n[cache.semantic]\nwrong_hits = 0.5\n{DISK}")).start();
    up(&host, "disk");
    let asks = || {
        let prompt =
            |version: &str| host.ask("with a prompt").key("a").set("prompt", json!({ "id": "tone", "version": version }));
        [
            ("acme", host.ask("one").key("a").header("x-pointsman-cache-tags", "blue, sky")),
            ("acme, large", host.ask("one").key("a").model("large").header("x-pointsman-cache-tags", "blue")),
            ("other", host.ask("one").key("b")),
            ("tone@1", prompt("1")),
            ("tone@2", prompt("2")),
        ]
    };
    let fill = || asks().iter().for_each(|(_, ask)| drop(ask.send()));
    let gone =
        || -> Vec<&str> { asks().iter().filter(|(_, ask)| ask.send().cache() != "exact").map(|(name, _)| *name).collect() };
    fill();
    assert_eq!(gone(), Vec::<&str>::new());
    let id = asks()[0].1.send().header("x-request-id").unwrap().to_owned();
    let told = eventually("its story", || {
        Some(host.admin(&format!("/api/exchanges/{id}"))).filter(|answer| answer.status == 200).map(|answer| answer.json())
    });
    let (key, partition) = (&told["cache"]["key"], &told["cache"]["partition"]);
    assert!(key.is_string() && partition.is_string(), "{key} {partition}");
    for (selector, expect) in [
        (json!({ "key": key }), vec!["acme"]),
        (json!({ "partition": partition }), vec!["acme"]),
        (json!({ "tag": "blue" }), vec!["acme", "acme, large"]),
        (json!({ "tag": "blue", "model": "large" }), vec!["acme, large"]),
        (json!({ "tag": "green" }), vec![]),
        (json!({ "tenant": "other" }), vec!["other"]),
        (json!({ "model": "large" }), vec!["acme, large"]),
        (json!({ "prompt": "tone@1" }), vec!["tone@1"]),
        (json!({ "prompt": "tone" }), vec!["tone@1", "tone@2"]),
        (json!({}), vec!["acme", "acme, large", "other", "tone@1", "tone@2"]),
    ] {
        purge(&host, selector.clone());
        assert_eq!(gone(), expect, "{selector}");
    }
    for (selector, part) in
        [(json!({ "tags": "x" }), "unknown field"), (json!({ "key": "x" }), "hexadecimal"), (json!([]), "a list")]
    {
        let answer = host.tell("/api/cache/purge", &selector);
        assert!(answer.status == 400 && answer.text().contains(part), "{}", answer.text());
    }
}

#[test]
fn by_the_command_line() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().start();
    let admin = host.admin.to_string();
    let run = |arguments: &[&str]| binary::run(&[&["cache", "purge", "--admin", &admin], arguments].concat());
    let tagged = || host.ask("hi").header("x-pointsman-cache-tags", "blue").send();
    tagged();
    let (code, out, err) = run(&["--tag", "red"]);
    assert_eq!((code, err.as_str(), tagged().cache()), (0, "", "exact"), "{out}");
    let (code, out, _) = run(&["--tag", "blue"]);
    assert_eq!((code, out.as_str()), (0, "purged; it took 1 entries out of this node's memory\n"));
    assert_eq!(tagged().cache(), "miss");
    let (code, out, _) = run(&["--all", "--json"]);
    assert_eq!((code, out.as_str(), tagged().cache()), (0, "{\"entries\":1,\"told\":null}\n", "miss"));
    for (wrong, part) in
        [(vec![], "required"), (vec!["--all", "--tag", "x"], "cannot be used"), (vec!["--key", "x"], "hexadecimal")]
    {
        let (code, _, err) = run(&wrong);
        assert!(code == 2 && err.contains(part), "{wrong:?}: {err}");
    }
}

/// It is in three tiers of two nodes, and on its way to Redis perhaps.
#[test]
fn it_reaches_all_tiers_of_all_nodes() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let start = || Host::new().upstream(&fake).section(&format!("[cache]\n{}\n{DISK}", with_redis(&redis))).start();
    let (one, other) = (start(), start());
    for host in [&one, &other] {
        up(host, "disk");
        reads(host);
    }
    let ask = |host: &Door| host.ask("hi").header("x-pointsman-cache-tags", "blue").send();
    let mut longest = Duration::ZERO;
    for (round, (here, there)) in [(&one, &other), (&other, &one)].into_iter().cycle().take(6).enumerate() {
        let first = ask(here);
        written(here, "redis");
        assert_eq!(ask(there).as_stored(), first.as_stored(), "{round}");
        let selector = if round < 3 { json!({ "tag": "blue" }) } else { json!({}) };
        assert_eq!(purge(here, selector)["told"], json!(true), "{round}");
        let purged = Instant::now();
        assert_ne!(ask(here).as_stored(), first.as_stored(), "{round}");
        // Or the other one asks for itself, and each has its own.
        written(here, "redis");
        eventually("the other one serves it no more", || (ask(there).as_stored() != first.as_stored()).then_some(()));
        longest = longest.max(purged.elapsed());
    }
    eprintln!("the other node knew after {longest:?} at most");
    // Room and privacy: what was purged does not lie about until its time is over.
    purge(&one, json!({}));
    eventually("Redis has let it go", || redis.ask(&["KEYS", "pointsman:entry:*"]).is_empty().then_some(()));
    let left = |host: &Door| host.metrics().sum("pointsman_cache_tier_entries", &["tier=\"disk\""]);
    eventually("disks have let it go", || (left(&one) == 0.0 && left(&other) == 0.0).then_some(()));
}

#[test]
fn it_outlives_the_process() {
    let fake = FakeUpstream::start();
    let mut host = Host::new().upstream(&fake).section(&format!("[cache]\n{DISK}")).spawn();
    up(&host, "disk");
    let tagged = |host: &Door| host.ask("tagged").header("x-pointsman-cache-tags", "blue").send();
    tagged(&host);
    host.chat("other");
    written(&host, "disk");
    // It is answered when it is on disk, so nothing is to wait for.
    purge(&host, json!({ "tag": "blue" }));
    host.restart_after("KILL");
    up(&host, "disk");
    assert_eq!((tagged(&host).cache(), host.chat("other").cache()), ("miss", "exact"));
}

/// A node that was down while others purged, and whose Redis has lost its memory meanwhile, so that only they still know.
#[test]
fn a_node_that_was_away_learns_it() {
    let (fake, mut redis) = (FakeUpstream::start(), Redis::start());
    let start = || Host::new().upstream(&fake).section(&format!("[cache]\n{}\n{DISK}", with_redis(&redis)));
    let (one, mut away) = (start().start(), start().spawn());
    for host in [&*one, &*away] {
        up(host, "disk");
        reads(host);
    }
    let ask = |host: &Door, tag: &str| host.ask(tag).header("x-pointsman-cache-tags", tag).send();
    let tags = ["kept", "purged", "purged while Redis is away"];
    for tag in tags {
        ask(&away, tag);
    }
    written(&away, "disk");
    away.signal("KILL");
    assert!(away.ends_within(tests::SOON).is_some());
    assert_eq!(purge(&one, json!({ "tag": "purged" }))["told"], json!(true));
    redis.stop();
    assert_eq!(purge(&one, json!({ "tag": "purged while Redis is away" }))["told"], json!(false));
    redis.start_again();
    eventually("the log is written again", || {
        redis.ask(&["XLEN", "pointsman:purges"]).parse::<u32>().is_ok_and(|lines| lines >= 2).then_some(())
    });
    away.start_again();
    up(&away, "disk");
    reads(&away);
    let found = tags.map(|tag| ask(&away, tag).cache().to_owned());
    assert_eq!(found, ["exact", "miss", "miss"]);
}

#[test]
fn tags_that_cannot_be_are_refused() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().start();
    let many = ["x"; 17].join(",");
    let answer = host.ask("hi").header("x-pointsman-cache-tags", &many).send();
    assert!(answer.status == 400 && answer.text().contains("x-pointsman-cache-tags"), "{}", answer.text());
    assert_eq!(host.ask("hi").header("x-pointsman-cache-tags", "a,b").send().status, 200);
    assert_eq!(fake.last().header("x-pointsman-cache-tags"), None, "it was meant for us");
}
