//! Changes while requests flow: components, prompts, the configuration. What is good takes over within a second and fails no
//! request; what is bad leaves the version before it, and is told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Act, Binary, Connection, Door, FakeUpstream, Gate, Host, Plugin, eventually, guests};

/// Until new requests see a new version. It takes a seventh of it where nothing else goes on.
const A_MOMENT: Duration = Duration::from_secs(1);

fn revision(number: u32) -> String {
    format!("revision {number:08}")
}

/// 64 connections ask without a pause while `work` goes on; each request must be answered. Gives how many requests they made, and
/// on how many of them a plugin decided: on a machine with other work, a call may miss its deadline.
fn under_load(door: &Door, work: impl FnOnce()) -> (usize, usize) {
    let (stop, served, decided) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..64 {
            let (stop, served, decided) = (&stop, &served, &decided);
            scope.spawn(move || {
                let mut connection = Connection::open(door.address);
                let mut turn = 0;
                while !stop.load(Ordering::SeqCst) {
                    turn += 1;
                    let ask = door.ask(&format!("client {client}, turn {turn}"));
                    let ask = if turn % 2 == 0 { ask.streamed() } else { ask };
                    let answer =
                        connection.exchange(&ask.bytes()).unwrap_or_else(|error| panic!("client {client}, turn {turn}: {error}"));
                    assert_eq!((answer.status, answer.whole), (200, true), "client {client}, turn {turn}: {}", answer.text());
                    served.fetch_add(1, Ordering::SeqCst);
                    decided.fetch_add(usize::from(answer.header("x-pointsman-reason").is_some()), Ordering::SeqCst);
                }
            });
        }
        // However `work` ends, the clients end with it.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::SeqCst);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    (served.into_inner(), decided.into_inner())
}

/// Puts a revision in place and waits until new requests see it.
fn swap(host: &Binary, number: u32) -> Duration {
    host.folder.write("router.wasm", &guests::router(number));
    let began = Instant::now();
    eventually(&format!("revision {number}"), || {
        (host.chat("which?").header("x-pointsman-reason") == Some(&revision(number))).then_some(())
    });
    began.elapsed()
}

/// What is slow on a busy machine is not taken back here.
fn swapped() -> Plugin {
    Plugin::router(0).set("release = { rollback = false }")
}

/// A thousand versions, one after the other, while 64 connections load the host: no request fails, and what is gone is gone.
#[test]
fn a_thousand_versions_come_and_go() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(swapped());
    let cache = host.folder().path("cache");
    let host = host.spawn_with(&[("XDG_CACHE_HOME", cache.to_str().unwrap())]);
    let (base, mark) = (guests::router(0), revision(0));
    let at = base.windows(mark.len()).position(|window| window == mark.as_bytes()).unwrap();
    let file = host.folder.path("next.wasm");
    let (mut resident, began) = (Vec::new(), Instant::now());
    let (served, decided) = under_load(&host, || {
        for number in 1..=1_000 {
            let mut component = base.clone();
            component[at..at + mark.len()].copy_from_slice(revision(number).as_bytes());
            host.folder.write("next.wasm", &component);
            let answer = host.tell("/api/plugins/router/promote", &json!({ "version": file }));
            assert_eq!(answer.status, 200, "{number}: {}", answer.text());
            if number % 50 == 0 {
                eventually(&format!("revision {number}"), || {
                    (host.chat("which?").header("x-pointsman-reason") == Some(&revision(number))).then_some(())
                });
            }
            if number >= WARM && number % 20 == 0 {
                resident.push(host.resident() >> 10);
            }
        }
    });
    // What 64 requests hold at a time comes and goes by megabytes; what a version leaves behind stays.
    let (first, last) = (&resident[..10], &resident[resident.len() - 10..]);
    let (before, after) = (median(first), median(last));
    println!("{served} requests, {decided} decided; {:?} for all; {before} KiB before, {after} after", began.elapsed());
    assert!(served > 64 * 20, "{served} requests are no load");
    // Of a version that were kept, these are six hundred times a hundred kilobytes.
    assert!(before.abs_diff(after) <= 5 << 10, "{before} KiB before, {after} KiB after: {resident:?}");
}

/// Versions until all that is made once has been made.
const WARM: u32 = 200;

fn median(readings: &[u64]) -> u64 {
    let mut sorted = readings.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Two hundred swaps while 64 connections load the host: no request fails, each version is in force within a moment, and none of
/// them is still in memory afterwards.
#[test]
fn a_component_is_swapped_under_load() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(swapped());
    // A cache folder of its own: two hundred components are nobody's to keep.
    let cache = host.folder().path("cache");
    let host = host.spawn_with(&[("XDG_CACHE_HOME", cache.to_str().unwrap())]);
    let (mut took, mut resident) = (Vec::new(), (0, 0));
    let (served, decided) = under_load(&host, || {
        (1..=40).for_each(|number| _ = swap(&host, number));
        resident.0 = host.resident();
        took = (41..=240).map(|number| swap(&host, number)).collect();
        resident.1 = host.resident();
    });
    took.sort();
    let (median, slowest) = (took[took.len() / 2], took[took.len() - 1]);
    let (before, after) = (resident.0 >> 10, resident.1 >> 10);
    println!(
        "{served} requests, {decided} decided; a swap took {median:?}, at most {slowest:?}; {before} KiB before, {after} after"
    );
    assert!(served > 64 * 20 && decided * 10 >= served * 9, "{decided} of {served}: a version answers at every moment");
    assert!(slowest < A_MOMENT, "{slowest:?}");
    assert!(before.abs_diff(after) <= 5 << 10, "{before} KiB before, {after} KiB after");
}

/// With time enough for each call, there is no moment at which no version decides.
#[test]
fn a_version_decides_at_every_moment() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
    let mut slowest = Duration::ZERO;
    let (served, decided) = under_load(&host, || {
        for number in 1..=5 {
            slowest = slowest.max(swap(&host, number));
        }
    });
    assert!(served > 64, "{served} requests are no load");
    assert_eq!(decided, served);
    assert!(slowest < A_MOMENT, "{slowest:?}");
}

/// An exchange keeps the version that it began with.
#[test]
fn a_request_in_flight_ends_on_the_old_version() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(300, &gate));
    let mut connection = Connection::open(host.address);
    let mut live = host.ask("hi").streamed().live(&mut connection);
    swap(&host, 1);
    gate.open();
    let mut body = Vec::new();
    while let Some(portion) = live.portion() {
        body.extend(portion);
    }
    assert_eq!(live.head.header("x-pointsman-reason"), Some("revision 00000000"));
    assert!(tests::sse::is_done(&body));
}

#[test]
fn a_component_that_does_not_load_leaves_the_one_before() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
    let problem = || host.api("/api/plugins")["problems"][0].clone();
    let good = guests::router(1);
    let bad: [(&[u8], &str); 4] = [
        (b"", "not WebAssembly"),
        (&good[..good.len() / 2], "does not compile"),
        (&guests::hostile::core_module(), "core module"),
        (&guests::asker(), "not granted"),
    ];
    for (bytes, reason) in bad {
        host.folder.write("router.wasm", bytes);
        let told = eventually(reason, || {
            Some(problem()).filter(|problem| problem["reason"].as_str().is_some_and(|said| said.contains(reason)))
        });
        assert_eq!(told["plugin"], "router");
        assert_eq!(host.metrics().sum("pointsman_plugin_load_problems", &[]), 1.0);
        assert_eq!(host.chat("hi").header("x-pointsman-reason"), Some("revision 00000000"));
        host.wait_for_log(reason);
    }
    swap(&host, 2);
    assert_eq!((problem(), host.metrics().sum("pointsman_plugin_load_problems", &[])), (Value::Null, 0.0));
}

/// Whoever reads a pipe waits for somebody who writes: with one in a component's place nothing was reloaded any more, and no signal ended the
/// process.
#[test]
fn a_pipe_in_a_components_place_holds_nobody_up() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::router(0).set("deadline = \"500ms\"")).spawn();
    let place = host.folder.path("router.wasm");
    std::fs::remove_file(&place).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&place).status().unwrap().success());
    host.order("/api/reload");
    eventually("the problem", || host.api("/api/plugins")["problems"].to_string().contains("is no file").then_some(()));
    assert_eq!(host.chat("hi").header("x-pointsman-reason"), Some("revision 00000000"));
    std::fs::remove_file(&place).unwrap();
    swap(&host, 1);
}

#[test]
fn a_component_that_refuses_its_configuration_leaves_the_one_before() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::asker().set("config = { name = \"old\" }")).spawn();
    let name =
        || host.ask("hi").puppet("ask", json!({ "config": "name" })).send().header("x-pointsman-reason").map(str::to_owned);
    assert_eq!(name().as_deref(), Some("Some(\"old\")"));
    host.folder.change("name = \"old\"", "name = \"new\", refuse = \"not today\"");
    eventually("the refusal", || host.api("/api/plugins")["problems"].to_string().contains("not today").then_some(()));
    assert_eq!(name().as_deref(), Some("Some(\"old\")"));
    host.folder.change("name = \"new\", refuse = \"not today\"", "name = \"newer\"");
    eventually("the next configuration", || (name().as_deref() == Some("Some(\"newer\")")).then_some(()));
}

#[test]
fn prompts_are_read_again() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).prompt("greet", "v1", "One.").start();
    let ask = || host.asking(json!({ "model": "small", "messages": [], "prompt": { "id": "greet" } })).send();
    let system = || fake.last().json()["messages"][0]["content"].clone();
    assert_eq!((ask().header("x-pointsman-prompt"), system()), (Some("greet@v1"), json!("One.")));
    host.folder.write("prompts/greet/v1.j2", b"One, edited.");
    eventually("the edited text", || (ask().status == 200 && system() == json!("One, edited.")).then_some(()));
    host.folder.write("prompts/greet/v2.j2", b"Two.");
    eventually("a new version", || (ask().header("x-pointsman-prompt") == Some("greet@v2")).then_some(()));
    host.folder.write("prompts/greet/v2.j2", b"Two {{ broken");
    eventually("the problem", || host.api("/api/prompts")["problems"].to_string().contains("v2.j2").then_some(()));
    assert_eq!((ask().header("x-pointsman-prompt"), system()), (Some("greet@v2"), json!("Two.")), "the text before it stays");
    std::fs::remove_file(host.folder.path("prompts/greet/v2.j2")).unwrap();
    eventually("the version before", || (ask().header("x-pointsman-prompt") == Some("greet@v1")).then_some(()));
}

#[test]
fn the_configuration_is_read_again() {
    let (fake, other) = (FakeUpstream::start(), FakeUpstream::start());
    let host = Host::new().upstream(&fake).cache().spawn();
    assert_eq!(host.chat("hi").cache(), "miss");
    host.folder.change(&fake.url(), &other.url());
    let mut turn = 0;
    eventually("the other upstream", || {
        turn += 1;
        host.chat(&format!("hi {turn}"));
        (other.count() > 0).then_some(())
    });
    assert_eq!(host.chat("hi").cache(), "exact", "entries stay over a reload that leaves [cache] as it was");

    // Errors of every stage: the text, the names in it, what it is built of.
    let good = host.folder.read(tests::host::Folder::CONFIG);
    let failed = || host.api("/api/reload")["failed"].as_u64().unwrap();
    for (bad, reason) in [
        (good.replace("[cache]", "[cache"), "pointsman.toml:"),
        (format!("{good}\n[unheard]\nof = 1\n"), "unheard"),
        (good.replace("provider = \"fake\"", "provider = \"none\""), "none"),
        (format!("{good}\n[plugins.gone]\ncomponent = \"gone.wasm\"\nhooks = [\"routing\"]\n"), "gone.wasm"),
    ] {
        let before = failed();
        host.folder.write(tests::host::Folder::CONFIG, bad.as_bytes());
        eventually(reason, || (failed() > before).then_some(()));
        let status = host.api("/api/reload");
        assert!(status["last_failure"].as_str().unwrap().contains(reason), "{status}");
        assert_eq!(host.metrics().sum("pointsman_reloads_total", &["outcome=\"failed\""]), failed() as f64);
        assert_eq!(host.chat("hi").cache(), "exact", "the running one stays in force");
    }
    host.folder.write(tests::host::Folder::CONFIG, good.as_bytes());
    eventually("the good one again", || host.api("/api/reload")["last_failure"].is_null().then_some(()));

    // The same by signal: nothing has changed, and it is read all the same.
    let done = || host.api("/api/reload")["done"].as_u64().unwrap();
    let before = done();
    host.signal("HUP");
    eventually("a reload by SIGHUP", || (done() > before).then_some(()));
}

#[test]
fn keys_can_be_added_and_taken_away() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).key("one", "t").key("two", "t").start();
    assert_eq!(host.ask("hi").key("two").send().status, 200);
    let entry = host.folder.read(tests::host::Folder::CONFIG);
    let (before, second) = entry.split_at(entry.find("[keys.two]").unwrap());
    host.folder.write(tests::host::Folder::CONFIG, before.as_bytes());
    eventually("a key that is gone", || (host.ask("hi").key("two").send().status == 401).then_some(()));
    assert_eq!(host.ask("hi").key("one").send().status, 200);
    host.folder.write(tests::host::Folder::CONFIG, format!("{before}{second}").as_bytes());
    eventually("a key that is back", || (host.ask("hi").key("two").send().status == 200).then_some(()));
}

/// The address in the file is not the one that is listened on until the next start.
#[test]
fn a_reload_does_not_open_what_others_can_reach() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).key("one", "t").listen("address = \"0.0.0.0:0\"").start();
    assert_eq!(host.ask("hi").send().status, 401);
    let before = host.folder.read(tests::host::Folder::CONFIG);
    let open = before[..before.find("[keys.one]").unwrap()].replace("0.0.0.0:0", "127.0.0.1:0");
    host.folder.write(tests::host::Folder::CONFIG, open.as_bytes());
    let reason = eventually("the refusal", || host.api("/api/reload")["last_failure"].as_str().map(str::to_owned));
    assert!(reason.contains("no keys are configured"), "{reason}");
    assert_eq!((host.ask("hi").send().status, host.ask("hi").key("one").send().status), (401, 200));
}
