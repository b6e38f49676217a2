//! Trust in near hits, through the whole host and the command line: hard pairs, marks, audits, and what the measuring commands say.
//!
//! Bounds, ledgers and guards have their own tests beside their code.

use pointsman::embed::built_in::BuiltIn;
use serde_json::{Value, json};
use tests::pairs::{Pair, hard, paraphrases, served};
use tests::{Act, FakeUpstream, Host, Running, eventually};

/// The default: the model inside pointsman, and 3 % that may be wrong.
#[test]
fn no_hard_pair_is_served_by_default() {
    let (model, hard, same) = (BuiltIn::new().unwrap(), hard(), paraphrases());
    assert!(hard.len() >= 200 && same.len() >= 200, "{} {}", hard.len(), same.len());
    let wrong = served(&model, 0.03, &hard);
    assert!(wrong.is_empty(), "{wrong:#?}");
    let right = served(&model, 0.03, &same).len();
    assert!(right * 20 >= same.len(), "only {right} of {} paraphrases are served", same.len());
}

fn host(line: &str) -> (FakeUpstream, Running) {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).section(&format!("[cache]\n[cache.semantic]\n{line}")).start();
    (fake, host)
}

#[test]
fn an_answer_that_is_marked_is_gone_and_counts() {
    let (fake, host) = host("audit = 0.0");
    host.chat("How do I reset my password?");
    let hit = host.chat("how do i reset my password");
    assert_eq!(hit.cache(), "semantic");
    let entry = hit.header("x-pointsman-cache-entry").expect("a hit says which entry it is").to_owned();
    let said = host.tell(&format!("/api/cache/entries/{entry}/wrong"), &json!({})).json();
    assert_eq!((&said["found"], &said["counted"]), (&json!(true), &json!(true)));
    assert_eq!(host.chat("how do i reset my password ?").cache(), "miss");
    assert_eq!(fake.count(), 2);
    let report = host.api("/api/cache/report");
    assert_eq!(report["semantic"]["marked_wrong"], 1);
    assert_eq!(report["semantic"]["worst"][0]["entry"], entry);
    assert_eq!((&report["lookups"]["semantic"], &report["lookups"]["miss"]), (&json!(1), &json!(2)));
    assert_eq!(host.tell("/api/cache/entries/zz/wrong", &json!({})).status, 400);
}

/// Every hit is audited, and the model says something else each time: after a few of them nobody is served, and the host says so.
#[test]
fn hits_that_are_wrong_too_often_end() {
    let (fake, host) = host("audit = 1.0");
    for (number, word) in ["apples", "bread", "cheese", "dates", "eggs", "fish", "garlic", "honey"].iter().enumerate() {
        fake.next(Act::say(format!("Number {number} of something that is all about {word}.")));
        host.chat(&format!("How do I store {word}?"));
    }
    fake.always(Act::say("The parliament met yesterday, and voted on the budget of 1848."));
    let mut asked = 0;
    for word in ["apples", "bread", "cheese", "dates", "eggs", "fish", "garlic", "honey"] {
        let before = fake.count();
        let answer = host.chat(&format!("how do i store {word}"));
        if answer.cache() == "semantic" {
            asked += 1;
            eventually("the hit is audited", || (fake.count() > before).then_some(()));
            let audits = || host.metrics().sum("pointsman_cache_audits_total", &["of=\"hit\""]);
            eventually("and counted", || (audits() >= f64::from(asked)).then_some(()));
        }
    }
    assert!(asked >= 1);
    let is_off = || host.api("/api/cache/report")["semantic"]["accounts"][0]["serving"] == false;
    eventually("it is off", || is_off().then_some(()));
    assert_eq!(host.chat("how do i store honey ?").cache(), "miss");
    let report = host.api("/api/cache/report");
    assert!(report["semantic"]["overall"]["wrong"].as_f64().unwrap() >= 1.0, "{report}");
    let sent = fake.requests();
    assert!(sent.iter().all(|request| request.json().get("stream").is_none()));
}

/// What `cache evaluate` says of labelled pairs.
fn evaluate(arguments: &[&str]) -> Value {
    let (code, out, err) = tests::binary::run(&[&["cache", "evaluate", "--json"], arguments].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

#[test]
fn the_measuring_commands_say_what_the_tier_does() {
    let host = Host::new();
    let rows = |pairs: Vec<Pair>, label| pairs.into_iter().map(move |(a, b)| format!("{a}\t{b}\t{label}\n")).collect::<String>();
    let text = format!("a\tb\tlabel\n{}{}", rows(hard(), 0), rows(paraphrases(), 1));
    host.folder().write("pairs.tsv", text.as_bytes());
    let path = host.path("pairs.tsv");
    let file = path.to_str().unwrap();
    let first = evaluate(&["--stream", file, "--wrong-hits", "0.05"]);
    assert_eq!(first, evaluate(&["--stream", file, "--wrong-hits", "0.05"]), "the same seed, the same run");
    let number = |said: &Value, name: &str| said[name].as_f64().unwrap();
    assert!(number(&first, "hits") >= 20.0 && number(&first, "wrong") <= 0.05 * number(&first, "hits"), "{first}");
    assert!(number(&first, "upper_bound") <= 0.05 && number(&first, "requests") > 500.0, "{first}");
    let cold = evaluate(&["--stream", file, "--wrong-hits", "0.05", "--cold"]);
    assert!(number(&cold, "hits") < number(&first, "hits") && cold["start"] == "cold", "{cold}");
    // A calibration is for the model that it was made with, and the host takes it.
    let out = host.path("calibration.json");
    let (code, said, err) =
        tests::binary::run(&["cache", "calibrate", "--pairs", file, "--wrong-hits", "0.1", "--out", out.to_str().unwrap()]);
    assert!(code == 0 && said.contains("wrong_hits") && said.contains("written to"), "{said}{err}");
    host.folder().write("good.toml", b"[cache]\n[cache.semantic]\ncalibration = \"calibration.json\"\n");
    let check = |name: &str| tests::binary::run(&["check", host.path(name).to_str().unwrap()]);
    assert_eq!(check("good.toml").0, 0, "{}", check("good.toml").2);
    host.folder().write("calibration.json", b"{}");
    let (code, _, err) = check("good.toml");
    assert!(code == 2 && err.contains("cache.semantic.calibration"), "{err}");
    let (code, _, err) = tests::binary::run(&["cache", "evaluate", "--stream", "none.tsv"]);
    assert!(code == 2 && err.contains("none.tsv"), "{err}");
}
