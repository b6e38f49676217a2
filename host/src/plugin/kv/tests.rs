//! The store by itself: bounds, ends, races.

use super::*;

const LIMITS: Limits = Limits { memory: 64 << 10, tenant_memory: 16 << 10, tenant_entries: 20 };

fn set(kv: &Kv, tenant: &str, key: &str, value: &str, ttl: Option<u32>) -> Result<(), KvError> {
    kv.set(&LIMITS, tenant, key, value.as_bytes().to_vec(), ttl)
}

fn get(kv: &Kv, tenant: &str, key: &str) -> Option<String> {
    kv.get(tenant, key).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn cas(kv: &Kv, key: &str, expected: Option<&str>, value: &str) -> bool {
    kv.compare_and_set(&LIMITS, "a", key, expected.map(str::as_bytes), value.as_bytes().to_vec(), None).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_set_is_there_for_its_tenant_until_it_is_deleted() {
    let kv = Kv::default();
    assert_eq!((get(&kv, "a", "k"), kv.delete("a", "k")), (None, Ok(false)));
    set(&kv, "a", "k", "one", None).unwrap();
    set(&kv, "b", "k", "two", None).unwrap();
    assert_eq!((get(&kv, "a", "k").as_deref(), get(&kv, "b", "k").as_deref()), (Some("one"), Some("two")));
    assert_eq!((kv.delete("a", "k"), get(&kv, "a", "k")), (Ok(true), None));
    assert_eq!(get(&kv, "b", "k").as_deref(), Some("two"));
    assert_eq!(kv.delete("b", "k"), Ok(true));
    assert_eq!(kv.sums(), (0, 0), "nothing is left");
    assert!(kv.shards.iter().all(|shard| shard.lock().unwrap().is_empty()));
}

#[tokio::test(start_paused = true)]
async fn counters() {
    let kv = Kv::default();
    let add = |key: &str, delta: i64| kv.increment(&LIMITS, "a", key, delta, None);
    assert_eq!((add("n", 5), add("n", -7), get(&kv, "a", "n").as_deref()), (Ok(5), Ok(-2), Some("-2")));
    assert_eq!((add("n", i64::MIN), add("n", -1)), (Ok(i64::MIN), Ok(i64::MIN)), "it stays at the end of the range");
    set(&kv, "a", "text", "41", None).unwrap();
    assert_eq!((add("text", 1), kv.sums().1), (Ok(42), 2));
    for text in ["", "many", "1.5", "9223372036854775808"] {
        set(&kv, "a", "text", text, None).unwrap();
        assert_eq!((add("text", 1), get(&kv, "a", "text").as_deref()), (Err(KvError::NotANumber), Some(text)));
    }
    assert!(cas(&kv, "n", Some(&i64::MIN.to_string()), "0"), "a counter is its digits");
    assert_eq!(add("n", 1), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn compare_and_set() {
    let kv = Kv::default();
    assert!(!cas(&kv, "k", Some(""), "x") && cas(&kv, "k", None, "one"));
    assert!(!cas(&kv, "k", None, "x") && !cas(&kv, "k", Some("two"), "x"));
    assert!(cas(&kv, "k", Some("one"), "two"));
    assert_eq!(get(&kv, "a", "k").as_deref(), Some("two"));
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_found_by_nobody() {
    let kv = Kv::default();
    let pass = |ms| tokio::time::advance(Duration::from_millis(ms));
    set(&kv, "a", "k", "one", Some(100)).unwrap();
    assert_eq!(kv.increment(&LIMITS, "a", "n", 1, Some(100)), Ok(1));
    pass(99).await;
    assert_eq!(get(&kv, "a", "k").as_deref(), Some("one"));
    // A counter keeps the time that it has; a value that is set anew has a new one, or none.
    assert_eq!(kv.increment(&LIMITS, "a", "n", 1, Some(100)), Ok(2));
    set(&kv, "a", "stays", "x", Some(1)).unwrap();
    set(&kv, "a", "stays", "y", None).unwrap();
    pass(1).await;
    assert_eq!((get(&kv, "a", "k"), kv.delete("a", "k")), (None, Ok(false)));
    assert_eq!(kv.increment(&LIMITS, "a", "n", 1, Some(100)), Ok(1), "it begins anew, with a new time");
    assert_eq!(get(&kv, "a", "stays").as_deref(), Some("y"));
    pass(99).await;
    assert_eq!(get(&kv, "a", "n").as_deref(), Some("1"));
    pass(1).await;
    assert!(cas(&kv, "n", None, "zero"));
    set(&kv, "a", "at once", "x", Some(0)).unwrap();
    assert_eq!(get(&kv, "a", "at once"), None);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_its_bounds_and_its_neighbour_its_own() {
    let kv = Kv::default();
    for index in 0..20 {
        set(&kv, "a", &index.to_string(), "x", Some(100)).unwrap();
    }
    assert_eq!(set(&kv, "a", "more", "x", None), Err(KvError::Quota), "twenty entries");
    assert_eq!(kv.increment(&LIMITS, "a", "more", 1, None), Err(KvError::Quota));
    set(&kv, "a", "7", "another", Some(100)).unwrap();
    set(&kv, "b", "more", "x", None).unwrap();
    assert_eq!((kv.delete("a", "3"), set(&kv, "a", "more", "x", Some(100))), (Ok(true), Ok(())));
    assert_eq!(set(&kv, "a", "even more", "x", None), Err(KvError::Quota));
    // What is over counts for nothing, at once.
    tokio::time::advance(Duration::from_millis(100)).await;
    let big = "x".repeat(14 << 10);
    set(&kv, "a", "big", &big, None).unwrap();
    assert_eq!(set(&kv, "a", "second", &big, None), Err(KvError::Quota), "16 KiB");
    assert_eq!((get(&kv, "a", "second"), get(&kv, "a", "big").map(|text| text.len())), (None, Some(big.len())));
    assert_eq!(set(&kv, "a", "big", &"x".repeat(16 << 10), None), Err(KvError::Quota));
    assert_eq!(get(&kv, "a", "big").map(|text| text.len()), Some(big.len()), "as before");
    assert_eq!(kv.refused.each_ref().map(Count::get), [0, 5, 0]);
    // Smaller limits leave what is there, and let it shrink.
    let smaller = Limits { tenant_memory: 4 << 10, ..LIMITS };
    assert_eq!(kv.set(&smaller, "a", "big", vec![0; 13 << 10], None), Ok(()));
    assert_eq!(kv.set(&smaller, "a", "big", vec![0; 14 << 10], None), Err(KvError::Quota));
}

#[tokio::test(start_paused = true)]
async fn all_tenants_together_have_theirs() {
    let kv = Kv::default();
    let big = "x".repeat(12 << 10);
    let refused = (0..10_000).filter(|tenant| set(&kv, &tenant.to_string(), "k", &big, Some(1_000)).is_err()).count();
    assert_eq!(refused, 10_000 - 4, "four times 12 KiB and more");
    assert!(kv.sums().0 <= LIMITS.memory && kv.sums().1 == 4, "{:?}", kv.sums());
    assert!(
        kv.shards.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>() <= 4,
        "tenants without entries are not there"
    );
    assert_eq!(kv.refused[2].get(), refused as u64);
    // What is over of others gives room; nobody has asked for it since.
    tokio::time::advance(Duration::from_millis(1_000)).await;
    set(&kv, "late", "k", &big, None).unwrap();
    assert_eq!(kv.sums().1, 1);
}

#[tokio::test(start_paused = true)]
async fn keys_and_values_have_a_length() {
    let kv = Kv::default();
    let wide = Limits { memory: 1 << 20, tenant_memory: 1 << 20, tenant_entries: 20 };
    assert_eq!(kv.set(&wide, "a", &"k".repeat(256), vec![0; 64 << 10], None), Ok(()));
    assert_eq!(kv.set(&wide, "a", "k", vec![0; (64 << 10) + 1], None), Err(KvError::TooLarge));
    for key in ["", &"k".repeat(257)] {
        assert_eq!(kv.get("a", key), Err(KvError::TooLarge));
        assert_eq!(kv.delete("a", key), Err(KvError::TooLarge));
        assert_eq!(kv.increment(&wide, "a", key, 1, None), Err(KvError::TooLarge));
        assert_eq!(kv.compare_and_set(&wide, "a", key, None, vec![], None), Err(KvError::TooLarge));
    }
    assert_eq!(kv.refused[0].get(), 9);
}

/// The sums are those of the entries, whatever was done to them.
#[tokio::test(start_paused = true)]
async fn sums_stay_true() {
    let kv = Kv::default();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..20_000 {
        let (tenant, key) = (random.u8(..6).to_string(), random.u8(..40).to_string());
        let (value, ttl) = (vec![b'1'; random.usize(..900)], random.bool().then(|| random.u32(..50)));
        let _ = match random.u8(..5) {
            0 => kv.set(&LIMITS, &tenant, &key, value, ttl),
            1 => kv.delete(&tenant, &key).map(drop),
            2 => kv.increment(&LIMITS, &tenant, &key, 1, ttl).map(drop),
            3 => kv.compare_and_set(&LIMITS, &tenant, &key, None, value, ttl).map(drop),
            _ => {
                tokio::time::advance(Duration::from_millis(random.u64(..3))).await;
                Ok(())
            }
        };
        let (bytes, entries) = kv.sums();
        assert!(bytes <= LIMITS.memory);
        let told: (usize, usize) = kv.shards.iter().fold((0, 0), |(bytes, entries), shard| {
            let shard = shard.lock().unwrap();
            (bytes + shard.values().map(Tenant::recount).sum::<usize>(), entries + shard.values().map(Tenant::len).sum::<usize>())
        });
        assert_eq!((bytes, entries), told);
    }
}

#[test]
fn no_step_comes_between_another() {
    let kv = Kv::default();
    const THREADS: i64 = 8;
    const STEPS: i64 = 2_000;
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..STEPS {
                    kv.increment(&LIMITS, "a", "added", 1, None).unwrap();
                    loop {
                        let was = get(&kv, "a", "set");
                        let next = was.as_ref().map_or(0, |text| text.parse::<i64>().unwrap()) + 1;
                        if cas(&kv, "set", was.as_deref(), &next.to_string()) {
                            break;
                        }
                    }
                }
            });
        }
    });
    let expect = (THREADS * STEPS).to_string();
    assert_eq!((get(&kv, "a", "added"), get(&kv, "a", "set")), (Some(expect.clone()), Some(expect)));
}
