//! `pointsman cache …`: the cache of a node that runs.
//!
//! What it does not do: each command's work is in a file of its own.

use std::io::Write;
use std::process::ExitCode;

use clap::Subcommand;

use super::{purge, warm};

#[derive(Subcommand)]
pub(super) enum CacheCommand {
    /// Take entries out of a node's cache, and of all nodes' that share its Redis
    ///
    /// Where several things are said, entries are meant of which all are true. From then on nobody is served them: on this node at once, in
    /// whichever tier they are, on others within a second, and on those that are away when they are back.
    Purge(purge::Arguments),
    /// Ask a node what applications will ask it, so that the answers are there when they do
    ///
    /// Asks as a batch, a few requests at a time, and waits where the node has no room. What the cache has is not asked of a model again.
    Warm(warm::Arguments),
}

pub(super) fn run(command: CacheCommand, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    match command {
        CacheCommand::Purge(arguments) => purge::purge(&arguments, out, err),
        CacheCommand::Warm(arguments) => warm::warm(&arguments, out, err),
    }
}
