//! Answers whose time is over, in the tiers behind memory: kept as long as they may be served, and no longer.
//!
//! **Invariant:** how stale an answer is does not depend on the tier that it is found in.

use std::sync::Arc;
use std::time::Duration;

use pointsman::cache::tier::disk;
use pointsman::cache::{Cache, Entry, Settings};
use tests::{Act, Door, FakeUpstream, Host, Redis, eventually};

use crate::contract::{entry, key, now, redis_settings, run, until};
use crate::redis::reads;
use crate::{up, written};

const DISK: &str = "[cache.disk]\npath = \"kept\"\ndeadline = \"10s\"";

fn cache(lines: &str, redis: &Redis) -> String {
    format!("[cache]\nttl = \"1s\"\n{lines}\n[cache.redis]\nurl = {:?}\ndeadline = \"5s\"", redis.url())
}

fn its_time_is_over() {
    std::thread::sleep(Duration::from_millis(1_100));
}

fn reads_of(host: &Door, tier: &str) -> f64 {
    host.metrics().sum("pointsman_cache_reads_total", &[&format!("tier=\"{tier}\""), "outcome=\"hit\""])
}

/// One node has answered; another one, which has never seen the question, serves it stale and asks anew behind it, for both.
#[test]
fn another_node_serves_it_stale_and_asks_anew() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let start = || Host::new().upstream(&fake).section(&cache("stale_while_revalidate = \"1h\"", &redis)).start();
    let (one, other) = (start(), start());
    reads(&one);
    reads(&other);
    let first = one.chat("hi");
    assert_eq!(first.cache(), "miss");
    written(&one, "redis");
    let name = redis.ask(&["KEYS", "pointsman:entry:*"]);
    let longest = name.lines().map(|name| redis.ask(&["PTTL", name]).parse::<i64>().unwrap()).max().unwrap();
    assert!((3_590_000..=3_601_000).contains(&longest), "{longest} ms: its ttl, and an hour");
    its_time_is_over();
    let before = fake.count();
    let stale = other.chat("hi");
    assert_eq!((stale.cache(), stale.as_stored()), ("stale", first.text().to_owned()));
    assert!(stale.header("age").is_some_and(|age| age != "0"), "{:?}", stale.header("age"));
    fake.wait_for(before + 1);
    eventually("the new answer is there, on the first node too", || {
        let answer = one.chat("hi");
        (answer.as_stored() != first.text()).then_some(())
    });
}

/// In the place of an error, on a node that has it from Redis; until there is an error it is a miss.
#[test]
fn another_node_serves_it_in_the_place_of_an_error() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let start = || {
        let host = Host::new().upstream(&fake).provider("retries = 0");
        host.section(&cache("stale_if_error = \"1h\"", &redis)).start()
    };
    let (one, other) = (start(), start());
    reads(&one);
    reads(&other);
    let first = one.chat("hi");
    written(&one, "redis");
    its_time_is_over();
    let before = fake.count();
    fake.always(Act::refuse(500, "broken"));
    let stale = other.chat("hi");
    assert_eq!(
        (stale.cache(), stale.header("x-pointsman-degraded"), stale.as_stored()),
        ("stale", Some("stale"), first.text().to_owned())
    );
    assert_eq!(fake.count(), before + 1, "it was asked first");
    fake.always(Act::answer());
    let answer = other.chat("hi");
    assert_eq!((answer.cache(), answer.as_stored() != first.text()), ("miss", true));
}

/// The same from the disk of a process that was killed.
#[test]
fn it_outlives_the_process_as_stale() {
    let fake = FakeUpstream::start();
    let lines = format!("[cache]\nttl = \"1s\"\nstale_if_error = \"1h\"\n{DISK}");
    let mut host = Host::new().upstream(&fake).provider("retries = 0").section(&lines).spawn();
    up(&host, "disk");
    let first = host.chat("hi");
    written(&host, "disk");
    its_time_is_over();
    host.restart_after("KILL");
    up(&host, "disk");
    fake.always(Act::refuse(500, "broken"));
    let stale = host.chat("hi");
    assert_eq!((stale.status, stale.cache(), stale.as_stored()), (200, "stale", first.text().to_owned()), "{}", stale.text());
    assert_eq!((fake.count(), reads_of(&host, "disk")), (2, 1.0));
}

/// Beyond all windows it is a miss, and lies nowhere.
#[test]
fn beyond_its_windows_it_is_gone() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let lines = format!("{}\n{DISK}", cache("stale_while_revalidate = \"1s\"\nstale_if_error = \"1s\"", &redis));
    let host = Host::new().upstream(&fake).provider("retries = 0").section(&lines).start();
    up(&host, "disk");
    reads(&host);
    assert_eq!(host.chat("hi").cache(), "miss");
    written(&host, "redis");
    written(&host, "disk");
    eventually("Redis has let it go", || redis.ask(&["KEYS", "pointsman:entry:*"]).is_empty().then_some(()));
    std::thread::sleep(Duration::from_millis(100));
    fake.always(Act::refuse(500, "broken"));
    let hits = reads_of(&host, "redis") + reads_of(&host, "disk");
    let answer = host.chat("hi");
    assert_eq!((answer.status, answer.cache()), (500, "miss"));
    assert_eq!(reads_of(&host, "redis") + reads_of(&host, "disk"), hits, "no tier had it");
}

/// Redis was away when the newer answer was stored, and has an old one still: the disk's counts, and goes into Redis.
#[test]
fn a_newer_answer_behind_an_old_one_is_found() {
    run(async {
        let (server, folder) = (Redis::start(), tempfile::tempdir().unwrap());
        let hour = Duration::from_secs(3_600);
        let settings = |redis: bool| Settings {
            memory: 1 << 20,
            ttl: hour,
            stale_for: hour,
            revalidates_for: Duration::ZERO,
            max_entry: 1 << 20,
            replay_rate: 0,
            max_near: 0,
            near: None,
            flights: true,
            redis: redis.then(|| redis_settings(&server)),
            disk: Some(disk::Settings { path: folder.path().join("cache"), size: 1 << 20, deadline: Duration::from_secs(10) }),
        };
        let has = async |cache: &Cache, tier: &str| {
            until("the tier is up", async || cache.report()["tiers"][tier]["up"] == true).await;
        };
        let old = |cache: &Cache| Entry {
            created_at: now() - 2_000,
            stale: hour,
            stamp: cache.stamp(),
            ..entry("a", 1, Duration::from_secs(1))
        };
        // With Redis away there is a newer one on the disk alone.
        let alone = Cache::new(settings(false), None, false).unwrap();
        alone.start();
        has(&alone, "disk").await;
        assert!(alone.fill(entry("a", 7, hour), None));
        alone.settle(tests::SOON).await;
        let both = Cache::new(settings(true), Some(&alone), false).unwrap();
        both.start();
        until("it reads Redis", async || {
            both.fetch(&key("nobody's"), 0).await;
            both.report()["tiers"]["redis"]["up"] == true
        })
        .await;
        let redis = pointsman::cache::tier::redis::Redis::new(redis_settings(&server), Arc::default()).unwrap();
        let put = async |tier: &dyn pointsman::cache::tier::Tier, entry: Entry| {
            tier.put(&Arc::new(entry));
            tier.settle(tests::SOON).await;
        };
        pointsman::cache::tier::Tier::start(&redis);
        put(&redis, old(&both)).await;
        let (found, tier) = both.fetch(&key("a"), 0).await.expect("the newer one");
        assert_eq!((found.answer.len(), tier.as_str()), (7, "disk"));
        assert_eq!(both.exact(&key("a")).unwrap().answer.len(), 7);
        both.settle(tests::SOON).await;
        let other = Cache::new(Settings { disk: None, ..settings(true) }, None, false).unwrap();
        other.start();
        until("Redis has it too", async || {
            other.fetch(&key("a"), 0).await.is_some_and(|(found, tier)| (found.answer.len(), tier.as_str()) == (7, "redis"))
        })
        .await;

        // Where there is only an old one, that is for whoever has nothing else.
        put(&redis, Entry { key: key("b"), ..old(&both) }).await;
        assert!(both.fetch(&key("b"), 0).await.is_none());
        assert!(both.exact(&key("b")).is_none());
        assert_eq!(both.stale(&key("b")).unwrap().answer.len(), 1);
        // Nobody's old one takes the place of one that came meanwhile.
        assert!(both.fill(Entry { stamp: both.stamp(), ..entry("b", 3, hour) }, None));
        put(&redis, Entry { key: key("b"), ..old(&both) }).await;
        both.fetch(&key("b"), 0).await;
        assert_eq!(both.exact(&key("b")).unwrap().answer.len(), 3);
    });
}
