//! `pointsman plugin new`: what it writes builds and passes its tests at once, with nothing but the binary and cargo.

use std::path::Path;
use std::process::Command;

use tests::binary::{run, run_with};

/// Compiled once for all hooks, as a person's own target folder would have it.
fn target() -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("new-target").display().to_string()
}

#[test]
fn a_new_plugin_builds_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let target = target();
    for hook in ["routing", "prompting", "caching"] {
        let dir = folder.path().join(format!("my-{hook}")).display().to_string();
        let (code, out, err) = run(&["plugin", "new", &dir, "--lang", "rust", "--hook", hook]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains(&format!("a plugin in Rust with the hook {hook}")), "{out}");
        let (code, out, err) = run_with(&["plugin", "build", &dir], &[("CARGO_TARGET_DIR", &target)]);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        let (code, out, _) = run(&["plugin", "inspect", &format!("{dir}/my-{hook}.wasm")]);
        assert!(code == 0 && out.contains(&format!("hooks     {hook}\n")) && out.contains("wants     config\n"), "{out}");
        // Its own tests, as its author runs them.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let tested =
            Command::new(cargo).args(["test", "--quiet"]).current_dir(&dir).env("CARGO_TARGET_DIR", &target).output().unwrap();
        let said = String::from_utf8_lossy(&tested.stdout).into_owned() + &String::from_utf8_lossy(&tested.stderr);
        assert!(tested.status.success() && said.contains("2 passed") && !said.contains("warning"), "{said}");
        let (code, _, err) = run(&["plugin", "new", &dir]);
        assert!(code == 2 && err.contains("not an empty folder"), "{err}");
    }
}
