//! docs/tutorial-*.md, done as its reader does it: its commands are run, its files are written, its edits made, and what it says of the
//! output is in the output.
//!
//! **Invariant:** a block that the page gains is done too, or the test fails: it has no list of blocks.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tests::{Door, FakeUpstream, eventually};

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

/// `pointsman serve`, as the page starts it, but for its addresses; until it is dropped.
struct Server {
    child: Child,
    door: Door,
    _fake: FakeUpstream,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let fake = FakeUpstream::start();
        let (address, admin) = (free(), free());
        let file = folder.join("pointsman.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let ours = [
            ("127.0.0.1:8080", address.to_string()),
            ("127.0.0.1:9090", admin.to_string()),
            ("http://127.0.0.1:8000/v1", fake.url()),
            // The machine of a test may do other things as well.
            ("grant = ", "deadline = \"2s\"\ngrant = ".to_owned()),
        ];
        let config = ours.iter().fold(config, |config, (page, own)| {
            assert!(config.contains(page) || page.ends_with(":9090"), "{page} is not in the page's configuration");
            config.replace(page, own)
        });
        std::fs::write(&file, config).unwrap();
        let child = Command::new(tests::binary::executable())
            .args(["serve", "--config", "pointsman.toml"])
            .env("XDG_STATE_HOME", folder.join(".state"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let door = Door { address, admin, keys: Default::default() };
        eventually("the server serves", || TcpStream::connect(address).is_ok().then_some(()));
        Self { child, door, _fake: fake }
    }

    /// The model, the reason, and the version that an answer names.
    fn told(&self, plan: &str, question: &str) -> (String, String, String) {
        let answer = self.door.ask(question).model("auto").header("x-plan", plan).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let header = |name| answer.header(name).unwrap_or_default().to_owned();
        (header("x-pointsman-model"), header("x-pointsman-reason"), header("x-pointsman-plugin"))
    }

    /// The versions of the plugin: the state of each.
    fn versions(&self) -> Vec<String> {
        let said = self.door.api("/api/plugins/by-length");
        let versions = said["versions"].as_array().cloned().unwrap_or_default();
        versions.iter().map(|version| version["state"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody has just now.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("there is a free port")
}

#[test]
fn the_rust_tutorial() {
    followed("rust", 17);
}

#[test]
fn the_javascript_tutorial() {
    followed("javascript", 11);
}

#[test]
fn the_python_tutorial() {
    followed("python", 11);
}

fn followed(language: &str, blocks_there: usize) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/tutorial-{language}.md"));
    let page = std::fs::read_to_string(page).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let binary = tests::binary::executable();
    let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut reader = Reader { folder: folder.path().to_owned(), path, seen: String::new() };
    let mut server: Option<Server> = None;
    let mut done = 0;
    for Block { language, text, before } in blocks(&page) {
        let named = before.split('`').nth(1).unwrap_or_default();
        match language.as_str() {
            "sh" => {
                if text.contains("plugin list") {
                    let server = server.as_ref().expect("it serves");
                    eventually("a canary", || server.versions().contains(&"canary".to_owned()).then_some(()));
                }
                reader.run(&text);
            }
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
            "text" | "toml" | "ts" | "python" if before.starts_with("A file `") => {
                std::fs::write(reader.folder.join(named), &text).unwrap()
            }
            "text" if text.starts_with("ok ") || text.starts_with("FAIL ") => {
                for line in text.lines() {
                    assert!(reader.seen.contains(line), "{line:?} is not in what was seen:\n{}", reader.seen);
                }
            }
            "text" if text.starts_with("pointsman serve ") => {
                let started = server.insert(Server::start(&reader.folder));
                let (model, reason, version) = started.told("gold", "Hello");
                assert_eq!((model.as_str(), reason.as_str()), ("large", "gold"), "{version}");
                assert!(version.starts_with("by-length@"), "{version}");
                assert_eq!(started.told("silver", "Hello").0, "small");
            }
            _ => panic!("the page has a block that nobody does, in {language:?} after {before:?}:\n{text}"),
        }
        if text.contains("plugin list") {
            assert!(reader.seen.contains("canary 50%"), "{}", reader.seen);
            let server = server.as_ref().expect("it serves");
            let reasons: Vec<String> = (0..40).map(|turn| server.told("gold", &format!("Hello {turn}")).1).collect();
            assert!(["gold", "a gold plan"].iter().all(|reason| reasons.iter().any(|own| own == reason)), "{reasons:?}");
        }
        done += 1;
    }
    assert!(done >= blocks_there, "only {done} blocks were found");
    let server = server.expect("it serves");
    if language == "rust" {
        assert_eq!(server.told("gold", "Hello again").1, "a gold plan", "it was promoted");
    }
}
