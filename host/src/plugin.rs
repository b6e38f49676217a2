//! Plugins: WebAssembly components that decide about each exchange, one fresh instance each if their owner does not want them reused.
//!
//! `load` makes a [`Plugin`] of a component's file, `registry` keeps the set in force, `release` brings versions in and takes them back, `hooks` calls it through `exports`, `imports` answers what
//! it asks, `kv` is what it keeps, `http` where it may send to, `limits` ends what it may not do, `tape` keeps what was
//! asked and answered. `bundle` signs components and checks who has, `oci` fetches them;
//! `build`, `cases`, `inspect` and `scaffold` serve the command line.
//!
//! What it does not do: it acts on no decision; `gateway` does.
//!
//! **Invariant:** a plugin sees its own exchange and nothing else, and gets no import that its owner has not granted.

pub mod bindings;
pub mod build;
pub mod bundle;
pub mod cases;
pub mod engine;
mod exports;
pub mod hooks;
pub mod http;
pub mod imports;
pub mod inspect;
pub mod kv;
mod last_words;
pub mod limits;
pub mod load;
pub mod numbers;
pub mod oci;
pub mod quarantine;
pub mod registry;
pub mod release;
mod reuse;
pub mod scaffold;
pub mod tape;

pub use load::Plugin;
pub use registry::PluginSet;
