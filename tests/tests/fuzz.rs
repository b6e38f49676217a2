//! Fuzzing of what a stranger can hand to the host: components to its loader, and arguments to its imports. A few seconds in a run of all tests,
//! ten minutes with `POINTSMAN_FUZZ_SECONDS=600`. What fails names the seed with which it can be repeated.
//!
//! What is proved: nothing crashes, nothing stands still, others are served, and the process is no larger afterwards.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pointsman::plugin::registry::Shelves;
use serde_json::json;
use tests::guests::hostile::{self, At};
use tests::guests::{self, fuzz};
use tests::{FakeUpstream, Host, Plugin};

/// Time for one theme.
fn time() -> Duration {
    let seconds = std::env::var("POINTSMAN_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(4)) / 2
}

/// Components that the generator makes at a time.
const AT_ONCE: u32 = 64;

/// Where a run begins: the same in each but for one that is asked for.
fn seed() -> u32 {
    std::env::var("POINTSMAN_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn every_import_with_any_arguments() {
    let fake = FakeUpstream::start();
    let functions = fuzz::functions();
    assert!(functions.len() > 25, "{functions:?}");
    let plugin = Plugin::new("fuzz", fuzz::component(At::Route))
        .hooks("\"routing\"")
        .set(&format!("grant = [{}]", fuzz::grants()))
        .set("deadline = \"200ms\"\nhttp = { allow = [\"http://127.0.0.1:1\"], timeout = \"50ms\" }")
        .set("quarantine = { after = 1000000 }")
        .set("kv = { memory = \"1MiB\", tenant_memory = \"1MiB\" }\nmodels = [\"small\"]");
    let examples = "[examples.task]\ncode = [\"Write a function.\"]\nfood = [\"A recipe.\"]";
    let host = Host::new().upstream(&fake).section(examples).plugin(plugin).spawn();
    let ask = |seed: u32| {
        let answer = host.ask("hi").model("small").set("max_tokens", json!(seed)).send();
        assert_eq!(answer.status, 200, "seed {seed}: {}", answer.text());
    };
    let (next, over) = (AtomicU32::new(seed()), AtomicBool::new(false));
    (0..200).for_each(|_| ask(next.fetch_add(1, Ordering::Relaxed)));
    let before = host.resident();
    let until = Instant::now() + time();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while Instant::now() < until {
                    ask(next.fetch_add(1, Ordering::Relaxed));
                }
                over.store(true, Ordering::Relaxed);
            });
        }
        while !over.load(Ordering::Relaxed) {
            assert_eq!(host.ask("hi").model("large").send().status, 200, "somebody else");
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let grown = host.resident().saturating_sub(before) >> 20;
    let metrics = host.metrics();
    let calls = metrics.sum("pointsman_plugin_call_seconds_count", &["plugin=\"fuzz@"]);
    let failed = metrics.sum("pointsman_plugin_failures_total", &["plugin=\"fuzz@"]);
    println!("{calls} calls, {failed} of them failed, {grown} MiB more, seeds {} to {}", seed(), next.load(Ordering::Relaxed));
    assert!(grown < 32, "{grown} MiB");
    assert!(calls > 100.0 && failed > 10.0 && failed < calls - 10.0, "some calls fail and some do not: {failed} of {calls}");
}

/// Components that a generator makes, sound ones and such as are none, and real ones with anything changed in them. What the loader says to each is
/// no matter; that it says it is.
#[test]
fn the_loader_with_any_component() {
    let engine = pointsman::plugin::engine::Engine::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("any.wasm");
    let settings = |hooks: &[pointsman::plugin::load::Hook]| pointsman::plugin::load::Settings {
        name: "any".into(),
        component: file.clone(),
        hooks: hooks.to_vec(),
        tenants: Vec::new(),
        models: Vec::new(),
        grants: ["config", "log", "clock", "kv"].map(str::to_owned).to_vec(),
        fail: false,
        deadline: Duration::from_millis(20),
        memory: 1 << 20,
        kv: pointsman::plugin::kv::Limits { memory: 1 << 20, tenant_memory: 1 << 20, tenant_entries: 10 },
        http: None,
        source: Default::default(),
        quarantine: Default::default(),
        release: Default::default(),
        config: serde_json::Map::new(),
    };
    let real = [guests::router(1), guests::puppet(), hostile::meek()];
    let (mut loaded, mut refused) = (0_u32, 0_u32);
    // It is compiled where it is not there yet.
    guests::smith(folder.path(), 0, 1);
    let until = Instant::now() + time();
    let first = seed();
    for seed in first.. {
        if Instant::now() >= until {
            break;
        }
        let mut chance = fastrand::Rng::with_seed(seed.into());
        let number = seed - first;
        let made = first + number / 2;
        if number.is_multiple_of(2 * AT_ONCE) {
            guests::smith(folder.path(), made.into(), AT_ONCE.into());
        }
        let bytes = match number % 2 {
            0 => std::fs::read(folder.path().join(format!("{made}.wasm"))).unwrap(),
            _ => damaged(&mut chance, &real),
        };
        std::fs::write(&file, &bytes).unwrap();
        let began = Instant::now();
        let hooks = [pointsman::plugin::load::Hook::Routing];
        let (set, errors) = pointsman::plugin::PluginSet::build(&engine, &[settings(&hooks)], Shelves::default(), None);
        assert_eq!(set.all().len() + errors.len(), 1, "seed {seed}");
        let crashed = errors.iter().any(|error| error.to_string().contains("crashed the compiler"));
        assert!(!crashed, "seed {seed}: {errors:?}");
        assert!(began.elapsed() < Duration::from_secs(60), "seed {seed} took {:?}", began.elapsed());
        loaded += set.all().len() as u32;
        refused += errors.len() as u32;
    }
    println!("{loaded} loaded, {refused} refused");
    assert!(refused > 5, "{loaded} loaded, {refused} refused");
}

/// A real one with bytes changed, cut out, doubled, or taken from another one.
fn damaged(chance: &mut fastrand::Rng, real: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = chance.choice(real).expect("there are some").clone();
    for _ in 0..chance.usize(1..6) {
        let (from, length) = (chance.usize(..bytes.len()), chance.usize(1..64));
        let to = (from + length).min(bytes.len());
        match chance.u8(..5) {
            0 => bytes[from] = chance.u8(..),
            1 => bytes[from] ^= 1 << chance.u8(..8),
            2 => drop(bytes.drain(from..to)),
            3 => {
                let twice = bytes[from..to].to_vec();
                bytes.splice(from..from, twice);
            }
            _ => {
                let other = chance.choice(real).expect("there are some");
                let at = chance.usize(..other.len());
                bytes.splice(from..to, other[at..(at + length).min(other.len())].iter().copied());
            }
        }
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
    bytes
}
