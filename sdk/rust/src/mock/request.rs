//! The request as the client has sent it, in OpenAI's words, and what the contract shows of it.
//!
//! What it does not do: it checks nothing; what is no message is the provider's to refuse.
//!
//! **Invariant:** what a plugin reads of a body here it reads of the same body in a host: messages, texts, the head.

use serde_json::{Value, json};

use super::state::State;
use crate::{Message, PromptRef, Role};

/// Never visible: credentials, by the words in a header's name, as the host knows them.
const HIDDEN: [&str; 10] =
    ["authorization", "cookie", "token", "secret", "password", "passwd", "credential", "credentials", "signature", "apikey"];
const HIDDEN_KEYS: [&str; 8] =
    ["api-key", "access-key", "secret-key", "private-key", "account-key", "auth-key", "subscription-key", "functions-key"];

fn is_hidden(name: &str) -> bool {
    name.split(['-', '_']).any(|word| HIDDEN.contains(&word)) || HIDDEN_KEYS.iter().any(|key| name.ends_with(key))
}

impl State {
    /// Sets a field of the body, and what of the head follows from it.
    pub(super) fn set(&mut self, field: &str, value: Value) {
        self.body[field] = value;
        self.follow();
    }

    pub(super) fn say(&mut self, role: Role, text: String) {
        let message = json!({ "role": name_of(role), "content": text });
        match self.body["messages"].as_array_mut() {
            Some(messages) => messages.push(message),
            None => self.body["messages"] = json!([message]),
        }
        self.follow_messages();
    }

    pub(super) fn receive(&mut self, body: Value) {
        self.body = body;
        self.follow();
    }

    fn follow(&mut self) {
        let (body, head) = (&self.body, &mut self.head);
        let count = |field: &str| body[field].as_u64().and_then(|count| u32::try_from(count).ok());
        body["model"].as_str().unwrap_or("auto").clone_into(&mut head.model);
        head.streaming = body["stream"].as_bool().unwrap_or(false);
        head.max_tokens = count("max_completion_tokens").or(count("max_tokens"));
        head.temperature = body["temperature"].as_f64().map(|value| value as f32);
        head.has_tools = ["tools", "functions"].iter().any(|field| body[field].as_array().is_some_and(|tools| !tools.is_empty()));
        head.prompt = body["prompt"]["id"]
            .as_str()
            .map(|name| PromptRef { name: name.to_owned(), version: body["prompt"]["version"].as_str().map(str::to_owned) });
        self.follow_messages();
    }

    /// The host's estimate: a quarter of the messages' bytes.
    fn follow_messages(&mut self) {
        let bytes = self.body.get("messages").map_or(0, |messages| messages.to_string().len());
        self.head.prompt_tokens = u32::try_from(bytes.div_ceil(4)).unwrap_or(u32::MAX);
    }

    fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().map_or(&[], Vec::as_slice)
    }

    pub(super) fn message_count(&self) -> u32 {
        self.messages().len() as u32
    }

    pub(super) fn message(&self, index: u32) -> Option<Message> {
        let message = self.messages().get(index as usize)?;
        Some(Message { role: role_of(message["role"].as_str().unwrap_or_default()), text: text_of(&message["content"]) })
    }

    /// None: there is no user message, or there is nothing in the last one.
    pub(super) fn last_user_text(&self) -> Option<String> {
        let last = self.messages().iter().rev().find(|message| message["role"] == "user")?;
        Some(text_of(&last["content"])).filter(|text| !text.is_empty())
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let found = self.headers.iter().find(|(own, _)| *own == name && !is_hidden(own));
        found.map(|(_, value)| value.clone())
    }

    pub(super) fn header_names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in &self.headers {
            if !is_hidden(name) && !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// The value at an RFC 6901 pointer, as JSON text.
pub(super) fn at(body: &Value, pointer: &str) -> Option<String> {
    body.pointer(pointer).map(Value::to_string)
}

/// A string, or its text parts, one a line.
pub(super) fn text_of(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let is_text = |part: &&Value| matches!(part["type"].as_str(), Some("text" | "input_text"));
    let parts = content.as_array().into_iter().flatten().filter(is_text).filter_map(|part| part["text"].as_str());
    parts.collect::<Vec<_>>().join("\n")
}

/// Cuts on a character boundary.
pub(super) fn cut(text: &str, most: u32) -> String {
    let mut end = text.len().min(most as usize);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

fn name_of(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// An unknown role is shown as `user`: the least trusted one.
fn role_of(name: &str) -> Role {
    match name {
        "system" => Role::System,
        "developer" => Role::Developer,
        "assistant" => Role::Assistant,
        "tool" | "function" => Role::Tool,
        _ => Role::User,
    }
}
