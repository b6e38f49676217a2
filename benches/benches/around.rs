//! What a gateway would lend to a plugin: one exchange's headers, models and embeddings, fixed.
//!
//! **Invariant:** it answers as a gateway does whose snapshot is already there: nothing waits, nothing is locked. An embedding is
//! computed anew each time, as each exchange does once.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::HeaderMap;
use pointsman::embed::built_in::BuiltIn;
use pointsman::embed::examples::ExampleSets;
use pointsman::plugin::imports::{EmbedError, Price, Surroundings, Upstream};
use tokio::time::Instant;

/// An exchange that does not change.
pub(crate) struct Around {
    headers: HeaderMap,
    started: Instant,
    models: Vec<Upstream>,
    embedder: BuiltIn,
    examples: ExampleSets,
}

impl Around {
    /// Twenty headers, two models, and the example set `complexity`.
    pub(crate) async fn new() -> Self {
        let mut headers: HeaderMap =
            (0..18).map(|number| (name(number), format!("the value of header {number}").parse().expect("a value"))).collect();
        headers.insert("x-tier", "free".parse().expect("a value"));
        headers.insert("x-user-id", "user-42".parse().expect("a value"));
        let model = |model: &str, input| Upstream {
            model: model.into(),
            provider: "local".into(),
            price: Some(Price { input, output: input * 2 }),
            endpoints: 2,
            in_flight: 3,
            failing: 0.0,
            first_byte_ms: Some(40),
        };
        let embedder = BuiltIn::new().expect("the model inside pointsman");
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let simple = texts(&["What is the capital of France?", "Translate hello into Spanish.", "How do I reset my password?"]);
        let complex = texts(&[
            "Prove that the algorithm terminates.",
            "Debug this deadlock between two threads.",
            "List every risk in this contract.",
        ]);
        let sets = vec![("complexity".to_owned(), vec![("simple".to_owned(), simple), ("complex".to_owned(), complex)])];
        let examples = ExampleSets::build(&embedder, sets).await.expect("texts with a meaning");
        Self {
            headers,
            started: Instant::now(),
            models: vec![model("small", 50_000), model("large", 2_000_000)],
            embedder,
            examples,
        }
    }

    fn vector(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        self.embedder.vector(text).map_err(|_| EmbedError::Empty)
    }
}

fn name(number: usize) -> http::HeaderName {
    format!("x-header-{number:02}").parse().expect("a name")
}

impl Surroundings for Around {
    fn id(&self) -> &str {
        "0192f3a0-1111-7222-8333-444455556666"
    }

    fn tenant(&self) -> &str {
        "acme"
    }

    fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    fn received_at(&self) -> u64 {
        1_700_000_000_000
    }

    fn started(&self) -> Instant {
        self.started
    }

    fn candidates(&self) -> Vec<Upstream> {
        self.models.clone()
    }

    fn model(&self, name: &str) -> Option<Upstream> {
        self.models.iter().find(|model| model.model == name).cloned()
    }

    fn may_choose(&self, model: &str) -> bool {
        self.models.iter().any(|own| own.model == model)
    }

    fn label(&self, _: &str) -> Option<String> {
        None
    }

    fn leave(&self, _: Vec<(String, String)>) {}

    fn prompt_vector<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        Box::pin(async move { self.vector(text) })
    }

    fn embed<'a>(&'a self, text: &'a str) -> BoxFuture<'a, Result<Arc<[f32]>, EmbedError>> {
        Box::pin(async move { self.vector(text) })
    }

    fn classify(&self, examples: &str, vector: &[f32], k: usize) -> Option<Vec<(String, f32)>> {
        self.examples.classify(examples, vector, k)
    }
}
