//! The documents: commands that they give are there, configuration that they show is read.

use super::{files, read, root};

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
    for command in ["serve", "dev", "check", "plugin", "explain", "replay", "key"] {
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

/// What a block without providers and models is added to.
const MINIMAL: &str = r#"
[providers.local]
kind = "openai"
endpoints = ["http://127.0.0.1:1/v1"]
[models.small]
provider = "local"
name = "m"
[models.large]
provider = "local"
name = "n"
"#;

/// Reads a block as it is printed: a reader who pastes it into an empty file has a configuration. One without providers and models is an
/// addition to one that has them. Files and environment are the reader's own.
fn check(text: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let table: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
    let is_addition = !table.contains_key("providers") && !table.contains_key("models");
    let whole = format!("{text}\n{}", if is_addition { MINIMAL } else { "" });
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
