//! `[cache.redis]` and `[cache.disk]`: the tiers behind memory.
//!
//! Does not check that anything is there: a tier that is away costs misses and no start.
//!
//! **Invariant:** a password is referred to, never written into the URL.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::unit::Wrong;
use super::{ByteSize, Duration, SecretRef};

/// The tier of the cache in Redis, which nodes share. Slow, full or away it costs a miss, and no error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// Where it is: `redis://HOST:PORT`, with TLS `rediss://HOST:PORT`; behind that `/N` for another of its databases than 0.
    pub url: RedisUrl,
    /// Who pointsman is there. Absent: its default user.
    #[serde(default)]
    pub username: Option<String>,
    /// The password, as `env:NAME` or `file:PATH`. Absent: none is needed.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// How long a request waits for it. After three failures in a row nobody does, until one request in a while finds it well. Default 5ms.
    #[serde(default = "soon")]
    pub deadline: Duration,
    /// What its keys begin with there. Nodes with the same prefix share entries, and purges reach all of them. Default pointsman:.
    #[serde(default = "prefix")]
    pub prefix: String,
}

fn soon() -> Duration {
    Duration::from_millis(5)
}

fn prefix() -> String {
    "pointsman:".to_owned()
}

/// The tier of the cache on disk, whose entries outlive the process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The folder, which is pointsman's alone; it is made where it is not there.
    pub path: PathBuf,
    /// The most bytes of entries; those that end first make room. The folder may have twice as much for a while, and about 100MiB more.
    /// Default 1GiB.
    #[serde(default = "size")]
    pub size: ByteSize,
    /// How long a request waits for it. Default 20ms.
    #[serde(default = "late")]
    pub deadline: Duration,
}

fn size() -> ByteSize {
    ByteSize::mib(1_024)
}

fn late() -> Duration {
    Duration::from_millis(20)
}

/// Where a Redis is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RedisUrl {
    /// With TLS.
    pub tls: bool,
    /// A name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which of its databases.
    pub database: i64,
}

/// The port where none is written.
const PORT: u16 = 6379;

impl TryFrom<String> for RedisUrl {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        // Not echoed: a password may stand in it.
        let wrong = |reason: &str| Wrong::new(reason, "write \"redis://HOST:PORT\", or \"rediss://HOST:PORT\" with TLS");
        let (tls, rest) = match (text.strip_prefix("redis://"), text.strip_prefix("rediss://")) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            _ => return Err(wrong("this is no URL of a Redis")),
        };
        if rest.contains('@') {
            return Err(Wrong::new(
                "a secret is not written into the configuration",
                "remove what stands before the @, and write it as `username` and `password`",
            ));
        }
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database =
            if database.is_empty() { Some(0) } else { database.parse().ok().filter(|number| (0..=65_535).contains(number)) };
        let place: http::uri::Authority = place.parse().map_err(|_| wrong("its host and port cannot be read"))?;
        let has_port = place.as_str().len() > place.host().len();
        let port = if has_port { place.port_u16().ok_or_else(|| wrong("its port is none"))? } else { PORT };
        Ok(Self {
            tls,
            host: place.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            database: database.ok_or_else(|| wrong("a database is a number of at least 0"))?,
        })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "redis{}://{open}{}{close}:{}", if self.tls { "s" } else { "" }, self.host, self.port)?;
        if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

impl From<RedisUrl> for String {
    fn from(url: RedisUrl) -> Self {
        url.to_string()
    }
}

impl JsonSchema for RedisUrl {
    fn schema_name() -> Cow<'static, str> {
        "RedisUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^rediss?://[^@]+$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let read =
            |text: &str| RedisUrl::try_from(text.to_owned()).map(|url| (url.to_string(), url.host)).map_err(|wrong| wrong.reason);
        for (text, shown, host) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379", "127.0.0.1"),
            ("redis://cache", "redis://cache:6379", "cache"),
            ("rediss://cache.example:6380/", "rediss://cache.example:6380", "cache.example"),
            ("redis://[::1]:7000/3", "redis://[::1]:7000/3", "::1"),
        ] {
            assert_eq!(read(text), Ok((shown.to_owned(), host.to_owned())), "{text}");
            assert_eq!(read(shown), read(text));
        }
        for text in ["", "http://a", "redis://", "redis://a:b", "redis://a:99999", "redis://a/x", "redis://a/-1", "redis:/a"] {
            assert!(read(text).is_err(), "{text}");
        }
        let secret = read("redis://:hunter2@a").unwrap_err();
        assert!(secret.contains("secret") && !secret.contains("hunter2"), "{secret}");
    }
}
