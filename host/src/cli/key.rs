//! `pointsman key new NAME`: makes an API key and prints it once, with the entry for the configuration file.
//!
//! Writes to no file: the entry is the user's to place.
//!
//! **Invariant:** the key goes to `out` and nowhere else.

use std::io::{self, Write};
use std::process::ExitCode;

use secrecy::ExposeSecret;

use super::{WRONG_INPUT, failed};
use crate::identity::Keys;

/// Makes a key for `[keys.NAME]`, for `tenant` or for one of the same name. The key alone goes to `out`, so that it can be
/// piped into a secret store; the entry and all else go to `err`. Exit code 2 for a name that cannot be one.
pub fn new(name: &str, tenant: Option<&str>, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let tenant = tenant.unwrap_or(name);
    for (what, text) in [("NAME", name), ("TENANT", tenant)] {
        if text.trim().is_empty() || text.trim() != text || text.len() > 200 || text.chars().any(char::is_control) {
            let reason = format!("{what} has 1 to 200 bytes, no control characters, and no space at its ends; choose another");
            return failed(err, WRONG_INPUT, &reason);
        }
    }
    match make(name, tenant, out, err) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(err, 1, &error),
    }
}

fn make(name: &str, tenant: &str, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    let made = Keys::generate(name, tenant).map_err(io::Error::other)?;
    writeln!(out, "{}", made.key.expose_secret())?;
    out.flush()?;
    // Comments: who appends it all to the configuration file has a file that is read.
    writeln!(err, "\n# This key is shown once and stored nowhere. Put this entry into the configuration file:\n")?;
    write!(err, "{}", made.entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, tenant: Option<&str>) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        new(name, tenant, &mut out, &mut err);
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn the_key_and_the_entry_go_apart() {
        let (out, err) = run("app", Some("team-a"));
        assert!(out.starts_with("pm-") && out.ends_with('\n') && out.trim().len() == 50, "{out}");
        assert!(err.contains("[keys.app]\nhash = \"blake3:") && err.contains("tenant = \"team-a\"\n"), "{err}");
        assert!(!err.contains(out.trim()));
        err.parse::<toml::Table>().unwrap();
    }

    #[test]
    fn a_bad_name_makes_no_key() {
        for (name, tenant) in [("", None), (" app", None), ("a\nb", None), ("app", Some(""))] {
            let (out, err) = run(name, tenant);
            assert!(out.is_empty() && err.starts_with("error: "), "{name:?} {err}");
        }
    }
}
