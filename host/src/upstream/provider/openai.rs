//! OpenAI's API, and everything that speaks it: vLLM, SGLang, Ollama, llama.cpp, and many vendors.

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use super::{Operation, Provider};

/// `kind = "openai"`.
pub(super) const OPENAI: Provider = Provider { name: "openai", path, authenticate };

fn path(operation: Operation) -> &'static str {
    match operation {
        Operation::Chat => "/chat/completions",
        Operation::Embeddings => "/embeddings",
    }
}

fn authenticate(key: &str) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(&format!("Bearer {key}")).ok()?;
    value.set_sensitive(true);
    Some((AUTHORIZATION, value))
}
