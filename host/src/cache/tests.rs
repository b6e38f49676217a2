//! The order of tiers, and what a reload keeps.
//!
//! What it does not do: the tiers behind memory are tried in `tests/tests/tiers`, with files and a Redis.
//!
//! **Invariant:** time is tokio's, and paused.

use bytes::Bytes;

use super::key::KeyBuilder;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn settings() -> Settings {
    // A calibration of somebody who has never seen a wrong one.
    let mut tally = trust::levels::Tally::default();
    tally.add_many(Level::of(0.0), 1e6, 0.0);
    let calibration = Some(Calibration { embedder: "m@1".to_owned(), requests: 1, tally });
    let trust = trust::Settings { wrong_hits: 0.5, audit: 0.0 };
    let near = Some(NearSettings { embedder: "m@1".to_owned(), trust, calibration });
    Settings {
        memory: 1 << 20,
        ttl: MINUTE,
        stale_for: MINUTE,
        revalidates_for: Duration::ZERO,
        max_entry: 1 << 10,
        replay_rate: 0,
        max_near: 10,
        near,
        flights: true,
        redis: None,
        disk: None,
    }
}

fn cache(settings: Settings) -> Cache {
    Cache::new(settings, None, true).unwrap()
}

fn entry(cache: &Cache, stale: Duration) -> Entry {
    Entry {
        text: Some("how are you".into()),
        partition: Some(KeyBuilder::new("t").partition()),
        ttl: MINUTE,
        stale,
        stamp: cache.stamp(),
        tags: ["blue".into()].into(),
        ..Entry::new(KeyBuilder::new("t").exact(), Bytes::from_static(b"x"), 0)
    }
}

/// Exact, near, past its time.
fn found(cache: &Cache) -> (bool, bool, bool) {
    let (key, partition) = (KeyBuilder::new("t").exact(), KeyBuilder::new("t").partition());
    let tenant: Arc<str> = "t".into();
    let asked = Asked { tenant: &tenant, partition: &partition, vector: &[1.0, 0.0], text: "how are you", least: 0.9 };
    let near = cache.near(&asked).is_some_and(|found| found.serve);
    (cache.exact(&key).is_some(), near, cache.stale(&key).is_some())
}

/// What is kept for those who have no other answer is nobody else's hit, exact or near.
#[tokio::test(start_paused = true)]
async fn what_is_old_is_found_by_who_asks_for_it() {
    let cache = cache(settings());
    cache.fill(entry(&cache, MINUTE), Some(&[1.0, 0.0]));
    assert_eq!(found(&cache), (true, true, true));
    tokio::time::advance(MINUTE).await;
    assert_eq!(found(&cache), (false, false, true));
    let shorter = Cache::new(Settings { stale_for: Duration::ZERO, ..settings() }, Some(&cache), true).unwrap();
    assert_eq!(found(&shorter), (false, false, false), "a reload counts for what is there");
    tokio::time::advance(MINUTE).await;
    assert_eq!(found(&cache), (false, false, false));
}

#[tokio::test(start_paused = true)]
async fn what_is_purged_is_found_by_nobody() {
    let cache = cache(settings());
    let on_its_way = entry(&cache, MINUTE);
    cache.fill(entry(&cache, MINUTE), Some(&[1.0, 0.0]));
    let held = cache.exact(&KeyBuilder::new("t").exact()).unwrap();
    let other = cache.purge(Selector { tag: Some("red".to_owned()), ..Selector::default() }).await;
    assert_eq!((other, found(&cache)), (Purged { entries: 0, told: None }, (true, true, true)));
    let purged = cache.purge(Selector { tag: Some("blue".to_owned()), ..Selector::default() }).await;
    // Somebody still has it, so the index of near hits does too.
    assert_eq!((purged.entries, found(&cache), held.tags.len()), (1, (false, false, false), 1));
    assert!(!cache.fill(on_its_way, Some(&[1.0, 0.0])), "whoever made it did not know");
    assert_eq!(found(&cache), (false, false, false));
    assert!(cache.fill(entry(&cache, MINUTE), Some(&[1.0, 0.0])));
    assert_eq!(found(&cache), (true, true, true));
}

#[tokio::test(start_paused = true)]
async fn entries_outlive_settings_that_go_with_them() {
    let before = Settings { stale_for: Duration::ZERO, max_near: 0, ..settings() };
    let near = Settings { max_near: 100, ..before.clone() };
    let longer = Duration::from_secs(90);
    for (before, after, stays) in [
        (&before, before.clone(), true),
        (&before, Settings { max_entry: 1, ..before.clone() }, true),
        (&before, Settings { ttl: longer, ..before.clone() }, true),
        (&before, Settings { ttl: Duration::from_secs(1), ..before.clone() }, false),
        (&before, Settings { memory: 2 << 20, ..before.clone() }, false),
        (&before, near.clone(), false),
        (&near, Settings { max_entry: 1, ..near.clone() }, true),
        (&near, Settings { ttl: longer, ..near.clone() }, false),
    ] {
        let cache = cache(before.clone());
        cache.fill(entry(&cache, Duration::ZERO), None);
        let next = |keeps_memory| found(&Cache::new(after.clone(), Some(&cache), keeps_memory).unwrap()).0;
        assert_eq!((next(true), next(false)), (stays, false), "{before:?} {after:?}");
    }
}
