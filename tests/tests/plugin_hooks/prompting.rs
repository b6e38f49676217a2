//! `prompting`: which prompt, which edits, and refusal.

use serde_json::{Value, json};
use tests::{Answer, FakeUpstream, Host, Plugin, Running};

fn host(fake: &FakeUpstream) -> Running {
    let plugin = Plugin::puppet().set("deadline = \"500ms\"");
    Host::new()
        .upstream(fake)
        .prompt("greet", "v1", "One for {{ name }}.")
        .prompt("greet", "v2", "Two for {{ name }}.")
        .plugin(plugin)
        .start()
}

const MESSAGES: &str = r#"[{"role":"system","content":"s","x":1},{"role":"user","content":"hi"}]"#;

fn select(host: &Running, orders: Value) -> Answer {
    let messages: Value = serde_json::from_str(MESSAGES).unwrap();
    host.asking(json!({ "model": "small", "messages": messages, "prompt": { "id": "greet", "variables": { "name": "Ada" } } }))
        .puppet("select", orders)
        .send()
}

#[test]
fn outcomes_change_what_goes_up() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let (system, user) = (json!({ "role": "system", "content": "s", "x": 1 }), json!({ "role": "user", "content": "hi" }));
    let said = |role: &str, text: &str| json!({ "role": role, "content": text });
    let cases = [
        (
            "no opinion: the client's own wish",
            json!("pass"),
            Some("greet@v2"),
            json!([said("system", "Two for Ada."), system, user]),
        ),
        (
            "a version",
            json!({ "choose": { "prompt": "greet", "version": "v1" } }),
            Some("greet@v1"),
            json!([said("system", "One for Ada."), system, user]),
        ),
        (
            "edits alone",
            json!({ "rewrite": { "choice": { "prompt": "own", "version": "7" }, "edits": [{ "replace-system": "t" }, { "append": "more" }, { "prepend": "first" }] } }),
            Some("own@7"),
            json!([said("system", "first"), json!({ "role": "system", "content": "t", "x": 1 }), user, said("user", "more")]),
        ),
        (
            "a prompt and edits",
            json!({ "rewrite": { "choice": { "prompt": "greet", "version": "v1" }, "edits": [{ "remove": 0 }, { "replace": [0, "hello"] }] } }),
            Some("greet@v1"),
            json!([said("system", "One for Ada."), said("user", "hello")]),
        ),
    ];
    for (what, orders, prompt, expect) in cases {
        let answer = select(&host, orders);
        assert_eq!((answer.status, answer.header("x-pointsman-prompt")), (200, prompt), "{what}: {}", answer.text());
        assert_eq!(fake.last().json()["messages"], expect, "{what}");
    }
}

#[test]
fn parameters_can_be_set_and_the_rest_keeps_its_bytes() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
    let body = br#"{"model":"small", "temperature": 0.70, "x":[1.50], "messages":[{"role":"user","content":"\u00e9"}]}"#;
    let orders = r#"{"rewrite":{"edits":[{"set-parameter":["temperature","0.2"]},{"set-parameter":["top_k","40"]}]}}"#;
    assert_eq!(host.post("/v1/chat/completions", body, &[("x-puppet-select", orders)]).status, 200);
    assert_eq!(
        fake.last().text(),
        r#"{"model":"tiny-1", "temperature": 0.2, "x":[1.50], "messages":[{"role":"user","content":"\u00e9"}],"top_k":40}"#
    );
}

#[test]
fn a_refusal_and_outcomes_that_do_not_fit() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let refused = select(&host, json!({ "reject": { "status": 451, "code": "not_here", "message": "Not here." } }));
    assert_eq!((refused.status, refused.code().as_str()), (451, "not_here"));
    let rewrite = |edit: Value| json!({ "rewrite": { "edits": [edit] } });
    let misfits = [
        json!({ "choose": { "prompt": "none" } }),
        json!({ "choose": { "prompt": "greet", "version": "v9" } }),
        rewrite(json!({ "remove": 9 })),
        rewrite(json!({ "replace": [2, "x"] })),
        rewrite(json!({ "set-parameter": ["model", "\"giant-1\""] })),
        rewrite(json!({ "set-parameter": ["stream", "true"] })),
        rewrite(json!({ "set-parameter": ["seed", "1,\"model\":\"giant-1\""] })),
        json!({ "reject": { "status": 99, "code": "x", "message": "y" } }),
    ];
    for orders in &misfits {
        let answer = select(&host, orders.clone());
        assert_eq!((answer.status, answer.header("x-pointsman-prompt")), (200, Some("greet@v2")), "{orders}: {}", answer.text());
        let sent = fake.last().json();
        assert_eq!((sent["model"].as_str(), sent["messages"].as_array().unwrap().len()), (Some("tiny-1"), 3), "{orders}");
    }
    assert_eq!(host.metrics().sum("pointsman_plugin_failures_total", &[]), misfits.len() as f64);
}

/// The prompt that one plugin chose is what the next one sees.
#[test]
fn a_chosen_prompt_is_in_the_head_of_later_hooks() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let choose = json!({ "choose": { "prompt": "greet", "version": "v1", "labels": [["arm", "b"]] } });
    let body = json!({ "model": "small", "messages": [], "prompt": { "id": "greet", "variables": { "name": "Ada" } } });
    let head = host.asking(body.clone()).puppet("select", choose.clone()).puppet("route", json!({ "tell": "head" })).send();
    assert!(head.header("x-pointsman-reason").unwrap().contains("RequestHead"), "{:?}", head.header("x-pointsman-reason"));
    let label = host.asking(body).puppet("select", choose).puppet("route", json!({ "tell": { "metadata": "arm" } })).send();
    assert_eq!(label.header("x-pointsman-reason"), Some("Some(\"b\")"));
}
