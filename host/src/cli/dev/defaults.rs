//! The configuration that `pointsman dev` serves, and what it says to whoever started it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::providers::Found;
use crate::config::toml_key;
use crate::plugin::{build, inspect};

const EXAMPLES: &str = r#"
# Which label's examples is a question nearest to? `route-by-complexity` asks.
[examples.complexity]
simple = ["What is the capital of France?", "Translate hello into Spanish.", "What time is it in Tokyo?", "How do I reset my password?", "Thank you!"]
complex = ["Prove that the algorithm terminates and analyse its complexity.", "Design a distributed database that survives the loss of a region.", "Review this contract and list every risk for the buyer.", "Debug this deadlock between two threads.", "Derive the gradient of the loss step by step."]
"#;

/// The whole configuration, as text.
pub(super) fn configuration(
    dir: &Path,
    plugins: &[PathBuf],
    listen: SocketAddr,
    admin: SocketAddr,
    providers: &[Found],
) -> String {
    let mut text = format!(
        "# Written by `pointsman dev` at each start. Copy it, edit the copy, and run `pointsman serve --config COPY`.\n\n[listen]\naddress = \"{listen}\"\n\n[admin]\naddress = \"{admin}\"\nexplain = \"2MiB\"\n"
    );
    for provider in providers {
        let _ = write!(text, "\n[providers.{}]\nkind = \"openai\"\nendpoints = [\"{}\"]\n", provider.name, provider.endpoint);
        if let Some(key) = provider.key {
            let _ = writeln!(text, "key = \"env:{key}\"");
        }
        for (name, at_provider, price) in &provider.models {
            let quoted = toml::Value::String(at_provider.clone());
            let _ = write!(text, "\n[models.{}]\nprovider = \"{}\"\nname = {quoted}\n", toml_key(name), provider.name);
            if let Some((input, output)) = price {
                let _ = writeln!(text, "price = {{ input = {input:?}, output = {output:?} }}");
            }
        }
    }
    text.push_str("\n# A name for several: a routing plugin chooses.\n[models.auto]\nchoose = [\"small\", \"large\"]\n\n[models.embedding]\nprovider = \"built-in\"\n");
    for folder in plugins {
        plugin(&mut text, folder);
    }
    if dir.join("prompts").is_dir() || dir.join("plugins/prompt-ab/prompts").is_dir() {
        let prompts = if dir.join("prompts").is_dir() { "prompts" } else { "plugins/prompt-ab/prompts" };
        let path = std::path::absolute(dir.join(prompts)).unwrap_or_else(|_| dir.join(prompts));
        let _ = write!(text, "\n[prompts]\npath = {:?}\n", path.display().to_string());
    }
    text.push_str(
        "\n[cache]\nmemory = \"64MiB\"\nttl = \"1h\"\n\n[cache.semantic]\nembedder = \"built-in\"\nwrong_hits = 0.03\n",
    );
    text + EXAMPLES
}

/// A plugin's entry: its hooks and the grants that it asks for are read off the component; its `config` is in its `dev.toml`.
fn plugin(text: &mut String, folder: &Path) {
    let Some((name, component)) = component(folder) else { return };
    let Ok(found) = inspect::inspect(&component) else { return };
    let list = |items: &[String]| items.iter().map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ");
    let own = std::fs::read_to_string(folder.join("dev.toml")).ok();
    let path = toml::Value::String(std::path::absolute(&component).unwrap_or(component).display().to_string());
    let _ = write!(
        text,
        "\n[plugins.{}]\ncomponent = {path}\nhooks = [{}]\ngrant = [{}]\n",
        toml_key(&name),
        list(&found.hooks),
        list(&found.grants)
    );
    // Unoptimised, on a machine that also compiles, a call takes longer than the default deadline allows for.
    text.push_str("deadline = \"100ms\"\n");
    if build::language(folder).is_some_and(|language| language != build::Language::Rust) {
        text.push_str("memory = \"64MiB\"\nreuse = true\n");
    }
    text.push_str(own.as_deref().unwrap_or_default().trim_end());
    text.push('\n');
}

/// The component that a build of the folder leaves there, and its name.
fn component(folder: &Path) -> Option<(String, PathBuf)> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .collect();
    files.sort();
    let file = files.into_iter().next()?;
    Some((file.file_stem()?.to_str()?.to_owned(), file))
}

/// Three requests to try, each of which shows something.
pub(super) fn greeting(listen: SocketAddr, admin: Option<SocketAddr>, file: &Path, plugins: &[PathBuf]) -> String {
    let post = |body: &str, more: &str| {
        format!("  curl -si http://{listen}/v1/chat/completions {more}-H 'content-type: application/json' -d '{body}'")
    };
    let mut text =
        format!("\npointsman is ready on http://{listen}/v1 (any OpenAI SDK: set its base URL to that; no key is needed)\n\n");
    let _ = writeln!(
        text,
        "1. A short question: the routing plugin takes the small model, and says so in the headers. Ask twice: the second comes from the cache.\n"
    );
    let _ = writeln!(
        text,
        "{}\n",
        post(r#"{"model":"auto","messages":[{"role":"user","content":"What is the capital of France?"}]}"#, "")
    );
    let _ = writeln!(text, "2. A versioned prompt: the prompting plugin gives each user one of two versions.\n");
    let _ = writeln!(
        text,
        "{}\n",
        post(
            r#"{"model":"auto","prompt":{"id":"support","variables":{"product":"Lamp"}},"messages":[{"role":"user","content":"It does not light up."}]}"#,
            "-H 'x-user-id: ada' "
        )
    );
    let _ = writeln!(text, "3. A stream, with code in it: the large model.\n");
    let _ = writeln!(
        text,
        "{}\n",
        post(
            r#"{"model":"auto","stream":true,"messages":[{"role":"user","content":"Why is this wrong? ```let x = 1; x = 2;```"}]}"#,
            "-N "
        )
    );
    if let Some(admin) = admin {
        let _ = writeln!(text, "What is going on: http://{admin}/metrics and http://{admin}/api/plugins");
    }
    let _ = writeln!(text, "The configuration: {}", file.display());
    match plugins.first() {
        Some(plugin) => {
            let source = build::main_source(plugin).unwrap_or_else(|| plugin.clone());
            let _ = write!(text, "Edit {}: what you save takes effect as soon as it is built.", source.display());
        }
        None => text.push_str("There are no plugins here: `pointsman dev DIR` takes those in DIR/plugins."),
    }
    text
}
