//! The same request again.

use std::time::Instant;

use serde_json::{Value, json};
use tests::{Act, Answer, FakeUpstream, Host, Running, sse};

fn host() -> (FakeUpstream, Running) {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().start();
    (fake, host)
}

fn check(answer: &Answer, cache: &str, content: &str) {
    assert_eq!((answer.status, answer.cache(), answer.content().as_str()), (200, cache, content), "{}", answer.text());
}

#[test]
fn a_hit_is_the_stored_answer_in_whatever_form_is_asked_for() {
    let (fake, host) = host();
    let plain = host.ask("hi").send();
    check(&plain, "miss", "Answer 1 of tiny-1 to: hi");
    let again = host.ask("hi").send();
    check(&again, "exact", "Answer 1 of tiny-1 to: hi");
    assert_eq!(again.as_stored(), plain.text(), "byte for byte but for the mark, fields that nobody knows among them");
    assert_eq!(again.json()["usage"]["x_pointsman"], json!({ "cached": true }));
    assert_eq!((again.header("age"), again.header("x-pointsman-model")), (Some("0"), Some("small")));
    assert_ne!(again.header("x-request-id"), plain.header("x-request-id"));

    let replayed = host.ask("hi").streamed().send();
    check(&replayed, "exact", "Answer 1 of tiny-1 to: hi");
    assert!(sse::is_done(&replayed.body) && replayed.header("content-type").unwrap().starts_with("text/event-stream"));
    let chunks = sse::chunks(&replayed.body);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert!(
        chunks.iter().all(|chunk| chunk["object"] == "chat.completion.chunk"
            && chunk["id"] == "chatcmpl-1"
            && chunk["usage"] == Value::Null)
    );
    assert_eq!(chunks.last().unwrap()["choices"][0]["finish_reason"], "stop");
    let with_usage = sse::chunks(&host.ask("hi").streamed().set("stream_options", json!({ "include_usage": true })).send().body);
    let usage = &with_usage.last().unwrap()["usage"];
    assert_eq!((&usage["total_tokens"], &usage["x_pointsman"]["cached"]), (&json!(13), &json!(true)), "{with_usage:?}");
    assert_eq!(with_usage.last().unwrap()["choices"], json!([]));
    assert_eq!(fake.count(), 1);
}

#[test]
fn a_stream_fills_the_cache_for_plain_requests() {
    let (fake, host) = host();
    let streamed = host.ask("hi").streamed().set("stream_options", json!({ "include_usage": true })).send();
    check(&streamed, "miss", "Answer 1 of tiny-1 to: hi");
    let plain = host.ask("hi").send();
    check(&plain, "exact", "Answer 1 of tiny-1 to: hi");
    let whole = plain.json();
    assert_eq!(
        (&whole["object"], &whole["choices"][0]["finish_reason"], &whole["usage"]["total_tokens"]),
        (&json!("chat.completion"), &json!("stop"), &json!(13))
    );
    check(&host.ask("hi").streamed().send(), "exact", "Answer 1 of tiny-1 to: hi");
    assert_eq!(fake.count(), 1);
}

/// At a set rate words come one by one. Where the client's time is short, or the process ends, they come sooner, and all of them.
#[test]
fn a_stored_answer_comes_at_the_rate_that_is_set() {
    let fake = FakeUpstream::start();
    let words = (0..60).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ");
    fake.always(Act::say(&words));
    let host = Host::new().upstream(&fake).section("[cache]\nreplay_rate = 100").spawn();
    let ask = host.ask("hi").set("stream_options", json!({ "include_usage": true })).streamed();
    let first = ask.send();
    let usage = sse::chunks(&first.body).last().unwrap()["usage"]["completion_tokens"].as_f64().unwrap();
    let began = Instant::now();
    let mut connection = ask.begin();
    let mut live = connection.head().unwrap();
    let (mut body, mut portions) = (Vec::new(), 0);
    while let Some(portion) = live.portion() {
        assert!(portion.ends_with(b"\n\n"), "whole events");
        body.extend(portion);
        portions += 1;
    }
    assert!(live.is_whole() && sse::is_done(&body));
    assert_eq!(sse::content(&body), words);
    assert!(began.elapsed().as_secs_f64() > 0.9 * usage / 100.0, "{:?} for {usage} tokens", began.elapsed());
    assert!(portions > 20, "{portions}");
    let hasty = ask.clone().header("x-pointsman-timeout", "200ms").send();
    assert_eq!((hasty.cache(), sse::content(&hasty.body), sse::is_done(&hasty.body)), ("exact", words.clone(), true));
    assert_eq!(ask.clone().set("stream", json!(false)).send().cache(), "exact");
    assert_eq!(fake.count(), 1);
}

/// What makes another request, and what does not.
#[test]
fn every_field_that_reaches_the_provider_counts() {
    let (fake, host) = host();
    let base = json!({ "model": "small", "messages": [{ "role": "system", "content": "s" }, { "role": "user", "content": "hi" }], "temperature": 0.5, "seed": 7 });
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = base.clone();
        change(&mut body);
        body
    };
    assert_eq!(host.asking(base.clone()).send().cache(), "miss");
    let same: [(&str, Vec<u8>); 3] = [
        ("order", br#"{"seed":7,"temperature":0.5,"messages":[{"role":"system","content":"s"},{"role":"user","content":"hi"}],"model":"small"}"#.to_vec()),
        ("white space", serde_json::to_vec_pretty(&base).unwrap()),
        ("stream", with(&|body| body["stream"] = json!(true)).to_string().into_bytes()),
    ];
    for (what, body) in same {
        assert_eq!(host.post("/v1/chat/completions", &body, &[("x-other", "header")]).cache(), "exact", "{what}");
    }
    let others: [&dyn Fn(&mut Value); 9] = [
        &|body| body["model"] = json!("large"),
        &|body| body["model"] = json!("auto"),
        &|body| body["temperature"] = json!(0.6),
        &|body| body["seed"] = Value::Null,
        &|body| body["x_unknown"] = json!(1),
        &|body| body["user"] = json!("u"),
        &|body| body["messages"][0]["content"] = json!("t"),
        &|body| body["messages"][1]["content"] = json!("hi "),
        &|body| body["messages"][1]["name"] = json!("n"),
    ];
    for change in others {
        let body = with(change);
        assert_eq!(host.asking(body.clone()).send().cache(), "miss", "{body}");
    }
    assert_eq!(
        host.asking(base.clone()).header("openai-beta", "x=1").send().cache(),
        "miss",
        "a header that changes what the provider does"
    );
    assert_eq!(fake.count(), 11);
}

#[test]
fn the_client_may_decline() {
    let (fake, host) = host();
    let ask = host.ask("hi");
    assert_eq!(ask.clone().header("cache-control", "no-store").send().cache(), "bypass");
    assert_eq!(ask.send().cache(), "miss", "nothing was stored");
    assert_eq!(ask.clone().header("cache-control", "no-store").send().cache(), "bypass", "and nothing is looked up");
    let fresh = ask.clone().header("cache-control", "no-cache").send();
    check(&fresh, "miss", "Answer 4 of tiny-1 to: hi");
    check(&ask.send(), "exact", "Answer 4 of tiny-1 to: hi");
    check(&ask.clone().header("cache-control", "max-age=60").send(), "exact", "Answer 4 of tiny-1 to: hi");
    std::thread::sleep(std::time::Duration::from_millis(2100));
    assert_eq!(ask.clone().header("cache-control", "max-age=1").send().cache(), "miss", "too old");
    assert_eq!(fake.last().header("cache-control"), None, "it was meant for us");
}

/// Answers that must not be given twice.
#[test]
fn what_is_never_stored() {
    let (fake, host) = host();
    let tool = |completion: &mut Value| {
        completion["choices"][0]["message"]["tool_calls"] =
            json!([{ "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } }]);
        completion["choices"][0]["finish_reason"] = json!("tool_calls");
    };
    let acts: Vec<(&str, Act)> = vec![
        ("cut short", Act::answer().finish("length")),
        ("filtered", Act::answer().finish("content_filter")),
        ("tool calls", Act::answer().edit(tool)),
        ("no choices", Act::answer().edit(|completion| completion["choices"] = json!([]))),
        ("an error", Act::refuse(400, "no")),
        ("an error with status 200", Act::json(&json!({ "error": { "message": "no" }, "choices": [] }))),
        ("no JSON", Act::body("application/json", ["{"])),
        ("too large", Act::say("x".repeat(2 << 20))),
    ];
    for (index, (what, act)) in acts.into_iter().enumerate() {
        for streamed in [false, true] {
            let ask = host.ask(&format!("{index} {streamed}"));
            let first = if streamed { ask.clone().streamed() } else { ask.clone() };
            // What is no answer is asked for twice.
            fake.always(act.clone());
            first.send();
            fake.always(Act::answer());
            let before = fake.count();
            let second = ask.send();
            assert_eq!((second.status, second.cache(), fake.count()), (200, "miss", before + 1), "{what}, streamed: {streamed}");
        }
    }
}

#[test]
fn a_stream_that_broke_is_never_stored() {
    let (fake, host) = host();
    let word = r#"{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}"#;
    let error = r#"{"error":{"message":"gone"}}"#;
    let acts = [
        Act::answer().cut_at(600),
        Act::answer().reset_at(600),
        Act::events([word]),
        Act::events([word, error, "[DONE]"]),
        Act::events([word, "[DONE]"]),
    ];
    for (index, act) in acts.into_iter().enumerate() {
        fake.next(act);
        let ask = host.ask(&format!("broken {index}"));
        ask.clone().streamed().send();
        assert_eq!(ask.send().cache(), "miss", "{index}");
    }
}

/// A client that leaves before the end leaves nothing behind.
#[test]
fn half_a_stream_is_not_stored() {
    let (fake, host) = host();
    fake.next(Act::answer().stall_at(600));
    let ask = host.ask("hi").streamed();
    let mut connection = tests::Connection::open(host.address);
    assert!(ask.live(&mut connection).portion().is_some());
    drop(connection);
    fake.wait_for_departures(1);
    assert_eq!(ask.send().cache(), "miss");
}

#[test]
fn entries_end_with_their_time_and_with_a_purge() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).section("[cache]\nttl = \"700ms\"").start();
    assert_eq!(host.chat("hi").cache(), "miss");
    assert_eq!(host.chat("hi").cache(), "exact");
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert_eq!(host.chat("hi").cache(), "miss");
    host.order("/api/cache/purge");
    assert_eq!(host.chat("hi").cache(), "miss");
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_cache_lookups_total", &["outcome=\"exact\""]), 1.0);
    assert_eq!(metrics.sum("pointsman_cache_lookups_total", &["outcome=\"miss\""]), 3.0);
}

/// What a stream's client saw is what the next one gets, or nothing is kept.
#[test]
fn a_stream_that_cannot_be_read_whole_is_not_kept() {
    let (fake, host) = host();
    let chunk = |text: &str| {
        format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}},\"finish_reason\":null}}]}}\n\n")
    };
    let stop = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let done = "data: [DONE]\n\n";
    let unreadable = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"not \"},\"logprob\":-Infinity}]}\n\n";
    let cases = [
        ("a chunk that is no JSON", [chunk("Do "), unreadable.into(), chunk("press it"), stop.into(), done.into()].concat(), 1),
        (
            "an event that is no chunk",
            [chunk("x"), stop.into(), "data: {\"message\":\"boom\"}\n\n".into(), done.into()].concat(),
            1,
        ),
        ("half of what was asked for", [chunk("x"), stop.into(), done.into()].concat(), 2),
    ];
    for (what, events, n) in cases {
        fake.next(Act::body("text/event-stream", [events]));
        let ask = || host.ask(what).set("n", json!(n)).streamed();
        assert_eq!((ask().send().cache(), ask().send().cache()), ("miss", "miss"), "{what}");
    }
    fake.next(Act::body("Text/Event-Stream", [[chunk("good"), stop.into(), done.into(), chunk("EVIL"), stop.into()].concat()]));
    assert_eq!(host.ask("after").streamed().send().cache(), "miss");
    check(&host.ask("after").send(), "exact", "good");
}

/// Somebody who tries out how near is near enough does not start over each time.
#[test]
fn entries_outlive_a_reload_that_they_go_with() {
    let fake = FakeUpstream::start();
    let section = "[cache]\nmax_entry = \"1MiB\"\nttl = \"1h\"\n[cache.semantic]\nwrong_hits = 0.05";
    let host = Host::new().upstream(&fake).section(section).start();
    assert_eq!(host.chat("hi").cache(), "miss");
    let done = || host.api("/api/reload")["done"].as_u64().unwrap();
    for (from, to, cache) in [
        ("wrong_hits = 0.05", "wrong_hits = 0.3", "exact"),
        ("max_entry = \"1MiB\"", "max_entry = \"2MiB\"", "exact"),
        ("ttl = \"1h\"", "ttl = \"30m\"", "miss"),
    ] {
        let before = done();
        host.folder.change(from, to);
        tests::eventually("the reload", || (done() > before).then_some(()));
        assert_eq!(host.chat("hi").cache(), cache, "{to}");
    }
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_cache_fills_total", &["outcome=\"stored\""]), 1.0, "the new one's");
}
