//! Runs cargo, and reads what it says.
//!
//! What it does not do: it changes no file of the plugin, its lock file included where there is one.
//!
//! Cargo keeps one module of a name in a target folder, whichever package has made it, and tells of it as if it were each one's own. So what has
//! been compiled last is noted beside it, and where that is another folder's, this one is compiled anew.
//!
//! **Invariant:** a module is that of the folder that was asked for, however many share a target folder.
//! **Invariant:** what is compiled depends on the folder, the compiler and the settings here: a profile that the plugin's own
//! workspace has other values for is overridden.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::toolchain::{self, Std};
use super::{BuildError, Options, TARGET};

/// A profile of our own: what is built for plugins and what the author builds otherwise do not push each other out.
const PROFILE: &str = "pointsman";
/// Small and quick to start: each request may get a fresh instance. An optimiser for size is as fast here, as a plugin's time goes
/// into crossing to the host and back.
const SETTINGS: [&str; 8] = [
    "inherits='release'",
    "opt-level='s'",
    "lto='fat'",
    "codegen-units=1",
    "panic='abort'",
    "strip=true",
    "debug=false",
    "incremental=false",
];
/// A guest's stack, in bytes: with its data, two or three pages of memory instead of seventeen, which each fresh instance must
/// clear. One that runs out of it traps.
const STACK: u32 = 64 << 10;

/// The core module that cargo has made.
pub(super) struct Compiled {
    pub(super) module: Vec<u8>,
    pub(super) warnings: String,
}

/// Compiles the folder's package; gets the target first if it is not there.
pub(super) fn compile(dir: &Path, options: &Options) -> Result<Compiled, BuildError> {
    let place = Place::of(dir, options);
    // Until the module has been read: another one of the same name may be next.
    let _alone = place.lock();
    let (mut artifact, mut warnings) = once(dir, &place)?;
    let note = artifact.file.with_extension("wasm.of");
    let folder = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let is_ours = std::fs::read(&note).is_ok_and(|noted| noted == folder.as_os_str().as_encoded_bytes());
    if artifact.is_fresh && !is_ours {
        run(cargo(dir, &place, "clean").arg("--package").arg(&artifact.package))?;
        (artifact, warnings) = once(dir, &place)?;
        if artifact.is_fresh {
            let reason = format!(
                "{} is not of this folder; give it a target folder of its own (CARGO_TARGET_DIR)",
                artifact.file.display()
            );
            return Err(BuildError::Component { dir: dir.to_owned(), reason });
        }
    }
    let unread = |error| BuildError::Component {
        dir: dir.to_owned(),
        reason: format!("{} cannot be read: {error}; build it again", artifact.file.display()),
    };
    let module = std::fs::read(&artifact.file).map_err(unread)?;
    std::fs::write(&note, folder.as_os_str().as_encoded_bytes())
        .map_err(|error| BuildError::Write { file: note.clone(), error })?;
    Ok(Compiled { module, warnings })
}

/// What cargo tells of the module, and its remarks.
fn once(dir: &Path, place: &Place) -> Result<(Artifact, String), BuildError> {
    let mut output = run(&mut command(dir, place, toolchain::known()))?;
    if !output.status.success() && toolchain::is_missing(&text(&output.stderr)) {
        let from_source = toolchain::provide(dir).map_err(|reason| BuildError::Target { reason })?;
        output = run(&mut command(dir, place, from_source))?;
    }
    let said = text(&output.stderr).trim().to_owned();
    if !output.status.success() {
        let (dir, output) = (dir.to_owned(), said);
        let is_locked = output.contains("--locked was passed");
        return Err(if is_locked { BuildError::Lock { dir, output } } else { BuildError::Compile { dir, output } });
    }
    let missing = || BuildError::Component {
        dir: dir.to_owned(),
        reason: "its Cargo.toml makes no WebAssembly module; write `crate-type = [\"cdylib\"]` under `[lib]`".to_owned(),
    };
    Ok((artifact(&text(&output.stdout), dir).ok_or_else(missing)?, said))
}

/// Where cargo works on a folder. Only cargo knows which workspace that is in, and what its own settings say.
#[derive(Default)]
struct Place {
    /// There is a lock file, in the folder or in the root of its workspace. Then it holds.
    is_locked: bool,
    /// Where it keeps what it has compiled, where it is not left to itself.
    target: Option<PathBuf>,
    /// The same, whoever has said so.
    kept: Option<PathBuf>,
}

impl Place {
    fn of(dir: &Path, options: &Options) -> Self {
        // As seen from here, not from the plugin's folder.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let target = options.target_dir.clone().or_else(|| std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from)).map(absolute);
        let asked = Command::new(program())
            .current_dir(dir)
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .stdin(Stdio::null())
            .output();
        // A folder that cargo cannot place has no lock file; the build will say what is wrong with it.
        let about: serde_json::Value =
            asked.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default();
        let path = |name: &str| about[name].as_str().map(PathBuf::from);
        Self {
            is_locked: path("workspace_root").is_some_and(|root| root.join("Cargo.lock").is_file()),
            kept: target.clone().or_else(|| path("target_directory")),
            target,
        }
    }

    /// Held for as long as nobody else may compile into it. Where that cannot be had, cargo's own locks have to do.
    fn lock(&self) -> Option<File> {
        let folder = self.kept.as_deref()?;
        std::fs::create_dir_all(folder).ok()?;
        let lock = File::create(folder.join("pointsman.lock")).ok()?;
        lock.lock().ok().map(|()| lock)
    }
}

fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn run(command: &mut Command) -> Result<Output, BuildError> {
    command.output().map_err(|error| BuildError::Cargo { program: program().to_string_lossy().into_owned(), error })
}

/// In the plugin's folder, so that its own rust-toolchain.toml and .cargo/config.toml hold.
fn cargo(dir: &Path, place: &Place, what: &str) -> Command {
    let mut cargo = Command::new(program());
    cargo.current_dir(dir).stdin(Stdio::null()).env("CARGO_TERM_COLOR", "never");
    cargo.args([what, "--quiet", "--target", TARGET, "--profile", PROFILE]);
    for setting in SETTINGS {
        cargo.arg("--config").arg(format!("profile.{PROFILE}.{setting}"));
    }
    if place.is_locked {
        cargo.arg("--locked");
    }
    if let Some(target) = &place.target {
        cargo.arg("--target-dir").arg(target);
    }
    cargo
}

fn command(dir: &Path, place: &Place, from_source: Option<&Std>) -> Command {
    let mut cargo = cargo(dir, place, "build");
    cargo.args(["--lib", "--message-format=json-render-diagnostics"]);
    let mut flags = vec![format!("-Clink-arg=-zstack-size={STACK}")];
    // Panic messages name files. Where cargo keeps its downloads is nobody's business, and would give each machine another digest.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    flags.extend(home.map(|home| format!("--remap-path-prefix={}=cargo", home.display())));
    if let Some(std) = from_source {
        cargo.args(["-Z", "build-std=std,panic_abort"]).env("RUSTC", &std.rustc).env("RUSTC_BOOTSTRAP", "1");
        flags.push(format!("-Clinker={}", std.linker.display()));
    }
    let inherited = |name: &str| std::env::var(name).ok();
    match all_flags(inherited("CARGO_ENCODED_RUSTFLAGS"), inherited("RUSTFLAGS"), &flags) {
        Some(encoded) => cargo.env("CARGO_ENCODED_RUSTFLAGS", encoded),
        None => cargo.arg("--config").arg(format!("target.{TARGET}.rustflags={}", toml::Value::from(flags))),
    };
    cargo
}

/// Flags in the environment make cargo ignore those in its configuration, ours included; so ours are put behind them. None: there
/// are none in the environment, and the configuration's own and ours add up.
fn all_flags(encoded: Option<String>, plain: Option<String>, ours: &[String]) -> Option<String> {
    const BETWEEN: &str = "\u{1f}";
    let theirs = encoded.or_else(|| plain.map(|flags| flags.split_whitespace().collect::<Vec<_>>().join(BETWEEN)))?;
    let all: Vec<&str> =
        std::iter::once(theirs.as_str()).filter(|flags| !flags.is_empty()).chain(ours.iter().map(String::as_str)).collect();
    Some(all.join(BETWEEN))
}

/// A module as cargo tells of it.
#[derive(Debug, PartialEq, Eq)]
struct Artifact {
    file: PathBuf,
    /// The package, as cargo names it.
    package: String,
    /// It was compiled before, and is what it was then; or what another package has put in its place.
    is_fresh: bool,
}

/// The module that cargo's messages tell of, one JSON object a line. Those of other packages are not ours.
fn artifact(messages: &str, dir: &Path) -> Option<Artifact> {
    let manifest = dir.join("Cargo.toml");
    let manifest = manifest.canonicalize().unwrap_or(manifest);
    let is_ours = |message: &serde_json::Value| {
        let path = message["manifest_path"].as_str().map(Path::new);
        message["reason"] == "compiler-artifact"
            && path.is_some_and(|path| path.canonicalize().is_ok_and(|path| path == manifest))
    };
    let module = |message: serde_json::Value| {
        let mut files = message["filenames"].as_array()?.iter().filter_map(|file| file.as_str().map(PathBuf::from));
        Some(Artifact {
            file: files.find(|file| file.extension().is_some_and(|extension| extension == "wasm"))?,
            package: message["package_id"].as_str().unwrap_or_default().to_owned(),
            is_fresh: message["fresh"] == true,
        })
    };
    messages.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(is_ours).find_map(module)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_the_environment_are_kept() {
        let ours = ["-Ca".to_owned(), "-Cb c".to_owned()];
        let check =
            |encoded: Option<&str>, plain: Option<&str>| all_flags(encoded.map(str::to_owned), plain.map(str::to_owned), &ours);
        assert_eq!(check(None, None), None);
        assert_eq!(check(None, Some(" -D  warnings ")).as_deref(), Some("-D\u{1f}warnings\u{1f}-Ca\u{1f}-Cb c"));
        assert_eq!(check(Some("-O"), Some("-D warnings")).as_deref(), Some("-O\u{1f}-Ca\u{1f}-Cb c"));
        assert_eq!(check(None, Some("")).as_deref(), Some("-Ca\u{1f}-Cb c"));
    }

    #[test]
    fn the_module_is_that_of_the_package() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("Cargo.toml"), "").unwrap();
        let line = |manifest: &Path, file: &str| {
            serde_json::json!({ "reason": "compiler-artifact", "manifest_path": manifest, "package_id": "p", "fresh": true, "filenames": ["/t/lib.rlib", file] })
                .to_string()
        };
        let (ours, other) = (dir.path().join("Cargo.toml"), Path::new("/nowhere/Cargo.toml"));
        let messages = format!(
            "not JSON\n{}\n{}\n{{\"reason\":\"build-finished\"}}\n",
            line(other, "/t/other.wasm"),
            line(&ours, "/t/ours.wasm")
        );
        let ours_is = Artifact { file: "/t/ours.wasm".into(), package: "p".into(), is_fresh: true };
        assert_eq!(artifact(&messages, dir.path()), Some(ours_is));
        assert_eq!(artifact(&line(other, "/t/other.wasm"), dir.path()), None);
        assert_eq!(artifact(&line(&ours, "/t/ours.so"), dir.path()), None);
    }

    #[test]
    fn the_lock_file_is_that_of_the_workspace() {
        let dir = tempfile::tempdir().unwrap();
        let has_lock = |dir: &Path| Place::of(dir, &Options::default()).is_locked;
        let write = |path: &str, text: &str| {
            let file = dir.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        for (name, more) in [("member", ""), ("alone", "[workspace]")] {
            write(&format!("{name}/src/lib.rs"), "");
            write(&format!("{name}/Cargo.toml"), &format!("[package]\nname = '{name}'\nversion = '1.0.0'\n{more}"));
        }
        write("Cargo.toml", "[workspace]\nmembers = ['member']\nresolver = '3'");
        assert!(!has_lock(&dir.path().join("member")));
        write("Cargo.lock", "version = 4\n");
        assert!(has_lock(&dir.path().join("member")));
        assert!(!has_lock(&dir.path().join("alone")), "it is in no workspace but its own");
        write("alone/Cargo.lock", "version = 4\n");
        assert!(has_lock(&dir.path().join("alone")));
        assert!(!has_lock(Path::new("/nowhere")));
    }
}
