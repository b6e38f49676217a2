//! What the binary carries of the SDKs, so that a plugin in JavaScript or Python is built without a checkout of this repository: the SDK's
//! own files, the script that builds, the lock files of what that script needs, and the contract.
//!
//! What it does not do: it carries no part of a toolchain. Those come from npm and PyPI (`scripts`).
//!
//! **Invariant:** these are the files of `sdk/` and `wit/`, all of them (a test looks).

use super::Language;

/// A file's path in the folder that it is laid in, and its text.
pub(super) type File = (&'static str, &'static str);

macro_rules! carried {
    ($root:literal: $($path:literal),+ $(,)?) => {
        &[$(($path, include_str!(concat!("../../../../", $root, "/", $path)))),+]
    };
}

/// The contract.
pub(super) const CONTRACT: &[File] = carried!("wit": "host.wit", "plugins.wit", "types.wit");

pub(super) const JS: &[File] = carried!("sdk/js":
    "src/caching.ts", "src/clock.ts", "src/config.ts", "src/embeddings.ts", "src/errors.ts", "src/export.ts", "src/index.ts", "src/kv.ts",
    "src/log.ts", "src/metrics.ts", "src/prompting.ts", "src/random.ts", "src/request.ts", "src/routing.ts", "src/upstreams.ts",
    "wit/plugin.d.ts",
);
const JS_TOOLCHAIN: &[File] = carried!("sdk/js/toolchain": "build.mjs", "package-lock.json", "package.json");

pub(super) const PYTHON: &[File] = carried!("sdk/python":
    "pointsman_plugin/__init__.py", "pointsman_plugin/_export.py", "pointsman_plugin/caching.py", "pointsman_plugin/clock.py",
    "pointsman_plugin/config.py", "pointsman_plugin/embeddings.py", "pointsman_plugin/errors.py", "pointsman_plugin/kv.py",
    "pointsman_plugin/log.py", "pointsman_plugin/metrics.py", "pointsman_plugin/prompting.py", "pointsman_plugin/py.typed",
    "pointsman_plugin/random.py", "pointsman_plugin/request.py", "pointsman_plugin/routing.py", "pointsman_plugin/upstreams.py",
    "pointsman_wit/__init__.py", "pointsman_wit/exports/__init__.py", "pointsman_wit/exports/caching.py",
    "pointsman_wit/exports/lifecycle.py", "pointsman_wit/exports/prompting.py", "pointsman_wit/exports/routing.py",
    "pointsman_wit/imports/__init__.py", "pointsman_wit/imports/clock.py", "pointsman_wit/imports/config.py",
    "pointsman_wit/imports/embeddings.py", "pointsman_wit/imports/kv.py", "pointsman_wit/imports/log.py",
    "pointsman_wit/imports/metrics.py", "pointsman_wit/imports/random.py", "pointsman_wit/imports/request_data.py",
    "pointsman_wit/imports/types.py", "pointsman_wit/imports/upstreams.py", "componentize_py_types.py",
);
const PYTHON_TOOLCHAIN: &[File] = carried!("sdk/python/toolchain": "build.py", "requirements.txt");

/// What is carried for a language: the SDK, and what builds with it. Nothing for Rust, whose SDK is a crate.
pub(super) fn files(language: Language) -> (&'static [File], &'static [File]) {
    match language {
        Language::Rust => (&[], &[]),
        Language::JavaScript => (JS, JS_TOOLCHAIN),
        Language::Python => (PYTHON, PYTHON_TOOLCHAIN),
    }
}

/// The text of a file of a language's toolchain.
pub(super) fn text(language: Language, name: &str) -> &'static str {
    files(language).1.iter().find(|(path, _)| *path == name).map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn there(root: &Path, at: &Path, ends: &[&str], found: &mut Vec<String>) {
        for entry in std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                there(root, &entry, ends, found);
            } else if ends.iter().any(|end| entry.to_str().unwrap().ends_with(end)) {
                found.push(entry.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn nothing_of_the_sdks_is_left_behind() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let check = |carried: &[File], folder: &str, below: &[&str], ends: &[&str]| {
            let folder = root.join(folder);
            let mut found = Vec::new();
            below.iter().for_each(|below| there(&folder, &folder.join(below), ends, &mut found));
            let mut carried: Vec<&str> =
                carried.iter().map(|(path, _)| *path).filter(|path| path.contains('/') || below == [""]).collect();
            found.sort();
            carried.sort_unstable();
            assert_eq!(carried, found, "{}", folder.display());
        };
        check(CONTRACT, "wit", &[""], &[".wit"]);
        check(JS, "sdk/js", &["src", "wit"], &[".ts"]);
        check(PYTHON, "sdk/python", &["pointsman_plugin", "pointsman_wit"], &[".py", ".typed"]);
    }
}
