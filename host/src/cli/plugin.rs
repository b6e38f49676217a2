//! `pointsman plugin new`, `sdk`, `build`, `test` and `inspect`.
//!
//! What it does not do: all work on files alone; no host has to run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;

use super::bundle::Unpacked;
use super::{WRONG_INPUT, failed};
use crate::plugin::cases::{self, CaseError, Tried};
use crate::plugin::load::Hook;
use crate::plugin::{build as builder, inspect as inspector, scaffold};
use crate::process;

/// What `--lang` may be.
pub(super) fn languages() -> PossibleValuesParser {
    PossibleValuesParser::new(scaffold::LANGUAGES.iter().map(|language| language.name))
}

/// What `--hook` may be.
pub(super) fn hooks() -> PossibleValuesParser {
    PossibleValuesParser::new(Hook::ALL.map(Hook::name))
}

/// Starts a plugin in a new folder.
pub fn new(dir: &Path, language: &str, hook: &str, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let hook = Hook::ALL.into_iter().find(|known| known.name() == hook);
    let (Some(language), Some(hook)) = (scaffold::language(language), hook) else {
        return failed(err, WRONG_INPUT, &"there is no such language or hook; see --help");
    };
    match scaffold::new(dir, language, hook) {
        Ok(_) => {
            let dir = dir.display();
            let _ = writeln!(out, "{dir}: a plugin in {} with the hook {}", language.title, hook.name());
            let _ = writeln!(
                out,
                "\n  pointsman plugin test {dir}   builds it, and runs its cases\n  pointsman dev {dir}           serves it, and again at each save"
            );
            ExitCode::SUCCESS
        }
        Err(error @ (scaffold::NewError::Occupied(_) | scaffold::NewError::Name { .. })) => failed(err, WRONG_INPUT, &error),
        Err(error) => failed(err, 1, &error),
    }
}

/// Puts this pointsman's SDK into a plugin's folder.
pub fn sdk(dir: &Path, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    match scaffold::refresh(dir) {
        Ok(scaffold::Refreshed { title, parts, changed }) => {
            let places: Vec<String> = parts.iter().map(|part| part.display().to_string()).collect();
            let done = if changed == 0 { "had it already" } else { "has it now" };
            let version = env!("CARGO_PKG_VERSION");
            let _ =
                writeln!(out, "{}: the SDK for {title} of pointsman {version}, {done}\n  {}", dir.display(), places.join("\n  "));
            if changed > 0 {
                let _ = writeln!(out, "\n  pointsman plugin test {}   says whether the plugin goes with it", dir.display());
            }
            ExitCode::SUCCESS
        }
        Err(error @ (scaffold::RefreshError::Folder(_) | scaffold::RefreshError::Elsewhere(_))) => {
            failed(err, WRONG_INPUT, &error)
        }
        Err(error) => failed(err, 1, &error),
    }
}

/// Builds a folder into a component.
pub fn build(dir: &Path, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    if let Some(said) = builder::to_install(dir) {
        let _ = writeln!(err, "{said}");
    }
    match builder::build(dir, &builder::Options::default()) {
        Ok(built) => {
            if !built.warnings.is_empty() {
                let _ = writeln!(err, "{}", built.warnings);
            }
            let unchanged = if built.changed { "" } else { ", unchanged" };
            let _ = writeln!(out, "{} ({} bytes, sha256:{}{unchanged})", built.component.display(), built.size, built.digest);
            ExitCode::SUCCESS
        }
        // A folder that is none, or no package, is wrong as an argument is; everything after that is a build that failed.
        Err(error @ builder::BuildError::Manifest { .. }) => failed(err, WRONG_INPUT, &error),
        Err(error) => failed(err, 1, &error),
    }
}

/// Runs a plugin's cases: a line for each, what differs below it, and a sum.
pub fn test(what: &Path, named: &[PathBuf], out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let is_source = what.is_dir();
    let folder = if is_source { what } else { what.parent().unwrap_or(Path::new("")) };
    // A bundle brings its own.
    let inside = if is_source || !named.is_empty() { None } else { Unpacked::of(what).ok().flatten() };
    let files = match &inside {
        Some(unpacked) => unpacked.files.clone(),
        None if named.is_empty() => cases::find(folder),
        None => named.to_vec(),
    };
    if files.is_empty() {
        return failed(err, WRONG_INPUT, &CaseError::None(folder.join("cases")));
    }
    let subject = match Subject::of(what, is_source, err) {
        Ok(subject) => subject,
        Err(error @ builder::BuildError::Manifest { .. }) => return failed(err, WRONG_INPUT, &error),
        Err(error) => return failed(err, 1, &error),
    };
    let (mut all, mut wrong) = (0, 0);
    let done = cases::run(&subject.component, &files, process::aot_folder().as_deref(), |tried| {
        all += 1;
        wrong += usize::from(!tried.differences.is_empty());
        let _ = told(tried, out);
    });
    match done {
        Ok(()) => {
            let cases = if all == 1 { "case" } else { "cases" };
            let sum = if wrong == 0 { "all as expected".to_owned() } else { format!("{wrong} not as expected") };
            let _ = writeln!(out, "{}: {all} {cases}, {sum}", subject.place().display());
            match subject.made.filter(|_| wrong == 0).map(builder::Made::put) {
                Some(Err(error)) => failed(err, 1, &error),
                _ if wrong == 0 => ExitCode::SUCCESS,
                _ => ExitCode::from(1),
            }
        }
        Err(CaseError::Files(report)) => {
            let _ = write!(err, "{report}");
            ExitCode::from(WRONG_INPUT)
        }
        Err(error @ CaseError::Engine(_)) => failed(err, 1, &error),
        Err(error) => failed(err, WRONG_INPUT, &error),
    }
}

/// What is tried: a component's file, or what a folder makes.
struct Subject {
    component: PathBuf,
    /// A host that runs takes what comes to a component's place: it goes there when it has passed.
    made: Option<builder::Made>,
    /// Where it is until then.
    _scratch: Option<tempfile::TempDir>,
}

impl Subject {
    fn of(what: &Path, is_source: bool, err: &mut dyn Write) -> Result<Self, builder::BuildError> {
        if !is_source {
            return Ok(Self { component: what.to_owned(), made: None, _scratch: None });
        }
        if let Some(said) = builder::to_install(what) {
            let _ = writeln!(err, "{said}");
        }
        let made = builder::make(what, &builder::Options::default())?;
        let _ = write!(err, "{}", made.warnings);
        let unwritten = |error| builder::BuildError::Write { file: made.file.clone(), error };
        let scratch = tempfile::tempdir().map_err(unwritten)?;
        let component = scratch.path().join(made.file.file_name().unwrap_or_default());
        std::fs::write(&component, &made.bytes).map_err(unwritten)?;
        Ok(Self { component, made: Some(made), _scratch: Some(scratch) })
    }

    fn place(&self) -> &Path {
        self.made.as_ref().map_or(&self.component, |made| &made.file)
    }
}

fn told(tried: &Tried, out: &mut dyn Write) -> std::io::Result<()> {
    let Tried { file, line, name, differences, lines } = tried;
    if differences.is_empty() {
        return writeln!(out, "ok    {name}");
    }
    writeln!(out, "FAIL  {name} ({}:{line})", file.display())?;
    differences.iter().try_for_each(|difference| writeln!(out, "      {difference}"))?;
    lines.iter().try_for_each(|line| writeln!(out, "      it logged {line}"))
}

/// Shows what a component is.
pub fn inspect(file: &Path, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let inspection = match inspector::inspect(file) {
        Ok(inspection) => inspection,
        Err(error) => return failed(err, WRONG_INPUT, &error),
    };
    let written = if json {
        serde_json::to_writer_pretty(&mut *out, &inspection).map_err(std::io::Error::from).and_then(|()| writeln!(out))
    } else {
        writeln!(out, "{inspection}")
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(err, 1, &error),
    }
}
