//! docs/tutorial-rust.md, done as its reader does it: its commands are run, its files are written, its edits made, and what it says of the
//! output is in the output.
//!
//! **Invariant:** a block that the page gains is done too, or the test fails: it has no list of blocks.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::{FakeUpstream, Host, Plugin};

/// A block of code, and the line of text before it.
struct Block {
    language: String,
    text: String,
    before: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut before, mut lines) = (String::new(), page.lines());
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text: String = lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
            found.push(Block { language: language.to_owned(), text, before: std::mem::take(&mut before) });
        } else if !line.is_empty() {
            line.clone_into(&mut before);
        }
    }
    found
}

/// Someone who follows the page: where he is, and what he saw last.
struct Reader {
    folder: PathBuf,
    path: String,
    seen: String,
}

impl Reader {
    fn run(&mut self, script: &str) {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-target");
        let shell = Command::new("sh")
            .args(["-euc", &format!("exec 2>&1\n{script}\npwd > \"$WHERE\"")])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .env("CARGO_TARGET_DIR", target)
            .env("WHERE", self.folder.join(".where"))
            .output()
            .expect("there is a shell");
        self.seen = String::from_utf8_lossy(&shell.stdout).into_owned();
        assert!(shell.status.success(), "{script}\n{}", self.seen);
        self.folder = std::fs::read_to_string(self.folder.join(".where")).expect("the shell said").trim().into();
    }

    fn edit(&self, change: impl FnOnce(&str) -> String) {
        let file = self.folder.join("src/lib.rs");
        let before = std::fs::read_to_string(&file).unwrap();
        let after = change(&before);
        assert_ne!(after, before, "the edit changes nothing");
        std::fs::write(file, after).unwrap();
    }
}

/// A function of a block's indentation, from its name to its closing brace.
fn replaced(source: &str, name: &str, by: &str) -> String {
    let start = source.find(&format!("    fn {name}(")).expect("there is such a function");
    let end = start + source[start..].find("\n    }\n").expect("it ends") + "\n    }\n".len();
    format!("{}{by}{}", &source[..start], &source[end..])
}

#[test]
fn the_rust_tutorial() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorial-rust.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let binary = tests::binary::executable();
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut reader = Reader { folder: folder.path().to_owned(), path, seen: String::new() };
    let mut done = 0;
    for Block { language, text, before } in blocks(&page) {
        let named = before.split('`').nth(1).unwrap_or_default();
        match language.as_str() {
            "sh" => reader.run(&text),
            "rust" if before.contains("in the place of the function") => {
                let function = before.split('`').nth(3).expect("the function's name");
                reader.edit(|source| replaced(source, function, &text));
            }
            "rust" if before.contains("Add to the module `tests`") => {
                reader.edit(|source| {
                    let end = source.rfind('}').expect("the module ends the file");
                    format!("{}\n{text}}}\n", &source[..end])
                });
            }
            "text" | "toml" if before.starts_with("A file `") => std::fs::write(reader.folder.join(named), &text).unwrap(),
            "text" if text.starts_with("ok ") || text.starts_with("FAIL ") => {
                for line in text.lines() {
                    assert!(reader.seen.contains(line), "{line:?} is not in what was seen:\n{}", reader.seen);
                }
            }
            // A server that goes on, and a question to it: below.
            "text" if text.starts_with("pointsman serve ") => {}
            _ => panic!("the page has a block that nobody does, in {language:?} after {before:?}:\n{text}"),
        }
        done += 1;
    }
    assert!(done >= 13, "only {done} blocks were found");
    served(&reader.folder);
}

/// What the page says of an answer is so.
fn served(folder: &Path) {
    let config: toml::Table = std::fs::read_to_string(folder.join("pointsman.toml")).unwrap().parse().unwrap();
    let entry = &config["plugins"]["by-length"];
    let component = std::fs::read(folder.join(entry["component"].as_str().unwrap())).unwrap();
    let fake = FakeUpstream::start();
    let plugin = Plugin::new("by-length", component)
        .hooks("\"routing\"")
        .must_not_fail()
        .set(&format!("deadline = \"1s\"\ngrant = {}\nconfig = {}", entry["grant"], entry["config"]));
    let host = Host::new().upstream(&fake).plugin(plugin).start();
    let told = |plan: &str| {
        let answer = host.ask("Hello").model("auto").header("x-plan", plan).send();
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        assert!(header("x-pointsman-plugin").starts_with("by-length@"), "{:?}", answer.head);
        (answer.status, header("x-pointsman-model"), header("x-pointsman-reason"))
    };
    assert_eq!(told("gold"), (200, "large".to_owned(), "gold".to_owned()));
    assert_eq!(told("silver"), (200, "small".to_owned(), "length".to_owned()));
}
