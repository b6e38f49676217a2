//! `pointsman plugin key`, `bundle` and `push`: signing components, and putting them where nodes fetch them.
//!
//! What it does not do: no host has to run, and none is asked. It runs no cases itself (`plugin/cases`).
//!
//! **Invariant:** a private key goes into a file that its owner alone may read, and over none that is there.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::{WRONG_INPUT, failed};
use crate::config::OciReference;
use crate::plugin::bundle::{Manifest, SigningKey, Wrapping, seal, unwrap};
use crate::plugin::cases::CaseError;
use crate::plugin::{build, cases, inspect, oci};
use crate::process;

/// The largest file of cases; they are texts that somebody has written.
const MAX_CASE: u64 = 1 << 20;

#[derive(Subcommand)]
pub(super) enum BundleCommand {
    /// Make a key for signing, or show the public half of one
    #[command(subcommand)]
    Key(KeyCommand),
    /// Sign a component, with its cases and with what it may be granted
    ///
    /// Its cases are run first: what does not decide as they say is not signed. The bundle is a component like any other, with a manifest and an Ed25519 signature behind it. The manifest has the grants that the
    /// component asks for: a configuration that grants more is refused. A plugin with `trust = ["ed25519:…"]` loads nothing that none of these
    /// keys has signed.
    Bundle {
        /// A plugin's folder, which is built, or a component
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// The private key, in PEM (PKCS#8, Ed25519)
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// A folder of cases to take along. Default: `cases` in the plugin's folder
        #[arg(long, value_name = "DIR")]
        cases: Option<PathBuf>,
        /// The plugin that it is signed as: it loads under no other name where signatures are asked for. Default: the component's file name
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Where to. Default: NAME.bundle.wasm beside the component
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Put a component or a bundle into an OCI registry
    ///
    /// As a WebAssembly artifact, which wkg and oras pull as well. Prints the reference by which a configuration names it. Credentials are those
    /// that `docker login` or `oras login` have left. Plain HTTP is spoken with a registry on this machine alone.
    Push {
        /// The component
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Where to: oci://REGISTRY/REPOSITORY:TAG
        #[arg(value_name = "REFERENCE")]
        reference: OciReference,
    },
}

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key
    ///
    /// The private half goes into FILE, as PEM; the public half is printed, as `trust` takes it.
    New {
        /// The file, which must not be there yet
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the public half of a key
    Show {
        /// The private key's file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(super) fn run(command: BundleCommand, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let done = match command {
        BundleCommand::Key(KeyCommand::New { file }) => new_key(&file),
        BundleCommand::Key(KeyCommand::Show { file }) => read_key(&file).map(|key| key.public().to_string()),
        BundleCommand::Bundle { path, key, cases, name, output } => bundle(&path, &key, (cases, name), output, err),
        BundleCommand::Push { file, reference } => push(&file, &reference),
    };
    match done {
        Ok(said) => match writeln!(out, "{said}") {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(err, 1, &error),
        },
        Err(reason) => failed(err, WRONG_INPUT, &reason),
    }
}

fn new_key(file: &Path) -> Result<String, String> {
    let key = SigningKey::generate()?;
    let pem = key.to_pem()?;
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let written = opened.and_then(|mut opened| opened.write_all(pem.as_bytes()));
    written.map_err(|error| format!("{}: {error}; name a file that is not there yet", file.display()))?;
    Ok(key.public().to_string())
}

fn read_key(file: &Path) -> Result<SigningKey, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("{}: {error}; make a key with `pointsman plugin key new`", file.display()))?;
    SigningKey::from_pem(&text).map_err(|reason| format!("{} {reason}", file.display()))
}

fn bundle(
    path: &Path,
    key: &Path,
    (cases, signed_as): (Option<PathBuf>, Option<String>),
    output: Option<PathBuf>,
    err: &mut dyn Write,
) -> Result<String, String> {
    let key = read_key(key)?;
    let (component, folder) = if path.is_dir() {
        let built = build::build(path, &build::Options::default()).map_err(|error| error.to_string())?;
        if !built.warnings.is_empty() {
            let _ = writeln!(err, "{}", built.warnings);
        }
        (built.component, cases.or_else(|| Some(path.join("cases"))))
    } else {
        (path.to_owned(), cases)
    };
    let about = inspect::inspect(&component).map_err(|error| error.to_string())?;
    if let Some(problem) = about.problems.first() {
        return Err(format!("{}: it {problem}", component.display()));
    }
    let bytes = std::fs::read(&component).map_err(|error| format!("{}: {error}", component.display()))?;
    let stem = component.file_stem().unwrap_or_default().to_string_lossy();
    // One that was bundled before is another bundle of the same plugin.
    let name = stem.strip_suffix(".bundle").unwrap_or(&stem).to_owned();
    let signed_as = signed_as.unwrap_or_else(|| name.clone());
    let files = folder.map(|folder| cases::within(&folder)).unwrap_or_default();
    pass(&component, &files)?;
    let cases = read_cases(&files)?;
    let (grants, count) = (about.grants.join(", "), cases.len());
    let manifest = Manifest { name: signed_as.clone(), grants: about.grants, hooks: about.hooks, cases };
    let sealed = seal(&bytes, &manifest, &key).map_err(|reason| format!("{} {reason}", component.display()))?;
    let output = output.unwrap_or_else(|| component.with_file_name(format!("{name}.bundle.wasm")));
    let beside = output.with_extension("part");
    std::fs::write(&beside, &sealed)
        .and_then(|()| std::fs::rename(&beside, &output))
        .map_err(|error| format!("{}: {error}", output.display()))?;
    let digest = inspect::inspect(&output).map_err(|error| error.to_string())?.digest;
    Ok(format!(
        "{} ({} bytes, sha256:{digest})\n  grants  {}\n  cases   {count}\n  signed  as {signed_as}, by {}",
        output.display(),
        sealed.len(),
        if grants.is_empty() { "none" } else { &grants },
        key.public()
    ))
}

/// What is signed decides as its author says that it does.
fn pass(component: &Path, files: &[PathBuf]) -> Result<(), String> {
    if files.is_empty() {
        return Ok(());
    }
    let mut wrong = Vec::new();
    let done = cases::run(component, files, process::aot_folder().as_deref(), |tried| {
        if !tried.differences.is_empty() {
            wrong.push(format!("{}:{}: {}", tried.file.display(), tried.line, tried.name));
        }
    });
    match done {
        Err(CaseError::Files(report)) => Err(report.to_string().trim_end().to_owned()),
        Err(error) => Err(error.to_string()),
        Ok(()) if wrong.is_empty() => Ok(()),
        Ok(()) => Err(format!(
            "nothing is signed: {} of its cases are not as expected; `pointsman plugin test` says how\n  {}",
            wrong.len(),
            wrong.join("\n  ")
        )),
    }
}

fn read_cases(files: &[PathBuf]) -> Result<BTreeMap<String, String>, String> {
    let read = |path: &PathBuf| {
        let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
        if path.metadata().map_err(wrong)?.len() > MAX_CASE {
            return Err(format!("{} has more than {MAX_CASE} bytes; a case is a text that somebody has written", path.display()));
        }
        let text = std::fs::read_to_string(path).map_err(wrong)?;
        Ok((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text))
    };
    files.iter().map(read).collect()
}

/// The cases inside a bundle, as files in a folder that goes with this value.
pub(super) struct Unpacked {
    folder: PathBuf,
    pub(super) files: Vec<PathBuf>,
}

impl Unpacked {
    /// None: it is no bundle, or has no cases.
    pub(super) fn of(component: &Path) -> std::io::Result<Option<Self>> {
        let bytes = std::fs::read(component)?;
        // What is wrong with it is said by whoever loads it.
        let Ok(Wrapping { manifest: Some(manifest), .. }) = unwrap(&bytes) else { return Ok(None) };
        // Whoever made the bundle has chosen the names.
        let is_name = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.starts_with('.') && (name.ends_with(".toml") || name.ends_with(".json")) && name.bytes().all(plain)
        };
        let cases: Vec<_> = manifest.cases.iter().filter(|(name, _)| is_name(name)).collect();
        if cases.is_empty() {
            return Ok(None);
        }
        let folder = std::env::temp_dir().join(format!("pointsman-cases-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        DirBuilder::new().mode(0o700).create(&folder)?;
        let mut unpacked = Self { folder, files: Vec::new() };
        for (name, text) in cases {
            let file = unpacked.folder.join(name);
            std::fs::write(&file, text)?;
            unpacked.files.push(file);
        }
        Ok(Some(unpacked))
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn push(file: &Path, reference: &OciReference) -> Result<String, String> {
    let about = inspect::inspect(file).map_err(|error| error.to_string())?;
    let bytes = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    if reference.digest.is_some() {
        return Err("where to push to is a tag, and the digest is what comes of it; leave @sha256:… out".to_owned());
    }
    let outside = oci::Outside { imports: about.imports, exports: about.exports };
    let digest = oci::push(reference, &bytes, &outside).map_err(|error| error.to_string())?;
    let pinned = OciReference { digest: Some(digest), ..reference.clone() };
    Ok(format!("{pinned}\n  component  sha256:{}", about.digest))
}
