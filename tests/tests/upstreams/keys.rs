//! Keys: one is left before it refuses, and where it refuses or is not accepted the others go on.

use tests::{Act, FakeUpstream, Gate, Host, eventually};

/// An endpoint that one failure would open for longer than any test waits.
const STRICT: &str = "breaker = { failures = 1, open = \"10m\", open_max = \"10m\" }";

/// Of ten requests in five minutes so many remain. Bare seconds are those of a window: nothing comes back before its end.
fn told(remaining: u32) -> Act {
    Act::answer()
        .header("x-ratelimit-limit-requests", "10")
        .header("x-ratelimit-remaining-requests", &remaining.to_string())
        .header("x-ratelimit-reset-requests", "300")
}

fn host(fake: &FakeUpstream) -> Host {
    let host = Host::new().upstream(fake).file("one.txt", b"sk-one").file("two.txt", b"sk-two");
    host.provider("keys = [\"file:one.txt\", \"file:two.txt\"]").provider(STRICT)
}

/// Requests with a key.
fn with(fake: &FakeUpstream, key: &str) -> usize {
    fake.requests().iter().filter(|request| request.header("authorization") == Some(&format!("Bearer {key}"))).count()
}

#[test]
fn the_key_with_the_most_left_is_taken_and_one_that_is_used_up_is_left() {
    let fake = FakeUpstream::start();
    fake.when("sk-one", told(0)).when("sk-two", told(7));
    let host = host(&fake).start();
    (0..20).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    assert_eq!((with(&fake, "sk-one"), with(&fake, "sk-two")), (1, 19));
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_key_remaining", &["one.txt", "limit=\"requests\""]), 0.0);
    assert_eq!(metrics.sum("pointsman_key_remaining", &["two.txt", "limit=\"requests\""]), 7.0);
    assert_eq!(metrics.sum("pointsman_key_left", &["one.txt"]), 1.0);
    assert_eq!(metrics.sum("pointsman_key_left", &["two.txt"]), 0.0);
    let keys = host.api("/api/models")["providers"]["fake"]["each"][0]["keys"].clone();
    assert!(keys[0]["left_for_ms"].as_u64() > Some(200_000) && keys[1]["requests"] == 7, "{keys}");
}

/// What is under way counts, and where all is used up another model is asked before anybody refuses.
#[test]
fn an_endpoint_whose_only_key_is_used_up_is_left_before_it_refuses() {
    let (fake, other) = (FakeUpstream::start(), FakeUpstream::start());
    let gate = Gate::new();
    fake.when("held", Act::answer().hold_at(0, &gate)).always(told(2));
    let section = format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\n[models.substitute]\nprovider = \"other\"\nname = \"sub-1\"\n\
         [models.first]\nprovider = \"fake\"\nname = \"tiny-1\"\nfallback = [\"substitute\"]",
        other.url()
    );
    let host = Host::new().upstream(&fake).section(&section).start();
    let ask = |text: &str| {
        let answer = host.ask(text).model("first").send();
        assert_eq!(answer.status, 200);
        answer.header("x-pointsman-model").map(str::to_owned)
    };
    assert_eq!(ask("hi").as_deref(), Some("first"));
    std::thread::scope(|scope| {
        (0..2).for_each(|_| _ = scope.spawn(|| ask("held")));
        fake.wait_for(3);
        assert_eq!(ask("hi").as_deref(), Some("substitute"), "two remained, and two are under way");
        gate.open();
    });
    assert_eq!((fake.count(), other.count()), (3, 1));
    // Where nothing else can be asked, it is asked all the same.
    assert_eq!((host.chat("hi").status, fake.count()), (200, 4));
}

#[test]
fn a_refused_key_is_left_and_not_its_endpoint() {
    let fake = FakeUpstream::start();
    fake.when("sk-one", Act::refuse(429, "slow_down").header("retry-after", "300"));
    let host = host(&fake).start();
    (0..20).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    assert_eq!((with(&fake, "sk-one"), with(&fake, "sk-two")), (1, 20));
    let endpoint = host.api("/api/models")["providers"]["fake"]["each"][0].clone();
    assert_eq!(endpoint["breaker"], "closed", "{endpoint}");
    // What is known of a key outlives a change of the list.
    let done = host.api("/api/reload")["done"].as_u64();
    host.folder.change("keys = [\"file:one.txt\", \"file:two.txt\"]", "keys = [\"file:two.txt\", \"file:one.txt\"]");
    eventually("it is in force", || (host.api("/api/reload")["done"].as_u64() > done).then_some(()));
    (0..20).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    assert_eq!((with(&fake, "sk-one"), with(&fake, "sk-two")), (1, 40));
    // Where no other is left the refusal is the endpoint's.
    fake.when("sk-two", Act::refuse(429, "slow_down").header("retry-after", "300"));
    let host = self::host(&fake).provider("retries = 3").start();
    assert_eq!(host.chat("hi").status, 429);
    let endpoint = host.api("/api/models")["providers"]["fake"]["each"][0].clone();
    assert_eq!(endpoint["breaker"], "open", "{endpoint}");
}

#[test]
fn a_key_that_is_not_accepted_is_left_and_told_once_by_its_name() {
    let fake = FakeUpstream::start();
    fake.when("sk-one", Act::refuse(401, "wrong_key"));
    let host = Host::new().log("trace").upstream(&fake).provider("keys = [\"env:KEY_ONE\", \"env:KEY_TWO\"]");
    let host = host.provider(STRICT).spawn_with(&[("KEY_ONE", "sk-one"), ("KEY_TWO", "sk-two")]);
    (0..20).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    assert_eq!((with(&fake, "sk-one"), with(&fake, "sk-two")), (1, 20));
    assert_eq!(host.metrics().sum("pointsman_key_left", &["key=\"env:KEY_ONE\""]), 1.0);
    let log = eventually("it is told", || {
        let log = host.log();
        log.iter().any(|line| line.contains("\"ERROR\"")).then_some(log)
    });
    let errors: Vec<&String> = log.iter().filter(|line| line.contains("\"ERROR\"")).collect();
    assert!(errors.len() == 1 && errors[0].contains("env:KEY_ONE"), "{errors:?}");
    let said = [log.join("\n"), host.admin("/metrics").text().to_owned(), host.admin("/api/models").text().to_owned()].concat();
    assert!(!said.contains("sk-one") && !said.contains("sk-two"));
}

/// Wrong settings are told with their place.
#[test]
fn settings() {
    for (keys, told) in [
        ("keys = []", "there is no key"),
        ("keys = [\"env:PATH\", \"env:PATH\"]", "this key is already in the list"),
        ("keys = [\"sk-1\"]", "a secret is not written into the configuration"),
        ("keys = [\"env:PATH\"]; key = \"env:HOME\"", "`keys` stands beside `key`"),
    ] {
        let text = format!("[providers.p]\nkind = \"openai\"\nendpoints = [\"https://h/v1\"]\n{}\n", keys.replace("; ", "\n"));
        let report = pointsman::config::load_text(&text, std::path::Path::new("p.toml")).expect_err("it is wrong").to_string();
        assert!(report.contains(told) && report.contains(":4:"), "{keys}: {report}");
    }
}
