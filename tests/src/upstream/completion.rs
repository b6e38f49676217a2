//! The deterministic model: what it answers to a request, whole, as a stream, and as vectors. Where the last message of a
//! request is its own, it goes on with it: it says the words that are left.
//!
//! **Invariant:** a stream says the same as the whole answer does.

use serde_json::{Value, json};

/// The completion that the request `number` of a server gets.
pub(super) fn of(request: &Value, number: usize, text: Option<&str>) -> Value {
    let model = request["model"].as_str().unwrap_or_default();
    let question = question(request);
    let said = said(request);
    let answer = format!("Answer {number} of {model} to: {question}");
    let text = text.map_or_else(|| answer.split_inclusive(' ').skip(said).collect(), str::to_owned);
    let words = text.split(' ').count();
    let logprobs = (request["logprobs"] == true).then(|| logprobs(&text));
    json!({
        "id": format!("chatcmpl-{number}"),
        "object": "chat.completion",
        "created": 1_750_000_000,
        "model": model,
        "system_fingerprint": "fp_fake",
        "choices": [{ "index": 0, "message": { "role": "assistant", "content": text, "refusal": null }, "logprobs": logprobs, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 7, "completion_tokens": words, "total_tokens": 7 + words },
        "x_unknown": { "kept": [1, 2.50, null] }
    })
}

/// How sure the model is: of words with a question mark it is not.
fn logprobs(text: &str) -> Value {
    let sure = |word: &str| if word.contains('?') { -2.0 } else { -0.1 };
    let content: Vec<_> = text.split_inclusive(' ').map(|word| json!({ "token": word, "logprob": sure(word) })).collect();
    json!({ "content": content, "refusal": null })
}

/// The text of the last user message.
fn question(request: &Value) -> String {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = messages.iter().rev().find(|message| message["role"] == "user");
    last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned()
}

/// Words of the answer that the request has said already: where its last message is the model's own, the model goes on with it.
fn said(request: &Value) -> usize {
    let last = request["messages"].as_array().and_then(|messages| messages.last());
    let said = last.filter(|message| message["role"] == "assistant").and_then(|message| message["content"].as_str());
    said.map_or(0, |said| said.split_inclusive(' ').count())
}

/// The events of a completion: the role, one event a word, tool calls, the reason to finish, usage if asked for.
pub(super) fn stream(completion: &Value, include_usage: bool) -> Vec<String> {
    let message = &completion["choices"][0]["message"];
    let mut chunks = vec![chunk(completion, json!({ "role": "assistant", "content": "" }), Value::Null)];
    let text = message["content"].as_str().unwrap_or_default();
    let tokens = completion["choices"][0]["logprobs"]["content"].as_array();
    chunks.extend(text.split_inclusive(' ').enumerate().map(|(index, word)| {
        let mut chunk = chunk(completion, json!({ "content": word }), Value::Null);
        if let Some(token) = tokens.and_then(|tokens| tokens.get(index)) {
            chunk["choices"][0]["logprobs"] = json!({ "content": [token] });
        }
        chunk
    }));
    for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let mut call = call.clone();
        call["index"] = index.into();
        chunks.push(chunk(completion, json!({ "tool_calls": [call] }), Value::Null));
    }
    chunks.push(chunk(completion, json!({}), completion["choices"][0]["finish_reason"].clone()));
    if include_usage {
        let mut last = chunk(completion, json!({}), Value::Null);
        last["choices"] = json!([]);
        last["usage"] = completion["usage"].clone();
        chunks.push(last);
    }
    let mut events: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn chunk(completion: &Value, delta: Value, finish: Value) -> Value {
    json!({
        "id": completion["id"],
        "object": "chat.completion.chunk",
        "created": completion["created"],
        "model": completion["model"],
        "system_fingerprint": completion["system_fingerprint"],
        "choices": [{ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish }]
    })
}

/// A vector for each input, its length the only thing that it says.
pub(super) fn embeddings(request: &Value) -> Value {
    let inputs = match &request["input"] {
        Value::Array(inputs) => inputs.clone(),
        one => vec![one.clone()],
    };
    let data = inputs.iter().enumerate().map(|(index, input)| {
        let length = input.as_str().unwrap_or_default().len();
        json!({ "object": "embedding", "index": index, "embedding": [length as f64, 0.5, -0.5] })
    });
    json!({ "object": "list", "model": request["model"], "data": data.collect::<Vec<_>>(), "usage": { "prompt_tokens": 3, "total_tokens": 3 } })
}
