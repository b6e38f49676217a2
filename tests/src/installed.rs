//! What `tests/run` has installed.
//!
//! What it does not do: it installs nothing. What is not there fails the test and says so: a test that skips itself tests nothing.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where `tests/run` has put what a lock file below `tests/sdk` says, under the first sixteen digits of the lock's digest.
pub fn installed(kind: &str, lock: &str) -> PathBuf {
    at(kind, &Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk").join(lock))
}

/// Where it has installed MiniLM and onnxruntime, as XDG_DATA_HOME.
pub fn models() -> PathBuf {
    at("models", &Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/src/embed/install/requirements.txt"))
}

fn at(kind: &str, lock: &Path) -> PathBuf {
    let bytes = std::fs::read(lock).unwrap_or_else(|error| panic!("{}: {error}", lock.display()));
    let digest: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let home = || PathBuf::from(std::env::var_os("HOME").expect("there is a HOME")).join(".cache");
    let base = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from);
    let at = base.join("pointsman/tests").join(format!("{kind}-{digest}"));
    assert!(at.join("done").is_file(), "{} is not there; run `tests/run`, which installs it", at.display());
    at
}
