//! The gateways' configurations, written into a folder of the run's own.
//!
//! Each is what its users would write for one core on loopback: nginx keeps connections to its upstream and does not log each
//! request, pointsman has one thread and logs warnings.
//!
//! What it does not do: it tunes nothing beyond that, on either side.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::case::Plugin;

/// Where the components are.
#[derive(Clone, Debug)]
pub(super) struct Components {
    /// The folder `plugins/`, with a component in each plugin's own folder.
    pub(super) plugins: PathBuf,
    /// The folder `benches/guests/`, likewise.
    pub(super) guests: PathBuf,
}

/// nginx in one process, which is the one that is measured and ended.
pub(super) fn nginx(folder: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    upstream fixed {{
        server {upstream};
        keepalive 64;
        keepalive_requests 100000000;
    }}
    server {{
        listen {listen};
        location / {{
            proxy_pass http://fixed;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_read_timeout 180s;
        }}
    }}
}}
"
    )
}

/// pointsman on one core.
pub(super) fn pointsman(
    listen: SocketAddr,
    admin: SocketAddr,
    upstream: SocketAddr,
    plugins: &[Plugin],
    cache: bool,
    components: &Components,
) -> String {
    let mut text = format!(
        r#"[listen]
address = "{listen}"
threads = 1
max_connections_per_address = 4096
[admin]
address = "{admin}"
[log]
level = "warn"
[providers.fixed]
kind = "openai"
endpoints = ["http://{upstream}/v1"]
timeouts = {{ between_tokens = "3m" }}
[models.small]
provider = "fixed"
name = "small-1"
price = {{ input = 0.05, output = 0.10 }}
[models.large]
provider = "fixed"
name = "large-1"
price = {{ input = 2.0, output = 8.0 }}
[models.auto]
choose = ["small", "large"]
"#
    );
    if cache {
        text.push_str("[cache]\n");
    }
    if plugins.contains(&Plugin::Prompt) {
        let _ = writeln!(text, "[prompts]\npath = {:?}", components.plugins.join("prompt-ab/prompts"));
    }
    if plugins.contains(&Plugin::Route) {
        text.push_str(EXAMPLES);
    }
    for plugin in plugins {
        // A plugin that fails must fail the request, or its figure would be that of a gateway without it; and the deadline is
        // such that a core shared with somebody for a moment does not make it fail.
        let (name, component, hooks, grant, config) = plugin.entry(components);
        let _ = writeln!(
            text,
            "[plugins.{name}]\ncomponent = {component:?}\nhooks = {hooks:?}\ngrant = {grant:?}\non_failure = \"fail\"\ndeadline = \"1s\"\nconfig = {config}"
        );
    }
    text
}

const EXAMPLES: &str = r#"[examples.complexity]
simple = ["What is the capital of France?", "Translate hello into Spanish.", "What time is it in Tokyo?", "How do I pump up a tyre?", "Thank you!"]
complex = ["Prove that the algorithm terminates.", "Design a database that survives the loss of a region.", "List every risk in this contract.", "Debug this deadlock.", "Derive the gradient of the loss."]
"#;

type Entry = (&'static str, PathBuf, &'static [&'static str], &'static [&'static str], &'static str);

impl Plugin {
    /// Name, component, hooks, grants and its own table.
    fn entry(self, components: &Components) -> Entry {
        let of = |folder: &Path, name: &str| folder.join(name).join(format!("{name}.wasm"));
        let worked = |name| of(&components.plugins, name);
        match self {
            Self::Pass => ("pass", of(&components.guests, "pass"), &["routing"], &[], "{}"),
            Self::Route => (
                "route-by-complexity",
                worked("route-by-complexity"),
                &["routing"],
                &["config", "upstreams", "embeddings"],
                r#"{ small = "small", large = "large", limit = 400, examples = "complexity" }"#,
            ),
            Self::Prompt => (
                "prompt-ab",
                worked("prompt-ab"),
                &["prompting"],
                &["config", "random"],
                r#"{ prompt = "support", arms = { v1 = 50, v2 = 50 }, sticky = "x-user-id" }"#,
            ),
            Self::Cache => ("tenant-cache", worked("tenant-cache"), &["caching"], &["config", "metrics", "log"], "{}"),
            Self::Policy => (
                "policy",
                of(&components.guests, "policy"),
                &["routing", "prompting", "caching"],
                &["config", "random", "upstreams"],
                r#"{ small = "small", large = "large", limit = 400 }"#,
            ),
        }
    }
}
