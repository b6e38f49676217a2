//! What the stages of the straight line cost beside the plugins: reading, keys, lookups, streams, embeddings, guards.
//!
//! Requests have half a kilobyte, eight, and 128. `parse` reads what every request has read of it; `messages` what a plugin or
//! the semantic cache asks for besides.
//!
//! **Invariant:** a lookup that is timed as a hit is one, and one that is timed as a miss is none.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up must not print figures")]

use std::borrow::Cow;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use benches::schedule::Random;
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pointsman::cache::key::KeyBuilder;
use pointsman::cache::semantic::Asked;
use pointsman::cache::trust::{self, calibration::shipped};
use pointsman::cache::verify::{Guard, Question};
use pointsman::cache::{Cache, Entry, ExactKey, NearSettings, Partition, Settings};
use pointsman::dialect::answer::Answer;
use pointsman::dialect::json::{Document, Splice};
use pointsman::dialect::openai_chat::ChatRequest;
use pointsman::dialect::stream::replay::{self, replay};
use pointsman::dialect::stream::{End, Tap, assemble};
use pointsman::embed::built_in::BuiltIn;

criterion_group!(line, requests, keys, exact, near, streams, embedding, guards);
criterion_main!(line);

const SIZES: [(&str, usize); 3] = [("0.5 KB", 512), ("8 KB", 8 << 10), ("128 KB", 128 << 10)];

/// A request whose body has that many bytes, in turns of about two kilobytes.
fn body(bytes: usize) -> Bytes {
    let mut random = Random(7);
    let mut messages = vec![serde_json::json!({ "role": "system", "content": "You answer briefly." })];
    while messages.iter().map(|message| message.to_string().len() + 1).sum::<usize>() + 400 < bytes {
        let room = bytes.saturating_sub(messages.iter().map(|message| message.to_string().len() + 1).sum::<usize>() + 250);
        let role = if messages.len() % 2 == 1 { "user" } else { "assistant" };
        messages.push(serde_json::json!({ "role": role, "content": sentence(&mut random, room.min(2_000)) }));
    }
    messages.push(serde_json::json!({ "role": "user", "content": "And what do you think about it?" }));
    let request = serde_json::json!({ "model": "auto", "messages": messages, "temperature": 0.2, "max_tokens": 256, "seed": 7, "user": "user-42" });
    Bytes::from(request.to_string())
}

const WORDS: &str = "password bicycle invoice weather holiday contract recipe garden server language reset repair cancel compare translate explain \
    summarise plan my the a our how why when where quickly tomorrow again safely cheap best";

/// Words by chance, about so many bytes of them.
fn sentence(random: &mut Random, bytes: usize) -> String {
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(words[(random.bits() % words.len() as u64) as usize]);
    }
    text
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request");
    for (name, bytes) in SIZES {
        let body = body(bytes);
        let request = ChatRequest::parse(body.clone()).expect("a request");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_with_input(BenchmarkId::new("parse", name), &body, |bencher, body| {
            bencher.iter(|| ChatRequest::parse(body.clone()))
        });
        group.bench_with_input(BenchmarkId::new("messages", name), &body, |bencher, body| {
            // Read once and kept, so each needs a request of its own.
            let fresh = || ChatRequest::parse(body.clone()).expect("a request");
            bencher.iter_batched_ref(fresh, |request| request.messages().len(), BatchSize::SmallInput);
        });
        group.bench_with_input(BenchmarkId::new("splice the model", name), &request, |bencher, request| {
            bencher.iter(|| request.to_upstream(black_box("llama-3.1-8b-instruct"), false));
        });
        let document = Document::parse(body).expect("a document");
        group.bench_with_input(BenchmarkId::new("splice four fields", name), &document, |bencher, document| {
            let set = |name, value| Splice::Set(name, Cow::Borrowed(value));
            bencher.iter(|| {
                document.splice(&[set("model", "\"m\""), set("seed", "8"), set("logprobs", "true"), Splice::Remove("user")])
            });
        });
    }
    group.finish();
}

/// As `gateway` makes it without a plugin's opinion.
fn exact_key(request: &ChatRequest) -> ExactKey {
    let mut builder = KeyBuilder::new("acme");
    builder.part("purpose", b"exact");
    builder.part("model", request.model().as_bytes());
    builder.part("prompt", b"");
    request.canonical(&mut |bytes| builder.feed(bytes), false);
    builder.exact()
}

fn keys(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("key");
    for (name, bytes) in SIZES {
        let request = ChatRequest::parse(body(bytes)).expect("a request");
        group.throughput(Throughput::Bytes(request.bytes().len() as u64));
        group.bench_with_input(BenchmarkId::new("exact", name), &request, |bencher, request| bencher.iter(|| exact_key(request)));
        group.bench_with_input(BenchmarkId::new("partition", name), &request, |bencher, request| {
            bencher.iter(|| {
                let mut builder = KeyBuilder::new("acme");
                assert!(request.canonical(&mut |bytes| builder.feed(bytes), true));
                builder.partition()
            });
        });
    }
    group.finish();
}

const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"Clean the rim and the pads with alcohol, then set the pads so that their front edge touches first."},"finish_reason":"stop"}],"usage":{"prompt_tokens":120,"completion_tokens":64,"total_tokens":184}}"#;

/// The model inside pointsman, whose calibration is shipped.
const EMBEDDER: &str = "built-in@29fce03f75c3";

fn cache() -> Cache {
    let trust = trust::Settings { wrong_hits: 0.05, audit: 0.0 };
    let settings = Settings {
        memory: 256 << 20,
        ttl: Duration::from_secs(3_600),
        stale_for: Duration::ZERO,
        revalidates_for: Duration::ZERO,
        max_entry: 1 << 20,
        replay_rate: 0,
        max_near: 20_000,
        near: Some(NearSettings { embedder: EMBEDDER.to_owned(), trust, calibration: shipped(EMBEDDER) }),
        flights: true,
        redis: None,
        disk: None,
    };
    Cache::new(settings, None, false).expect("nothing behind memory that could be wrong")
}

fn entry(key: ExactKey, near: Option<(&str, Partition, usize)>) -> Entry {
    let made = Entry::new(key, Bytes::from_static(ANSWER.as_bytes()), 1_700_000_000_000);
    Entry {
        text: near.map(|(text, ..)| text.into()),
        partition: near.map(|(_, partition, _)| partition),
        vector_bytes: near.map_or(0, |(.., bytes)| bytes),
        model: "small".into(),
        ttl: Duration::from_secs(3_600),
        ..made
    }
}

fn numbered(number: u64) -> ExactKey {
    let mut builder = KeyBuilder::new("acme");
    builder.part("number", &number.to_le_bytes());
    builder.exact()
}

fn exact(criterion: &mut Criterion) {
    const ENTRIES: u64 = 10_000;
    let cache = cache();
    (0..ENTRIES).for_each(|number| assert!(cache.fill(entry(numbered(number), None), None)));
    let keys: Vec<ExactKey> = (0..ENTRIES).map(numbered).collect();
    let absent = numbered(ENTRIES);
    let mut group = criterion.benchmark_group("exact lookup, 10k entries");
    let mut next = 0;
    group.bench_function("hit", |bencher| {
        bencher.iter(|| {
            next = (next + 7) % keys.len();
            assert!(cache.exact(&keys[next]).is_some());
        });
    });
    group.bench_function("miss", |bencher| bencher.iter(|| assert!(cache.exact(black_box(&absent)).is_none())));
    group.bench_function("fill", |bencher| {
        let mut number = ENTRIES;
        bencher.iter(|| {
            number += 1;
            cache.fill(entry(numbered(number), None), None)
        });
    });
    group.finish();
}

fn near(criterion: &mut Criterion) {
    let model = BuiltIn::new().expect("the model inside pointsman");
    let (tenant, partition): (Arc<str>, Partition) = ("acme".into(), KeyBuilder::new("acme").partition());
    let mut group = criterion.benchmark_group("near lookup");
    for entries in [1_000_u64, 10_000] {
        let (cache, mut random) = (cache(), Random(1));
        let mut known = String::new();
        for number in 0..entries {
            known = sentence(&mut random, 60);
            let vector = model.vector(&known).expect("words");
            assert!(cache.fill(entry(numbered(number), Some((&known, partition, vector.len() * 5))), Some(&vector)));
        }
        let vector = model.vector(&known).expect("words");
        let other = "Which of the planets has the most moons?";
        let far = model.vector(other).expect("words");
        group.bench_function(BenchmarkId::new("hit", entries), |bencher| {
            let asked = Asked { tenant: &tenant, partition: &partition, text: &known, vector: &vector, least: 0.9 };
            bencher.iter(|| assert!(cache.near(&asked).is_some_and(|found| found.serve)));
        });
        group.bench_function(BenchmarkId::new("miss", entries), |bencher| {
            let asked = Asked { tenant: &tenant, partition: &partition, text: other, vector: &far, least: 0.9 };
            bencher.iter(|| assert!(cache.near(&asked).is_none()));
        });
    }
    group.finish();
}

/// Events of a stream, as a provider sends them.
fn events(count: usize) -> Vec<Bytes> {
    let event = |delta: &str, finish: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}]}}\n\n"
        ))
    };
    let mut events = vec![event("{\"role\":\"assistant\",\"content\":\"\"}", "null")];
    events.extend((0..count).map(|_| event("{\"content\":\" word\"}", "null")));
    events.extend([event("{}", "\"stop\""), Bytes::from_static(b"data: [DONE]\n\n")]);
    events
}

fn streams(criterion: &mut Criterion) {
    const EVENTS: usize = 200;
    let events = events(EVENTS);
    let whole = events.concat();
    let mut group = criterion.benchmark_group("stream of 200 events");
    group.throughput(Throughput::Elements(events.len() as u64));
    for (name, limit) in [("watched", 0), ("watched and kept", 1 << 20)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut tap = Tap::new(limit);
                events.iter().for_each(|event| assert_eq!(tap.feed(event), event.len()));
                assert_eq!(tap.end(), End::Whole);
                tap.take_copy()
            });
        });
    }
    group.bench_function("put together", |bencher| bencher.iter(|| assemble(&whole).expect("an answer")));
    let answer = assemble(&whole).expect("an answer");
    group.bench_function("played back", |bencher| bencher.iter(|| replay(&answer, true, replay::WORDS).expect("a stream")));
    group.bench_function("may it be stored", |bencher| {
        let bytes = Bytes::from(answer.clone());
        bencher.iter(|| assert!(Answer::read(bytes.clone()).expect("an answer").is_storable(1)));
    });
    group.finish();
}

fn embedding(criterion: &mut Criterion) {
    let model = BuiltIn::new().expect("the model inside pointsman");
    let mut group = criterion.benchmark_group("built-in embedding");
    for bytes in [60, 500, 2_000] {
        let text = sentence(&mut Random(3), bytes);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(format!("{bytes} bytes")), &text, |bencher, text| {
            bencher.iter(|| model.vector(text).expect("words"))
        });
    }
    group.finish();
}

fn veto(a: &str, b: &str) -> Option<Guard> {
    Question::new(a).veto(b)
}

fn guards(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("guards");
    let question = "How do I reset the password of my account?";
    for (name, a, b) in [
        ("let pass", question, "Please, how do I reset the password of my account"),
        ("veto early, a number", "How do I get from Java 8 to Java 17?", "How do I get from Java 8 to Java 21?"),
        ("veto late, a word", question, "How do I reset the colour of my account?"),
    ] {
        assert_eq!(veto(a, b).is_none(), name == "let pass", "{name}: {:?}", veto(a, b));
        group.bench_function(name, |bencher| bencher.iter(|| veto(black_box(a), black_box(b))));
    }
    let mut random = Random(5);
    // As long as a question may be that is looked for among near ones.
    let long = sentence(&mut random, 1_000);
    let other = format!("{long} again");
    group.bench_function("a kilobyte each", |bencher| bencher.iter(|| veto(black_box(&long), black_box(&other))));
    group.finish();
}
