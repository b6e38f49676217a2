//! `load`: the load driver. `load --help` says what it can do, `benches/README.md` how to read what it prints.

use std::io::Write;
use std::process::ExitCode;

use benches::command::Load;
use clap::Parser;

fn main() -> ExitCode {
    match Load::parse().run(&mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "load: {error}");
            ExitCode::FAILURE
        }
    }
}
