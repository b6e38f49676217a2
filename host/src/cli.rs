//! The command line: what can be asked for, and with which exit code it ends.
//!
//! What it does not do: each command's work is in a file of its own under `cli/`, and what it works on in the rooms.
//!
//! **Invariant:** exit codes: 0 done, 1 failed, 2 the input was wrong (arguments, configuration, a component).

mod bundle;
mod cache;
pub mod check;
pub mod demo;
pub mod dev;
mod explain;
pub mod key;
mod log;
mod model;
mod node;
pub mod plugin;
mod purge;
mod release;
mod replay;
pub mod serve;
mod warm;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use bundle::BundleCommand;
use cache::CacheCommand;
use model::ModelCommand;
use release::ReleaseCommand;

/// Ended with an error that the input caused.
pub const WRONG_INPUT: u8 = 2;

#[derive(Parser)]
#[command(name = "pointsman", version, about = "An edge inference router that you program", long_about = LONG, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const LONG: &str = "\
pointsman stands between your applications and the models that they use. It speaks OpenAI's API, caches answers (the same \
question, and questions of the same meaning), sends each request to one of your pools or providers, and asks your plugins, \
small WebAssembly components, which model, which prompt version and which cache key each request gets.

Start with `pointsman dev`: it needs no key, no download and no configuration.";

#[derive(Subcommand)]
enum Command {
    /// Serve a configuration
    ///
    /// Watches the configuration, plugins, prompts and certificates: what changes takes effect without a restart, and what
    /// does not load leaves the version before it in place. SIGHUP reloads at once. SIGTERM and SIGINT drain: streams in
    /// flight may finish within `listen.drain`, then the process ends.
    Serve {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "pointsman.toml")]
        config: PathBuf,
    },
    /// Serve on embedded defaults, and rebuild plugins as you edit them
    ///
    /// Builds the plugins in the folder that it stands in (`plugins/*`, or the folder itself), starts a demo model that
    /// streams deterministic answers, adds providers that it finds (OPENAI_API_KEY, ANTHROPIC_API_KEY, an Ollama on port
    /// 11434, a vLLM on port 8000), prints three requests to try, and swaps a plugin in as soon as its source has changed.
    Dev {
        /// Address to listen on
        #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
        listen: std::net::SocketAddr,
        /// Address of /healthz, /readyz, /metrics and the admin API
        #[arg(short, long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
        admin: std::net::SocketAddr,
        /// The folder to stand in
        #[arg(value_name = "DIR", default_value = ".")]
        dir: PathBuf,
    },
    /// Check a configuration
    ///
    /// Loads what `serve` loads: plugins (compiled, and asked for their own check), prompts, the embedder, certificates, and the
    /// keys that `env:` and `file:` refer to, which must be there as they must be for `serve`. Prints every error with file, line,
    /// column, reason and remedy, and ends with exit code 2 if there is one. Listens nowhere, and connects
    /// nowhere but to registries for components that were not pulled yet.
    Check {
        /// The configuration file
        #[arg(value_name = "FILE", required_unless_present = "schema")]
        file: Option<PathBuf>,
        /// Print the JSON schema of the configuration instead, for editors
        #[arg(long)]
        schema: bool,
    },
    /// Start, build, test, inspect, sign and release plugins
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Calibrate and measure semantic hits; look after the cache of a node that runs
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Say why an exchange went as it went
    ///
    /// Asks the admin API of a host that runs: which plugins were called and what they decided, the plan, each attempt, and what the
    /// client got. Without an id: the last exchanges.
    Explain(explain::Arguments),
    /// Decide recorded exchanges again with another component
    ///
    /// Says what it would change: decisions by kind, models, estimated cost and latency, with examples. Nothing is sent anywhere. The
    /// same recording and component give the same report on every machine.
    Replay(replay::Arguments),
    /// Install and show embedding models
    #[command(subcommand)]
    Model(ModelCommand),
    /// Make keys for clients
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Subcommand)]
enum PluginCommand {
    /// Start a plugin in a new folder: source, tests, cases
    ///
    /// The folder's name is the plugin's. What is written builds, and passes `pointsman plugin test DIR`, at once. The SDK is written with
    /// it, as it belongs to this pointsman; within a clone of pointsman the clone's own is used.
    New {
        /// The folder, which must be empty or not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// The language
        #[arg(long, value_name = "LANG", default_value = "rust", value_parser = plugin::languages())]
        lang: String,
        /// What it is to decide
        #[arg(long, value_name = "HOOK", default_value = "routing", value_parser = plugin::hooks())]
        hook: String,
    },
    /// Bring the SDK in a plugin's folder up to this pointsman
    ///
    /// `pointsman plugin new` writes the SDK into the folder's `vendor/`. This puts the one that belongs to this pointsman there, and touches
    /// nothing else. A plugin within a clone of pointsman has none: it takes the clone's.
    Sdk {
        /// The plugin's folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Build a plugin's folder into a component
    ///
    /// A folder with a Cargo.toml needs Rust and its wasm32-unknown-unknown target, which is added if rustup is there. One with a
    /// package.json (JavaScript, TypeScript) needs node and npm, one with a pyproject.toml needs Python; what else they take is
    /// installed once into the user's cache folder. The component lands beside the manifest as NAME.wasm.
    Build {
        /// The plugin's folder
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Run a plugin's own cases: request in, decision expected
    ///
    /// A folder is built first. Cases are `cases/*.toml` and `cases/*.json` beside the source or the component; what may stand in them is in
    /// docs/plugin-cases.md. Each is one call of the component in the engine that serves, without a server. Exit code 0: all are as expected;
    /// 1: some are not, or the folder does not build; 2: a file of cases or the component is not what it should be, or there is none.
    Test {
        /// The plugin's folder, or a component
        #[arg(value_name = "DIR|COMPONENT")]
        what: PathBuf,
        /// A file of cases, instead of those in `cases/`; may be given several times
        #[arg(long, value_name = "FILE")]
        cases: Vec<PathBuf>,
    },
    /// Show what a component is: hooks, what it wants to be granted, contract version, size, digest
    Inspect {
        /// The component
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Bundle(BundleCommand),
    #[command(flatten)]
    Release(ReleaseCommand),
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key for a client
    ///
    /// Prints the key, once: it is stored nowhere. What goes into the configuration is its hash, in the entry that is
    /// printed with it.
    New {
        /// The entry's name under `[keys]`
        #[arg(value_name = "NAME")]
        name: String,
        /// Whose key it is; tenants never share a cache entry. Default: NAME
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
}

/// Runs the command that the arguments ask for.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are "errors" too, with exit code 0; clap knows which goes where.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(WRONG_INPUT));
        }
    };
    let mut out = std::io::stdout();
    let mut err = std::io::stderr();
    match arguments.command {
        Command::Serve { config } => serve::serve(&config, &mut err),
        Command::Dev { listen, admin, dir } => dev::dev(&dir, listen, admin, &mut out, &mut err),
        Command::Check { file, schema } => check::check(file.as_deref(), schema, &mut out, &mut err),
        Command::Plugin(PluginCommand::New { dir, lang, hook }) => plugin::new(&dir, &lang, &hook, &mut out, &mut err),
        Command::Plugin(PluginCommand::Sdk { dir }) => plugin::sdk(&dir, &mut out, &mut err),
        Command::Plugin(PluginCommand::Build { dir }) => plugin::build(&dir, &mut out, &mut err),
        Command::Plugin(PluginCommand::Test { what, cases }) => plugin::test(&what, &cases, &mut out, &mut err),
        Command::Plugin(PluginCommand::Inspect { file, json }) => plugin::inspect(&file, json, &mut out, &mut err),
        Command::Plugin(PluginCommand::Bundle(command)) => bundle::run(command, &mut out, &mut err),
        Command::Plugin(PluginCommand::Release(command)) => release::run(command, &mut out, &mut err),
        Command::Cache(command) => cache::run(command, &mut out, &mut err),
        Command::Model(command) => model::run(command, &mut out, &mut err),
        Command::Explain(arguments) => explain::explain(&arguments, &mut out, &mut err),
        Command::Replay(arguments) => replay::replay(arguments, &mut out, &mut err),
        Command::Key(KeyCommand::New { name, tenant }) => key::new(&name, tenant.as_deref(), &mut out, &mut err),
    }
}

/// Says why a command failed.
fn failed(err: &mut dyn Write, code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(err, "error: {error}");
    ExitCode::from(code)
}
