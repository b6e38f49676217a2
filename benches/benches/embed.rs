//! What a vector costs: by the model inside pointsman, and by MiniLM in onnxruntime, alone and several at once.
//!
//! MiniLM must be installed (`pointsman model install minilm`); its figures have in them the way to its thread and back, some 20 µs.
//!
//! **Invariant:** a text that is said to have so many tokens has so many, [CLS] and [SEP] among them.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up must not print figures")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use pointsman::embed::built_in::BuiltIn;
use pointsman::embed::{self, Files, Limits, Settings};

criterion_group!(embedding, built_in, minilm);
criterion_main!(embedding);

/// Fourteen words of one token each.
const SENTENCE: &str = "how do i reset the password of my account on the web site now";

fn words(tokens: usize) -> String {
    let words: Vec<&str> = SENTENCE.split(' ').cycle().take(tokens - 2).collect();
    words.join(" ")
}

fn built_in(criterion: &mut Criterion) {
    let model = BuiltIn::new().expect("the model inside pointsman");
    let mut group = criterion.benchmark_group("built-in embedding");
    for tokens in [16, 128] {
        let text = words(tokens);
        group.bench_with_input(BenchmarkId::from_parameter(format!("{tokens} tokens")), &text, |bencher, text| {
            bencher.iter(|| model.vector(black_box(text)).expect("words"))
        });
    }
    group.finish();
}

fn minilm(criterion: &mut Criterion) {
    let limits = Limits { timeout: Duration::from_secs(60), queue: 1_000, ..Limits::default() };
    let settings = Settings::Local { files: Files::Named("minilm".to_owned()), limits, runtime: None };
    let model = embed::open(&settings).expect("MiniLM is installed");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut group = criterion.benchmark_group("MiniLM embedding");
    for tokens in [16, 32, 128] {
        let text = words(tokens);
        group.bench_with_input(BenchmarkId::from_parameter(format!("{tokens} tokens")), &text, |bencher, text| {
            bencher.iter(|| runtime.block_on(model.embed(black_box(text))).expect("a vector"))
        });
    }
    let text = words(16);
    let many = 64;
    group.throughput(Throughput::Elements(many));
    group.bench_function("64 at once, 16 tokens", |bencher| {
        bencher.iter(|| runtime.block_on(join_all((0..many).map(|_| model.embed(black_box(&text))))))
    });
    group.finish();
}
