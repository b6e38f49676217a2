//! Rules, and the entries that they take.
//!
//! What it does not do: it asks no tier and no other node.
//!
//! **Invariant:** an entry that was asked for after a rule was known is never taken by it.

use bytes::Bytes;

use super::*;
use crate::cache::key::KeyBuilder;

fn entry(stamp: Stamp) -> Entry {
    Entry {
        tenant: "acme".into(),
        model: "small".into(),
        prompt: Some(("support".to_owned(), "3".to_owned())),
        tags: ["blue".into(), "42".into()].into(),
        partition: Some(KeyBuilder::new("acme").partition()),
        stamp,
        ..Entry::new(KeyBuilder::new("acme").exact(), Bytes::new(), 0)
    }
}

fn selector(text: &str) -> Selector {
    serde_json::from_str(text).unwrap()
}

#[test]
fn what_a_selector_means() {
    let (key, partition) = (KeyBuilder::new("acme").exact(), KeyBuilder::new("acme").partition());
    let other = KeyBuilder::new("other").exact();
    let cases = [
        ("{}".to_owned(), true),
        (format!("{{\"key\":\"{key}\"}}"), true),
        (format!("{{\"key\":\"{other}\"}}"), false),
        (format!("{{\"partition\":\"{partition}\"}}"), true),
        (format!("{{\"partition\":\"{other}\"}}"), false),
        ("{\"tag\":\"blue\"}".to_owned(), true),
        ("{\"tag\":\"blu\"}".to_owned(), false),
        ("{\"tenant\":\"acme\"}".to_owned(), true),
        ("{\"tenant\":\"acm\"}".to_owned(), false),
        ("{\"model\":\"small\"}".to_owned(), true),
        ("{\"model\":\"large\"}".to_owned(), false),
        ("{\"prompt\":\"support\"}".to_owned(), true),
        ("{\"prompt\":\"support@3\"}".to_owned(), true),
        ("{\"prompt\":\"support@4\"}".to_owned(), false),
        ("{\"prompt\":\"suppor\"}".to_owned(), false),
        ("{\"tag\":\"42\",\"tenant\":\"acme\"}".to_owned(), true),
        ("{\"tag\":\"42\",\"tenant\":\"other\"}".to_owned(), false),
    ];
    for (text, expect) in cases {
        assert_eq!(selector(&text).means(&entry(Stamp(0))), expect, "{text}");
        assert_eq!(serde_json::to_string(&selector(&text)).unwrap(), text);
    }
    assert!(serde_json::from_str::<Selector>("{\"tags\":\"x\"}").is_err(), "what is not known means nobody knows what");
    assert!(serde_json::from_str::<Selector>("{\"key\":\"12\"}").is_err());
}

/// Nobody knows yet which model will answer, so what is said of a model may be said of it.
#[test]
fn what_a_selector_may_mean() {
    let coming = Entry { model: Arc::default(), ..entry(Stamp(0)) };
    for (text, means, may_mean) in [
        ("{}", true, true),
        ("{\"model\":\"large\"}", false, true),
        ("{\"model\":\"large\",\"tag\":\"blue\"}", false, true),
        ("{\"model\":\"large\",\"tag\":\"red\"}", false, false),
        ("{\"tenant\":\"other\"}", false, false),
    ] {
        assert_eq!((selector(text).means(&coming), selector(text).may_mean(&coming)), (means, may_mean), "{text}");
        let purges = Purges::default();
        let bound = purges.make(selector(text), 1_000).bound;
        assert_eq!(purges.spare_coming(&coming), !may_mean, "{text}");
        assert!(purges.spare_coming(&Entry { stamp: bound, ..entry(bound) }), "{text}: it was known");
    }
}

#[test]
fn what_was_on_its_way_is_gone_and_what_comes_later_stays() {
    let purges = Purges::default();
    let before = entry(purges.known());
    assert!(purges.spare(&before));
    let rule = purges.make(selector("{\"tag\":\"blue\"}"), 1_000);
    let on_its_way = entry(before.stamp);
    assert!(!purges.spare(&before) && !purges.spare(&on_its_way));
    let later = entry(purges.known());
    assert!(purges.spare(&later) && purges.spare(&later));
    // A node's clock that was set back makes no difference.
    let second = purges.make(selector("{\"model\":\"small\"}"), 1);
    assert!(second.bound > rule.bound && !purges.spare(&later));
    assert!(purges.spare(&entry(purges.known())));
    purges.make(selector("{\"tag\":\"other\"}"), 2_000);
    assert!(purges.spare(&entry(second.bound)), "another's purge");
}

#[test]
fn a_rule_that_is_learnt_late_counts_all_the_same() {
    let purges = Purges::default();
    let rule = |at, text| Rule { selector: selector(text), bound: Stamp::at(at, 0), told: Told::Logged };
    purges.learn(rule(5, "{\"tag\":\"other\"}"), true);
    let held = entry(Stamp(0));
    assert!(purges.spare(&held));
    purges.learn(rule(3, "{\"tag\":\"blue\"}"), true);
    assert!(!purges.spare(&held), "it was held against the later rule alone");
    assert!(purges.spare(&entry(Stamp::at(3, 0))));
    assert_eq!(purges.elsewhere.get(), 2);
    purges.learn(rule(2, "{\"tag\":\"blue\"}"), true);
    assert_eq!((purges.elsewhere.get(), purges.rules().len()), (2, 2), "nothing new");
    purges.learn(rule(9, "{}"), true);
    assert_eq!(purges.rules().len(), 1, "all is more than some");
}

#[test]
fn rules_are_bounded_and_none_is_forgotten() {
    let purges = Purges::default();
    let old = entry(Stamp(0));
    purges.make(selector("{\"tag\":\"blue\"}"), 1);
    for index in 0..MAX_RULES as u64 + 100 {
        purges.make(selector(&format!("{{\"tag\":\"tag-{index}\"}}")), 2 + index);
    }
    assert!(purges.rules().len() <= MAX_RULES);
    assert!(!purges.spare(&old));
    assert!(purges.spare(&entry(purges.known())));
    assert!(purges.rules().is_sorted_by_key(|rule| rule.bound));
}

#[test]
fn a_log_that_is_lost_is_written_again() {
    let purges = Purges::default();
    let made = purges.make(selector("{\"tag\":\"blue\"}"), 1_000);
    assert!(!purges.is_told(&made));
    purges.learn(Rule { told: Told::Logged, ..made.clone() }, false);
    assert!(purges.is_told(&made));
    purges.lost(|_| true);
    assert!(purges.is_told(&made));
    purges.lost(|_| false);
    assert_eq!(purges.rules()[0].told, Told::Lost);
}
