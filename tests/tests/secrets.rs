//! Secrets: canaries in every place that holds one, everything that can be made to speak, and no canary in what it says.
//!
//! **Invariant:** each canary was really used, or its silence would prove nothing.

use serde_json::json;
use tests::{Act, FakeUpstream, Host, Plugin, binary};

const PROVIDER: &str = "sk-canary-provider-a7f3b19c";
const HEADER: &str = "canary-header-5c21d8e0";
const ADMIN: &str = "canary-admin-99e0b4d1";
const STRANGER: &str = "sk-canary-stranger-41c6ff02";

#[test]
fn no_secret_is_in_any_log_metric_answer_or_file() {
    let fake = FakeUpstream::start();
    let host = Host::new()
        .log("trace")
        .upstream(&fake)
        .file("provider.txt", PROVIDER.as_bytes())
        .provider(
            "key = \"file:provider.txt\"\nheaders = { x-secret = \"env:CANARY_HEADER\" }\ntimeouts = { headers = \"500ms\" }",
        )
        .semantic()
        .key("app", "team")
        .plugin(Plugin::puppet().set("deadline = \"500ms\""))
        .spawn_with(&[("CANARY_HEADER", HEADER)]);
    let app = host.keys["app"].clone();

    // The line in every mood: hits, misses, streams, failures of each side, foreign keys.
    for text in ["hi", "hi", "Hi?"] {
        assert_eq!(host.ask(text).key("app").send().status, 200);
        assert_eq!(host.ask(text).key("app").streamed().send().status, 200);
    }
    assert_eq!(
        (fake.last().header("authorization"), fake.last().header("x-secret")),
        (Some(format!("Bearer {PROVIDER}").as_str()), Some(HEADER))
    );
    for act in [
        Act::refuse(401, "bad_key"),
        Act::refuse(500, "broken"),
        Act::raw("garbage\r\n\r\n"),
        Act::silent(),
        Act::answer().cut_at(300),
    ] {
        fake.next(act.clone()).next(act);
        host.ask("what fails").key("app").header("cache-control", "no-store").streamed().send();
    }
    host.ask("hi").key("app").puppet("route", json!("panic")).send();
    let seen = host.ask("hi").key("app").puppet("route", json!({ "tell": "header-names" })).send();
    assert_eq!(host.ask("hi").header("authorization", &format!("Bearer {STRANGER}")).send().status, 401);
    assert_eq!(host.ask("hi").header("x-api-key", STRANGER).header("cookie", STRANGER).send().status, 401);
    // A key where a file would be: the reload that fails must not quote it.
    host.folder.change("key = \"file:provider.txt\"", &format!("key = \"{STRANGER}\""));
    tests::eventually("a failed reload", || (host.api("/api/reload")["failed"].as_u64() >= Some(1)).then_some(()));

    let mut said = vec![("a guest's reason".to_owned(), seen.header("x-pointsman-reason").unwrap_or_default().to_owned())];
    for path in ["/metrics", "/api/plugins", "/api/models", "/api/prompts", "/api/cache", "/api/reload", "/healthz"] {
        said.push((path.to_owned(), host.admin(path).text().to_owned()));
    }
    let (_, out, err) = binary::run(&["check", host.folder.config().to_str().unwrap()]);
    said.push(("check".to_owned(), out + &err));
    let log = host.log();
    assert!(log.len() > 200 && log.iter().any(|line| line.contains("\"TRACE\"")), "{} lines: is the level trace?", log.len());
    said.push(("the log".to_owned(), log.join("\n")));
    for (place, text) in said {
        for secret in [PROVIDER, HEADER, STRANGER, app.as_str(), &app[3..30]] {
            assert!(
                !text.contains(secret),
                "{secret} is in {place}: {:.400}",
                &text[text.find(secret).unwrap().saturating_sub(200)..]
            );
        }
    }
}

#[test]
fn the_admin_key_is_asked_for_and_never_told() {
    let fake = FakeUpstream::start();
    let host = Host::new().log("trace").upstream(&fake).file("admin.txt", ADMIN.as_bytes());
    let host = host.admin("key = \"file:admin.txt\"").spawn();
    for path in ["/metrics", "/api/plugins", "/api/reload"] {
        assert_eq!(host.admin(path).status, 401, "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(host.admin(path).status, 200, "{path}");
    }
    let with = |key: &str| {
        let request = tests::door::request(
            "GET",
            host.admin,
            "/metrics",
            b"",
            [("authorization", format!("Bearer {key}").as_str())].into_iter(),
        );
        tests::Connection::open(host.admin).exchange(&request).unwrap().status
    };
    assert_eq!((with(ADMIN), with(&ADMIN[..ADMIN.len() - 1]), with("")), (200, 401, 401));
    assert!(!host.log().join("\n").contains(ADMIN));
}
