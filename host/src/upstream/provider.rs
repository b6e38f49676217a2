//! Providers: a vendor's paths, authentication and quirks, in one list.
//!
//! To add one: a file `provider/NAME.rs` with a constant of type [`Provider`], and a line in [`PROVIDERS`].
//!
//! What it does not do: it sends nothing; `send` does.
//!
//! **Invariant:** a client's credentials never go upstream, and an upstream's cookies never go down.

mod openai;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// What is asked of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A chat completion.
    Chat,
    /// Embeddings.
    Embeddings,
}

/// What one vendor's protocol needs.
pub struct Provider {
    /// The value of `kind` in the configuration.
    pub name: &'static str,
    /// The path of an operation, below the endpoint's base URL.
    pub path: fn(Operation) -> &'static str,
    /// The header that carries the key, and its value; the value is marked sensitive.
    pub authenticate: fn(&str) -> Option<(HeaderName, HeaderValue)>,
}

/// All providers.
pub const PROVIDERS: &[&Provider] = &[&openai::OPENAI];

/// A provider by the value of `kind`.
pub fn named(name: &str) -> Option<&'static Provider> {
    PROVIDERS.iter().copied().find(|provider| provider.name == name)
}

/// Headers of one connection, which no proxy passes on (RFC 9110, 7.6.1), and those that a proxy sets itself.
const OF_ONE_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::HOST,
    header::CONTENT_LENGTH,
];

/// The client's headers that go upstream: those that a provider has a use for. Whatever else applications say among themselves
/// stays in the house, and none of it can make two requests differ that have one cache key: of these, `openai-*` is part of it, and
/// the others change no answer. A routing plugin can add what an upstream of its owner's needs.
pub fn upwards(client: &HeaderMap) -> HeaderMap {
    const USEFUL: [&str; 9] = [
        "accept",
        "content-type",
        "user-agent",
        "traceparent",
        "tracestate",
        "baggage",
        "idempotency-key",
        "x-request-id",
        "x-client-request-id",
    ];
    let stays = |name: &HeaderName| {
        let name = name.as_str();
        let is_useful = USEFUL.contains(&name) || name.starts_with("openai-") || name.starts_with("x-stainless-");
        // Whose organisation pays is the gateway's to say, and how long it waits is not what the SDK does.
        let is_ours =
            matches!(name, "openai-organization" | "openai-project" | "x-stainless-read-timeout" | "x-stainless-timeout");
        !is_useful || is_ours
    };
    filtered(client, stays)
}

/// The upstream's headers that go to the client.
pub fn downwards(upstream: &HeaderMap) -> HeaderMap {
    let stays = |name: &HeaderName| {
        OF_ONE_HOP.contains(name)
            || [header::SET_COOKIE, header::DATE, header::SERVER, header::ALT_SVC, header::STRICT_TRANSPORT_SECURITY]
                .contains(name)
            // Of the upstream's own place, access and cache.
            || [header::LOCATION, header::WWW_AUTHENTICATE, header::AGE].contains(name)
            || name.as_str().starts_with("access-control-")
            || matches!(name.as_str(), "keep-alive" | "proxy-connection")
            || name.as_str().starts_with("x-pointsman-")
    };
    filtered(upstream, stays)
}

fn filtered(headers: &HeaderMap, stays: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    // Names in `connection` are of one hop too.
    let named: Vec<&str> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let mut out = HeaderMap::with_capacity(headers.len() + 4);
    for (name, value) in headers {
        if !stays(name) && !named.iter().any(|hop| hop.eq_ignore_ascii_case(name.as_str())) {
            out.append(name.clone(), value.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_stay_on_their_side() {
        let mut headers = HeaderMap::new();
        for name in
            ["authorization", "cookie", "x-api-key", "host", "connection", "x-hop", "x-forwarded-for", "transfer-encoding"]
        {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("x-hop"));
        }
        for name in ["content-type", "x-request-id", "traceparent", "openai-beta", "x-stainless-lang", "x-my-own"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("kept"));
        }
        for name in ["openai-organization", "x-stainless-timeout", "x-stainless-read-timeout"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("30"));
        }
        assert_eq!(upwards(&headers).len(), 5, "{:?}", upwards(&headers));
        let mut answer = HeaderMap::new();
        answer.insert(header::SET_COOKIE, HeaderValue::from_static("x"));
        answer.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        answer.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("1"));
        assert_eq!(downwards(&answer).len(), 2);
    }
}
