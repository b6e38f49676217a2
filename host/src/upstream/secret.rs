//! The provider's key, which some servers quote in their errors.
//!
//! What it does not do: it finds no key that stands in two pieces of a stream.
//!
//! **Invariant:** who is not the provider never sees it.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue};
use memchr::memmem;

/// A key, as it goes to the provider.
pub(super) struct Secret(HeaderValue);

impl Secret {
    pub(super) fn of(value: &HeaderValue) -> Self {
        Self(value.clone())
    }

    fn bytes(&self) -> &[u8] {
        let value = self.0.as_bytes();
        value.strip_prefix(b"Bearer ").unwrap_or(value)
    }

    fn is_in(&self, text: &[u8]) -> bool {
        !self.bytes().is_empty() && memmem::find(text, self.bytes()).is_some()
    }

    pub(super) fn leave_out_of(&self, headers: &mut HeaderMap) {
        let telling: Vec<_> =
            headers.iter().filter(|(_, value)| self.is_in(value.as_bytes())).map(|(name, _)| name.clone()).collect();
        telling.iter().for_each(|name| drop(headers.remove(name)));
    }

    /// The same with something else in its place.
    pub(super) fn covered(&self, body: Bytes) -> Bytes {
        if !self.is_in(&body) {
            return body;
        }
        let (mut out, mut from) = (BytesMut::with_capacity(body.len()), 0);
        for at in memmem::find_iter(&body, self.bytes()) {
            out.extend_from_slice(&body[from..at]);
            out.extend_from_slice(b"[key]");
            from = at + self.bytes().len();
        }
        out.extend_from_slice(&body[from..]);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_covered_wherever_it_stands() {
        let secret = Secret::of(&HeaderValue::from_static("Bearer sk-1"));
        assert_eq!(secret.covered(Bytes::from_static(b"sk-1 is not sk-2, sk-1")), "[key] is not sk-2, [key]");
        let none = Secret::of(&HeaderValue::from_static("Bearer "));
        assert_eq!(none.covered(Bytes::from_static(b"as it is")), "as it is");
        let mut headers = HeaderMap::from_iter([(http::header::WARNING, HeaderValue::from_static("no sk-1"))]);
        secret.leave_out_of(&mut headers);
        assert!(headers.is_empty());
    }
}
