//! `pointsman dev` in a clone: the worked plugins are built, each request goes through all three, and an edited plugin takes
//! over while the process runs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tests::{Door, within};

/// Three plugins and the SDK are compiled in this time, on a machine that does other things as well.
const BUILT: Duration = Duration::from_secs(180);

/// A clone of the tree whose plugins can be edited: they are copies, everything else is a link. Always in the same place, so that
/// what was compiled once is known again.
fn clone() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let clone = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clone");
    let _ = fs::remove_dir_all(&clone);
    fs::create_dir_all(clone.join("plugins")).unwrap();
    for name in ["Cargo.toml", "Cargo.lock", "host", "sdk", "tests", "benches", "wit"] {
        std::os::unix::fs::symlink(root.join(name), clone.join(name)).unwrap();
    }
    for plugin in fs::read_dir(root.join("plugins")).unwrap().map(|entry| entry.unwrap().path()) {
        copy(&plugin, &clone.join("plugins").join(plugin.file_name().unwrap()));
    }
    clone
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else if from.extension().is_none_or(|kind| kind != "wasm") {
        // Written, not copied: cargo goes by the time of the last change.
        fs::write(to, fs::read(from).unwrap()).unwrap();
    }
}

/// `pointsman dev`, until it is dropped.
struct Dev {
    child: Child,
    door: Door,
}

impl Dev {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(tests::binary::executable())
            .args(["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .arg(folder)
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("clone-target"))
            // Providers of whoever runs this are not to be found.
            .env_remove("OPENAI_API_KEY")
            .env_remove("ANTHROPIC_API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut after = |mark: &str| {
            let line = lines.find(|line| line.contains(mark)).unwrap_or_else(|| panic!("it ended before it said {mark:?}"));
            let rest = &line[line.find(mark).unwrap() + mark.len()..];
            rest.split('/').next().and_then(|address| address.parse().ok()).unwrap_or_else(|| panic!("no address: {line}"))
        };
        let (address, admin) = (after("ready on http://"), after("What is going on: http://"));
        // Reads on, so that the process never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, door: Door { address, admin, keys: Default::default() } }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_clone_is_programmed() {
    let clone = clone();
    let dev = Dev::start(&clone);
    let ask = || {
        let body = json!({ "model": "auto", "prompt": { "id": "support", "variables": { "product": "Lamp" } }, "messages": [{ "role": "user", "content": "It does not light up." }] });
        dev.door.asking(body).header("x-user-id", "ada")
    };
    let first = ask().send();
    assert_eq!((first.status, first.cache()), (200, "miss"), "{}", first.text());
    let plugins = first.header("x-pointsman-plugin").expect("plugins have decided").to_owned();
    for plugin in ["prompt-ab@", "tenant-cache@", "route-by-complexity@"] {
        assert!(plugins.contains(plugin), "{plugin} is not in {plugins}");
    }
    let served = dev.door.api("/api/plugins")["plugins"].as_array().map_or(0, Vec::len);
    assert_eq!(served, 3, "plugins whose manifest says so are left out");
    assert!(first.header("x-pointsman-prompt").is_some_and(|prompt| prompt.starts_with("support@")));
    assert!(first.header("x-pointsman-reason").is_some());
    assert_eq!(ask().send().cache(), "exact");
    let streamed = dev.door.asking(json!({ "model": "auto", "stream": true, "messages": [{ "role": "user", "content": "Why is this wrong? ```let x = 1; x = 2;```" }] }));
    let streamed = streamed.send();
    assert_eq!(
        (streamed.header("x-pointsman-model"), tests::sse::is_done(&streamed.body)),
        (Some("large"), true),
        "{:?}",
        streamed.head
    );

    // An edit takes over; one that does not compile leaves the version before it; and the next good one takes over again.
    let file = clone.join("plugins/route-by-complexity/src/lib.rs");
    // While cargo compiles beside it a call may miss its deadline: then nobody has decided, and it is asked again.
    let decided = || {
        let answer = dev.door.ask("What is the capital of France?").model("auto").header("cache-control", "no-store").send();
        assert_eq!(answer.status, 200);
        let plugins = answer.header("x-pointsman-plugin")?;
        plugins.split(", ").find(|label| label.starts_with("route-by-complexity@")).map(str::to_owned)
    };
    let label = || within(BUILT, decided).expect("the plugin decides");
    let (source, before) = (fs::read_to_string(&file).unwrap(), label());
    let edited = |turn: u32| {
        source.replace("fn check() -> Result<()> {", &format!("fn check() -> Result<()> {{\n        if config::get(\"turn\").is_some() {{ return Err(PluginError::setting(\"turn\", \"is {turn}\", \"leave it out\")); }}"))
    };
    assert_ne!(edited(1), source);
    fs::write(&file, edited(1)).unwrap();
    let after = within(BUILT, || Some(label()).filter(|label| *label != before)).expect("the edited plugin takes over");
    fs::write(&file, format!("{source}\nthis does not compile")).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(label(), after);
    fs::write(&file, edited(2)).unwrap();
    within(BUILT, || Some(label()).filter(|label| *label != after)).expect("the next edit takes over");
}
