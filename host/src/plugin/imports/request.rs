//! `request-data`: the request and the answer, read lazily.
//!
//! **Invariant:** only what is asked for crosses into the guest.

use http::HeaderMap;
use http::header::HeaderName;
use wasmtime::Result;
use wasmtime::component::Resource;

use super::{ChunkHandle, RequestHandle, ResponseHandle, State, cut};
use crate::plugin::bindings::request_data::{Host, HostChunk, HostRequest, HostResponse, Message};
use crate::plugin::bindings::types::{self, Role};

/// Labels that one call may leave; the contract names these numbers.
const MAX_LABELS: usize = 16;
/// Bytes of a label's name.
const MAX_NAME: usize = 64;
/// Bytes of its value.
const MAX_LABEL: usize = 256;

/// Words in names of headers that carry credentials, whoever has thought of them: `proxy-authorization`, `x-amz-security-token`,
/// `cf-access-client-secret`, `set-cookie`.
const CREDENTIALS: [&str; 10] =
    ["authorization", "cookie", "token", "secret", "password", "passwd", "credential", "credentials", "signature", "apikey"];
/// Ends of such names whose last word alone says nothing: a key may be a cache's, too.
const KEYS: [&str; 8] =
    ["api-key", "access-key", "secret-key", "private-key", "account-key", "auth-key", "subscription-key", "functions-key"];

/// Does a header carry credentials, by its name? One too many hides a header; one too few shows a secret.
fn is_sensitive(name: &str) -> bool {
    name.split(['-', '_']).any(|word| CREDENTIALS.contains(&word)) || KEYS.iter().any(|key| name.ends_with(key))
}

/// The headers that guests can see, in their order, and of each its first value: a guest sees no other.
pub fn visible(headers: &HeaderMap) -> Vec<(String, String)> {
    let names = headers.keys().map(HeaderName::as_str).filter(|name| !is_sensitive(name));
    let value = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    names.filter_map(|name| Some((name.to_owned(), value(name)?))).collect()
}

impl State {
    fn header(&self, name: &str) -> Option<String> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        if is_sensitive(name.as_str()) {
            return None;
        }
        let value = self.around.as_ref()?.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }
}

impl types::Host for State {}
impl Host for State {}

impl HostRequest for State {
    fn header(&mut self, _: Resource<RequestHandle>, name: String) -> Result<Option<String>> {
        Ok(Self::header(self, &name))
    }

    fn headers(&mut self, _: Resource<RequestHandle>, names: Vec<String>) -> Result<Vec<Option<String>>> {
        Ok(names.iter().map(|name| Self::header(self, name)).collect())
    }

    fn header_names(&mut self, _: Resource<RequestHandle>) -> Result<Vec<String>> {
        let Some(around) = &self.around else { return Ok(Vec::new()) };
        Ok(around.headers().keys().map(HeaderName::as_str).filter(|name| !is_sensitive(name)).map(str::to_owned).collect())
    }

    fn message_count(&mut self, _: Resource<RequestHandle>) -> Result<u32> {
        Ok(self.request.as_ref().map_or(0, |request| request.messages().len() as u32))
    }

    fn message(&mut self, _: Resource<RequestHandle>, index: u32) -> Result<Option<Message>> {
        let Some(request) = &self.request else { return Ok(None) };
        Ok(request
            .messages()
            .get(index as usize)
            .map(|message| Message { role: role_of(&message.role), text: message.text.to_string() }))
    }

    fn last_user_text(&mut self, _: Resource<RequestHandle>, max_bytes: u32) -> Result<String> {
        let text = self.request.as_ref().and_then(|request| request.last_user_text().map(|text| cut(text, max_bytes).to_owned()));
        Ok(text.unwrap_or_default())
    }

    fn json(&mut self, _: Resource<RequestHandle>, pointer: String) -> Result<Option<String>> {
        Ok(self.request.as_ref().and_then(|request| request.pointer(&pointer).map(str::to_owned)))
    }

    fn metadata(&mut self, _: Resource<RequestHandle>, key: String) -> Result<Option<String>> {
        let own = self.labels.iter().rev().find(|(name, _)| *name == key).map(|(_, value)| value.clone());
        Ok(own.or_else(|| self.around.as_ref()?.label(&key)))
    }

    fn label(&mut self, _: Resource<RequestHandle>, name: String, value: String) -> Result<()> {
        if self.labels.len() < MAX_LABELS && (1..=MAX_NAME).contains(&name.len()) && value.len() <= MAX_LABEL {
            self.labels.push((name, value));
        }
        Ok(())
    }

    fn drop(&mut self, _: Resource<RequestHandle>) -> Result<()> {
        Ok(())
    }
}

impl HostResponse for State {
    fn text(&mut self, _: Resource<ResponseHandle>, max_bytes: u32) -> Result<String> {
        let text = self.answer.as_ref().and_then(|answer| answer.text().map(|text| cut(&text, max_bytes).to_owned()));
        Ok(text.unwrap_or_default())
    }

    fn json(&mut self, _: Resource<ResponseHandle>, pointer: String) -> Result<Option<String>> {
        Ok(self.answer.as_ref().and_then(|answer| answer.pointer(&pointer).map(str::to_owned)))
    }

    fn mean_logprob(&mut self, _: Resource<ResponseHandle>) -> Result<Option<f32>> {
        Ok(self.answer.as_ref().and_then(|answer| answer.sense()?.mean_logprob))
    }

    fn is_whole(&mut self, _: Resource<ResponseHandle>) -> Result<bool> {
        Ok(!self.partial)
    }

    fn drop(&mut self, _: Resource<ResponseHandle>) -> Result<()> {
        Ok(())
    }
}

impl HostChunk for State {
    fn text(&mut self, _: Resource<ChunkHandle>, max_bytes: u32) -> Result<String> {
        Ok(self.part.as_ref().map_or("", |part| cut(part.text(), max_bytes)).to_owned())
    }

    fn json(&mut self, _: Resource<ChunkHandle>, event: u32, pointer: String) -> Result<Option<String>> {
        Ok(self.part.as_ref().and_then(|part| part.pointer(event as usize, &pointer)))
    }

    fn drop(&mut self, _: Resource<ChunkHandle>) -> Result<()> {
        Ok(())
    }
}

/// An unknown role is shown as `user`: the least trusted one.
fn role_of(role: &str) -> Role {
    match role {
        "system" => Role::System,
        "developer" => Role::Developer,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => Role::User,
    }
}
