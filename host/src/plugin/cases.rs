//! A plugin's own cases: `pointsman plugin test`. Each is one call of the real component in the real engine, with what the case gives around it,
//! and what the call came to beside what the case expects.
//!
//! `file` is what a case may say, `check` what is wrong with it, `stand_in` the exchange that it makes, `run` the call, `expect` and `compare` what
//! came of it, `lines` what the plugin has logged.
//!
//! What it does not do: no server, no model, no network; and it builds nothing (`build`).
//!
//! **Invariant:** each case has a plugin of its own, fresh from the component: nothing that one has kept is found by another.
//! **Invariant:** a case that cannot be asked is an error of its file, told before any case is run.

mod check;
mod compare;
mod expect;
mod file;
mod lines;
mod run;
mod stand_in;

use std::path::{Path, PathBuf};

use super::engine::Engine;
use super::inspect::{self, Inspection};
use crate::config::sheet::{self, Sheet};
use crate::config::{Finding, Report};

pub use compare::Difference;
pub use file::CaseFile;

/// Where people find what a file of cases may say.
const REFERENCE: &str = "docs/plugin-cases.md";

/// The JSON schema of a file of cases.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(CaseFile).to_value()
}

/// Why no case was run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// There are none.
    #[error("there are no cases in {}; write cases/NAME.toml beside the plugin, or name a file with --cases", .0.display())]
    None(PathBuf),
    /// Files are not as they should be.
    #[error("{0}")]
    Files(Report),
    /// The component is not one.
    #[error(transparent)]
    Component(#[from] inspect::InspectError),
    /// The component is one that no host loads.
    #[error("{}: {reason}", file.display())]
    Unfit {
        /// The component's file.
        file: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// The engine does not start here.
    #[error("the engine does not start: {0}")]
    Engine(String),
}

/// What came of one case.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Its file.
    pub file: PathBuf,
    /// The line on which it begins.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// Where it is not as expected; empty: nowhere.
    pub differences: Vec<Difference>,
    /// What the plugin has logged.
    pub lines: Vec<String>,
}

/// The files of cases that belong to a plugin: `cases/*.toml` and `cases/*.json` beside its source or component, by name.
pub fn find(folder: &Path) -> Vec<PathBuf> {
    within(&folder.join("cases"))
}

/// The files of cases in a folder, by name.
pub fn within(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_cases = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "toml" || kind == "json");
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_cases).collect();
    found.sort();
    found
}

/// Runs all cases of these files against a component; `aot` is the folder of compiled components. `each` is told of each case when it is done.
///
/// # Errors
/// When one of the files, or the component, is not what it should be; then no case is run.
pub fn run(component: &Path, files: &[PathBuf], aot: Option<&Path>, mut each: impl FnMut(&Tried)) -> Result<(), CaseError> {
    let inspection = inspect::inspect(component)?;
    if let Some(reason) = inspection.problems.first() {
        return Err(CaseError::Unfit { file: component.to_owned(), reason: reason.clone() });
    }
    let sheets = read(files, &inspection)?;
    let engine = Engine::new().map_err(|error| CaseError::Engine(format!("{error:#}")))?;
    let bench = run::Bench::new(&engine, component, &inspection, aot);
    for sheet in &sheets {
        for (index, case) in sheet.value.cases.iter().enumerate() {
            let (tried, lines) = lines::gathered(|| bench.ask(case, &case.given.over(&sheet.value.given)));
            each(&Tried {
                file: sheet.path().to_owned(),
                line: sheet.line(&["case", &format!("[{index}]")]),
                name: case.name.clone(),
                differences: tried,
                lines,
            });
        }
    }
    Ok(())
}

/// All files, or all that is wrong with them.
fn read(files: &[PathBuf], inspection: &Inspection) -> Result<Vec<Sheet<CaseFile>>, CaseError> {
    let mut report = Report { problems: Vec::new() };
    let mut sheets = Vec::new();
    for file in files {
        match sheet::read::<CaseFile>(file, REFERENCE) {
            Err(wrong) => report.problems.extend(wrong.problems),
            Ok(sheet) => {
                let found: Vec<Finding> = check::check(&sheet.value, inspection);
                if !found.is_empty() {
                    report.problems.extend(sheet.report(found).problems);
                }
                sheets.push(sheet);
            }
        }
    }
    if report.problems.is_empty() { Ok(sheets) } else { Err(CaseError::Files(report)) }
}

#[cfg(test)]
mod tests;
