//! Web pages: a browser asks whatever any page tells it to, from inside the network that a listener without keys trusts.
//!
//! A browser says where the page comes from (`origin`), or the page has had its own name point here (DNS rebinding), and then the
//! host that it asks for is that name.
//!
//! What it does not do: it recognises no program; one that is no browser may send what it likes.

use http::HeaderMap;
use http::header::ORIGIN;

/// Does a page of some other machine ask? `host` is what the request's URL or `host` header says, with its port or without.
pub fn is_foreign(headers: &HeaderMap, host: &str) -> bool {
    let foreign_origin = headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        match origin.split_once("://") {
            Some(("http" | "https", rest)) => !is_this_machine(rest),
            // An editor's or an app's own pages are its own.
            Some(_) => false,
            // `null`: a file, or a page that hides its origin.
            None => true,
        }
    });
    foreign_origin || !is_private(host)
}

/// Not a name that somebody else may point here: an address, or a name that nobody can register for the whole world.
pub fn is_private(host: &str) -> bool {
    const PRIVATE: [&str; 3] = ["localhost", "internal", "local"];
    let name = without_port(host);
    match name.rsplit_once('.') {
        Some((_, last)) => address(name).is_some() || PRIVATE.iter().any(|private| last.eq_ignore_ascii_case(private)),
        None => true,
    }
}

fn is_this_machine(host: &str) -> bool {
    let name = without_port(host);
    name.eq_ignore_ascii_case("localhost") || address(name).is_some_and(|ip| ip.to_canonical().is_loopback())
}

fn address(name: &str) -> Option<std::net::IpAddr> {
    name.trim_matches(['[', ']']).parse().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_and_programs_may_ask() {
        for (origin, host, expect) in [
            (None, "127.0.0.1:8080", false),
            (None, "localhost", false),
            (None, "[::1]:8080", false),
            (None, "[::1]", false),
            (None, "", false),
            (None, "gateway:8080", false),
            (None, "host.docker.internal:8080", false),
            (None, "rebound.example:8080", true),
            (None, "127.0.0.1.example", true),
            (Some("http://localhost:3000"), "localhost:8080", false),
            (Some("https://[::1]"), "localhost:8080", false),
            (Some("vscode-webview://4f2"), "localhost:8080", false),
            (Some("https://evil.example"), "localhost:8080", true),
            (Some("http://localhost.evil.example"), "localhost:8080", true),
            (Some("http://192.168.0.9"), "localhost:8080", true),
            (Some("null"), "127.0.0.1:8080", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(origin.map(|origin| (ORIGIN, origin.parse().unwrap())));
            assert_eq!(is_foreign(&headers, host), expect, "{origin:?} {host}");
        }
    }
}
