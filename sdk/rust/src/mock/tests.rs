//! The stand-ins have the contract's meaning. What a real host does in the same place is held by the tests of the host; the numbers here are
//! the same ones.

use std::time::Duration;

use super::*;
use crate::upstreams::{Price, Upstream};
use crate::{Plan, PluginError, clock, config, embeddings, kv, log, metrics, random, upstreams};

#[test]
fn settings() {
    let host = Host::new().config("limit", 400).config("small", "mini").config("arms", json!({ "v1": 90, "v2": 10 }));
    host.run(|_, _| {
        assert_eq!((config::parse::<u32>("limit"), config::require::<String>("small")), (Ok(Some(400)), Ok("mini".to_owned())));
        assert_eq!(config::table::<u32>("arms").unwrap(), [("v1".to_owned(), 90), ("v2".to_owned(), 10)]);
        assert_eq!(
            (config::get("none"), config::document()),
            (None, r#"{"limit":400,"small":"mini","arms":{"v1":90,"v2":10}}"#.into())
        );
    });
}

#[test]
fn a_request_is_read_as_in_a_host() {
    let parts = json!([{ "type": "text", "text": "What is" }, { "type": "image_url" }, { "type": "text", "text": "this?" }]);
    let body = json!({
        "model": "large", "stream": true, "max_tokens": 5, "temperature": 0.5, "tools": [{}], "user": "ada",
        "prompt": { "id": "support", "version": "v2" },
        "messages": [{ "role": "developer", "content": "Be brief." }, { "role": "user", "content": parts }, { "role": "odd", "content": 1 }],
    });
    let host = Host::new()
        .body(body)
        .header("X-User", "7")
        .header("Authorization", "Bearer x")
        .label("topic", "old")
        .label("topic", "new");
    host.run(|head, request| {
        assert_eq!((head.model.as_str(), head.streaming, head.max_tokens, head.temperature), ("large", true, Some(5), Some(0.5)));
        assert!(head.has_tools && head.prompt.as_ref().is_some_and(|prompt| prompt.version.as_deref() == Some("v2")));
        let roles: Vec<_> = request.messages().map(|message| message.role).collect();
        assert_eq!(roles, [Role::Developer, Role::User, Role::User], "an unknown role is the least trusted one");
        assert_eq!((request.last_user_text(u32::MAX), request.last_user_text(6)), ("What is\nthis?".into(), "What i".into()));
        assert_eq!(
            (request.text_at("/user"), request.json("/stream"), request.json("/none")),
            (Some("ada".into()), Some("true".into()), None)
        );
        assert_eq!(request.headers(&["x-user", "authorization"]), [Some("7".to_owned()), None]);
        assert_eq!((request.header_names(), request.message_count(), request.message(9)), (vec!["x-user".to_owned()], 3, None));
        assert_eq!((request.metadata("topic").as_deref(), request.metadata("other")), (Some("new"), None));
    });
    // `"content":"Hello"` and what is around it: 36 bytes.
    let host = Host::new().message(Role::User, "Hello");
    assert_eq!(host.run(|head, _| head.prompt_tokens), 9);
    assert_eq!(host.head(|head| head.prompt_tokens = 500).run(|head, _| head.prompt_tokens), 500);
    assert_eq!(Host::new().run(|_, request| request.last_user_text(9)), "");
}

#[test]
fn models_and_their_prices() {
    let priced = Upstream { price: Some(Price { input: 3, output: 1_000_000 }), ..upstream("small") };
    let host = Host::new().upstream(priced).upstream(upstream("large"));
    host.run(|_, _| {
        assert_eq!(upstreams::candidates().iter().map(|found| found.model.as_str()).collect::<Vec<_>>(), ["small", "large"]);
        assert_eq!((upstreams::get("large").map(|found| found.endpoints), upstreams::get("huge")), (Some(1), None));
        // Rounded up, as a host does.
        assert_eq!([upstreams::estimate("small", 1, 1), upstreams::estimate("small", 1, 0)], [Some(2), Some(1)]);
        assert_eq!((upstreams::estimate("large", 1, 1), upstreams::estimate("huge", 1, 1)), (None, None));
    });
}

#[test]
fn what_is_near() {
    use embeddings::EmbedError;
    let host =
        Host::new().example("task", &[("talk", 0.2), ("code", 0.9)]).embedding("a", &[3.0, 4.0]).embedding("b", &[4.0, 3.0]);
    host.run(|_, _| {
        assert_eq!(embeddings::classify("task", 2), Err(EmbedError::Empty), "there is no question");
        assert_eq!(embeddings::embed("a").unwrap(), [0.6, 0.8]);
        assert!((embeddings::similarity("a", "b").unwrap() - 0.96).abs() < 1e-6);
        assert_eq!((embeddings::embed("c"), embeddings::embed("")), (Err(EmbedError::Unavailable), Err(EmbedError::Empty)));
    });
    let host = host.message(Role::User, "a");
    host.run(|_, _| {
        let labels = |k| embeddings::classify("task", k).unwrap().into_iter().map(|found| found.label).collect::<Vec<_>>();
        assert_eq!((labels(1), labels(9)), (vec!["code".to_owned()], vec!["code".to_owned(), "talk".to_owned()]));
        assert_eq!(
            (embeddings::classify("none", 1), embeddings::prompt_embedding()),
            (Err(EmbedError::Unavailable), Ok(vec![0.6, 0.8]))
        );
    });
    let host = host.no_embedding(EmbedError::Busy);
    assert_eq!(host.run(|_, _| embeddings::classify("task", 1)), Err(EmbedError::Busy));
}

/// The three buckets are part of the contract: a host's own test has them too.
#[test]
fn time_and_chance() {
    let host = Host::new().now(1_000_000).seed(7);
    let drawn = host.run(|_, _| {
        assert_eq!([random::bucket("a", "x", 100), random::bucket("a", "y", 100), random::bucket("b", "x", 100)], [4, 86, 18]);
        assert_eq!((random::bucket("a", "x", 0), clock::now(), clock::elapsed_us()), (0, 1_000_000, 0));
        [random::u64(), random::u64()]
    });
    assert_ne!(drawn[0], drawn[1]);
    host.advance(Duration::from_micros(2_500));
    assert_eq!(host.run(|_, _| (clock::now(), clock::elapsed_us())), (1_000_002, 2_500));
    assert_eq!(Host::new().seed(7).run(|_, _| [random::u64(), random::u64()]), drawn);
}

#[test]
fn what_is_kept() {
    use kv::KvError;
    let minute = Some(Duration::from_secs(60));
    let host = Host::new().kept("seen", "once").kept("spent", 40);
    host.run(|_, _| {
        assert_eq!((kv::get("seen"), kv::parse::<i64>("spent")), (Ok(Some(b"once".to_vec())), Ok(Some(40))));
        assert_eq!((kv::increment("spent", 2, None), kv::increment("seen", 1, None)), (Ok(42), Err(KvError::NotANumber)));
        assert_eq!(
            (kv::increment("spent", i64::MAX, None), kv::delete("spent"), kv::delete("spent")),
            (Ok(i64::MAX), Ok(true), Ok(false))
        );
        assert_eq!((kv::increment("window", 1, minute), kv::set("note", "x", minute)), (Ok(1), Ok(())));
        assert_eq!(kv::compare_and_set("note", Some(b"y"), "z", None), Ok(false));
        assert_eq!(kv::compare_and_set("fresh", None, "z", None), Ok(true));
        assert_eq!((kv::get(""), kv::set("k", [0; 70_000], None)), (Err(KvError::TooLarge), Err(KvError::TooLarge)));
    });
    host.advance(Duration::from_secs(59));
    // A counter keeps the time that it has.
    assert_eq!(host.run(|_, _| kv::increment("window", 1, minute)), Ok(2));
    host.advance(Duration::from_secs(1));
    assert_eq!((host.stored("window"), host.stored("note"), host.stored("seen").as_deref()), (None, None, Some("once")));
    let host = host.tenant("other");
    assert_eq!((host.stored("seen"), host.run(|_, _| kv::get("seen"))), (None, Ok(None)), "another tenant's");

    // A tenant counts 1,024 bytes, an entry 256 and its key and value.
    let host = Host::new().room(2, 1_024 + 2 * 256 + 4);
    host.run(|_, _| {
        assert_eq!((kv::set("a", "x", None), kv::set("b", "xx", None)), (Ok(()), Err(KvError::Quota)));
        assert_eq!(
            (kv::increment("b", 1, None), kv::set("c", "", None)),
            (Ok(1), Err(KvError::Quota)),
            "and two entries at most"
        );
        assert_eq!((kv::set("a", "y", None), kv::get("a")), (Ok(()), Ok(Some(b"y".to_vec()))));
    });
    assert_eq!(Host::new().no_store().run(|_, _| kv::get("a")), Err(KvError::Unavailable));
}

struct Leaver;

impl Routing for Leaver {
    fn check() -> Result<()> {
        assert!(upstreams::candidates().is_empty() && kv::get("a").is_err() && clock::now() == 0, "there is no exchange");
        config::require::<u32>("limit").map(drop)
    }

    fn route(_: &RequestHead, request: &Request) -> Result<Decision> {
        request.label("topic", "maths");
        request.label("", "has no name");
        log::info!("nearest: {}", "maths"; score = 0.5);
        metrics::increment("asked", 2, &[("b", "2"), ("a", "1")]);
        metrics::gauge("load", 0.5, &[]);
        metrics::observe("tokens", 3.0, &[]);
        if request.header("x-fail").is_some() { Err(PluginError::Internal("no".into())) } else { Ok(Decision::Pass) }
    }

    fn after_attempt(_: &RequestHead, _: &Request, last: &Attempt, answer: Option<&crate::Response>) -> Result<NextStep> {
        let unsure = answer.is_none_or(|answer| answer.mean_logprob().is_some_and(|mean| mean < -0.5) && answer.is_whole());
        assert!(answer.is_none_or(|answer| answer.text(3) == "Par" && answer.text_at("/choices/0/finish_reason").is_some()));
        Ok(if unsure && last.left > 0 { NextStep::FallBack } else { NextStep::Accept })
    }
}

#[test]
fn what_a_hook_leaves() {
    let host = Host::new().upstream(upstream("small")).kept("a", 1);
    assert_eq!(host.route::<Leaver>(), Ok(Decision::Pass));
    assert_eq!(host.labels(), [("topic".to_owned(), "maths".to_owned())]);
    assert_eq!(host.run(|_, request| request.metadata("topic")), Some("maths".to_owned()), "the next hook sees it");
    let lines = host.lines();
    assert_eq!((lines.len(), lines[0].level, lines[0].message.as_str()), (1, Level::Info, "nearest: maths"));
    assert_eq!(lines[0].fields, [("score".to_owned(), "0.5".to_owned())]);

    let host = host.header("x-fail", "1");
    assert_eq!(host.route::<Leaver>(), Err(PluginError::Internal("no".into())));
    assert_eq!((host.labels(), host.lines().len()), (vec![], 1), "a call that fails leaves no labels");
    assert_eq!((host.counted("asked", &[("a", "1"), ("b", "2")]), host.counted("asked", &[])), (4, 0));
    assert_eq!((host.gauged("load", &[]), host.observed("tokens", &[])), (Some(0.5), vec![3.0, 3.0]));
}

#[test]
fn a_check_has_no_exchange() {
    let host = Host::new().upstream(upstream("small")).kept("a", 1);
    assert!(host.check(<Leaver as Routing>::check).unwrap_err().to_string().contains("`limit` is missing"));
    assert_eq!(host.config("limit", 1).check(<Leaver as Routing>::check), Ok(()));
}

#[test]
fn answers() {
    let host = Host::new();
    let (last, unsure) = (Attempt { left: 1, ..attempt("small") }, Answer::of("Paris").mean_logprob(-0.9));
    assert_eq!(host.after_attempt::<Leaver>(&last, Some(&unsure)), Ok(NextStep::FallBack));
    assert_eq!(host.after_attempt::<Leaver>(&last, Some(&unsure.clone().begun())), Ok(NextStep::Accept));
    assert_eq!(host.after_attempt::<Leaver>(&last, Some(&Answer::of("Paris"))), Ok(NextStep::Accept));
    assert_eq!(host.after_attempt::<Leaver>(&last, None), Ok(NextStep::FallBack));
}

#[test]
#[should_panic(expected = "there is no host here")]
fn without_a_host() {
    let _ = Plan::to("small");
    drop(config::get("limit"));
}
