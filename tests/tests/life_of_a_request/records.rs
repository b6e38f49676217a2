//! What is left of an exchange: its line in the log, its numbers, and what its client is told of an upstream that failed.

use serde_json::{Value, json};
use tests::{Act, Answer, Binary, FakeUpstream, Host, Nobody, Plugin, sse};

/// The line of the exchange that this is the answer of.
fn line(host: &Binary, answer: &Answer) -> Value {
    let id = answer.header("x-request-id").expect("each answer has one");
    let line = host.wait_for_log(&format!("\"id\":\"{id}\""));
    serde_json::from_str(&line).unwrap()
}

/// Addresses are the owner's: they are in the log and in no answer. Who was asked is known although nobody answered.
#[test]
fn upstreams_that_fail_are_named_and_not_located() {
    let (one, other) = (Nobody::new(), Nobody::new());
    let host = Host::new().endpoint(one.url()).endpoint(other.url()).cache().spawn();
    let (one, other) = (one.address().to_string(), other.address().to_string());
    let answer = host.chat("hi");
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_upstream"));
    let told = "No upstream answered. The provider `fake` of the model `small` cannot be reached.";
    assert_eq!(answer.json()["error"]["message"], told);
    assert_eq!((answer.cache(), answer.header("x-pointsman-model")), ("miss", Some("small")));
    let line = line(&host, &answer);
    assert_eq!((&line["model"], &line["tries"], &line["cache"]), (&json!("small"), &json!(2), &json!("miss")));
    assert_eq!((&line["ending"], &line["error"]), (&json!("refused"), &json!("no_upstream")));
    let (endpoint, detail) = (line["endpoint"].as_str().unwrap(), line["detail"].as_str().unwrap());
    assert!(endpoint == one || endpoint == other, "{line}");
    for address in [one, other] {
        assert_eq!(detail.matches(&address).count(), 1, "told once: {detail}");
    }
    assert_eq!(host.metrics().sum("pointsman_errors_total", &["code=\"no_upstream\""]), 1.0);
    assert_eq!(host.metrics().sum("pointsman_retries_total", &[]), 1.0);
}

/// Every way in which an upstream can fail, before the commit point and after it.
#[test]
fn no_answer_has_an_upstreams_address() {
    let fake = FakeUpstream::start();
    let brief = "timeouts = { headers = \"300ms\", first_token = \"300ms\", between_tokens = \"300ms\" }";
    let host = Host::new().upstream(&fake).provider(brief).start();
    let address = fake.address().to_string();
    for (act, early) in [
        (Act::raw(""), "gave no whole answer"),
        (Act::raw("SSH-2.0-OpenSSH_9.2\r\n"), "gave no whole answer"),
        (Act::silent(), "took too long"),
        (Act::answer().stall_at(0), "took too long"),
        (Act::answer().cut_at(0), "gave no whole answer"),
        (Act::refuse(401, "no"), "does not accept the gateway's key"),
        (Act::raw("HTTP/1.1 503 busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), "answered 503."),
        (
            Act::raw("HTTP/1.1 429 busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            "answered 429: it has no room just now.",
        ),
        (
            Act::raw("HTTP/1.1 302 away\r\nlocation: /\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            "answered 302, which is no answer",
        ),
    ] {
        fake.always(act);
        for ask in [host.ask("hi"), host.ask("hi").streamed()] {
            let answer = ask.send();
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(
                message.starts_with("The provider `fake` of the model `small` ") && message.contains(early),
                "{early}: {message}"
            );
            assert!(!answer.text().contains(&address), "{}", answer.text());
        }
    }
    for (act, late) in [(Act::answer().cut_at(400), "gave no whole answer"), (Act::answer().stall_at(400), "took too long")] {
        fake.always(act);
        let answer = host.ask("hi").streamed().send();
        let error = sse::error(&answer.body).expect("it says so");
        assert!(error["message"].as_str().unwrap().contains(late) && !answer.text().contains(&address), "{}", answer.text());
    }
}

/// A plan that was gone through to its end: each model is named.
#[test]
fn all_models_of_a_plan_that_failed_are_named() {
    let fake = FakeUpstream::start();
    fake.always(Act::raw(""));
    let host = Host::new().upstream(&fake).provider("retries = 0").plugin(Plugin::puppet().set("deadline = \"500ms\"")).spawn();
    let orders =
        json!({ "plan": { "targets": ["large", "small"], "reason": "", "headers": [], "labels": [["a\"b", "c"], ["a", "b"]] } });
    let answer = host.ask("hi").model("auto").puppet("route", orders).send();
    let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    for model in ["large", "small"] {
        assert!(message.contains(&format!("The provider `fake` of the model `{model}` gave no whole answer")), "{message}");
    }
    let line = line(&host, &answer);
    assert_eq!(line["tries"], 2);
    assert_eq!(line["labels"], json!({ "a\"b": "c", "a": "b" }), "an object, as whoever reads logs expects");
}

/// A refusal is the plugin's: it says which one it was, and its owner can count them.
#[test]
fn what_a_plugin_refuses_is_booked_as_its_own() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::puppet().set("deadline = \"500ms\"")).spawn();
    let reject = json!({ "reject": { "status": 429, "code": "too_many_drafts", "message": "One a minute." } });
    for hook in ["route", "select"] {
        let answer = host.ask("hi").puppet(hook, reject.clone()).send();
        assert_eq!((answer.status, answer.code().as_str()), (429, "too_many_drafts"), "{}", answer.text());
        let by = answer.header("x-pointsman-plugin").unwrap_or_else(|| panic!("{hook}: {:?}", answer.head));
        assert!(by.starts_with("puppet@"), "{by}");
        let line = line(&host, &answer);
        assert_eq!((line["plugins"].as_str(), line["error"].as_str()), (Some(by), Some("too_many_drafts")));
    }
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_errors_total", &["code=\"rejected\""]), 2.0);
    assert_eq!(metrics.sum("pointsman_plugin_rejections_total", &["plugin=\"puppet@"]), 2.0);
    assert_eq!(metrics.sum("pointsman_exchanges_total", &["ending=\"refused\""]), 2.0);
}

/// One that fails and must not is named as well.
#[test]
fn a_plugin_that_fails_a_request_is_named() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).plugin(Plugin::puppet().must_not_fail()).start();
    let answer = host.ask("hi").header("x-puppet-route", "no JSON").send();
    assert_eq!((answer.status, answer.code().as_str()), (500, "plugin_failed"));
    assert!(answer.header("x-pointsman-plugin").is_some_and(|by| by.starts_with("puppet@")), "{:?}", answer.head);
    assert_eq!(host.metrics().sum("pointsman_errors_total", &["code=\"plugin_failed\""]), 1.0);
}
