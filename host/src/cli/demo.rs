//! The demo model of `pointsman dev`: an OpenAI-compatible server on loopback that answers deterministically, plain and
//! streamed, so that everything else (pool, connections, streams, cache) is the real thing.
//!
//! What it does not do: it thinks nothing. Its answer tells what reached it, which is what one wants to see.
//!
//! **Invariant:** the same request gets the same answer.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures_util::stream;
use serde_json::{Value, json};

/// Time between two words of a stream, as a small model on a GPU would take.
const PER_WORD: Duration = Duration::from_millis(20);

/// Starts the demo model on a free port; it runs until the process ends.
///
/// # Errors
/// When no port or no thread can be had.
pub fn start() -> std::io::Result<SocketAddr> {
    let socket = TcpListener::bind(("127.0.0.1", 0))?;
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("demo-model".into()).spawn(move || {
        runtime.block_on(async move {
            let router = Router::new().route("/v1/chat/completions", post(chat));
            match tokio::net::TcpListener::from_std(socket) {
                Ok(listener) => drop(axum::serve(listener, router).await),
                Err(error) => tracing::error!(%error, "the demo model could not start"),
            }
        });
    })?;
    Ok(address)
}

async fn chat(body: Bytes) -> Response {
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return (
            StatusCode::BAD_REQUEST,
            json!({ "error": { "message": "not JSON", "type": "invalid_request_error", "param": null, "code": null } })
                .to_string(),
        )
            .into_response();
    };
    let model = request["model"].as_str().unwrap_or("demo").to_owned();
    let words = answer(&request, &model);
    let prompt = body.len() / 4;
    let usage = json!({ "prompt_tokens": prompt, "completion_tokens": words.len(), "total_tokens": prompt + words.len() });
    let id = format!("chatcmpl-demo-{}", &blake3::hash(&body).to_hex()[..12]);
    let head = json!({ "id": id, "created": 0, "model": model });
    if request["stream"] != true {
        let mut whole = head;
        whole["object"] = "chat.completion".into();
        whole["choices"] =
            json!([{ "index": 0, "message": { "role": "assistant", "content": words.concat() }, "finish_reason": "stop" }]);
        whole["usage"] = usage;
        return ([(header::CONTENT_TYPE, "application/json")], whole.to_string()).into_response();
    }
    let chunk = move |delta: Value, finish: Value| {
        let mut chunk = head.clone();
        chunk["object"] = "chat.completion.chunk".into();
        chunk["choices"] = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
        chunk
    };
    let mut events = vec![chunk(json!({ "role": "assistant", "content": "" }), Value::Null)];
    events.extend(words.iter().map(|word| chunk(json!({ "content": word }), Value::Null)));
    events.push(chunk(json!({}), "stop".into()));
    if request["stream_options"]["include_usage"] == true {
        let mut last = chunk(json!({}), Value::Null);
        last["choices"] = json!([]);
        last["usage"] = usage;
        events.push(last);
    }
    let mut texts: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    texts.push("data: [DONE]\n\n".into());
    let paced = stream::unfold(texts.into_iter(), |mut rest| async {
        let text = rest.next()?;
        tokio::time::sleep(PER_WORD).await;
        Some((Ok::<_, std::convert::Infallible>(text), rest))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(paced)).into_response()
}

/// What the model says, word by word: its name, its instructions, and what it was asked.
fn answer(request: &Value, model: &str) -> Vec<String> {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let last = |role: &str| {
        messages
            .iter()
            .rev()
            .find(|message| message["role"] == role)
            .and_then(|message| message["content"].as_str())
            .map(str::to_owned)
    };
    let question = last("user").unwrap_or_default();
    let instructions = last("system").map(|text| format!(" My instructions begin: \"{}\".", head(&text, 60))).unwrap_or_default();
    let text = format!(
        "I am {model}, a demo model.{instructions} You asked: \"{}\" A real model would answer here.",
        head(&question, 200)
    );
    text.split_inclusive(' ').map(str::to_owned).collect()
}

fn head(text: &str, characters: usize) -> String {
    let mut head: String = text.chars().take(characters).collect();
    if head.len() < text.len() {
        head.push('…');
    }
    head
}
