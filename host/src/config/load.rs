//! From a file to a [`Config`], or to a [`Report`] of everything that is wrong with it.
//!
//! serde stops at its first error. Here each error's node is taken out of the parsed document and the rest is read again, until
//! nothing is wrong with what is left: so a report has every error, at every depth, without a parser of our own. What is left is
//! then validated as well.
//!
//! Resolves no secret (the user of one does) and starts nothing.
//!
//! **Invariant:** a configuration is returned only if there is not one error.
//! **Invariant:** every error has a reason, a remedy, and a place in the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use super::locate::{Document, prune, shown};
use super::report::{Fault, Problem, Report, Severity};
use super::{Config, Embedder, Finding, Model, SecretOrString, SecretRef, schema, suggest, validate};

/// No file is read beyond this: a configuration is a page, and a wrong path may be a log.
const MAX_FILE: u64 = 4 << 20;
/// A report ends here: a file of another kind would give one error for every line.
const MAX_PROBLEMS: usize = 100;

/// A configuration that may be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration. Paths in it are relative to nothing but the working directory any more.
    pub config: Config,
    /// What is accepted but unwise, or may not work yet.
    pub warnings: Vec<Problem>,
    /// The file, as the caller named it; `None` for a configuration that was made and not read.
    pub path: Option<PathBuf>,
    /// blake3 of the file's text: equal digests, equal text. Zeros without a file.
    pub digest: [u8; 32],
}

impl Loaded {
    /// A configuration that was made by the program (`pointsman dev`, a test) and passes for loaded. It is not validated.
    pub fn made(config: Config) -> Self {
        Self { config, warnings: Vec::new(), path: None, digest: [0; 32] }
    }
}

/// Reads a configuration file.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    load_text(&read(path)?, path)
}

/// Reads a configuration file, and asks `of` what keeps what it says from being in force.
///
/// # Errors
/// Everything that is wrong with it, and all that `of` has found, in the order of the file.
pub fn load_and(path: &Path, of: impl FnOnce(&Config) -> Vec<Finding>) -> Result<Loaded, Report> {
    load_parts(&read(path)?, path, of)
}

/// `[admin]` alone. What is wrong elsewhere in the file is no concern of whoever wants to speak with the node: he may want to undo just that.
///
/// # Errors
/// As [`load`], where `[admin]` itself does not stand.
pub fn admin(path: &Path) -> Result<Option<super::Admin>, Report> {
    load(path).map(|loaded| loaded.config.admin).or_else(|report| {
        let table = read(path)?.parse::<toml::Table>().map_err(|_| report.clone())?;
        let own: toml::Table = table.into_iter().filter(|(section, _)| section == "admin").collect();
        load_text(&own.to_string(), path).map(|loaded| loaded.config.admin).map_err(|_| report)
    })
}

/// Findings at their places in a file that reads well.
pub fn place(path: &Path, findings: &[Finding]) -> Report {
    match load_and(path, |_| findings.to_vec()) {
        Err(report) => report,
        // Only without a finding.
        Ok(loaded) => Report { problems: loaded.warnings },
    }
}

fn read(path: &Path) -> Result<String, Report> {
    let unreadable = |error: std::io::Error| {
        Report::of_file(
            path,
            format!("cannot be read ({error})"),
            "name a configuration file that is there, or run `pointsman dev`, which needs none",
        )
    };
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if about.is_dir() || about.len() > MAX_FILE {
        return Err(Report::of_file(path, "is not a file of at most 4 MiB".to_owned(), "name the TOML file itself"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Report::of_file(path, format!("is not UTF-8 at byte {at}"), "save it as UTF-8")
    })
}

/// Reads a configuration from text that was read from `path`, or that pretends to be: its folder is what relative paths are
/// resolved against, and reports name it.
///
/// # Errors
/// As [`load`].
pub fn load_text(text: &str, path: &Path) -> Result<Loaded, Report> {
    load_parts(text, path, |_| Vec::new())
}

fn load_parts(text: &str, path: &Path, of: impl FnOnce(&Config) -> Vec<Finding>) -> Result<Loaded, Report> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let mut faults: Vec<Fault> = errors.iter().map(syntax_fault).collect();
        // The second error at one place is a consequence of the first.
        faults.dedup_by_key(|fault| fault.span.start);
        return Err(Report { problems: placed(faults, path, text, None) });
    }
    let mut document = Document::new(table.get_ref());
    let mut faults = Vec::new();
    let mut config = deserialise(table, &mut document, &mut faults);
    resolve_paths(&mut config, path.parent().unwrap_or(Path::new("")));
    validate::validate(&config, &document, &mut faults);
    add(of(&config), &document, &mut faults);
    let failed = faults.iter().any(|fault| fault.severity == Severity::Error);
    let problems = placed(faults, path, text, Some(&document));
    if failed {
        return Err(Report { problems });
    }
    Ok(Loaded { config, warnings: problems, path: Some(path.to_owned()), digest: *blake3::hash(text.as_bytes()).as_bytes() })
}

/// Adds what was found beside what is wrong already. An entry that has an error may be found wanting for just that, and a warning
/// has come true.
fn add(mut found: Vec<Finding>, document: &Document, faults: &mut Vec<Fault>) {
    let wrong: Vec<&[String]> =
        faults.iter().filter(|fault| fault.severity == Severity::Error).map(|fault| &fault.path[..]).collect();
    found.retain(|finding| !wrong.iter().any(|path| finding.is_of(path)));
    if !wrong.is_empty() {
        // A provider that is wrong was taken out, and the models that name it are not at fault.
        found.retain(|finding| finding.key.first().is_none_or(|section| section != "models"));
    }
    faults.retain(|fault| fault.severity == Severity::Error || !found.iter().any(|finding| finding.key == fault.path));
    faults.extend(found.into_iter().map(|Finding { key, reason, remedy }| {
        let span = document.nearest(&key).map_or(0..0, |node| node.value.clone());
        Fault { severity: Severity::Error, path: key, span, reason, remedy }
    }));
}

fn placed(mut faults: Vec<Fault>, path: &Path, text: &str, document: Option<&Document>) -> Vec<Problem> {
    if faults.len() > MAX_PROBLEMS {
        faults.retain(|fault| fault.severity == Severity::Error);
    }
    faults.sort_by_key(|fault| fault.span.start);
    faults.truncate(MAX_PROBLEMS);
    faults.into_iter().map(|fault| fault.place(path, text, document)).collect()
}

pub(super) fn syntax_fault(error: &toml::de::Error) -> Fault {
    let remedy = match error.message() {
        "duplicate key" => "remove one of the two, or merge them",
        _ => "write TOML: `key = value`, text in quotes, a section as [name]",
    };
    Fault {
        severity: Severity::Error,
        path: Vec::new(),
        span: error.span().unwrap_or(0..0),
        reason: error.message().replace('\n', ", "),
        remedy: remedy.to_owned(),
    }
}

/// Reads what can be read, and notes what cannot.
fn deserialise(mut table: toml::Spanned<DeTable<'_>>, document: &mut Document, faults: &mut Vec<Fault>) -> Config {
    let mut pruned: Vec<Vec<String>> = Vec::new();
    loop {
        let error = match Config::deserialize(toml::Deserializer::from(table.clone())) {
            Ok(config) => return config,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let node = document.at(&span, &within(&error)).cloned();
        let path = node.as_ref().map(|node| node.path.clone()).unwrap_or_default();
        if error.message().starts_with("missing field") {
            faults.extend(missing(&path, &span, document, &pruned));
        } else if !is_consequence(error.message(), &path, &pruned) {
            let (mut reason, remedy) = explain(error.message());
            if error.message().starts_with("unknown field") {
                document.mark_unknown(&path);
            } else if let Some(secret) = node.as_ref().and_then(|node| document.secret(node)) {
                reason = reason.replace(secret, "…");
            }
            faults.push(Fault { severity: Severity::Error, path: path.clone(), span, reason, remedy });
        }
        pruned.push(path);
        if faults.len() >= MAX_PROBLEMS {
            return Config::default();
        }
        // Each round takes out one node, so this ends; an error that has no node cannot be passed over.
        if !node.is_some_and(|node| prune(table.get_mut(), &node)) {
            return Config::default();
        }
    }
}

/// The path that the error names, joined with dots. toml offers it in the printed text alone.
fn within(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let path = text.strip_prefix(error.message()).and_then(|rest| rest.trim().strip_prefix("in `"));
    path.and_then(|path| path.strip_suffix('`')).unwrap_or_default().to_owned()
}

/// Whether an error comes of what was taken out of the table at `path`: a model without the name that was no text.
fn is_consequence(message: &str, path: &[String], pruned: &[Vec<String>]) -> bool {
    let mut below = pruned.iter().filter_map(|gone| gone.strip_prefix(path)).filter_map(<[String]>::first);
    match message.strip_prefix('`').and_then(|rest| rest.split_once("` is missing")) {
        Some((name, _)) => below.any(|gone| gone == name),
        None => message.starts_with("wanted exactly 1 element") && below.next().is_some(),
    }
}

/// All keys that the table at `path` lacks, where serde names the first alone. A key that was there and wrong is not missing.
fn missing(path: &[String], span: &std::ops::Range<usize>, document: &Document, pruned: &[Vec<String>]) -> Vec<Fault> {
    let lacking = schema::required(path).into_iter().filter(|name| {
        let mut full = path.to_vec();
        full.push(name.clone());
        !pruned.contains(&full) && !document.has(&full.iter().map(String::as_str).collect::<Vec<_>>())
    });
    lacking
        .map(|name| Fault {
            severity: Severity::Error,
            path: path.to_vec(),
            span: span.clone(),
            reason: format!("`{name}` is missing"),
            remedy: format!("add `{name} = …` to [{}]", shown(path)),
        })
        .collect()
}

/// Reason and remedy from the text of a serde error. The value itself is left out: it may be a secret in the wrong place.
pub(super) fn explain(message: &str) -> (String, String) {
    if let Some((reason, remedy)) = message.split_once("; ") {
        return (reason.to_owned(), remedy.to_owned());
    }
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    for (start, noun) in [("unknown field", "key"), ("unknown variant", "value")] {
        if let (true, [got, known @ ..]) = (message.starts_with(start), &quoted[..]) {
            return (format!("unknown {noun} `{got}`"), suggest::remedy(got, known));
        }
    }
    if let Some((got, expected)) = message.strip_prefix("invalid type: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        let kind = got.split(['"', '`']).next().unwrap_or(got).trim();
        let wanted = plain(expected);
        return (format!("this is {}", article(kind)), format!("write {wanted}"));
    }
    if let Some((_, expected)) = message.strip_prefix("invalid value: ").and_then(|rest| rest.rsplit_once(", expected ")) {
        return ("this value is out of range".to_owned(), format!("write {}", plain(expected)));
    }
    if message.starts_with("wanted string or table") || message.starts_with("wanted exactly 1 element") {
        return ("this is not text".to_owned(), "write one word in quotes".to_owned());
    }
    if message.contains("socket address") {
        return (
            "this is not an IP address and a port".to_owned(),
            "write IP:PORT, such as \"127.0.0.1:8080\" or \"[::]:8080\"".to_owned(),
        );
    }
    (message.lines().next().unwrap_or_default().replace(';', ","), "see `pointsman check --schema`".to_owned())
}

/// A serde type's name in words.
fn plain(expected: &str) -> String {
    match expected {
        "usize" | "u64" | "u32" => "a whole number of at least 0".to_owned(),
        "f64" => "a number".to_owned(),
        "a string" | "string" | "path string" => "text in quotes".to_owned(),
        "a sequence" => "a list in [ ]".to_owned(),
        "a map" => "a table".to_owned(),
        "a duration" => "a duration such as \"5ms\" or \"1h30m\"".to_owned(),
        "a size" => "a size such as \"16MiB\"".to_owned(),
        "socket address" => "an IP address and a port such as \"127.0.0.1:8080\"".to_owned(),
        _ if expected.starts_with("struct ") => "a table".to_owned(),
        _ => expected.to_owned(),
    }
}

fn article(kind: &str) -> String {
    match kind {
        "string" => "text".to_owned(),
        "sequence" => "a list".to_owned(),
        "map" => "a table".to_owned(),
        "integer" => "a whole number".to_owned(),
        "floating point" => "a number with a fraction".to_owned(),
        "boolean" => "true or false".to_owned(),
        _ => kind.to_owned(),
    }
}

/// Relative paths are relative to the configuration file's folder, wherever pointsman was started.
fn resolve_paths(config: &mut Config, folder: &Path) {
    let resolve = |path: &mut PathBuf| *path = folder.join(&*path);
    let secret = |reference: &mut SecretRef| {
        if let SecretRef::File(path) = reference {
            resolve(path);
        }
    };
    if let Some(tls) = &mut config.listen.tls {
        resolve(&mut tls.certificate);
        resolve(&mut tls.key);
        tls.client_ca.iter_mut().for_each(resolve);
    }
    config.state.iter_mut().for_each(resolve);
    config.listen.handover.iter_mut().for_each(resolve);
    config.admin.iter_mut().filter_map(|admin| admin.key.as_mut()).for_each(secret);
    for provider in config.providers.values_mut() {
        provider.key.iter_mut().chain(&mut provider.keys).for_each(secret);
        for value in provider.headers.values_mut() {
            if let SecretOrString::Secret(reference) = value {
                secret(reference);
            }
        }
    }
    config.plugins.values_mut().filter(|plugin| plugin.oci().is_none()).for_each(|plugin| resolve(&mut plugin.component));
    config.prompts.iter_mut().for_each(|prompts| resolve(&mut prompts.path));
    config.recording.iter_mut().for_each(|recording| resolve(&mut recording.path));
    if let Some(cache) = &mut config.cache {
        cache.redis.iter_mut().filter_map(|redis| redis.password.as_mut()).for_each(secret);
        cache.disk.iter_mut().for_each(|disk| resolve(&mut disk.path));
        cache.semantic.iter_mut().filter_map(|semantic| semantic.calibration.as_mut()).for_each(resolve);
    }
    config.onnxruntime.iter_mut().for_each(resolve);
    let semantic = config.cache.as_mut().and_then(|cache| cache.semantic.as_mut()).map(|semantic| &mut semantic.embedder);
    for embedder in config.embedders.values_mut().filter_map(|entry| entry.local.as_mut()).chain(semantic) {
        if let Embedder::Folder(path) = embedder {
            resolve(path);
        }
    }
}

impl Config {
    /// The concrete models that a name stands for, first the one that answers when no plugin chooses. Empty: no such model.
    pub fn candidates<'a>(&'a self, name: &'a str) -> Vec<&'a str> {
        match self.models.get(name) {
            None => Vec::new(),
            Some(Model::Concrete(_)) => vec![name],
            Some(Model::Virtual(model)) => model.choose.iter().map(String::as_str).collect(),
        }
    }
}
