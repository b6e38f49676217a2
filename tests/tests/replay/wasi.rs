//! Components that import WASI: its clocks and random numbers are in the recording, and nothing of the machine is in a replay.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tests::guests::hostile::{self, At};
use tests::guests::wasi;
use tests::{FakeUpstream, Host, Plugin, Running};

use super::{Options, component, options, recording, replayed, written};

/// Wall clock in seconds, monotonic clock in nanoseconds, a random number: as the dreamer's refusal says them.
fn told(host: &Running) -> [u64; 3] {
    let refused = host.chat("hi");
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!((refused.status, message.len()), (400, 48), "{}", refused.text());
    let number = |at: usize| message[at..at + 16].bytes().rev().fold(0, |sum, letter| sum << 4 | u64::from(letter - b'a'));
    [number(0), number(16), number(32)]
}

#[test]
fn wasi_is_told_again() {
    let fake = FakeUpstream::start();
    let plugin = Plugin::new("dreamer", wasi::dreamer()).hooks("\"routing\"").set("deadline = \"500ms\"");
    let host = recording(Host::new().upstream(&fake), "").plugin(plugin).start();
    // The clocks count from the millisecond in which an exchange began: those of one millisecond are in no order.
    let all = [(); 3].map(|()| {
        std::thread::sleep(Duration::from_millis(2));
        told(&host)
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    for [wall, monotonic, _] in all {
        assert!(now.abs_diff(wall) <= 60 && (monotonic / 1_000_000_000).abs_diff(wall) <= 1, "{wall} {monotonic}, it is {now}");
    }
    assert!(all[0][1] < all[1][1] && all[1][1] < all[2][1] && all[0][2] != all[1][2], "{all:?}");
    let folder = written(&host, 3);
    let plugin = component(&host.folder, "again.wasm", &wasi::dreamer());
    let report = replayed(&options(&folder, &plugin));
    assert_eq!((report.replayed, report.changed, report.uncertain), (3, 0, 0), "{report}");

    // Where nothing of it is in the recording, it is the same all the same, and said to be unknown.
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let forgotten: Vec<String> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            for call in line.pointer_mut("/exchange/calls").and_then(Value::as_array_mut).into_iter().flatten() {
                call.as_object_mut().unwrap().remove("imports");
            }
            line.to_string() + "\n"
        })
        .collect();
    std::fs::write(&file, forgotten.concat()).unwrap();
    let first = replayed(&options(&folder, &plugin));
    assert_eq!((first.changed, first.uncertain, first.unknown.get("wasi.random")), (3, 3, Some(&3)), "{first}");
    for threads in [1, 3] {
        let again = replayed(&Options { threads, ..options(&folder, &plugin) });
        assert_eq!(again.to_string(), first.to_string());
    }
}

/// It would have waited for a minute.
#[test]
fn a_guest_that_waits_waits_for_nothing() {
    let fake = FakeUpstream::start();
    let host = recording(Host::new().upstream(&fake), "").plugin(Plugin::router(1).set("deadline = \"500ms\"")).start();
    assert_eq!(host.chat("hi").status, 200);
    let folder = written(&host, 1);
    let sleeper = hostile::ALL.iter().find(|guest| guest.name == "long-sleep").unwrap().component(At::Route);
    let sleeper = component(&host.folder, "sleeper.wasm", &sleeper);
    let began = Instant::now();
    let report = replayed(&Options { name: Some("router".into()), ..options(&folder, &sleeper) });
    let [kind] = &report.decisions[..] else { panic!("{report}") };
    assert_eq!((&*kind.before, &*kind.after), ("plan", "pass"), "{report}");
    assert!(began.elapsed() < Duration::from_secs(20));
}
