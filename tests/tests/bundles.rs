//! Where components come from: pins, signatures, registries. What is not what its owner asked for does not decide.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use sha2::{Digest, Sha256};
use tests::binary::{run, run_with};
use tests::{Binary, FakeUpstream, Host, Plugin, Registry, eventually, guests};

fn revision(number: u32) -> String {
    format!("revision {number:08}")
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn serves(host: &Binary, number: u32) {
    assert_eq!(host.chat("hi").header("x-pointsman-reason"), Some(&*revision(number)));
}

fn swapped(host: &Binary, number: u32) {
    eventually(&format!("revision {number}"), || {
        (host.chat("hi").header("x-pointsman-reason") == Some(&*revision(number))).then_some(())
    });
}

/// Waits until the plugin's component is refused for this reason; the one before it serves.
fn refused(host: &Binary, part: &str) {
    eventually(part, || host.api("/api/plugins")["problems"].to_string().contains(part).then_some(()));
}

/// Runs a command that succeeds.
fn done(arguments: &[&str]) -> String {
    let (code, out, err) = run(arguments);
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    out
}

#[test]
fn a_pin_keeps_other_components_out() {
    let fake = FakeUpstream::start();
    let (first, second) = (guests::router(0), guests::router(1));
    let plugin = Plugin::router(0).set("deadline = \"500ms\"").set(&format!("digest = \"{}\"", digest(&first)));
    let host = Host::new().upstream(&fake).plugin(plugin).file("other.wasm", &second).spawn();
    host.folder.write("router.wasm", &second);
    refused(&host, &format!("is {}, and {} is pinned", digest(&second), digest(&first)));
    serves(&host, 0);
    let answer = host.tell("/api/plugins/router/canary", &json!({ "version": host.folder.path("other.wasm"), "share": 1.0 }));
    assert!(answer.status == 422 && answer.text().contains("is pinned"), "{} {}", answer.status, answer.text());
    // `check` says so, at the key.
    let file = host.folder.config();
    let (code, _, report) = run(&["check", file.to_str().unwrap()]);
    assert!(code == 2 && report.contains("plugins.router.digest: ") && report.contains("is pinned"), "{report}");
    host.folder.change(&digest(&first), &digest(&second));
    swapped(&host, 1);
}

/// A pin holds for what was released by hand as well: before it was written, and after.
#[test]
fn a_pin_is_stronger_than_a_hand() {
    let fake = FakeUpstream::start();
    let (first, second) = (guests::router(0), guests::router(1));
    let plugin = Plugin::router(0).set("deadline = \"500ms\"");
    let mut host = Host::new().upstream(&fake).plugin(plugin).file("other.wasm", &second).spawn();
    let tell = |host: &Binary, step: &str, version: &str| {
        let answer = host.tell(&format!("/api/plugins/router/{step}"), &json!({ "version": version }));
        (answer.status, answer.text().to_owned())
    };
    let file = host.folder.path("other.wasm").to_str().unwrap().to_owned();
    assert_eq!(tell(&host, "promote", &file).0, 200);
    serves(&host, 1);
    // The file at its place is the first one, as it was all the time.
    host.folder.change("deadline = \"500ms\"", &format!("deadline = \"500ms\"\ndigest = {:?}", digest(&first)));
    swapped(&host, 0);
    for (step, version) in [("promote", &*digest(&second)), ("canary", &digest(&second)[..20]), ("shadow", &file)] {
        let (status, said) = tell(&host, step, version);
        assert!(status == 422 && said.contains("is pinned"), "{step} {version}: {status} {said}");
    }
    // What served before may be gone back to, and a restart leaves it at that.
    assert_eq!(host.tell("/api/plugins/router/rollback", &json!({})).status, 200);
    serves(&host, 1);
    host.restart();
    serves(&host, 1);
    assert_eq!(tell(&host, "promote", &digest(&first)).0, 200);
    serves(&host, 0);
}

/// Who takes a grant or a key away means the versions that are there as well: none of them is released again that would not load anew.
#[test]
fn what_does_not_load_any_more_is_not_released_again() {
    let fake = FakeUpstream::start();
    let plugin = Plugin::router(0).set("deadline = \"500ms\"");
    let host = Host::new().upstream(&fake).plugin(plugin).file("next.wasm", &guests::router(1)).spawn();
    let tell = |step: &str, body: serde_json::Value| {
        let answer = host.tell(&format!("/api/plugins/router/{step}"), &body);
        (answer.status, answer.text().to_owned())
    };
    assert_eq!(tell("canary", json!({ "version": host.folder.path("next.wasm"), "share": 0.5 })).0, 200);
    let key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    host.folder.change("deadline = \"500ms\"", &format!("deadline = \"500ms\"\ntrust = [{key:?}]"));
    refused(&host, "is not signed, and this plugin trusts signatures alone");
    for body in [json!({}), json!({ "version": digest(&guests::router(1)) })] {
        let (status, said) = tell("promote", body);
        assert!(status == 422 && said.contains("is not signed"), "{status} {said}");
    }
}

#[test]
fn only_what_is_signed_is_loaded() {
    let fake = FakeUpstream::start();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let ours = done(&["plugin", "key", "new", &path("ours.pem")]).trim().to_owned();
    let theirs = done(&["plugin", "key", "new", &path("theirs.pem")]).trim().to_owned();
    assert!(ours.starts_with("ed25519:") && ours != theirs);
    assert_eq!(done(&["plugin", "key", "show", &path("ours.pem")]).trim(), ours);
    assert_eq!(std::fs::metadata(path("ours.pem")).unwrap().permissions().mode() & 0o777, 0o600);
    let (code, _, err) = run(&["plugin", "key", "new", &path("ours.pem")]);
    assert!(code == 2 && err.contains("name a file that is not there yet"), "{err}");

    std::fs::create_dir(folder.path().join("cases")).unwrap();
    let case = |reason: &str| {
        let given = "[given]\nmodels = [\"small\"]\nrequest = { model = \"small\", message = \"hi\" }";
        format!("{given}\n[[case]]\nname = \"it routes\"\nhook = \"route\"\nexpect.plan = {{ reason = {reason:?} }}\n")
    };
    let bundle = |number: u32, key: &str| {
        write("router.wasm", &guests::router(number));
        write("cases/one.toml", case(&revision(number)).as_bytes());
        done(&[
            "plugin",
            "bundle",
            &path("router.wasm"),
            "--key",
            &path(key),
            "--cases",
            &path("cases"),
            "--output",
            &path("out.wasm"),
        ]);
        std::fs::read(path("out.wasm")).unwrap()
    };
    let first = bundle(0, "ours.pem");
    let about = done(&["plugin", "inspect", &path("out.wasm")]);
    assert!(
        about.contains(&format!("signed    {ours}")) && about.contains("cases     one.toml") && about.contains("may have  none"),
        "{about}"
    );
    // An entry that was called like the file, and trusted nobody, did not load.
    assert!(about.contains("[plugins.router]\n") && about.contains(&format!("trust = [{ours:?}]\n")), "{about}");

    // Its cases are in it, and were run before it was signed.
    std::fs::rename(path("cases"), path("elsewhere")).unwrap();
    let told = done(&["plugin", "test", &path("out.wasm")]);
    assert!(told.contains("ok    it routes") && told.contains("1 case, all as expected"), "{told}");
    std::fs::rename(path("elsewhere"), path("cases")).unwrap();
    write("cases/one.toml", case("another reason").as_bytes());
    let (code, _, err) = run(&["plugin", "bundle", &path("router.wasm"), "--key", &path("ours.pem"), "--cases", &path("cases")]);
    assert!(
        code == 2 && err.contains("nothing is signed: 1 of its cases are not as expected") && err.contains("it routes"),
        "{err}"
    );

    let plugin =
        Plugin::new("router", first.clone()).hooks("\"routing\"").set("deadline = \"500ms\"").set(&format!("trust = [{ours:?}]"));
    let host = Host::new().upstream(&fake).plugin(plugin).spawn();
    serves(&host, 0);
    host.folder.write("router.wasm", &guests::router(1));
    refused(&host, "is not signed, and this plugin trusts signatures alone");
    host.folder.write("router.wasm", &bundle(1, "theirs.pem"));
    refused(&host, &format!("is signed by {theirs}, which is not trusted"));
    let mut changed = bundle(1, "ours.pem");
    let at = changed.windows(17).position(|part| part == revision(1).as_bytes()).unwrap();
    changed[at + 16] = b'2';
    host.folder.write("router.wasm", &changed);
    refused(&host, "has been changed since it was signed");
    serves(&host, 0);
    // Ours, and signed as another plugin.
    write("other.wasm", &guests::router(1));
    done(&["plugin", "bundle", &path("other.wasm"), "--key", &path("ours.pem"), "--output", &path("out.wasm")]);
    host.folder.write("router.wasm", &std::fs::read(path("out.wasm")).unwrap());
    refused(&host, "is signed as the plugin `other`, and not as `router`; if that is the one that is meant, write `signed_as");
    serves(&host, 0);
    let (bundled, key, renamed) = (path("out.wasm"), path("ours.pem"), path("renamed.wasm"));
    let told = done(&["plugin", "bundle", &bundled, "--key", &key, "--name", "router", "--output", &renamed]);
    assert!(told.contains(&format!("signed  as router, by {ours}")), "{told}");
    let about = done(&["plugin", "inspect", &renamed]);
    assert!(about.contains("named     router\n"), "{about}");
    host.folder.change("deadline = \"500ms\"", "deadline = \"500ms\"\nsigned_as = \"other\"");
    swapped(&host, 1);
    host.folder.change("\nsigned_as = \"other\"", "");
    refused(&host, "is signed as the plugin `other`");
    host.folder.write("router.wasm", &first);
    swapped(&host, 0);
    // What an administrator hands in is looked at in the same way.
    host.folder.write("unsigned.wasm", &guests::router(3));
    let answer = host.tell("/api/plugins/router/promote", &json!({ "version": host.folder.path("unsigned.wasm") }));
    assert!(answer.status == 422 && answer.text().contains("is not signed"), "{}", answer.text());
    host.folder.write("router.wasm", &bundle(1, "ours.pem"));
    swapped(&host, 1);
    // More than the manifest has.
    host.folder.change("hooks = [\"routing\"]", "hooks = [\"routing\"]\ngrant = [\"kv\"]");
    refused(&host, "is granted `kv`, which its manifest does not have");
    serves(&host, 1);
}

#[test]
fn components_come_from_a_registry() {
    let fake = FakeUpstream::start();
    let registry = Registry::start();
    let folder = tempfile::tempdir().unwrap();
    let push = |number: u32, tag: &str| {
        let file = folder.path().join("router.wasm");
        std::fs::write(&file, guests::router(number)).unwrap();
        let said = done(&["plugin", "push", file.to_str().unwrap(), &registry.reference(&format!("team/router:{tag}"))]);
        said.lines().next().unwrap().to_owned()
    };
    let (first, second) = (push(0, "1.0"), push(1, "1.1"));
    assert!(first.contains("/team/router:1.0@sha256:") && first != second);
    assert_eq!(push(0, "1.0"), first, "the same component is the same artifact");

    let section = |component: &str, more: &str| {
        format!("[plugins.router]\ncomponent = {component:?}\nhooks = [\"routing\"]\ndeadline = \"500ms\"\n{more}")
    };
    let host = Host::new().upstream(&fake).section(&section(&first, ""));
    let cache = host.path("cache").to_str().unwrap().to_owned();
    let mut host = host.spawn_with(&[("XDG_CACHE_HOME", &cache)]);
    serves(&host, 0);
    assert_eq!(host.api("/api/plugins/router")["digest"], digest(&guests::router(0)));
    // A version for an administrator, from there.
    // What the configuration refuses an administrator cannot hand in either.
    let tag = registry.reference("team/router:1.1");
    let answer = host.tell("/api/plugins/router/canary", &json!({ "version": tag, "share": 1.0 }));
    assert!(answer.status == 422 && answer.text().contains("let a tag stand for another component"), "{}", answer.text());
    let answer = host.tell("/api/plugins/router/canary", &json!({ "version": second, "share": 1.0 }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    serves(&host, 1);
    host.tell("/api/plugins/router/rollback", &json!({}));
    serves(&host, 0);
    // By a tag, where the component's own digest holds it.
    let third = guests::router(2);
    push(2, "latest");
    host.folder.change(
        &section(&first, ""),
        &section(&registry.reference("team/router:latest"), &format!("digest = {:?}\n", digest(&third))),
    );
    swapped(&host, 2);
    push(3, "latest");
    host.order("/api/reload");
    serves(&host, 2);
    // By a tag alone it is nobody's word.
    let open = registry.reference("team/router:latest");
    let beside = folder.path().join("open.toml");
    let check = |text: &str| {
        std::fs::write(&beside, text).unwrap();
        let (code, _, report) = run_with(&["check", beside.to_str().unwrap()], &[("XDG_CACHE_HOME", &cache)]);
        (code, report)
    };
    let (code, report) = check(&section(&open, ""));
    assert!(
        code == 2 && report.contains("plugins.router.component: whoever may push can let a tag stand for another"),
        "{report}"
    );
    let (code, report) = check(&section(&first, ""));
    assert_eq!(code, 0, "{report}");
    let nothing = registry.reference(&format!("team/router@sha256:{}", "0".repeat(64)));
    let (code, report) = check(&section(&nothing, ""));
    assert!(code == 2 && report.contains("cannot be pulled: ") && report.contains("answers 404"), "{report}");

    // What was pulled is there without the registry; what was not is not.
    drop(registry);
    host.restart();
    serves(&host, 2);
    let (code, report) = check(&section(&first, ""));
    assert_eq!(code, 0, "{report}");
    let (code, report) = check(&section(&nothing, ""));
    assert!(code == 2 && report.contains("cannot be asked: "), "{report}");
}
