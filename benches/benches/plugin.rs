//! What the calls of plugins cost, through the host's own API: engine, plugin set, session.
//!
//! | name | what is timed |
//! |---|---|
//! | `no plugin` | a session that asks nobody: what the others have in common |
//! | `fresh, passes` | a fresh instance that has no opinion: instantiate, enter and leave the guest, drop |
//! | `reused, passes` | the same call on an instance that is there; the difference is instantiate and drop alone |
//! | `fresh, one hook` | a fresh instance that routes, at 1 KB of prompt and at 128 KB |
//! | `reused, one hook` | a hook with an opinion, on an instance that is there |
//! | `three hooks, one instance` | prompting, caching and routing of one component, as an exchange asks them |
//! | `three plugins` | the same three hooks of the three worked plugins, an instance each, an embedding among them |
//! | `… alone` | each of these by itself |
//! | `route-by-task in …, fresh` | one policy in three languages, an embedding and a counter among what it asks; an instance for each exchange |
//! | `route-by-task in …, reused` | the same where the owner wrote `reuse = true` |
//! | `embedding` | what of that is the embedding's |
//!
//! The messages of a request are read once, before: that is the parser's time (`line.rs`), and no plugin's.
//!
//! **Invariant:** a call counts only if the plugin had the opinion that it is timed for.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that cannot be set up, or whose plugin fails, must not print figures"
)]

mod around;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use around::Around;
use benches::report::Times;
use bytes::Bytes;
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use pointsman::dialect::openai_chat::ChatRequest;
use pointsman::plugin::PluginSet;
use pointsman::plugin::bindings::types::{Operation, PromptRef, RequestHead};
use pointsman::plugin::build;
use pointsman::plugin::engine::Engine;
use pointsman::plugin::hooks::Session;
use pointsman::plugin::imports::Surroundings;
use pointsman::plugin::load::{Hook, Settings};
use tokio::runtime::Runtime;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("plugin");
    group.measurement_time(Duration::from_secs(3));
    let bench = Bench::new();
    bench.all(&mut group);
    group.finish();
    criterion.final_summary();
}

struct Bench {
    runtime: Runtime,
    around: Arc<Around>,
    none: Arc<PluginSet>,
    policy: Arc<PluginSet>,
    router: Arc<PluginSet>,
    worked: Arc<PluginSet>,
    /// The worked plugins again, each in a set of its own.
    alone: [Arc<PluginSet>; 3],
    /// The same policy in several languages, with whether its instances are reused.
    languages: Vec<(&'static str, bool, Arc<PluginSet>)>,
}

/// The worked plugins that decide alike, and the languages that they are in.
const LANGUAGES: [(&str, &str); 3] =
    [("route-by-task", "Rust"), ("route-by-task-js", "TypeScript"), ("route-by-task-python", "Python")];

impl Bench {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let around = Arc::new(runtime.block_on(Around::new()));
        let engine = Engine::new().expect("an engine");
        let policy = component("benches/guests/policy");
        let set = |settings: &[Settings]| {
            // Compiled once: an interpreter takes its time.
            let compiled = Path::new(env!("CARGO_TARGET_TMPDIR")).join("components");
            let (set, errors) = PluginSet::build(&engine, settings, Some(&*compiled), None);
            assert!(errors.is_empty(), "{errors:?}");
            Arc::new(set)
        };
        let limit = serde_json::json!({ "limit": 400 });
        let grants = ["config", "random", "upstreams"];
        let none = serde_json::json!({});
        let complexity = serde_json::json!({ "small": "small", "large": "large", "limit": 4000, "examples": "complexity" });
        let arms = serde_json::json!({ "prompt": "support", "arms": { "v1": 50, "v2": 50 }, "sticky": "x-user-id" });
        let worked = [
            ("prompt-ab", Hook::Prompting, &["config", "random"][..], arms),
            ("tenant-cache", Hook::Caching, &["config"], none),
            ("route-by-complexity", Hook::Routing, &["config", "upstreams", "embeddings"], complexity),
        ];
        let tasks = serde_json::json!({
            "examples": "complexity", "models": { "simple": "small", "complex": "large" }, "min_score": -1.0, "per_minute": 1_000_000_000,
        });
        let by_task = ["config", "upstreams", "embeddings", "kv"];
        let mut languages = Vec::new();
        for (name, language) in LANGUAGES {
            let fresh = settings(name, &component(&format!("plugins/{name}")), &[Hook::Routing], &by_task, &tasks);
            let reused = Settings { reuse: true, ..fresh.clone() };
            languages.extend([(language, false, set(&[fresh])), (language, true, set(&[reused]))]);
        }
        let worked = worked
            .map(|(name, hook, grants, config)| settings(name, &component(&format!("plugins/{name}")), &[hook], grants, &config));
        Self {
            around,
            none: set(&[]),
            policy: set(&[settings("policy", &policy, &Hook::ALL, &grants, &limit)]),
            router: set(&[settings("policy", &policy, &[Hook::Routing], &grants, &limit)]),
            worked: set(&worked),
            alone: worked.map(|settings| set(&[settings])),
            languages,
            runtime,
        }
    }

    fn all(&self, group: &mut BenchmarkGroup<'_, WallTime>) {
        let (short, long) = (request(1 << 10), request(128 << 10));
        let session = |set: &Arc<PluginSet>, operation| Session::new(set.clone(), self.around.clone(), head(operation));
        self.time(group, "no plugin", async || {
            let mut session = session(&self.none, Operation::Chat);
            assert!(session.route(&short).await.expect("no failure").said.is_none());
        });
        self.time(group, "fresh, passes", async || {
            let mut session = session(&self.router, Operation::Embedding);
            assert!(session.route(&short).await.expect("no failure").said.is_none());
        });
        for (name, request) in [("fresh, one hook", &short), ("fresh, one hook, 128 KB of prompt", &long)] {
            self.time(group, name, async || {
                let mut session = session(&self.router, Operation::Chat);
                assert!(session.route(request).await.expect("no failure").said.is_some());
            });
        }
        self.reused(group, "reused, passes", Operation::Embedding, &short);
        self.reused(group, "reused, one hook", Operation::Chat, &short);
        let opinions = [
            ("three hooks, one instance", &self.policy, 3),
            ("three plugins", &self.worked, 3),
            ("prompt-ab alone", &self.alone[0], 1),
            ("tenant-cache alone", &self.alone[1], 1),
            ("route-by-complexity alone", &self.alone[2], 1),
        ];
        for (name, set, expected) in opinions {
            self.time(group, name, async || {
                let mut session = session(set, Operation::Chat);
                let prompt = session.select(&short).await.expect("no failure");
                let key = session.key(&short).await.expect("no failure");
                let route = session.route(&short).await.expect("no failure").said;
                assert_eq!([prompt.is_some(), key.is_some(), route.is_some()].iter().filter(|said| **said).count(), expected);
            });
        }
        self.by_language(group, &short);
    }

    /// One policy in several languages. What its instances do not share with the others is the language.
    fn by_language(&self, group: &mut BenchmarkGroup<'_, WallTime>, request: &Arc<ChatRequest>) {
        for (language, reused, set) in &self.languages {
            let name = format!("route-by-task in {language}, {}", if *reused { "reused" } else { "fresh" });
            self.time(group, &name, async || {
                let mut session = Session::new(set.clone(), self.around.clone(), head(Operation::Chat));
                assert!(session.route(request).await.expect("no failure").said.is_some());
            });
        }
        let text = request.last_user_text().expect("there is one");
        self.time(group, "embedding", async || {
            assert!(self.around.prompt_vector(text).await.is_ok());
        });
    }

    /// `select` of a plugin with further hooks keeps the instance for them, and so for the next `select`.
    fn reused(&self, group: &mut BenchmarkGroup<'_, WallTime>, name: &str, operation: Operation, request: &Arc<ChatRequest>) {
        let mut session = Session::new(self.policy.clone(), self.around.clone(), head(operation));
        self.time(group, name, async || {
            let said = session.select(request).await.expect("no failure");
            assert_eq!(said.is_some(), operation == Operation::Chat);
        });
    }

    /// Times a call by itself, so that percentiles can be told beside criterion's mean.
    fn time(&self, group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut call: impl AsyncFnMut()) {
        let mut times = Times::new().expect("bounds");
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                self.runtime.block_on(async {
                    let mut total = Duration::ZERO;
                    for _ in 0..count {
                        let began = Instant::now();
                        call().await;
                        let took = began.elapsed();
                        times.record(took);
                        total += took;
                    }
                    total
                })
            });
        });
        if let Some(found) = times.summary() {
            let _ = writeln!(
                std::io::stdout(),
                "{:24}p50 {:.2} µs, p90 {:.2} µs, p99 {:.2} µs\n",
                "",
                found.p50,
                found.p90,
                found.p99
            );
        }
    }
}

/// Builds a plugin's folder with the host's own builder. Nothing is left in the folder.
fn component(folder: &str) -> PathBuf {
    let temporary = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let file = temporary.join(folder.replace('/', "-")).with_extension("wasm");
    let options = build::Options { target_dir: Some(temporary.join("guests")), component: Some(file) };
    build::build(&dir, &options).unwrap_or_else(|error| panic!("{folder}: {error}")).component
}

fn settings(name: &str, component: &Path, hooks: &[Hook], grants: &[&str], config: &serde_json::Value) -> Settings {
    Settings {
        name: name.to_owned(),
        component: component.to_owned(),
        hooks: hooks.to_vec(),
        tenants: Vec::new(),
        models: Vec::new(),
        grants: grants.iter().map(|grant| (*grant).to_owned()).collect(),
        // A failure is an error of the session then, and ends the bench.
        fail: true,
        deadline: Duration::from_secs(1),
        memory: 16 << 20,
        reuse: false,
        kv: pointsman::plugin::kv::Limits { memory: 16 << 20, tenant_memory: 1 << 20, tenant_entries: 4_000 },
        http: None,
        source: Default::default(),
        quarantine: Default::default(),
        release: Default::default(),
        config: config.as_object().cloned().unwrap_or_default(),
    }
}

/// A request with a prompt of about that many bytes, its messages read.
fn request(bytes: usize) -> Arc<ChatRequest> {
    let question = "How do I reset my password, and why was I not asked for the old one? ".repeat(bytes / 69 + 1);
    let body = serde_json::json!({
        "model": "auto",
        "messages": [{ "role": "system", "content": "You answer briefly." }, { "role": "user", "content": question }],
        "prompt": { "id": "support" },
        "temperature": 0.2,
        "max_tokens": 256,
    });
    let request = ChatRequest::parse(Bytes::from(body.to_string())).expect("a request");
    assert_eq!(request.messages().len(), 2);
    Arc::new(request)
}

/// What the gateway tells every plugin of it.
fn head(operation: Operation) -> RequestHead {
    RequestHead {
        id: "0192f3a0-1111-7222-8333-444455556666".into(),
        tenant: "acme".into(),
        principal: Some("app".into()),
        operation,
        model: "auto".into(),
        prompt_tokens: 300,
        max_tokens: Some(256),
        temperature: Some(0.2),
        streaming: true,
        has_tools: false,
        prompt: Some(PromptRef { name: "support".into(), version: None }),
        deadline_ms: 30_000,
        received_at: 1_700_000_000_000,
    }
}
