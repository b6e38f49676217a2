//! Names of imports and exports, and what follows from them.

use super::*;

fn check(imports: &[&str], exports: &[&str]) -> Inspection {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    facts(&owned(imports), &owned(exports))
}

const ROUTES: [&str; 2] = ["pointsman:plugin/routing@0.1.0", "pointsman:plugin/lifecycle@0.1.0"];

#[test]
fn grants_and_hooks_have_the_contracts_order() {
    let imports = [
        "pointsman:plugin/http@0.1.0",
        "pointsman:plugin/types@0.1.0",
        "pointsman:plugin/random@0.1.0",
        "pointsman:plugin/config@0.1.0",
        "pointsman:plugin/request-data@0.1.0",
    ];
    let exports = ["pointsman:plugin/caching@0.1.0", "pointsman:plugin/lifecycle@0.1.0", "pointsman:plugin/routing@0.1.0"];
    let found = check(&imports, &exports);
    assert_eq!(found.grants, ["config", "random", "http"]);
    assert!(found.to_string().contains("allow = [\"https://HOST/PATH\"]"), "{found}");
    assert_eq!(found.hooks, ["routing", "caching"]);
    assert_eq!(found.contract.as_deref(), Some("pointsman:plugin@0.1.0"));
    assert_eq!(found.problems, [""; 0]);
}

#[test]
fn what_keeps_it_from_loading_is_said() {
    let cases: [(&[&str], &[&str], &str); 5] = [
        (&["wasi:http/types@0.2.0", "acme:secret/door"], &ROUTES, "imports `acme:secret/door`"),
        (&["pointsman:plugin/files@0.1.0"], &ROUTES, "imports `pointsman:plugin/files@0.1.0`"),
        (&[], &["pointsman:plugin/lifecycle@0.1.0"], "exports no hook"),
        (&[], &["pointsman:plugin/routing@0.1.0"], "does not export `lifecycle`"),
        (&[], &["pointsman:plugin/routing@0.2.0", "pointsman:plugin/lifecycle@0.2.0"], "another contract"),
    ];
    for (imports, exports, expect) in cases {
        let found = check(imports, exports);
        assert!(found.problems.len() == 1 && found.problems[0].contains(expect), "{:?}", found.problems);
    }
    assert_eq!(check(&["wasi:cli/stdout@0.2.6"], &ROUTES).wasi, ["wasi:cli/stdout@0.2.6"]);
    assert!(serves("pointsman:plugin@0.1") && serves("pointsman:plugin@0.1.7") && !serves("pointsman:plugin@0.10.0"));
}

#[test]
fn files_that_are_no_component() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.wasm");
    let cases: [(&[u8], &str); 4] = [
        (b"", "is not WebAssembly"),
        (b"\x7fELF", "is not WebAssembly"),
        (b"\0asm\x01\0\0\0", "is a core module"),
        (b"\0asm\x0d\0\x01\0\xff\xff", "is no valid component"),
    ];
    for (bytes, expect) in cases {
        std::fs::write(&file, bytes).unwrap();
        let error = inspect(&file).unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains("x.wasm"), "{error}");
    }
    assert!(inspect(&dir.path().join("none.wasm")).unwrap_err().to_string().contains("plugin build"));
}

#[test]
fn the_entry_can_be_pasted() {
    let found = Inspection { file: "plugins/a b/my.route.wasm".into(), ..check(&["pointsman:plugin/log@0.1.0"], &ROUTES) };
    let text = found.to_string();
    let entry = text.split_once("In the configuration:\n").unwrap().1;
    let table: toml::Table = entry.parse().unwrap();
    let plugin = &table["plugins"]["my.route"];
    assert_eq!(plugin["component"].as_str(), Some("plugins/a b/my.route.wasm"));
    assert_eq!(plugin["hooks"], toml::Value::from(vec!["routing"]));
    assert_eq!(plugin["grant"], toml::Value::from(vec!["log"]));
    assert!(!check(&[], &[]).to_string().contains("In the configuration"), "what cannot be loaded is not to be pasted");
}

/// `http` came into the contract, and `inspect` did not know it: it said of a plugin that sends requests that no host loads it, and `plugin test`
/// did not run its cases. So what can be granted is read from the contract.
#[test]
fn every_import_of_the_contract_is_known() {
    let wit = include_str!("../../../../wit/plugins.wit");
    let world = wit.split_once("world imports {").unwrap().1.split_once('}').unwrap().0;
    let imports: Vec<&str> = world.lines().filter_map(|line| line.trim().strip_prefix("import ")?.strip_suffix(';')).collect();
    let known: Vec<&str> = UNGRANTED.into_iter().chain(GRANTS).collect();
    assert_eq!(imports, known);
}
