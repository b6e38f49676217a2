//! Refusals: each in OpenAI's shape, with the status and code that make its SDKs raise the right exception.

use serde_json::{Value, json};
use tests::{Answer, Connection, FakeUpstream, Host, Running, eventually};

/// The shape of every refusal.
fn check(answer: &Answer, status: u16, code: &str, param: Option<&str>) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let error = &answer.json()["error"];
    let message = error["message"].as_str().unwrap();
    assert!(message.len() > 20 && message.ends_with('.'), "no sentence: {message:?}");
    assert_eq!(error["param"], param.map_or(Value::Null, Value::from), "{message}");
    assert!(error["type"].as_str().is_some_and(|kind| kind.ends_with("_error")), "{error}");
    assert!(answer.header("x-request-id").is_some());
}

fn host() -> (FakeUpstream, Running) {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).built_in().start();
    (fake, host)
}

#[test]
fn bodies_that_cannot_be_read() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let cases: [(&[u8], Option<&str>); 15] = [
        (b"", None),
        (b"hello", None),
        (b"[]", None),
        (b"null", None),
        (b"{\"model\":\"small\"", None),
        (b"{\"model\":\"small\",\"messages\":[]}{}", None),
        (b"{\"model\":\"small\",\"messages\":[],}", None),
        (b"{\"model\":\"small\",\"messages\":[],\"x\":\"\xff\"}", None),
        (br#"{"model":"small","messages":[],"model":"large"}"#, None),
        (br#"{"messages":[]}"#, Some("model")),
        (br#"{"model":7,"messages":[]}"#, Some("model")),
        (br#"{"model":"small"}"#, Some("messages")),
        (br#"{"model":"small","messages":"hi"}"#, Some("messages")),
        (br#"{"model":"small","messages":[],"stream":"yes"}"#, Some("stream")),
        (br#"{"model":"small","messages":[],"max_tokens":-1}"#, Some("max_tokens")),
    ];
    for (body, param) in cases {
        check(&host.post("/v1/chat/completions", body, &[]), 400, "invalid_request", param);
    }
    check(&host.post("/v1/chat/completions", b"{}", &[("content-encoding", "gzip")]), 400, "invalid_request", None);
    assert_eq!(fake.count(), 0, "none of it is the provider's to refuse");
}

/// A browser does what any page tells it: without keys, only this machine's own pages are answered.
#[test]
fn web_pages_of_other_machines() {
    let fake = FakeUpstream::start();
    let (chat, body) = ("/v1/chat/completions", br#"{"model":"small","messages":[{"role":"user","content":"hi"}]}"#);
    let host = Host::new().upstream(&fake).start();
    for (header, value) in [("origin", "https://evil.example"), ("origin", "null")] {
        check(&host.post(chat, body, &[(header, value)]), 403, "origin_not_allowed", None);
    }
    // A name that points here for a moment.
    let text = String::from_utf8(host.ask("hi").bytes()).unwrap();
    let rebound = text.replace(&format!("host: {}", host.address), "host: rebound.example:8080");
    check(&Connection::open(host.address).exchange(rebound.as_bytes()).unwrap(), 403, "origin_not_allowed", None);
    assert_eq!(host.ask("hi").header("origin", "http://localhost:5173").send().status, 200);
    let open = Host::new().top("auth = \"none\"").upstream(&fake).start();
    assert_eq!(open.ask("hi").header("origin", "https://app.example").send().status, 200);
    let with_key = Host::new().key("app", "app").upstream(&fake).start();
    assert_eq!(with_key.ask("hi").key("app").header("origin", "https://app.example").send().status, 200);
}

/// A page whose name points here may send whatever header it likes: without a key, `authorization` shows nothing.
#[test]
fn web_pages_are_not_the_administrator() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let asks = |name: &str, more: &str| {
        let head = format!("GET /api/models HTTP/1.1\r\nhost: {name}\r\n{more}\r\n");
        Connection::open(host.admin).exchange(head.as_bytes()).unwrap().status
    };
    assert_eq!(asks(&host.admin.to_string(), ""), 200);
    assert_eq!(asks("rebound.example:9090", ""), 403);
    assert_eq!(asks("rebound.example:9090", "authorization: Bearer x\r\n"), 403);
    assert_eq!(asks(&host.admin.to_string(), "origin: https://evil.example\r\n"), 403);
}

/// The name of a model was kept whole in log and record, however long a client made it.
#[test]
fn a_models_name_is_kept_in_short() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).admin("explain = \"2MiB\"").start();
    let body = json!({ "model": "m".repeat(1 << 20), "input": "hi" }).to_string();
    for path in ["/v1/embeddings", "/v1/chat/completions"] {
        let answer = host.post(path, body.as_bytes(), &[]);
        assert!((400..=404).contains(&answer.status), "{}", answer.text());
    }
    let kept = eventually("their stories are there", || {
        let said = host.api("/api/exchanges");
        (said["exchanges"].as_array().unwrap().len() == 2).then_some(said)
    });
    assert!(kept.to_string().len() < 8 << 10, "{}", kept.to_string().len());
}

/// A tower of brackets is the provider's to refuse, and must not be what brings a reader down that goes into it.
#[test]
fn a_deep_body_hurts_nobody() {
    let fake = FakeUpstream::start();
    fake.always(tests::Act::json(&json!({ "choices": [] })));
    let host = Host::new().upstream(&fake).cache().plugin(tests::Plugin::puppet().set("deadline = \"500ms\"")).start();
    let depth = 200_000;
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for field in ["messages", "tools", "stream_options", "prompt", "x"] {
        let body = format!(r#"{{"model":"small","messages":[],"{field}":{deep}}}"#);
        let body = if field == "messages" { body.replacen(r#""messages":[],"#, "", 1) } else { body };
        let orders = r#"{"tell":{"json":"/x/0/0/0"}}"#;
        let answer = host.post("/v1/chat/completions", body.as_bytes(), &[("x-puppet-route", orders)]);
        assert!([200, 400].contains(&answer.status), "{field}: {}", answer.status);
    }
    assert_eq!(host.chat("hi").status, 200);
}

#[test]
fn paths_methods_and_models() {
    let (fake, host) = host();
    check(&host.post("/v1/completions", b"{}", &[]), 404, "unknown_path", None);
    check(&host.get("/", &[]), 404, "unknown_path", None);
    let wrong = host.get("/v1/chat/completions", &[]);
    check(&wrong, 405, "method_not_allowed", None);
    assert_eq!(wrong.header("allow"), Some("POST"));
    check(&host.ask("hi").model("gpt-5").send(), 404, "model_not_found", Some("model"));
    check(&host.ask("hi").model("tiny-1").send(), 404, "model_not_found", Some("model"));
    check(&host.ask("hi").model("vectors").send(), 404, "model_not_found", Some("model"));
    check(&host.ask("hi").model("built-in").send(), 404, "model_not_found", Some("model"));
    check(&host.get("/v1/models/none", &[]), 404, "model_not_found", Some("model"));
    assert_eq!(fake.count(), 0);
}

#[test]
fn models_are_listed() {
    let (_fake, host) = host();
    let list = host.get("/v1/models", &[]).json();
    let names: Vec<&str> = list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((list["object"].as_str(), &names[..]), (Some("list"), &["small", "large", "auto", "vectors", "built-in"][..]));
    let one = host.get("/v1/models/small", &[]).json();
    assert_eq!(one, json!({ "id": "small", "object": "model", "created": 0, "owned_by": "fake" }));
    assert_eq!(list["data"][0], one);
}

#[test]
fn keys_open_what_they_are_for() {
    let fake = FakeUpstream::start();
    let host =
        Host::new().upstream(&fake).key("app", "team").limited_key("thrifty", "team", "models = [\"small\", \"auto\"]\n").start();
    let unknown = Host::new().key("other", "team");
    let other = unknown.upstream(&fake).start().keys["other"].clone();
    for (wrong, headers) in [
        ("none", vec![]),
        ("another vendor's", vec![("authorization", "Bearer sk-1234".to_owned())]),
        ("not in the configuration", vec![("authorization", format!("Bearer {other}"))]),
        ("another scheme", vec![("authorization", format!("Basic {}", host.keys["app"]))]),
        ("two", vec![("authorization", format!("Bearer {}", host.keys["app"])), ("authorization", format!("Bearer {other}"))]),
    ] {
        let ask = headers.iter().fold(host.ask("hi"), |ask, (name, value)| ask.header(name, value));
        let answer = ask.send();
        check(&answer, 401, "invalid_api_key", None);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{wrong}");
    }
    check(&host.get("/v1/models", &[]), 401, "invalid_api_key", None);
    check(&host.get("/nothing", &[]), 401, "invalid_api_key", None);
    assert_eq!(fake.count(), 0);

    assert_eq!(host.ask("hi").key("app").send().status, 200);
    assert_eq!(host.ask("hi").header("x-api-key", &host.keys["app"]).send().status, 200);
    assert_eq!(fake.last().header("x-api-key"), None, "a client's key never goes up");
    assert_eq!(host.ask("hi").key("thrifty").send().status, 200);
    check(&host.ask("hi").key("thrifty").model("large").send(), 403, "model_not_allowed", Some("model"));
    let bearer = format!("Bearer {}", host.keys["thrifty"]);
    let list = host.get("/v1/models", &[("authorization", &bearer)]).json();
    assert_eq!(list["data"].as_array().unwrap().len(), 2, "{list}");
    check(&host.get("/v1/models/large", &[("authorization", &bearer)]), 404, "model_not_found", Some("model"));
}
