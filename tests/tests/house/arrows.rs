//! Arrows: which module of the host may use which, and which package of the workspace.
//!
//! Reads text, not the compiler's mind: `use` lines, paths in expressions, and as many `super` as lead to the top.

use std::collections::{BTreeMap, BTreeSet};

use super::{files, read, root};

const LEAVES: &[&str] = &["config", "dialect", "error", "numbers", "printable", "vector"];
const SIBLINGS: &[&str] = &["cache", "embed", "identity", "limit", "plugin", "prompt", "record", "route", "upstream"];

/// What a module of the host may use besides itself.
fn may_use(module: &str) -> Vec<&'static str> {
    let all = |lists: &[&[&'static str]]| lists.concat();
    match module {
        // It knows a dialect's complaint about a body.
        "error" => vec!["dialect"],
        leaf if LEAVES.contains(&leaf) => Vec::new(),
        sibling if SIBLINGS.contains(&sibling) => LEAVES.to_vec(),
        "listen" => LEAVES.to_vec(),
        // It stands for the gateway, and needs none.
        "replay" => all(&[LEAVES, SIBLINGS]),
        // They implement the listener's `Handler`; the listener does not know who does.
        "gateway" => all(&[LEAVES, SIBLINGS, &["listen"]]),
        "admin" => all(&[LEAVES, SIBLINGS, &["listen", "gateway"]]),
        "process" => all(&[LEAVES, SIBLINGS, &["listen", "gateway", "admin"]]),
        "cli" => all(&[LEAVES, SIBLINGS, &["listen", "gateway", "admin", "process", "replay"]]),
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
