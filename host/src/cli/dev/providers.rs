//! The providers of `pointsman dev`: the demo model, and whatever real ones this machine has at hand.
//!
//! What it does not do: it sends no key anywhere; a key is only looked for, by name.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A provider, and the models that it brings.
pub(super) struct Found {
    /// Its name in `[providers]`.
    pub(super) name: &'static str,
    /// Its base URL.
    pub(super) endpoint: String,
    /// The environment variable with its key.
    pub(super) key: Option<&'static str>,
    /// The models that it brings.
    pub(super) models: Vec<Offered>,
}

/// A model's name in `[models]`, its name at the provider, and USD per million tokens of input and output.
type Offered = (String, String, Option<(f64, f64)>);

/// How long a local server may take to say which models it has.
const PATIENCE: Duration = Duration::from_millis(300);

/// The demo model at `demo`, and the real providers that are there.
pub(super) fn found(demo: SocketAddr) -> Vec<Found> {
    let own = |name: &str, price| (name.to_owned(), format!("demo-{name}"), Some(price));
    let mut found = vec![Found {
        name: "demo",
        endpoint: format!("http://{demo}/v1"),
        key: None,
        models: vec![own("small", (0.05, 0.10)), own("large", (2.5, 10.0))],
    }];
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if is_set("OPENAI_API_KEY") {
        let base = std::env::var("OPENAI_BASE_URL").unwrap_or_else(|_| "https://api.openai.com/v1".to_owned());
        let models = [("gpt-4.1-mini", (0.40, 1.60)), ("gpt-4.1", (2.0, 8.0))];
        found.push(Found {
            name: "openai",
            endpoint: base,
            key: Some("OPENAI_API_KEY"),
            models: models.map(|(name, price)| (name.to_owned(), name.to_owned(), Some(price))).into(),
        });
    }
    if is_set("ANTHROPIC_API_KEY") {
        // Anthropic answers OpenAI's dialect under the same base URL.
        let models = [("claude-haiku-4-5", (1.0, 5.0)), ("claude-sonnet-4-5", (3.0, 15.0))];
        found.push(Found {
            name: "anthropic",
            endpoint: "https://api.anthropic.com/v1".to_owned(),
            key: Some("ANTHROPIC_API_KEY"),
            models: models.map(|(name, price)| (name.to_owned(), name.to_owned(), Some(price))).into(),
        });
    }
    for (name, port) in [("ollama", 11_434), ("vllm", 8_000)] {
        let models = served(SocketAddr::from(([127, 0, 0, 1], port)));
        if !models.is_empty() {
            found.push(Found {
                name,
                endpoint: format!("http://127.0.0.1:{port}/v1"),
                key: None,
                models: models.into_iter().map(|model| (model.clone(), model, None)).collect(),
            });
        }
    }
    found
}

/// The models that an OpenAI-compatible server on this machine lists; none if nobody answers.
fn served(address: SocketAddr) -> Vec<String> {
    use std::io::{Read, Write};
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // HTTP/1.0: the answer ends with the connection, and is not chunked.
        write!(stream, "GET /v1/models HTTP/1.0\r\nhost: {address}\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(1 << 20).read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().map(|answer| models(&answer)).unwrap_or_default()
}

/// The names in an HTTP answer to `GET /v1/models`.
fn models(answer: &[u8]) -> Vec<String> {
    let Some(body) = memchr::memmem::find(answer, b"\r\n\r\n").map(|end| &answer[end + 4..]) else { return Vec::new() };
    let Ok(list) = serde_json::from_slice::<serde_json::Value>(body) else { return Vec::new() };
    let names = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(|model| model["id"].as_str()).take(20).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_models_is_read() {
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"data\":[{\"id\":\"llama3\"},{\"x\":1},{\"id\":\"qwen\"}]}";
        assert_eq!(models(answer), ["llama3", "qwen"]);
        assert!(models(b"HTTP/1.0 404 Not Found\r\n\r\nnope").is_empty());
        assert!(models(b"").is_empty());
    }
}
