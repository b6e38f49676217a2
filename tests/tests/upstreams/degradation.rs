//! A provider that is out, or has too much to do: answers become simpler before they become errors, say so, and become what they were
//! when it is well again. Other providers' answers do not change.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Act, Answer, FakeUpstream, Gate, Host, Plugin, Running, eventually};

/// A breaker that opens at once, and for long.
const OPENS: &str = "retries = 0\nbreaker = { failures = 1, open = \"60s\" }";
/// Answers are old after a moment, and kept for long.
const OLD_SOON: &str = "[cache]\nttl = \"200ms\"";

fn level(host: &Running, provider: &str) -> f64 {
    host.metrics().sum("pointsman_degradation_level", &[&format!("provider={provider:?}")])
}

fn is_at(host: &Running, provider: &str, expect: &str) {
    eventually(&format!("{provider} is at {expect}"), || {
        (host.api("/api/degrade")["providers"][provider]["level"] == expect).then_some(())
    });
}

fn degraded(host: &Running, level: &str) -> f64 {
    host.metrics().sum("pointsman_degraded_total", &[&format!("level={level:?}")])
}

/// Status, where it comes from, and what was made of it.
fn seen(answer: &Answer) -> (u16, Option<&str>, Option<&str>) {
    (answer.status, answer.header("x-pointsman-cache"), answer.header("x-pointsman-degraded"))
}

fn pin(host: &Running, level: &str) {
    let answer = host.tell("/api/degrade", &json!({ "level": level }));
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Longer than an answer's time.
fn grow_old() {
    std::thread::sleep(Duration::from_millis(300));
}

/// A second provider, for whom all is well, with a model that answers alone and one that is a fallback.
fn elsewhere(other: &FakeUpstream) -> String {
    format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\n[models.spare]\nprovider = \"other\"\nname = \"spare-1\"\n\
         [models.safe]\nprovider = \"fake\"\nname = \"tiny-1\"\nfallback = [\"spare\"]",
        other.url()
    )
}

#[test]
fn an_outage_is_answered_from_what_is_old_and_refuses_batch_alone() {
    let (fake, other) = (FakeUpstream::start(), FakeUpstream::start());
    let host = Host::new().upstream(&fake).provider(OPENS).section(OLD_SOON).section(&elsewhere(&other)).section("[degrade]");
    let host = host.log("info").spawn();
    assert_eq!(host.chat("known").cache(), "miss");
    grow_old();
    fake.always(Act::refuse(503, "down"));
    assert_eq!(host.chat("unknown").status, 503);
    eventually("it is out", || (host.metrics().sum("pointsman_degradation_level", &["provider=\"fake\""]) == 4.0).then_some(()));
    let asked = fake.count();
    for ask in [host.ask("known"), host.ask("known").header("x-pointsman-priority", "batch")] {
        let answer = ask.send();
        assert_eq!(seen(&answer), (200, Some("stale"), Some("stale")), "{}", answer.text());
        assert_eq!(answer.content(), "Answer 1 of tiny-1 to: known");
        assert!(answer.header("age").is_some());
        assert_eq!(answer.header("x-pointsman-model"), Some("small"));
    }
    let streamed = host.ask("known").streamed().send();
    assert_eq!((seen(&streamed), tests::sse::is_done(&streamed.body)), ((200, Some("stale"), Some("stale")), true));
    assert_eq!(fake.count(), asked, "nobody who has an answer asks");

    // Without an answer: a person's request is tried, nobody's is not.
    let batch = host.ask("unknown").header("x-pointsman-priority", "batch").send();
    assert_eq!((seen(&batch), batch.code().as_str()), ((503, Some("miss"), Some("shed")), "overloaded"), "{}", batch.text());
    assert_eq!(batch.header("retry-after"), Some("10"), "no level is left sooner");
    assert!(batch.text().contains("`fake`"), "{}", batch.text());
    let body = json!({ "model": "vectors", "input": "x" }).to_string();
    let vectors = host.post("/v1/embeddings", body.as_bytes(), &[("x-pointsman-priority", "batch")]);
    assert_eq!((vectors.status, vectors.code().as_str()), (503, "overloaded"));
    assert_eq!(fake.count(), asked);
    assert_eq!(host.chat("unknown").status, 503);
    assert_eq!(fake.count(), asked + 1);
    assert_eq!(host.ask("known").header("cache-control", "no-store").send().status, 503, "`no-store` holds");

    // Nothing of it touches who is well, by name or as a fallback.
    for (model, text) in [("spare", "one"), ("safe", "two"), ("safe", "known")] {
        let answer = host.ask(text).model(model).header("x-pointsman-priority", "batch").send();
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("spare")), "{}", answer.text());
        let expect = (model == "safe").then_some("shed");
        assert_eq!(answer.header("x-pointsman-degraded"), expect, "{model}: what batch is not given is not asked");
    }
    let counted = host.metrics();
    let sum = |level: &str| counted.sum("pointsman_degraded_total", &[level]);
    assert_eq!((sum("level=\"stale\""), sum("level=\"shed\"")), (3.0, 4.0));
    assert_eq!(counted.sum("pointsman_pressure", &["provider=\"fake\""]), 1.0);
    assert_eq!(counted.sum("pointsman_degradation_level", &["provider=\"other\""]), 0.0);
    let line: Value = serde_json::from_str(&host.wait_for_log("answers are degraded further")).unwrap();
    assert_eq!((&line["provider"], &line["before"], &line["now"]), (&json!("fake"), &json!("full"), &json!("shed")), "{line}");
    assert!(line["message"].as_str().unwrap().contains("100% of its endpoints are out of service"), "{line}");
}

/// Nobody needs to know of an outage for that.
#[test]
fn what_is_old_is_better_than_an_error_at_any_level() {
    let (fake, other) = (FakeUpstream::start(), FakeUpstream::start());
    let never = "retries = 0\nbreaker = { failures = 1000, min_requests = 1000 }";
    let host = Host::new().upstream(&fake).provider(never).section(OLD_SOON).section(&elsewhere(&other)).section("[degrade]");
    let host = host.start();
    host.chat("known");
    grow_old();
    let asked = fake.count();
    for (place, act) in [Act::refuse(503, "down"), Act::refuse(429, "slow"), Act::answer().cut_at(0)].into_iter().enumerate() {
        fake.next(act);
        let answer = host.chat("known");
        assert_eq!((seen(&answer), fake.count()), ((200, Some("stale"), Some("stale")), asked + place + 1), "{}", answer.text());
    }
    // What the client itself has got wrong is its own; what it does not want old it does not get; a fallback is better still.
    fake.next(Act::refuse(400, "no"));
    assert_eq!(host.chat("known").status, 400);
    fake.next(Act::refuse(503, "down"));
    assert_eq!(host.ask("known").header("cache-control", "no-cache").send().status, 503);
    host.ask("safe").model("safe").send();
    grow_old();
    fake.next(Act::refuse(503, "down"));
    let answer = host.ask("safe").model("safe").send();
    assert_eq!((seen(&answer), answer.header("x-pointsman-model")), ((200, Some("miss"), None), Some("spare")));
    assert_eq!(level(&host, "fake"), 0.0);
    assert_eq!(host.chat("known").cache(), "miss", "and it is asked again");
}

/// Where every request that comes could be answered without the pool, nobody would learn that it is well again: who waits for the one
/// request that decides gets it, even so.
#[test]
fn a_pool_that_only_stale_answers_and_batch_are_asked_of_comes_back() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .provider("retries = 0\nbreaker = { failures = 1, open = \"100ms\", open_max = \"100ms\" }")
        .section(OLD_SOON)
        .section("[degrade]\nhold = \"300ms\"")
        .start();
    host.chat("known");
    grow_old();
    fake.always(Act::refuse(503, "down"));
    let mut levels = Vec::new();
    eventually("it is out", || {
        // Whether it decides or not, and whatever it decides.
        assert_eq!(host.chat("known").status, 200);
        let batch = host.ask("more").header("x-pointsman-priority", "batch").send();
        assert_eq!(batch.status, 503);
        (level(&host, "fake") == 4.0).then_some(())
    });
    fake.always(Act::answer());
    eventually("it is back", || {
        host.ask("more").header("x-pointsman-priority", "batch").send();
        levels.push(level(&host, "fake"));
        (levels.last() == Some(&0.0)).then_some(())
    });
    assert!(levels.is_sorted_by(|before, after| before >= after), "{levels:?}");
    let answer = host.chat("known");
    assert_eq!((answer.status, answer.header("x-pointsman-degraded")), (200, None));
}

#[test]
fn a_full_line_spares_the_pool_and_is_left_when_it_is_empty() {
    let fake = FakeUpstream::start();
    let gate = Gate::new();
    let host = Host::new()
        .upstream(&fake)
        .provider("concurrency = { start = 1, min = 1, max = 1, queue = 4, wait = \"60s\" }")
        .section("[cache]\n[degrade]\nhold = \"300ms\"")
        .start();
    host.chat("known");
    assert_eq!(seen(&host.ask("known").header("cache-control", "no-cache").send()), (200, Some("miss"), None));
    fake.always(Act::answer().hold_at(0, &gate));
    std::thread::scope(|scope| {
        // Each asks something else: equal requests would share one call.
        let ask = |text: String, priority: &'static str| {
            let ask = host.ask(&text).header("x-pointsman-priority", priority);
            scope.spawn(move || ask.send())
        };
        let mut held = vec![ask("first".to_owned(), "interactive")];
        fake.wait_for(3);
        // A line of batch is no pressure: it gives way to whoever is more urgent.
        let waiting = |count: f64| {
            eventually("they wait", || (host.metrics().sum("pointsman_upstream_waiting", &[]) == count).then_some(()));
        };
        held.extend((0..4).map(|number| ask(format!("batch {number}"), "batch")));
        waiting(4.0);
        for _ in 0..4 {
            let ticks = std::time::Instant::now();
            while ticks.elapsed() < Duration::from_millis(250) {
                assert_eq!(host.metrics().sum("pointsman_pressure", &[]), 0.0);
            }
        }
        let people: Vec<_> = (0..4).map(|number| ask(format!("person {number}"), "interactive")).collect();
        is_at(&host, "fake", "shed");
        let known = host.ask("known").header("cache-control", "no-cache").send();
        assert_eq!(seen(&known), (200, Some("exact"), Some("cached")));
        let batch = host.ask("later").header("x-pointsman-priority", "batch").send();
        assert_eq!(seen(&batch), (503, Some("miss"), Some("shed")));
        let why = host.api("/api/degrade")["providers"]["fake"]["why"].clone();
        assert!(why.as_str().unwrap().starts_with("its line was "), "{why}");
        gate.open();
        assert!(people.into_iter().all(|person| person.join().unwrap().status == 200));
        // Who was more urgent has taken its place.
        assert!(held.into_iter().skip(1).all(|batch| batch.join().unwrap().status == 503));
    });
    is_at(&host, "fake", "full");
    assert_eq!(seen(&host.ask("known").header("cache-control", "max-age=0, no-cache").send()), (200, Some("miss"), None));
}

/// Each level by hand: what it does, what it includes, and what the one before it does not do.
#[test]
fn a_level_can_be_pinned() {
    let fake = FakeUpstream::start();
    let more = "[degrade]\n[models.best]\nchoose = [\"large\", \"small\"]\n\
                [models.alone]\nprovider = \"fake\"\nname = \"giant-2\"\nprice = { input = 3.0 }\n\
                [models.dear]\nprovider = \"fake\"\nname = \"giant-1\"\nprice = { input = 2.0 }\nsubstitute = \"small\"\n\
                [models.unpriced]\nprovider = \"fake\"\nname = \"giant-3\"\nsubstitute = \"small\"";
    let start = |cache: &str| {
        let puppet = Plugin::puppet().hooks("\"routing\", \"caching\"").set("deadline = \"500ms\"");
        let host = Host::new().upstream(&fake).section(cache).section(more).plugin(puppet);
        host.limited_key("all", "one", "").limited_key("narrow", "two", "models = [\"dear\"]").start()
    };
    // What is cached grows old in the one, and not in the other.
    let (host, aging) = (start("[cache]"), start(OLD_SOON));
    aging.ask("old").key("all").send();
    let bounded = json!({ "key": { "scope": "tenant", "exact": null, "semantic": null, "ttl_ms": 50 } });
    aging.ask("bounded").key("all").puppet("key", bounded.clone()).send();
    grow_old();
    for (place, name) in ["full", "cached", "small", "stale", "shed"].into_iter().enumerate() {
        let at = |level: usize, effect: &'static str| (place >= level).then_some(effect);
        pin(&host, name);
        pin(&aging, name);
        assert_eq!(level(&host, "fake"), place as f64);

        let text = format!("fresh {name}");
        host.ask(&text).key("all").send();
        let again = host.ask(&text).key("all").header("cache-control", "no-cache").send();
        assert_eq!(again.header("x-pointsman-degraded"), at(1, "cached"), "{name}");
        assert_eq!(again.cache(), if place >= 1 { "exact" } else { "miss" });
        // A hit that the client has nothing against is nothing that a level did.
        let hit = host.ask(&text).key("all").send();
        assert_eq!((hit.cache(), hit.header("x-pointsman-degraded")), ("exact", None));

        let small = |model: &str, key: &str, said: Value| {
            let answer = host.ask("new").model(model).key(key).header("cache-control", "no-store").puppet("route", said).send();
            (answer.header("x-pointsman-model").unwrap().to_owned(), answer.header("x-pointsman-degraded").map(str::to_owned))
        };
        let smaller = |own: &str| match at(2, "small") {
            Some(effect) => ("small".to_owned(), Some(effect.to_owned())),
            None => (own.to_owned(), None),
        };
        assert_eq!(small("best", "all", json!("pass")), smaller("large"), "{name}");
        assert_eq!(small("dear", "all", json!("pass")), smaller("dear"), "{name}");
        assert_eq!(
            small("auto", "all", json!({ "plan": { "targets": ["large"] } })),
            smaller("large"),
            "{name}: a plugin's plan"
        );
        // Nobody is given what he may not ask for, and nobody knows which of two is cheaper where there is no price.
        for (model, key) in [("dear", "narrow"), ("alone", "all"), ("unpriced", "all"), ("small", "all")] {
            assert_eq!(small(model, key, json!("pass")), (model.to_owned(), None), "{name}");
        }

        let before = fake.count();
        let old = aging.ask("old").key("all").send();
        assert_eq!(old.header("x-pointsman-degraded"), at(3, "stale"), "{name}");
        assert_eq!((old.cache(), fake.count() - before), if place >= 3 { ("stale", 0) } else { ("miss", 1) });
        let out_of_time = aging.ask("bounded").key("all").puppet("key", bounded.clone()).send();
        assert_eq!(out_of_time.cache(), "miss", "{name}: a plugin's time holds");
        grow_old();

        let batch = host.ask("x").key("all").header("x-pointsman-priority", "batch").header("cache-control", "no-store").send();
        assert_eq!(batch.header("x-pointsman-degraded"), at(4, "shed"), "{name}");
        assert_eq!(batch.status, if place >= 4 { 503 } else { 200 });
    }
    assert_eq!(degraded(&host, "shed"), 1.0);
    // What the smaller one has said is not kept for the larger one.
    let which = || host.ask("which").model("best").key("all").send();
    let answer = which();
    assert_eq!((answer.cache(), answer.header("x-pointsman-model")), ("miss", Some("small")));
    let view = host.api("/api/degrade");
    assert_eq!(view["pinned"], "shed");
    assert_eq!(view["providers"]["fake"]["measured"], "full");
    pin(&host, "auto");
    assert_eq!((host.api("/api/degrade")["pinned"].clone(), level(&host, "fake")), (Value::Null, 0.0));
    let answer = which();
    assert_eq!((answer.cache(), answer.header("x-pointsman-model")), ("miss", Some("large")));
    assert_eq!(which().cache(), "exact");
    let wrong = host.tell("/api/degrade", &json!({ "level": "smal" }));
    assert_eq!((wrong.status, wrong.text().contains("cached, small")), (400, true), "{}", wrong.text());
}

/// A cascade at `small` has nobody to escalate to. What its small model said there was taken for the cascade's answer: it was not marked,
/// and was kept in the cache for those who asked when all was well again.
#[test]
fn what_a_cascade_cannot_judge_is_marked_and_not_kept() {
    let steps = "[degrade]\n[cache]\n[models.steps]\nchoose = [\"small\", \"large\"]\n[models.steps.cascade]\nmin_logprob = -0.5";
    for streamed in [false, true] {
        let fake = FakeUpstream::start();
        let host = Host::new().upstream(&fake).section(steps).start();
        let ask = || host.ask("is it? really? is it?").model("steps").set("stream", json!(streamed)).send();
        pin(&host, "small");
        let answer = ask();
        assert_eq!((seen(&answer), answer.header("x-pointsman-model")), ((200, Some("miss"), Some("small")), Some("small")));
        pin(&host, "auto");
        let answer = ask();
        assert_eq!((seen(&answer), answer.header("x-pointsman-model")), ((200, Some("miss"), None), Some("large")));
        assert_eq!(answer.header("x-pointsman-escalated"), Some("logprob"));
    }
}

/// Levels are there with `[degrade]`, and go with it.
#[test]
fn without_the_section_there_is_no_level() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).section("[degrade]").start();
    pin(&host, "shed");
    assert_eq!(host.ask("hi").header("x-pointsman-priority", "batch").send().status, 503);
    let text = std::fs::read_to_string(host.folder.config()).unwrap();
    host.folder.write(tests::host::Folder::CONFIG, text.replace("[degrade]", "").as_bytes());
    eventually("it is gone", || (!host.metrics().has("pointsman_degradation_level")).then_some(()));
    assert_eq!(host.ask("hi").header("x-pointsman-priority", "batch").send().status, 200);
    assert_eq!(host.tell("/api/degrade", &json!({ "level": "shed" })).status, 409);
    assert_eq!(host.api("/api/degrade"), json!({ "pinned": null, "providers": {} }));
    assert!(!host.metrics().has("pointsman_degraded_total"));
}
