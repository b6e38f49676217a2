//! Plugins in Rust, TypeScript and Python, built as `pointsman plugin build` builds them, in a real host.
//!
//! What it does not do: it installs no toolchain beforehand; the build does, once, as it does for a user.
//!
//! **Invariant:** the cases are the same for all languages, word for word. Nothing is written into the tree.

use std::path::Path;

use pointsman::plugin::build;
use tests::{FakeUpstream, Host, Plugin, Running};

const SAME: [&str; 3] = ["route-by-task", "route-by-task-js", "route-by-task-python"];

fn built(folder: &Path) -> Vec<u8> {
    let out = tempfile::tempdir().unwrap();
    let options = build::Options {
        target_dir: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples-target")),
        component: Some(out.path().join("built.wasm")),
    };
    let made = build::build(folder, &options).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    assert_eq!(made.warnings, "", "{}", folder.display());
    std::fs::read(made.component).unwrap()
}

fn plugin(name: &str, component: &[u8], config: &str) -> Plugin {
    Plugin::new(name, component)
        .hooks("\"routing\"")
        .must_not_fail()
        .set("deadline = \"1s\"")
        .set(&format!("grant = [\"config\", \"upstreams\", \"embeddings\", \"kv\"]\nconfig = {config}"))
}

const TASKS: &str = "[examples.task]\ncode = [\"Write a function in Python that sorts a list.\"]\n\
                     cooking = [\"A recipe for tomato soup.\"]\ntalk = [\"Good morning, how are you?\"]";
const CONFIG: &str = r#"{ examples = "task", models = { code = "large", cooking = "small", talk = "nobody" }, min_score = 0.4, per_minute = 2 }"#;

/// Whose request, for which model, what is asked; and which model answers, with which reason.
const CASES: [(&str, &str, &str, &str, &str); 9] = [
    ("a", "auto", "Write a function in Python that reverses a list.", "large", "like code"),
    ("a", "auto", "Give me a recipe for soup.", "small", "like cooking"),
    ("a", "auto", "Write a function in Python that reverses a list.", "large", "like code"),
    ("a", "auto", "Write a function in Python that reverses a list.", "small", "code, above 2 a minute"),
    ("b", "auto", "Write a function in Python that reverses a list.", "large", "like code"),
    ("a", "auto", "Give me a recipe for soup.", "small", "like cooking"),
    ("a", "auto", "Zebras, quarks and violins.", "small", ""),
    ("a", "auto", "Good morning, how are you?", "small", ""),
    ("a", "small", "Write a function in Python that reverses a list.", "small", ""),
];

fn decides(host: &Running) -> Vec<(u16, String, String)> {
    let ask = |(key, model, question, ..): &(&str, &str, &str, &str, &str)| {
        let answer = host.ask(question).model(model).key(key).send();
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        (answer.status, header("x-pointsman-model"), header("x-pointsman-reason"))
    };
    CASES.iter().map(ask).collect()
}

#[test]
fn one_policy_in_three_languages_decides_alike() {
    let fake = FakeUpstream::start();
    let expect: Vec<_> = CASES.iter().map(|(.., model, why)| (200, (*model).to_owned(), (*why).to_owned())).collect();
    for name in SAME {
        let component = built(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name));
        let host = |plugin| Host::new().upstream(&fake).section(TASKS).key("a", "a").key("b", "b").plugin(plugin);
        for reuse in ["", "reuse = true"] {
            let host = host(plugin(name, &component, CONFIG).set(reuse)).start();
            assert_eq!(decides(&host), expect, "{name} {reuse}");
        }
        // What they cannot work with they refuse, in words that name it.
        let refuses = |config: &str| match host(plugin(name, &component, config)).try_start() {
            Ok(_) => panic!("{name} takes {config}"),
            Err(error) => error.to_string(),
        };
        for (config, key) in [
            (r#"{ models = { code = "large" } }"#, "`examples` is missing"),
            (r#"{ examples = "task", models = {} }"#, "`models` names no specialist: write one, such as { code = \"coder\" }"),
            (r#"{ examples = "task", models = { code = "large" }, per_minute = 0 }"#, "`per_minute` is no number of requests"),
            (r#"{ examples = "task", models = { code = "large" }, per_minute = "many" }"#, "`per_minute` is `"),
            (r#"{ examples = "task", models = { code = [1] } }"#, "`models` is "),
        ] {
            let said = refuses(config);
            assert!(said.contains(key), "{name} {config}: {said}");
        }
    }
}
