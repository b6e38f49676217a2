//! Folders that are plugins, and one that is built.

use super::*;
use crate::plugin::inspect::inspect;

/// The example of docs/plugins.md, in a folder that stands in no workspace, as a user's does.
fn example(dir: &Path) -> String {
    let guide = include_str!("../../../../docs/plugins.md");
    let block = |fence: &str| guide.split_once(fence).unwrap().1.split_once("\n```").unwrap().0.to_owned();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/rust").canonicalize().unwrap();
    let manifest = block("```text\n").replace("../pointsman/sdk/rust", sdk.to_str().unwrap());
    let source = block("```rust\n");
    std::fs::create_dir_all(dir.join("src")).unwrap();
    std::fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(dir.join("src/lib.rs"), &source).unwrap();
    source
}

#[test]
fn the_guides_example_is_built_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let source = example(dir.path());
    let options = Options { target_dir: Some(dir.path().join("target")), component: None };
    let first = build(dir.path(), &options).unwrap();
    assert_eq!(first.component, dir.path().join("by-length.wasm"));
    assert_eq!(first.size, std::fs::metadata(&first.component).unwrap().len());
    assert!(first.changed && first.size < 60_000 && first.warnings.is_empty(), "{first:?}");
    let found = inspect(&first.component).unwrap();
    assert_eq!((found.hooks, found.grants, found.wasi), (vec!["routing".to_owned()], vec!["config".to_owned()], vec![]));
    assert_eq!((found.digest, found.contract.as_deref()), (first.digest.clone(), Some("pointsman:plugin@0.1.0")));

    let again = build(dir.path(), &options).unwrap();
    assert!(!again.changed && again.digest == first.digest);

    // What does not build says why, and leaves the component.
    let edit = |from: &str, to: &str| std::fs::write(dir.path().join("src/lib.rs"), source.replace(from, to)).unwrap();
    let fails = |expect: &str| {
        let error = build(dir.path(), &options).unwrap_err().to_string();
        assert!(error.contains(expect), "{expect:?} is not in:\n{error}");
    };
    edit("Decision::Pass", "Decision::Pas");
    fails("does not compile");
    fails("src/lib.rs:13");
    edit(": routing", ": rooting");
    fails("there is no hook `rooting`; there are routing, prompting and caching");
    edit("pointsman_plugin::export!(ByLength: routing);", "");
    fails("exports no hook");
    edit(": routing", ": routing");
    let manifest = std::fs::read_to_string(dir.path().join("Cargo.toml")).unwrap();
    std::fs::write(dir.path().join("Cargo.toml"), manifest.replace("0.1.0", "0.1.1")).unwrap();
    fails("cargo update --workspace");
    std::fs::write(dir.path().join("Cargo.toml"), manifest.replace("cdylib", "rlib")).unwrap();
    fails("crate-type");
    assert_eq!(inspect(&first.component).unwrap().digest, first.digest, "the component before it stays");
}

/// Two folders with packages of one name, whose compiled parts lie in one place, as `CARGO_TARGET_DIR` has them: cargo keeps one module of the
/// name, says of the other folder's that it is fresh, and a build gave back whichever had been compiled last.
#[test]
fn packages_of_one_name_do_not_take_each_others_module() {
    let dir = tempfile::tempdir().unwrap();
    let folder = |name: &str| dir.path().join(name);
    let source = example(&folder("a"));
    example(&folder("b"));
    std::fs::write(folder("b").join("src/lib.rs"), source.replace("because(\"length\")", "because(\"zebra\")")).unwrap();
    let options = Options { target_dir: Some(folder("target")), component: None };
    let made = |name: &str| {
        let made = make(&folder(name), &options).unwrap();
        let has = |word: &str| made.bytes.windows(word.len()).any(|part| part == word.as_bytes());
        (has("length"), has("zebra"), made.bytes)
    };
    let (a, b) = (made("a"), made("b"));
    assert!((a.0, a.1, b.1) == (true, false, true), "each has its own words");
    for _ in 0..2 {
        assert!(made("a") == a && made("b") == b, "and the same bytes again");
    }
}

#[test]
fn folders() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("plugins/b/Cargo.toml", "[package]\nname = 'b'\n[dependencies]\npointsman-plugin = '0.1'");
    write(
        "plugins/a/Cargo.toml",
        "[package]\nname = 'a'\n[dependencies]\nsdk = { package = 'pointsman-plugin', version = '0.1' }",
    );
    write("plugins/other/Cargo.toml", "[package]\nname = 'other'\n[dependencies]\nserde = '1'");
    write("plugins/broken/Cargo.toml", "[");
    write("plugins/README.md", "");
    write("plugins/a/src/lib.rs", "");
    let names = |found: Vec<PathBuf>| {
        found.iter().map(|path| path.strip_prefix(dir.path()).unwrap().display().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(find(dir.path())), ["plugins/a", "plugins/b"]);
    assert_eq!(names(find(&dir.path().join("plugins/a"))), ["plugins/a"]);
    assert_eq!(names(find(&dir.path().join("plugins/other"))), [""; 0]);
    assert_eq!(names(sources(&dir.path().join("plugins/a"))), ["plugins/a/Cargo.toml", "plugins/a/src"]);
    let wrong = |folder: &str| Folder::open(&dir.path().join(folder)).err().unwrap().to_string();
    assert!(wrong("plugins/none").ends_with("has no Cargo.toml, package.json or pyproject.toml; name the folder of a plugin"));
    write("plugins/nameless/Cargo.toml", "[dependencies]\npointsman-plugin = '0.1'");
    assert!(wrong("plugins/nameless").ends_with("Cargo.toml: has no `[package]` with a `name`; name the folder of one plugin"));
    assert!(wrong("plugins/broken").contains("Cargo.toml: "));
}

#[test]
fn folders_of_other_languages() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str, files: &[(&str, &str)]| {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        files.iter().for_each(|(file, text)| std::fs::write(folder.join(file), text).unwrap());
        let found = Folder::open(&folder).unwrap();
        let sources =
            sources(&folder).iter().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect::<Vec<_>>();
        (found.name, found.is_plugin, found.is_for_dev, sources.join(" "))
    };
    let says = |name: &str, is_plugin, is_for_dev, sources: &str| (name.to_owned(), is_plugin, is_for_dev, sources.to_owned());
    let js = r#"{ "name": "@acme/router", "dependencies": { "@pointsman/plugin": "0.1.0" } }"#;
    assert_eq!(
        open("a", &[("package.json", js), ("plugin.ts", ""), ("more.js", ""), ("notes.md", ""), ("tsconfig.json", "{}")]),
        says("router", true, true, "package.json plugin.ts tsconfig.json more.js")
    );
    assert_eq!(
        open("b", &[("package.json", r#"{ "name": "b", "pointsman": { "dev": false } }"#)]),
        says("b", true, false, "package.json")
    );
    assert_eq!(open("c", &[("package.json", r#"{ "name": "web" }"#)]), says("web", false, true, "package.json"));
    let python = "[project]\nname = 'r'\ndependencies = ['pointsman-plugin>=0.1']\n[tool.pointsman]\ndev = false";
    assert_eq!(
        open("d", &[("pyproject.toml", python), ("plugin.py", ""), ("words.py", "")]),
        says("r", true, false, "pyproject.toml plugin.py words.py")
    );
    assert_eq!(
        open("e", &[("pyproject.toml", "[project]\nname = 'r'\ndependencies = ['pointsman-plugin-other']")]),
        says("r", false, true, "pyproject.toml")
    );
}
