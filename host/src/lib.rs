//! pointsman: an edge inference router that its users program.
//!
//! A request meets the modules in the order of `gateway.rs`, which is the file to read first; `docs/ARCHITECTURE.md` says
//! where everything lives and which module may use which.

pub mod admin;
pub mod cache;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod embed;
pub mod error;
pub mod gateway;
pub mod identity;
pub mod limit;
pub mod listen;
pub mod numbers;
pub mod plugin;
pub mod printable;
pub mod process;
pub mod prompt;
pub mod record;
pub mod replay;
pub mod route;
pub mod upstream;
pub mod vector;
