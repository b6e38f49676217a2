//! Versions of plugins: shadows that change nothing, canaries that cost nothing, what is taken back by itself and by hand, and what a
//! restart finds.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::binary::{run, run_with};
use tests::{Act, Answer, Binary, Connection, Door, FakeUpstream, Gate, Host, Nobody, Plugin, eventually, guests};

/// Traps on one of a hundred requests.
const TRAPS: u32 = 90_000_000;
/// Traps on each.
const BROKEN: u32 = 80_000_000;
/// Chooses `large`.
const LARGE: u32 = 70_000_000;
/// Refuses.
const REFUSES: u32 = 60_000_000;
/// Ends each answer before it has begun.
const STOPS: u32 = 50_000_000;

fn revision(number: u32) -> String {
    format!("revision {number:08}")
}

fn digest(number: u32) -> String {
    Sha256::digest(guests::router(number)).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn reason(answer: &Answer) -> Option<&str> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-pointsman-reason")
}

/// Takes a step with a version whose component lies beside the configuration.
fn step(host: &Binary, step: &str, number: u32, more: Value) -> Value {
    let name = format!("router-{number}.wasm");
    host.folder.write(&name, &guests::router(number));
    let mut body = json!({ "version": host.folder.path(&name) });
    body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    let answer = host.tell(&format!("/api/plugins/router/{step}"), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// The versions of the plugin in a state.
fn versions(door: &Door, state: &str) -> Vec<Value> {
    let about = door.api("/api/plugins/router");
    about["versions"].as_array().unwrap().iter().filter(|version| version["state"] == state).cloned().collect()
}

fn host(fake: &FakeUpstream) -> Host {
    Host::new().upstream(fake)
}

/// Asks from many sessions at once until `over` says so; each must be answered, and each answer is given to `seen`.
fn ask_until(door: &Door, seen: impl Fn(usize, &Answer) + Sync, over: impl FnMut() -> bool) -> usize {
    let answered = |turn: usize, answer: &Answer| {
        assert_eq!(answer.status, 200, "{turn}: {}", answer.text());
        seen(turn, answer);
    };
    ask_of_all_until(door, answered, over)
}

/// The same, whatever the answers are.
fn ask_of_all_until(door: &Door, seen: impl Fn(usize, &Answer) + Sync, mut over: impl FnMut() -> bool) -> usize {
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (stop, count, seen) = (&stop, &count, &seen);
            scope.spawn(move || {
                let mut connection = Connection::open(door.address);
                while !stop.load(Ordering::SeqCst) {
                    let turn = count.fetch_add(1, Ordering::SeqCst);
                    let ask = door.ask("hi").header("x-session-id", &format!("{client}-{turn}"));
                    let answer = connection.exchange(&ask.bytes()).unwrap_or_else(|error| panic!("{turn}: {error}"));
                    seen(turn, &answer);
                }
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually("the end", || over().then_some(()));
        }));
        stop.store(true, Ordering::SeqCst);
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    count.into_inner()
}

/// A canary that traps on one of a hundred calls is taken back by itself, and no client has an error: also where a failure of the plugin
/// fails its request.
#[test]
fn a_canary_that_traps_is_taken_back_and_no_client_sees_it() {
    let fake = FakeUpstream::start();
    let plugin =
        Plugin::router(0).must_not_fail().set("deadline = \"500ms\"").set("release = { deadlines = 1.0, latency = 1000 }");
    let host = host(&fake).plugin(plugin).spawn();
    step(&host, "canary", TRAPS, json!({ "share": 0.5 }));
    let canary = AtomicUsize::new(0);
    let asked = ask_until(
        &host,
        |_, answer| match reason(answer) {
            Some(said) if said == revision(TRAPS) => _ = canary.fetch_add(1, Ordering::SeqCst),
            said => assert_eq!(said, Some(&*revision(0)), "one of the two has decided"),
        },
        || !versions(&host, "rolled-back").is_empty(),
    );
    let ended = versions(&host, "rolled-back").remove(0);
    assert_eq!(ended["digest"], format!("sha256:{}", digest(TRAPS)));
    assert!(ended["reason"].as_str().unwrap().starts_with("traps: "), "{ended}");
    let canary = canary.into_inner();
    assert!(canary > 50 && canary < asked * 6 / 10, "{canary} of {asked} had the canary");
    assert!(versions(&host, "canary").is_empty());
    assert_eq!(host.metrics().sum("pointsman_plugin_rollbacks_total", &["plugin=\"router\"", "why=\"traps\""]), 1.0);
    assert_eq!(host.metrics().sum("pointsman_plugin_fall_throughs_total", &[]), 0.0);
    host.wait_for_log("a version was taken back: traps");
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(0)));
}

/// One that has taken over and fails is taken back to the one before it; its file is still there, and does not take over again.
#[test]
fn a_version_on_probation_is_taken_back() {
    let fake = FakeUpstream::start();
    let plugin = Plugin::router(0).set("deadline = \"500ms\"");
    let mut host = host(&fake).plugin(plugin).spawn();
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(0)));
    host.folder.write("router.wasm", &guests::router(BROKEN));
    eventually("the broken one", || reason(&host.chat("hi")).is_none().then_some(()));
    ask_until(&host, |_, _| {}, || !versions(&host, "rolled-back").is_empty());
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(0)));
    let problem = host.api("/api/plugins")["problems"][0]["reason"].as_str().unwrap().to_owned();
    assert!(problem.contains("was taken back (traps: ") && problem.contains("pointsman plugin promote router"), "{problem}");
    host.order("/api/reload");
    host.wait_for_log("was taken back (traps");
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(0)));

    // After a restart as before it, though the file is the broken one's.
    host.restart();
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(0)));
    assert_eq!(versions(&host, "rolled-back").len(), 1);
    // Another file takes over.
    host.folder.write("router.wasm", &guests::router(2));
    eventually("the next one", || (reason(&host.chat("hi")) == Some(&*revision(2))).then_some(()));
}

/// A canary's share is a session's: the same before and after a restart, and what has it keeps it when the share grows.
#[test]
fn a_canary_is_sticky() {
    let fake = FakeUpstream::start();
    let mut host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).key("one", "t").spawn();
    step(&host, "canary", 1, json!({ "share": 0.3 }));
    let who = |host: &Binary| -> BTreeSet<usize> {
        let ask = |session: &usize| host.ask("hi").key("one").header("x-session-id", &session.to_string()).send();
        (0..200).filter(|session| reason(&ask(session)) == Some(&*revision(1))).collect()
    };
    let first = who(&host);
    assert!((30..=90).contains(&first.len()), "{} of 200", first.len());
    host.restart();
    assert_eq!(who(&host), first);
    let answer = host.tell("/api/plugins/router/canary", &json!({ "share": 0.5 }));
    assert_eq!(answer.json()["versions"][1]["share"], 0.5);
    let more = who(&host);
    assert!(more.is_superset(&first) && more.len() > first.len());

    // By the body's own words, and by how a conversation begins.
    let of = |body: Value| reason(&host.asking(body).key("one").send()).map(str::to_owned);
    for number in 0..20 {
        let first = json!({ "role": "user", "content": format!("question {number}") });
        let turns = [json!([first]), json!([first, { "role": "assistant", "content": "x" }, { "role": "user", "content": "y" }])];
        let [a, b] = turns.map(|messages| of(json!({ "model": "small", "messages": messages })));
        assert_eq!(a, b, "{number}: one conversation");
        let [a, b] = ["a", "b"].map(|text| {
            let messages = json!([{ "role": "user", "content": text }]);
            of(json!({ "model": "small", "messages": messages, "user": format!("user {number}") }))
        });
        assert_eq!(a, b, "{number}: one user");
    }
}

/// By key, and by tenant: all of one, or none.
#[test]
fn a_canary_is_a_tenants() {
    let fake = FakeUpstream::start();
    let mut host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"\nrelease = { sticky = \"tenant\" }"));
    let names: Vec<String> = (0..24).map(|number| format!("k{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        host = host.key(name, &format!("t{}", number / 2));
    }
    let host = host.spawn();
    step(&host, "canary", 1, json!({ "share": 0.5 }));
    let has: Vec<bool> = names
        .iter()
        .map(|name| {
            let said: BTreeSet<Option<String>> =
                (0..3).map(|turn| reason(&host.ask(&turn.to_string()).key(name).send()).map(str::to_owned)).collect();
            assert_eq!(said.len(), 1, "{name}");
            said.contains(&Some(revision(1)))
        })
        .collect();
    assert!(has.chunks(2).all(|pair| pair[0] == pair[1]));
    assert!(has.contains(&true) && has.contains(&false));
}

/// A shadow is seen by nobody, and what it would have done otherwise is counted.
#[test]
fn a_shadow_changes_nothing() {
    let fake = FakeUpstream::start();
    let host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
    let shadow = || host.api("/api/plugins/router")["versions"][1]["shadow"].clone();
    let rounds = |count: u64, number: u32| {
        (0..count).for_each(|turn| assert_eq!(reason(&host.chat(&turn.to_string())), Some(&*revision(0)), "{number}"));
        let all = || shadow()["compared"].as_u64().unwrap() + shadow()["missed"].as_u64().unwrap() == count;
        eventually("all are compared", || all().then_some(()));
        shadow()
    };
    step(&host, "shadow", LARGE, json!({}));
    let seen = rounds(20, LARGE);
    assert_eq!((&seen["differed"], &seen["missed"]), (&json!(20), &json!(0)), "{seen}");
    let kind = &seen["differences"]["route: plan small → plan large"];
    assert_eq!(kind["count"], 20);
    let example = kind["examples"].as_array().unwrap().last().unwrap();
    assert_eq!(kind["examples"].as_array().unwrap().len(), 5);
    assert!(example["served"].as_str().unwrap().contains("small") && example["shadow"].as_str().unwrap().contains("large"));
    assert_eq!(example["exchange"].as_str().unwrap().len(), 36);
    assert!(fake.requests().iter().all(|request| request.json()["model"] == "tiny-1"));
    assert_eq!(host.metrics().sum("pointsman_plugin_shadow_total", &["outcome=\"differed\""]), 20.0);

    // One that fails, one that refuses, one that says the same with other words.
    for (number, kind) in [
        (BROKEN, "route: plan small → failed: trap"),
        (REFUSES, "route: plan small → reject 403"),
        (5, "route: plan small, otherwise"),
    ] {
        step(&host, "shadow", number, json!({}));
        assert_eq!(rounds(5, number)["differences"][kind]["count"], 5, "{kind}");
    }
    let replaced = versions(&host, "replaced");
    assert_eq!(replaced.len(), 3, "{replaced:?}");

    // Promoted it decides.
    let answer = host.tell("/api/plugins/router/promote", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(5)));
    assert_eq!(versions(&host, "before")[0]["digest"], format!("sha256:{}", digest(0)));
    // And taken back by hand, with a reason.
    host.tell("/api/plugins/router/rollback", &json!({ "reason": "I like the old one better" }));
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(0)));
    assert_eq!(versions(&host, "rolled-back")[0]["reason"], "I like the old one better");
    // By its digest it is there again.
    let answer = host.tell("/api/plugins/router/canary", &json!({ "version": digest(5)[..12], "share": 1.0 }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(5)));
}

/// What a shadow keeps is its own: it begins with a copy, and the version that serves never sees what it writes.
#[test]
fn a_shadow_keeps_things_for_itself() {
    let fake = FakeUpstream::start();
    let host = host(&fake).plugin(Plugin::asker()).spawn();
    let count = || host.ask("hi").puppet("ask", json!({ "increment": { "key": "n", "delta": 1 } })).send();
    let said = |answer: &Answer| reason(answer).unwrap().to_owned();
    let first = said(&count());
    // The same component with a section more: another digest, the same code.
    let mut twin = guests::asker();
    twin.extend([0, 5, 4, b't', b'w', b'i', b'n']);
    host.folder.write("twin.wasm", &twin);
    let answer = host.tell("/api/plugins/asker/shadow", &json!({ "version": host.folder.path("twin.wasm") }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let numbers: Vec<String> = (0..5).map(|_| said(&count())).collect();
    assert!(first.contains('1') && numbers[4].contains('6'), "each request counts once: {first} {numbers:?}");
    let shadow = || host.api("/api/plugins/asker")["versions"][1]["shadow"].clone();
    let seen = eventually("five are compared", || Some(shadow()).filter(|shadow| shadow["compared"] == 5));
    assert_eq!(seen["differed"], 0, "it has counted as the other one did: {seen}");
}

/// Another file while a canary runs: it takes over, and the canary ends; or it is the next canary, as the owner has written.
#[test]
fn a_file_changes_while_a_canary_runs() {
    let fake = FakeUpstream::start();
    let mut host = host(&fake).plugin(Plugin::router(0)).spawn();
    step(&host, "canary", 1, json!({ "share": 0.5 }));
    host.folder.write("router.wasm", &guests::router(2));
    eventually("the file", || (host.api("/api/plugins/router")["digest"] == format!("sha256:{}", digest(2))).then_some(()));
    assert!(versions(&host, "canary").is_empty());
    assert_eq!(versions(&host, "replaced")[0]["digest"], format!("sha256:{}", digest(1)));

    let reloads = || host.api("/api/reload")["done"].as_u64().unwrap();
    let before = reloads();
    host.folder.change("hooks = [\"routing\"]", "hooks = [\"routing\"]\nrelease = { on_change = \"canary\", share = 0.25 }");
    eventually("the rule", || (reloads() > before).then_some(()));
    for number in [3, 4] {
        host.folder.write("router.wasm", &guests::router(number));
        let canary = eventually("a canary", || {
            versions(&host, "canary").pop().filter(|version| version["digest"] == format!("sha256:{}", digest(number)))
        });
        assert_eq!(canary["share"], 0.25);
        let line = host.wait_for_log(&format!("router@{}", &digest(number)[..12]));
        let line: Value = serde_json::from_str(&line).unwrap();
        let told = ["message", "step", "by"].map(|field| line[field].as_str().unwrap_or_default());
        assert_eq!(told, ["a version was released", "canary", "another component at its place"], "{line}");
        assert_eq!(line["share"], 0.25, "{line}");
        assert_eq!(host.api("/api/plugins/router")["digest"], format!("sha256:{}", digest(2)));
    }
    // A restart finds the same; the file is still the canary.
    host.restart();
    assert_eq!(host.api("/api/plugins/router")["digest"], format!("sha256:{}", digest(2)));
    assert_eq!(versions(&host, "canary")[0]["digest"], format!("sha256:{}", digest(4)));
    // The component before it comes back to its place: what was on trial is not wanted any more.
    host.folder.write("router.wasm", &guests::router(2));
    eventually("no canary", || versions(&host, "canary").is_empty().then_some(()));
}

/// A request in flight ends on the version that it began with, also where that was a canary.
#[test]
fn a_request_in_flight_ends_on_the_canary() {
    let fake = FakeUpstream::start();
    let host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
    step(&host, "canary", 1, json!({ "share": 1.0 }));
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(300, &gate));
    let mut connection = Connection::open(host.address);
    let mut live = host.ask("hi").streamed().live(&mut connection);
    host.tell("/api/plugins/router/rollback", &json!({}));
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(0)));
    gate.open();
    let mut body = Vec::new();
    while let Some(portion) = live.portion() {
        body.extend(portion);
    }
    assert_eq!(live.head.header("x-pointsman-reason"), Some(&*revision(1)));
    assert!(tests::sse::is_done(&body));
}

/// A canary may refuse requests; that is its decision, and the answer has its digest.
#[test]
fn a_canarys_refusal_is_its_own() {
    let fake = FakeUpstream::start();
    let host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
    step(&host, "canary", REFUSES, json!({ "share": 1.0 }));
    let answer = host.chat("hi");
    assert_eq!((answer.status, answer.header("x-pointsman-plugin")), (403, Some(&*format!("router@{}", &digest(REFUSES)[..12]))));
}

/// What exchanges come to counts too: a canary that sends requests to the dear model is taken back.
#[test]
fn a_canary_that_costs_more_is_taken_back() {
    let fake = FakeUpstream::start();
    let plugin =
        Plugin::router(0).set("deadline = \"500ms\"").set("release = { deadlines = 1.0, latency = 1000, min_samples = 30 }");
    let host = host(&fake).plugin(plugin).spawn();
    step(&host, "canary", LARGE, json!({ "share": 0.5 }));
    ask_until(&host, |_, _| {}, || !versions(&host, "rolled-back").is_empty());
    let reason = versions(&host, "rolled-back")[0]["reason"].clone();
    assert!(reason.as_str().unwrap().starts_with("cost: "), "{reason}");
}

/// A version that ends answers does what it is there for; only what it refuses, or fails at, is an error.
#[test]
fn a_stricter_canary_stays() {
    let fake = FakeUpstream::start();
    let limits = "release = { deadlines = 1.0, latency = 1000, cost = 1000, min_samples = 30 }";
    let host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"").set(limits)).spawn();
    step(&host, "canary", STOPS, json!({ "share": 0.5 }));
    let figures = || versions(&host, "canary").pop();
    let over = || figures().is_none_or(|canary| canary["exchanges"].as_u64().unwrap() >= 150);
    ask_until(&host, |_, _| {}, over);
    // Looked at once more, whatever was counted last.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let canary = figures().unwrap_or_else(|| panic!("it was taken back: {:?}", versions(&host, "rolled-back")));
    assert_eq!((&canary["errors"], &canary["upstream_errors"]), (&json!(0), &json!(0)), "{canary}");
    assert!(host.metrics().sum("pointsman_exchanges_total", &["ending=\"stopped\""]) >= 100.0);
    // One that refuses as many is taken back.
    step(&host, "canary", REFUSES, json!({ "share": 0.5 }));
    let seen = |_: usize, answer: &Answer| assert!(matches!(answer.status, 200 | 403), "{}", answer.text());
    ask_of_all_until(&host, seen, || !versions(&host, "rolled-back").is_empty());
    let reason = versions(&host, "rolled-back")[0]["reason"].clone();
    assert!(reason.as_str().unwrap().starts_with("errors: "), "{reason}");
}

/// A provider that fails in the minutes after a version took over fails whoever serves: that is not held against the version. Beside another
/// version, at the same time, it would be.
#[test]
fn an_outage_takes_no_version_back() {
    let fake = FakeUpstream::start();
    let limits = "release = { deadlines = 1.0, latency = 1000, min_samples = 30 }";
    let plugin = Plugin::router(0).set("deadline = \"500ms\"").set(limits);
    let host = host(&fake).provider("retries = 0\nbreaker = { failures = 1000000 }").plugin(plugin).spawn();
    let exchanges = || versions(&host, "serving")[0]["exchanges"].as_u64().unwrap();
    ask_until(&host, |_, _| {}, || exchanges() >= 60);
    step(&host, "promote", 1, json!({}));
    fake.always(Act::refuse(500, "down"));
    let seen = |_: usize, answer: &Answer| assert!(answer.status >= 500, "{}", answer.text());
    ask_of_all_until(&host, seen, || exchanges() >= 60);
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    let serving = versions(&host, "serving").remove(0);
    assert_eq!(serving["digest"], format!("sha256:{}", digest(1)), "{serving}");
    assert!(serving["judged_until"].is_u64() && serving["errors"].as_u64().unwrap() >= 60, "{serving}");
    assert_eq!(serving["errors"], serving["upstream_errors"], "{serving}");
}

/// What has just taken over is judged whatever is on trial beside it; and what is on trial stays there.
#[test]
fn a_probation_goes_on_beside_a_trial() {
    for trial in ["shadow", "canary"] {
        let fake = FakeUpstream::start();
        let host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
        step(&host, "promote", BROKEN, json!({}));
        step(&host, trial, 1, if trial == "canary" { json!({ "share": 0.2 }) } else { json!({}) });
        ask_until(&host, |_, _| {}, || !versions(&host, "rolled-back").is_empty());
        let ended = versions(&host, "rolled-back").remove(0);
        assert_eq!(ended["digest"], format!("sha256:{}", digest(BROKEN)), "{trial}");
        assert_eq!(versions(&host, "serving")[0]["digest"], format!("sha256:{}", digest(0)), "{trial}");
        assert_eq!(versions(&host, trial)[0]["digest"], format!("sha256:{}", digest(1)), "{trial}");
    }
}

/// The same from the command line, with the node's configuration or its address; and what is said where it does not go.
#[test]
fn from_the_command_line() {
    let fake = FakeUpstream::start();
    let host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).file("new.wasm", &guests::router(LARGE));
    let host = host.admin("key = \"env:RELEASES_KEY\"").spawn_with(&[("RELEASES_KEY", "sesame")]);
    let (admin, file) = (host.admin.to_string(), host.folder.path("new.wasm").to_str().unwrap().to_owned());
    let command = |arguments: &[&str]| {
        let arguments = [&["plugin"], arguments, &["--admin", &admin]].concat();
        run_with(&arguments, &[("POINTSMAN_ADMIN_KEY", "sesame")])
    };
    let done = |arguments: &[&str]| {
        let (code, out, err) = command(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    };
    let short = |number: u32| format!("sha256:{}", &digest(number)[..12]);
    assert!(done(&["list"]).contains(&format!("router (routing)\n  serving      {}", short(0))));
    assert!(done(&["shadow", "router", &file]).contains(&format!("  shadow       {}", short(LARGE))));
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(0)));
    let told = eventually("the difference", || Some(done(&["list", "router"])).filter(|told| told.contains("1 differ")));
    assert!(told.contains("1 route: plan small → plan large") && told.contains("served  Decision::Plan("), "{told}");
    assert!(done(&["canary", "router", "--share", "100%"]).contains("canary 100%"));
    assert_eq!(reason(&host.chat("hi")), Some(&*revision(LARGE)));
    assert!(done(&["promote", "router"]).contains("judged for another"));
    let told = done(&["rollback", "router", "--reason", "too dear"]);
    assert!(told.contains(&format!("rolled-back  {}", short(LARGE))) && told.contains("too dear"), "{told}");
    let listed: Value = serde_json::from_str(&done(&["list", "router", "--json"])).unwrap();
    assert_eq!(listed["versions"][0]["digest"], format!("sha256:{}", digest(0)));

    let (code, _, err) = command(&["promote", "router", "0123456"]);
    assert!(code == 2 && err.contains("no version of `router` begins with `0123456`"), "{err}");
    let (code, _, err) = command(&["canary", "router", "--share", "0"]);
    assert!(code == 2 && err.contains("above 0 and at most 1"), "{err}");
    let (code, _, err) = run(&["plugin", "list", "--admin", &admin]);
    assert!(code == 2 && err.contains("wants the key of [admin]; set POINTSMAN_ADMIN_KEY"), "{err}");
    let nobody = Nobody::new();
    let (code, _, err) = run(&["plugin", "list", "--admin", &nobody.address().to_string()]);
    assert!(code == 2 && err.contains("no node answers at") && err.contains("pointsman serve"), "{err}");
    host.folder.write("bare.toml", b"");
    let (code, _, err) = run(&["plugin", "list", "--config", host.folder.path("bare.toml").to_str().unwrap()]);
    assert!(code == 2 && err.contains("has no [admin]"), "{err}");
}

#[test]
fn steps_that_cannot_be_taken() {
    let fake = FakeUpstream::start();
    let host = host(&fake).plugin(Plugin::router(0)).file("bad.wasm", b"no").file("asker.wasm", &guests::asker()).spawn();
    let path = |name: &str| host.folder.path(name).to_str().unwrap().to_owned();
    for (step, body, status, expect) in [
        ("promote", json!({}), 409, "no version on trial"),
        ("rollback", json!({}), 409, "none before the one that serves"),
        ("canary", json!({ "version": digest(0) }), 409, "serves already"),
        ("canary", json!({ "version": digest(9) }), 404, "no version of `router` begins with"),
        ("canary", json!({ "version": path("none.wasm") }), 422, "cannot be read"),
        ("canary", json!({ "version": path("bad.wasm") }), 422, "not WebAssembly"),
        ("canary", json!({ "version": "/dev/zero" }), 422, "is no file"),
        ("canary", json!({ "version": path("") }), 422, "is no file"),
        ("shadow", json!({ "version": path("asker.wasm") }), 422, "not granted"),
        ("canary", json!({ "version": path("bad.wasm"), "share": 5 }), 400, "above 0 and at most 1"),
        ("canary", json!({ "versions": 1 }), 400, "versions"),
        ("destroy", json!({}), 404, "shadow, canary, promote and rollback"),
    ] {
        let answer = host.tell(&format!("/api/plugins/router/{step}"), &body);
        assert!(answer.status == status && answer.text().contains(expect), "{step} {body}: {} {}", answer.status, answer.text());
    }
    // What did not load is kept nowhere, so that no digits of it name it.
    let kept: Vec<_> =
        std::fs::read_dir(host.folder.path("state/versions")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(kept, [std::ffi::OsString::from(digest(0))]);
    let answer = host.tell("/api/plugins/router/promote", &json!({ "version": path("none.wasm") }));
    assert!(
        answer.text().contains("none.wasm cannot be read") && answer.text().contains("by its whole path"),
        "{}",
        answer.text()
    );
    let answer = host.tell("/api/plugins/nobody/promote", &json!({}));
    assert!(answer.status == 404 && answer.text().contains("no plugin `nobody`"), "{}", answer.text());
    assert_eq!(versions(&host, "serving").len(), 1);
    assert_eq!(host.api("/api/plugins/router")["versions"].as_array().unwrap().len(), 1);
}

/// Why a version was taken back is known for as long as the version is: when its file lies there again, and when an administrator releases it
/// again. Whoever does is told, and a trial that proves nothing takes nothing of it away.
#[test]
fn why_a_version_was_taken_back_stays_known() {
    let fake = FakeUpstream::start();
    let host = host(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
    step(&host, "promote", 1, json!({}));
    let answer = host.tell("/api/plugins/router/rollback", &json!({ "reason": "too dear" })).json();
    let note = answer["note"].as_str().unwrap().to_owned();
    assert!(
        note.contains("does not come back by itself") && note.contains(&format!("promote router {}", &digest(1)[..12])),
        "{note}"
    );
    // Its file comes.
    host.folder.write("router.wasm", &guests::router(1));
    let problems = || host.api("/api/plugins/router")["problems"].clone();
    let problem =
        eventually("the problem", || Some(problems().to_string()).filter(|all| all.contains("was taken back (too dear)")));
    assert!(problem.contains("pointsman plugin promote router"), "{problem}");
    let (code, out, _) = run(&["plugin", "list", "router", "--admin", &host.admin.to_string()]);
    assert!(code == 0 && out.contains("problem: router: ") && out.contains("was taken back (too dear)"), "{out}");
    // Released again, and ended before it has proved anything.
    let answer = step(&host, "canary", 1, json!({ "share": 0.5 }));
    assert!(answer["note"].as_str().unwrap().contains("was taken back before (too dear)"), "{answer}");
    let ended = versions(&host, "rolled-back").remove(0);
    assert!(ended["reason"] == "too dear" && ended["released_again"].is_u64(), "{ended}");
    step(&host, "canary", 2, json!({ "share": 0.5 }));
    let ended = versions(&host, "rolled-back").remove(0);
    assert!(ended["digest"] == format!("sha256:{}", digest(1)) && ended["released_again"].is_null(), "{ended}");
    assert_eq!(reason(&host.chat("hi")).map(|said| said == revision(1)), Some(false));
    // One that serves well from then on is taken back no more.
    let answer = step(&host, "promote", 1, json!({}));
    assert!(answer["note"].as_str().unwrap().contains("was taken back before (too dear)"), "{answer}");
    assert_eq!(problems(), json!([]));
}

/// A version that fails says where, why and since when, also where one plugin alone is asked about.
#[test]
fn the_list_of_one_plugin_hides_nothing() {
    let fake = FakeUpstream::start();
    let plugin = Plugin::router(BROKEN)
        .set("deadline = \"500ms\"\nquarantine = { after = 2, lasts = \"10m\" }\nrelease = { rollback = false }");
    let host = host(&fake).plugin(plugin).spawn();
    (0..3).for_each(|_| assert_eq!(host.chat("hi").status, 200));
    host.folder.write("router.wasm", b"no component");
    let list = |arguments: &[&str]| run(&[&["plugin", "list", "--admin", &host.admin.to_string()], arguments].concat()).1;
    let one = eventually("the problem", || Some(list(&["router"])).filter(|out| out.contains("problem: router: ")));
    for part in
        ["is not WebAssembly", "left alone at routing, because it keeps failing there", "failed last at routing, ", ": trap: "]
    {
        assert!(one.contains(part), "{part:?} is not in:\n{one}");
    }
    let all = list(&[]);
    assert_eq!(all.matches("problem: router: ").count(), 1, "{all}");
}
