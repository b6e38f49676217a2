//! Folders that are plugins, and one that is built.

use super::*;

/// A plugin that stands in no workspace, as a user's does.
fn plugin(dir: &Path, source: &str) {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/rust").canonicalize().unwrap();
    let manifest = format!(
        "[package]\nname = \"first-one\"\nversion = \"1.2.3\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\npointsman-plugin = {{ path = {} }}\n[workspace]\n",
        toml::Value::from(sdk.display().to_string())
    );
    std::fs::create_dir_all(dir.join("src")).unwrap();
    std::fs::write(dir.join("Cargo.toml"), manifest).unwrap();
    std::fs::write(dir.join("src/lib.rs"), source).unwrap();
}

const PASSES: &str = "use pointsman_plugin::*;
struct First;
impl Routing for First {
    fn route(_: &RequestHead, _: &Request) -> Result<Decision> { Ok(Decision::Pass) }
}
pointsman_plugin::export!(First: routing);
";

#[test]
fn a_plugin_is_built_from_nothing() {
    let dir = tempfile::tempdir().unwrap();
    plugin(dir.path(), PASSES);
    let options = Options { target_dir: Some(dir.path().join("target")), component: None };
    let first = build(dir.path(), &options).unwrap();
    assert_eq!(first.component, dir.path().join("first-one.wasm"));
    assert_eq!(first.size, std::fs::metadata(&first.component).unwrap().len());
    assert!(first.changed && first.size < 60_000, "{first:?}");
    assert_eq!(first.warnings, "");
    let found = crate::plugin::inspect::inspect(&first.component).unwrap();
    assert_eq!((found.hooks, found.grants, found.digest), (vec!["routing".to_owned()], vec![], first.digest.clone()));

    let again = build(dir.path(), &options).unwrap();
    assert!(!again.changed && again.digest == first.digest);

    std::fs::write(dir.path().join("src/lib.rs"), PASSES.replace("Pass)", "Pas)")).unwrap();
    let error = build(dir.path(), &options).unwrap_err().to_string();
    assert!(error.contains("does not compile") && error.contains("src/lib.rs:4") && error.contains("Pas"), "{error}");
    assert!(first.component.is_file(), "the component before it stays");

    std::fs::write(dir.path().join("src/lib.rs"), PASSES.replace(": routing", ": rooting")).unwrap();
    let error = build(dir.path(), &options).unwrap_err().to_string();
    assert!(error.contains("there is no hook `rooting`; there are routing, prompting and caching"), "{error}");

    std::fs::write(dir.path().join("src/lib.rs"), "").unwrap();
    let error = build(dir.path(), &options).unwrap_err().to_string();
    assert!(error.contains("exports no hook"), "{error}");

    let manifest = std::fs::read_to_string(dir.path().join("Cargo.toml")).unwrap();
    std::fs::write(dir.path().join("Cargo.toml"), manifest.replace("1.2.3", "1.2.4")).unwrap();
    let error = build(dir.path(), &options).unwrap_err();
    assert!(matches!(error, BuildError::Lock { .. }) && error.to_string().contains("cargo update --workspace"), "{error}");
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
