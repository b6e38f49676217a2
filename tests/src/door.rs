//! A host's two addresses, and how a test speaks to them.
//!
//! ```no_run
//! # use tests::{FakeUpstream, Host};
//! # let fake = FakeUpstream::start();
//! # let host = Host::new().upstream(&fake).start();
//! let answer = host.ask("hello").model("auto").header("cache-control", "no-store").send();
//! ```
//!
//! **Invariant:** each [`Ask`] goes over a connection of its own, so that one test's defect is not another's.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{Answer, Connection, Live};
use crate::metrics::Metrics;

/// Where a host can be reached.
#[derive(Clone, Debug)]
pub struct Door {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where the administrator connects.
    pub admin: SocketAddr,
    /// The keys that the host knows, by their names.
    pub keys: BTreeMap<String, String>,
}

/// A request for a chat completion, before it is sent.
#[derive(Clone, Debug)]
pub struct Ask {
    address: SocketAddr,
    keys: BTreeMap<String, String>,
    body: Value,
    headers: Vec<(String, String)>,
}

impl Door {
    /// A request with one user message, for the model `small`.
    pub fn ask(&self, text: &str) -> Ask {
        self.asking(json!({ "model": "small", "messages": [{ "role": "user", "content": text }] }))
    }

    /// A request with this body.
    pub fn asking(&self, body: Value) -> Ask {
        Ask { address: self.address, keys: self.keys.clone(), body, headers: Vec::new() }
    }

    /// The answer to one user message.
    pub fn chat(&self, text: &str) -> Answer {
        self.ask(text).send()
    }

    /// Posts a body to a path, as it is.
    pub fn post(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        let request = request("POST", self.address, path, body, headers.iter().copied());
        Connection::open(self.address).exchange(&request).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// Gets a path.
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        get(self.address, path, headers)
    }

    /// Gets a path from the administrator's listener.
    pub fn admin(&self, path: &str) -> Answer {
        get(self.admin, path, &[])
    }

    /// What the admin API says at a path.
    pub fn api(&self, path: &str) -> Value {
        let answer = self.admin(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// Posts nothing to a path of the admin API.
    pub fn order(&self, path: &str) {
        let answer = Connection::open(self.admin).exchange(&request("POST", self.admin, path, b"", [].into_iter()));
        let status = answer.expect("the administrator's listener answers").status;
        assert!((200..300).contains(&status), "{path}: {status}");
    }

    /// Posts JSON to a path of the admin API.
    pub fn tell(&self, path: &str, body: &Value) -> Answer {
        let request = request("POST", self.admin, path, body.to_string().as_bytes(), [].into_iter());
        Connection::open(self.admin).exchange(&request).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// The numbers as they are now.
    pub fn metrics(&self) -> Metrics {
        Metrics::parse(self.admin("/metrics").text())
    }
}

fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = request("GET", address, path, b"", headers.iter().copied());
    Connection::open(address).exchange(&request).unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

/// A request as it goes over the wire. The connection may stay open after it.
pub fn request<'a>(
    method: &str,
    host: SocketAddr,
    path: &str,
    body: &[u8],
    headers: impl Iterator<Item = (&'a str, &'a str)>,
) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
    if method == "POST" {
        head.push_str(&format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Ask {
    /// For another model.
    #[must_use]
    pub fn model(self, model: &str) -> Self {
        self.set("model", json!(model))
    }

    /// With another field.
    #[must_use]
    pub fn set(mut self, name: &str, value: Value) -> Self {
        self.body[name] = value;
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With the key of this name.
    #[must_use]
    pub fn key(self, name: &str) -> Self {
        let key = self.keys.get(name).unwrap_or_else(|| panic!("there is no key {name}")).clone();
        self.header("authorization", &format!("Bearer {key}"))
    }

    /// With orders for the puppet's hook: `route`, `select`, `key`, `confirm`, `admit`, `ask`.
    #[must_use]
    pub fn puppet(self, hook: &str, orders: Value) -> Self {
        self.header(&format!("x-puppet-{hook}"), &ascii(&orders.to_string()))
    }

    /// To be streamed.
    #[must_use]
    pub fn streamed(self) -> Self {
        self.set("stream", json!(true))
    }

    /// Sends it and reads the whole answer.
    pub fn send(&self) -> Answer {
        self.try_send().unwrap_or_else(|error| panic!("{}: {error}", self.body))
    }

    /// As [`Ask::send`], where it may not be answered.
    ///
    /// # Errors
    /// What the system says.
    pub fn try_send(&self) -> std::io::Result<Answer> {
        Connection::try_open(self.address)?.exchange(&self.bytes())
    }

    /// Sends it over a connection that is open, and reads the answer's head.
    pub fn live<'a>(&self, connection: &'a mut Connection) -> Live<'a> {
        connection.write(&self.bytes()).expect("the host reads");
        connection.head().unwrap_or_else(|error| panic!("{}: {error}", self.body))
    }

    /// Sends it over a connection of its own, from which the answer can be read.
    pub fn begin(&self) -> Connection {
        let mut connection = Connection::open(self.address);
        connection.write(&self.bytes()).expect("the host reads");
        connection
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        request("POST", self.address, "/v1/chat/completions", self.body.to_string().as_bytes(), headers)
    }
}

/// JSON text that a header can carry.
fn ascii(json: &str) -> String {
    json.chars()
        .map(|character| {
            if character.is_ascii() {
                character.to_string()
            } else {
                character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }
        })
        .collect()
}
