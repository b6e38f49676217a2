//! API keys: how they look, how they are stored, how they are recognised.
//!
//! A key is `pm-`, 43 characters (32 random bytes in URL-safe base64) and 4 characters of checksum, by which a typing error and a
//! leaked key can be recognised without knowing any. Stored is its blake3 hash alone. No slow hash (argon2, bcrypt) is needed:
//! these protect passwords, which can be guessed; 256 random bits cannot, and a request must not wait for 50 ms of hashing.
//!
//! **Invariant:** a key exists here only while a request is looked at, and while it is made.
//! **Invariant:** whether a key is right takes the same time wherever its hash begins to differ.

use std::collections::HashMap;
use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use secrecy::SecretString;
use subtle::ConstantTimeEq;

use super::{AuthError, DEFAULT_TENANT, Principal, page};
use crate::config::{self, Config};

const PREFIX: &str = "pm-";
const RANDOM: usize = 32;
/// Base64 of 32 bytes.
const BODY: usize = 43;
/// Base64 of 3 bytes.
const CHECK: usize = 4;
const LENGTH: usize = PREFIX.len() + BODY + CHECK;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The keys of one configuration. Made at each reload; reading it takes no lock.
pub struct Keys {
    /// By the hash of the key. `None`: no keys are configured.
    known: Option<HashMap<[u8; 32], Known>>,
    everyone: Principal,
    /// `auth = "none"`: the owner has said that really everyone may ask.
    open: bool,
}

struct Known {
    /// Once more, for the comparison in constant time: a map compares like any other program.
    hash: [u8; 32],
    principal: Principal,
}

/// An entry of `[keys]` whose hash is not `blake3:` and 64 hexadecimal digits. `config::load` finds it before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("keys.{0}.hash is not `blake3:` and 64 hexadecimal digits; run `pointsman key new {0}`")]
pub struct InvalidHash(String);

/// A key that was just made.
#[derive(Debug)]
pub struct Generated {
    /// The key: show it once, keep it nowhere.
    pub key: SecretString,
    /// The entry for the configuration file.
    pub entry: String,
}

impl Keys {
    /// The keys of `[keys]`.
    ///
    /// # Errors
    /// An entry whose hash is not of the form: half of the keys would be worse than the configuration before.
    pub fn new(config: &Config) -> Result<Self, InvalidHash> {
        let entries = config.keys.iter().map(|(name, key)| {
            let hash = key.digest().ok_or_else(|| InvalidHash(name.clone()))?;
            let principal = Principal {
                key: Some(name.as_str().into()),
                tenant: key.tenant.as_str().into(),
                models: key.models.as_ref().map(|models| models.as_slice().into()),
                priority: key.priority,
                prefer: key.prefer,
            };
            Ok((hash, Known { hash, principal }))
        });
        let everyone = Principal { tenant: DEFAULT_TENANT.into(), ..Principal::nobody() };
        let known = entries.collect::<Result<HashMap<_, _>, _>>()?;
        Ok(Self { known: (!config.keys.is_empty()).then_some(known), everyone, open: config.auth.is_some() })
    }

    /// Who sends these headers, to this host. Without configured keys everyone is the same tenant, whatever key the client's SDK
    /// sends. About a microsecond; allocates nothing.
    ///
    /// # Errors
    /// There is no key, or none of ours, or one that is not known; or none is needed, and a web page asks.
    pub fn authenticate(&self, headers: &HeaderMap, host: &str) -> Result<Principal, AuthError> {
        let Some(known) = &self.known else {
            return if self.open || !page::is_foreign(headers, host) { Ok(self.everyone.clone()) } else { Err(AuthError::Page) };
        };
        let key = presented(headers)?;
        // A length check first: a header may have megabytes, and nobody should make us hash them.
        if key.len() != LENGTH {
            return Err(AuthError::Malformed);
        }
        let hash = *blake3::hash(key).as_bytes();
        match known.get(&hash) {
            Some(entry) if bool::from(entry.hash.ct_eq(&hash)) => Ok(entry.principal.clone()),
            _ if is_well_formed(key) => Err(AuthError::Unknown),
            _ => Err(AuthError::Malformed),
        }
    }

    /// Makes a key for `[keys.NAME]`.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    pub fn generate(name: &str, tenant: &str) -> Result<Generated, getrandom::Error> {
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random)?;
        let mut key = String::with_capacity(LENGTH);
        key.push_str(PREFIX);
        base64(&random, &mut key);
        let check = checksum(key.as_bytes());
        base64(&check, &mut key);
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let entry = format!(
            "[keys.{}]\nhash = \"blake3:{}\"\ntenant = {}\n",
            config::toml_key(name),
            blake3::hash(key.as_bytes()).to_hex(),
            quoted(tenant)
        );
        Ok(Generated { key: key.into(), entry })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("known", &self.known.as_ref().map(HashMap::len)).finish_non_exhaustive()
    }
}

/// The key in the headers. `Authorization` counts before `x-api-key`; two of one header are refused, because proxies disagree
/// on which one counts.
fn presented(headers: &HeaderMap) -> Result<&[u8], AuthError> {
    if let Some(value) = single(headers, AUTHORIZATION.as_str())? {
        let (scheme, key) = value.as_bytes().split_at_checked(7).ok_or(AuthError::Malformed)?;
        return if scheme.eq_ignore_ascii_case(b"bearer ") { Ok(key.trim_ascii()) } else { Err(AuthError::Malformed) };
    }
    match single(headers, "x-api-key")? {
        Some(value) => Ok(value.as_bytes().trim_ascii()),
        None => Err(AuthError::Missing),
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a HeaderValue>, AuthError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (first, None) => Ok(first.filter(|value| !value.is_empty())),
        (_, Some(_)) => Err(AuthError::Malformed),
    }
}

/// Whether it looks like a key that pointsman made.
fn is_well_formed(key: &[u8]) -> bool {
    if key.len() != LENGTH || !key.starts_with(PREFIX.as_bytes()) {
        return false;
    }
    let (body, check) = key.split_at(LENGTH - CHECK);
    let mut expected = String::with_capacity(CHECK);
    base64(&checksum(body), &mut expected);
    expected.as_bytes() == check
}

fn checksum(body: &[u8]) -> [u8; 3] {
    let hash = blake3::hash(body);
    let [a, b, c, ..] = *hash.as_bytes();
    [a, b, c]
}

/// URL-safe base64 without padding (RFC 4648, section 5).
fn base64(bytes: &[u8], out: &mut String) {
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for sextet in 0..=chunk.len() {
            out.push(char::from(ALPHABET[(bits >> (18 - 6 * sextet) & 63) as usize]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn configured(entry: &str) -> Keys {
        Keys::new(&toml::from_str(entry).unwrap()).unwrap()
    }

    #[test]
    fn base64_of_rfc_4648() {
        for (text, expect) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("\u{fb}\u{ff}", "w7vDvw")]
        {
            let mut out = String::new();
            base64(text.as_bytes(), &mut out);
            assert_eq!(out, expect, "{text}");
        }
    }

    #[test]
    fn a_generated_key_is_recognised() {
        let made = Keys::generate("my app", "a \"tenant\"").unwrap();
        let key = made.key.expose_secret();
        assert_eq!((key.len(), key.starts_with("pm-")), (LENGTH, true));
        assert!(is_well_formed(key.as_bytes()));
        assert!(!made.entry.contains(key) && !format!("{made:?}").contains(key));
        let keys = configured(&format!("{}models = [\"small\"]\n", made.entry));
        let bearer = keys.authenticate(&headers(&[("authorization", &format!("Bearer {key}"))]), "a").unwrap();
        assert_eq!((bearer.key.as_deref(), &*bearer.tenant), (Some("my app"), "a \"tenant\""));
        assert!(bearer.may_use("small") && !bearer.may_use("large"));
        assert_eq!(keys.authenticate(&headers(&[("x-api-key", key)]), "a").unwrap(), bearer);
        assert_eq!(
            keys.authenticate(&headers(&[("authorization", &format!("bearer  {key}")), ("x-api-key", "sk-else")]), "a").unwrap(),
            bearer
        );
    }

    #[test]
    fn everyone_else_is_told_why() {
        let entry = Keys::generate("app", "app").unwrap().entry;
        let other = Keys::generate("app", "app").unwrap().key;
        let other = other.expose_secret();
        let typo = format!("{}{}", &other[..LENGTH - 1], if other.ends_with('A') { 'B' } else { 'A' });
        let keys = configured(&entry);
        for (sent, expect) in [
            (vec![], AuthError::Missing),
            (vec![("authorization", String::new())], AuthError::Missing),
            (vec![("authorization", "Bearer ".to_owned())], AuthError::Malformed),
            (vec![("authorization", "Bearer sk-proj-1234".to_owned())], AuthError::Malformed),
            (vec![("authorization", format!("Basic {other}"))], AuthError::Malformed),
            (vec![("authorization", other.to_owned())], AuthError::Malformed),
            (vec![("x-api-key", typo)], AuthError::Malformed),
            (vec![("x-api-key", other.to_owned())], AuthError::Unknown),
            (vec![("authorization", format!("Bearer {other}"))], AuthError::Unknown),
        ] {
            let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let error = keys.authenticate(&headers(&sent), "a").unwrap_err();
            assert_eq!(error, expect, "{sent:?}");
            assert!(!error.to_string().contains(other));
        }
        let mut twice = headers(&[("x-api-key", other)]);
        twice.append("x-api-key", "second".parse().unwrap());
        assert_eq!(keys.authenticate(&twice, "a"), Err(AuthError::Malformed));
    }

    #[test]
    fn without_keys_everyone_is_the_default_tenant() {
        let keys = Keys::new(&Config::default()).unwrap();
        for sent in [vec![], vec![("authorization", "Bearer sk-anything")], vec![("authorization", "nonsense")]] {
            let principal = keys.authenticate(&headers(&sent), "a").unwrap();
            assert_eq!((principal.key.as_deref(), &*principal.tenant), (None, DEFAULT_TENANT));
            assert!(principal.may_use("anything"));
        }
    }

    #[test]
    fn a_broken_entry_is_refused() {
        let config: Config = toml::from_str("[keys.app]\nhash = \"blake3:00\"\ntenant = \"app\"\n").unwrap();
        assert_eq!(Keys::new(&config).unwrap_err(), InvalidHash("app".to_owned()));
    }
}
