//! `pointsman model`: what is installed, what is said where it cannot be, and how a configuration names a model that is not there.

use std::path::Path;

use tests::binary::{run, run_with};
use tests::models;

fn check(folder: &Path, text: &str, data: &str) -> (i32, String) {
    let file = folder.join("pointsman.toml");
    std::fs::write(&file, text).unwrap();
    let (code, _, said) = run_with(&["check", file.to_str().unwrap()], &[("XDG_DATA_HOME", data), ("ORT_DYLIB_PATH", "")]);
    (code, said)
}

fn minimal(rest: &str) -> String {
    format!(
        "[providers.p]\nkind = \"openai\"\nendpoints = [\"http://127.0.0.1:1/v1\"]\n[models.m]\nprovider = \"p\"\nname = \"m\"\n{rest}"
    )
}

#[test]
fn what_is_installed_is_listed_and_not_installed_again() {
    let data = models();
    let data = data.to_str().unwrap();
    let (code, out, _) = run_with(&["model", "list", "--json"], &[("XDG_DATA_HOME", data)]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, found[0]["name"].as_str(), found[1]["name"].as_str()), (0, Some("built-in"), Some("minilm")));
    let id = found[1]["id"].as_str().unwrap().to_owned();
    assert!(id.starts_with("minilm@") && found[1]["bytes"].as_u64() > Some(50_000_000), "{out}");
    // No Python is asked for what is there.
    let again = run_with(&["model", "install", "minilm", "--python", "/nowhere/python"], &[("XDG_DATA_HOME", data)]);
    assert_eq!(again.0, 0, "{}", again.2);
    assert!(again.1.contains(&format!("{id} is there already")) && again.1.contains("embedder = \"minilm\""), "{}", again.1);
    let (_, plain, _) = run_with(&["model", "list"], &[("XDG_DATA_HOME", data)]);
    assert!(plain.contains(&id) && plain.contains("inside pointsman"), "{plain}");
}

#[test]
fn what_cannot_be_installed_is_told_with_its_remedy_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("models/minilm");
    let install = |name: &str, python: &str| run(&["model", "install", name, "--to", to.to_str().unwrap(), "--python", python]);
    let (code, _, said) = install("bert", "python3");
    assert!(code == 2 && said.contains("pointsman model install minilm"), "{code} {said}");
    let (code, _, said) = install("minilm", "/nowhere/python");
    assert!(code == 1 && said.contains("cannot be run") && said.contains("--python"), "{code} {said}");
    let (code, _, said) = install("minilm", "false");
    assert!(code == 1 && said.contains("no Python 3"), "{code} {said}");
    let left: Vec<_> = std::fs::read_dir(to.parent().unwrap()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, [".install.lock"]);
}

#[test]
fn a_model_that_is_not_there_is_told_with_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().to_str().unwrap();
    let of = |rest: &str| check(folder.path(), &minimal(rest), none);
    for (rest, place, remedy) in [
        ("[cache.semantic]\nembedder = \"minilm\"", "cache.semantic.embedder", "pointsman model install minilm"),
        ("[cache.semantic]\nembedder = \"BGESmallENV15\"", "cache.semantic.embedder", "hf download Xenova/bge-small-en-v1.5"),
        ("[cache.semantic]\nembedder = \"nothing\"", "cache.semantic.embedder", "pointsman model list"),
        ("[cache.semantic]\nembedder = \"./nothing\"", "cache.semantic.embedder", "does not exist"),
        ("[models.e]\nprovider = \"built-in\"\nname = \"minilm\"", "models.e.name", "pointsman model install minilm"),
        (
            "[embedders.e]\nlocal = \"minilm\"\n[cache.semantic]\nembedder = \"e\"",
            "embedders.e.local",
            "pointsman model install minilm",
        ),
        ("[embedders.e]\nmodel = \"m\"\n[cache.semantic]\nembedder = \"e\"", "embedders.e.model", "kind = \"embedding\""),
        ("[embedders.e]\n[cache.semantic]\nembedder = \"e\"", "embedders.e", "`model` or `local` is missing"),
    ] {
        let (code, said) = of(rest);
        assert!(code == 2 && said.contains(place) && said.contains(remedy), "{rest}\n{code} {said}");
    }
}

/// A file that is no library, and a model without its parts: told, and never a crash or a process that stands still.
#[test]
fn what_cannot_be_loaded_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let data = models();
    std::fs::write(folder.path().join("libonnxruntime.so"), "no library").unwrap();
    let named = format!("onnxruntime = \"libonnxruntime.so\"\n{}", minimal("[cache.semantic]\nembedder = \"minilm\""));
    let (code, said) = check(folder.path(), &named, data.to_str().unwrap());
    assert!(code == 2 && said.contains("libonnxruntime.so") && said.contains("1.24"), "{code} {said}");
    let model = folder.path().join("model");
    std::fs::create_dir(&model).unwrap();
    let text = minimal("[cache.semantic]\nembedder = \"./model\"");
    let empty = check(folder.path(), &text, data.to_str().unwrap());
    assert!(empty.0 == 2 && empty.1.contains("model.onnx"), "{empty:?}");
    std::fs::write(model.join("model.onnx"), "no model").unwrap();
    std::fs::copy(data.join("pointsman/models/minilm/tokenizer.json"), model.join("tokenizer.json")).unwrap();
    let broken = check(folder.path(), &text, data.to_str().unwrap());
    assert!(broken.0 == 2 && broken.1.contains("cache.semantic.embedder"), "{broken:?}");
    // Another folder's files, and the library that is installed: that is a model.
    std::fs::copy(data.join("pointsman/models/minilm/model.onnx"), model.join("model.onnx")).unwrap();
    let whole = check(folder.path(), &text, data.to_str().unwrap());
    assert_eq!(whole.0, 0, "{}", whole.1);
}
