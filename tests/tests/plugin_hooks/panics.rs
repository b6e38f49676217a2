//! What a plugin of the SDK panics with is what its owner reads: in the log, and where the configuration is refused.

use std::path::Path;

use pointsman::plugin::build::{Options, build};
use tests::guests::hostile::{self, At};
use tests::host::Folder;
use tests::{FakeUpstream, Host, Plugin};

/// Panics as the request's `x-panic` says, or where it is checked if `panics` is set.
const SOURCE: &str = r#"
use pointsman_plugin::{Decision, Request, RequestHead, Result, Routing, config};

struct Panics;

impl Routing for Panics {
    fn check() -> Result<()> {
        if config::get("panics").is_some() {
            panic!("no such setting");
        }
        Ok(())
    }

    fn route(_: &RequestHead, request: &Request) -> Result<Decision> {
        match request.header("x-panic").as_deref() {
            Some("index") => drop([1, 2, 3][request.messages().count() + 2]),
            Some("unwrap") => drop(request.header("x-none").ok_or(7).unwrap()),
            Some(text) => panic!("{text} and no more"),
            None => {}
        }
        Ok(Decision::Pass)
    }
}

pointsman_plugin::export!(Panics: routing);
"#;

fn component(folder: &Folder) -> Vec<u8> {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/rust").canonicalize().unwrap();
    let manifest = format!(
        "[package]\nname = \"panics\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
         [dependencies]\npointsman-plugin = {{ path = {:?} }}\n[workspace]\n",
        sdk.to_str().unwrap()
    );
    folder.write("panics/Cargo.toml", manifest.as_bytes());
    folder.write("panics/src/lib.rs", SOURCE.as_bytes());
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panics");
    let built = build(&folder.path("panics"), &Options { target_dir: Some(target), component: None }).unwrap();
    std::fs::read(built.component).unwrap()
}

/// wasmtime tells where a guest stood before it tells why it ended, and logs and lists show the beginning: a missed deadline and too little
/// memory looked alike, and like any trap.
#[test]
fn the_setting_that_ended_a_call_is_in_the_log() {
    let fake = FakeUpstream::start();
    for (name, expect) in [
        ("endless-loop", "no answer in 20ms, which is its `deadline`: wasm trap: interrupt"),
        ("memory-bomb", "it wants more than the 16384 KiB that `memory` allows it: "),
        ("trap", "wasm trap: wasm `unreachable` instruction executed"),
    ] {
        let component = hostile::ALL.into_iter().find(|guest| guest.name == name).unwrap().component(At::Route);
        let plugin = Plugin::new("hostile", component).hooks("\"routing\"").set("deadline = \"20ms\"");
        let host = Host::new().upstream(&fake).plugin(plugin).spawn();
        assert_eq!(host.chat("hi").status, 200, "it falls through");
        let line = host.wait_for_log("plugin failed: ");
        assert!(line.contains(&format!("plugin failed: {expect}")), "{line}");
    }
}

/// It was told at `component`, with a remedy that changes nothing.
#[test]
fn memory_that_is_too_little_is_told_at_its_key() {
    let fake = FakeUpstream::start();
    let plugin = Plugin::puppet().set("memory = \"64KiB\"");
    let refused = Host::new().upstream(&fake).plugin(plugin).try_start().err().expect("it has no room").to_string();
    assert!(
        refused.contains(".memory: ")
            && refused.contains("needs more than the 64 KiB that it may have")
            && refused.contains("write more"),
        "{refused}"
    );
}

#[test]
fn the_message_is_in_the_log() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake);
    let component = component(host.folder());
    // Nothing is granted but what the code asks for: a panic needs no grant.
    let plugin = Plugin::new("panics", component.clone()).hooks("\"routing\"").set("grant = [\"config\"]\ndeadline = \"500ms\"");
    let host = host.plugin(plugin).spawn();
    let long = "x".repeat(2000);
    for (ask, expect) in [
        ("It broke", "It broke and no more"),
        ("index", "index out of bounds: the len is 3 but the index is 3"),
        ("unwrap", "called `Result::unwrap()` on an `Err` value: 7"),
        (long.as_str(), &long[..400]),
    ] {
        assert_eq!(host.ask("hi").header("x-panic", ask).send().status, 200, "it falls through");
        let line = host.wait_for_log(expect);
        assert!(line.contains("plugin failed: panicked at src/lib.rs:") && line.contains("\"cause\":\"trap\""), "{line}");
    }
    assert_eq!(host.chat("hi").status, 200, "an instance that has nothing to say");

    let host = Host::new().upstream(&fake);
    let plugin =
        Plugin::new("panics", component).hooks("\"routing\"").set("grant = [\"config\"]").set("config = { panics = true }");
    let refused = host.plugin(plugin).try_start().err().expect("its check panics").to_string();
    assert!(refused.contains("panicked at src/lib.rs:9:13: no such setting"), "{refused}");
}
