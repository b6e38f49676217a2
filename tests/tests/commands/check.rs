//! `pointsman check` says what `pointsman serve` would refuse, all of it, each at the key that names it.

use std::os::unix::fs::MetadataExt;

use tests::binary::{run, run_with};
use tests::host::Folder;
use tests::tls::Authority;
use tests::{Host, Plugin, guests};

/// Exit code, what is said on standard output, and on standard error without the folder's name.
fn check(folder: &Folder, text: &str) -> (i32, String, String) {
    folder.write("p.toml", text.as_bytes());
    let (code, out, err) = run(&["check", folder.path("p.toml").to_str().unwrap()]);
    (code, out, err.replace(&format!("{}/", folder.path("").to_str().unwrap().trim_end_matches('/')), ""))
}

/// The lines of a report without the quoted ones.
fn said(report: &str) -> Vec<&str> {
    report.lines().filter(|line| line.starts_with("p.toml:")).collect()
}

fn folder() -> Host {
    Host::new()
        .plugin(Plugin::asker())
        .plugin(Plugin::router(1))
        .file("module.wasm", &guests::hostile::core_module())
        .file("text.wasm", b"#!/bin/sh\n")
        .file("tls.pem", b"no certificate")
        .file("key.pem", b"no key")
        .file("prompts/greet/v1.j2", b"Hello {{ name }}")
        .file("prompts/greet/v2.j2", b"Hello {{ name")
        .file("model/config.json", b"{}")
}

/// One mistake in a file: where it is said to be, and how it is told. Whatever can be found before a start refuses the start, in
/// the same words.
#[test]
fn what_serve_refuses() {
    let host = folder();
    let cases = [
        ("[plugins.x]\ncomponent = \"none.wasm\"\nhooks = [\"routing\"]", "2:13: plugins.x.component: none.wasm cannot be read"),
        (
            "[plugins.x]\ncomponent = \"text.wasm\"\nhooks = [\"routing\"]",
            "2:13: plugins.x.component: text.wasm is not WebAssembly",
        ),
        (
            "[plugins.x]\ncomponent = \"module.wasm\"\nhooks = [\"routing\"]",
            "2:13: plugins.x.component: module.wasm is a core module",
        ),
        (
            "[plugins.x]\ncomponent = \"router.wasm\"\nhooks = [\"caching\"]",
            "3:9: plugins.x.hooks: router.wasm does not export the hook `caching`",
        ),
        (
            "[plugins.x]\ncomponent = \"asker.wasm\"\nhooks = [\"routing\"]\ngrant = [\"log\"]",
            "4:9: plugins.x.grant: asker.wasm imports",
        ),
        (
            "[plugins.x]\ncomponent = \"asker.wasm\"\nhooks = [\"routing\"]\nconfig = { refuse = \"no limit\" }\n\
             grant = [\"config\", \"log\", \"metrics\", \"upstreams\", \"embeddings\", \"clock\", \"random\", \"kv\"]",
            "4:10: plugins.x.config: asker.wasm refuses its configuration: no limit; change its `config` table",
        ),
        ("[log]\nlevel = \"info,[=debug\"", "2:9: log.level: "),
        ("[cache.semantic]\nembedder = \"./model\"", "2:12: cache.semantic.embedder: "),
        (
            "[listen]\ntls = { certificate = \"tls.pem\", key = \"key.pem\" }",
            "2:23: listen.tls.certificate: tls.pem: holds no certificate",
        ),
        ("[listen]\nhandover = \"/tmp/x.sock\"", "2:12: listen.handover: /tmp is not a folder of this process's user"),
        (
            "[providers.a]\nkind = \"openai\"\nendpoints = [\"http://127.0.0.1:1\"]\nkey = \"env:POINTSMAN_TEST_ABSENT\"",
            "4:7: providers.a.key: the environment variable POINTSMAN_TEST_ABSENT is not set",
        ),
        (
            "[providers.a]\nkind = \"openai\"\nendpoints = [\"http://127.0.0.1:1\"]\nkey = \"file:none\"",
            "4:7: providers.a.key: the file none cannot be read",
        ),
    ];
    for (text, expect) in cases {
        let (code, out, report) = check(host.folder(), text);
        let lines = said(&report);
        assert_eq!((code, out.as_str(), lines.len()), (2, "", 2), "{text}\n{report}");
        assert!(lines[0].starts_with(&format!("p.toml:{expect}")), "{text}\n{report}");
        assert!(lines[0].contains("; "), "a remedy: {report}");
        assert_eq!(lines[1], "p.toml: 1 error");
        let (code, _, refusal) = run(&["serve", "--config", host.folder().path("p.toml").to_str().unwrap()]);
        let place = expect.split(": ").next().unwrap();
        assert!(code == 2 && refusal.contains(&format!("p.toml:{place}: ")), "{text}\n{refusal}");
    }
}

/// `check` said ok to a folder that is not there, and `serve` ended with words that named neither the field nor a remedy. Whoever starts the
/// process may make the folder, so that `check` warns.
#[test]
fn a_folder_for_the_handover_that_is_not_there() {
    let host = folder();
    let (code, out, report) = check(host.folder(), "[listen]\naddress = \"127.0.0.1:0\"\nhandover = \"/nope/x.sock\"\n");
    assert_eq!((code, said(&report).len()), (0, 1), "{out}{report}");
    assert!(report.starts_with("p.toml:3:12: warning: listen.handover: the folder /nope does not exist; make it"), "{report}");
    let (code, _, refusal) = run(&["serve", "--config", host.folder().path("p.toml").to_str().unwrap()]);
    assert_eq!(code, 2, "{refusal}");
    assert!(refusal.contains("p.toml:3:12: listen.handover: the folder /nope does not exist; name a file"), "{refusal}");
}

/// The certificate that is there and the key that is another's.
#[test]
fn certificates_that_do_not_go_together() {
    let authority = Authority::new();
    let (one, other) = (authority.sign("a.test"), authority.sign("b.test"));
    let host = folder().file("a.pem", one.certificate.as_bytes()).file("b.key", other.key.as_bytes());
    let (code, _, report) = check(host.folder(), "[listen.tls]\ncertificate = \"a.pem\"\nkey = \"b.key\"\n");
    assert!(code == 2 && report.contains("p.toml:2:15: listen.tls.certificate: a.pem: does not go with the key"), "{report}");
    let (code, _, report) = check(host.folder(), "[listen.tls]\ncertificate = \"a.pem\"\nkey = \"key.pem\"\n");
    assert!(code == 2 && report.contains("p.toml:3:7: listen.tls.key: key.pem: holds no private key"), "{report}");
}

/// `serve` goes without a template that cannot be read; whoever is about to deploy one wants to know.
#[test]
fn prompts() {
    let host = folder();
    let (code, _, report) = check(host.folder(), "[prompts]\npath = \"prompts\"\npin = { greet = \"v3\", none = \"v1\" }\n");
    assert_eq!(code, 2, "{report}");
    let lines = said(&report);
    assert_eq!(lines.len(), 4, "{report}");
    assert!(lines[0].starts_with("p.toml:2:8: prompts.path: prompts/greet/v2.j2 cannot be read as a template"), "{report}");
    assert!(lines[1].starts_with("p.toml:3:17: prompts.pin.greet: there is no version `v3` of it"), "{report}");
    assert!(lines[2].starts_with("p.toml:3:30: prompts.pin.none: there is no version `v1` of it"), "{report}");
}

/// What is wrong with the file itself does not hide what is wrong with what it names, nor is it told twice.
#[test]
fn everything_at_once() {
    let host = folder();
    let text = "[listen]\nadress = 1\n[plugins.a]\ncomponent = \"module.wasm\"\nhooks = [\"routing\"]\n\
                [plugins.b]\ncomponent = \"asker.wasm\"\nhooks = [\"routing\"]\ngrant = [\"lgo\"]\n\
                [plugins.c]\ncomponent = \"text.wasm\"\nhooks = [\"routing\"]\n[prompts]\npath = \"prompts\"\n\
                [providers.a]\nkind = \"opnai\"\nendpoints = []\n[models.m]\nprovider = \"a\"\nname = \"m\"\n";
    let (code, _, report) = check(host.folder(), text);
    assert_eq!(code, 2);
    let keys: Vec<&str> = said(&report).iter().filter_map(|line| line.split(": ").nth(1)).collect();
    let expect =
        ["listen.adress", "plugins.a.component", "plugins.b.grant[0]", "plugins.c.component", "prompts.path", "providers.a.kind"];
    assert_eq!(keys[..6], expect, "{report}");
    assert!(report.ends_with("p.toml: 6 errors\n"), "{report}");
}

#[test]
fn it_says_for_whom_a_plugin_is_asked() {
    let host = folder();
    let (code, out, err) = check(
        host.folder(),
        "[providers.a]\nkind = \"openai\"\nendpoints = [\"http://127.0.0.1:1/v1\"]\n[models.small]\nprovider = \"a\"\nname = \"tiny\"\n\
          [plugins.x]\ncomponent = \"router.wasm\"\nhooks = [\"routing\"]\ntenants = [\"default\"]\nmodels = [\"small\"]\n",
    );
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("router.wasm, tenants default, models small\n"), "{out}");
}

/// What is compiled for a check is there for the start after it: the very same file.
#[test]
fn components_are_compiled_once() {
    let host = folder();
    let folder = host.folder();
    folder.write("p.toml", b"[plugins.x]\ncomponent = \"router.wasm\"\nhooks = [\"routing\"]\n");
    let config = folder.path("p.toml");
    let checked =
        || run_with(&["check", config.to_str().unwrap()], &[("XDG_CACHE_HOME", folder.path("cache").to_str().unwrap())]);
    let compiled = || {
        let entries = std::fs::read_dir(folder.path("cache/pointsman/components")).unwrap();
        let of = |entry: std::fs::DirEntry| (entry.file_name(), entry.metadata().unwrap().ino());
        entries.map(|entry| of(entry.unwrap())).collect::<Vec<_>>()
    };
    let (code, out, err) = checked();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("plugin     x: routing by"), "{out}");
    let first = compiled();
    assert_eq!((first.len(), checked().0), (1, 0));
    assert_eq!(compiled(), first);
}
