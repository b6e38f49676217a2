//! The reference pages are made from the code: `UPDATE=1 cargo test -p tests --test docs` writes them, and without it
//! this test fails where a page and the code disagree.
//!
//! **Invariant:** a page under `docs/` that is made here is never edited by hand.

#[path = "faults/page.rs"]
mod page;
#[path = "faults/table.rs"]
mod table;

use std::fmt::Write as _;
use std::path::Path;

use pointsman::config;
use pointsman::error::Kind;
use serde_json::Value;

fn check(page: &str, made: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, made).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == made, "docs/{page} is not what the code says; run UPDATE=1 cargo test -p tests --test docs");
}

#[test]
fn errors() {
    let mut page = String::from(
        "# Errors\n\nMade from `host/src/error.rs`. An error has OpenAI's shape, `{\"error\": {\"message\", \"type\", \"param\", \"code\"}}`, from which its SDKs make\ntyped exceptions by the status. `message` names the field, the reason and the remedy; `x-request-id` finds it in the log.\n\n| code | status | when |\n|---|---|---|\n",
    );
    for kind in Kind::ALL {
        let (status, code, when) = kind.describe();
        writeln!(page, "| `{code}` | {status} | {when} |").unwrap();
    }
    page.push_str("\nThe listener answers what it must not pass on with the code `bad_framing` (400, 405 or 417), before anything else is looked at.\n");
    check("errors.md", &page);
}

#[test]
fn faults() {
    check("faults.md", &page::page());
}

#[test]
fn configuration() {
    let schema = config::schema();
    let mut page = String::from(
        "# Configuration\n\nMade from `host/src/config.rs`. TOML; unknown keys are errors; a section that is absent is off. Durations and sizes carry their unit (`\"5ms\"`,\n`\"30s\"`, `\"16MiB\"`). `pointsman check FILE` loads what `serve` would (plugins, prompts,\ncertificates, the embedder, the keys that `env:` and `file:` refer to) and names every error with its place;\n`pointsman check --schema` prints the JSON schema.\n",
    );
    section(&schema, &schema, "", &mut page);
    check("configuration.md", &page);
}

#[test]
fn plugin_cases() {
    let schema = pointsman::plugin::cases::schema();
    let example =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/cost-ceiling/cases/cost-ceiling.toml"));
    // Its end is as plain as its beginning.
    let example: Vec<String> = example.unwrap().split("\n\n").take(4).map(str::to_owned).collect();
    let mut page = format!(
        "# Cases of a plugin\n\nMade from `host/src/plugin/cases/file.rs` and `expect.rs`. `pointsman plugin test DIR` builds the folder and runs its cases, `cases/*.toml` and\n`cases/*.json`; `pointsman plugin test FILE.wasm` those beside the component; `--cases FILE` names others. Each case is one call of the component in the\nengine that serves, with what the case gives around it: no server, no model, no network, no clock but the case's. Each has a plugin of its own: what one\nkeeps, another does not find. What the component imports is granted, and a call has two seconds.\n\nThe exit code is 0 where all are as expected; 1 where some are not, or the folder does not build; 2 where a file of cases or the component is not\nwhat it should be, or there is no case. What is wrong with a file is told with file, line and column.\n\n```text\n{}\n```\n\nUnder a case that is not as expected stand the fields that differ, what was expected and what came, and what the plugin has logged:\n\n```text\nFAIL  near the ceiling the cheapest model is asked first (cases/cost-ceiling.toml:14)\n      plan.targets[0].model: expected \"small\", got \"large\"\n      leaves.kv.calls/20454: expected \"9\", got \"8\"\n```\n",
        example.join("\n\n")
    );
    let mut seen = Vec::new();
    shape(&schema, &schema, "", &mut seen, &mut page);
    check("plugin-cases.md", &page);
}

/// A table's keys, or the words of an enumeration that has tables; then what is below it. Each type once.
fn shape(schema: &Value, at: &Value, name: &str, seen: &mut Vec<String>, page: &mut String) {
    let about = |at: &Value| at["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
    let has_tables = |at: &Value| at.get("properties").is_some();
    let (heading, prefix) =
        if name.is_empty() { ("The file".to_owned(), String::new()) } else { (format!("`{name}`"), format!("{name}.")) };
    write!(page, "\n## {heading}\n\n{}\n\n| key | meaning |\n|---|---|\n", about(at)).unwrap();
    let mut below: Vec<(&str, &Value)> = Vec::new();
    let required: Vec<&str> = at["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (key, property) in at["properties"].as_object().into_iter().flatten() {
        let must = if required.contains(&key.as_str()) { " **Required.**" } else { "" };
        // Words that stand beside tables have a page of their own.
        let is_word = followed(schema, property)["oneOf"].as_array().is_none_or(|options| !options.iter().any(has_tables));
        let words = if is_word { choices(schema, property) } else { String::new() };
        writeln!(page, "| `{key}` | {}{must}{words} |", about(property)).unwrap();
        below.push((key, property));
    }
    for option in at["oneOf"].as_array().into_iter().flatten() {
        let words = option["enum"].as_array().into_iter().flatten().chain(option.get("const"));
        let tables = option["properties"].as_object().into_iter().flatten();
        let keys = words.filter_map(Value::as_str).chain(tables.clone().map(|(key, _)| key.as_str()));
        keys.for_each(|key| writeln!(page, "| `{key}` | {} |", about(option)).unwrap());
        below.extend(tables.map(|(key, property)| (key.as_str(), property)));
    }
    for (key, property) in below {
        let listed = property.get("items").or_else(|| property["anyOf"].get(0)?.get("items"));
        let inner = followed(schema, listed.unwrap_or(property));
        let is_page = has_tables(inner) || inner["oneOf"].as_array().is_some_and(|options| options.iter().any(has_tables));
        if is_page && !seen.contains(&inner.to_string()) {
            seen.push(inner.to_string());
            shape(schema, inner, &format!("{prefix}{key}"), seen, page);
        }
    }
}

/// A table's keys, then its own tables.
fn section(schema: &Value, table: &Value, path: &str, page: &mut String) {
    if !path.is_empty() {
        let about = table["description"].as_str().unwrap_or_default().replace('\n', " ");
        write!(page, "\n## [{path}]\n\n{about}\n").unwrap();
    }
    page.push_str("\n| key | meaning |\n|---|---|\n");
    let mut inner = Vec::new();
    let required: Vec<&str> = table["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in table["properties"].as_object().into_iter().flatten() {
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let must = if required.contains(&name.as_str()) { " **Required.**" } else { "" };
        writeln!(page, "| `{name}` | {about}{must}{} |", choices(schema, property)).unwrap();
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (table_of(schema, property), property.get("additionalProperties").and_then(|entry| table_of(schema, entry))) {
            (Some(table), _) => inner.push((below, table)),
            (None, Some(table)) => inner.push((format!("{below}.NAME"), table)),
            (None, None) => {}
        }
    }
    for (path, table) in inner {
        section(schema, table, &path, page);
    }
}

/// What a reference or an optional reference stands for.
fn followed<'a>(schema: &'a Value, at: &'a Value) -> &'a Value {
    let at = at["anyOf"].as_array().and_then(|options| options.first()).unwrap_or(at);
    match at["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        Some(pointer) => schema.pointer(pointer).unwrap_or(at),
        None => at,
    }
}

fn table_of<'a>(schema: &'a Value, at: &'a Value) -> Option<&'a Value> {
    Some(followed(schema, at)).filter(|table| table.get("properties").is_some())
}

/// The values of an enumeration.
fn choices(schema: &Value, property: &Value) -> String {
    let of = |at: &Value| -> Vec<String> {
        let listed = at["enum"].as_array().into_iter().flatten();
        let described = at["oneOf"].as_array().into_iter().flatten().map(|option| &option["const"]);
        listed.chain(described).filter_map(Value::as_str).map(|name| format!("`\"{name}\"`")).collect()
    };
    let item = property.get("items").map_or(property, |items| items);
    let found = of(followed(schema, item));
    if found.is_empty() { String::new() } else { format!(" One of {}.", found.join(", ")) }
}
