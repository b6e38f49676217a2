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

#[test]
fn folders() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let file = dir.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    };
    write("plugins/b/Cargo.toml", "[dependencies]\npointsman-plugin = '0.1'");
    write("plugins/a/Cargo.toml", "[dependencies]\nsdk = { package = 'pointsman-plugin', version = '0.1' }");
    write("plugins/other/Cargo.toml", "[dependencies]\nserde = '1'");
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
    assert!(package_name(&dir.path().join("plugins/b")).unwrap_err().to_string().contains("has no `[package]`"));
    assert!(package_name(&dir.path().join("plugins/none")).unwrap_err().to_string().contains("name the folder of a plugin"));
    assert!(package_name(&dir.path().join("plugins/broken")).is_err());
}
