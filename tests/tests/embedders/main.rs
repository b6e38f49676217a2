//! Embedders: MiniLM in onnxruntime as `pointsman model install minilm` leaves it, a provider's, and how they are installed and named.
//!
//! The real binary throughout where a model is loaded: onnxruntime is a process's own.

mod install;
mod minilm;
mod remote;

use serde_json::{Value, json};
use tests::{Answer, Door};

/// The vectors of texts, by a model of the host's.
fn vectors(host: &Door, model: &str, texts: &[&str]) -> Vec<Vec<f64>> {
    let answer = host.post("/v1/embeddings", json!({ "model": model, "input": texts }).to_string().as_bytes(), &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let vector = |one: &Value| one["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    answer.json()["data"].as_array().unwrap().iter().map(vector).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// What the cache did, of an answer that must be one.
fn cache(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.cache().to_owned()
}
