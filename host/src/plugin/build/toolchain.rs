//! A standard library for the guests' target, where the compiler has none.
//!
//! rustup adds it in seconds. Where rustup's server cannot be reached but Debian's can, there is another way: Debian's package
//! rust-web-src has the library's source, rustc-web the compiler that it belongs to, and cargo compiles one with the other.
//!
//! What it does not do: it installs no package and asks for no password; it says which are needed.
//!
//! **Invariant:** it is asked only after a build has failed for want of the target, so that a build that needs nothing waits for
//! nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::TARGET;

/// A compiler with the source of its standard library, and a linker for WebAssembly.
pub(super) struct Std {
    pub(super) rustc: PathBuf,
    pub(super) linker: PathBuf,
}

/// Found once, it serves every later build of this process: `pointsman dev` asks no server at each edit.
static FROM_SOURCE: OnceLock<Std> = OnceLock::new();

/// Debian's compiler.
const DEBIAN: &str = "/usr/bin/rustc";

/// Does the compiler say that it has no library for the target? (E0463, with this note since 2016.)
pub(super) fn is_missing(said: &str) -> bool {
    said.contains(&format!("the `{TARGET}` target may not be installed"))
}

/// What an earlier build of this process found that the library can be compiled with.
pub(super) fn known() -> Option<&'static Std> {
    FROM_SOURCE.get()
}

/// Gets the library with rustup (then nothing is to be done differently), or finds what it can be compiled with.
pub(super) fn provide(dir: &Path) -> Result<Option<&'static Std>, String> {
    let Err(why) = answer(Command::new("rustup").args(["target", "add", TARGET]).current_dir(dir)) else { return Ok(None) };
    match from_source(Path::new(DEBIAN)) {
        Ok(found) => Ok(Some(FROM_SOURCE.get_or_init(|| found))),
        Err(missing) => Err(format!(
            "`rustup target add {TARGET}` failed ({why}), and to compile the standard library here, {missing}.\n\
             Install Rust from https://rustup.rs and run `rustup target add {TARGET}`, or `apt-get install rustc-web rust-web-src lld`"
        )),
    }
}

/// What the library can be compiled with; the error says what is missing.
fn from_source(rustc: &Path) -> Result<Std, String> {
    let sysroot = sysroot(rustc).map_err(|why| format!("there is no {} ({why})", rustc.display()))?;
    let source = sysroot.join("lib/rustlib/src/rust/library");
    if !source.is_dir() {
        return Err(format!("there is no source in {}", source.display()));
    }
    Ok(Std { rustc: rustc.to_owned(), linker: linker().ok_or("there is neither rust-lld nor wasm-ld")? })
}

/// rust-lld as rustup brings it, or the one of Debian's package `lld`.
fn linker() -> Option<PathBuf> {
    let beside_rustc = || {
        let rustlib = sysroot(Path::new("rustc")).ok()?.join("lib/rustlib");
        let hosts = std::fs::read_dir(rustlib).ok()?.flatten();
        hosts.map(|host| host.path().join("bin/rust-lld")).find(|lld| lld.is_file())
    };
    let in_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("wasm-ld")).find(|lld| lld.is_file())
    };
    beside_rustc().or_else(in_path)
}

fn sysroot(rustc: &Path) -> Result<PathBuf, String> {
    answer(Command::new(rustc).args(["--print", "sysroot"])).map(|path| PathBuf::from(path.trim()))
}

/// What a program prints, or the last line of what it complains of.
fn answer(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or_default().to_owned();
    Err(if said.is_empty() { output.status.to_string() } else { said })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compilers_words_are_understood() {
        let said =
            "error[E0463]: can't find crate for `std`\n  |\n  = note: the `wasm32-unknown-unknown` target may not be installed\n";
        assert!(is_missing(said));
        assert!(!is_missing("error[E0463]: can't find crate for `serde`"));
        assert!(!is_missing("  = note: the `wasm32-wasip2` target may not be installed"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let none = from_source(Path::new("/nowhere/rustc")).err().unwrap();
        assert!(none.starts_with("there is no /nowhere/rustc ("), "{none}");
    }

    #[test]
    fn a_failing_program_says_why() {
        assert_eq!(
            answer(Command::new("sh").args(["-c", "echo one; echo two >&2; echo three >&2; exit 3"])),
            Err("three".to_owned())
        );
        assert_eq!(answer(Command::new("sh").args(["-c", "echo one"])), Ok("one\n".to_owned()));
        assert!(answer(Command::new("sh").args(["-c", "exit 3"])).unwrap_err().contains('3'));
    }
}
