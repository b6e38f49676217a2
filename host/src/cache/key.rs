//! Keys and partitions: what two requests must have in common to share an answer.
//!
//! Both are BLAKE3 hashes over labelled, length-prefixed parts, of which the first is always the tenant. A builder cannot be
//! made without one, and takes it from the exchange, never from a plugin: so nothing that a plugin returns can make the
//! keys of two tenants equal, short of a collision.
//!
//! **Invariant:** the tenant is the first part of every key and every partition.
//! **Invariant:** no two different lists of parts are fed as the same bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The key of an exact hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ExactKey([u8; 32]);

impl ExactKey {
    /// A number that is spread evenly, as the hash's bytes are.
    pub(super) fn spread(&self) -> u8 {
        self.0[0]
    }
}

/// What near hits never leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Partition([u8; 32]);

/// Both are written as 64 hexadecimal digits.
macro_rules! written {
    ($name:ident) => {
        impl $name {
            /// Its bytes, as tiers keep them.
            pub fn bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// What [`bytes`](Self::bytes) has given.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
            }
        }

        impl FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let hash = blake3::Hash::from_hex(text).map_err(|_| "this is not 64 hexadecimal digits")?;
                Ok(Self(*hash.as_bytes()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    };
}

written!(ExactKey);
written!(Partition);

/// Puts a key together.
pub struct KeyBuilder(blake3::Hasher);

impl KeyBuilder {
    /// A key of this tenant.
    pub fn new(tenant: &str) -> Self {
        // The version changes with whatever would make old keys mean something else.
        let mut builder = Self(blake3::Hasher::new_derive_key("pointsman cache key, version 1"));
        builder.part("tenant", tenant.as_bytes());
        builder
    }

    /// Adds a part.
    pub fn part(&mut self, label: &str, bytes: &[u8]) {
        for piece in [label.as_bytes(), bytes] {
            self.0.update(&(piece.len() as u64).to_le_bytes());
            self.0.update(piece);
        }
    }

    /// Adds several parts under one label.
    pub fn parts<'a>(&mut self, label: &str, parts: impl ExactSizeIterator<Item = &'a str>) {
        self.part(label, &(parts.len() as u64).to_le_bytes());
        for part in parts {
            self.part(label, part.as_bytes());
        }
    }

    /// Adds bytes that are unambiguous in themselves, such as a request's canonical form.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The key of an exact hit.
    pub fn exact(&self) -> ExactKey {
        ExactKey(*self.0.finalize().as_bytes())
    }

    /// The partition of near hits.
    pub fn partition(&self) -> Partition {
        Partition(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(tenant: &str, parts: &[(String, Vec<u8>)]) -> ExactKey {
        let mut builder = KeyBuilder::new(tenant);
        for (label, bytes) in parts {
            builder.part(label, bytes);
        }
        builder.exact()
    }

    proptest! {
        /// Whatever parts a plugin makes up for either of them, two tenants have different keys.
        #[test]
        fn tenants_never_meet(a in ".*", b in ".*", x in parts(), y in parts()) {
            prop_assume!(a != b);
            prop_assert_ne!(key(&a, &x), key(&b, &y));
        }

        #[test]
        fn different_parts_make_different_keys(tenant in ".*", x in parts(), y in parts()) {
            prop_assert_eq!(key(&tenant, &x) == key(&tenant, &y), x == y);
        }
    }

    fn parts() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
        prop::collection::vec(("[a-c]{0,2}", prop::collection::vec(0_u8..3, 0..4)), 0..4)
    }

    #[test]
    fn borders_count() {
        let of = |parts: &[&str]| {
            let mut builder = KeyBuilder::new("t");
            builder.parts("p", parts.iter().copied());
            builder.exact()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a"]), of(&["a", ""]));
    }
}
