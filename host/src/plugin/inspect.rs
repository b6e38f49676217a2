//! What a component says about itself without being run: `pointsman plugin inspect`.
//!
//! What it does not do: it compiles and calls nothing, so it knows neither the name nor the version that `describe` would give.
//!
//! **Invariant:** what it lists under `problems` is what keeps a host of this version from loading the component, whatever is
//! granted.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};
use wit_component::DecodedWasm;

use super::bundle::{self, Wrapping};
use super::load::{CONTRACT, Hook};
use crate::config::INTERPRETER;
use crate::printable::printable;

/// The largest file that is looked at, as for loading.
const MAX_FILE: u64 = 64 << 20;
/// What is imported without a grant.
const UNGRANTED: [&str; 2] = ["types", "request-data"];
/// What can be granted, in the contract's order.
const GRANTS: [&str; 9] = ["config", "log", "metrics", "upstreams", "embeddings", "clock", "random", "kv", "http"];

/// The facts about a component.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its file; empty for bytes that came from none.
    pub file: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256, as hexadecimal digits.
    pub digest: String,
    /// The version of the contract that it was built against, such as `pointsman:plugin@0.1.0`.
    pub contract: Option<String>,
    /// The hooks that it has.
    pub hooks: Vec<String>,
    /// The interfaces that it wants to be granted.
    pub grants: Vec<String>,
    /// All interfaces that it imports.
    pub imports: Vec<String>,
    /// Those that it exports.
    pub exports: Vec<String>,
    /// What its manifest allows it to be granted, where it is a bundle.
    pub allowed: Option<Vec<String>>,
    /// The names of the cases in it.
    pub cases: Vec<String>,
    /// The plugin that it was bundled as, where it is a bundle.
    pub name: Option<String>,
    /// Whose signature it has; whether that key is trusted a configuration says.
    pub signed: Option<String>,
    /// Interfaces of WASI that it imports. They are locked down: no files, no network, no environment.
    pub wasi: Vec<String>,
    /// What keeps this host from loading it, and what to do.
    pub problems: Vec<String>,
}

/// Why nothing can be said about a file.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct InspectError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

/// Looks at a component's file.
///
/// # Errors
/// When it cannot be read, or is no component.
pub fn inspect(file: &Path) -> Result<Inspection, InspectError> {
    let wrong = |reason: String| InspectError { file: file.to_owned(), reason };
    let size =
        std::fs::metadata(file).map_err(|error| wrong(format!("{error}; build it with `pointsman plugin build DIR`")))?.len();
    if size > MAX_FILE {
        return Err(wrong(format!("is {size} bytes; a component may have {MAX_FILE}")));
    }
    let bytes = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    Ok(Inspection { file: file.to_owned(), ..of(&bytes).map_err(wrong)? })
}

/// Looks at a component's bytes.
pub(super) fn of(bytes: &[u8]) -> Result<Inspection, String> {
    if !bytes.starts_with(b"\0asm") {
        return Err("is not WebAssembly; is it the right file?".to_owned());
    }
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err("is a core module, not a component; build it with `pointsman plugin build DIR`".to_owned());
    }
    let (resolve, world) = match wit_component::decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => (resolve, world),
        Ok(DecodedWasm::WitPackage(..)) => return Err("is a WIT package, not a component; build a plugin against it".to_owned()),
        Err(error) => return Err(format!("is no valid component: {error:#}; build it again")),
    };
    let world = &resolve.worlds[world];
    let names = |keys: Vec<_>| keys.into_iter().map(|key| resolve.name_world_key(key)).collect::<Vec<String>>();
    let (imports, exports) = (names(world.imports.keys().collect()), names(world.exports.keys().collect()));
    let mut found = facts(&imports, &exports);
    (found.imports, found.exports) = (imports, exports);
    match bundle::unwrap(bytes) {
        Ok(Wrapping { manifest, signed }) => {
            found.signed = signed.map(|signed| signed.by.to_string());
            if signed.is_some_and(|signed| !signed.holds()) {
                found.problems.push("has been changed since it was signed; bundle it anew".to_owned());
            }
            found.cases = manifest.iter().flat_map(|manifest| manifest.cases.keys().cloned()).collect();
            found.name = manifest.as_ref().map(|manifest| manifest.name.clone());
            found.allowed = manifest.map(|manifest| manifest.grants);
        }
        Err(reason) => found.problems.push(format!("{reason}; bundle it anew with `pointsman plugin bundle`")),
    }
    found.size = bytes.len() as u64;
    found.digest = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(found)
}

/// What follows from the names of imports and exports.
fn facts(imports: &[String], exports: &[String]) -> Inspection {
    let mut found = Inspection::default();
    for name in imports {
        match own(name) {
            Some(interface) if UNGRANTED.contains(&interface) => {}
            Some(interface) if GRANTS.contains(&interface) => found.grants.push(interface.to_owned()),
            None if name.starts_with("wasi:") => found.wasi.push(name.clone()),
            _ => found
                .problems
                .push(format!("imports `{name}`, which this host does not offer; build it against the host's wit/ alone")),
        }
    }
    found.grants.sort_by_key(|grant| GRANTS.iter().position(|known| known == grant));
    let exported = |interface: &str| exports.iter().any(|name| own(name) == Some(interface));
    found.hooks = Hook::ALL.iter().map(|hook| hook.name()).filter(|hook| exported(hook)).map(str::to_owned).collect();
    // `pointsman:plugin/routing@0.1.0` is of `pointsman:plugin@0.1.0`.
    let named = exports.iter().find_map(|name| Some((name.split_once('/')?.0, name.split_once('@')?.1, own(name)?)));
    found.contract = named.map(|(package, version, _)| format!("{package}@{version}"));
    if found.contract.as_deref().is_some_and(|contract| !serves(contract)) {
        found.problems.push(format!("was built against another contract than {CONTRACT}; rebuild it with this host's SDK"));
    }
    if found.hooks.is_empty() {
        found.problems.push("exports no hook; a plugin has at least one of routing, prompting and caching".to_owned());
    }
    if !exported("lifecycle") {
        found
            .problems
            .push("does not export `lifecycle`; every plugin says what it is, the SDK's `export!` sees to it".to_owned());
    }
    found
}

/// The interface's name, if it is one of the contract's.
fn own(name: &str) -> Option<&str> {
    name.strip_prefix("pointsman:plugin/").map(|rest| rest.split('@').next().unwrap_or(rest))
}

/// Is it the host's version, or one with the same first numbers?
fn serves(contract: &str) -> bool {
    contract.strip_prefix(CONTRACT).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

impl fmt::Display for Inspection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |items: &[String]| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
        writeln!(out, "{}", self.file.display())?;
        writeln!(out, "  size      {} bytes", self.size)?;
        writeln!(out, "  digest    sha256:{}", self.digest)?;
        writeln!(out, "  contract  {}", self.contract.as_deref().unwrap_or("none"))?;
        writeln!(out, "  hooks     {}", list(&self.hooks))?;
        writeln!(out, "  wants     {}", list(&self.grants))?;
        writeln!(out, "  WASI      {}", list(&self.wasi))?;
        if let Some(allowed) = &self.allowed {
            writeln!(out, "  named     {}", self.name.as_deref().map(printable).unwrap_or_default())?;
            writeln!(out, "  may have  {}", list(allowed))?;
            writeln!(out, "  cases     {}", list(&self.cases))?;
        }
        if let Some(signed) = &self.signed {
            writeln!(out, "  signed    {signed}")?;
        }
        for problem in &self.problems {
            writeln!(out, "  problem   it {problem}")?;
        }
        if self.problems.is_empty() {
            write!(out, "\nIn the configuration:\n\n{}", self.entry().trim_end())?;
        }
        Ok(())
    }
}

impl Inspection {
    /// The entry under `[plugins]`, ready to be pasted.
    fn entry(&self) -> String {
        let list = |items: &[String]| toml::Value::from(items.to_vec());
        let mut entry = toml::Table::new();
        entry.insert("component".to_owned(), self.file.display().to_string().into());
        entry.insert("hooks".to_owned(), list(&self.hooks));
        entry.insert("grant".to_owned(), list(&self.grants));
        if self.size > INTERPRETER {
            entry.insert("memory".to_owned(), "32MiB".into());
            entry.insert("reuse".to_owned(), true.into());
        }
        if self.grants.iter().any(|grant| grant == "http") {
            // Where it may send to is the owner's to say.
            let allow = toml::Table::from_iter([("allow".to_owned(), list(&["https://HOST/PATH".to_owned()]))]);
            entry.insert("http".to_owned(), toml::Value::Table(allow));
        }
        if let Some(signed) = &self.signed {
            entry.insert("trust".to_owned(), list(std::slice::from_ref(signed)));
        }
        // Under another name than the one that it is signed for it does not load.
        let name = self.name.clone().unwrap_or_else(|| self.file.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        let plugins = toml::Table::from_iter([(name, toml::Value::Table(entry))]);
        toml::Table::from_iter([("plugins".to_owned(), toml::Value::Table(plugins))]).to_string()
    }
}

#[cfg(test)]
mod tests;
