//! The plugins that the tests are done with: Rust guests of `tests/guests`, and hostile ones as WebAssembly text.
//!
//! Rust guests are compiled once for their sources, into the folder of the test executables, whichever test process comes
//! first; the others wait for it.
//!
//! What it does not do: it uses neither the SDK nor the host's own builder, so a defect of theirs does not hide here.
//!
//! **Invariant:** what is given back is made of the sources as they are now.

pub mod fuzz;
pub mod hostile;
pub mod walls;
pub mod wasi;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use wit_component::ComponentEncoder;

const TARGET: &str = "wasm32-unknown-unknown";
const NAMES: [&str; 4] = ["puppet", "asker", "router", "sender"];

/// The guest that returns what the request's `x-puppet-HOOK` headers say. All hooks, no imports.
pub fn puppet() -> Vec<u8> {
    built("puppet")
}

/// The guest that asks the host what `x-puppet-ask` says. All hooks, every import.
pub fn asker() -> Vec<u8> {
    built("asker")
}

/// The guest that sends what `x-puppet-send` says. It imports `http`.
pub fn sender() -> Vec<u8> {
    built("sender")
}

/// The guest that routes to the model asked for, and gives `revision NNNNNNNN` as its reason. Another number is another
/// component, with another digest. Those from 60 million on are moody: see the guest.
pub fn router(revision: u32) -> Vec<u8> {
    let mut component = built("router");
    let mark = b"revision 00000000";
    let at = component.windows(mark.len()).position(|window| window == mark).expect("the guest holds its revision");
    component[at..at + mark.len()].copy_from_slice(format!("revision {revision:08}").as_bytes());
    component
}

fn manifest_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn built(name: &str) -> Vec<u8> {
    let own = std::env::current_exe().expect("a test has a file");
    // target/PROFILE/deps/TEST-HASH
    let target = own.ancestors().nth(3).expect("tests lie three folders deep").join("guests");
    let folder = target.join(digest_of_sources());
    fs::create_dir_all(&target).expect("the target folder can be written");
    // Held until the end of this function; other test processes wait here.
    let lock = fs::File::create(target.join("lock")).expect("the target folder can be written");
    lock.lock().expect("a file can be locked");
    let file = folder.join(format!("{name}.wasm"));
    if !file.is_file() {
        build(&target, &folder);
    }
    fs::read(&file).expect("the guest was built")
}

/// Writes components and modules that nobody has thought of into a folder, as `FIRST.wasm` and so on: `tests/smith`, built as the guests are.
pub fn smith(folder: &Path, first: u64, count: u64) {
    let own = std::env::current_exe().expect("a test has a file");
    let target = own.ancestors().nth(3).expect("tests lie three folders deep").join("guests");
    fs::create_dir_all(&target).expect("the target folder can be written");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["run", "--release", "--locked", "--quiet", "--manifest-path"]).arg(manifest_folder().join("smith/Cargo.toml"));
    build.arg("--target-dir").arg(&target).env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = build.arg("--").arg(folder).args([first.to_string(), count.to_string()]).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn build(target: &Path, folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--release", "--locked", "--examples", "--target", TARGET, "--manifest-path"])
        .arg(manifest_folder().join("guests/Cargo.toml"))
        .arg("--target-dir")
        .arg(target)
        // Flags for the tests' own target are none for this one.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the test guests do not build; is the target there? `rustup target add {TARGET}`\n{said}");
    fs::create_dir_all(folder).expect("the target folder can be written");
    for name in NAMES {
        let module =
            fs::read(target.join(TARGET).join("release/examples").join(format!("{name}.wasm"))).expect("cargo has built it");
        fs::write(folder.join(format!("{name}.wasm")), component(&module)).expect("the target folder can be written");
    }
}

/// A component of a core module that carries its own description.
fn component(module: &[u8]) -> Vec<u8> {
    let encoder = ComponentEncoder::default().validate(true).module(module);
    encoder.and_then(|mut encoder| encoder.encode()).unwrap_or_else(|error| panic!("no component can be made of it: {error:#}"))
}

/// Everything that the guests are made of.
fn digest_of_sources() -> String {
    let folder = manifest_folder();
    let mut files = vec![folder.join("guests/Cargo.toml"), folder.join("guests/Cargo.lock")];
    for sources in ["guests/src", "guests/examples", "../wit"] {
        let entries = fs::read_dir(folder.join(sources)).unwrap_or_else(|error| panic!("{sources}: {error}"));
        files.extend(entries.map(|entry| entry.expect("a folder can be read").path()).filter(|path: &PathBuf| path.is_file()));
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        hash.update(file.file_name().expect("a file has a name").as_encoded_bytes());
        hash.update(fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
