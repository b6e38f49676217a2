//! A host under test: a configuration that is put together step by step, in a folder of its own, and the process that serves it,
//! here in the test's own process or as the real binary.
//!
//! Every host is given the models `small` and `large` of the provider `fake`, `auto` (a choice of the two) and `vectors` (an
//! embedding model there).
//!
//! **Invariant:** the host reads its configuration from a file, as it does in the field; nothing is set behind its back.

mod folder;
mod plugin;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use pointsman::config;
use pointsman::identity::Keys;
use pointsman::process::{Process, StartError};
use secrecy::ExposeSecret;

use crate::FakeUpstream;
use crate::binary::Binary;
use crate::door::Door;
pub use folder::Folder;
pub use plugin::Plugin;

/// A host that is not started yet.
#[derive(Debug)]
pub struct Host {
    folder: Folder,
    top: String,
    listen: String,
    admin: String,
    log: String,
    endpoints: Vec<String>,
    provider: String,
    sections: String,
    keys: BTreeMap<String, String>,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A host without plugins, cache, prompts or keys.
    pub fn new() -> Self {
        Self {
            folder: Folder::new(),
            top: String::new(),
            listen: String::new(),
            admin: String::new(),
            log: "format = \"json\"\nlevel = \"info\"\n".to_owned(),
            endpoints: Vec::new(),
            provider: String::new(),
            sections: String::new(),
            keys: BTreeMap::new(),
        }
    }

    /// Sends to this upstream; with several, to the least loaded.
    #[must_use]
    pub fn upstream(self, fake: &FakeUpstream) -> Self {
        let url = fake.url();
        self.endpoint(url)
    }

    /// Sends to this address.
    #[must_use]
    pub fn endpoint(mut self, url: String) -> Self {
        self.endpoints.push(format!("{url:?}"));
        self
    }

    /// With a line before all sections.
    #[must_use]
    pub fn top(mut self, line: &str) -> Self {
        self.top.push_str(line);
        self.top.push('\n');
        self
    }

    /// With a line in `[listen]`.
    #[must_use]
    pub fn listen(mut self, line: &str) -> Self {
        self.listen.push_str(line);
        self.listen.push('\n');
        self
    }

    /// With a line in `[admin]`.
    #[must_use]
    pub fn admin(mut self, line: &str) -> Self {
        self.admin.push_str(line);
        self.admin.push('\n');
        self
    }

    /// Logs at this level.
    #[must_use]
    pub fn log(mut self, level: &str) -> Self {
        self.log = format!("format = \"json\"\nlevel = {level:?}\n");
        self
    }

    /// With a line in the upstream's section.
    #[must_use]
    pub fn provider(mut self, line: &str) -> Self {
        self.provider.push_str(line);
        self.provider.push('\n');
        self
    }

    /// With a section, or several.
    #[must_use]
    pub fn section(mut self, text: &str) -> Self {
        self.sections.push_str(text);
        self.sections.push('\n');
        self
    }

    /// With the host's own embedding model, as `built-in`.
    #[must_use]
    pub fn built_in(self) -> Self {
        self.section("[models.built-in]\nprovider = \"built-in\"")
    }

    /// With the exact cache.
    #[must_use]
    pub fn cache(self) -> Self {
        self.section("[cache]")
    }

    /// With the exact and the semantic cache.
    #[must_use]
    pub fn semantic(self) -> Self {
        self.section("[cache]\n[cache.semantic]")
    }

    /// With a plugin, asked after those before it.
    #[must_use]
    pub fn plugin(self, plugin: Plugin) -> Self {
        let Plugin { name, component, hooks, settings } = plugin;
        self.folder.write(&format!("{name}.wasm"), &component);
        self.section(&format!("[plugins.{name}]\ncomponent = \"{name}.wasm\"\nhooks = [{hooks}]\n{settings}"))
    }

    /// With a version of a prompt.
    #[must_use]
    pub fn prompt(self, name: &str, version: &str, text: &str) -> Self {
        self.folder.write(&format!("prompts/{name}/{version}.j2"), text.as_bytes());
        if self.sections.contains("[prompts]") { self } else { self.section("[prompts]\npath = \"prompts\"") }
    }

    /// With a file in the folder of the configuration.
    #[must_use]
    pub fn file(self, name: &str, bytes: &[u8]) -> Self {
        self.folder.write(name, bytes);
        self
    }

    /// Where a file of that folder is.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path(name)
    }

    /// With a key of a tenant.
    #[must_use]
    pub fn key(self, name: &str, tenant: &str) -> Self {
        self.limited_key(name, tenant, "")
    }

    /// With a key of a tenant, and a line more in its section.
    #[must_use]
    pub fn limited_key(mut self, name: &str, tenant: &str, line: &str) -> Self {
        let made = Keys::generate(name, tenant).expect("the system has random numbers");
        self.keys.insert(name.to_owned(), made.key.expose_secret().to_owned());
        self.section(&format!("{}{line}", made.entry))
    }

    /// The folder that it will be started from.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The configuration, as it will be written.
    fn text(&self) -> String {
        let Self { top, listen, admin, log, endpoints, provider, sections, .. } = self;
        let admin_address = if admin.contains("address") { "" } else { "address = \"127.0.0.1:0\"" };
        // At the beginning of a line: `max_connections_per_address` ends like it.
        let address = if listen.lines().any(|line| line.starts_with("address =")) { "" } else { "address = \"127.0.0.1:0\"" };
        let drain = if listen.contains("drain =") { "" } else { "drain = \"1s\"" };
        let threads = if listen.contains("threads =") { "" } else { "threads = 2" };
        // Beside the configuration, so that it goes with the folder.
        let state = if top.contains("state =") { "" } else { "state = \"state\"" };
        let mut text = format!(
            "{top}
{state}
[listen]
{address}
{drain}
{threads}
{listen}
[admin]
{admin_address}
{admin}
[log]
{log}
"
        );
        if !endpoints.is_empty() {
            text.push_str(&format!(
                "[providers.fake]\nkind = \"openai\"\nendpoints = [{}]\n{provider}\n{MODELS}\n",
                endpoints.join(", ")
            ));
        }
        text + sections
    }

    /// Starts it in this process.
    pub fn start(self) -> Running {
        self.try_start().unwrap_or_else(|error| panic!("the host does not start: {error}"))
    }

    /// Starts it in this process, if it can be started.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn try_start(self) -> Result<Running, StartError> {
        let text = self.text();
        self.folder.write(Folder::CONFIG, text.as_bytes());
        let load = || config::load(&self.folder.config()).unwrap_or_else(|report| panic!("{report}\n{text}"));
        // A port that the system has chosen may be somebody else's before all cores listen there.
        let is_taken =
            |error: &StartError| matches!(error, StartError::System { error, .. } if error.kind() == ErrorKind::AddrInUse);
        let mut started = Process::start(load());
        for _ in 0..5 {
            if started.as_ref().err().is_some_and(is_taken) {
                started = Process::start(load());
            }
        }
        let process = started?;
        let admin = process.admin().expect("[admin] is configured");
        let door = Door { address: process.address(), admin, keys: self.keys };
        Ok(Running { process, folder: self.folder, door })
    }

    /// Starts the real binary.
    pub fn spawn(self) -> Binary {
        self.spawn_with(&[])
    }

    /// Starts the real binary, with these variables in its environment.
    pub fn spawn_with(self, environment: &[(&str, &str)]) -> Binary {
        self.launch(environment, "", (Stdio::null(), Stdio::null()))
    }

    /// Starts the real binary after a line of the shell, such as `ulimit -n 100`.
    pub fn spawn_after(self, line: &str) -> Binary {
        self.launch(&[], line, (Stdio::null(), Stdio::null()))
    }

    /// Starts the real binary with one socket or two that were opened for it, as systemd passes them: with these names.
    pub fn spawn_activated(self, names: &str, sockets: Vec<TcpListener>) -> Binary {
        let count = sockets.len().to_string();
        let mut sockets = sockets.into_iter().map(|socket| Stdio::from(OwnedFd::from(socket)));
        let (first, second) = (sockets.next(), sockets.next());
        assert!(sockets.next().is_none(), "a shell is given two");
        // The shell, which becomes the binary, puts them where systemd does.
        self.launch(
            &[("LISTEN_FDS", &count), ("LISTEN_FDNAMES", names)],
            "export LISTEN_PID=$$; exec 3<&0 4<&1 </dev/null >/dev/null",
            (first.unwrap_or_else(Stdio::null), second.unwrap_or_else(Stdio::null)),
        )
    }

    fn launch(self, environment: &[(&str, &str)], before: &str, files: (Stdio, Stdio)) -> Binary {
        self.folder.write(Folder::CONFIG, self.text().as_bytes());
        Binary::serve(self.folder, self.keys, environment, before, files)
    }
}

/// What a client may ask for.
const MODELS: &str = r#"
[models.small]
provider = "fake"
name = "tiny-1"
price = { input = 0.05, output = 0.10 }
[models.large]
provider = "fake"
name = "giant-1"
price = { input = 2.0, output = 8.0 }
[models.auto]
choose = ["small", "large"]
[models.vectors]
provider = "fake"
name = "vectors-1"
kind = "embedding"
"#;

/// A host that serves in this process. Dropping it drains it.
pub struct Running {
    /// The process.
    pub process: Process,
    /// What it was started from.
    pub folder: Folder,
    door: Door,
}

impl Deref for Running {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}
