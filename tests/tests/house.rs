//! The house: which module may use which, what lies at the top, what each file begins with, and whether the README tells the
//! truth. A rule that is only written down is not kept; these are read from the code.
//!
//! **Invariant:** a rule that finds nothing to look at fails: a test of nothing is no test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below a folder of the repository with this ending, without what is built.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

const LEAVES: &[&str] = &["config", "dialect", "error", "numbers"];
const SIBLINGS: &[&str] = &["cache", "embed", "identity", "plugin", "prompt", "record", "upstream"];

/// What a module of the host may use besides itself.
fn may_use(module: &str) -> Vec<&'static str> {
    let all = |lists: &[&[&'static str]]| lists.concat();
    match module {
        // It knows a dialect's complaint about a body.
        "error" => vec!["dialect"],
        leaf if LEAVES.contains(&leaf) => Vec::new(),
        sibling if SIBLINGS.contains(&sibling) => LEAVES.to_vec(),
        "listen" => LEAVES.to_vec(),
        // It implements the listener's `Handler`; the listener does not know who does.
        "gateway" => all(&[LEAVES, SIBLINGS, &["listen"]]),
        "admin" => all(&[LEAVES, SIBLINGS, &["gateway"]]),
        "process" => all(&[LEAVES, SIBLINGS, &["listen", "gateway", "admin"]]),
        "cli" => all(&[LEAVES, SIBLINGS, &["listen", "gateway", "admin", "process"]]),
        "main" => vec!["cli"],
        "lib" => Vec::new(),
        other => panic!("the house has no room `{other}`: give it a place here and in docs/ARCHITECTURE.md"),
    }
}

#[test]
fn arrows_between_modules() {
    let source = root().join("host/src");
    let mut wrong = Vec::new();
    let mut arrows = BTreeSet::new();
    for file in files("host/src", ".rs") {
        let place: Vec<String> =
            file.strip_prefix(&source).unwrap().with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        for (line, used) in uses(&read(&file), &place) {
            if used != place[0] {
                arrows.insert((place[0].clone(), used.clone()));
                if !may_use(&place[0]).contains(&used.as_str()) {
                    wrong.push(format!(
                        "{}:{line}: `{}` may not use `{used}`",
                        file.strip_prefix(root()).unwrap().display(),
                        place[0]
                    ));
                }
            }
        }
    }
    assert!(arrows.len() > 20, "only {} arrows were found", arrows.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The modules at the top that a file uses, with the line: `crate::NAME`, `crate::{NAME, …}`, and as many `super` as lead there.
fn uses(text: &str, place: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // Each `mod tests {` is one level further down.
    let mut depth = place.len();
    for (index, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if code.starts_with("mod tests {") {
            depth += 1;
        }
        let supers = "super::".repeat(depth);
        let anchored = |start: usize| !code[..start].ends_with(|before: char| before.is_alphanumeric() || "_:$".contains(before));
        for word in ["crate::", supers.as_str()] {
            for (start, _) in code.match_indices(word).filter(|(start, _)| anchored(*start)) {
                found.extend(names(&code[start + word.len()..]).into_iter().map(|name| (index + 1, name)));
            }
        }
    }
    // There are no types and functions at the top of the crate, so whatever follows is a module.
    found.retain(|(_, name): &(usize, String)| !name.is_empty());
    found
}

/// `a::b` is `a`; `{a, b::c}` are `a` and `b`.
fn names(rest: &str) -> Vec<String> {
    let first = |text: &str| -> String {
        text.trim().chars().take_while(|character| character.is_alphanumeric() || *character == '_').collect()
    };
    match rest.strip_prefix('{') {
        None => vec![first(rest)],
        Some(group) => {
            let mut depth = 0;
            let parts = group.split(|character| {
                depth += i32::from(character == '{') - i32::from(character == '}');
                character == ',' && depth == 0
            });
            parts.map(first).filter(|name| !name.is_empty()).collect()
        }
    }
}

#[test]
fn the_reader_of_arrows_reads() {
    let place = |path: &[&str]| path.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>();
    let cases: [(&[&str], &str, &[&str]); 7] = [
        (&["a"], "use crate::b::C;", &["b"]),
        (&["a"], "use crate::{b, c::{D, e}, f};", &["b", "c", "f"]),
        (&["a", "x"], "let y = crate::b::c(super::z, super::super::d::E);", &["b", "d"]),
        (&["a"], "// crate::b\nuse super::c;", &["c"]),
        (&["a"], "mod tests {\n    use super::c;\n    use super::super::d;", &["d"]),
        (&["a"], "use my_crate::b; $crate::c", &[]),
        (&["a"], "", &[]),
    ];
    for (path, text, expect) in cases {
        let found: Vec<String> = uses(text, &place(path)).into_iter().map(|(_, name)| name).collect();
        assert_eq!(found, expect, "{text}");
    }
}

/// `wit → sdk → plugins` and `wit → host → {tests, benches}`: nothing points back, and the SDK knows no host.
#[test]
fn arrows_between_packages() {
    let own = ["pointsman", "pointsman-plugin", "tests", "benches"];
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("host", &[][..]),
        ("sdk", &[]),
        ("plugins", &["pointsman-plugin"]),
        ("tests", &["pointsman"]),
        ("benches", &["pointsman", "pointsman-plugin", "tests"]),
    ]);
    let mut seen = 0;
    for (folder, allowed) in allowed {
        for manifest in files(folder, "Cargo.toml") {
            let table: toml::Table = read(&manifest).parse().unwrap();
            for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
                let names = table.get(section).and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::keys);
                for name in names.filter(|name| own.contains(&name.as_str())) {
                    seen += 1;
                    let is_own = manifest.parent().is_some_and(|parent| parent.starts_with(root().join("sdk")))
                        && name == "pointsman-plugin";
                    assert!(is_own || allowed.contains(&name.as_str()), "{} depends on `{name}`", manifest.display());
                }
            }
        }
    }
    assert!(seen >= 3, "only {seen} dependencies were found");
}

#[test]
fn the_top_level() {
    let expect = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "clippy.toml",
        "docs",
        "host",
        "plugins",
        "rustfmt.toml",
        "sdk",
        "tests",
        "wit",
    ];
    // What is built or made by a run is ignored by git, and so here.
    let ignored: Vec<String> = read(&root().join(".gitignore")).lines().map(|line| line.trim_matches('/').to_owned()).collect();
    let mut names: Vec<String> =
        std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.starts_with('.') && !ignored.contains(name));
    names.sort();
    assert_eq!(names, expect);
}

#[test]
fn each_file_says_what_it_is_for() {
    let mut seen = 0;
    for folder in ["host", "sdk", "plugins", "tests", "benches"] {
        for file in files(folder, ".rs") {
            let text = read(&file);
            let begins = text.lines().find(|line| !line.is_empty()).unwrap_or_default();
            assert!(
                begins.starts_with("//! ") || begins.starts_with("// @generated"),
                "{} begins with {begins:?}",
                file.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 100, "only {seen} files were found");
}

/// Words of machines and people that have no place in the tree.
#[test]
fn nothing_of_the_machine_is_in_the_tree() {
    // Put together here, so that this file is not what it looks for.
    let never = [format!("/{}/", "work"), format!("/{}/.cargo", "root"), format!("/tmp/{}/", "w")];
    for folder in ["host", "sdk", "plugins", "tests", "benches", "docs", "wit", ".ci"] {
        for ending in [".rs", ".toml", ".md", ".wit", ".py", ".js", ".mjs", ".json", "run"] {
            for file in files(folder, ending) {
                let Ok(text) = std::fs::read_to_string(&file) else { continue };
                for word in &never {
                    assert!(!text.contains(word.as_str()), "{word} is in {}", file.display());
                }
            }
        }
    }
}

/// The lines of the first code block below a heading.
fn block_below(page: &str, heading: &str) -> Vec<String> {
    let lines = page.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.starts_with("## "));
    lines
        .skip_while(|line| !line.starts_with("```"))
        .skip(1)
        .take_while(|line| !line.starts_with("```"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_readmes_two_commands_are_there() {
    let page = read(&root().join("README.md"));
    let run = block_below(&page, "## Run it");
    assert_eq!(run, ["cargo run --locked -- dev"], "one command");
    let (_, help, _) = tests::binary::run(&["--help"]);
    for command in ["serve", "dev", "check", "plugin", "key"] {
        assert!(help.contains(&format!("  {command} ")), "{help}");
    }
    assert_eq!(block_below(&page, "## Test it"), ["tests/run"]);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(root().join("tests/run")).expect("the command is there").permissions().mode();
    assert!(mode & 0o111 != 0, "tests/run is not executable");
}

/// Configuration in a document is one that works: each block in TOML is read as the host reads it, alone or as a part.
#[test]
fn configuration_in_documents_is_read_by_the_host() {
    let mut pages = files("docs", ".md");
    pages.push(root().join("README.md"));
    let mut seen = 0;
    for page in pages {
        for block in read(&page).split("```toml\n").skip(1) {
            let text = block.split("```").next().unwrap();
            seen += 1;
            if let Err(report) = check(text) {
                panic!("{}:\n{text}\n{report}", page.display());
            }
        }
    }
    assert!(seen >= 2, "only {seen} blocks were found");
}

/// Reads a block with what it refers to put beside it: files, environment, entries of other sections.
fn check(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let table: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
    let mut whole = text.to_owned();
    let mut beside = |section: &str, name: &str, entry: &str| {
        if !table.get(section).and_then(toml::Value::as_table).is_some_and(|section| section.contains_key(name)) {
            whole.push_str(&format!("\n[{section}.{name}]\n{entry}\n"));
        }
    };
    for provider in ["local", "openai"] {
        beside("providers", provider, "kind = \"openai\"\nendpoints = [\"http://127.0.0.1:1/v1\"]");
    }
    for model in ["small", "large"] {
        beside("models", model, "provider = \"local\"\nname = \"m\"");
    }
    // Certificates, prompts and secrets that a document names are the reader's own.
    let ours = |problem: &pointsman::config::Problem| {
        let said = format!("{problem}");
        !["does not exist", "cannot be read", "is not set", "environment"].iter().any(|absent| said.contains(absent))
    };
    match pointsman::config::load_text(&whole, &folder.path().join("document.toml")) {
        Ok(_) => Ok(()),
        Err(report) => {
            let errors: Vec<String> = report.errors().filter(|problem| ours(problem)).map(ToString::to_string).collect();
            if errors.is_empty() { Ok(()) } else { Err(errors.concat()) }
        }
    }
}
