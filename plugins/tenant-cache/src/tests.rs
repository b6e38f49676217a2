//! What the functions of `lib.rs` say of texts, and what the hooks make of it.

use pointsman_plugin::Role;
use pointsman_plugin::mock::{Answer, Host, candidate, json};

use super::*;

#[test]
fn the_same_question_has_one_spelling() {
    let same = [
        ("What is the capital of France?", "  what is  the capital of France? "),
        ("It does not light up.", "IT DOES NOT LIGHT UP."),
        ("Hello. Who are you?", "hello. who are you?"),
        ("List them:\na\nb", "list them:\r\na\r\nb\n"),
    ];
    for (a, b) in same {
        assert_eq!(normalised(a), normalised(b));
    }
}

#[test]
fn what_means_something_stays() {
    let different = [
        ("Does it help us?", "Does it help US?"),
        ("how do I polish boots", "how do I Polish boots"),
        ("US", "us"),
        ("iPhone", "iphone"),
        ("Fix: if x:\n  y()", "Fix: if x:\n y()"),
        ("print 'A'", "print 'a'"),
        ("Say \"A  b\"", "Say \"A b\""),
        ("print('A  b')", "print('a b')"),
        ("rename 'A  b'", "rename 'a b'"),
        ("one\ntwo", "one two"),
        ("x_A", "x_a"),
    ];
    for (a, b) in different {
        assert_ne!(normalised(a), normalised(b));
    }
}

#[test]
fn private_data() {
    let words = ["Internal only".to_owned()];
    let private = [
        "Write to ada@example.org, please",
        "mail: ada.l+x@mail.example.co.uk.",
        "my card is 4111 1111 1111 1111",
        "pay 12 with 4111-1111-1111-1111 now",
        "378282246310005",
        "this is INTERNAL ONLY",
    ];
    let public = [
        "@ada says hi",
        "5 @ 3.50 each",
        "call 4111 1111 1111 1112",
        "1 2 3 4 5 6 7 8",
        "2026-11-24 10:30",
        "international only",
        "",
    ];
    assert!(private.iter().all(|text| is_private(text, &words)), "{:?}", private.map(|text| is_private(text, &words)));
    assert!(!public.iter().any(|text| is_private(text, &words)), "{:?}", public.map(|text| is_private(text, &words)));
}

#[test]
fn numbers_in_order() {
    let same = |a: &str, b: &str| numbers(a).eq(numbers(b));
    assert!(same("Convert 5 km.", "5 km, converted"));
    assert!(same("no number", "none"));
    assert!(!same("from 3 to 5", "from 5 to 3"));
    assert!(!same("version 1.2", "version 1.20"));
    assert!(!same("10", "100"));
    assert!(!same("a 7", "a"));
}

#[test]
fn languages() {
    for (header, expect) in [("de-AT,en;q=0.8", "de"), ("EN", "en"), ("fr;q=0.5", "fr"), ("", "")] {
        assert_eq!(primary(header), expect);
    }
}

#[test]
fn apologies_are_not_kept() {
    for answer in ["", "  \n", "I’m sorry, but I can't.", "Sorry!", "As an AI model, …", "I cannot help."] {
        assert!(!is_worth_keeping(answer), "{answer}");
    }
    for answer in ["Paris.", "The word for it is \"sorry\".", "0"] {
        assert!(is_worth_keeping(answer), "{answer}");
    }
}

#[test]
fn who_shares() {
    let asked = || Host::new().message(Role::User, "What is 5 km in miles?").header("accept-language", "de-AT,en;q=0.8");
    let Ok(Directive::Key(key)) = asked().key::<TenantCache>() else { panic!("it has a key") };
    assert_eq!((key.scope, key.exact), (Scope::Tenant, Some(vec!["what is 5 km in miles?".to_owned()])));
    assert_eq!(key.semantic.map(|near| (near.partition, near.confirm)), Some((vec!["de".to_owned()], true)));
    let by_user = asked().config("user", "x-user-id");
    assert_eq!(by_user.key::<TenantCache>(), Ok(Directive::Bypass), "nobody knows whose it is");
    let Ok(Directive::Key(key)) = by_user.header("x-user-id", "ada").key::<TenantCache>() else { panic!("it has a key") };
    assert_eq!(key.scope, Scope::Custom("ada".into()));
    assert_eq!(asked().header("x-no-cache", "1").key::<TenantCache>(), Ok(Directive::Bypass));
    let private = asked().config("private", json!(["miles"]));
    assert_eq!(private.key::<TenantCache>(), Ok(Directive::Bypass));
    assert!(asked().config("private", json!([""])).check(<TenantCache as Caching>::check).is_err());
}

#[test]
fn what_a_near_hit_and_an_answer_must_be() {
    let host = Host::new().message(Role::User, "What is 5 km in miles?");
    assert_eq!(host.confirm::<TenantCache>(&candidate("5 km, what is it in miles?", "3.1")), Ok(Verdict::Serve));
    assert_eq!(host.confirm::<TenantCache>(&candidate("What is 50 km in miles?", "31")), Ok(Verdict::Veto));
    assert_eq!(host.admit::<TenantCache>(&Answer::of("3.1 miles.")), Ok(Admission::Keep));
    assert_eq!(host.admit::<TenantCache>(&Answer::of("I'm sorry, but I can't.")), Ok(Admission::Refuse));
}
