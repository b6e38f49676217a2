//! The semantic tier with many entries in one partition: what an entry takes, how quickly they come in, how long a lookup takes and what it
//! finds, and how long it is from a start until near hits find what the disk has.
//!
//! ```sh
//! cargo bench -p benches --bench scale -- 10000 100000
//! ```
//!
//! Texts are sentences by chance, their vectors those of the model inside pointsman. A lookup asks for a sentence with one word
//! changed. *Recall* is how often the nearest entry of all is the first that the index finds, by looking at every vector.
//!
//! What it does not do: it decides nothing; no criterion, since a lookup's p99 is the figure.
//!
//! **Invariant:** an entry that could not be stored, or does not come back from the disk, ends the run.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a bench that cannot be set up must not print figures")]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use benches::schedule::Random;
use bytes::Bytes;
use pointsman::cache::index::Index;
use pointsman::cache::key::KeyBuilder;
use pointsman::cache::tier::disk;
use pointsman::cache::trust::{self, calibration::shipped};
use pointsman::cache::{Cache, Entry, NearSettings, Partition, Settings};
use pointsman::embed::built_in::BuiltIn;
use pointsman::vector::{Vector, cosine};

const EMBEDDER: &str = "built-in@29fce03f75c3";
const LOOKUPS: usize = 1_000;
/// Each looks at every vector.
const CHECKED: usize = 200;
/// Entries that may wait for the disk.
const AT_ONCE: usize = 2_000;

fn main() {
    let sizes: Vec<usize> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    println!(
        "| entries | bytes an entry | inserts/s | lookup p50 µs | p99 µs | recall@1 | onto the disk s | back after a start s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for entries in if sizes.is_empty() { vec![10_000, 100_000] } else { sizes } {
        measure(entries);
    }
}

fn measure(count: usize) {
    let model = BuiltIn::new().expect("the model inside pointsman");
    let partition = KeyBuilder::new("acme").partition();
    let mut random = Random(1);
    let texts: Vec<String> = (0..count).map(|_| sentence(&mut random)).collect();
    let vectors: Vec<Vector> = texts.iter().map(|text| model.vector(text).expect("words")).collect();

    // The index alone: what it takes, and what a lookup costs.
    let entries: Vec<Arc<Entry>> = texts.iter().enumerate().map(|(at, text)| Arc::new(entry(at, text, partition))).collect();
    let (before, began) = (resident(), Instant::now());
    let mut index = Index::new(vectors[0].len(), count);
    vectors.iter().zip(&entries).for_each(|(vector, entry)| index.insert(vector, entry));
    let (inserting, bytes) = (began.elapsed(), resident().saturating_sub(before) / count as u64);
    let asked: Vec<Vector> = (0..LOOKUPS).map(|_| model.vector(&reworded(&mut random, &texts)).expect("words")).collect();
    let mut took = Vec::with_capacity(LOOKUPS);
    let mut found = Vec::with_capacity(LOOKUPS);
    for vector in &asked {
        let began = Instant::now();
        found.push(index.nearest(vector).first().map_or(0.0, |(cosine, _)| *cosine));
        took.push(began.elapsed());
    }
    took.sort_unstable();
    let is_best = |(vector, found): &(&Vector, &f32)| {
        vectors.iter().map(|other| cosine(other, vector)).fold(0.0_f32, f32::max) <= **found + 1e-6
    };
    let recalled = asked.iter().zip(&found).take(CHECKED).filter(is_best).count();
    drop((index, entries));

    let (written, back) = restart(&texts, &vectors, partition);
    let micros = |share: f64| took[((LOOKUPS - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    println!(
        "| {count} | {bytes} | {:.0} | {:.0} | {:.0} | {:.3} | {:.1} | {:.1} |",
        count as f64 / inserting.as_secs_f64(),
        micros(0.5),
        micros(0.99),
        recalled as f64 / CHECKED as f64,
        written.as_secs_f64(),
        back.as_secs_f64(),
    );
}

/// How long all of them take onto the disk, and back into the memory of another process.
fn restart(texts: &[String], vectors: &[Vector], partition: Partition) -> (Duration, Duration) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let open = || {
        let cache = Cache::new(settings(texts.len(), folder.path().join("kept")), None, false).expect("settings");
        cache.start();
        cache
    };
    let partitioned = |cache: &Cache| cache.report()["entries"].as_u64().unwrap_or_default() as usize;
    let (cache, began) = (open(), Instant::now());
    for (from, texts) in texts.chunks(AT_ONCE).enumerate() {
        for (at, text) in texts.iter().enumerate() {
            let at = from * AT_ONCE + at;
            assert!(cache.fill(entry(at, text, partition), Some(&vectors[at])), "it is stored");
        }
        runtime.block_on(cache.settle(Duration::from_secs(60)));
    }
    let written = began.elapsed();
    drop(cache);
    std::thread::sleep(Duration::from_secs(1));
    let (cache, began) = (open(), Instant::now());
    while partitioned(&cache) < texts.len() {
        assert!(began.elapsed() < Duration::from_secs(1_800), "{} of {} are back", partitioned(&cache), texts.len());
        std::thread::sleep(Duration::from_millis(20));
    }
    (written, began.elapsed())
}

fn settings(entries: usize, path: std::path::PathBuf) -> Settings {
    let trust = trust::Settings { wrong_hits: 0.05, audit: 0.0 };
    Settings {
        memory: 64 << 30,
        ttl: Duration::from_secs(86_400),
        stale_for: Duration::ZERO,
        revalidates_for: Duration::ZERO,
        max_entry: 1 << 20,
        replay_rate: 0,
        max_near: entries,
        near: Some(NearSettings { embedder: EMBEDDER.to_owned(), trust, calibration: shipped(EMBEDDER) }),
        flights: true,
        redis: None,
        disk: Some(disk::Settings { path, size: 64 << 30, deadline: Duration::from_secs(10) }),
    }
}

fn entry(number: usize, text: &str, partition: Partition) -> Entry {
    const ANSWER: &[u8] = br#"{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Set the pads so that their front edge touches first."},"finish_reason":"stop"}]}"#;
    let mut key = KeyBuilder::new("acme");
    key.part("number", &number.to_le_bytes());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    Entry {
        text: Some(text.into()),
        partition: Some(partition),
        model: "small".into(),
        ttl: Duration::from_secs(86_400),
        ..Entry::new(key.exact(), Bytes::from_static(ANSWER), now)
    }
}

/// A word by chance.
fn word(random: &mut Random) -> &'static str {
    const WORDS: &str = "password bicycle invoice weather holiday contract recipe garden server language reset repair cancel compare translate explain summarise plan \
        kitchen doctor engine violin mortgage passport airport umbrella tomato bridge battery camera printer keyboard window curtain planet volcano river harbour ticket train \
        hotel museum library teacher student lesson exam salary tax refund delivery parcel address street market price discount warranty manual button screen cable charger \
        my the a our how why when where quickly tomorrow again safely cheap best old new broken small large red green wooden";
    static ALL: std::sync::OnceLock<Vec<&str>> = std::sync::OnceLock::new();
    let all = ALL.get_or_init(|| WORDS.split_whitespace().collect());
    all[(random.bits() % all.len() as u64) as usize]
}

fn sentence(random: &mut Random) -> String {
    let words: Vec<&str> = (0..9).map(|_| word(random)).collect();
    words.join(" ")
}

fn reworded(random: &mut Random, texts: &[String]) -> String {
    let mut words: Vec<&str> = texts[(random.bits() % texts.len() as u64) as usize].split(' ').collect();
    let place = (random.bits() % words.len() as u64) as usize;
    words[place] = word(random);
    words.join(" ")
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4_096
}
