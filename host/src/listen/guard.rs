//! The framing guard: refuses what hyper lets through and a gateway must not, because the next hop could read it otherwise.
//!
//! hyper itself refuses conflicting lengths, folded headers, NUL and CR in values, and too many headers.
//!
//! What it does not do: it looks at no path and no credential.
//!
//! **Invariant:** pure: the same head, the same verdict.

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::request::Parts;
use http::{Method, StatusCode, Version};

/// Why a request was refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: StatusCode,
    /// Reason and remedy.
    pub message: &'static str,
}

impl Refusal {
    /// The answer's body, in OpenAI's error shape. The listener is below the dialects, so it writes its own.
    pub fn body(&self) -> Bytes {
        Bytes::from(format!(
            r#"{{"error":{{"message":"{}","type":"invalid_request_error","param":null,"code":"bad_framing"}}}}"#,
            self.message
        ))
    }
}

fn bad(message: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, message }
}

/// Checks a request's head.
///
/// # Errors
/// When the request must be refused.
pub fn check(head: &Parts, max_headers: usize) -> Result<(), Refusal> {
    if head.method == Method::TRACE || head.method == Method::CONNECT {
        return Err(Refusal {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "TRACE and CONNECT are not served. Use GET or POST.",
        });
    }
    if head.version >= Version::HTTP_2 { check_h2(head, max_headers) } else { check_h1(head) }?;
    let mut expected = head.headers.get_all(header::EXPECT).iter();
    if expected.any(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err(Refusal {
            status: StatusCode::EXPECTATION_FAILED,
            message: "The only expectation that is known is 100-continue. Leave the others out.",
        });
    }
    Ok(())
}

fn check_h1(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_11 => return Err(bad("The Host header is missing. Send one.")),
        (Some(_), Some(_)) => return Err(bad("There are two Host headers. Send one.")),
        (Some(host), None) if host.is_empty() => return Err(bad("The Host header is empty. Name the host.")),
        (Some(host), None) => {
            let authority = head.uri.authority().map(|authority| authority.as_str());
            if authority.is_some_and(|authority| !authority.eq_ignore_ascii_case(host.to_str().unwrap_or_default())) {
                return Err(bad("The request's URL and its Host header name different hosts. Let them agree."));
            }
        }
        (None, _) => {}
    }
    let mut encodings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(encoding) = encodings.next() {
        if head.version < Version::HTTP_11 {
            return Err(bad("HTTP/1.0 has no Transfer-Encoding. Send a Content-Length."));
        }
        if encodings.next().is_some() || !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(bad("The only Transfer-Encoding that is known is chunked, once."));
        }
        if head.headers.contains_key(header::CONTENT_LENGTH) {
            return Err(bad("There are both a Content-Length and a Transfer-Encoding. Send one of them."));
        }
    }
    Ok(())
}

fn check_h2(head: &Parts, max_headers: usize) -> Result<(), Refusal> {
    // hyper counts those of HTTP/1.1.
    if head.headers.len() > max_headers {
        return Err(Refusal {
            status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            message: "There are more header fields than `listen.max_headers` allows. Send fewer.",
        });
    }
    const OF_HTTP_1: [HeaderName; 3] = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];
    if OF_HTTP_1.iter().any(|name| head.headers.contains_key(name)) {
        return Err(bad("HTTP/2 has no Connection, Transfer-Encoding or Upgrade header. Leave them out."));
    }
    if head.headers.get_all(header::HOST).iter().nth(1).is_some() {
        return Err(bad("There are two Host headers. Send one."));
    }
    let authority = head.uri.authority().map(|authority| authority.as_str());
    if let (Some(authority), Some(host)) = (authority, head.headers.get(header::HOST))
        && !authority.eq_ignore_ascii_case(host.to_str().unwrap_or_default())
    {
        return Err(bad(":authority and the Host header name different hosts. Let them agree."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn status(method: &str, uri: &str, version: Version, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0, 4).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn verdicts() {
        let (one, ten, two) = (Version::HTTP_11, Version::HTTP_10, Version::HTTP_2);
        #[allow(clippy::type_complexity, reason = "a table")]
        let cases: &[(&str, &str, Version, &[(&str, &str)], u16)] = &[
            ("POST", "/", one, &[("host", "a")], 200),
            ("POST", "/", one, &[], 400),
            ("POST", "/", one, &[("host", "")], 400),
            ("POST", "/", one, &[("host", "a"), ("host", "a")], 400),
            ("GET", "/", ten, &[], 200),
            ("GET", "http://a/", one, &[("host", "A")], 200),
            ("GET", "http://b/", one, &[("host", "a")], 400),
            ("TRACE", "/", one, &[("host", "a")], 405),
            ("POST", "/", one, &[("host", "a"), ("transfer-encoding", "Chunked")], 200),
            ("POST", "/", one, &[("host", "a"), ("transfer-encoding", "gzip, chunked")], 400),
            ("POST", "/", one, &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")], 400),
            ("POST", "/", one, &[("host", "a"), ("transfer-encoding", "chunked"), ("content-length", "3")], 400),
            ("POST", "/", ten, &[("transfer-encoding", "chunked")], 400),
            ("POST", "/", one, &[("host", "a"), ("expect", "100-Continue")], 200),
            ("POST", "/", one, &[("host", "a"), ("expect", "200-ok")], 417),
            ("POST", "http://a/", two, &[], 200),
            ("POST", "http://a/", two, &[("host", "b")], 400),
            ("POST", "/", two, &[("host", "a"), ("host", "b")], 400),
            ("POST", "http://a/", two, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")], 200),
            ("POST", "http://a/", two, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")], 431),
            ("POST", "/", one, &[("host", "a"), ("expect", "100-continue"), ("expect", "200-ok")], 417),
            ("POST", "http://a/", two, &[("transfer-encoding", "chunked")], 400),
        ];
        for (method, uri, version, headers, expect) in cases {
            assert_eq!(status(method, uri, *version, headers), *expect, "{method} {uri} {version:?} {headers:?}");
        }
    }
}
