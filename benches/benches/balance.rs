//! What it costs to choose one of many endpoints: from an ask to a permit, and the end of the oldest request, so that there are
//! always twenty at each endpoint.
//!
//! Prompts are of ten thousand conversations and of one to forty kilobytes, so the table of who holds what is as large as it gets.
//!
//! **Invariant:** with prefixes, most asks meet an endpoint that holds a part of theirs.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up must not print figures")]

use std::collections::VecDeque;
use std::hint::black_box;

use benches::schedule::Random;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use pointsman::dialect::prefix::Prefix;
use pointsman::upstream::balance::{Affinity, Rule};
use pointsman::upstream::endpoint::Permit;
use pointsman::upstream::pool::{Address, Ask, Pool, Settings};
use pointsman::upstream::provider;
use tokio::time::Instant;

criterion_group!(balance, decisions, hashing);
criterion_main!(balance);

const TALKS: usize = 10_000;

fn pool(endpoints: usize, affinity: Rule) -> Pool {
    let addresses = (0..endpoints).map(|at| Address::new(format!("http://10.0.{}.{}:8000/v1", at / 250, at % 250))).collect();
    let settings = Settings { affinity, ..Settings::new("fleet", provider::named("openai").expect("it is spoken"), addresses) };
    Pool::build(settings, 1, None).expect("the addresses are URLs")
}

/// A prompt that begins like those of a hundredth of the others.
fn prompt(talk: u64, random: &mut Random) -> Affinity {
    let (system, length) = (vec![(talk % 100) as u8; 1_000], 1_000 + random.bits() as usize % 39_000);
    Affinity::Prefix(Prefix::of("m", [&system[..], &talk.to_le_bytes().repeat(length / 8)]))
}

fn decisions(criterion: &mut Criterion) {
    let mut random = Random(7);
    let prompts: Vec<Affinity> = (0..TALKS).map(|talk| prompt(talk as u64, &mut random)).collect();
    let sessions: Vec<Affinity> = (0..TALKS).map(|_| Affinity::Session(random.bits())).collect();
    let session = Rule::Session(http::HeaderName::from_static("x-session-id"));
    let kinds = [("none", Rule::None, vec![Affinity::None]), ("session", session, sessions), ("prefix", Rule::Prefix, prompts)];
    let mut group = criterion.benchmark_group("choose");
    for (name, rule, asks) in kinds {
        for endpoints in [128, 256] {
            let pool = pool(endpoints, rule.clone());
            let mut held: VecDeque<Permit> = VecDeque::new();
            let mut one = |random: &mut Random| {
                let now = Instant::now();
                let affinity = &asks[random.bits() as usize % asks.len()];
                let ask = Ask { avoid: &[], again: false, last: true, affinity, tokens: 0, model: "" };
                let permit = pool.choose(ask, now).expect("there is room");
                held.push_back(permit);
                if held.len() > endpoints * 20
                    && let Some(mut oldest) = held.pop_front()
                {
                    oldest.begun_at(now);
                    oldest.endpoint().answered_at(oldest.since(), true, now);
                }
            };
            (0..4 * TALKS).for_each(|_| one(&mut random));
            group.bench_function(BenchmarkId::new(name, endpoints), |bencher| bencher.iter(|| one(black_box(&mut random))));
        }
    }
    group.finish();
}

/// Naming a prompt's blocks, once for each request of a pool that wants it.
fn hashing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prefix");
    for (name, bytes) in [("2 KB", 2 << 10), ("8 KB", 8 << 10), ("128 KB", 128 << 10), ("1 MB", 1 << 20)] {
        let text = vec![b'x'; bytes];
        group.bench_function(name, |bencher| bencher.iter(|| Prefix::of(black_box("m"), [black_box(&text[..])])));
    }
    group.finish();
}
