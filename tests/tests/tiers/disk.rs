//! What outlives the process.
//!
//! **Invariant:** what a process has counted as written is found by the next one, however the first has ended.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tests::{Binary, Door, FakeUpstream, Host, eventually};

use crate::{up, written};

fn host(fake: &FakeUpstream) -> Host {
    Host::new().upstream(fake).section("[cache]\nttl = \"1d\"\n[cache.disk]\npath = \"kept\"\ndeadline = \"10s\"")
}

fn entries(door: &Door) -> f64 {
    door.metrics().sum("pointsman_cache_tier_entries", &["tier=\"disk\""])
}

#[test]
fn entries_outlive_the_process() {
    let fake = FakeUpstream::start();
    let mut host = host(&fake).spawn();
    for signal in ["TERM", "KILL"] {
        let ask = host.ask(signal);
        let first = ask.send();
        assert_eq!((first.cache(), first.header("x-pointsman-cache-tier")), ("miss", None));
        assert_eq!(host.ask(signal).send().header("x-pointsman-cache-tier"), Some("memory"));
        if signal == "KILL" {
            written(&host, "disk");
        }
        host.restart_after(signal);
        up(&host, "disk");
        let again = host.ask(signal).send();
        assert_eq!(
            (again.cache(), again.header("x-pointsman-cache-tier"), again.as_stored()),
            ("exact", Some("disk"), first.text().to_owned())
        );
        assert_eq!(host.ask(signal).send().header("x-pointsman-cache-tier"), Some("memory"), "a hit refills the tiers before");
        assert_eq!(host.ask(signal).streamed().send().content(), first.content());
    }
    assert_eq!(fake.count(), 2);
    let report = host.api("/api/cache");
    assert_eq!((&report["tiers"]["disk"]["up"], &report["tiers"]["disk"]["entries"]), (&json!(true), &json!(2)));
}

/// What near hits find is found by the next process too, by the vectors that the disk has; and after a reload that makes memory anew.
#[test]
fn near_hits_outlive_the_process() {
    let fake = FakeUpstream::start();
    let lines = "[cache]\nttl = \"1d\"\nmemory = \"64MiB\"\n[cache.disk]\npath = \"kept\"\ndeadline = \"10s\"\n[cache.semantic]\nwrong_hits = 0.03\naudit = 0.0";
    let host = Host::new().upstream(&fake).key("one", "ours").key("foreign", "theirs").section(lines);
    let mut host = host.spawn();
    let questions = ["How do I reset my password?", "Where is the nearest bakery?", "What is the capital of Peru?"];
    let answers = questions.map(|question| host.ask(question).key("one").send().content());
    host.ask("How long does a parcel take?").key("one").header("x-pointsman-cache-tags", "parcels").send();
    written(&host, "disk");
    let asked = fake.count();
    let reworded = ["how do i reset my password", "Where is the nearest bakery ?", "what is the capital of peru?"];
    let found = |host: &Door| {
        for (question, answer) in reworded.iter().zip(&answers) {
            eventually(question, || {
                let near = host.ask(question).key("one").header("cache-control", "only-if-cached").send();
                (near.cache() == "semantic" && near.content() == *answer).then_some(())
            });
        }
    };
    for signal in ["KILL", "TERM"] {
        host.restart_after(signal);
        up(&host, "disk");
        found(&host);
    }
    let text = host.folder.read("pointsman.toml");
    host.folder.write("pointsman.toml", text.replace("64MiB", "65MiB").as_bytes());
    eventually("it is reloaded", || (host.metrics().sum("pointsman_reloads_total", &["outcome=\"done\""]) >= 1.0).then_some(()));
    found(&host);
    assert_eq!(fake.count(), asked, "nobody was asked again");
    // Others' questions are as far away as ever, and what was purged does not come back.
    assert_eq!(host.ask(reworded[0]).key("foreign").send().cache(), "miss");
    host.tell("/api/cache/purge", &json!({ "tag": "parcels" }));
    host.restart_after("KILL");
    up(&host, "disk");
    found(&host);
    assert_eq!(host.ask("how long does a parcel take").key("one").send().cache(), "miss");
}

/// Fifty processes, each killed while clients ask as fast as they can.
#[test]
fn fifty_kills_under_load_lose_nothing_that_was_acknowledged() {
    const KILLS: usize = 50;
    let fake = FakeUpstream::start();
    let mut host = host(&fake).log("warn").log("info").spawn();
    let answers = Mutex::new(BTreeMap::new());
    let (mut acknowledged, mut asked) = (0.0, 0);
    for kill in 0..KILLS {
        up(&host, "disk");
        let found = entries(&host);
        assert!(found >= acknowledged, "after {kill} kills: {found} entries, and {acknowledged} were acknowledged");
        let (count, more) = killed_under_load(&host, asked, &answers, Duration::from_millis(100 + 7 * kill as u64 % 90));
        acknowledged = found + count;
        asked = more;
        host.restart_after("KILL");
    }
    up(&host, "disk");
    let found = entries(&host);
    assert!(found >= acknowledged, "{found} entries, and {acknowledged} were acknowledged");
    // What is found is what was answered. An entry may be there whose client was left without its answer by a kill.
    let before = fake.count();
    let answers = answers.into_inner().unwrap();
    let hits = (0..asked).filter(|number| {
        let question = format!("question {number}");
        let again = host.chat(&question);
        let is_hit = again.cache() == "exact";
        assert!(!is_hit || answers.get(&question).is_none_or(|answer| again.content() == *answer), "{question}");
        is_hit
    });
    let (hits, misses) = (hits.count(), fake.count() - before);
    assert!(hits as f64 >= acknowledged, "{hits} hits of {} answers, and {acknowledged} were acknowledged", answers.len());
    assert!(acknowledged > 500.0, "{acknowledged} are no load");
    eprintln!("{KILLS} kills: {} answered, {acknowledged} acknowledged, {hits} found, {misses} not", answers.len());
}

/// Clients ask; after a while it is looked how many entries are acknowledged, and the process is killed by whoever called this. Gives that
/// number, and how many were asked so far.
fn killed_under_load(host: &Binary, asked: usize, answers: &Mutex<BTreeMap<String, String>>, after: Duration) -> (f64, usize) {
    let (stop, next, written) = (AtomicBool::new(false), AtomicUsize::new(asked), Mutex::new(0.0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let question = format!("question {}", next.fetch_add(1, Ordering::SeqCst));
                    let Ok(answer) = host.ask(&question).try_send() else { continue };
                    if answer.status == 200 && answer.whole {
                        answers.lock().unwrap().insert(question, answer.content());
                    }
                }
            });
        }
        std::thread::sleep(after);
        // The last thing that is known before the kill: what is counted then is on disk.
        *written.lock().unwrap() = host.metrics().sum("pointsman_cache_writes_total", &["tier=\"disk\"", "outcome=\"written\""]);
        host.signal("KILL");
        stop.store(true, Ordering::SeqCst);
    });
    (written.into_inner().unwrap(), next.into_inner())
}

#[test]
fn the_disk_is_bounded_and_what_is_over_goes() {
    let fake = FakeUpstream::start();
    let section = "[cache]\nttl = \"10s\"\nmax_entry = \"64KiB\"\n[cache.disk]\npath = \"kept\"\nsize = \"1MiB\"";
    let host = Host::new().upstream(&fake).section(section).start();
    up(&host, "disk");
    let noise = || -> String { std::iter::repeat_with(fastrand::alphanumeric).take(20_000).collect() };
    for index in 0..100 {
        fake.next(tests::Act::say(noise()));
        host.chat(&format!("question {index}"));
    }
    written(&host, "disk");
    let bytes = || host.metrics().sum("pointsman_cache_tier_bytes", &["tier=\"disk\""]);
    eventually("the bound holds", || (bytes() <= f64::from(1 << 20)).then_some(()));
    assert!(host.metrics().sum("pointsman_cache_evicted_total", &["tier=\"disk\""]) > 0.0 && entries(&host) > 10.0);
    eventually("all are over", || (entries(&host) == 0.0).then_some(()));
}

/// A folder that cannot be used costs the tier, and nothing else; and it is used as soon as it can be.
#[test]
fn a_folder_that_another_process_has_costs_no_exchange() {
    let (fake, folder) = (FakeUpstream::start(), tempfile::tempdir().unwrap());
    let start = || Host::new().upstream(&fake).section(&format!("[cache]\n[cache.disk]\npath = {:?}", folder.path())).spawn();
    let first = start();
    up(&first, "disk");
    let second = start();
    second.wait_for_log("another process has it");
    assert_eq!((second.chat("hi").status, second.chat("hi").cache()), (200, "exact"));
    assert_eq!(second.metrics().sum("pointsman_cache_tier_up", &["tier=\"disk\""]), 0.0);
    drop(first);
    up(&second, "disk");
    second.chat("later");
    written(&second, "disk");
}
