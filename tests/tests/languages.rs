//! Plugins in Rust, TypeScript and Python, built as `pointsman plugin build` builds them, in a real host.
//!
//! What it does not do: it installs no toolchain beforehand; the build does, once, as it does for a user.
//!
//! **Invariant:** the cases are the same for all languages, word for word. Nothing is written into the tree.

use std::path::{Path, PathBuf};
use std::process::Command;

use pointsman::plugin::build;
use serde_json::json;
use tests::binary::run as run_binary;
use tests::{Act, Answer, FakeUpstream, Host, Plugin, Running, installed};

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
const CONFIG: &str =
    r#"{ examples = "task", models = { code = "large", cooking = "small", talk = "nobody" }, min_score = 0.4, per_minute = 2 }"#;

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

/// What `plugin new` writes builds and passes its cases at once, in every language and for every hook.
#[test]
fn a_new_plugin_passes_its_cases() {
    let folder = tempfile::tempdir().unwrap();
    for language in ["js", "python"] {
        for hook in ["routing", "prompting", "caching"] {
            let dir = folder.path().join(format!("{language}-{hook}")).display().to_string();
            let (code, out, err) = run_binary(&["plugin", "new", &dir, "--lang", language, "--hook", hook]);
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
            let (code, out, err) = run_binary(&["plugin", "test", &dir]);
            assert!(code == 0 && out.contains("all as expected"), "{language} {hook}: {out}\n{err}");
        }
    }
}

/// That each passes them is tested with those of the other worked plugins (`plugin_cases.rs`).
#[test]
fn one_policy_in_three_languages_has_one_set_of_cases() {
    let cases = |name: &str| std::fs::read(root().join("plugins").join(name).join("cases/route-by-task.toml")).unwrap();
    assert!(SAME.iter().all(|name| cases(name) == cases(SAME[0])));
}

const ALL: &str = r#"deadline = "1s"
reuse = true
grant = ["config", "log", "metrics", "upstreams", "embeddings", "clock", "random", "kv"]
config = { text = "t", number = 1.5, flag = true, list = ["a", "b"], table = { x = 1, y = 2 } }"#;

/// What is asked with `x-say-route`, and what comes of it.
const ASKED: [(&str, &str); 12] = [
    ("clock", "true"),
    ("config", "t 1.5 true a+b 7"),
    ("entries", "x=1 y=2"),
    ("embeddings", "cooking 1.00 true"),
    ("kv", "v false true 1 -2 true false true"),
    ("refused", "too-large"),
    ("random", "true"),
    ("upstreams", "small large 2000000 2000000"),
    ("request", "user:soup, please 9 so none"),
    ("head", "team app chat 9 none false"),
    ("pass", ""),
    ("plan", "as told"),
];

/// The words of `x-say-key` and `x-say-admit`, and where the answer comes from.
const SHARED: [(&str, &str, &str); 8] = [
    ("read-only", "", "miss"),
    ("admitted", "no", "miss"),
    ("read-only", "", "miss"),
    ("admitted", "", "miss"),
    ("key", "", "exact"),
    ("read-only", "", "exact"),
    ("refresh", "", "miss"),
    ("bypass", "", "bypass"),
];

#[test]
fn each_hook_and_each_import_of_the_sdks() {
    for language in ["js", "python"] {
        let fake = FakeUpstream::start();
        let component = built(&Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(language));
        let plugin = Plugin::new("every-hook", component).set(ALL);
        let host = Host::new()
            .upstream(&fake)
            .section(TASKS)
            .key("app", "team")
            .prompt("greet", "v1", "Greet.")
            .semantic()
            .plugin(plugin);
        let host = host.start();
        let ask = |text: &str, says: &[(&str, &str)]| {
            let ask = host.ask(text).model("auto").key("app").set("max_tokens", json!(9)).header("cache-control", "no-cache");
            says.iter().fold(ask, |ask, (hook, what)| ask.header(&format!("x-say-{hook}"), what)).send()
        };
        let header = |answer: &Answer, name: &str| answer.header(name).unwrap_or_default().to_owned();

        for (what, expect) in ASKED {
            let answer = ask("soup, please", &[("route", what)]);
            assert_eq!((answer.status, header(&answer, "x-pointsman-reason")), (200, expect.to_owned()), "{language} {what}");
        }
        assert_eq!((fake.last().header("x-sent"), &fake.last().json()["model"]), (Some("yes"), &json!("giant-1")), "{language}");
        ask("hi", &[("route", "log")]);
        ask("hi", &[("route", "metrics")]);
        let metrics = host.metrics();
        for (name, labels, value) in [("said", &["by=\"guest\""][..], 2.0), ("level", &[], 1.5), ("size_sum", &[], 3.0)] {
            assert_eq!(metrics.sum(&format!("pointsman_plugin_{name}"), labels), value, "{language} {name}");
        }

        // What goes wrong in a plugin is told in words, and ends nothing but the call.
        for what in ["bug", "unavailable", "host error", "whatever", "missing"] {
            let answer = ask("hi", &[("route", what)]);
            assert_eq!((answer.status, header(&answer, "x-pointsman-reason")), (200, String::new()), "{language} {what}");
        }
        let failures = |cause: &str| host.metrics().sum("pointsman_plugin_failures_total", &[&format!("cause=\"{cause}\"")]);
        assert_eq!((failures("error"), failures("trap")), (5.0, 0.0), "{language}");

        // What a hook cannot return, and what there is not, too: each was a trap that said nothing.
        let own = if language == "js" { ("promise", "a Promise") } else { ("print", "a plugin has no standard output") };
        for (what, expect) in [own, ("promise", "nothing waits for one"), ("text", "where it returns a Plan")] {
            assert_eq!(ask("hi", &[("route", what)]).status, 200, "{language} {what}");
            let last = host.api("/api/plugins")["plugins"][0]["last_failure"].clone();
            let reason = last["reason"].as_str().unwrap_or_default();
            assert!(last["cause"] == "error" && reason.contains(expect), "{language} {what}: {last}");
        }

        let refused = ask("hi", &[("route", "reject")]);
        assert_eq!((refused.status, refused.code().as_str(), refused.header("retry-after")), (429, "slow_down", Some("2")));
        let refused = ask("hi", &[("select", "reject")]);
        assert_eq!((refused.status, refused.code().as_str()), (400, "no_prompt"), "{language}");
        let labelled = ask("hi", &[("select", "choose"), ("route", "request")]);
        assert!(header(&labelled, "x-pointsman-reason").ends_with(" maths"), "{language}");
        assert_eq!(fake.last().json()["messages"][0]["content"], "Greet.", "{language}");
        ask("hi", &[("select", "rewrite")]);
        let up = fake.last().json();
        assert_eq!((&up["messages"][1]["content"], &up["temperature"]), (&json!("And briefly."), &json!(0.5)), "{language}");

        fake.when("tiny-1", Act::say("A short answer."));
        for (after, model, asked) in
            [("pass", "small", 1), ("fall back", "large", 2), ("again", "small", 2), ("escalate", "large", 2)]
        {
            let before = fake.count();
            let answer = ask("hi", &[("route", "review"), ("after", after)]);
            let told = (answer.status, header(&answer, "x-pointsman-model"), fake.count() - before);
            assert_eq!(told, (200, model.to_owned(), asked), "{language} {after}");
        }
        let told = ask("hi", &[("route", "review"), ("after", "tell")]);
        assert_eq!((told.status, told.json()["error"]["message"].as_str()), (422, Some("small 200 true A sh")), "{language}");

        let share = |text: &str, says: &[(&str, &str)]| {
            let ask = host.ask(text).key("app");
            says.iter().fold(ask, |ask, (hook, what)| ask.header(&format!("x-say-{hook}"), what)).send().cache().to_owned()
        };
        for (index, (key, admit, expect)) in SHARED.into_iter().enumerate() {
            let said = share(&format!("whatever {index}"), &[("key", key), ("admit", admit)]);
            assert_eq!(said, expect, "{language} {index} {key} {admit}");
        }
        let (text, reworded) = ("How do I reset my password?", "how do i reset my password");
        for (text, confirm, expect) in [(text, "", "miss"), (reworded, "", "semantic"), (reworded, "veto", "miss")] {
            assert_eq!(share(text, &[("key", "near"), ("confirm", confirm)]), expect, "{language} {text} {confirm}");
        }
        assert_eq!(failures("trap") + failures("output"), 0.0, "{language}");
    }
}

/// What the languages themselves call time and chance is nothing of the machine's: a recorded exchange is decided again as it was.
#[test]
fn a_replay_knows_no_machine() {
    use pointsman::replay::{Options, run};
    for language in ["js", "python"] {
        let fake = FakeUpstream::start();
        let component = built(&Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(language));
        let plugin = Plugin::new("every-hook", component.clone()).hooks("\"routing\"").set(ALL).replace("reuse = true", "");
        let recording = "[recording]\npath = \"recordings\"\nshare = 1.0";
        let host = Host::new().upstream(&fake).section(TASKS).section(recording).plugin(plugin).start();
        let asked = ["machine", "machine", "clock", "random", "kv", "embeddings"];
        for what in asked {
            let answer = host.ask("soup, please").header("x-say-route", what).send();
            assert!(answer.header("x-pointsman-reason").is_some(), "{language} {what}: {}", host.api("/api/plugins"));
        }
        tests::eventually("all is written", || {
            let written = host.metrics().sum("pointsman_recording_exchanges_total", &["outcome=\"written\""]);
            (written == asked.len() as f64).then_some(())
        });
        host.folder.write("again.wasm", &component);
        let reports = [1, 2, 2].map(|threads| {
            let (recording, plugin) = (host.folder.path("recordings"), host.folder.path("again.wasm"));
            let (against, name, settings, prices) = (None, None, None, None);
            run(&Options { recording, plugin, against, name, settings, prices, threads, examples: 2 }).unwrap()
        });
        let [first, ..] = &reports;
        assert_eq!((first.replayed, first.changed, first.uncertain), (asked.len() as u64, 0, 0), "{language}: {first}");
        assert!(reports.iter().all(|report| report.to_string() == first.to_string()), "{language}");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares files with what they should be, or writes them where `UPDATE` is set.
fn same(found: &Path, expect: &Path, ends: &str) {
    let mut names = Vec::new();
    for folder in [expect, found] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
            if entry.is_dir() && name != "__pycache__" && folder == expect {
                same(&found.join(&name), &entry, ends);
            } else if name.ends_with(ends) && !names.contains(&name) {
                names.push(name);
            }
        }
    }
    for name in names {
        let (file, text) = (found.join(&name), std::fs::read_to_string(expect.join(&name)).ok());
        if std::fs::read_to_string(&file).ok() == text {
            continue;
        }
        assert!(std::env::var_os("UPDATE").is_some(), "{} is not what wit/ says; run this test with UPDATE=1", file.display());
        std::fs::create_dir_all(found).unwrap();
        text.map_or_else(|| std::fs::remove_file(&file), |text| std::fs::write(&file, text)).unwrap();
    }
}

fn run(command: &mut Command) {
    let ran = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&said));
}

/// The declarations in the tree are those that jco makes of the contract, and the SDK is of these types.
#[test]
fn types_of_the_javascript_sdk() {
    let prepared = build::prepare(build::Language::JavaScript).unwrap();
    let made = tempfile::tempdir().unwrap();
    // The script finds the contract and jco beside itself.
    let beside = |name: &str, target: PathBuf| std::os::unix::fs::symlink(target, made.path().join(name)).unwrap();
    beside("node_modules", prepared.folder.join("node_modules"));
    beside("contract", root().join("wit").canonicalize().unwrap());
    std::fs::copy(root().join("sdk/js/toolchain/types.mjs"), made.path().join("types.mjs")).unwrap();
    std::fs::create_dir(made.path().join("wit")).unwrap();
    run(Command::new(&prepared.program).arg(made.path().join("types.mjs")).arg(made.path().join("wit/plugin.d.ts")));
    same(&root().join("sdk/js/wit"), &made.path().join("wit"), ".d.ts");
    let tsc = prepared.folder.join("node_modules/typescript/bin/tsc");
    for folder in ["sdk/js", "plugins/route-by-task-js", "tests/guests/js"] {
        run(Command::new(&prepared.program).arg(&tsc).arg("-p").arg(root().join(folder)));
    }
}

/// The stubs in the tree are those that componentize-py makes of the contract, and the SDK is of these types.
#[test]
fn types_of_the_python_sdk() {
    let prepared = build::prepare(build::Language::Python).unwrap();
    let made = tempfile::tempdir().unwrap();
    let bindings = ["--world", "policy-plugin", "--world-module", "pointsman_wit", "bindings"];
    let program = prepared.program.with_file_name("componentize-py");
    run(Command::new(program).arg("--wit-path").arg(root().join("wit")).args(bindings).arg(made.path()));
    same(&root().join("sdk/python/pointsman_wit"), &made.path().join("pointsman_wit"), ".py");
    let file = "componentize_py_types.py";
    let read = |folder: &Path| std::fs::read_to_string(folder.join(file)).unwrap();
    assert_eq!(read(&root().join("sdk/python")), read(made.path()));
    let mypy = installed("python", "python/requirements.txt").join("bin/mypy");
    for (folder, what) in
        [("sdk/python", "pointsman_plugin"), ("plugins/route-by-task-python", "plugin.py"), ("tests/guests/python", "plugin.py")]
    {
        let sdk = root().join("sdk/python").canonicalize().unwrap();
        let cache = made.path().join("mypy");
        let mut mypy = Command::new(&mypy);
        mypy.current_dir(root().join(folder)).env("MYPYPATH", sdk).args(["--strict", "--cache-dir"]).arg(cache);
        run(mypy.args(["--config-file"]).arg(root().join("sdk/python/pyproject.toml").canonicalize().unwrap()).arg(what));
    }
}
