//! Entries out of one node and into another.

use serde_json::json;
use tests::{Binary, FakeUpstream, Host};

use crate::{up, written};

fn node(fake: &FakeUpstream, lines: &str) -> Binary {
    let host = Host::new().upstream(fake).key("one", "ours").key("foreign", "theirs");
    host.section(&format!("[cache]\nttl = \"1d\"\n{lines}\n[cache.semantic]\nwrong_hits = 0.03\naudit = 0.0")).spawn()
}

fn carry(host: &Binary, arguments: &[&str]) -> (i32, String, String) {
    let admin = host.admin.to_string();
    tests::binary::run(&[&["cache"], arguments, &["--admin", &admin]].concat())
}

#[test]
fn what_one_node_has_another_one_serves() {
    let (fake, other_fake) = (FakeUpstream::start(), FakeUpstream::start());
    let mut from = node(&fake, "[cache.disk]\npath = \"kept\"\ndeadline = \"10s\"");
    let questions: Vec<_> = (0..40).map(|number| format!("How much is {number} and {number}?")).collect();
    // Of these near hits find none, so after a restart they are on disk alone.
    let long = |number: usize| format!("{number}: {}", "a long question ".repeat(100));
    let mut answers: Vec<_> = questions.iter().map(|question| from.ask(question).key("one").send().content()).collect();
    answers.extend((0..40).map(|number| from.ask(&long(number)).key("one").send().content()));
    written(&from, "disk");
    from.restart_after("KILL");
    up(&from, "disk");
    let late = from.ask("Where is the nearest bakery?").key("one").header("x-pointsman-cache-tags", "bread").send();
    let file = from.folder.path("entries");
    let path = file.to_str().unwrap();
    let (code, said, wrong) = carry(&from, &["export", "--out", path]);
    assert_eq!(code, 0, "{said}{wrong}");

    let to = node(&other_fake, "");
    let (code, said, wrong) = carry(&to, &["import", path]);
    assert_eq!(
        (code, said.as_str()),
        (0, "81 entries taken in, 0 known already, 0 over, 0 purged here since they were made, 0 too large\n"),
        "{wrong}"
    );
    for (question, answer) in questions.iter().cloned().chain((0..40).map(long)).zip(&answers) {
        let there = to.ask(&question).key("one").send();
        assert_eq!((there.cache(), &there.content()), ("exact", answer), "{question}");
    }
    let near = to.ask("where is the nearest bakery").key("one").send();
    assert_eq!((near.cache(), near.content()), ("semantic", late.content()));
    assert_eq!(other_fake.count(), 0);
    assert_eq!(to.ask("Where is the nearest bakery?").key("foreign").send().cache(), "miss");

    // Again, and after a purge: nothing comes back that was taken out.
    assert!(carry(&to, &["import", path]).1.starts_with("0 entries taken in, 81 known already"));
    to.tell("/api/cache/purge", &json!({ "tag": "bread" }));
    let (_, said, _) = carry(&to, &["import", path]);
    assert_eq!(said, "0 entries taken in, 80 known already, 0 over, 1 purged here since they were made, 0 too large\n");
    assert_eq!(to.ask("Where is the nearest bakery?").key("one").send().cache(), "miss");
    // What was brought is purged like any other, and what was made after a purge comes in.
    to.order("/api/cache/purge");
    assert_eq!(to.ask(&questions[0]).key("one").send().cache(), "miss");
    from.ask("What is made later?").key("one").send();
    assert_eq!(carry(&from, &["export", "--out", path]).0, 0);
    let (_, said, _) = carry(&to, &["import", path]);
    assert!(said.starts_with("1 entries taken in, 1 known already, 0 over, 80 purged here"), "{said}");
    assert_eq!(to.ask("What is made later?").key("one").send().cache(), "exact");
}

/// Another node's older answer replaces none, in whichever tier.
#[test]
fn what_is_older_replaces_nothing() {
    let (fake, redis) = (FakeUpstream::start(), tests::Redis::start());
    let from = node(&fake, "");
    let older = from.ask("hi").key("one").send();
    let file = from.folder.path("entries");
    let path = file.to_str().unwrap();
    assert_eq!(carry(&from, &["export", "--out", path]).0, 0);
    let shared = format!("[cache.redis]\nurl = {:?}\ndeadline = \"5s\"", redis.url());
    let mut to = node(&fake, &format!("[cache.disk]\npath = \"kept\"\ndeadline = \"10s\"\n{shared}"));
    let newer = to.ask("hi").key("one").send();
    assert_ne!(newer.content(), older.content());
    written(&to, "disk");
    written(&to, "redis");
    to.restart_after("KILL");
    up(&to, "disk");
    let (_, said, wrong) = carry(&to, &["import", path]);
    assert!(said.starts_with("0 entries taken in, 1 known already"), "{said}{wrong}");
    // A node that shares the Redis, and has nothing else.
    assert!(carry(&node(&fake, &shared), &["import", path]).1.starts_with("1 entries taken in"));
    assert_eq!(node(&fake, &shared).ask("hi").key("one").send().content(), newer.content(), "Redis has what it had");
}

#[test]
fn what_is_no_export_is_refused() {
    let fake = FakeUpstream::start();
    let host = node(&fake, "");
    for number in 0..5 {
        host.ask(&format!("Question {number}?")).key("one").send();
    }
    let file = host.folder.path("entries");
    let path = file.to_str().unwrap();
    assert_eq!(carry(&host, &["export", "--out", path]).0, 0);
    let bytes = std::fs::read(&file).unwrap();
    for (what, bytes, reason) in [
        ("nothing", &b""[..], "is no file of"),
        ("another file", b"[cache]\nttl = 1\n and more", "is no file of"),
        ("its end missing", &bytes[..bytes.len() - 1], "is not all there"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let (code, said, wrong) = carry(&host, &["import", path]);
        assert_ne!(code, 0, "{what}: {said}");
        assert!(wrong.contains(reason) && wrong.contains(path), "{what}: {wrong}");
    }
    let mut flipped = bytes.clone();
    // Before the end mark.
    let last = flipped.len() - 9;
    flipped[last] ^= 1;
    std::fs::write(&file, flipped).unwrap();
    let (code, _, wrong) = carry(&host, &["import", path]);
    assert!(code != 0 && wrong.contains("not as it was written"), "{wrong}");
    let (code, _, wrong) = carry(&host, &["export", "--out", "/nowhere/at/all"]);
    assert!(code != 0 && wrong.contains("/nowhere/at/all"), "{wrong}");
    assert!(!host.folder.path("entries.part").exists(), "nothing is left half written");
}
