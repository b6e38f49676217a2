//! Versioned prompts: asked for by the client, rendered with its variables, named in the answer.

use serde_json::{Value, json};
use tests::{Answer, FakeUpstream, Host, Running};

fn host(fake: &FakeUpstream) -> Running {
    Host::new()
        .upstream(fake)
        .prompt("greet", "v1", "You greet {{ name }}.")
        .prompt("greet", "v2", "You greet {{ name }} warmly.\n=== user\nHello, I am {{ name }}.")
        .prompt("pinned", "v1", "One.")
        .prompt("pinned", "v2", "Two.")
        .section("[prompts.pin]\npinned = \"v1\"")
        .start()
}

fn ask(host: &Running, prompt: Value) -> Answer {
    host.asking(json!({ "model": "small", "messages": [{ "role": "user", "content": "hi" }], "prompt": prompt })).send()
}

#[test]
fn a_prompt_goes_before_the_clients_messages() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let user = json!({ "role": "user", "content": "hi" });
    let cases = [
        (
            json!({ "id": "greet", "variables": { "name": "Ada" } }),
            "greet@v2",
            json!([{ "role": "system", "content": "You greet Ada warmly." }, { "role": "user", "content": "Hello, I am Ada." }, user]),
        ),
        (
            json!({ "id": "greet", "version": "v1", "variables": { "name": "{{ x }} \"q\"\n" } }),
            "greet@v1",
            json!([{ "role": "system", "content": "You greet {{ x }} \"q\"\n." }, user]),
        ),
        (json!({ "id": "pinned" }), "pinned@v1", json!([{ "role": "system", "content": "One." }, user])),
        (
            json!({ "id": "pinned", "version": "v2", "variables": null }),
            "pinned@v2",
            json!([{ "role": "system", "content": "Two." }, user]),
        ),
    ];
    for (prompt, name, expect) in cases {
        let answer = ask(&host, prompt.clone());
        assert_eq!((answer.status, answer.header("x-pointsman-prompt")), (200, Some(name)), "{prompt}: {}", answer.text());
        let sent = fake.last().json();
        assert_eq!(sent["messages"], expect, "{prompt}");
        assert_eq!(sent["prompt"], Value::Null, "the provider does not know our prompts");
    }
}

#[test]
fn a_prompt_alone_is_a_request() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let answer = host.asking(json!({ "model": "small", "prompt": { "id": "greet", "variables": { "name": "Ada" } } })).send();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(fake.last().json()["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn prompts_that_cannot_be_had() {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let cases = [
        (json!({ "id": "none" }), 404, "prompt_not_found", "prompt.id"),
        (json!({ "id": "greet", "version": "v9" }), 404, "prompt_not_found", "prompt.version"),
        (json!({ "id": "../greet", "version": "v1" }), 404, "prompt_not_found", "prompt.id"),
        (json!({ "id": "greet" }), 400, "invalid_request", "prompt.variables"),
        (json!({ "id": "greet", "variables": { "nom": "Ada" } }), 400, "invalid_request", "prompt.variables"),
        (json!({ "id": "greet", "variables": { "name": "x".repeat(2 << 20) } }), 400, "invalid_request", "prompt.variables"),
        (json!({ "version": "v1" }), 400, "invalid_request", "prompt"),
        (json!("greet"), 400, "invalid_request", "prompt"),
    ];
    for (prompt, status, code, param) in cases {
        let answer = ask(&host, prompt.clone());
        let shown = prompt.to_string();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{:.80}: {:.300}", shown, answer.text());
        assert_eq!(answer.json()["error"]["param"], param, "{:.80}", shown);
    }
    assert_eq!(fake.count(), 0);
}

#[test]
fn without_prompts_a_prompt_is_not_found() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let answer = ask(&host, json!({ "id": "greet" }));
    assert_eq!((answer.status, answer.code().as_str()), (404, "prompt_not_found"));
}
