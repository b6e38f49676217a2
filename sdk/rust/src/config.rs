//! The plugin's own `config` table. Grant: `config`.
//!
//! ```no_run
//! use pointsman_plugin::{Result, config};
//!
//! // config = { small = "mini", limit = 400, arms = { v1 = 90, v2 = 10 } }
//! fn settings() -> Result<(String, u32, Vec<(String, u32)>)> {
//!     Ok((config::require("small")?, config::parse("limit")?.unwrap_or(400), config::table("arms")?))
//! }
//! ```
//!
//! A setting that cannot be read is an error that names it, says why and what to write. Call the same function in `check`, and
//! whoever wrote the configuration sees it before any request does.

use std::any::type_name;
use std::fmt::Display;
use std::str::FromStr;

use crate::{PluginError, Result, flat};

#[doc(inline)]
pub use crate::bindings::host::pointsman::plugin::config::{document, get};

/// A setting as a value of your type; none where there is no such setting.
///
/// # Errors
/// When there is one, and it is not a `T`.
pub fn parse<T: FromStr<Err: Display>>(key: &str) -> Result<Option<T>> {
    get(key).map(|text| value(key, &text)).transpose()
}

/// A setting that there has to be.
///
/// # Errors
/// When it is missing, or not a `T`.
pub fn require<T: FromStr<Err: Display>>(key: &str) -> Result<T> {
    parse(key)?.ok_or_else(|| PluginError::setting(key, "is missing", "it has no default, so write one"))
}

/// A list, such as `["a", "b"]`; empty where there is no such setting.
///
/// # Errors
/// When it is no list, or one of its items is not a `T`.
pub fn list<T: FromStr<Err: Display>>(key: &str) -> Result<Vec<T>> {
    let Some(json) = get(key) else { return Ok(Vec::new()) };
    let items = flat::list(&json)
        .ok_or_else(|| PluginError::setting(key, "is not a list of single values", "write it as [\"…\", \"…\"]"))?;
    items.iter().map(|text| value(key, text)).collect()
}

/// A table, such as `{ v1 = 90, v2 = 10 }`, in the order in which it is written; empty where there is no such setting.
///
/// # Errors
/// When it is no table, or one of its values is not a `T`.
pub fn table<T: FromStr<Err: Display>>(key: &str) -> Result<Vec<(String, T)>> {
    let Some(json) = get(key) else { return Ok(Vec::new()) };
    let entries = flat::table(&json)
        .ok_or_else(|| PluginError::setting(key, "is not a table of single values", "write it as { name = …, other = … }"))?;
    entries.into_iter().map(|(name, text)| value(&format!("{key}.{name}"), &text).map(|value| (name, value))).collect()
}

fn value<T: FromStr<Err: Display>>(key: &str, text: &str) -> Result<T> {
    text.parse().map_err(|error| {
        let kind = kind(type_name::<T>());
        PluginError::setting(key, format_args!("is `{text}`, which is not {kind} ({error})"), format_args!("write {kind}"))
    })
}

/// A type's name in words that do not take a Rust programmer.
fn kind(name: &str) -> &str {
    match name {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number, perhaps below 0",
        "f32" | "f64" => "a number",
        "bool" => "true or false",
        name => name.rsplit("::").next().unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::value;
    use crate::PluginError;

    #[test]
    fn an_error_names_key_value_reason_and_remedy() {
        assert_eq!(value::<u32>("limit", "400"), Ok(400));
        assert_eq!(value::<String>("small", "mini"), Ok("mini".to_owned()));
        let expect = "`limit` is `many`, which is not a whole number (invalid digit found in string): write a whole number";
        assert_eq!(value::<u32>("limit", "many"), Err(PluginError::Config(expect.into())));
        let own = value::<std::net::Ipv4Addr>("address", "here").unwrap_err();
        assert!(own.to_string().contains("not Ipv4Addr"), "{own}");
    }
}
