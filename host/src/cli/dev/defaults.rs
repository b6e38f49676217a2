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

/// The component that a build of the folder leaves there, and its name. What else lies there, a bundle or what an earlier name has left,
/// is no build's.
fn component(folder: &Path) -> Option<(String, PathBuf)> {
    let file = build::component(folder).filter(|file| file.is_file())?;
    Some((file.file_stem()?.to_str()?.to_owned(), file))
}

/// Where it is to be reached, and what of it is to be said.
pub(super) struct Ready<'a> {
    pub(super) listen: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    /// The configuration.
    pub(super) file: &'a Path,
    /// What was named on the command line.
    pub(super) dir: &'a Path,
    pub(super) plugins: &'a [PathBuf],
}

impl Ready<'_> {
    fn post(&self, body: &str, more: &str) -> String {
        let listen = self.listen;
        format!("  curl -si http://{listen}/v1/chat/completions {more}-H 'content-type: application/json' -d '{body}'")
    }

    /// What to try, where everything is, and how it is changed.
    pub(super) fn greeting(&self) -> String {
        let listen = self.listen;
        let mut text = format!(
            "\npointsman is ready on http://{listen}/v1 (any OpenAI SDK: set its base URL to that; no key is needed)\n\n"
        );
        match self.plugins {
            [own] if own == self.dir => self.try_own(&mut text, own),
            _ => self.try_all(&mut text),
        }
        if let Some(admin) = self.admin {
            let _ = writeln!(text, "What is going on: http://{admin}/metrics and http://{admin}/api/plugins");
        }
        let _ = writeln!(text, "The configuration: {}", self.file.display());
        match self.plugins.first() {
            Some(plugin) => {
                let source = build::main_source(plugin).unwrap_or_else(|| plugin.clone());
                let _ = write!(text, "Edit {}: what you save takes effect as soon as it is built.", source.display());
            }
            None => text.push_str(
                "There are no plugins here: `pointsman plugin new DIR` starts one, `pointsman dev DIR` serves it; or those in DIR/plugins.",
            ),
        }
        text
    }

    /// Three requests, each of which shows something.
    fn try_all(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "1. A short question: the routing plugin takes the small model, and says so in the headers. Ask twice: the second comes from the cache.\n"
        );
        let _ = writeln!(
            text,
            "{}\n",
            self.post(r#"{"model":"auto","messages":[{"role":"user","content":"What is the capital of France?"}]}"#, "")
        );
        let _ = writeln!(text, "2. A versioned prompt: the prompting plugin gives each user one of two versions.\n");
        let _ = writeln!(
            text,
            "{}\n",
            self.post(
                r#"{"model":"auto","prompt":{"id":"support","variables":{"product":"Lamp"}},"messages":[{"role":"user","content":"It does not light up."}]}"#,
                "-H 'x-user-id: ada' "
            )
        );
        let _ = writeln!(text, "3. A stream, with code in it: the large model.\n");
        let _ = writeln!(
            text,
            "{}\n",
            self.post(
                r#"{"model":"auto","stream":true,"messages":[{"role":"user","content":"Why is this wrong? ```let x = 1; x = 2;```"}]}"#,
                "-N "
            )
        );
    }

    /// The author of one plugin wants to see what that one does.
    fn try_own(&self, text: &mut String, folder: &Path) {
        let Some((name, component)) = component(folder) else {
            return text.push_str(
                "Your plugin has no component yet: what keeps it from being built stands above. Mend it, and start again.\n\n",
            );
        };
        let hooks = inspect::inspect(&component).map(|found| found.hooks).unwrap_or_default();
        let has = |hook: &str| hooks.iter().any(|own| own == hook);
        let _ = writeln!(text, "1. Your plugin `{name}` ({}) is asked about this request:\n", hooks.join(", "));
        // What `plugin new` goes by, and no harm to any other.
        let mut headers = String::new();
        for (hook, header) in [("prompting", "x-audience: children"), ("caching", "x-user-id: ada")] {
            if has(hook) {
                let _ = write!(headers, "-H '{header}' ");
            }
        }
        let body = r#"{"model":"auto","messages":[{"role":"user","content":"What is the capital of France?"}]}"#;
        let _ = writeln!(text, "{}\n", self.post(body, &headers));
        text.push_str("   In the answer's headers x-pointsman-plugin has its name where it had an opinion");
        text.push_str(match (has("routing"), has("caching")) {
            (true, _) => ", x-pointsman-model and x-pointsman-reason what it decided.\n\n",
            (false, true) => ", x-pointsman-cache what came of it: ask twice.\n\n",
            (false, false) => ".\n\n",
        });
        let admin = self.admin.map(|admin| format!(" --admin {admin}")).unwrap_or_default();
        let dir = self.dir.display();
        let _ = writeln!(text, "2. Why it went so, how the plugin fares, and its cases, without a server:\n");
        let _ =
            writeln!(text, "  pointsman explain{admin}\n  pointsman plugin list {name}{admin}\n  pointsman plugin test {dir}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(dir: &Path, plugins: &[PathBuf]) -> String {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        Ready { listen: address, admin: Some(address), file: Path::new("dev.toml"), dir, plugins }.greeting()
    }

    #[test]
    fn what_is_said_goes_with_what_is_there() {
        let says = |text: &str, part: &str| assert!(text.contains(part), "{part:?} is not in:\n{text}");
        let none = greeting(Path::new("."), &[]);
        says(&none, "plugin new DIR");
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().to_owned();
        says(&greeting(&own, std::slice::from_ref(&own)), "has no component yet");
        std::fs::write(own.join("Cargo.toml"), "[package]\nname = \"by-length\"\n").unwrap();
        // `dev` served the first file of the folder for good, whatever was built.
        std::fs::write(own.join("a-bundle.wasm"), "not what was built").unwrap();
        says(&greeting(&own, std::slice::from_ref(&own)), "has no component yet");
        std::fs::write(own.join("by-length.wasm"), "no component, but it is there").unwrap();
        let one = greeting(&own, std::slice::from_ref(&own));
        says(&one, "Your plugin `by-length` (");
        says(&one, "pointsman explain --admin 127.0.0.1:8080\n  pointsman plugin list by-length --admin 127.0.0.1:8080\n");
        says(&one, &format!("pointsman plugin test {}\n", own.display()));
        assert!(!one.contains("versioned prompt"), "{one}");
        says(&greeting(Path::new("."), &[own]), "versioned prompt");
    }
}
