//! `trial`: what pointsman's ways with slow and overloaded upstreams come to. `trial --help` lists them.

use std::io::Write;
use std::process::ExitCode;

use benches::trial::Trial;
use clap::Parser;

fn main() -> ExitCode {
    match Trial::parse().run(&mut std::io::stdout(), &mut std::io::stderr()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "trial: {error}");
            ExitCode::FAILURE
        }
    }
}
