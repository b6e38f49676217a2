//! The host's functions, by interface and name as the contract has them. The bindings call them outside WebAssembly.
//!
//! What it does not do: it decides nothing; what is answered is in `state`, put there by a test.
//!
//! **Invariant:** a function answers what the contract says, for what the test has said; outside a mock host it panics, and says so.

#![allow(unsafe_code, reason = "a handle is made of a number, which stands for nothing here: there is one exchange")]
#![allow(missing_docs, clippy::missing_panics_doc, reason = "the contract's own functions, documented there")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;

use super::State;
use crate::{Chunk, Request, Response};

thread_local! {
    /// The host whose plugin this thread runs. Tests have a thread each.
    static HOST: RefCell<Option<Rc<RefCell<State>>>> = const { RefCell::new(None) };
}

/// Runs a plugin's function with this host around it.
pub(super) fn within<T>(host: &Rc<RefCell<State>>, ask: impl FnOnce() -> T) -> T {
    /// Put back also where a plugin panics.
    struct Before(Option<Rc<RefCell<State>>>);
    impl Drop for Before {
        fn drop(&mut self) {
            HOST.set(self.0.take());
        }
    }
    let _before = Before(HOST.replace(Some(host.clone())));
    ask()
}

/// The request of whatever exchange is under way.
pub(super) fn request() -> &'static Request {
    // SAFETY: natively a handle is a number that nobody looks at, and what lives in a static is never given back to the host.
    static REQUEST: LazyLock<Request> = LazyLock::new(|| unsafe { Request::from_handle(1) });
    &REQUEST
}

/// The part of its answer that is observed.
pub(super) fn chunk() -> &'static Chunk {
    // SAFETY: as above.
    static CHUNK: LazyLock<Chunk> = LazyLock::new(|| unsafe { Chunk::from_handle(1) });
    &CHUNK
}

/// Its answer.
pub(super) fn response() -> &'static Response {
    // SAFETY: as above.
    static RESPONSE: LazyLock<Response> = LazyLock::new(|| unsafe { Response::from_handle(1) });
    &RESPONSE
}

#[allow(clippy::panic, reason = "what a test does wrong fails the test")]
fn host<T>(ask: impl FnOnce(&mut State) -> T) -> T {
    let host = HOST.with_borrow(Clone::clone);
    let Some(host) = host else {
        panic!("there is no host here; a test calls hooks on a `pointsman_plugin::mock::Host`, and other functions in its `run`")
    };
    let mut state = host.borrow_mut();
    ask(&mut state)
}

/// The same, where there is no exchange in a check.
fn exchange<T>(ask: impl FnOnce(&mut State) -> T) -> Option<T> {
    host(|state| (!state.is_check).then(|| ask(state)))
}

pub mod config {
    use super::host;

    pub fn get(key: &str) -> Option<String> {
        host(|state| state.config.get(key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
    }

    pub fn document() -> String {
        host(|state| serde_json::Value::Object(state.config.clone()).to_string())
    }
}

pub mod log {
    use super::host;
    use crate::log::Level;
    use crate::mock::Line;

    /// Lines that one exchange may log, and bytes of one; the contract names these numbers.
    const MAX_LINES: usize = 16;
    const MAX_BYTES: u32 = 4 << 10;

    pub fn enabled(_: Level) -> bool {
        host(|state| state.lines.len() < MAX_LINES)
    }

    pub fn log(level: Level, message: &str, fields: &[(String, String)]) {
        host(|state| {
            if state.lines.len() < MAX_LINES {
                let message = crate::mock::request::cut(message, MAX_BYTES);
                state.lines.push(Line { level, message, fields: fields.to_vec() });
            }
        });
    }
}

pub mod metrics {
    use super::host;
    use crate::mock::state::series;

    pub fn increment(name: &str, delta: u64, labels: &[(String, String)]) {
        host(|state| *state.counters.entry(series(name, labels)).or_default() += delta);
    }

    pub fn gauge(name: &str, value: f64, labels: &[(String, String)]) {
        host(|state| {
            state.gauges.insert(series(name, labels), value);
        });
    }

    pub fn observe(name: &str, value: f64, labels: &[(String, String)]) {
        host(|state| state.observed.entry(series(name, labels)).or_default().push(value));
    }
}

pub mod upstreams {
    use super::exchange;
    use crate::upstreams::{Status, Upstream};

    pub fn candidates() -> Vec<Upstream> {
        exchange(|state| state.upstreams.clone()).unwrap_or_default()
    }

    pub fn get(model: &str) -> Option<Upstream> {
        exchange(|state| state.upstreams.iter().find(|upstream| upstream.model == model).cloned()).flatten()
    }

    pub fn status_of(model: &str) -> Option<Status> {
        exchange(|state| {
            let provider = &state.upstreams.iter().find(|upstream| upstream.model == model)?.provider;
            state.statuses.get(provider).copied()
        })
        .flatten()
    }

    pub fn estimate(model: &str, prompt_tokens: u32, completion_tokens: u32) -> Option<u64> {
        let price = get(model)?.price?;
        let part = |price: u64, tokens: u32| u128::from(price) * u128::from(tokens);
        let total = part(price.input, prompt_tokens) + part(price.output, completion_tokens);
        Some(u64::try_from(total.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }
}

pub mod http {
    use super::exchange;
    use crate::http::{HttpError, Request, Response};

    /// What the test has put there for the URL; nothing is ever sent.
    pub fn send(
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
        timeout_ms: Option<u32>,
    ) -> Result<Response, HttpError> {
        exchange(|state| {
            let (method, url, body) = (method.to_owned(), url.to_owned(), body.to_vec());
            let answer = state.services.get(&url).cloned();
            state.sent.push(Request { method, url, headers: headers.to_vec(), body, timeout_ms });
            answer.unwrap_or_else(|| Err(HttpError::Denied("the test has no answer for this URL".to_owned())))
        })
        .unwrap_or(Err(HttpError::Unavailable))
    }
}

pub mod embeddings {
    use super::exchange;
    use crate::embeddings::{EmbedError, Match};
    use crate::mock::State;

    /// Labels that one call may ask for.
    const MAX_LABELS: u32 = 64;

    pub fn classify(examples: &str, k: u32) -> Result<Vec<Match>, EmbedError> {
        of_prompt(|state, _| {
            let found = state.examples.get(examples).ok_or(EmbedError::Unavailable)?;
            Ok(found.iter().take(k.min(MAX_LABELS) as usize).cloned().collect())
        })
    }

    pub fn similarity(a: &str, b: &str) -> Result<f32, EmbedError> {
        let (a, b) = (embed(a)?, embed(b)?);
        Ok(a.iter().zip(&b).map(|(a, b)| a * b).sum())
    }

    pub fn prompt_embedding() -> Result<Vec<f32>, EmbedError> {
        of_prompt(vector)
    }

    pub fn embed(text: &str) -> Result<Vec<f32>, EmbedError> {
        ready(|state| vector(state, text))
    }

    fn vector(state: &State, text: &str) -> Result<Vec<f32>, EmbedError> {
        if text.is_empty() {
            return Err(EmbedError::Empty);
        }
        state.vectors.get(text).cloned().ok_or(EmbedError::Unavailable)
    }

    fn of_prompt<T>(ask: impl FnOnce(&State, &str) -> Result<T, EmbedError>) -> Result<T, EmbedError> {
        ready(|state| {
            let text = state.last_user_text().ok_or(EmbedError::Empty)?;
            ask(state, &text)
        })
    }

    fn ready<T>(ask: impl FnOnce(&State) -> Result<T, EmbedError>) -> Result<T, EmbedError> {
        exchange(|state| state.no_embedding.map_or_else(|| ask(state), Err)).unwrap_or(Err(EmbedError::Unavailable))
    }
}

pub mod clock {
    use super::exchange;

    pub fn now() -> u64 {
        exchange(|state| state.now()).unwrap_or(0)
    }

    pub fn elapsed_us() -> u64 {
        exchange(|state| state.elapsed.as_micros() as u64).unwrap_or(0)
    }
}

pub mod random {
    use super::host;

    /// SplitMix64, as in a host. A host's seed is made of the exchange's id.
    pub fn u64() -> u64 {
        host(|state| {
            state.random = state.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = state.random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
    }

    /// The very buckets of every host: they never change.
    pub fn bucket(salt: &str, key: &str, buckets: u32) -> u32 {
        let mut hash = blake3::Hasher::new();
        hash.update(&(salt.len() as u64).to_le_bytes()).update(salt.as_bytes()).update(key.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
        ((u128::from(u64::from_le_bytes(first)) * u128::from(buckets)) >> 64) as u32
    }
}

pub mod kv {
    use super::exchange;
    use crate::kv::KvError;
    use crate::mock::store::Store;

    pub fn get(key: &str) -> Result<Option<Vec<u8>>, KvError> {
        store(|store, tenant, now| store.get(tenant, key, now))
    }

    pub fn set(key: &str, value: &[u8], ttl_ms: Option<u32>) -> Result<(), KvError> {
        store(|store, tenant, now| store.set(tenant, key, value, ttl_ms, now))
    }

    pub fn delete(key: &str) -> Result<bool, KvError> {
        store(|store, tenant, now| store.delete(tenant, key, now))
    }

    pub fn increment(key: &str, delta: i64, ttl_ms: Option<u32>) -> Result<i64, KvError> {
        store(|store, tenant, now| store.increment(tenant, key, delta, ttl_ms, now))
    }

    pub fn compare_and_set(key: &str, expected: Option<&[u8]>, value: &[u8], ttl_ms: Option<u32>) -> Result<bool, KvError> {
        store(|store, tenant, now| store.compare_and_set(tenant, key, expected, value, ttl_ms, now))
    }

    fn store<T>(ask: impl FnOnce(&mut Store, &str, u64) -> Result<T, KvError>) -> Result<T, KvError> {
        exchange(|state| {
            let now = state.now();
            ask(&mut state.store, &state.head.tenant, now)
        })
        .unwrap_or(Err(KvError::Unavailable))
    }
}

pub mod request_data {
    pub mod request {
        use crate::Message;
        use crate::mock::imports::host;
        use crate::mock::request::{at, cut};

        pub fn header(name: &str) -> Option<String> {
            host(|state| state.header(name))
        }

        pub fn headers(names: &[&str]) -> Vec<Option<String>> {
            host(|state| names.iter().map(|name| state.header(name)).collect())
        }

        pub fn header_names() -> Vec<String> {
            host(|state| state.header_names())
        }

        pub fn message_count() -> u32 {
            host(|state| state.message_count())
        }

        pub fn message(index: u32) -> Option<Message> {
            host(|state| state.message(index))
        }

        pub fn last_user_text(max_bytes: u32) -> String {
            host(|state| state.last_user_text().map(|text| cut(&text, max_bytes)).unwrap_or_default())
        }

        pub fn json(pointer: &str) -> Option<String> {
            host(|state| at(&state.body, pointer))
        }

        pub fn metadata(key: &str) -> Option<String> {
            host(|state| state.metadata(key))
        }

        pub fn label(name: &str, value: &str) {
            host(|state| state.leave(name, value));
        }
    }

    pub mod chunk {
        use crate::mock::imports::host;
        use crate::mock::request::{at, cut};

        pub fn text(max_bytes: u32) -> String {
            host(|state| {
                let events = state.part.iter();
                let text: String = events.filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
                cut(&text, max_bytes)
            })
        }

        pub fn json(event: u32, pointer: &str) -> Option<String> {
            host(|state| state.part.get(event as usize).and_then(|event| at(event, pointer)))
        }
    }

    pub mod response {
        use crate::mock::imports::host;
        use crate::mock::request::{at, cut, text_of};

        pub fn text(max_bytes: u32) -> String {
            let text = |body: &serde_json::Value| text_of(&body["choices"][0]["message"]["content"]);
            host(|state| state.answer.as_ref().map(|answer| cut(&text(&answer.body), max_bytes)).unwrap_or_default())
        }

        pub fn json(pointer: &str) -> Option<String> {
            host(|state| state.answer.as_ref().and_then(|answer| at(&answer.body, pointer)))
        }

        pub fn mean_logprob() -> Option<f32> {
            host(|state| state.answer.as_ref()?.mean_logprob)
        }

        pub fn is_whole() -> bool {
            host(|state| state.answer.as_ref().is_none_or(|answer| answer.whole))
        }
    }
}
