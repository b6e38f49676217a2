//! Requests of plugins to services of their owner's: which ones may be sent.
//!
//! A URL is sent to only where the owner has written its scheme, host, port and the beginning of its path. A name's addresses are looked at
//! each time a connection is made (`upstream::connect`): private ones and the like are no part of the allow-list unless it names them as
//! addresses. So nothing that a plugin or a name server says leads anywhere else.
//!
//! What it does not do: it sends nothing (`gateway/outbound`), follows no redirects and adds no credentials.
//!
//! **Invariant:** what is not plainly within the allow-list is outside of it.
//! **Invariant:** what a plugin says goes into one request: no header of the connection's, no header that says where a body ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use tokio::sync::Semaphore;

use super::bindings::http::HttpError;
use crate::config::allow::{Allowed, is_plain, parts};

/// Headers of one request.
const MAX_HEADERS: usize = 32;
/// Bytes of a URL.
const MAX_URL: usize = 2_048;

/// What the owner has written under `[plugins.NAME.http]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Where it may send to.
    pub allow: Vec<Allowed>,
    /// Time for one call, from the look-up of the name to the last byte.
    pub timeout: Duration,
    /// Bytes of a request's body.
    pub request: usize,
    /// Bytes of an answer's body.
    pub answer: usize,
    /// Calls of one exchange.
    pub calls: u32,
    /// Calls at a time, on the whole node.
    pub at_once: usize,
}

/// A request that may be sent.
#[derive(Debug)]
pub struct Outbound {
    /// Its method.
    pub method: Method,
    /// Where to.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Vec<u8>,
    /// Time for all of it.
    pub timeout: Duration,
    /// Bytes that its answer may have.
    pub answer: usize,
}

/// What came back.
#[derive(Debug)]
pub struct Inbound {
    /// Its status.
    pub status: u16,
    /// Its headers, but for cookies.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Calls of one version that are under way.
pub type Places = Arc<Semaphore>;

/// Headers that are the connection's, or the host's to say.
fn is_owned(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "accept-encoding"
            | "connection"
            | "content-length"
            | "cookie"
            | "expect"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "via"
            | "x-real-ip"
    ) || name.starts_with("proxy-")
        || name.starts_with("x-forwarded-")
        || name.starts_with("x-aws-")
        || matches!(name, "metadata" | "metadata-flavor" | "x-google-metadata-request")
}

fn denied(why: impl Into<String>) -> HttpError {
    HttpError::Denied(why.into())
}

impl Limits {
    /// A request as it may be sent.
    ///
    /// # Errors
    /// It may not.
    pub fn check(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
        timeout_ms: Option<u32>,
    ) -> Result<Outbound, HttpError> {
        let method = match method {
            "GET" => Method::GET,
            "HEAD" => Method::HEAD,
            "POST" => Method::POST,
            "PUT" => Method::PUT,
            "PATCH" => Method::PATCH,
            "DELETE" => Method::DELETE,
            _ => return Err(denied("the method is none of GET, HEAD, POST, PUT, PATCH and DELETE")),
        };
        if url.len() > MAX_URL {
            return Err(denied("the URL is longer than 2048 bytes"));
        }
        let uri: Uri = url.parse().map_err(|_| denied("that is no URL"))?;
        let (secure, host, port) = parts(&uri).map_err(|why| denied(format!("the URL {why}")))?;
        if !is_plain(uri.path()) {
            return Err(denied("the URL's path could be read in two ways"));
        }
        if !self.allow.iter().any(|allowed| allowed.has(secure, &host, port, uri.path())) {
            return Err(denied("the URL is not in `allow`"));
        }
        if body.len() > self.request {
            return Err(HttpError::TooLarge);
        }
        let mut map = HeaderMap::with_capacity(headers.len());
        if headers.len() > MAX_HEADERS {
            return Err(denied("a request has at most 32 headers"));
        }
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| denied("a header has no name that can be sent"))?;
            let value =
                HeaderValue::from_str(value).map_err(|_| denied(format!("the value of `{name}` has control characters")))?;
            if is_owned(&name) {
                return Err(denied(format!("the header `{name}` is the host's to set")));
            }
            map.append(name, value);
        }
        let wish = timeout_ms.map_or(self.timeout, |ms| Duration::from_millis(u64::from(ms)));
        Ok(Outbound { method, uri, headers: map, body, timeout: wish.min(self.timeout), answer: self.answer })
    }
}

/// May a name stand for this address? Only for one that anybody in the internet would be led to.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = match (a, b, c) {
        // This host, private, loopback, shared by providers, link-local with the clouds' metadata, protocol assignments.
        (0 | 10 | 127, ..) | (100, 64..=127, _) | (169, 254, _) | (172, 16..=31, _) | (192, 0, 0) | (192, 168, _) => true,
        // Documentation, 6to4 relays, benchmarks, multicast, reserved.
        (192, 0, 2) | (192, 88, 99) | (198, 18..=19, _) | (198, 51, 100) | (203, 0, 113) | (224.., ..) => true,
        _ => false,
    };
    // Azure's own, which looks like anybody's.
    !is_special && address != Ipv4Addr::new(168, 63, 129, 16)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let parts = address.segments();
    let [a, b, ..] = parts;
    let embedded = |at: usize| {
        let [high, low] = [parts[at].to_be_bytes(), parts[at + 1].to_be_bytes()];
        is_public_v4(Ipv4Addr::new(high[0], high[1], low[0], low[1]))
    };
    match (a, b) {
        // Translated: the address inside is where it leads.
        (0x64, 0xff9b) => parts[2..6] == [0; 4] && embedded(6),
        (0x2002, _) => embedded(1),
        // Teredo and other protocols' assignments, ORCHID, documentation.
        (0x2001, 0..=0x1ff | 0xdb8) | (0x3fff, 0..=0xfff) => false,
        // What is handed out to the world; private, link-local, mapped and multicast ones are outside.
        _ => (0x2000..=0x3fff).contains(&a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(allow: &[&str]) -> Limits {
        let allow = allow.iter().map(|url| Allowed::parse(url).unwrap()).collect();
        Limits { allow, timeout: Duration::from_secs(1), request: 100, answer: 100, calls: 1, at_once: 1 }
    }

    #[test]
    fn only_what_is_plainly_allowed_is_sent() {
        let limits = limits(&["https://guard.example/v1/", "http://10.0.0.7:9000", "http://[::1]:80/x"]);
        let check = |url: &str| limits.check("GET", url, &[], Vec::new(), None).is_ok();
        for url in [
            "https://guard.example/v1",
            "https://GUARD.example:443/v1/check?text=a/../b",
            "http://10.0.0.7:9000/anything",
            "http://[::1]/x/y",
            "https://guard.example/v1/a/",
        ] {
            assert!(check(url), "{url}");
        }
        for url in [
            "http://guard.example/v1",
            "https://guard.example/v10",
            "https://guard.example/",
            "https://guard.example:8443/v1",
            "https://guard.example.evil.example/v1",
            "https://guard.example./v1",
            "https://evil.example/v1",
            "https://guard.example@evil.example/v1",
            "https://evil.example#@guard.example/v1",
            "https://guard.example/v1/../admin",
            "https://guard.example/v1/%2e%2e/admin",
            "https://guard.example/v1/..%2fadmin",
            "https://guard.example/v1/%252e%252e/admin",
            "https://guard.example/v1/..\\admin",
            "https://guard.example//v1",
            "https://guard.example/v1//x",
            "https://guard.example/v1/..;/admin",
            "http://10.0.0.7:9001/",
            "http://10.0.0.07:9000/",
            "http://0x0a000007:9000/",
            "http://167772167:9000/",
            "http://10.7:9000/",
            "http://[::ffff:10.0.0.7]:9000/",
            "ftp://guard.example/v1",
            "file:///etc/passwd",
            "/v1",
            "guard.example/v1",
            "https://guard.example/v1\r\nx: y",
            "",
        ] {
            assert!(!check(url), "{url}");
        }
    }

    #[test]
    fn headers_are_the_plugins_own_or_none() {
        let limits = limits(&["https://guard.example"]);
        let check = |name: &str, value: &str| {
            let headers = [(name.to_owned(), value.to_owned())];
            limits.check("POST", "https://guard.example/", &headers, Vec::new(), None).is_ok()
        };
        assert!(check("content-type", "application/json") && check("x-api-key", "k") && check("authorization", "Bearer k"));
        for name in [
            "Host",
            "content-length",
            "transfer-encoding",
            "connection",
            "cookie",
            "proxy-authorization",
            "x-forwarded-for",
            "metadata-flavor",
            "x-aws-ec2-metadata-token",
            "upgrade",
            "a b",
            "",
        ] {
            assert!(!check(name, "x"), "{name}");
        }
        assert!(!check("x", "a\r\ny: z") && !check("x", "\0"));
        let many = vec![("x".to_owned(), "y".to_owned()); 33];
        assert!(limits.check("GET", "https://guard.example/", &many, Vec::new(), None).is_err());
        for method in ["get", "CONNECT", "TRACE", "OPTIONS", "GET / HTTP/1.1\r\n", ""] {
            assert!(limits.check(method, "https://guard.example/", &[], Vec::new(), None).is_err(), "{method}");
        }
        assert!(limits.check("GET", "https://guard.example/", &[], vec![0; 101], None).is_err());
        let quick = limits.check("GET", "https://guard.example/", &[], Vec::new(), Some(5)).unwrap();
        let slow = limits.check("GET", "https://guard.example/", &[], Vec::new(), Some(u32::MAX)).unwrap();
        assert_eq!((quick.timeout, slow.timeout), (Duration::from_millis(5), Duration::from_secs(1)));
    }

    #[test]
    fn addresses_that_a_name_may_stand_for() {
        let is = |text: &str| is_public(text.parse().unwrap());
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "2002:0808:0808::1",
            "64:ff9b::808:808",
        ] {
            assert!(is(text), "{text}");
        }
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "192.168.1.1",
            "192.0.0.1",
            "198.18.0.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::7f00:1",
            "fe80::1",
            "fec0::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!is(text), "{text}");
        }
    }
}
