//! How fast recorded exchanges are decided again: a thousand of them, by one plugin in Rust with all three hooks, on one thread and on all cores.
//!
//! They are recorded as a host records them: each with its own id, head, request (1 KB of prompt), three calls and what those were told. What is
//! timed is all of a replay: reading the file, compiling the component once, an engine that counts instructions, a thousand times three fresh
//! calls, comparing, the report.
//!
//! **Invariant:** a replay counts only if it has decided all of them, and each as it was recorded.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot be set up must not print figures")]

mod around;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use around::Around;
use bytes::Bytes;
use criterion::{Criterion, Throughput};
use futures_util::future::BoxFuture;
use http::HeaderMap;
use pointsman::dialect::openai_chat::ChatRequest;
use pointsman::plugin::bindings::types::{Operation, RequestHead};
use pointsman::plugin::engine::Engine;
use pointsman::plugin::hooks::Session;
use pointsman::plugin::imports::{EmbedError, Surroundings, Upstream, visible};
use pointsman::plugin::load::{Hook, Settings};
use pointsman::plugin::tape::{Attempted, Facts, Kept, Outcome, Recorded, Seen, Snapshot, Tape};
use pointsman::plugin::{PluginSet, build};
use pointsman::replay::{self, Options};
use serde_json::json;
use tokio::time::Instant;

const EXCHANGES: u64 = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(10).measurement_time(Duration::from_secs(20)).throughput(Throughput::Elements(EXCHANGES));
    let folder = tempfile::tempdir().expect("a folder");
    let (component, recording) = (component(), folder.path().join("recording-1.jsonl"));
    std::fs::write(&recording, recorded(&component)).expect("a file");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in [1, cores] {
        let options = Options {
            recording: recording.clone(),
            plugin: component.clone(),
            against: None,
            name: None,
            settings: None,
            prices: None,
            threads,
            examples: 2,
        };
        group.bench_function(format!("a thousand exchanges, three calls each, threads: {threads}"), |bencher| {
            bencher.iter(|| {
                let report = replay::run(&options).expect("a replay");
                assert_eq!((report.replayed, report.changed, report.unread), (EXCHANGES, 0, 0), "{report}");
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

/// The guest with all three hooks, built by the host's own builder.
fn component() -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let options = build::Options {
        target_dir: Some(temporary.join("guests")),
        component: Some(temporary.join("benches-guest-replay.wasm")),
    };
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/policy");
    build::build(&dir, &options).unwrap_or_else(|error| panic!("{error}")).component
}

/// A thousand exchanges, as a recording's file has them.
fn recorded(component: &Path) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let engine = Engine::new().expect("an engine");
    let (set, errors) = PluginSet::build(&engine, &[settings(component)], None::<&Path>, None);
    assert!(errors.is_empty(), "{errors:?}");
    let set = Arc::new(set);
    let snapshot = Snapshot { digest: "bench".to_owned(), plugins: vec![Facts::from(&*set.all()[0])], prices: Vec::new() };
    let mut file = format!("{}\n{}\n", json!({ "recording": 1, "by": "a bench" }), json!({ "snapshot": snapshot }));
    let around = Arc::new(runtime.block_on(Around::new()));
    for number in 0..EXCHANGES {
        let exchange = runtime.block_on(one(&set, &around, number));
        let _ = writeln!(file, "{}", json!({ "exchange": exchange }));
    }
    file
}

async fn one(set: &Arc<PluginSet>, around: &Arc<Around>, number: u64) -> Recorded {
    let id = format!("0192f3a0-1111-7222-8333-{number:012}");
    let taped = Arc::new(Taped { id: id.clone(), around: around.clone(), tape: Tape::recording(1 << 20) });
    let request = request(number);
    let mut session = Session::new(set.clone(), taped.clone(), head(id));
    let prompt = session.select(&request).await.expect("no failure");
    let key = session.key(&request).await.expect("no failure");
    let route = session.route(&request).await.expect("no failure").said;
    assert!(prompt.is_some() && key.is_some() && route.is_some(), "it has an opinion at each hook");
    drop(session);
    let Kept { head, calls, requests, .. } = taped.tape.take();
    let attempt = Attempted { model: "small".into(), status: Some(200), took_us: 400_000, ..Attempted::default() };
    Recorded {
        configuration: "bench".into(),
        head: head.expect("it was met"),
        headers: visible(taped.headers()),
        requests: requests.iter().map(|request| String::from_utf8_lossy(request.bytes()).into_owned()).collect(),
        answers: Vec::new(),
        parts: Vec::new(),
        cut: false,
        models: around.candidates().into_iter().map(seen).collect(),
        candidates: around.candidates().into_iter().map(|model| model.model).collect(),
        calls,
        outcome: Outcome {
            status: 200,
            ending: "whole".into(),
            model: Some("small".into()),
            cache: "miss".into(),
            tokens: Some((300, 120)),
            cost: Some(30),
            first_byte_us: Some(300_000),
            total_us: 900_000,
            attempts: vec![attempt],
        },
        redacted: false,
    }
}

fn seen(upstream: Upstream) -> Seen {
    Seen { name: upstream.model.clone(), may_choose: true, upstream, status: None }
}

fn settings(component: &Path) -> Settings {
    let grants = ["config", "random", "upstreams"];
    Settings {
        name: "policy".into(),
        component: component.to_owned(),
        hooks: Hook::ALL.to_vec(),
        tenants: Vec::new(),
        models: Vec::new(),
        grants: grants.map(str::to_owned).to_vec(),
        fail: true,
        deadline: Duration::from_secs(1),
        memory: 16 << 20,
        reuse: false,
        kv: pointsman::plugin::kv::Limits { memory: 0, tenant_memory: 0, tenant_entries: 0 },
        http: None,
        source: Default::default(),
        quarantine: Default::default(),
        release: Default::default(),
        config: json!({ "limit": 400 }).as_object().cloned().unwrap_or_default(),
    }
}

fn request(number: u64) -> Arc<ChatRequest> {
    let question = format!("{number}: {}", "How do I reset my password, and why was I not asked for the old one? ".repeat(14));
    let body = json!({
        "model": "auto",
        "messages": [{ "role": "system", "content": "You answer briefly." }, { "role": "user", "content": question }],
        "temperature": 0.2,
        "max_tokens": 256,
    });
    Arc::new(ChatRequest::parse(Bytes::from(body.to_string())).expect("a request"))
}

fn head(id: String) -> RequestHead {
    RequestHead {
        id,
        tenant: "acme".into(),
        principal: Some("app".into()),
        operation: Operation::Chat,
        model: "auto".into(),
        prompt_tokens: 300,
        max_tokens: Some(256),
        temperature: Some(0.2),
        streaming: true,
        has_tools: false,
        prompt: None,
        deadline_ms: 30_000,
        received_at: 1_700_000_000_000,
    }
}

/// An exchange that is recorded.
struct Taped {
    id: String,
    around: Arc<Around>,
    tape: Tape,
}

impl Surroundings for Taped {
    fn id(&self) -> &str {
        &self.id
    }

    fn tenant(&self) -> &str {
        self.around.tenant()
    }

    fn headers(&self) -> &HeaderMap {
        self.around.headers()
    }

    fn received_at(&self) -> u64 {
        self.around.received_at()
    }

    fn started(&self) -> Instant {
        self.around.started()
    }

    fn candidates(&self) -> Vec<Upstream> {
        self.around.candidates()
    }

    fn model(&self, name: &str) -> Option<Upstream> {
        self.around.model(name)
    }

    fn may_choose(&self, model: &str) -> bool {
        self.around.may_choose(model)
    }

    fn label(&self, name: &str) -> Option<String> {
        self.around.label(name)
    }

    fn leave(&self, labels: Vec<(String, String)>) {
        self.around.leave(labels);
    }

    fn tape(&self) -> Option<&Tape> {
        Some(&self.tape)
    }

    fn prompt_vector<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        self.around.prompt_vector(text)
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        self.around.embed(text)
    }

    fn classify(&self, examples: &str, vector: &[f32], k: usize) -> Option<Vec<(String, f32)>> {
        self.around.classify(examples, vector, k)
    }
}
