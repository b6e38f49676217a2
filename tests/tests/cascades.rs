//! Cascades: the small model answers first, and what is doubted of its answer is answered by the next one; as the configuration
//! says, and as a plugin does.

use serde_json::{Value, json};
use tests::door::Ask;
use tests::{Act, Answer, Connection, FakeUpstream, Fault, Gate, Host, Place, Plugin, Running, sse};

/// `steps` are `small` and `large`, with these rules between them.
fn host(fake: &FakeUpstream, rules: &str) -> Running {
    cascade(fake, rules).start()
}

fn cascade(fake: &FakeUpstream, rules: &str) -> Host {
    let section = format!("[models.steps]\nchoose = [\"small\", \"large\"]\n[models.steps.cascade]\n{rules}");
    Host::new().upstream(fake).section(&section)
}

/// What the small model says, and the large one.
fn fake(small: Act) -> FakeUpstream {
    let fake = FakeUpstream::start();
    fake.when("tiny-1", small);
    fake.when("giant-1", Act::say("A long and careful answer."));
    fake
}

fn ask(host: &Running, streamed: bool) -> Answer {
    let ask = host.ask("hi").model("steps");
    if streamed { ask.streamed().send() } else { ask.send() }
}

fn text(answer: &Answer, streamed: bool) -> String {
    if streamed { sse::content(&answer.body) } else { answer.content() }
}

fn check(act: Act, rules: &str, doubt: Option<&str>) {
    for streamed in [false, true] {
        let fake = fake(act.clone());
        let host = host(&fake, rules);
        let answer = ask(&host, streamed);
        let what = format!("{rules}, streamed {streamed}: {}", answer.text());
        assert_eq!((answer.status, answer.whole), (200, true), "{what}");
        assert_eq!(answer.header("x-pointsman-escalated"), doubt, "{what}");
        let model = if doubt.is_some() { "large" } else { "small" };
        assert_eq!(answer.header("x-pointsman-model"), Some(model), "{what}");
        assert_eq!(text(&answer, streamed).starts_with("A long"), doubt.is_some(), "{what}");
        assert!(!streamed || sse::is_done(&answer.body), "{what}");
        assert!(!answer.text().contains("\"logprob\""), "the client has not asked for them: {what}");
        assert_eq!(fake.count(), 1 + usize::from(doubt.is_some()), "{what}");
        for doubt in doubt.into_iter() {
            assert_eq!(host.metrics().sum("pointsman_escalations_total", &[&format!("reason=\"{doubt}\"")]), 1.0, "{what}");
        }
    }
}

#[test]
fn what_is_doubted_is_answered_by_the_next_model() {
    let sure = || Act::say("Paris is its capital.");
    check(sure(), "min_logprob = -0.5", None);
    check(Act::say("Is it? Paris? Rome?"), "min_logprob = -0.5", Some("logprob"));
    check(sure(), "refusals = true\nmin_chars = 5", None);
    check(Act::say("I'm sorry, but I cannot help with that."), "refusals = true", Some("refusal"));
    check(Act::say("No."), "min_chars = 5", Some("short"));
    // An answer without log-probabilities is not judged by them.
    check(
        Act::say("Is it? Paris?").edit(|completion| completion["choices"][0]["logprobs"] = Value::Null),
        "min_logprob = -0.5",
        None,
    );
    check(Act::refuse(400, "context_length_exceeded"), "refusals = true", Some("too-long"));
}

#[test]
fn where_json_is_asked_for_json_is_demanded() {
    for (said, expect) in [("{\"a\": 1}", None), ("Here it is: {}", Some("json"))] {
        for streamed in [false, true] {
            let fake = fake(Act::say(said));
            let host = host(&fake, "json = true");
            let ask = host.ask("hi").model("steps").set("response_format", json!({ "type": "json_object" }));
            let answer = if streamed { ask.streamed().send() } else { ask.send() };
            assert_eq!((answer.status, answer.header("x-pointsman-escalated")), (200, expect), "{said}, {streamed}");
            assert_eq!(host.ask("hi").model("steps").send().header("x-pointsman-escalated"), None, "no JSON was asked for");
        }
    }
}

/// The first words decide; the rest passes as it comes.
#[test]
fn a_stream_is_held_back_only_until_the_judge_has_seen_enough() {
    let gate = Gate::new();
    let many = (0..40).map(|word| format!("word{word}")).collect::<Vec<_>>().join(" ");
    let fake = fake(Act::say(many.clone()).at(Place::Piece(20, 0), Fault::Hold(gate.clone())));
    let host = host(&fake, "min_logprob = -0.5\ntokens = 8");
    let mut connection = Connection::open(host.address);
    let mut live = host.ask("hi").model("steps").streamed().live(&mut connection);
    let mut stream = Vec::new();
    while !sse::content(&stream).contains("word18") {
        stream.extend(live.portion().expect("eighteen words are there"));
    }
    assert!(!sse::content(&stream).contains("word19"));
    assert_eq!(live.head.header("x-pointsman-model"), Some("small"));
    gate.open();
    while let Some(portion) = live.portion() {
        stream.extend(portion);
    }
    assert_eq!((sse::content(&stream), sse::is_done(&stream), live.is_whole()), (many, true, true));
}

/// The large model need not be asked for what the small one has said only later.
#[test]
fn a_doubted_stream_is_left_and_what_it_has_cost_is_counted() {
    let gate = Gate::new();
    let fake = fake(Act::say("Is it? Paris? Rome? Bonn? Oslo?").at(Place::Piece(4, 0), Fault::Hold(gate)));
    let host = host(&fake, "min_logprob = -0.5\ntokens = 3");
    let answer = ask(&host, true);
    assert_eq!(
        (answer.header("x-pointsman-escalated"), sse::content(&answer.body).as_str()),
        (Some("logprob"), "A long and careful answer.")
    );
    tests::eventually("the small model's stream is left", || (fake.active() == 0).then_some(()));
    let dropped = host.metrics().sum("pointsman_discarded_cost_micro_usd_total", &[]);
    assert!(dropped >= 1.0, "{dropped}");
}

#[test]
fn the_cost_has_every_answer_in_it() {
    let fake = fake(Act::say("No?"));
    let host = host(&fake, "min_logprob = -0.5");
    assert_eq!(ask(&host, false).header("x-pointsman-model"), Some("large"));
    let metrics = host.metrics();
    let cost = |name: &str| metrics.sum(name, &[]);
    // 7 tokens of the prompt; one word of the small model, five of the large one; each call rounded up.
    assert_eq!(cost("pointsman_discarded_cost_micro_usd_total"), 1.0);
    assert_eq!(cost("pointsman_cost_micro_usd_total"), 7.0 * 2.0 + 5.0 * 8.0 + 1.0);
}

/// A simpler answer is better than an error.
#[test]
fn a_doubted_answer_is_kept_where_nothing_better_comes() {
    for streamed in [false, true] {
        let fake = fake(Act::say("Is it Paris?"));
        fake.when("giant-1", Act::refuse(500, "broken"));
        let host = cascade(&fake, "min_logprob = -0.5").cache().start();
        for _ in 0..2 {
            let answer = ask(&host, streamed);
            assert_eq!((answer.status, answer.cache()), (200, "miss"), "it is not kept for others: {}", answer.text());
            assert_eq!(answer.header("x-pointsman-escalated"), Some("logprob, kept"));
            assert_eq!((answer.header("x-pointsman-model"), text(&answer, streamed).as_str()), (Some("small"), "Is it Paris?"));
        }
    }
}

/// What breaks while it is held back has not begun for the client.
#[test]
fn a_stream_that_breaks_while_it_is_held_back_is_answered_elsewhere() {
    let fake = fake(Act::say("Paris is its capital, as far as I know.").at(Place::Piece(5, 0), Fault::Cut));
    let host = host(&fake, "min_logprob = -0.5");
    let answer = ask(&host, true);
    assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("large")), "{}", answer.text());
    assert_eq!((sse::content(&answer.body).as_str(), sse::is_done(&answer.body)), ("A long and careful answer.", true));
}

#[test]
fn escalated_answers_are_answers_and_are_kept_for_others() {
    let fake = fake(Act::say("Is it Paris?"));
    let host = cascade(&fake, "min_logprob = -0.5").cache().start();
    assert_eq!(ask(&host, false).cache(), "miss");
    let again = ask(&host, true);
    assert_eq!((again.cache(), again.header("x-pointsman-model")), ("exact", Some("large")));
    assert_eq!(fake.count(), 2);
}

/// A model that cannot say log-probabilities refuses requests for them; the client has sent none.
#[test]
fn a_model_without_logprobs_is_asked_without() {
    let fake = FakeUpstream::start();
    fake.when("\"logprobs\":true", Act::refuse(400, "logprobs_unsupported"));
    let host = host(&fake, "min_logprob = -0.5");
    for streamed in [false, true] {
        let answer = ask(&host, streamed);
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("small")), "{}", answer.text());
    }
    assert_eq!(fake.count(), 3);
}

#[test]
fn who_asks_for_logprobs_gets_them() {
    let fake = fake(Act::say("Paris is its capital."));
    let host = host(&fake, "min_logprob = -0.5");
    let asked = host.ask("hi").model("steps").set("logprobs", json!(true));
    assert!(asked.send().json()["choices"][0]["logprobs"]["content"][0]["logprob"].is_number());
    let streamed = asked.streamed().send();
    assert!(sse::chunks(&streamed.body).iter().any(|chunk| chunk["choices"][0]["logprobs"]["content"][0]["logprob"].is_number()));
}

#[test]
fn a_model_can_be_asked_whether_an_answer_is_good() {
    for (verdict, expect) in [("Yes.", None), ("No, it is not.", Some("self-check"))] {
        for streamed in [false, true] {
            let fake = fake(Act::say("Paris."));
            fake.when("Is it good", Act::say(verdict));
            let rules = "self_check = { model = \"small\", ask = \"Q: {question} A: {answer} Is it good?\" }";
            let host = host(&fake, rules);
            let answer = ask(&host, streamed);
            assert_eq!((answer.status, answer.header("x-pointsman-escalated")), (200, expect), "{verdict}");
            let asked = &fake.requests()[1];
            assert_eq!(asked.json()["messages"][0]["content"], "Q: hi A: Paris. Is it good?");
            // The small model's answer, where it was dropped, and the question about it.
            let dropped = 1.0 + f64::from(u8::from(expect.is_some()));
            assert_eq!(host.metrics().sum("pointsman_discarded_cost_micro_usd_total", &[]), dropped, "{verdict}, {streamed}");
        }
    }
}

#[test]
fn a_failure_of_the_small_model_is_followed_by_the_large_one() {
    let fake = fake(Act::refuse(503, "busy"));
    let host = host(&fake, "refusals = true");
    let answer = ask(&host, false);
    assert_eq!(
        (answer.status, answer.header("x-pointsman-model"), answer.header("x-pointsman-escalated")),
        (200, Some("large"), None)
    );
}

fn puppet(fake: &FakeUpstream) -> Running {
    Host::new().upstream(fake).plugin(Plugin::puppet().set("deadline = \"500ms\"")).cache().start()
}

fn plan(host: &Running, plan: Value, after: Value) -> Ask {
    host.ask("hi").model("auto").puppet("route", json!({ "plan": plan })).puppet("after", after)
}

#[test]
fn a_plugin_says_what_follows_an_answer() {
    let both = json!({ "targets": ["small", "large"], "review": { "answers": true } });
    let one = json!({ "targets": ["small"], "review": { "answers": true } });
    let cases = [
        (&both, json!(["accept"]), "small", None, 1),
        (&both, json!(["fall-back"]), "large", Some("plugin"), 2),
        (&one, json!([{ "escalate": "large" }]), "large", Some("plugin"), 2),
        (&one, json!([{ "again": 1 }, "accept"]), "small", Some("plugin"), 2),
        (&one, json!(["fall-back"]), "small", Some("plugin, kept"), 1),
        // One that fails has no objection.
        (&one, json!([{ "misdeed": "panic" }]), "small", None, 1),
        (&one, json!([{ "escalate": "vectors" }]), "small", None, 1),
        (&json!({ "targets": ["small"] }), json!([{ "escalate": "large" }]), "small", None, 1),
    ];
    for (targets, after, model, escalated, count) in cases {
        for streamed in [false, true] {
            let fake = fake(Act::say("A short one."));
            let host = puppet(&fake);
            let ask = plan(&host, targets.clone(), after.clone());
            let answer = if streamed { ask.streamed().send() } else { ask.send() };
            let what = format!("{targets} {after} {streamed}: {}", answer.text());
            assert_eq!((answer.status, answer.whole), (200, true), "{what}");
            assert_eq!(
                (answer.header("x-pointsman-model"), answer.header("x-pointsman-escalated")),
                (Some(model), escalated),
                "{what}"
            );
            assert_eq!(fake.count(), count, "{what}");
        }
    }
}

#[test]
fn a_plugin_says_what_follows_a_failure() {
    let one = json!({ "targets": ["small"], "review": {} });
    for (after, status, model, count) in [
        (json!([{ "escalate": "large" }]), 200, Some("large"), 2),
        (json!([{ "again": 1 }]), 503, Some("small"), 2),
        (json!(["accept", "accept"]), 503, Some("small"), 1),
        (json!([{ "reject": { "status": 429, "code": "later", "message": "Come back." } }]), 429, None, 1),
    ] {
        let fake = fake(Act::refuse(503, "busy"));
        let host =
            Host::new().upstream(&fake).provider("retries = 0").plugin(Plugin::puppet().set("deadline = \"500ms\"")).start();
        let answer = plan(&host, one.clone(), after.clone()).send();
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (status, model), "{after}: {}", answer.text());
        assert_eq!(fake.count(), count, "{after}");
    }
}

#[test]
fn what_a_plugin_is_told_of_an_attempt() {
    let fake = fake(Act::say("Paris? It is Paris, as I said."));
    let host = puppet(&fake);
    let review =
        |tokens: u32| json!({ "targets": ["small", "large"], "review": { "answers": true, "logprobs": true, "tokens": tokens } });
    let told = |answer: Answer| answer.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    let plain = told(plan(&host, review(3), json!(["tell"])).send());
    for part in [
        "number: 1",
        "model: \"small\"",
        "failure: None",
        "status: Some(200)",
        "cost: Some(2)",
        "left: 1",
        "as I said.\"",
        "true))",
        "calls 1",
    ] {
        assert!(plain.contains(part), "{part}: {plain}");
    }
    let streamed = told(plan(&host, review(3), json!(["tell"])).streamed().send());
    assert!(streamed.contains("(\"Paris? It \", Some(-1.05), false)"), "{streamed}");
    let whole = told(plan(&host, review(4_096), json!(["tell"])).streamed().send());
    assert!(whole.contains("as I said.\"") && whole.contains("true))"), "{whole}");
    let refused = json!({ "targets": ["small"], "review": {} });
    fake.when("tiny-1", Act::refuse(503, "busy").header("retry-after", "2"));
    let failed = told(plan(&host, refused.clone(), json!(["tell"])).send());
    for part in ["code: \"upstream_broken\"", "status: Some(503)", "retry-after-ms: Some(2000)", " None calls 1"] {
        assert!(failed.contains(part), "{part}: {failed}");
    }
    fake.when("tiny-1", Act::refuse(422, "odd"));
    let odd = told(plan(&host, refused, json!(["tell"])).send());
    assert!(odd.contains("failure: None") && odd.contains("status: Some(422)"), "{odd}");
}

/// However often a plugin wants to try again.
#[test]
fn attempts_are_bounded() {
    let fake = fake(Act::say("A short one."));
    let host = puppet(&fake);
    let again = json!(vec![json!({ "again": 0 }); 40]);
    let answer = plan(&host, json!({ "targets": ["small"], "review": { "answers": true } }), again).send();
    assert_eq!((answer.status, fake.count()), (200, 16));
    tests::eventually("all is over", || (fake.active() == 0).then_some(()));
}

/// A doubted stream held the place that the next model waited for.
#[test]
fn a_doubted_answer_gives_its_place_to_the_next_one() {
    let fake = fake(Act::say("Is it? Paris? Rome? Bonn? Oslo?"));
    fake.when("Is it good", Act::say("no"));
    let gate = "concurrency = { start = 1, min = 1, max = 1, queue = 8, wait = \"20s\" }";
    let rules = ["min_logprob = -0.5\ntokens = 3", "self_check = { model = \"small\", ask = \"{answer} Is it good?\" }"];
    for (rules, one) in rules.iter().flat_map(|rules| [(rules, gate), (rules, "in_flight = 1")]) {
        let host = cascade(&fake, rules).provider(one).start();
        let answer = ask(&host, true);
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("large")), "{rules}: {}", answer.text());
        tests::eventually("all places are free", || {
            (host.metrics().sum("pointsman_upstream_in_flight", &[]) == 0.0).then_some(())
        });
    }
}

/// A refusal of the request itself is not asked for twice, and a model that cannot say log-probabilities is asked for them once.
#[test]
fn what_cannot_be_had_is_asked_for_once() {
    let fake = FakeUpstream::start();
    fake.when("\"logprobs\":true", Act::refuse(400, "logprobs_unsupported"));
    let host = host(&fake, "min_logprob = -0.5");
    (0..3).for_each(|_| assert_eq!(ask(&host, false).status, 200));
    assert_eq!(fake.count(), 4);
    fake.when("tiny-1", Act::refuse(400, "odd"));
    let answer = ask(&host, false);
    assert_eq!((answer.status, answer.code().as_str(), fake.count()), (400, "odd", 5));
}

/// What was paid for is booked, also where a plugin then refuses the request.
#[test]
fn a_refused_answer_has_its_price() {
    let fake = fake(Act::say("A short one."));
    let host = puppet(&fake);
    let reject = json!([{ "reject": { "status": 403, "code": "no", "message": "No." } }]);
    let answer = plan(&host, json!({ "targets": ["small"], "review": { "answers": true } }), reject).send();
    assert_eq!((answer.status, answer.code().as_str()), (403, "no"));
    assert_eq!(host.metrics().sum("pointsman_cost_micro_usd_total", &[]), 1.0);
}

/// The large model's refusal took the place of an answer that was there.
#[test]
fn a_doubted_answer_is_better_than_a_refusal() {
    for streamed in [false, true] {
        let fake = fake(Act::say("Is it Paris?"));
        fake.when("giant-1", Act::refuse(400, "max_tokens_too_large"));
        let host = host(&fake, "min_logprob = -0.5");
        let answer = ask(&host, streamed);
        assert_eq!((answer.status, answer.header("x-pointsman-escalated")), (200, Some("logprob, kept")), "{}", answer.text());
        assert_eq!(text(&answer, streamed), "Is it Paris?");
    }
}

/// Time that the large model has used up was missing for what is kept.
#[test]
fn a_kept_stream_is_whole_where_the_next_model_used_up_the_time() {
    let fake = fake(Act::say("Is it Paris?"));
    fake.when("giant-1", Act::silent());
    let host = cascade(&fake, "min_logprob = -0.5").provider("timeouts = { total = \"2s\" }").start();
    let answer = ask(&host, true);
    assert_eq!(answer.header("x-pointsman-escalated"), Some("logprob, kept"), "{}", answer.text());
    assert_eq!((sse::content(&answer.body).as_str(), sse::is_done(&answer.body)), ("Is it Paris?", true));
}

/// Counts that no model has said so far ended the exchange, and its client's answer.
#[test]
fn impossible_counts_are_no_end() {
    let boast =
        |completion: &mut Value| completion["usage"] = json!({ "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX });
    let fake = fake(Act::say("Is it Paris?").edit(boast));
    fake.when("giant-1", Act::say("Yes.").edit(boast));
    let host = host(&fake, "min_logprob = -0.5");
    assert_eq!((ask(&host, false).status, ask(&host, true).status), (200, 200));
}

/// One event that is no chunk, a second choice that ended first, or a megabyte: an answer with any of them passed, whatever it said.
#[test]
fn what_can_be_read_of_an_answer_is_judged() {
    let said = |index: u32, text: &str, finish: Value| {
        json!({ "choices": [{ "index": index, "delta": { "content": text }, "finish_reason": finish }] }).to_string()
    };
    let end = || [said(0, ".", json!("stop")), "[DONE]".to_owned()];
    let ping = || json!({ "type": "ping" }).to_string();
    let refusal = || said(0, "I cannot say.", Value::Null);
    let long = std::iter::once(refusal()).chain((0..40).map(|_| said(0, &"x".repeat(40_000), Value::Null)));
    let second_first = [said(1, "Yes, it is.", json!("stop")), said(0, "Y", Value::Null), said(0, "es, it is.", Value::Null)];
    let cases = [
        (Act::events([ping(), refusal(), ping()].into_iter().chain(end())), "refusals = true", Some("refusal")),
        (Act::events(long.chain(end())), "refusals = true\ntokens = 1000", Some("refusal")),
        (Act::events(second_first.into_iter().chain(end())), "min_chars = 5\ntokens = 2", None),
    ];
    for (act, rules, doubt) in cases {
        let fake = fake(act);
        let host = host(&fake, rules);
        let answer = ask(&host, true);
        assert_eq!((answer.status, answer.header("x-pointsman-escalated")), (200, doubt), "{rules}");
        assert!(answer.whole && sse::is_done(&answer.body), "{rules}");
        assert_eq!(host.metrics().sum("pointsman_unjudged_total", &[]), 0.0, "{rules}");
    }
}

#[test]
fn what_cannot_be_judged_passes_and_is_counted() {
    let check = "self_check = { model = \"small\", ask = \"{answer} Is it good?\" }";
    let long = format!("word {}", "x".repeat(2 << 20));
    for (act, rules) in [
        (Act::body("application/json", [r#"{"output":"Hello."}"#]), "refusals = true"),
        (Act::say("Paris."), check),
        // Half an answer is no answer to ask about.
        (Act::say(long), check),
    ] {
        let fake = fake(act);
        fake.when("Is it good", Act::refuse(500, "broken"));
        let host = host(&fake, rules);
        let answer = ask(&host, true);
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("small")), "{rules}");
        tests::eventually("it is counted", || (host.metrics().sum("pointsman_unjudged_total", &[]) == 1.0).then_some(()));
    }
}
