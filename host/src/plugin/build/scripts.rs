//! Plugins in JavaScript, TypeScript and Python: gets what builds them, once, and runs it.
//!
//! A toolchain is installed from npm or PyPI into the user's cache folder, under the digest of its lock file; the SDK is laid beside it under
//! its own digest, so that another version of pointsman installs nothing anew where the lock is the same. Nothing is installed for the
//! whole machine, and nothing beside the plugin.
//!
//! What it does not do: it reads no plugin; the scripts of `sdk/js/toolchain` and `sdk/python/toolchain` do.
//!
//! **Invariant:** a folder is used only if it is whole: the file `done` is written last. Processes that install wait for one another.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::{BuildError, Language};
use crate::plugin::scaffold::below;

/// A toolchain, an SDK or a component that nobody has used for so long is removed when the next one comes.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Written last.
const DONE: &str = "done";

/// How a language's toolchain is had.
struct Recipe {
    language: Language,
    /// The folder's name below `sdk/`, and in the cache.
    name: &'static str,
    /// The file that says what is installed.
    lock: &'static str,
    script: &'static str,
    /// What of the SDK the script finds beside itself.
    beside: &'static [&'static str],
}

const JS: Recipe = Recipe {
    language: Language::JavaScript,
    name: "js",
    lock: "package-lock.json",
    script: "build.mjs",
    beside: &["src/", "wit/"],
};
const PYTHON: Recipe = Recipe {
    language: Language::Python,
    name: "python",
    lock: "requirements.txt",
    script: "build.py",
    beside: &["pointsman_plugin/"],
};

fn recipe(language: Language) -> Option<&'static Recipe> {
    match language {
        Language::Rust => None,
        Language::JavaScript => Some(&JS),
        Language::Python => Some(&PYTHON),
    }
}

/// What will be installed before the folder is built for the first time, in words; none where all is there.
pub fn to_install(dir: &Path) -> Option<String> {
    let recipe = recipe(super::language(dir)?)?;
    let folder = recipe.toolchain(&cache()?);
    let (what, size) = match recipe.language {
        Language::JavaScript => ("componentize-js and jco from npm", "390 MB"),
        _ => ("componentize-py from PyPI", "70 MB"),
    };
    (!is_whole(&folder)).then(|| format!("installing {what} into {} ({size}, once) …", folder.display()))
}

/// What builds plugins in a language, installed.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The program that runs its script: `node`, or the toolchain's own Python.
    pub program: PathBuf,
    /// Where the script lies, beside the SDK, the contract (`contract/`) and, for node, the packages of the toolchain.
    pub folder: PathBuf,
}

/// Installs what plugins in a language take, where it is not there.
///
/// # Errors
/// What was tried, and what to install.
pub fn prepare(language: Language) -> Result<Prepared, BuildError> {
    let wrong = |reason: String| BuildError::Toolchain { language: language.name(), reason };
    let recipe = recipe(language).ok_or_else(|| wrong("cargo does that; install Rust from https://rustup.rs".to_owned()))?;
    let cache = cache().ok_or_else(|| wrong("there is no folder to install into; set HOME or XDG_CACHE_HOME".to_owned()))?;
    let program = recipe.ready(&cache).map_err(wrong)?;
    Ok(Prepared { program, folder: recipe.sdk(&cache) })
}

/// The component of a folder.
pub(super) fn make(dir: &Path, language: Language) -> Result<Vec<u8>, BuildError> {
    let wrong = |reason: String| BuildError::Toolchain { language: language.name(), reason };
    let Prepared { program, folder } = prepare(language)?;
    // It was there a moment ago.
    let cache = folder.parent().unwrap_or(Path::new("/"));
    let script = folder.join(recipe(language).map_or("", |recipe| recipe.script));
    let scratch = scratch(cache).map_err(|error| wrong(format!("{}: {error}", cache.display())))?;
    let ran = Command::new(&program)
        .arg(&script)
        .arg(dir)
        .arg(&scratch)
        .arg(cache.join("components"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("PYTHONPATH")
        .env_remove("NODE_OPTIONS")
        .stdin(Stdio::null())
        .output();
    let made = match ran {
        Err(error) => Err(wrong(format!("`{}` cannot be run: {error}", program.display()))),
        Ok(ran) if ran.status.success() => fs::read(&scratch).map_err(|error| wrong(error.to_string())),
        Ok(ran) => {
            let output = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
            Err(BuildError::Compile { dir: dir.to_owned(), output })
        }
    };
    let _ = fs::remove_file(&scratch);
    made
}

/// A name for what a script writes, that no other build has.
fn scratch(cache: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(cache)?;
    Ok(cache.join(format!("{:016x}.wasm", fastrand::u64(..))))
}

/// Where everything is kept.
fn cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    Some(base.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?.join("pointsman").join("toolchains"))
}

impl Recipe {
    fn toolchain(&self, cache: &Path) -> PathBuf {
        cache.join(format!("{}-{}", self.name, digest([self.text(self.lock)])))
    }

    fn sdk(&self, cache: &Path) -> PathBuf {
        let texts = self.files().into_iter().flat_map(|(path, text)| [path, text.to_owned()]);
        cache.join(format!("{}-sdk-{}", self.name, digest(texts)))
    }

    /// What the script finds beside itself, and itself.
    fn files(&self) -> Vec<(String, &'static str)> {
        let sdk = below(&format!("sdk/{}/", self.name)).into_iter();
        let sdk = sdk.filter(|(path, _)| self.beside.iter().any(|folder| path.starts_with(folder)));
        let contract = below("wit/").into_iter().map(|(path, text)| (format!("contract/{path}"), text));
        sdk.chain(self.files_of_toolchain()).map(|(path, text)| (path.to_owned(), text)).chain(contract).collect()
    }

    fn files_of_toolchain(&self) -> Vec<(&'static str, &'static str)> {
        below(&format!("sdk/{}/toolchain/", self.name))
    }

    /// The text of a file of the toolchain.
    fn text(&self, name: &str) -> &'static str {
        self.files_of_toolchain().into_iter().find(|(path, _)| *path == name).map_or("", |(_, text)| text)
    }

    /// Installs what is not there. The program that runs the script.
    fn ready(&self, cache: &Path) -> Result<PathBuf, String> {
        let (toolchain, sdk) = (self.toolchain(cache), self.sdk(cache));
        if !is_whole(&toolchain) || !is_whole(&sdk) {
            let told = |error: io::Error| format!("{}: {error}; it has to be a folder that can be written", cache.display());
            fs::create_dir_all(cache).map_err(told)?;
            // Held until the end of this function.
            let lock = File::create(cache.join("lock")).map_err(told)?;
            lock.lock().map_err(told)?;
            if !is_whole(&toolchain) {
                let made = fresh(&toolchain).map_err(told).and_then(|()| self.install(&toolchain));
                made.inspect_err(|_| drop(fs::remove_dir_all(&toolchain)))?;
                whole(&toolchain).map_err(told)?;
            }
            if !is_whole(&sdk) {
                fresh(&sdk).and_then(|()| self.lay(&sdk, &toolchain)).and_then(|()| whole(&sdk)).map_err(told)?;
            }
            self.tidy(cache, &[&toolchain, &sdk]);
        }
        for folder in [&toolchain, &sdk] {
            // Used just now. On a medium that cannot be written nothing is removed either.
            let _ = File::options().write(true).open(folder.join(DONE)).and_then(|file| file.set_modified(SystemTime::now()));
        }
        Ok(match self.language {
            Language::Python => toolchain.join("bin/python"),
            _ => "node".into(),
        })
    }

    /// From npm or PyPI, what the lock file says and nothing else.
    fn install(&self, folder: &Path) -> Result<(), String> {
        let write = |name: &str| fs::write(folder.join(name), self.text(name)).map_err(|error| error.to_string());
        write(self.lock)?;
        if self.language == Language::JavaScript {
            write("package.json")?;
            need("node", &["--version"], "`node` 20 or newer", "apt-get install nodejs npm, or https://nodejs.org", |said| {
                said.strip_prefix('v')?.split('.').next()?.parse::<u32>().ok().filter(|major| *major >= 20)
            })?;
            need(
                "npm",
                &["--version"],
                "`npm`, which comes with node",
                "apt-get install npm, or node from https://nodejs.org",
                |said| said.bytes().next().filter(u8::is_ascii_digit),
            )?;
            let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
            return run(Command::new("npm").args(arguments).current_dir(folder), "see that the npm registry can be reached");
        }
        need("python3", &["--version"], "`python3` 3.11 or newer", "apt-get install python3 python3-venv", |said| {
            let mut numbers = said.strip_prefix("Python ")?.split('.').map_while(|number| number.parse::<u32>().ok());
            Some((numbers.next()?, numbers.next()?)).filter(|version| *version >= (3, 11)).map(|(_, minor)| minor)
        })?;
        run(Command::new("python3").args(["-m", "venv", "."]).current_dir(folder), "apt-get install python3-venv")?;
        let arguments = ["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:", "-r"];
        let pip = folder.join("bin/pip");
        run(Command::new(pip).args(arguments).arg(self.lock).current_dir(folder), "see that PyPI can be reached")
    }

    /// The SDK, the contract and the script; for node, beside them the packages that it imports.
    fn lay(&self, folder: &Path, toolchain: &Path) -> io::Result<()> {
        for (path, text) in self.files() {
            let file = folder.join(path);
            file.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(file, text)?;
        }
        if self.language == Language::JavaScript {
            std::os::unix::fs::symlink(toolchain.join("node_modules"), folder.join("node_modules"))?;
        }
        Ok(())
    }

    /// Removes what nobody has used for long: older locks and SDKs of this language, and components.
    fn tidy(&self, cache: &Path, used: &[&Path]) {
        let is_old = |file: &Path| {
            let used = fs::metadata(file).and_then(|found| found.modified()).ok();
            used.is_some_and(|used| SystemTime::now().duration_since(used).unwrap_or_default() > KEPT)
        };
        let of =
            |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect::<Vec<_>>();
        for folder in of(cache) {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(&format!("{}-", self.name)) && !used.contains(&&*folder) && is_old(&folder.join(DONE)) {
                let _ = fs::remove_dir_all(&folder);
            }
        }
        of(&cache.join("components")).iter().filter(|file| is_old(file)).for_each(|file| drop(fs::remove_file(file)));
    }
}

fn digest<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.as_ref().len() as u64).to_le_bytes());
        hash.update(text.as_ref());
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn is_whole(folder: &Path) -> bool {
    folder.join(DONE).is_file()
}

fn whole(folder: &Path) -> io::Result<()> {
    fs::write(folder.join(DONE), "")
}

/// An empty folder, in place of one that was left half made.
fn fresh(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::create_dir_all(folder)
}

/// Is a program there, in a version that will do?
fn need<T>(program: &str, arguments: &[&str], what: &str, remedy: &str, fits: impl Fn(&str) -> Option<T>) -> Result<(), String> {
    let said = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let said = said.map_err(|error| format!("it takes {what}, and it cannot be run ({error}); {remedy}"))?;
    let said = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    fits(&said).map(drop).ok_or_else(|| format!("it takes {what}, and here is `{said:.40}`; {remedy}"))
}

fn run(command: &mut Command, remedy: &str) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
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
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_remedy() {
        let none = need("/nowhere/node", &[], "`node`", "install it", |_| Some(())).unwrap_err();
        assert!(none.starts_with("it takes `node`, and it cannot be run (") && none.ends_with("; install it"), "{none}");
        let old = need("echo", &["v18.1.0"], "`node` 20", "install it", |said| said.strip_prefix("v2").map(drop)).unwrap_err();
        assert_eq!(old, "it takes `node` 20, and here is `v18.1.0`; install it");
        let failed = run(Command::new("sh").args(["-c", "echo one; echo two >&2; exit 3"]), "try again").unwrap_err();
        assert_eq!(failed, "`sh` failed; try again\none\ntwo");
    }

    #[test]
    fn each_lock_and_each_sdk_has_a_folder_of_its_own() {
        let cache = Path::new("/cache");
        let names: Vec<PathBuf> = [&JS, &PYTHON].iter().flat_map(|recipe| [recipe.toolchain(cache), recipe.sdk(cache)]).collect();
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), 4, "{names:?}");
        assert_ne!(digest(["a", "bc"]), digest(["ab", "c"]));
        for recipe in [&JS, &PYTHON] {
            let files = recipe.files();
            let has = |name: &str| files.iter().any(|(path, text)| path == name && !text.is_empty());
            assert!(has(recipe.script) && has("contract/types.wit"), "{}", recipe.name);
        }
    }

    #[test]
    fn what_nobody_uses_is_removed() {
        let cache = tempfile::tempdir().unwrap();
        let path = |name: &str| cache.path().join(name);
        let aged = |file: PathBuf, days: u64| {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let made = File::create(&file).unwrap();
            made.set_modified(SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
        };
        for (name, days) in [("js-old", 31), ("js-used", 31), ("js-new", 29), ("python-old", 31)] {
            aged(path(name).join(DONE), days);
        }
        aged(path("components/old.wasm"), 31);
        aged(path("components/new.wasm"), 29);
        JS.tidy(cache.path(), &[&path("js-used")]);
        let there = |name: &str| path(name).exists();
        assert!(!there("js-old") && there("js-used") && there("js-new") && there("python-old"));
        assert!(!there("components/old.wasm") && there("components/new.wasm"));
    }
}
