//! An element of `endpoints`: a URL, or a table with a URL and what sets this endpoint apart.
//!
//! Does not check that it is a URL: `validate` does.
//!
//! **Invariant:** what is written as a URL alone is printed as one.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::unit::Wrong;

/// One endpoint of a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The base URL.
    pub url: String,
    /// How many requests it gets, compared with the others.
    pub weight: f64,
    /// Where it stands.
    pub zone: Option<String>,
}

/// An endpoint as a table.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointTable {
    /// The base URL. It must be there.
    #[serde(default)]
    url: Option<String>,
    /// How many requests it gets, compared with the others: above 0, at most 1000. Default 1.
    #[serde(default = "one")]
    weight: f64,
    /// Where it stands; endpoints of our own `zone` come first. Absent: everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

fn one() -> f64 {
    1.0
}

impl From<String> for Endpoint {
    fn from(url: String) -> Self {
        Self { url, weight: one(), zone: None }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        if self.weight != one() {
            write!(f, " (weight {})", self.weight)?;
        }
        self.zone.as_ref().map_or(Ok(()), |zone| write!(f, " (zone {zone})"))
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = Endpoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a URL, or a table with one")
    }

    fn visit_str<E: de::Error>(self, url: &str) -> Result<Endpoint, E> {
        Ok(url.to_owned().into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
        let EndpointTable { url, weight, zone } = Deserialize::deserialize(MapAccessDeserializer::new(map))?;
        // A reader of reports knows which keys a named table must have, but not an array's element.
        let url = url.ok_or_else(|| {
            de::Error::custom(Wrong::new(
                "this endpoint has no `url`",
                "add `url = \"http://10.0.0.7:8000/v1\"` with its own address",
            ))
        })?;
        Ok(Endpoint { url, weight, zone })
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Endpoint, E> {
        Err(E::custom(Wrong::new(
            format!("{number} is no endpoint"),
            "write a URL, or a table such as { url = \"http://10.0.0.7:8000/v1\", weight = 2 }",
        )))
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.weight == one() && self.zone.is_none() {
            return serializer.serialize_str(&self.url);
        }
        EndpointTable { url: Some(self.url.clone()), weight: self.weight, zone: self.zone.clone() }.serialize(serializer)
    }
}

impl JsonSchema for Endpoint {
    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let table = generator.subschema_for::<EndpointTable>();
        json_schema!({ "description": "A base URL, or a table with one.", "anyOf": [{ "type": "string" }, table] })
    }
}
