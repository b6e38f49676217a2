//! `upstream`: the fixed upstream as a process of its own, so that it can have a core of its own.
//!
//! Prints its address when it listens, and ends when standard input does: it does not outlive whoever started it.

use std::io::Write;
use std::net::TcpListener;
use std::process::ExitCode;

use benches::{Result, upstream};
use clap::Parser;

/// Answers every request with the same chat completion, or with the stream that it wishes for.
#[derive(Parser)]
#[command(name = "upstream")]
struct Arguments {
    /// The port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "upstream: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", arguments.port))?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
    let serving = std::thread::Builder::new().spawn(move || upstream::serve(listener))?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    // Not joined: it serves until the process ends, which is now.
    drop(serving);
    Ok(())
}
