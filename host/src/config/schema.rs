//! The JSON schema of the configuration, for editors and for `pointsman check --schema`.
//!
//! It is made from the types and their doc comments, so that it cannot say anything else than they do. What `validate` asks
//! beyond the types (references between entries, say) it does not express.

use serde_json::Value;

/// The JSON schema (2020-12) of the configuration file.
pub fn schema() -> Value {
    schemars::schema_for!(super::Config).to_value()
}

/// The keys that the table at `path` must have. Empty where the schema knows no such table.
pub(super) fn required(path: &[String]) -> Vec<String> {
    let schema = schema();
    let mut at = &schema;
    for key in path {
        let table = table(&schema, at);
        match table["properties"].get(key).or_else(|| table.get("additionalProperties")) {
            Some(next) => at = next,
            None => return Vec::new(),
        }
    }
    let names = table(&schema, at)["required"].as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Follows references and optional values to the schema of the table itself.
fn table<'a>(schema: &'a Value, at: &'a Value) -> &'a Value {
    if let Some(reference) = at["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        return schema.pointer(reference).unwrap_or(&Value::Null);
    }
    match at["anyOf"].as_array().and_then(|options| options.first()) {
        Some(option) => table(schema, option),
        None => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_description() {
        fn walk(at: &Value, path: &str, bare: &mut Vec<String>) {
            for (name, property) in at["properties"].as_object().into_iter().flatten() {
                if property.get("description").is_none() {
                    bare.push(format!("{path}.{name}"));
                }
            }
        }
        let schema = schema();
        let mut bare = Vec::new();
        walk(&schema, "", &mut bare);
        schema["$defs"].as_object().unwrap().iter().for_each(|(name, at)| walk(at, name, &mut bare));
        assert_eq!(bare, Vec::<String>::new());
    }

    #[test]
    fn required_keys_are_found_at_depth() {
        for (path, names) in [
            (vec!["providers", "local"], vec!["kind", "endpoints"]),
            (vec!["listen", "tls"], vec!["certificate", "key"]),
            (vec!["models", "small", "price"], vec!["input"]),
            (vec!["nowhere"], vec![]),
            (vec![], vec![]),
        ] {
            assert_eq!(required(&path.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>()), names, "{path:?}");
        }
    }
}
