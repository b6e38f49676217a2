//! `compare`: pointsman beside nginx, in one run. `benches/run` builds everything that it needs and calls it.

use std::io::Write;
use std::process::ExitCode;

use benches::compare::Compare;
use clap::Parser;

fn main() -> ExitCode {
    match Compare::parse().run(&mut std::io::stdout(), &mut std::io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "compare: {error}");
            ExitCode::FAILURE
        }
    }
}
