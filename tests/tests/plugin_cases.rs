//! `pointsman plugin test`: what a case gives reaches the plugin, what it expects is compared, what is wrong with it is told. And the cases of the
//! worked plugins.
//!
//! **Invariant:** nothing is written into the tree.

use std::path::{Path, PathBuf};

use pointsman::plugin::cases::{self, CaseError, Tried};
use tests::binary::run;
use tests::guests;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What came of all cases.
fn tried(component: &Path, files: &[PathBuf]) -> Result<Vec<Tried>, CaseError> {
    let mut all = Vec::new();
    cases::run(component, files, None, |tried| all.push(tried.clone())).map(|()| all)
}

fn written(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, bytes).unwrap();
    file
}

/// Every plugin of `plugins/` has two cases at least, and decides as they say.
#[test]
fn the_worked_plugins_decide_as_their_cases_say() {
    use pointsman::plugin::build;
    let folder = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for plugin in std::fs::read_dir(here("../plugins")).unwrap().map(|entry| entry.unwrap().path()) {
        if !build::is_plugin(&plugin) {
            continue;
        }
        let name = plugin.file_name().unwrap().to_string_lossy().into_owned();
        let options = build::Options {
            target_dir: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples-target")),
            component: Some(folder.path().join(format!("{name}.wasm"))),
        };
        let built = build::build(&plugin, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let all = tried(&built.component, &cases::find(&plugin)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let wrong: Vec<&Tried> = all.iter().filter(|tried| !tried.differences.is_empty()).collect();
        assert!(all.len() >= 2 && wrong.is_empty(), "{name}: {wrong:#?}");
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} plugins were found");
}

#[test]
fn what_a_case_gives_is_what_a_plugin_finds() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes, file) in [
        ("asker", guests::asker(), "asker.toml"),
        ("puppet", guests::puppet(), "puppet.json"),
        ("sender", guests::sender(), "sender.toml"),
    ] {
        let component = written(folder.path(), &format!("{name}.wasm"), &bytes);
        let all = tried(&component, &[here("fixtures/cases").join(file)]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let wrong: Vec<&Tried> = all.iter().filter(|tried| !tried.differences.is_empty()).collect();
        assert!(all.len() >= 4 && wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

/// The first eight lines of a file of cases for the puppet.
const ROUTE: &str = r#"
[[case]]
name = "a plan"
hook = "route"
given.models = ["small", "large"]
given.request.headers = { x-puppet-route = '{"plan": {"targets": ["small"], "reason": "why"}}' }
"#;

/// Files that are told of, and what is told.
#[test]
fn what_is_wrong_with_a_file_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let component = written(folder.path(), "puppet.wasm", &guests::puppet());
    for (name, text, expect) in [
        (
            "a.toml",
            format!("{ROUTE}expect = \"serve\"\n"),
            "a.toml:7:10: case[0].expect: this hook does not decide that; write one of pass, plan, observe, reject, fails",
        ),
        (
            "b.toml",
            format!("{ROUTE}expcet = \"pass\"\n"),
            "b.toml:7:1: case[0].expcet: unknown key `expcet`; did you mean `expect`?",
        ),
        ("c.toml", format!("{ROUTE}expect.plan.reson = \"x\"\n"), "unknown key `reson`; did you mean `reason`?"),
        ("d.toml", ROUTE.to_owned(), "`expect` is missing; add `expect = …`"),
        (
            "e.toml",
            format!("{ROUTE}expect = \"pass\"{ROUTE}expect = \"pass\"\n"),
            "case[1].name: there are two cases `a plan`; give each a name of its own",
        ),
        ("f.toml", "[given]\n".to_owned(), "case: there is none; write [[case]]"),
        (
            "g.toml",
            "[[case]]\nname = \"x\"\nhook = \"admit\"\nexpect = \"keep\"\n".to_owned(),
            "case[0].given: has no answer; add `answer =",
        ),
        (
            "h.toml",
            "[[case]]\nname = \"x\"\nhook = \"after-attempt\"\nexpect = \"accept\"\n".to_owned(),
            "says neither what was answered nor what failed",
        ),
        (
            "i.toml",
            "[[case]]\nname = \"x\"\nhook = \"route\"\ngiven.now = \"noon\"\nexpect = \"pass\"\n".to_owned(),
            "i.toml:4:13: case[0].given.now: this is no moment; write one such as",
        ),
        (
            "j.json",
            "{\"case\": [{\"name\": \"x\",\n \"hook\": \"rout\"}]}".to_owned(),
            "j.json:2:15: unknown value `rout`; did you mean `route`?",
        ),
        (
            "k.json",
            "{\"case\": [{\"name\": \"x\", \"hook\": \"route\",\n \"expect\": \"keep\"}]}".to_owned(),
            "k.json:2:12: case[0].expect: this hook does not decide that",
        ),
    ] {
        let file = written(folder.path(), name, text.as_bytes());
        let Err(CaseError::Files(report)) = tried(&component, &[file]) else { panic!("{name} was run") };
        assert!(report.to_string().contains(expect), "{expect:?} is not in:\n{report}");
    }
    // One hook alone: a case for another is a mistake, and no pass.
    let router = written(folder.path(), "router.wasm", &guests::router(1));
    let file = written(folder.path(), "l.toml", b"[[case]]\nname = \"x\"\nhook = \"select\"\nexpect = \"pass\"\n");
    let Err(CaseError::Files(report)) = tried(&router, &[file]) else { panic!("it was run") };
    assert!(
        report.to_string().contains("l.toml:3:8: case[0].hook: the component has no hook `prompting`; it has routing"),
        "{report}"
    );
}

/// Runs `plugin test` on the puppet: its exit code, and what must be in its output and in its errors.
fn check(text: &str, code: i32, out: &str, err: &str) {
    let folder = tempfile::tempdir().unwrap();
    let component = written(folder.path(), "puppet.wasm", &guests::puppet());
    let file = written(folder.path(), "puppet.toml", text.as_bytes());
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (ended, said, complained) = run(&["plugin", "test", &path(&component), "--cases", &path(&file)]);
    assert!(ended == code && said.contains(out) && complained.contains(err), "{ended}\n{said}\n{complained}");
}

#[test]
fn the_command() {
    let wrong = ROUTE.replace("a plan", "another");
    check(&format!("{ROUTE}expect.plan.reason = \"why\"\n"), 0, "ok    a plan\n", "");
    check(&format!("{ROUTE}expect.plan.reason = \"why\"\n"), 0, "puppet.wasm: 1 case, all as expected\n", "");
    let failing =
        format!("{ROUTE}expect.plan.reason = \"why\"\n{wrong}expect.plan = {{ targets = [\"large\"], reason = \"no\" }}\n");
    check(&failing, 1, "ok    a plan\nFAIL  another (", "");
    check(
        &failing,
        1,
        "puppet.toml:9)\n      plan.targets[0].model: expected \"large\", got \"small\"\n      plan.reason: expected \"no\", got \"why\"\n",
        "",
    );
    check(&failing, 1, "puppet.wasm: 2 cases, 1 not as expected\n", "");
    check(
        &format!("{ROUTE}expect = \"pass\"\n"),
        1,
        "decision: expected \"pass\", got {\"plan\":{\"targets\":[{\"model\":\"small\"}]",
        "",
    );
    check(
        &format!("{ROUTE}expect.plan = {{}}\nabsent = [\"plan.reveiw\"]\n"),
        1,
        "plan.reveiw: expected a field of the decision that is empty, got no such field",
        "",
    );
    check("[[case]]\n", 2, "", "puppet.toml:1:1: case: `name` is missing; add `name = …`");

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    written(folder.path(), "puppet.wasm", &guests::puppet());
    written(folder.path(), "module.wasm", &guests::hostile::core_module());
    written(folder.path(), "any.toml", format!("{ROUTE}expect.plan = {{}}\n").as_bytes());
    for (arguments, expect) in [
        (vec!["plugin", "test", &path("puppet.wasm")], "there are no cases in"),
        (vec!["plugin", "test", &path("module.wasm"), "--cases", &path("any.toml")], "core module"),
        (vec!["plugin", "test", &path("none.wasm"), "--cases", &path("any.toml")], "none.wasm"),
        (vec!["plugin", "test", &path(""), "--cases", &path("any.toml")], "Cargo.toml"),
    ] {
        let (code, out, err) = run(&arguments);
        assert!(code == 2 && out.is_empty() && err.contains(expect), "{arguments:?} ended with {code}\n{out}\n{err}");
    }
    // Beside a component its cases are found.
    std::fs::create_dir(folder.path().join("cases")).unwrap();
    std::fs::rename(folder.path().join("any.toml"), folder.path().join("cases/any.toml")).unwrap();
    assert_eq!(run(&["plugin", "test", &path("puppet.wasm")]).0, 0);
}

/// What a plugin has logged is shown where a case is not as expected.
#[test]
fn lines_of_a_failing_case() {
    let folder = tempfile::tempdir().unwrap();
    let component = written(folder.path(), "asker.wasm", &guests::asker());
    let ask = r#"{"log": {"level": 3, "message": "careful", "fields": [["a", "1"]], "times": 1}}"#;
    let text = format!(
        "[[case]]\nname = \"x\"\nhook = \"route\"\ngiven.request.headers = {{ x-puppet-ask = '{ask}' }}\nexpect = \"pass\"\n"
    );
    let file = written(folder.path(), "asker.toml", text.as_bytes());
    let (code, out, _) = run(&["plugin", "test", component.to_str().unwrap(), "--cases", file.to_str().unwrap()]);
    assert!(code == 1 && out.contains("      it logged WARN careful {\"a\":\"1\"}\n"), "{out}");
}
