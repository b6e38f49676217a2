//! `/v1/embeddings`, from the model inside the host and from an upstream.

use serde_json::{Value, json};
use tests::{Act, FakeUpstream, Host, Running};

fn embed(host: &Running, body: Value) -> tests::Answer {
    host.post("/v1/embeddings", body.to_string().as_bytes(), &[])
}

fn vector(value: &Value) -> Vec<f64> {
    value["embedding"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[test]
fn the_built_in_model_knows_what_is_near() {
    let host = Host::new().upstream(&FakeUpstream::start()).built_in().start();
    let inputs = ["How do I reset my password?", "I forgot my password, how can I reset it?", "What is the capital of France?"];
    let answer = embed(&host, json!({ "model": "built-in", "input": inputs })).json();
    let vectors: Vec<Vec<f64>> = answer["data"].as_array().unwrap().iter().map(vector).collect();
    assert_eq!((vectors.len(), answer["object"].as_str(), answer["data"][2]["index"].as_u64()), (3, Some("list"), Some(2)));
    for vector in &vectors {
        assert!((cosine(vector, vector) - 1.0).abs() < 1e-3, "a unit vector");
    }
    assert!(cosine(&vectors[0], &vectors[1]) > cosine(&vectors[0], &vectors[2]) + 0.2);
    assert!(answer["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
}

/// The Python SDK asks for base64 and decodes it itself.
#[test]
fn base64_holds_the_same_vector() {
    let host = Host::new().upstream(&FakeUpstream::start()).built_in().start();
    let floats = vector(&embed(&host, json!({ "model": "built-in", "input": "hello world" })).json()["data"][0]);
    let encoded = embed(&host, json!({ "model": "built-in", "input": ["hello world"], "encoding_format": "base64" })).json();
    let bytes = decode(encoded["data"][0]["embedding"].as_str().unwrap());
    let decoded: Vec<f64> = bytes.chunks(4).map(|word| f64::from(f32::from_le_bytes(word.try_into().unwrap()))).collect();
    assert_eq!(decoded.len(), floats.len());
    assert!(decoded.iter().zip(&floats).all(|(x, y)| (x - y).abs() < 1e-6));
}

/// Base64, read by hand so that it is not the host's own code that judges.
fn decode(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = text.bytes().filter(|byte| *byte != b'=').flat_map(|byte| {
        let value = alphabet.iter().position(|known| *known == byte).expect("base64");
        (0..6).rev().map(move |bit| value >> bit & 1)
    });
    let bits: Vec<usize> = bits.collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | *bit as u8)).collect()
}

#[test]
fn what_the_built_in_model_cannot_do_is_refused() {
    let host = Host::new().upstream(&FakeUpstream::start()).built_in().start();
    for (body, param) in [
        (json!({ "model": "built-in" }), "input"),
        (json!({ "model": "built-in", "input": [] }), "input"),
        (json!({ "model": "built-in", "input": "" }), "input"),
        (json!({ "model": "built-in", "input": [1, 2, 3] }), "input"),
        (json!({ "model": "built-in", "input": "x", "dimensions": 7 }), "dimensions"),
        (json!({ "model": "built-in", "input": "x", "encoding_format": "hex" }), "encoding_format"),
    ] {
        let answer = embed(&host, body.clone());
        assert_eq!((answer.status, answer.json()["error"]["param"].as_str()), (400, Some(param)), "{body}");
    }
    let wrong = embed(&host, json!({ "model": "small", "input": "x" }));
    assert_eq!((wrong.status, wrong.code().as_str()), (404, "model_not_found"), "a chat model makes no vectors");
}

#[test]
fn an_upstream_model_gets_the_clients_bytes() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let sent = r#"{ "input" : [[1,2],[3]], "model":"vectors", "user": "u" }"#;
    fake.next(Act::body("application/json", [r#"{"data":[], "x": 1.0}"#]));
    let answer = host.post("/v1/embeddings", sent.as_bytes(), &[]);
    assert_eq!(fake.last().text(), r#"{ "input" : [[1,2],[3]], "model":"vectors-1", "user": "u" }"#);
    assert_eq!(fake.last().line, "POST /v1/embeddings HTTP/1.1");
    assert_eq!(
        (answer.status, answer.text(), answer.header("x-pointsman-model")),
        (200, r#"{"data":[], "x": 1.0}"#, Some("vectors"))
    );
    fake.next(Act::refuse(429, "slow_down").header("retry-after", "7"))
        .next(Act::refuse(429, "slow_down").header("retry-after", "7"));
    let refused = embed(&host, json!({ "model": "vectors", "input": "x" }));
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("7")));
}
