//! Where a plugin may send requests to, and what of a URL is looked at.
//!
//! What it does not do: it resolves no name (`gateway/outbound`).
//!
//! **Invariant:** what can be read in two ways is refused: a user, a name with a dot at its end, an address in an odd form, a path with dots, empty
//! parts, backslashes or escapes of any of these.

use std::net::IpAddr;

use http::Uri;

/// Where a plugin may send to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    secure: bool,
    host: String,
    port: u16,
    /// Without a slash at its end; empty: any.
    path: String,
}

impl Allowed {
    /// Reads `https://host[:port][/path]`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let uri: Uri = url.parse().map_err(|_| "is no URL")?;
        let (secure, host, port) = parts(&uri)?;
        if uri.query().is_some() {
            return Err("has a query, and only the beginning of a path can be allowed");
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        if !path.is_empty() && !is_plain(&path) {
            return Err("has a path that could be read in two ways");
        }
        Ok(Self { secure, host, port, path })
    }

    /// Is this URL within it? In the parts that [`parts`] gives.
    pub fn has(&self, secure: bool, host: &str, port: u16, path: &str) -> bool {
        let rest = path.strip_prefix(&self.path);
        self.secure == secure
            && self.host == host
            && self.port == port
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// Scheme (is it https?), host in lower case and port of a URL without a user.
///
/// # Errors
/// What is wrong with it.
pub fn parts(uri: &Uri) -> Result<(bool, String, u16), &'static str> {
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("begins with neither https:// nor http://"),
    };
    let authority = uri.authority().ok_or("names no host")?;
    if authority.as_str().contains('@') {
        return Err("has a user in it");
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if host.is_empty() || host.ends_with('.') || host.contains(['%', '*']) {
        return Err("names no host that can be compared");
    }
    // `127.1`, `0x7f000001` and the like are addresses to some resolvers: an address has one form here.
    let numeric = host.rsplit('.').next().is_some_and(|last| last.bytes().next().is_some_and(|byte| byte.is_ascii_digit()));
    if numeric && host.parse::<IpAddr>().is_err() && !host.contains(':') {
        return Err("names an address in a form that is not looked at");
    }
    Ok((secure, host, authority.port_u16().unwrap_or(if secure { 443 } else { 80 })))
}

/// A path that every server reads alike.
pub fn is_plain(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    path.starts_with('/')
        && !path.contains(['\\', ';'])
        && !["%2e", "%2f", "%5c", "%00", "%25"].iter().any(|escape| lower.contains(escape))
        && !path[1..].split('/').rev().skip(1).any(str::is_empty)
        && !path.split('/').any(|part| matches!(part, "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_owner_may_allow() {
        for url in [
            "https://*.example",
            "https://user@guard.example",
            "https://guard.example/?x",
            "guard.example",
            "https://guard.example/../x",
            "ftp://x",
            "https://0x7f.1",
            "",
        ] {
            assert!(Allowed::parse(url).is_err(), "{url}");
        }
        assert_eq!(Allowed::parse("https://Guard.example"), Allowed::parse("https://guard.example:443/"));
    }
}
