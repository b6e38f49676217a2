//! OpenAI's dialect in files, `tests/fixtures/openai/`: what goes up for what a client sends, and what comes down for what an
//! upstream answers, byte for byte. A case is what its files' names begin with:
//!
//! | file | what |
//! |---|---|
//! | `CASE.request.json` | what the client sends |
//! | `CASE.upstream.json` | what must reach the upstream for it |
//! | `CASE.answer.json`, or `CASE.answer.sse` | what the upstream answers, and what must reach the client: the very same |
//!
//! To add a case, add its files. There is no mode that writes them: what the host does is not what says what it should do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tests::{Act, FakeUpstream, Host, Running, sse};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/openai");
const PATH: &str = "/v1/chat/completions";

struct Case {
    name: String,
    request: Vec<u8>,
    upstream: Vec<u8>,
    kind: &'static str,
    answer: Vec<u8>,
}

impl Case {
    fn is_stream(&self) -> bool {
        self.kind == "text/event-stream"
    }

    /// The answer in these pieces.
    fn act(&self, pieces: Vec<&[u8]>) -> Act {
        Act::body(self.kind, pieces)
    }

    /// Asks, and holds both directions to the files. Gives what the cache had to do with it.
    fn check(&self, host: &Running, fake: &FakeUpstream, what: &str, pieces: Vec<&[u8]>) {
        let Self { name, request, upstream, kind, answer } = self;
        let before = fake.count();
        fake.next(self.act(pieces));
        let came = host.post(PATH, request, &[]);
        assert_eq!(
            (came.status, came.header("content-type"), came.whole),
            (200, Some(*kind), true),
            "{name}, {what}: {}",
            text(&came.body)
        );
        assert_eq!(text(&came.body), text(answer), "{name}, {what}: the answer");
        assert!(came.body == *answer, "{name}, {what}: the answer's bytes");
        assert_eq!(fake.count(), before + 1, "{name}, {what}");
        assert_eq!(fake.last().line, format!("POST {PATH} HTTP/1.1"), "{name}");
        let went = fake.last().body;
        assert_eq!(text(&went), text(upstream), "{name}, {what}: the request");
        assert!(went == *upstream, "{name}, {what}: the request's bytes");
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// All cases. A file that belongs to none, or a case of which one is missing, fails the test.
fn cases() -> Vec<Case> {
    let mut files: BTreeMap<String, Vec<u8>> = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .map(|name| (name.clone(), std::fs::read(Path::new(FOLDER).join(name)).unwrap()))
        .collect();
    let names: BTreeSet<String> = files.keys().map(|name| name.split('.').next().unwrap().to_owned()).collect();
    let cases = names.into_iter().map(|name| {
        let mut take = |ending: &str| files.remove(&format!("{name}.{ending}"));
        let missing = |ending: &str| -> Vec<u8> { panic!("{name}.{ending} is not there") };
        let request = take("request.json").unwrap_or_else(|| missing("request.json"));
        let upstream = take("upstream.json").unwrap_or_else(|| missing("upstream.json"));
        let (kind, answer) = match take("answer.sse") {
            Some(events) => ("text/event-stream", events),
            None => ("application/json", take("answer.json").unwrap_or_else(|| missing("answer.json"))),
        };
        Case { name, request, upstream, kind, answer }
    });
    let cases: Vec<Case> = cases.collect();
    assert!(files.is_empty(), "of no case: {:?}", files.keys());
    assert!(cases.len() >= 50, "only {} cases were found", cases.len());
    cases
}

/// Pieces whose lengths go round these.
fn cut<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, behind) = rest.split_at(rest.len().min(*length));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

/// Lengths from 1 to 100, the same for the same seed.
fn lengths(seed: u64) -> Vec<usize> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    // Short ones and long ones, since each has its own defects.
    (0..97).map(|_| if next() % 2 == 0 { 1 + next() % 4 } else { 1 + next() % 100 }).collect()
}

#[test]
fn both_directions_byte_for_byte() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    for case in cases() {
        case.check(&host, &fake, "whole", vec![&case.answer]);
    }
}

/// However the network cuts a stream, the client gets the same bytes.
#[test]
fn a_stream_in_odd_pieces() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    for case in cases().iter().filter(|case| case.is_stream()) {
        case.check(&host, &fake, "byte by byte", cut(&case.answer, &[1]));
        for seed in 0..5 {
            case.check(&host, &fake, &format!("pieces of seed {seed}"), cut(&case.answer, &lengths(seed)));
        }
    }
}

/// What looks at the bytes on their way, for the cache and its semantic tier, changes none of them; and what was kept is what came.
#[test]
fn the_cache_looks_and_changes_nothing() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).built_in().semantic().start();
    let mut kept = 0;
    for case in cases() {
        host.order("/api/cache/purge");
        case.check(&host, &fake, "first", cut(&case.answer, &lengths(7)));
        fake.always(case.act(vec![&case.answer]));
        let before = fake.count();
        let again = host.post(PATH, &case.request, &[]);
        assert_eq!(again.status, 200, "{}", case.name);
        if again.cache() != "exact" {
            assert!(again.body == case.answer, "{}, asked again", case.name);
            continue;
        }
        kept += 1;
        assert_eq!(fake.count(), before, "{}", case.name);
        if case.is_stream() {
            // In chunks of our own; that they say the same is shown where they are made.
            assert!(sse::is_done(&again.body), "{}, played back: {}", case.name, again.text());
        } else {
            assert_eq!(again.as_stored(), text(&case.answer), "{}, played back", case.name);
        }
    }
    assert!(kept >= 10, "only {kept} were kept");
}
