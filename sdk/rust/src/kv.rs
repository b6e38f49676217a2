//! What outlives an exchange: counters, budgets, what was seen last. Grant: `kv`.
//!
//! ```no_run
//! use std::time::Duration;
//! use pointsman_plugin::{Decision, Rejection, Result, kv};
//!
//! // At most 100 requests a minute, from the first on. The tenant is the exchange's: each has a counter of its own.
//! fn throttle() -> Result<Decision> {
//!     let minute = Duration::from_secs(60);
//!     if kv::increment("requests", 1, Some(minute))? > 100 {
//!         return Ok(Rejection::new(429, "too_many", "100 requests a minute.").retry_after(minute).into());
//!     }
//!     Ok(Decision::Pass)
//! }
//! ```
//!
//! The store is this node's and is gone when the process ends; a new version of the plugin finds what the one before it has left. A
//! key has 1 to 256 bytes, a value at most 64 KiB; what the plugin's `kv` settings allow bounds the rest, and nothing is thrown out
//! for something new. A time (`ttl`) is counted in whole milliseconds, up to 49 days; none: it stays. Each call is one step that no
//! other call comes between; what is read with one and written with the next is two, so count with [`increment`] and decide with
//! [`compare_and_set`]. What was changed stays changed if the hook then fails.

use std::any::type_name;
use std::str::FromStr;
use std::time::Duration;

use crate::bindings::host::pointsman::plugin::kv;
use crate::error::milliseconds;
use crate::{PluginError, Result};

#[doc(inline)]
pub use crate::bindings::host::pointsman::plugin::kv::KvError;

/// The value under a key; none where there is nothing, or nothing any more.
///
/// # Errors
/// Where there can be no such key.
pub fn get(key: &str) -> core::result::Result<Option<Vec<u8>>, KvError> {
    kv::get(key)
}

/// The same as a value of your type, which it was written as: a text, a number, a counter.
///
/// # Errors
/// Where it is not a `T`, or there can be no such key.
pub fn parse<T: FromStr>(key: &str) -> Result<Option<T>> {
    kv::get(key)?.map(|bytes| read(key, &bytes)).transpose()
}

/// Puts a value in the place of whatever was there, and of its time.
///
/// # Errors
/// Where key or value are too large, or there is no room.
pub fn set(key: &str, value: impl AsRef<[u8]>, ttl: Option<Duration>) -> core::result::Result<(), KvError> {
    kv::set(key, value.as_ref(), ttl.map(milliseconds))
}

/// Takes a value away. Was there one?
///
/// # Errors
/// Where there can be no such key.
pub fn delete(key: &str) -> core::result::Result<bool, KvError> {
    kv::delete(key)
}

/// Adds to a counter, and gives what it is now. Where there is nothing it begins at 0, with this time; one that is there keeps its own.
///
/// # Errors
/// Where something else than a number is there, or there is no room for it.
pub fn increment(key: &str, by: i64, ttl: Option<Duration>) -> core::result::Result<i64, KvError> {
    kv::increment(key, by, ttl.map(milliseconds))
}

/// Sets the value if what is there now is `expected`; none: if there is nothing. Was it?
///
/// # Errors
/// As [`set`].
pub fn compare_and_set(
    key: &str,
    expected: Option<&[u8]>,
    value: impl AsRef<[u8]>,
    ttl: Option<Duration>,
) -> core::result::Result<bool, KvError> {
    kv::compare_and_set(key, expected, value.as_ref(), ttl.map(milliseconds))
}

fn read<T: FromStr>(key: &str, bytes: &[u8]) -> Result<T> {
    let value = core::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    value.ok_or_else(|| PluginError::Internal(format!("what is kept under `{key}` is no {}", type_name::<T>())))
}

/// So that `?` gives up where nothing can be kept. To go on without, match on it.
impl From<KvError> for PluginError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::TooLarge => Self::Internal("a key or value is too large for kv".into()),
            KvError::NotANumber => Self::Internal("what is kept there is no number".into()),
            KvError::Quota => Self::Unavailable("there is no room in kv".into()),
            KvError::Unavailable => Self::Unavailable("there is no kv".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read_as_it_was_written() {
        assert_eq!(read::<i64>("spent", b"-12"), Ok(-12));
        assert_eq!(read::<String>("arm", "vé".as_bytes()), Ok("vé".to_owned()));
        for bytes in [&b"many"[..], b"", b"\xff"] {
            let expect = Err(PluginError::Internal("what is kept under `spent` is no u32".into()));
            assert_eq!(read::<u32>("spent", bytes), expect);
        }
    }

    #[test]
    fn a_full_store_is_not_the_plugins_own_fault() {
        let said = |error: KvError| PluginError::from(error);
        assert!(matches!(said(KvError::Quota), PluginError::Unavailable(_)));
        assert!(matches!(said(KvError::Unavailable), PluginError::Unavailable(_)));
        assert!(matches!(said(KvError::TooLarge), PluginError::Internal(_)));
        assert!(matches!(said(KvError::NotANumber), PluginError::Internal(_)));
    }

    #[test]
    fn times_are_milliseconds_and_end_at_49_days() {
        assert_eq!(milliseconds(Duration::from_secs(60)), 60_000);
        assert_eq!(milliseconds(Duration::from_micros(999)), 0);
        assert_eq!(milliseconds(Duration::from_secs(60 * 86_400)), u32::MAX);
    }
}
