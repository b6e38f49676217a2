//! MiniLM: its vectors, near hits by them, and what happens when more is asked of it than it can do.

use std::time::{Duration, Instant};

use pointsman::embed::{Files, Limits, Settings, open};
use tests::pairs::{hard, paraphrases, served};
use tests::{Binary, FakeUpstream, Host, eventually, models};

use super::{cache, cosine, vectors};

/// A host with the models that `tests/run` has installed.
fn spawn(host: Host) -> Binary {
    host.spawn_with(&[("XDG_DATA_HOME", models().to_str().unwrap())])
}

/// MiniLM, for a machine that has other things to do as well.
const PATIENT: &str = "[embedders.patient]\nlocal = \"minilm\"\ntimeout = \"60s\"\n";
const OFFERED: &str = "[models.minilm]\nprovider = \"built-in\"\nname = \"patient\"";

#[test]
fn its_vectors_know_word_order_and_what_is_near() {
    let host = spawn(Host::new().upstream(&FakeUpstream::start()).section(PATIENT).section(OFFERED));
    let texts = [
        "How do I reset my password?",
        "I forgot my password, how can I reset it?",
        "What is the capital of France?",
        "the dog bites the man",
        "the man bites the dog",
    ];
    let found = vectors(&host, "minilm", &texts);
    for vector in &found {
        assert_eq!(vector.len(), 384);
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-3, "a unit vector");
    }
    let near = |a: usize, b: usize| cosine(&found[a], &found[b]);
    assert!(near(0, 1) > 0.7 && near(0, 2) < 0.3, "{} {}", near(0, 1), near(0, 2));
    // The built-in model cannot tell these apart at all.
    assert!(near(3, 4) < 0.995, "{}", near(3, 4));
}

/// A quantised model that is scaled by all that is computed together gives a text another vector with each company, and a cut is then
/// none: so the company must not matter.
#[test]
fn a_vector_is_a_texts_own_whatever_is_computed_beside_it() {
    let host = spawn(Host::new().upstream(&FakeUpstream::start()).section(PATIENT).section(OFFERED));
    let long = "a rather long text about nothing in particular, ".repeat(12);
    let texts: Vec<String> = (0..40).map(|number| format!("question {number} {}", &long[..number * 12])).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = vectors(&host, "minilm", &texts);
    for place in [0, 1, 7, 20, 39] {
        let alone = vectors(&host, "minilm", &texts[place..=place]);
        let far = alone[0].iter().zip(&together[place]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 1e-4, "{far} at {place}");
    }
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_embedder_texts_total", &["embedder=\"minilm@", "outcome=\"done\""]), 45.0);
    assert!(metrics.sum("pointsman_embedder_batches_total", &[]) < 40.0, "what waits is computed together");
}

#[test]
fn a_rewording_is_a_near_hit_and_an_opposite_is_not() {
    let fake = FakeUpstream::start();
    let semantic = "[cache]\n[cache.semantic]\nembedder = \"patient\"\nwrong_hits = 0.05";
    let host = spawn(Host::new().upstream(&fake).section(PATIENT).section(semantic));
    let first = host.chat("How do I reset my password?");
    assert_eq!(cache(&first), "miss");
    let hit = host.chat("how can I reset my password");
    assert_eq!((cache(&hit).as_str(), hit.as_stored() == first.text()), ("semantic", true));
    for other in ["How do I not reset my password?", "How do I reset your password?", "How do I bake bread?"] {
        assert_eq!(cache(&host.chat(other)), "miss", "{other}");
    }
    assert_eq!(fake.count(), 4);
    assert!(host.metrics().sum("pointsman_embedder_seconds_count", &["embedder=\"minilm@"]) >= 5.0);
}

/// More questions at once than the line of the embedder has places: each is answered, and those too many are only not looked for.
#[test]
fn a_full_line_costs_a_look_and_no_answer() {
    let fake = FakeUpstream::start();
    let tight = "[embedders.tight]\nlocal = \"minilm\"\nqueue = 1\nbatch = 1\n[cache]\n[cache.semantic]\nembedder = \"tight\"\nwrong_hits = 0.05";
    let host = spawn(Host::new().upstream(&fake).section(tight));
    let words = "one and another of many words that make this a question of its own ".repeat(12);
    std::thread::scope(|scope| {
        for asker in 0..16 {
            let (host, words) = (&host, &words);
            scope.spawn(move || {
                for number in 0..6 {
                    assert_eq!(host.chat(&format!("{asker} {number} {words}?")).status, 200);
                }
            });
        }
    });
    let metrics = host.metrics();
    let of = |outcome: &str| metrics.sum("pointsman_embedder_texts_total", &[&format!("outcome=\"{outcome}\"")]);
    assert!(of("full") > 0.0, "nothing was turned away");
    assert_eq!(of("full") + of("done") + of("late"), 96.0);
    assert_eq!(metrics.sum("pointsman_embedder_waiting", &[]), 0.0);
}

/// The time that anybody waits for a vector is the owner's, whatever is in the line.
#[test]
fn nobody_waits_for_a_vector_longer_than_the_owner_has_said() {
    let fake = FakeUpstream::start();
    let hasty = "[embedders.hasty]\nlocal = \"minilm\"\ntimeout = \"1ms\"\n[cache]\n[cache.semantic]\nembedder = \"hasty\"\nwrong_hits = 0.05";
    let host = spawn(Host::new().upstream(&fake).section(hasty));
    let text = "word ".repeat(200);
    let began = Instant::now();
    assert_eq!(cache(&host.chat(&text)), "miss");
    assert!(began.elapsed() < Duration::from_secs(5));
    let late = || host.metrics().sum("pointsman_embedder_texts_total", &["outcome=\"late\""]);
    eventually("it is counted", || (late() > 0.0).then_some(()));
}

/// What pointsman brings for it: what only looks alike is served at no bound up to the tenth, and more paraphrases the more may be wrong.
#[test]
fn no_hard_pair_is_served_and_paraphrases_are() {
    let limits = Limits { timeout: Duration::from_secs(60), ..Limits::default() };
    let files = Files::Folder(models().join("pointsman/models/minilm"));
    let model = open(&Settings::Local { files, limits, runtime: None }).unwrap();
    let same = paraphrases();
    for (wrong_hits, tenths) in [(0.03, 1), (0.05, 3), (0.1, 6)] {
        let wrong = served(&*model, wrong_hits, &hard());
        assert!(wrong.is_empty(), "{wrong_hits}: {wrong:#?}");
        let right = served(&*model, wrong_hits, &same).len();
        assert!(right * 10 >= same.len() * tenths, "{wrong_hits}: only {right} of {} paraphrases are served", same.len());
    }
}
