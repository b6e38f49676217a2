//! Exit codes and streams: 0 done, 1 failed, 2 the input was wrong; results on standard output, everything else on standard error.

use tests::binary::run;
use tests::{FakeUpstream, Host, Plugin, guests};

/// Runs a command: its exit code, and what must be in its output and in its errors. Empty: nothing at all.
fn check(arguments: &[&str], code: i32, out: &str, err: &str) {
    let (ended, said, complained) = run(arguments);
    let is_said = |text: &str, part: &str| if part.is_empty() { text.is_empty() } else { text.contains(part) };
    assert!(
        ended == code && is_said(&said, out) && is_said(&complained, err),
        "{arguments:?} ended with {ended}\n{said}\n{complained}"
    );
}

#[test]
fn arguments() {
    check(&["--version"], 0, "pointsman 0.", "");
    check(&["--help"], 0, "pointsman dev", "");
    for command in ["serve", "dev", "check", "plugin", "explain", "replay", "cache", "key"] {
        check(&[command, "--help"], 0, "Usage: pointsman", "");
    }
    check(&[], 2, "", "Usage");
    check(&["srve"], 2, "", "serve");
    check(&["check"], 2, "", "FILE");
    check(&["key", "new"], 2, "", "NAME");
}

#[test]
fn configurations() {
    let host = Host::new();
    let folder = host.folder();
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    folder.write("good.toml", b"[listen]\naddress = \"127.0.0.1:0\"\n");
    folder.write("bad.toml", b"[listen]\nadress = \"127.0.0.1:0\"\n");
    check(&["check", &path("good.toml")], 0, "good.toml: ok", "");
    check(&["check", &path("bad.toml")], 2, "", "bad.toml:2:1: listen.adress");
    check(&["check", &path("none.toml")], 2, "", "none.toml");
    check(&["check", "--schema"], 0, "\"$schema\"", "");
    check(&["serve", "--config", &path("bad.toml")], 2, "", "did you mean `address`");
    check(&["serve", "--config", &path("none.toml")], 2, "", "none.toml");
}

/// What reads well and cannot be put into force is wrong input; what the system refuses is a failure.
#[test]
fn starts_that_fail() {
    let fake = FakeUpstream::start();
    let taken = format!("address = \"{}\"", fake.address());
    let host = Host::new();
    let folder = host.folder();
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    folder.write("taken.toml", format!("[listen]\n{taken}\n").as_bytes());
    check(&["serve", "--config", &path("taken.toml")], 1, "", &fake.address().to_string());
    folder.write("plugin.toml", b"[plugins.x]\ncomponent = \"x.wasm\"\nhooks = [\"routing\"]\n");
    folder.write("x.wasm", &guests::hostile::core_module());
    check(&["serve", "--config", &path("plugin.toml")], 2, "", "core module");
}

/// The key goes to standard output alone, so that it can be piped into a secret store; its entry opens a host.
#[test]
fn a_new_key_opens() {
    let (code, key, entry) = run(&["key", "new", "my app", "--tenant", "team"]);
    assert_eq!((code, key.lines().count()), (0, 1));
    let key = key.trim();
    assert!(key.starts_with("pm-") && !entry.contains(key));
    let fake = FakeUpstream::start();
    // What goes to standard error may be appended to the configuration as it is.
    let host = Host::new().upstream(&fake).section(&entry).start();
    assert_eq!(host.ask("hi").header("authorization", &format!("Bearer {key}")).send().status, 200);
    assert_eq!(host.chat("hi").status, 401);
    check(&["key", "new", ""], 2, "", "NAME");
}

#[test]
fn components_are_described() {
    let host = Host::new().plugin(Plugin::asker()).file("module.wasm", &guests::hostile::core_module());
    let path = |name: &str| host.folder().path(name).to_str().unwrap().to_owned();
    check(&["plugin", "inspect", &path("asker.wasm")], 0, "embeddings", "");
    let (_, json, _) = run(&["plugin", "inspect", "--json", &path("asker.wasm")]);
    let inspection: serde_json::Value = serde_json::from_str(&json).unwrap();
    let names = |list: &str| inspection[list].as_array().unwrap_or_else(|| panic!("{json}")).len();
    assert_eq!((names("hooks"), names("grants")), (3, 8), "{json}");
    check(&["plugin", "inspect", &path("module.wasm")], 2, "", "core module");
    check(&["plugin", "inspect", &path("none.wasm")], 2, "", "none.wasm");
    // No plugin's folder is wrong input, whether it is there or not; a plugin that does not compile is a build that failed.
    check(&["plugin", "build", host.folder().path("").to_str().unwrap()], 2, "", "Cargo.toml");
    check(&["plugin", "build", &path("none")], 2, "", "name the folder of a plugin");
    host.folder().write("bad/Cargo.toml", b"[package]\nname = \"bad\"\nversion = \"1.0.0\"\nedition = \"2024\"\n[workspace]\n");
    host.folder().write("bad/src/lib.rs", b"this does not compile");
    check(&["plugin", "build", &path("bad")], 1, "", "does not compile");
}
