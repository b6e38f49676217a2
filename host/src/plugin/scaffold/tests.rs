//! What is written, and where nothing is. That it builds and passes its cases is tested with the binary (`tests/tests/commands/new.rs`).

use super::*;

fn made(dir: &Path, hook: Hook) -> Vec<String> {
    let language = language("rust").unwrap();
    new(dir, language, hook).unwrap().iter().map(|path| path.display().to_string()).collect()
}

#[test]
fn every_language_has_every_hook_and_the_same_cases() {
    for language in LANGUAGES {
        let part = |name: &str| {
            below(&format!("sdk/{}/template/{name}/", language.name)).into_iter().map(|(path, _)| path).collect::<Vec<_>>()
        };
        assert!(part("common").contains(&"README.md"), "{}", language.name);
        for hook in Hook::ALL {
            let cases = format!("cases/{}.toml", hook.name());
            assert!(part(hook.name()).contains(&cases.as_str()), "{} has no {cases}", language.name);
            let text = |language: &str| {
                let folder = format!("sdk/{language}/template/{}/", hook.name());
                below(&folder).into_iter().find(|(path, _)| *path == cases).map(|(_, text)| text.replace(" .`", "`"))
            };
            assert_eq!(text(language.name), text("rust"), "the policies are the same, so the cases are");
        }
    }
}

#[test]
fn a_plugin_brings_the_sdk_along() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("by-length");
    let files = made(&home, Hook::Routing);
    for expect in [
        "Cargo.toml",
        "README.md",
        ".gitignore",
        "dev.toml",
        "src/lib.rs",
        "cases/routing.toml",
        "vendor/pointsman-plugin/src/lib.rs",
    ] {
        assert!(files.iter().any(|file| file == expect) && home.join(expect).is_file(), "{expect} is not in {files:?}");
    }
    assert!(!files.iter().any(|file| file.contains("template") || file.contains("tests/")), "{files:?}");
    for file in files.iter().filter(|file| !file.starts_with("vendor/")) {
        let text = fs::read_to_string(home.join(file)).unwrap();
        assert!(!text.contains("{{") && !text.contains("}}"), "{file}: a word was not filled in\n{text}");
    }
    let manifest: toml::Table = fs::read_to_string(home.join("Cargo.toml")).unwrap().parse().unwrap();
    assert_eq!(manifest["package"]["name"].as_str(), Some("by-length"));
    let sdk: toml::Table = fs::read_to_string(home.join("vendor/pointsman-plugin/Cargo.toml")).unwrap().parse().unwrap();
    assert_eq!(sdk["package"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
    assert!(sdk["package"].as_table().unwrap().values().all(|value| value.as_table().is_none()), "nothing is inherited\n{sdk}");
    assert!(sdk.contains_key("dependencies") && !sdk.contains_key("dev-dependencies") && !sdk.contains_key("lints"));
}

#[test]
fn what_is_there_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let rust = language("rust").unwrap();
    let fails = |path: &str, expect: &str| {
        let error = new(&dir.path().join(path), rust, Hook::Caching).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    };
    fs::create_dir(dir.path().join("empty")).unwrap();
    assert!(!made(&dir.path().join("empty"), Hook::Caching).is_empty());
    let before = fs::read(dir.path().join("empty/Cargo.toml")).unwrap();
    fails("empty", "is not an empty folder");
    assert_eq!(fs::read(dir.path().join("empty/Cargo.toml")).unwrap(), before);
    fs::write(dir.path().join("file"), "mine").unwrap();
    fails("file", "is not an empty folder");
    for name in ["My Plugin", "9lives", "Shout", "ü"] {
        fails(name, "small letters");
    }
    fails("core", "take another");
    assert!(!dir.path().join("core").exists() && !dir.path().join("Shout").exists());
}

#[test]
fn within_a_clone_its_own_sdk_is_named() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().canonicalize().unwrap();
    let place = |dir: &str| Place { dir: root.join(dir), clone: clone_around(&root.join(dir)) };
    let rust = language("rust").unwrap();
    let manifest = |dir: &str| files(rust, Hook::Routing, "mine", &place(dir)).remove(1);
    let (path, member) = manifest("plugins/mine");
    assert_eq!(path, Path::new("Cargo.toml"));
    assert!(member.contains("path = \"../../sdk/rust\"") && !member.contains("\n[workspace]"), "{member}");
    let (_, other) = manifest("elsewhere/mine");
    assert!(
        other.contains(&format!("path = \"{}\"", root.join("sdk/rust").display())) && other.contains("\n[workspace]"),
        "{other}"
    );
    assert_eq!(clone_around(Path::new("/")), None);
}

/// A plugin of an older pointsman gets the SDK of this one; what is the author's stays.
#[test]
fn an_older_sdk_is_replaced() {
    for (name, own) in
        [("rust", "vendor/pointsman-plugin"), ("js", "vendor/pointsman-plugin"), ("python", "vendor/pointsman_plugin")]
    {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("mine");
        new(&home, language(name).unwrap(), Hook::Routing).unwrap();
        assert_eq!(refresh(&home).unwrap().changed, 0, "{name}");
        let texts = |home: &Path| -> Vec<(PathBuf, String)> {
            let mut found = Vec::new();
            let mut folders = vec![home.to_owned()];
            while let Some(folder) = folders.pop() {
                for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                    if path.is_dir() {
                        folders.push(path)
                    } else {
                        found.push((path.clone(), fs::read_to_string(&path).unwrap()))
                    }
                }
            }
            found.sort();
            found
        };
        let before = texts(&home);
        let of_sdk = before.iter().find(|(path, _)| path.starts_with(home.join(own))).unwrap().0.clone();
        fs::write(&of_sdk, "of an older pointsman").unwrap();
        fs::write(home.join(own).join("gone"), "what there is no more").unwrap();
        fs::write(home.join("vendor/other"), "mine").unwrap();
        assert_eq!(refresh(&home).unwrap().changed, 1, "{name}");
        fs::remove_file(home.join("vendor/other")).unwrap();
        assert!(texts(&home) == before, "{name}");
        fs::remove_dir_all(home.join("vendor")).unwrap();
        assert!(refresh(&home).unwrap_err().to_string().contains("takes one from elsewhere"), "{name}");
    }
    let nothing = tempfile::tempdir().unwrap();
    assert!(refresh(nothing.path()).unwrap_err().to_string().contains("name the folder of a plugin"));
}
