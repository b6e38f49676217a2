//! Durations and sizes as a person writes them: "5ms", "1h30m", "16MiB", "64KB".
//!
//! A bare number is refused: nobody should have to look up what a limit is counted in.
//!
//! **Invariant:** what is printed is read back as the same value.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is wrong with a value, and what to do. It prints as `REASON; REMEDY`, which the loader takes apart again, because a
/// serde error carries nothing but text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {remedy}")]
pub struct Wrong {
    /// What is wrong. No semicolon in it.
    pub reason: String,
    /// What to write instead.
    pub remedy: String,
}

impl Wrong {
    /// A reason and a remedy.
    pub fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// A length of time, of at least a microsecond's precision. Written as numbers with units from large to small: "1h30m", "5ms".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// A number of bytes. Written as a whole number and a unit: B, KB, MB, GB (thousands), KiB, MiB, GiB (1024s).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Largest first: the order in which they are written, and in which a value is taken apart for printing. In microseconds.
const TIMES: [(&str, u64); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];
/// In the order in which printing tries them.
const SIZES: [(&str, u64); 7] =
    [("GiB", 1 << 30), ("GB", 1_000_000_000), ("MiB", 1 << 20), ("MB", 1_000_000), ("KiB", 1 << 10), ("KB", 1_000), ("B", 1)];
const TIME_REMEDY: &str = "write a whole number and a unit, such as \"5ms\", \"2s\", \"10m\" or \"1h30m\"";
const SIZE_REMEDY: &str = "write a whole number and a unit, such as \"64KB\", \"16MiB\" or \"1GiB\"";

impl Duration {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(std::time::Duration::from_millis(milliseconds))
    }

    /// The standard library's type.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1024 × 1024 bytes.
    pub const fn mib(mebibytes: u64) -> Self {
        Self(mebibytes << 20)
    }

    /// Bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Bytes, as what memory is counted in; the largest `usize` where that is smaller.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Splits "1h30m" into (1, "h"), (30, "m"). `None` where it is not of that form.
fn parts(text: &str) -> Option<Vec<(u64, &str)>> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        found.push((number.parse().ok()?, unit.trim()));
        rest = tail;
    }
    (!found.is_empty()).then_some(found)
}

impl FromStr for Duration {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let bad = |reason: String| Wrong::new(reason, TIME_REMEDY);
        let parts = parts(text.trim()).ok_or_else(|| bad(format!("{text:?} is not a duration")))?;
        let mut total: u64 = 0;
        let mut last = usize::MAX;
        for (number, unit) in parts {
            if unit.is_empty() {
                return Err(bad(format!("{text:?} has no unit")));
            }
            let Some(position) = TIMES.iter().position(|(name, _)| *name == unit) else {
                return Err(bad(format!("{unit:?} is not a unit of time")));
            };
            if last != usize::MAX && position <= last {
                return Err(bad(format!("the units of {text:?} are not from large to small")));
            }
            last = position;
            total = number
                .checked_mul(TIMES[position].1)
                .and_then(|part| total.checked_add(part))
                .ok_or_else(|| bad(format!("{text:?} is too long a time")))?;
        }
        Ok(Self(std::time::Duration::from_micros(total)))
    }
}

impl FromStr for ByteSize {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let bad = |reason: String| Wrong::new(reason, SIZE_REMEDY);
        let parts = parts(text.trim()).ok_or_else(|| bad(format!("{text:?} is not a size")))?;
        let [(number, unit)] = parts[..] else {
            return Err(bad(format!("{text:?} is not a size")));
        };
        if unit.is_empty() {
            return Err(bad(format!("{text:?} has no unit")));
        }
        let Some((_, factor)) = SIZES.iter().find(|(name, _)| *name == unit) else {
            return Err(bad(format!("{unit:?} is not a unit of size")));
        };
        number.checked_mul(*factor).map(Self).ok_or_else(|| bad(format!("{text:?} is too large a size")))
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_micros()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, size) in TIMES {
            if rest >= size {
                write!(f, "{}{unit}", rest / size)?;
                rest %= size;
            }
        }
        Ok(())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, size) =
            SIZES.into_iter().find(|(_, size)| self.0 >= *size && self.0.is_multiple_of(*size)).unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

/// Reads a string through `FromStr`, and says to a bare number what it lacks.
struct Written<T> {
    what: &'static str,
    remedy: &'static str,
    of: std::marker::PhantomData<T>,
}

impl<T: FromStr<Err = Wrong>> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        Err(E::custom(Wrong::new(format!("{number} has no unit"), self.remedy)))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        Err(E::custom(Wrong::new(format!("{number} has no unit"), self.remedy)))
    }
}

macro_rules! written {
    ($type:ident, $what:literal, $remedy:ident, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Written { what: $what, remedy: $remedy, of: std::marker::PhantomData })
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "description": $remedy })
            }
        }
    };
}
written!(Duration, "a duration", TIME_REMEDY, "^([0-9]+(d|h|ms|m|s|us))+$");
written!(ByteSize, "a size", SIZE_REMEDY, "^[0-9]+ ?(B|KB|MB|GB|KiB|MiB|GiB)$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        for (text, micros, printed) in [
            ("5ms", 5_000, "5ms"),
            ("2s", 2_000_000, "2s"),
            ("1h30m", 5_400_000_000, "1h30m"),
            ("90m", 5_400_000_000, "1h30m"),
            ("1500ms", 1_500_000, "1s500ms"),
            ("250us", 250, "250us"),
            ("1d", 86_400_000_000, "1d"),
            ("0s", 0, "0s"),
        ] {
            let read: Duration = text.parse().unwrap();
            assert_eq!((u64::try_from(read.get().as_micros()).unwrap(), read.to_string().as_str()), (micros, printed), "{text}");
            assert_eq!(printed.parse::<Duration>().unwrap(), read);
        }
        for text in ["", "5", "ms", "5 parsecs", "1m1h", "5ms5ms", "-5s", "1.5s", "99999999999999d", "s5"] {
            let wrong = text.parse::<Duration>().unwrap_err();
            assert!(!wrong.reason.contains(';') && wrong.remedy == TIME_REMEDY, "{text}: {wrong}");
        }
    }

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes, printed) in [
            ("16MiB", 16 << 20, "16MiB"),
            ("64KB", 64_000, "64KB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1 GiB", 1 << 30, "1GiB"),
            ("7B", 7, "7B"),
            ("0B", 0, "0B"),
        ] {
            let read: ByteSize = text.parse().unwrap();
            assert_eq!((read.bytes(), read.to_string().as_str()), (bytes, printed), "{text}");
            assert_eq!(printed.parse::<ByteSize>().unwrap(), read);
        }
        for text in ["", "16", "MiB", "16mib", "1.5MiB", "1MiB2KiB", "-1B", "99999999999999999GiB"] {
            text.parse::<ByteSize>().unwrap_err();
        }
    }
}
