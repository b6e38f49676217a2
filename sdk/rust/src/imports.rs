//! The host's functions, by interface, each with what makes it pleasant to call.
//!
//! What it does not do: `config`, `kv` and `log` have files of their own.

/// Name and value pairs as the contract has them.
pub(crate) fn owned(pairs: &[(&str, &str)]) -> crate::Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Time, as the exchange has it. Grant: `clock`.
pub mod clock {
    #[doc(inline)]
    pub use crate::bindings::host::pointsman::plugin::clock::{elapsed_us, now};
}

/// Meaning, by the host's embedding model and the example sets of `[examples.NAME]`. Grant: `embeddings`.
///
/// The vector of the last user message is computed once per exchange, shared by cache and plugins.
///
/// ```no_run
/// use pointsman_plugin::embeddings::{self, EmbedError};
///
/// # fn f() -> pointsman_plugin::Result<()> {
/// // Go on without an embedding …
/// let nearest = embeddings::classify("complexity", 1).ok().and_then(|found| found.into_iter().next());
/// // … or give up: the request goes on without this plugin.
/// let likeness = embeddings::similarity("cat", "kitten")?;
/// # drop((nearest, likeness)); Ok(()) }
/// ```
pub mod embeddings {
    #[doc(inline)]
    pub use crate::bindings::host::pointsman::plugin::embeddings::{
        EmbedError, Match, classify, embed, prompt_embedding, similarity,
    };
}

/// Requests to services that the owner allows (`[plugins.NAME.http] allow`). Grant: `http`.
///
/// The wait is part of the hook's deadline; the host's core goes on with others meanwhile.
///
/// ```no_run
/// use pointsman_plugin::http::{HttpError, Request};
///
/// # fn f() {
/// match Request::post("https://guard.example/v1/check", "text").header("content-type", "text/plain").send() {
///     Ok(answer) => drop(answer.status == 200),
///     // Too slow, or not there: go on without.
///     Err(HttpError::Timeout | HttpError::Unreachable | HttpError::Busy) => {}
///     Err(error) => panic!("{error}"),
/// }
/// # }
/// ```
pub mod http {
    use std::time::Duration;

    #[doc(inline)]
    pub use crate::bindings::host::pointsman::plugin::http::{HttpError, Response, send};
    use crate::error::milliseconds;

    /// What is sent.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Request {
        /// GET, HEAD, POST, PUT, PATCH or DELETE.
        pub method: String,
        /// Where to.
        pub url: String,
        /// Names and values.
        pub headers: Vec<(String, String)>,
        /// Its body.
        pub body: Vec<u8>,
        /// Time for all of it; none: what the owner allows.
        pub timeout_ms: Option<u32>,
    }

    impl Request {
        /// Asks for what is there.
        pub fn get(url: impl Into<String>) -> Self {
            Self { method: "GET".into(), url: url.into(), headers: Vec::new(), body: Vec::new(), timeout_ms: None }
        }

        /// Sends a body.
        pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
            Self { method: "POST".into(), body: body.into(), ..Self::get(url) }
        }

        /// With one more header.
        pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
            self.headers.push((name.into(), value.into()));
            self
        }

        /// No longer than this; the owner's bound holds as well.
        pub fn within(mut self, time: Duration) -> Self {
            self.timeout_ms = Some(milliseconds(time));
            self
        }

        /// Sends it, and waits for all of the answer.
        ///
        /// # Errors
        /// It may not be sent, or there is no whole answer that is small enough and in time.
        pub fn send(&self) -> Result<Response, HttpError> {
            send(&self.method, &self.url, &self.headers, &self.body, self.timeout_ms)
        }
    }
}

/// Numbers on the host's `/metrics`, as `pointsman_plugin_NAME{plugin=…}`. Grant: `metrics`.
///
/// An instrument is declared by its first use: its name in lower case with `_`, and one kind for all of its series. At most 32
/// instruments and 256 series a plugin; what is over is dropped and counted, and so is a name that the host has itself (`call_seconds`)
/// or that a histogram makes of its own (`…_sum`), and a label `plugin` or `le`.
///
/// ```no_run
/// use pointsman_plugin::metrics;
///
/// metrics::increment("bypassed", 1, &[("why", "private")]);
/// metrics::observe("prompt_tokens", 512.0, &[]);
/// ```
pub mod metrics {
    use super::owned;
    use crate::bindings::host::pointsman::plugin::metrics;

    /// Adds to a counter.
    pub fn increment(name: &str, by: u64, labels: &[(&str, &str)]) {
        metrics::increment(name, by, &owned(labels));
    }

    /// Sets a gauge.
    pub fn gauge(name: &str, to: f64, labels: &[(&str, &str)]) {
        metrics::gauge(name, to, &owned(labels));
    }

    /// Adds a value to a histogram over powers of two, from 2^-10 to 2^20.
    pub fn observe(name: &str, value: f64, labels: &[(&str, &str)]) {
        metrics::observe(name, value, &owned(labels));
    }
}

/// Chance that can be repeated: the same exchange draws the same numbers again. Grant: `random`.
///
/// ```no_run
/// use pointsman_plugin::random;
///
/// // One in ten users, and always the same ones.
/// let is_chosen = random::bucket("new-model", "user-7", 10) == 0;
/// # let _ = is_chosen;
/// ```
pub mod random {
    #[doc(inline)]
    pub use crate::bindings::host::pointsman::plugin::random::{bucket, u64};
}

/// The models that this node can send to, as they were when the exchange first asked. Grant: `upstreams`.
///
/// ```no_run
/// use pointsman_plugin::{Decision, Plan, upstreams};
///
/// # fn f() -> pointsman_plugin::Result<Decision> {
/// let idle = upstreams::candidates().into_iter().min_by_key(|upstream| upstream.in_flight);
/// Ok(match idle {
///     Some(upstream) => Plan::to(upstream.model).because("idle").into(),
///     None => Decision::Pass,
/// })
/// # }
/// ```
pub mod upstreams {
    #[doc(inline)]
    pub use crate::bindings::host::pointsman::plugin::upstreams::{
        Circuit, Latency, Price, Status, Upstream, candidates, estimate, get, status_of,
    };
}
