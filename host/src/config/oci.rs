//! `oci://REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]`.
//!
//! **Invariant:** what was read goes into paths and headers as it is: it has no character that means something there.

use std::fmt;
use std::str::FromStr;

/// How a component that is no file begins.
pub(super) const SCHEME: &str = "oci://";

/// A registry, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciReference {
    /// Host, and port if there is one.
    pub registry: String,
    /// The path there.
    pub repository: String,
    /// A name that may be moved.
    pub tag: Option<String>,
    /// The digest of the manifest, as hexadecimal digits.
    pub digest: Option<String>,
}

/// This is no reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReference(&'static str);

impl OciReference {
    /// What the registry is asked for.
    pub fn asked(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => format!("sha256:{digest}"),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl FromStr for OciReference {
    type Err = NoReference;

    fn from_str(text: &str) -> Result<Self, NoReference> {
        let rest = text.strip_prefix(SCHEME).ok_or(NoReference("it does not begin with oci://"))?;
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let hex = digest.strip_prefix("sha256:").filter(|hex| is_digest(hex));
                (rest, Some(hex.ok_or(NoReference("behind @ stands `sha256:` and 64 hexadecimal digits"))?.to_owned()))
            }
            None => (rest, None),
        };
        let (registry, path) = rest.split_once('/').ok_or(NoReference("it has no repository"))?;
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        let is_host =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
        let is_name = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
        };
        let is_tag = |text: &str| {
            (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !is_host(registry) {
            return Err(NoReference("its registry is no host name"));
        }
        if !repository.split('/').all(|part| is_name(part) && part != "." && part != "..") {
            return Err(NoReference("a repository has lower-case letters, digits, ., - and _ between slashes"));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(NoReference("a tag has letters, digits, ., - and _"));
        }
        Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "oci://{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@sha256:{digest}")?;
        }
        Ok(())
    }
}

/// 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = "0123456789abcdef".repeat(4);
        for (text, registry, repository, tag, pinned) in [
            (format!("oci://ghcr.io/a/b/c:1.0@sha256:{digest}"), "ghcr.io", "a/b/c", Some("1.0"), true),
            (format!("oci://localhost:5000/p@sha256:{digest}"), "localhost:5000", "p", None, true),
            ("oci://127.0.0.1:5000/p:v1".to_owned(), "127.0.0.1:5000", "p", Some("v1"), false),
        ] {
            let read: OciReference = text.parse().unwrap();
            assert_eq!((&*read.registry, &*read.repository, read.tag.as_deref()), (registry, repository, tag));
            assert_eq!((read.digest.is_some(), read.to_string()), (pinned, text));
        }
        for bad in [
            "ghcr.io/a",
            "oci://ghcr.io",
            "oci:///a",
            "oci://h/",
            "oci://h/A",
            "oci://h/a/../b",
            "oci://h/a:",
            "oci://h/a:b c",
            "oci://h/a@sha256:12",
            "oci://h/a@md5:12",
            "oci://user:pw@h/a",
            "oci://h/a?x=y",
        ] {
            assert!(bad.parse::<OciReference>().is_err(), "{bad}");
        }
    }
}
