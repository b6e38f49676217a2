//! Guests that mean harm: each ends in bounded time and memory, the request goes on as the owner declared, others are served
//! meanwhile, and a plugin that fails again and again is left alone.
//!
//! Time is the host's own measure of the call (`pointsman_plugin_call_seconds`). Of five calls the quickest must have ended by its
//! deadline: the others may have waited for a core that other programs had. What does not depend on the machine (cause,
//! fall-through, neighbours) is compared exactly.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tests::guests::fuzz::{self, Deed};
use tests::guests::hostile::{self, At, Hostile};
use tests::{Door, FakeUpstream, Host, Plugin, guests};

const DEADLINE: Duration = Duration::from_millis(20);
/// One tick for the one that was under way when the call began, one until the next looks, and what it takes to make an instance and
/// to drop it in a build that is not optimised.
const TICKS: Duration = Duration::from_millis(5);

fn plugin(guest: &Hostile) -> Plugin {
    plugin_at(guest, At::Route)
}

fn plugin_at(guest: &Hostile, at: At) -> Plugin {
    let grants = guest.grants;
    let hook = match at {
        At::Route | At::After | At::Chunk => "routing",
        At::Select => "prompting",
        At::Key | At::Confirm | At::Admit => "caching",
    };
    Plugin::new("hostile", guest.component(at))
        .hooks(&format!("{hook:?}"))
        .set(&format!("grant = [{grants}]\nmemory = \"64MiB\"\ndeadline = \"20ms\""))
}

fn failures(host: &Door, cause: &str) -> f64 {
    host.metrics().sum("pointsman_plugin_failures_total", &["plugin=\"hostile@", &format!("cause=\"{cause}\"")])
}

#[test]
fn each_ends_in_time_and_the_request_goes_on() {
    let fake = FakeUpstream::start();
    for guest in hostile::ALL {
        let host = Host::new().upstream(&fake).plugin(plugin(&guest)).spawn();
        let mut quickest = f64::INFINITY;
        for count in 1..=5 {
            let before = seconds(&host, "routing");
            let answer = host.chat("hi");
            assert_eq!((answer.status, answer.header("x-pointsman-plugin")), (200, None), "{}", guest.name);
            assert_eq!(failures(&host, guest.cause), f64::from(count), "{}: {}", guest.name, host.api("/api/plugins"));
            quickest = quickest.min(seconds(&host, "routing") - before);
        }
        let said = host.wait_for_log("plugin failed");
        assert!(said.contains(guest.reason), "{}: {said}", guest.name);
        assert!(quickest < (DEADLINE + TICKS).as_secs_f64(), "{}: {quickest} s a call", guest.name);
        println!("{}: {:.1} ms", guest.name, quickest * 1e3);
    }
}

fn seconds(host: &Door, hook: &str) -> f64 {
    host.metrics().sum("pointsman_plugin_call_seconds_sum", &[&format!("hook={hook:?}")])
}

/// The prompt is as the client wrote it, the cache shares nothing that the plugin might have kept apart.
#[test]
fn each_does_as_little_harm_in_the_other_hooks() {
    let fake = FakeUpstream::start();
    for at in [At::After, At::Chunk, At::Select, At::Key, At::Confirm, At::Admit] {
        for guest in hostile::ALL.iter().filter(|guest| !guest.routes()) {
            let host = Host::new().upstream(&fake).semantic().plugin(plugin_at(guest, at)).start();
            let check = |text: &str, expect: &str| {
                let answer = host.chat(text);
                assert_eq!(
                    (answer.status, answer.cache()),
                    (200, expect),
                    "{}, {at:?}: {}",
                    guest.name,
                    host.api("/api/plugins")
                );
            };
            // One that cannot begin has not even made the key.
            let vetoed = if guest.name == "endless-start" { "bypass" } else { "miss" };
            match at {
                At::Route | At::After | At::Select => check("hi", "miss"),
                // Whoever might have ended the answer has not seen it: it is for nobody else. One that cannot begin has not asked for it.
                At::Chunk => {
                    check("hi", "miss");
                    check("hi", if guest.name == "endless-start" { "exact" } else { "miss" });
                }
                At::Key => (0..2).for_each(|_| check("hi", "bypass")),
                // What may not be asked again is no answer to a question that is nearly the same.
                At::Confirm => ["How do I bake bread?", "how do I bake bread"].iter().for_each(|text| check(text, vetoed)),
                At::Admit => (0..2).for_each(|_| check("hi", vetoed)),
            }
            assert!(failures(&host, guest.cause) >= 1.0, "{}, {at:?}: {}", guest.name, host.api("/api/plugins"));
        }
    }
}

#[test]
fn each_fails_the_request_where_the_owner_says_so() {
    let fake = FakeUpstream::start();
    for guest in hostile::ALL {
        let host = Host::new().upstream(&fake).plugin(plugin(&guest).must_not_fail()).start();
        let refused = host.chat("hi");
        assert_eq!((refused.status, refused.code().as_str()), (500, "plugin_failed"), "{}", guest.name);
    }
    assert_eq!(fake.count(), 0);
}

#[test]
fn a_meek_guest_of_the_same_make_is_heard() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::new("hostile", hostile::meek()).hooks("\"routing\"")).start();
    assert_eq!(host.chat("hi").status, 200);
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &[]), 0.0);
    assert_eq!(host.metrics().sum("pointsman_plugin_call_seconds_count", &["hook=\"routing\""]), 1.0);
}

/// One core, and a guest on it that never gives it back by itself: requests that do not meet the guest are served all the same.
#[test]
fn neighbours_on_the_same_core_are_served_meanwhile() {
    let fake = FakeUpstream::start();
    let names = ["endless-loop", "hostcall-flood", "kv-flood", "long-sleep", "memory-bomb", "deep-recursion"];
    for guest in hostile::ALL.iter().filter(|guest| names.contains(&guest.name)) {
        let host = Host::new().upstream(&fake).listen("threads = 1").plugin(plugin(guest)).start();
        let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        assert_eq!(host.chat("hi").status, 200, "{}", guest.name);
                        served.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            // Models are listed without any plugin.
            for _ in 0..50 {
                assert_eq!(host.get("/v1/models", &[]).status, 200, "{}", guest.name);
            }
            stop.store(true, Ordering::SeqCst);
        });
        assert!(served.load(Ordering::SeqCst) > 0);
    }
}

/// A guest may use its whole deadline; while it does, the core goes on with others.
#[test]
fn a_guest_that_computes_yields_the_core() {
    let fake = FakeUpstream::start();
    let [endless, ..] = hostile::ALL;
    let slow = Plugin::new("hostile", endless.component(At::Route)).hooks("\"routing\"").set("deadline = \"5s\"");
    let host = Host::new().upstream(&fake).listen("threads = 1").plugin(slow).start();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| host.chat("hi").status);
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..20 {
            assert_eq!(host.get("/v1/models", &[]).status, 200);
        }
        assert!(!slow.is_finished(), "twenty neighbours were served while the guest computed");
        assert_eq!(slow.join().unwrap(), 200);
    });
}

#[test]
fn a_plugin_that_keeps_failing_is_quarantined() {
    let fake = FakeUpstream::start();
    let [endless, ..] = hostile::ALL;
    let host = Host::new().upstream(&fake).plugin(plugin(&endless)).start();
    for _ in 0..30 {
        assert_eq!(host.chat("hi").status, 200);
    }
    let metrics = host.metrics();
    let (failed, skipped) = (failures(&host, "deadline"), metrics.sum("pointsman_plugin_skipped_total", &[]));
    assert!((20.0..30.0).contains(&failed) && failed + skipped == 30.0, "{failed} failed, {skipped} were skipped");
    assert_eq!(metrics.sum("pointsman_plugin_quarantined", &["plugin=\"hostile@"]), 1.0);
    assert_eq!(host.api("/api/plugins")["plugins"][0]["quarantined"], json!(["routing"]));
    // A new version has a clean record.
    host.folder.write("hostile.wasm", &hostile::meek());
    tests::eventually("the new version", || (host.metrics().sum("pointsman_plugin_quarantined", &[]) == 0.0).then_some(()));
}

/// One success in between, and it counts from the beginning.
#[test]
fn a_plugin_that_fails_now_and_then_is_not() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::puppet().hooks("\"routing\"").set("deadline = \"500ms\"")).start();
    for index in 0..60 {
        let orders = if index % 15 == 14 { json!("pass") } else { json!("panic") };
        host.ask("hi").puppet("route", orders).send();
    }
    assert_eq!(host.metrics().sum("pointsman_plugin_skipped_total", &[]), 0.0);
}

/// Every function of the host, called without end, and with arguments of 60 MiB: each such call ends in time, takes next to no memory, and the
/// request goes on.
#[test]
fn no_import_can_be_flooded_or_overfed() {
    let fake = FakeUpstream::start();
    let plugin = Plugin::new("each", fuzz::each())
        .hooks("\"routing\"")
        .set(&format!("grant = [{}]", fuzz::grants()))
        .set("memory = \"64MiB\"\ndeadline = \"40ms\"\nhttp = { allow = [\"http://127.0.0.1:1\"], calls = 1000000 }");
    let host = Host::new().upstream(&fake).section("[examples.task]\ncode = [\"Write a function.\"]").plugin(plugin).spawn();
    let ask = |order: usize| assert_eq!(host.ask("hi").set("max_tokens", json!(order)).send().status, 200, "{order}");
    ask(1);
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &[]), 0.0, "{}", host.api("/api/plugins"));
    let before = host.resident();
    let functions = fuzz::calls_of_each();
    assert!(functions.len() > 25, "{functions:?}");
    for (number, (name, has_length)) in functions.iter().enumerate() {
        for deed in [Deed::Flood, Deed::Huge].into_iter().filter(|deed| *deed == Deed::Flood || *has_length) {
            let count = || host.metrics().sum("pointsman_plugin_failures_total", &["plugin=\"each@"]);
            let (failed, took) = (count(), seconds(&host, "routing"));
            ask(deed.order(number));
            // Its deadline ends it, or its own memory: what a function gives back lies there.
            assert_eq!(count() - failed, 1.0, "{name}, {deed:?}: {}", host.api("/api/plugins"));
            // A busy machine may keep everybody waiting: a second is no loop without an end.
            assert!(seconds(&host, "routing") - took < 1.0, "{name}, {deed:?}");
            // So that it is not left alone.
            ask(1);
        }
    }
    let grown = host.resident().saturating_sub(before) >> 20;
    assert!(grown < 32, "{grown} MiB");
}

/// Bombs go off many at a time, and the process is as large as before.
#[test]
fn memory_stays_where_it_is() {
    let fake = FakeUpstream::start();
    for guest in hostile::ALL
        .iter()
        .filter(|guest| ["memory-bomb", "huge-argument", "huge-result", "table-bomb", "kv-flood"].contains(&guest.name))
    {
        let host = Host::new().upstream(&fake).plugin(plugin(guest)).plugin(Plugin::puppet().hooks("\"routing\"")).spawn();
        let hammer = |rounds: usize| {
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| (0..rounds).for_each(|_| assert_eq!(host.chat("hi").status, 200)));
                }
            });
        };
        hammer(2);
        let before = host.resident();
        hammer(10);
        let grown = host.resident().saturating_sub(before) >> 20;
        assert!(grown < 32, "{}: {grown} MiB", guest.name);
    }
}

/// A guest that puts whatever it can into its store has filled its tenant's part, and no other.
#[test]
fn a_store_that_is_full_is_full_for_its_tenant() {
    let fake = FakeUpstream::start();
    let flood = hostile::ALL.into_iter().find(|guest| guest.name == "kv-flood").unwrap();
    let asker = Plugin::asker().set("models = [\"large\"]");
    let host =
        Host::new().upstream(&fake).key("a", "a").key("b", "b").plugin(plugin(&flood).set("models = [\"small\"]")).plugin(asker);
    let host = host.start();
    let kept = |what: &str| host.metrics().sum(&format!("pointsman_plugin_kv_{what}"), &["plugin=\"hostile\""]);
    for (tenant, most) in [("a", 1 << 20), ("b", 2 << 20)] {
        // As often as it takes: on a busy machine a call may have time for little.
        tests::eventually("a full store", || {
            assert_eq!(host.ask("hi").key(tenant).send().status, 200);
            (kept("bytes") > f64::from(most) - 65_536.0).then_some(())
        });
        assert!(kept("bytes") <= f64::from(most) && kept("entries") < 40.0, "{tenant}: {} {}", kept("bytes"), kept("entries"));
    }
    let neighbour =
        host.ask("hi").model("large").key("a").puppet("ask", json!({ "increment": { "key": "n", "delta": 1 } })).send();
    assert_eq!(neighbour.header("x-pointsman-reason"), Some("1"), "another plugin has its own store");
}

/// Whatever the bytes are, the loader says no and lives: here half of a component, and components with a flipped bit.
#[test]
fn malformed_components_never_crash_the_loader() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::router(1)).start();
    let good = guests::router(1);
    let load = |bytes: &[u8]| {
        host.folder.write("router.wasm", bytes);
        let before = host.process.gateway().reloads();
        host.process.reload();
        tests::eventually("a reload", || {
            let now = host.process.gateway().reloads();
            (now.done + now.failed > before.done + before.failed).then_some(())
        });
        assert_eq!(host.chat("hi").status, 200);
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 60,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let damage = (0..good.len(), 0_u8..8, any::<bool>());
    let done = runner.run(&damage, |(at, bit, cut)| {
        let mut bytes = good.clone();
        if cut {
            bytes.truncate(at)
        } else {
            bytes[at] ^= 1 << bit
        }
        load(&bytes);
        Ok(())
    });
    done.unwrap_or_else(|error| panic!("{error}"));
    host.folder.write("router.wasm", &guests::router(2));
    tests::eventually("a good one again", || {
        (host.chat("hi").header("x-pointsman-reason") == Some("revision 00000002")).then_some(())
    });
}

/// What would take minutes and gigabytes to compile is refused before it is begun, and what is too large before it is looked at. The version before
/// it serves, and is asked meanwhile.
#[test]
fn what_would_take_too_long_to_compile_is_not_begun() {
    let fake = FakeUpstream::start();
    let plugin = Plugin::router(0).set("deadline = \"500ms\"").set("max_component = \"4MiB\"");
    let host = Host::new().upstream(&fake).plugin(plugin).spawn();
    let resident = host.resident();
    for (component, key, said) in [
        (
            hostile::compile_bomb(4_000, 4_000),
            "component",
            "would take too long to compile: it has more than 2097152 pairs of a variable and a branch in one function",
        ),
        (
            hostile::long_function(3 << 20),
            "component",
            "would take too long to compile: it has more than 1048576 bytes in one function",
        ),
        (vec![0; (4 << 20) + 1], "max_component", "has 4194305 bytes, more than the 4194304 that it may have"),
    ] {
        host.folder.write("router.wasm", &component);
        let problem = tests::eventually(said, || {
            Some(host.api("/api/plugins/router")["problems"].to_string()).filter(|all| all.contains(said))
        });
        assert_eq!(host.chat("hi").header("x-pointsman-reason"), Some("revision 00000000"), "{problem}");
        let (code, _, report) = tests::binary::run(&["check", host.folder.config().to_str().unwrap()]);
        assert!(code == 2 && report.contains(&format!("plugins.router.{key}: ")) && report.contains(said), "{report}");
        // By hand it is no better.
        let answer = host.tell("/api/plugins/router/shadow", &json!({ "version": host.folder.path("router.wasm") }));
        assert!(answer.status == 422 && answer.text().contains(said), "{} {}", answer.status, answer.text());
    }
    let grown = host.resident().saturating_sub(resident) >> 20;
    assert!(grown < 256, "{grown} MiB");
    host.folder.write("router.wasm", &guests::router(1));
    tests::eventually("the next one", || {
        (host.chat("hi").header("x-pointsman-reason") == Some("revision 00000001")).then_some(())
    });
}
