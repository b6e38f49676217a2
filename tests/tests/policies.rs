//! How a virtual model's choice is made without a plugin: by the kind of the question, by price and time, by what the client prefers;
//! and that the cache keeps apart what was chosen differently.

use std::time::Duration;

use serde_json::json;
use tests::door::Ask;
use tests::host::Folder;
use tests::{Act, Answer, FakeUpstream, Host, Plugin, Running, eventually};

/// `small` and `large` of the harness are of one provider; here `near` and `far` are of two, so that each has a time of its own.
fn two(near: &FakeUpstream, far: &FakeUpstream, rules: &str) -> Host {
    Host::new().upstream(near).provider("retries = 0\nbreaker = { failures = 1 }").section(&format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\n\
         [models.near]\nprovider = \"fake\"\nname = \"near-1\"\nprice = {{ input = 1.0, output = 2.0 }}\n\
         [models.far]\nprovider = \"other\"\nname = \"far-1\"\nprice = {{ input = 3.0, output = 1.0 }}\n\
         [models.any]\nchoose = [\"near\", \"far\"]\n{rules}",
        far.url()
    ))
}

fn told(answer: &Answer) -> (u16, Option<&str>, Option<&str>) {
    (answer.status, answer.header("x-pointsman-model"), answer.header("x-pointsman-reason"))
}

fn any(host: &Running) -> Ask {
    host.ask("hi").model("any")
}

const TASKS: &str = r#"
[examples.task]
code = ["Write a function in Python that sorts a list.", "Fix this bug in my program."]
cooking = ["How do I bake bread?", "A recipe for tomato soup."]
[models.tasks]
choose = ["small", "large"]
specialists = { examples = "task", models = { code = "large" }, min_score = 0.4 }
"#;

#[test]
fn the_kind_of_the_question_chooses() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).section(TASKS).start();
    for (question, model, reason) in [
        ("Write a function in Python that reverses a list.", "large", "like code ("),
        // A label without a specialist, and a question that is like no example.
        ("Give me a recipe for soup.", "small", "like cooking ("),
        ("Zebras, quarks and violins.", "small", "like no example ("),
    ] {
        let answer = host.ask(question).model("tasks").send();
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some(model)), "{question}: {:?}", answer.head);
        assert!(answer.header("x-pointsman-reason").is_some_and(|why| why.starts_with(reason)), "{question}: {:?}", answer.head);
    }
    let body = json!({ "model": "tasks", "messages": [{ "role": "system", "content": "Write a function." }] });
    assert_eq!(told(&host.asking(body).send()), (200, Some("small"), Some("kind of question not known")));
}

#[test]
fn where_the_specialist_fails_the_others_follow() {
    let fake = FakeUpstream::start();
    fake.when("giant-1", Act::refuse(500, "broken"));
    let host = Host::new().upstream(&fake).provider("retries = 0").section(TASKS).cache().start();
    for _ in 0..2 {
        let answer = host.ask("Fix this bug in my program.").model("tasks").send();
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("small")), "{}", answer.text());
        assert_eq!(answer.cache(), "miss", "what was answered in another's place is not kept");
    }
}

#[test]
fn the_cheapest_is_the_cheapest_for_this_request() {
    let (near, far) = (FakeUpstream::start(), FakeUpstream::start());
    let host = two(&near, &far, "prefer = \"cost\"").start();
    let ask = |tokens: u32| any(&host).set("max_tokens", json!(tokens)).send();
    // Some seven tokens of a prompt: what is cheap is said by the price of the answer, if there is much of it.
    assert_eq!(told(&ask(1)), (200, Some("near"), Some("cheapest")));
    assert_eq!(told(&ask(1_000)), (200, Some("far"), Some("cheapest")));
    assert_eq!(told(&any(&host).send()), (200, Some("far"), Some("cheapest")), "256 tokens where no limit is said");
}

/// The cheap one is slow once: it is left for ten seconds, long enough for the requests here.
#[test]
fn the_cheapest_must_be_in_time() {
    let (near, far) = (FakeUpstream::start(), FakeUpstream::start());
    near.next(Act::answer().delay(Duration::from_secs(3)));
    let host = two(&near, &far, "prefer = \"cost\"\nfirst_byte = \"1s\"").start();
    let ask = || any(&host).set("max_tokens", json!(1)).send();
    assert_eq!(told(&ask()), (200, Some("near"), Some("cheapest within 1000 ms")), "nobody is known yet");
    assert_eq!(told(&ask()), (200, Some("far"), Some("cheapest within 1000 ms")));
}

#[test]
fn where_none_is_in_time_the_quickest_answers() {
    let (near, far) = (FakeUpstream::start(), FakeUpstream::start());
    near.next(Act::answer().delay(Duration::from_secs(3)));
    let host = two(&near, &far, "prefer = \"cost\"\nfirst_byte = \"1us\"").start();
    let ask = || any(&host).set("max_tokens", json!(1)).send();
    assert_eq!(ask().header("x-pointsman-model"), Some("near"));
    assert_eq!(ask().header("x-pointsman-model"), Some("far"));
    let third = ask();
    assert_eq!((third.status, third.header("x-pointsman-model")), (200, Some("far")), "{:?}", third.head);
    assert!(third.header("x-pointsman-reason").is_some_and(|why| why.starts_with("none within 0 ms, quickest (")));
}

/// What is left alone is no choice; it was a fallback once, and then the other one is the choice.
#[test]
fn who_does_not_answer_is_not_the_cheapest() {
    let (near, far) = (FakeUpstream::start(), FakeUpstream::start());
    near.always(Act::refuse(500, "broken"));
    let host = two(&near, &far, "prefer = \"cost\"").cache().start();
    let ask = || any(&host).set("max_tokens", json!(1)).send();
    for (cache, asked) in [("miss", 1), ("miss", 1), ("exact", 1)] {
        let answer = ask();
        assert_eq!((told(&answer), answer.cache()), ((200, Some("far"), answer.header("x-pointsman-reason")), cache));
        assert_eq!(near.count(), asked, "{cache}");
    }
}

#[test]
fn the_client_says_what_it_prefers() {
    let (near, far) = (FakeUpstream::start(), FakeUpstream::start());
    near.next(Act::answer().delay(Duration::from_secs(3)));
    let host =
        two(&near, &far, "prefer = \"client\"").key("plain", "t").limited_key("picky", "t", "prefer = \"quality\"").start();
    let ask = |key: &str, header: Option<&str>| {
        let ask = any(&host).set("max_tokens", json!(1)).key(key);
        header.map_or(ask.clone(), |header| ask.header("x-pointsman-prefer", header)).send()
    };
    assert_eq!(told(&ask("plain", None)), (200, Some("near"), None), "nobody prefers anything");
    assert_eq!(told(&ask("plain", Some("quality"))), (200, Some("far"), Some("best, as the request prefers")));
    assert_eq!(told(&ask("picky", None)), (200, Some("far"), Some("best, as the key prefers")));
    assert_eq!(told(&ask("picky", Some("COST"))), (200, Some("near"), Some("cheapest, as the request prefers")));
    let quick = ask("plain", Some("speed"));
    assert_eq!((quick.status, quick.header("x-pointsman-model")), (200, Some("far")), "{:?}", quick.head);
    assert!(
        quick.header("x-pointsman-reason").is_some_and(|why| why.starts_with("quickest (") && why.ends_with("request prefers"))
    );
    assert!(near.requests().iter().chain(&far.requests()).all(|up| up.header("x-pointsman-prefer").is_none()));

    let before = near.count() + far.count();
    let wrong = ask("plain", Some("quality, speed"));
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_request"));
    let message = wrong.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "x-pointsman-prefer is none of quality, speed and cost. Send one of them, or none.");
    assert_eq!(near.count() + far.count(), before, "nobody was asked");
}

/// A client that wants the best answer must not get the cheap one's because somebody else has asked before. Nor, where a plugin goes
/// by the preference, because of what the plugin chose for another.
#[test]
fn answers_for_other_preferences_are_not_shared() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .section("[models.any]\nchoose = [\"small\", \"large\"]\nprefer = \"client\"")
        .plugin(Plugin::puppet().hooks("\"routing\"").set("deadline = \"500ms\""))
        .cache()
        .key("plain", "t")
        .limited_key("picky", "t", "prefer = \"quality\"")
        .start();
    let ask = |model: &str, key: &str, header: Option<&str>| {
        let ask = host.ask("hi").model(model).key(key);
        let answer = header.map_or(ask.clone(), |header| ask.header("x-pointsman-prefer", header)).send();
        (answer.header("x-pointsman-model").map(str::to_owned), answer.cache().to_owned())
    };
    let (small, large) =
        (|cache: &str| (Some("small".to_owned()), cache.to_owned()), |cache: &str| (Some("large".to_owned()), cache.to_owned()));
    assert_eq!(ask("any", "plain", Some("cost")), small("miss"));
    assert_eq!(ask("any", "plain", Some("quality")), large("miss"));
    assert_eq!(ask("any", "picky", None), large("exact"), "the key says the same as the header did");
    assert_eq!(ask("any", "picky", Some("Cost")), small("exact"));
    assert_eq!(ask("any", "plain", None), small("miss"), "no preference is none of them");

    // `auto` has no policy, but a plugin, which may go by the header.
    assert_eq!(ask("auto", "plain", Some("cost")), small("miss"));
    assert_eq!(ask("auto", "plain", Some("quality")).1, "miss");
    // One model by its name is the same for all.
    assert_eq!(ask("small", "plain", Some("cost")), small("miss"));
    assert_eq!(ask("small", "picky", None), small("exact"));
}

#[test]
fn a_plugins_opinion_comes_first() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .upstream(&fake)
        .section("[models.any]\nchoose = [\"small\", \"large\"]\nprefer = \"quality\"")
        .plugin(Plugin::puppet().set("deadline = \"500ms\""))
        .start();
    let ask = |orders| host.ask("hi").model("any").puppet("route", orders).send();
    assert_eq!(told(&ask(json!({ "plan": { "targets": ["small"], "reason": "mine" } }))), (200, Some("small"), Some("mine")));
    assert_eq!(told(&ask(json!("pass"))), (200, Some("large"), Some("best")));
}

/// Who is chosen brings its own fallback, after the other choices.
#[test]
fn the_chosen_ones_fallback_is_asked_last() {
    let (near, far) = (FakeUpstream::start(), FakeUpstream::start());
    let elsewhere = FakeUpstream::start();
    for fake in [&near, &far] {
        fake.always(Act::refuse(500, "broken"));
    }
    let spare = format!(
        "[providers.third]\nkind = \"openai\"\nendpoints = [{:?}]\n[models.spare]\nprovider = \"third\"\nname = \"spare-1\"\n\
         [models.best]\nprovider = \"other\"\nname = \"best-1\"\nfallback = [\"spare\"]\n\
         [models.order]\nchoose = [\"near\", \"best\"]\nprefer = \"quality\"",
        elsewhere.url()
    );
    let host = two(&near, &far, "").section(&spare).start();
    let answer = host.ask("hi").model("order").send();
    assert_eq!(told(&answer), (200, Some("spare"), Some("best")), "{}", answer.text());
    assert!(far.count() > 0 && near.count() > 0);
}

/// What was kept under another policy is not served: it might be another model's.
#[test]
fn a_changed_policy_has_answers_of_its_own() {
    let fake = FakeUpstream::start();
    let host =
        Host::new().upstream(&fake).section("[models.any]\nchoose = [\"small\", \"large\"]\nprefer = \"cost\"").cache().spawn();
    let ask = || host.ask("hi").model("any").send();
    assert_eq!((ask().header("x-pointsman-model"), ask().cache()), (Some("small"), "exact"));
    let text = host.folder.read(Folder::CONFIG);
    host.folder.write(Folder::CONFIG, text.replace("prefer = \"cost\"", "prefer = \"quality\"").as_bytes());
    let answer =
        eventually("the next policy", || Some(ask()).filter(|answer| answer.header("x-pointsman-model") == Some("large")));
    assert_eq!(answer.status, 200);
}
