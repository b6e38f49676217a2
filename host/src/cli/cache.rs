//! `pointsman cache`: how far near hits can be trusted, with labelled questions and at a node that runs.
//!
//! What it does not do: the tier itself is `cache`'s; what is asked of a node goes through its admin API.

mod calibrate;
mod carry;
mod evaluate;
mod pairs;
mod questions;
mod report;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Subcommand;

use super::{failed, purge, warm};

#[derive(Subcommand)]
pub(super) enum CacheCommand {
    /// Find out from labelled pairs how far near hits can be trusted
    ///
    /// Sends the questions of the file through the semantic tier and counts, for each level of trust, how many of the best candidates were right
    /// and wrong. What it writes is for one model file, holds counts and no text, and serves every `wrong_hits`: name it in the
    /// configuration as `calibration` under `[cache.semantic]`.
    Calibrate(calibrate::Arguments),
    /// Measure the semantic tier on labelled pairs
    ///
    /// Sends the questions of one file, in an order that the seed gives, through the tier that serves: index, guards, verifier, cut, audits and
    /// bound. It is calibrated on another file, unless it is to start cold. Questions with a close neighbour of which nobody has
    /// said whether one answer serves both are left out of both.
    Evaluate(evaluate::Arguments),
    /// Show what a node's cache saves, and how far its near hits are trusted
    Report(report::Arguments),
    /// Mark a stored answer as wrong
    ///
    /// It is purged, and counts as an audited near hit that was wrong. The id is that of the header `x-pointsman-cache-entry`.
    Wrong(report::Wrong),
    /// Take entries out of a node's cache, and of all nodes' that share its Redis
    ///
    /// Where several things are said, entries are meant of which all are true. From then on nobody is served them: on this node at once, in
    /// whichever tier they are, on others within a second, and on those that are away when they are back.
    Purge(purge::Arguments),
    /// Ask a node what applications will ask it, so that the answers are there when they do
    ///
    /// Asks as a batch, a few requests at a time, and waits where the node has no room. What the cache has is not asked of a model again.
    Warm(warm::Arguments),
    /// Write the entries of a node's memory and disk into a file
    ///
    /// With their vectors, so that near hits find them where they are taken in. The file has answers and questions in the clear.
    Export(carry::Export),
    /// Take entries out of a file into a node
    ///
    /// They keep their age, and what was made before a purge of the node's that means it stays away. Entries are served to the same tenants for the same models, by
    /// their names, as on the node that they come from. An entry of more than 1 MiB is left out.
    Import(carry::Import),
}

pub(super) fn run(command: CacheCommand, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let said = match command {
        CacheCommand::Calibrate(arguments) => calibrate::calibrate(&arguments),
        CacheCommand::Evaluate(arguments) => evaluate::evaluate(&arguments),
        CacheCommand::Report(arguments) => report::report(&arguments),
        CacheCommand::Wrong(arguments) => report::wrong(&arguments),
        CacheCommand::Export(arguments) => carry::export(&arguments),
        CacheCommand::Import(arguments) => carry::import(&arguments),
        CacheCommand::Purge(arguments) => return purge::purge(&arguments, out, err),
        CacheCommand::Warm(arguments) => return warm::warm(&arguments, out, err),
    };
    match said {
        Ok(said) => match out.write_all(said.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Err(error) => failed(err, 1, &error),
        },
        Err(Failed { code, reason }) => failed(err, code, &reason),
    }
}

/// Why a command has nothing to say, and the exit code.
struct Failed {
    code: u8,
    reason: String,
}

impl Failed {
    /// The input was wrong.
    fn input(reason: impl Into<String>) -> Self {
        Self { code: super::WRONG_INPUT, reason: reason.into() }
    }

    /// Something else went wrong.
    fn system(reason: impl Into<String>) -> Self {
        Self { code: 1, reason: reason.into() }
    }
}
