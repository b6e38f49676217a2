//! Nodes that share a Redis.
//!
//! **Invariant:** what one node has answered, another one serves; to the same tenant alone.

use tests::{FakeUpstream, Host, Redis, Running, eventually};

use crate::{up, written};

fn section(redis: &Redis, more: &str) -> String {
    format!("[cache]\n[cache.redis]\nurl = {:?}\ndeadline = \"5s\"\n{more}", redis.url())
}

fn host(fake: &FakeUpstream, redis: &Redis) -> Running {
    let host = Host::new().upstream(fake).section(&section(redis, "")).start();
    reads(&host);
    host
}

/// Waits until it asks Redis: what was purged is known.
pub(crate) fn reads(host: &tests::Door) {
    up(host, "redis");
    eventually("it reads", || {
        host.chat(&format!("does it read, {}?", fastrand::u64(..)));
        (host.metrics().sum("pointsman_cache_reads_total", &["tier=\"redis\"", "outcome=\"miss\""]) > 0.0
            || host.metrics().sum("pointsman_cache_reads_total", &["tier=\"redis\"", "outcome=\"hit\""]) > 0.0)
            .then_some(())
    });
}

#[test]
fn nodes_share_entries() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let (one, other) = (host(&fake, &redis), host(&fake, &redis));
    let before = fake.count();
    let first = one.chat("hi");
    assert_eq!(first.cache(), "miss");
    written(&one, "redis");
    assert_eq!(other.chat("hi").header("x-pointsman-cache-tier"), Some("redis"));
    let again = other.chat("hi");
    assert_eq!(
        (again.cache(), again.header("x-pointsman-cache-tier"), again.as_stored()),
        ("exact", Some("memory"), first.text().to_owned())
    );
    assert_eq!(other.ask("hi").streamed().send().content(), first.content());
    assert_eq!(fake.count(), before + 1);
    assert!(redis.ask(&["KEYS", "*"]).contains("pointsman:entry:"));
    let ttl: i64 = redis.ask(&["TTL", redis.ask(&["KEYS", "pointsman:entry:*"]).lines().next().unwrap()]).parse().unwrap();
    assert!((3_000..=3_600).contains(&ttl), "{ttl}");
}

#[test]
fn tenants_share_nothing() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start());
    let start = || {
        let host = Host::new().upstream(&fake).key("a", "acme").key("b", "other").section(&section(&redis, ""));
        host.start()
    };
    let one = start();
    // Entries of a node belong to tenants, not to keys: the second node has keys of its own.
    let other = start();
    up(&one, "redis");
    up(&other, "redis");
    assert_eq!(one.ask("hi").key("a").send().cache(), "miss");
    written(&one, "redis");
    assert_eq!(other.ask("hi").key("b").send().cache(), "miss");
    eventually("acme's own", || (other.ask("hi").key("a").send().cache() == "exact").then_some(()));
}

#[test]
fn a_password_is_a_secret_and_a_wrong_one_costs_misses() {
    let (fake, redis) = (FakeUpstream::start(), Redis::start_with(&["--requirepass", "correct horse"]));
    let right = Host::new().upstream(&fake).file("password", b"correct horse\n");
    let right = right.section(&section(&redis, "password = \"file:password\"")).spawn();
    reads(&right);
    let wrong = Host::new().upstream(&fake).file("password", b"hunter2\n");
    let wrong = wrong.section(&section(&redis, "password = \"file:password\"")).spawn();
    for host in [&right, &wrong] {
        assert_eq!((host.chat("hi").status, host.chat("hi").cache()), (200, "exact"));
        let told = [host.log().join("\n"), host.admin("/metrics").text().to_owned(), host.admin("/api/cache").text().to_owned()];
        assert!(told.iter().all(|told| !told.contains("correct horse") && !told.contains("hunter2")));
    }
    assert_eq!(wrong.metrics().sum("pointsman_cache_tier_up", &["tier=\"redis\""]), 0.0);
}

#[test]
fn nobody_there_at_the_start_costs_nothing() {
    let (fake, mut redis) = (FakeUpstream::start(), Redis::start());
    redis.stop();
    let host = Host::new().upstream(&fake).section(&section(&redis, "")).start();
    assert_eq!((host.chat("hi").status, host.chat("hi").cache()), (200, "exact"));
    redis.start_again();
    reads(&host);
    host.chat("later");
    eventually("it is written", || redis.ask(&["KEYS", "*"]).contains("entry:").then_some(()));
}

/// A change of what Redis is asked by leaves what is in memory.
#[test]
fn a_reload_changes_redis_and_keeps_memory() {
    let (fake, one, other) = (FakeUpstream::start(), Redis::start(), Redis::start());
    let host = host(&fake, &one);
    assert_eq!(host.chat("hi").cache(), "miss");
    let done = host.api("/api/reload")["done"].as_u64().unwrap();
    host.folder.change(&one.url(), &other.url());
    eventually("the reload", || (host.api("/api/reload")["done"].as_u64().unwrap() > done).then_some(()));
    assert_eq!(host.chat("hi").header("x-pointsman-cache-tier"), Some("memory"));
    host.chat("later");
    eventually("it goes to the other one", || other.ask(&["KEYS", "*"]).contains("entry:").then_some(()));
}
