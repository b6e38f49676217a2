//! A plugin's own `config` table: TOML in the file, JSON for the plugin.
//!
//! Does not interpret it: the plugin's `check` does.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// No configuration: an empty table.
pub(super) fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// Reads a TOML table as a JSON object. Dates and times, which JSON lacks, become text as they were written.
pub(super) fn from_table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let table = toml::Table::deserialize(deserializer)?;
    object(table).map_err(serde::de::Error::custom)
}

fn object(table: toml::Table) -> Result<Value, super::unit::Wrong> {
    let entries = table.into_iter().map(|(key, value)| Ok((key, json(value)?)));
    Ok(Value::Object(entries.collect::<Result<_, _>>()?))
}

fn json(value: toml::Value) -> Result<Value, super::unit::Wrong> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => serde_json::Number::from_f64(number).map(Value::Number).ok_or_else(|| {
            super::unit::Wrong::new("JSON has neither inf nor nan, and plugins read JSON", "write a finite number, or text")
        })?,
        toml::Value::Boolean(truth) => Value::Bool(truth),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => object(table)?,
    })
}
