//! The tree: what lies at its top, what its files begin with, and what must not be in them.

use super::{files, read, root};

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
