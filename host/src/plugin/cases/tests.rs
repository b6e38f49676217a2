//! What a file of cases says, and how a case lies over its file. That a plugin finds it is tested with guests (`tests/tests/plugin_cases.rs`).

use super::file::{Call, CaseFile};
use super::*;

fn file(text: &str) -> CaseFile {
    sheet::read_text(text.to_owned(), Path::new("cases.toml"), REFERENCE).unwrap_or_else(|report| panic!("{report}")).value
}

#[test]
fn a_case_lies_over_its_file() {
    let file = file(
        r#"
[given]
config = { a = 1, b = 2 }
models = ["small", "large"]
examples.task = { code = 0.5 }
request = { model = "auto", message = "Hello", headers = { x = "1", y = "1" }, body = { n = 1 } }

[[case]]
name = "one"
hook = "route"
expect = "pass"
given.config = { b = 3 }
given.models = [{ model = "huge", in_flight = 3 }]
given.examples.other = { talk = 0.1 }
given.request = { headers = { y = "2" }, messages = [{ role = "user", content = "Hi" }], body = { user = "ada" } }
"#,
    );
    let given = file.cases[0].given.over(&file.given);
    assert_eq!((given.config["a"].as_i64(), given.config["b"].as_i64()), (Some(1), Some(3)));
    let models = given.models.unwrap();
    assert_eq!((models.len(), models[0].model.as_str(), models[0].in_flight), (1, "huge", Some(3)));
    assert_eq!(given.examples.keys().collect::<Vec<_>>(), ["task", "other"]);
    assert_eq!((given.request.headers["x"].as_str(), given.request.headers["y"].as_str()), ("1", "2"));
    assert_eq!((given.request.message, given.request.messages.map(|all| all.len())), (None, Some(1)), "its own messages alone");
    assert_eq!((given.request.model.as_deref(), given.request.body.len()), (Some("auto"), 2));
}

/// Each word belongs to the calls that can come to it, and a call's list has it.
#[test]
fn words_and_calls() {
    let calls =
        [Call::Route, Call::AfterAttempt, Call::OnChunk, Call::Select, Call::Key, Call::Confirm, Call::Admit, Call::Check];
    for word in ["pass", "accept", "fall-back", "go-on", "enough", "bypass", "serve", "veto", "evict", "keep", "refuse", "good"] {
        let of = |call: &str| format!("[[case]]\nname = \"x\"\nhook = \"{call}\"\nexpect = \"{word}\"\n");
        let expect = &file(&of("route")).cases[0].expect;
        for call in calls {
            let listed = call.answers().split(", ").any(|known| known == word);
            assert_eq!(expect.fits(call), listed, "{word} and {call:?}");
        }
    }
    for (word, value) in [
        ("plan", "{}"),
        ("reject", "{}"),
        ("again", "5"),
        ("observe", "{}"),
        ("stop", "\"length\""),
        ("escalate", "\"large\""),
        ("choose", "{}"),
        ("rewrite", "{}"),
        ("key", "{}"),
        ("read-only", "{}"),
        ("refresh", "{}"),
        ("keep-for", "5"),
        ("fails", "{}"),
    ] {
        let text = format!("[[case]]\nname = \"x\"\nhook = \"route\"\nexpect.{word} = {value}\n");
        let expect = &file(&text).cases[0].expect;
        for call in calls {
            assert_eq!(expect.fits(call), call.answers().split(", ").any(|known| known == word), "{word} and {call:?}");
        }
    }
}

#[test]
fn files_are_found_by_name() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("cases")).unwrap();
    for name in ["b.toml", "a.json", "notes.md"] {
        std::fs::write(folder.path().join("cases").join(name), "").unwrap();
    }
    let names: Vec<_> = find(folder.path()).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["a.json", "b.toml"]);
    assert!(find(Path::new("/nowhere")).is_empty());
}
