//! What every tier must do, whichever it is.
//!
//! **Invariant:** a tier is asked as the cache asks it: by its trait alone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pointsman::cache::Entry;
use pointsman::cache::entry::wire;
use pointsman::cache::key::{ExactKey, KeyBuilder};
use pointsman::cache::purge::{Purges, Read, Selector};
use pointsman::cache::tier::disk::{self, Disk};
use pointsman::cache::tier::memory::Memory;
use pointsman::cache::tier::redis::{self, Redis};
use pointsman::cache::tier::{Name, Tier};
use tests::SOON;
use tokio::time::sleep;

const LONG: Duration = Duration::from_secs(3600);
const BOUND: u64 = 300_000;

pub(crate) fn key(name: &str) -> ExactKey {
    KeyBuilder::new(name).exact()
}

pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

/// An entry whose answer is its name, so many times.
pub(crate) fn entry(name: &str, times: usize, ttl: Duration) -> Entry {
    Entry {
        text: Some(format!("What is {name}?").into()),
        partition: Some(KeyBuilder::new(name).partition()),
        tenant: "acme".into(),
        model: "small".into(),
        prompt: Some(("support".to_owned(), "3".to_owned())),
        tags: ["all".into(), name.into()].into(),
        ttl,
        ..Entry::new(key(name), Bytes::from(name.repeat(times)), now())
    }
}

pub(crate) fn redis_settings(server: &tests::Redis) -> redis::Settings {
    let url = server.url();
    let (host, port) = url.trim_start_matches("redis://").split_once(':').unwrap();
    redis::Settings {
        address: (host.to_owned(), port.parse().unwrap()),
        tls: false,
        database: 0,
        username: None,
        password: None,
        deadline: Duration::from_secs(5),
        prefix: "test:".to_owned(),
        cores: 2,
    }
}

pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let ends = tokio::time::Instant::now() + SOON;
    while !holds().await {
        assert!(tokio::time::Instant::now() < ends, "{what}: not within {SOON:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn contract(tier: Arc<dyn Tier>, purges: Arc<Purges>) {
    let settle = async || tier.settle(SOON).await;
    let put = async |entry: Entry| {
        tier.put(&Arc::new(entry));
        settle().await;
    };
    let get = async |name: &str| tier.get(&key(name), 1).await;
    assert!(get("a").await.is_none());
    put(entry("a", 10, LONG)).await;
    put(entry("b", 2_000, LONG)).await;
    let stale = Entry { stale: LONG, ..entry("old", 1, Duration::from_millis(1)) };
    put(stale).await;
    for (name, times) in [("a", 10), ("b", 2_000)] {
        let found = get(name).await.unwrap_or_else(|| panic!("{name} was put"));
        let expect = Entry { created_at: found.created_at, ..entry(name, times, LONG) };
        assert_eq!(wire::write(&found), wire::write(&expect), "all of it");
        assert!(found.is_fresh() && found.left() > LONG - SOON);
    }
    put(entry("a", 30, LONG)).await;
    assert_eq!(get("a").await.unwrap().answer.len(), 30, "the newer one counts");
    sleep(Duration::from_millis(20)).await;
    assert!(!get("old").await.unwrap().is_fresh(), "for those who have nothing else");
    if let Some((entries, _)) = tier.size() {
        assert_eq!(entries, 3);
    }
    put(entry("short", 1, Duration::from_millis(1))).await;
    sleep(Duration::from_millis(20)).await;
    assert!(get("short").await.is_none(), "its time is over");

    // What is purged is taken out, and nothing else.
    let held = get("a").await.unwrap();
    let rule = purges.make(Selector { tag: Some("a".to_owned()), ..Selector::default() }, now());
    assert!(!purges.spare(&held));
    // Until it has its place among all nodes' purges, what is asked for may be older than it.
    until("others are told", async || tier.name() != Name::Redis || purges.is_told(&rule)).await;
    until("a is taken out", async || get("a").await.is_none()).await;
    assert!(purges.spare(&get("b").await.unwrap()));
    put(Entry { stamp: purges.known(), ..entry("a", 1, LONG) }).await;
    assert_eq!(get("a").await.unwrap().answer.len(), 1, "whoever asks after the purge is served");
    purges.make(Selector::default(), now());
    until("all is taken out", async || get("a").await.is_none() && get("b").await.is_none()).await;
    if tier.size().is_some() {
        until("it is empty", async || tier.size().unwrap().0 == 0).await;
    }

    // More than there is room for: something goes, and the bound holds.
    for index in 0..1_000 {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(1_000).collect();
        let answer = Entry::new(key(&index.to_string()), noise.into(), now());
        tier.put(&Arc::new(Entry { ttl: LONG, stamp: purges.known(), ..answer }));
    }
    settle().await;
    if tier.size().is_some() {
        until("the bound holds", async || {
            settle().await;
            tier.size().unwrap().1 <= BOUND
        })
        .await;
        assert!(tier.size().unwrap().0 > 100, "{:?}", tier.size());
    }
    assert!(get("999").await.is_some() || tier.name() != Name::Redis);
}

pub(crate) fn run(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check);
}

#[test]
fn memory_keeps_the_contract() {
    run(async {
        let (tier, purges) = (Arc::new(Memory::new(BOUND)), Arc::<Purges>::default());
        purges.tell(Arc::downgrade(&tier) as _);
        contract(tier, purges).await;
    });
}

#[test]
fn disk_keeps_the_contract() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let settings = disk::Settings { path: folder.path().join("cache"), size: BOUND, deadline: SOON };
        let purges = Arc::<Purges>::default();
        let tier = Arc::new(Disk::new(settings, purges.clone()));
        purges.tell(Arc::downgrade(&tier) as _);
        assert!(tier.get(&key("a"), 0).await.is_none() && !folder.path().join("cache").exists(), "it has not started");
        tier.start();
        until("it is open", async || tier.numbers().unwrap().is_up()).await;
        contract(tier.clone(), purges.clone()).await;
        let numbers = tier.numbers().unwrap();
        assert_eq!((numbers.failed.get(), numbers.dropped.get(), numbers.begun_anew.get()), (0, 0, 0));
        assert!(numbers.evicted.get() >= 600, "{}", numbers.evicted.get());
    });
}

#[test]
fn redis_keeps_the_contract() {
    run(async {
        let server = tests::Redis::start();
        let purges = Arc::<Purges>::default();
        let tier = Arc::new(Redis::new(redis_settings(&server), purges.clone()).unwrap());
        purges.tell(Arc::downgrade(&tier) as _);
        tier.start();
        until("the log of purges is read", async || purges.read() == Read::Once).await;
        contract(tier.clone(), purges.clone()).await;
        let numbers = tier.numbers().unwrap();
        assert_eq!((numbers.failed.get(), numbers.dropped.get(), numbers.damaged.get()), (0, 0, 0));
        // Bytes of another version, or of nobody's, are a miss.
        server.ask(&["SET", &format!("test:entry:{}", key("x")), "\u{2}something else"]);
        assert!(tier.get(&key("x"), 0).await.is_none());
        // So is another entry under its name.
        tier.put(&Arc::new(Entry { stamp: purges.known(), ..entry("y", 3, LONG) }));
        tier.settle(SOON).await;
        server.ask(&["COPY", &format!("test:entry:{}", key("y")), &format!("test:entry:{}", key("z"))]);
        assert!(tier.get(&key("y"), 0).await.is_some() && tier.get(&key("z"), 0).await.is_none());
        assert_eq!(numbers.damaged.get(), 2);
    });
}
