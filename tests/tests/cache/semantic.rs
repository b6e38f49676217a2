//! A request of the same meaning, and requests that only look like it.

use serde_json::json;
use tests::{FakeUpstream, Host, Running};

fn host() -> (FakeUpstream, Running) {
    let fake = FakeUpstream::start();
    // No audit asks beside.
    let host = Host::new().upstream(&fake).section("[cache]\n[cache.semantic]\naudit = 0.0").start();
    (fake, host)
}

#[test]
fn a_rewording_gets_the_answer() {
    let (fake, host) = host();
    let first = host.ask("How do I reset my password?").send();
    assert_eq!(first.cache(), "miss");
    for reworded in ["how do i reset my password", "How do I reset my password ?", "How can I reset my password?"] {
        let hit = host.ask(reworded).send();
        assert_eq!((hit.cache(), hit.as_stored() == first.text()), ("semantic", true), "{reworded}");
        let score: f32 = hit.header("x-pointsman-cache-score").expect("a near hit says how near").parse().unwrap();
        assert!((0.5..=1.001).contains(&score), "{score}");
    }
    let streamed = host.ask("how do i reset my password").streamed().send();
    assert_eq!((streamed.cache(), streamed.content()), ("semantic", first.content()));
    assert_eq!(fake.count(), 1);
}

/// Pairs of which no answer may be shared, however near they lie.
#[test]
fn near_is_not_the_same() {
    let (_fake, host) = host();
    let pairs = [
        ("How many calories are in 2 eggs?", "How many calories are in 3 eggs?"),
        ("Is it safe to eat raw eggs?", "Is it not safe to eat raw eggs?"),
        ("How do I turn the alarm on?", "How do I turn the alarm off?"),
        ("What is the capital of Austria?", "What is the capital of Australia?"),
        ("When did the war begin?", "When did the war end?"),
        ("Translate hello into French", "Translate hello into German"),
        ("What is the weather today?", "What is the weather tomorrow?"),
        ("Does the dog chase the cat?", "Does the cat chase the dog?"),
    ];
    for (asked, other) in pairs {
        host.chat(asked);
        assert_eq!(host.chat(other).cache(), "miss", "{asked} | {other}");
    }
}

/// The last message may be reworded; everything before it, and every parameter, must be the same.
#[test]
fn only_the_question_may_differ() {
    let (_fake, host) = host();
    let body = |system: &str, question: &str, temperature: f64, model: &str| json!({ "model": model, "temperature": temperature, "messages": [{ "role": "system", "content": system }, { "role": "user", "content": question }] });
    let (question, reworded) = ("How do I reset my password?", "how do i reset my password");
    assert_eq!(host.asking(body("Be brief.", question, 0.0, "small")).send().cache(), "miss");
    assert_eq!(host.asking(body("Be long.", reworded, 0.0, "small")).send().cache(), "miss");
    assert_eq!(host.asking(body("Be brief.", reworded, 1.0, "small")).send().cache(), "miss");
    assert_eq!(host.asking(body("Be brief.", reworded, 0.0, "large")).send().cache(), "miss");
    assert_eq!(host.asking(body("Be brief.", reworded, 0.0, "small")).send().cache(), "semantic");
    let image = json!({ "model": "small", "messages": [{ "role": "user", "content": [{ "type": "text", "text": question }, { "type": "image_url", "image_url": { "url": "http://127.0.0.1/1.png" } }] }] });
    assert_eq!(host.asking(image.clone()).send().cache(), "miss", "there is more than text");
    let mut other = image;
    other["messages"][0]["content"][1]["image_url"]["url"] = json!("http://127.0.0.1/2.png");
    assert_eq!(host.asking(other).send().cache(), "miss");
}

#[test]
fn without_the_semantic_section_only_the_same_request_hits() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().start();
    host.chat("How do I reset my password?");
    assert_eq!(host.chat("how do i reset my password").cache(), "miss");
}
