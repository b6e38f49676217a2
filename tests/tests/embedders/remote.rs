//! An embeddings API of a provider as the embedder: batches, and what a slow or failing one costs.

use std::time::{Duration, Instant};

use tests::{Act, FakeUpstream, Host, Running};

use super::cache;

/// A host whose near hits are found by vectors of an upstream of its own.
fn host(vectors: &FakeUpstream, chat: &FakeUpstream, settings: &str) -> Running {
    let section = format!(
        "[providers.embeds]\nkind = \"openai\"\nendpoints = [\"{}\"]\nretries = 0\n[models.far]\nprovider = \"embeds\"\nname = \"far-1\"\nkind = \"embedding\"\n\
         [embedders.remote]\nmodel = \"far\"\n{settings}\n[cache]\n[cache.semantic]\nembedder = \"remote\"\nwrong_hits = 0.05",
        vectors.url()
    );
    Host::new().upstream(chat).section(&section).start()
}

fn counted(host: &Running, outcome: &str) -> f64 {
    host.metrics().sum("pointsman_embedder_texts_total", &["embedder=\"remote@", &format!("outcome=\"{outcome}\"")])
}

#[test]
fn near_hits_are_found_by_a_providers_vectors() {
    let (vectors, chat) = (FakeUpstream::start(), FakeUpstream::start());
    let host = host(&vectors, &chat, "dimensions = 3");
    let first = host.chat("How do I reset my password?");
    assert_eq!(cache(&first), "miss");
    assert_eq!(vectors.last().line, "POST /v1/embeddings HTTP/1.1");
    assert_eq!(vectors.last().text(), r#"{"model":"far-1","input":["How do I reset my password?"],"dimensions":3}"#);
    let hit = host.chat("how do i reset my password");
    assert_eq!((cache(&hit).as_str(), hit.as_stored() == first.text(), chat.count(), vectors.count()), ("semantic", true, 1, 2));
    // The same question is found without a vector.
    assert_eq!((cache(&host.chat("How do I reset my password?")).as_str(), vectors.count()), ("exact", 2));
    assert_eq!(counted(&host, "done"), 2.0);
}

/// While a request is under way, texts wait; then they go together.
#[test]
fn what_waits_goes_in_one_request() {
    let (vectors, chat) = (FakeUpstream::start(), FakeUpstream::start());
    vectors.always(Act::answer().delay(Duration::from_millis(100)));
    let host = host(&vectors, &chat, "workers = 1\nbatch = 8\ntimeout = \"10s\"");
    std::thread::scope(|scope| {
        for number in 0..24 {
            let host = &host;
            scope.spawn(move || assert_eq!(host.chat(&format!("question number {number}")).status, 200));
        }
    });
    assert_eq!(counted(&host, "done"), 24.0);
    let sizes: Vec<usize> = vectors.requests().iter().map(|seen| seen.json()["input"].as_array().unwrap().len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 24);
    assert!(sizes.len() <= 8 && sizes.iter().all(|size| *size <= 8), "{sizes:?}");
}

/// A provider that says nothing costs each exchange its `timeout` for a while, and nothing after that; it costs no answer.
#[test]
fn a_silent_provider_costs_its_timeout_and_is_then_left_alone() {
    let (vectors, chat) = (FakeUpstream::start(), FakeUpstream::start());
    vectors.always(Act::silent());
    let host = host(&vectors, &chat, "timeout = \"200ms\"");
    let mut slow = 0;
    for number in 0..8 {
        let began = Instant::now();
        assert_eq!(cache(&host.chat(&format!("question {number}"))), "miss");
        slow += u32::from(began.elapsed() >= Duration::from_millis(190));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    assert!((3..=4).contains(&slow), "{slow} waited");
    assert_eq!(counted(&host, "late"), f64::from(slow));
    assert_eq!(counted(&host, "left_alone"), f64::from(8 - slow));
}

/// Whatever comes in place of vectors, the exchange goes on, and nothing false is kept.
#[test]
fn what_is_no_vector_is_none() {
    let (vectors, chat) = (FakeUpstream::start(), FakeUpstream::start());
    let host = host(&vectors, &chat, "");
    let body = |text: &'static str| Act::body("application/json", [text]);
    for (number, act) in [
        Act::refuse(500, "down"),
        body(r#"{"data":[]}"#),
        Act::answer(),
        body(r#"{"data":[{"index":0,"embedding":[0.5]}]}"#),
        body("no JSON"),
        Act::answer(),
        Act::answer().cut_at(20),
    ]
    .into_iter()
    .enumerate()
    {
        vectors.next(act);
        assert_eq!(cache(&host.chat(&format!("How do I write the number {number}?"))), "miss");
    }
    assert_eq!((counted(&host, "failed"), counted(&host, "done")), (5.0, 2.0));
}

#[test]
fn a_reload_that_changes_nothing_of_it_keeps_entries_and_counts() {
    let (vectors, chat) = (FakeUpstream::start(), FakeUpstream::start());
    let host = host(&vectors, &chat, "");
    host.chat("How do I reset my password?");
    let text = std::fs::read_to_string(host.folder.config()).unwrap();
    host.folder.write("pointsman.toml", text.replace("wrong_hits = 0.05", "wrong_hits = 0.06").as_bytes());
    tests::eventually("it is reloaded", || {
        (host.metrics().sum("pointsman_reloads_total", &["outcome=\"done\""]) >= 1.0).then_some(())
    });
    assert_eq!(cache(&host.chat("how do i reset my password")), "semantic");
    assert_eq!(counted(&host, "done"), 2.0);
}

/// Labelled questions show how far a provider's vectors go, asked for in the way in which the node asks for them.
#[test]
fn a_providers_model_is_calibrated() {
    let (vectors, chat) = (FakeUpstream::start(), FakeUpstream::start());
    let host = host(&vectors, &chat, "");
    host.folder.write("pairs.tsv", b"a\tb\tlabel\nWhere is it?\twhere is it\t1\n");
    let [pairs, out, config] = ["pairs.tsv", "calibration.json", "pointsman.toml"]
        .map(|name| host.folder.path(name).into_os_string().into_string().unwrap());
    let calibrate = ["cache", "calibrate", "--pairs", &pairs, "--out", &out, "--embedder", "remote"];
    let (code, _, err) = tests::binary::run(&calibrate);
    assert!(code == 2 && err.contains("--config"), "{err}");
    let (code, said, err) = tests::binary::run(&[&calibrate[..], &["--config", &config]].concat());
    assert!(code == 0 && said.contains("2 questions, 0 left out"), "{said}{err}");
    let asked: usize = vectors.requests().iter().map(|seen| seen.json()["input"].as_array().unwrap().len()).sum();
    assert_eq!(asked, 2);
    // It is of the model that serves here.
    let made: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(out).unwrap()).unwrap();
    host.chat("Where is it?");
    let served = format!("embedder={}", made["embedder"]);
    assert_eq!(host.metrics().sum("pointsman_embedder_texts_total", &[&served, "outcome=\"done\""]), 1.0);
}
