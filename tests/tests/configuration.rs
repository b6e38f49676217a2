//! Configuration files and what is said about them: each `fixtures/config/NAME.toml` is loaded, and what it gives (warnings,
//! or the whole report) is compared with `NAME.txt`, letter by letter. `UPDATE=1` writes the texts anew: read them.
//!
//! Starts no server.

use std::path::{Path, PathBuf};

use pointsman::config::{self, Config, Embedder, Grant, Hook, Model, ModelKind, OnFailure, SecretOrString, SecretRef};

const FOLDER: &str = "fixtures/config";

fn load(name: &str) -> Result<config::Loaded, config::Report> {
    config::load(&Path::new(FOLDER).join(name))
}

fn text_of(name: &str, text: &str) -> String {
    match config::load_text(text, &Path::new(FOLDER).join(name)) {
        Ok(loaded) => format!("ok\n{}", loaded.warnings.iter().map(ToString::to_string).collect::<String>()),
        Err(report) => report.to_string(),
    }
}

#[test]
fn each_file_gives_its_report() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    names.sort();
    assert!(names.len() >= 10);
    let mut wrong = Vec::new();
    for path in names {
        let text = text_of(path.file_name().unwrap().to_str().unwrap(), &std::fs::read_to_string(&path).unwrap());
        let beside = path.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&beside, &text).unwrap();
        }
        let expect = std::fs::read_to_string(&beside).unwrap_or_default();
        if text != expect {
            wrong.push(format!("{}\n--- expected\n{expect}--- got\n{text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A report is pasted into chats and tickets.
#[test]
fn no_report_has_a_secret() {
    let text = std::fs::read_to_string(Path::new(FOLDER).join("secrets.toml")).unwrap();
    // Each line alone breaks the file at another place; each cut gives another syntax error.
    let cuts = (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)).map(|cut| &text[..cut]);
    let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(before, _)| before));
    for part in cuts.chain(lines) {
        let report = text_of("secrets.toml", part);
        assert!(!report.contains("hunter2"), "{part}\n---\n{report}");
    }
    let Err(report) = load("secrets.toml") else { panic!("it has errors") };
    assert!(!format!("{report:?}").contains("hunter2"));
}

/// Each section of the broken files alone must give the same errors as it does among the others: none hides another.
#[test]
fn every_error_is_reported_at_once() {
    for name in ["unknown-keys", "types", "ranges"] {
        let text = std::fs::read_to_string(Path::new(FOLDER).join(name).with_extension("toml")).unwrap();
        let Err(report) = load(&format!("{name}.toml")) else { panic!("{name} has errors") };
        let lines: std::collections::BTreeSet<usize> = report.errors().map(|problem| problem.line).collect();
        assert!(lines.len() * 3 > text.lines().count(), "{name}: {lines:?}");
        assert!(report.problems.is_sorted_by_key(|problem| problem.line));
        for problem in &report.problems {
            assert!(problem.line > 0 && problem.column > 0 && !problem.key.is_empty(), "{problem}");
            assert!(!problem.reason.contains(';') && !problem.remedy.is_empty(), "{problem}");
        }
    }
}

#[test]
fn the_whole_file_is_read_as_it_is_meant() {
    let loaded = load("whole.toml").unwrap_or_else(|report| panic!("{report}"));
    let config = loaded.config;
    assert_eq!(config.listen.address.to_string(), "127.0.0.1:8080");
    assert_eq!((config.listen.max_body.bytes(), config.listen.drain.get().as_secs()), (64_000_000, 90));
    assert_eq!(config.listen.max_headers, 64, "what is absent has its default");
    let secret = SecretRef::File(Path::new(FOLDER).join("files/secret.txt"));
    assert_eq!(config.admin.unwrap().key.as_ref(), Some(&secret), "paths are relative to the file");
    let local = &config.providers["local"];
    assert_eq!(local.headers["x-token"], SecretOrString::Secret(secret));
    assert_eq!((local.timeouts.first_token.to_string(), local.timeouts.total.to_string()), ("20s".into(), "10m".into()));
    assert_eq!(config.plugins.keys().collect::<Vec<_>>(), ["zebra", "aardvark"], "plugins run in the order of the file");
    let zebra = &config.plugins["zebra"];
    assert_eq!(
        (&zebra.hooks[..], zebra.grant[3], zebra.on_failure),
        (&[Hook::Routing, Hook::Caching][..], Grant::Upstreams, OnFailure::FallThrough)
    );
    assert_eq!(
        zebra.config.to_string(),
        r#"{"short":"small","long":"large","limit":400,"since":"2025-01-02","nested":{"list":[1,2.5,true]}}"#
    );
    assert_eq!(config.models["auto"].choices().unwrap(), ["small", "large"]);
    let off = config.models["large"].switch();
    assert_eq!((off.enabled, off.substitute.as_deref()), (false, Some("small")));
    let written = serde_json::to_value(&config.models).unwrap();
    assert_eq!(serde_json::from_value::<config::Map<Model>>(written).unwrap(), config.models, "it is written as it is read");
    let degrade = config.degrade.unwrap();
    assert_eq!((degrade.stale, degrade.shed, degrade.hold.get().as_secs()), (0.8, 0.95, 30));
    let Model::Concrete(built_in) = &config.models["text embedding"] else { panic!("it is concrete") };
    assert!(built_in.is_built_in() && built_in.kind == ModelKind::Embedding);
    assert_eq!(config.cache.unwrap().semantic.unwrap().embedder, Embedder::BuiltIn);
    assert_eq!(config.examples["topic"]["talk"], ["how are you"]);
}

#[test]
fn secrets_are_resolved_without_their_newline_and_shown_nowhere() {
    use secrecy::ExposeSecret;
    let secret = SecretRef::File(Path::new(FOLDER).join("files/secret.txt"));
    assert_eq!(secret.resolve().unwrap().expose_secret(), "from-a-file");
    assert!(SecretRef::Env("PATH".into()).resolve().is_ok());
    let wrong = SecretRef::Env("POINTSMAN_TEST_ABSENT".into()).resolve().unwrap_err();
    assert!(wrong.reason.contains("POINTSMAN_TEST_ABSENT"));
    let plain = SecretOrString::Plain("hunter2".into());
    assert!(!format!("{plain:?} {}", serde_json::to_string(&plain).unwrap()).contains("hunter2"));
}

#[test]
fn files_that_are_no_configuration() {
    for (name, reason) in [("no-such-file.toml", "cannot be read"), ("files", "is not a file"), ("files/component.bin", "")] {
        let Err(report) = load(name) else { panic!("{name} was read") };
        let shown = report.to_string();
        assert!(shown.starts_with(&format!("{FOLDER}/{name}:")) && shown.contains(reason), "{shown}");
    }
}

/// Defaults are written twice, in the types and (by a person) in the doc comments: the schema has both, so they can be compared.
#[test]
fn the_schema_tells_defaults_as_the_comments_do() {
    let schema = config::schema();
    let mut compared = 0;
    for (name, table) in schema["$defs"].as_object().unwrap() {
        for (key, property) in table["properties"].as_object().into_iter().flatten() {
            let (Some(default), Some(description)) = (property.get("default"), property["description"].as_str()) else {
                continue;
            };
            let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            if let Some((_, said)) = description.split_once("Default ") {
                let said = said.split([',', '(', ' ']).next().unwrap().trim_end_matches('.');
                let same = default == said
                    || default.parse().is_ok_and(|number: f64| said.parse() == Ok(number))
                    || default.parse().is_ok_and(|time: config::Duration| said.parse() == Ok(time));
                assert!(same, "{name}.{key}: {default} is not {said}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 20, "{compared}");
    let round: Config = serde_json::from_value(serde_json::to_value(Config::default()).unwrap()).unwrap();
    assert_eq!(round, Config::default());
}
