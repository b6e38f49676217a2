//! `pointsman plugin list`, `shadow`, `canary`, `promote`, `rollback`: versions on a node that runs.
//!
//! What it does not do: it decides nothing; the node does, and says why not.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::node::Node;
use super::{WRONG_INPUT, failed};
use crate::plugin::release::now;
use crate::printable::printable;

#[derive(Subcommand)]
pub(super) enum ReleaseCommand {
    /// Show the versions of a node's plugins, what each does, and how it fares
    ///
    /// With a NAME: one plugin, with the versions that have ended and why, and what a shadow decides otherwise.
    List {
        /// The plugin's name
        #[arg(value_name = "NAME")]
        name: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        node: Node,
    },
    /// Let a version decide beside the one that serves, without consequences
    ///
    /// It sees the same requests; what it would have done otherwise is counted by kind, with examples: `pointsman plugin list NAME`. Clients
    /// see no difference.
    Shadow {
        /// The plugin's name
        #[arg(value_name = "NAME")]
        name: String,
        /// Which version: a digest's first digits, or a component's file as the node finds it. Default: the one on trial
        #[arg(value_name = "VERSION")]
        which: Option<String>,
        #[command(flatten)]
        node: Node,
    },
    /// Give a version a share of the traffic
    ///
    /// The same sessions (or keys, or tenants, as `release.sticky` says) get it each time. Where it fails, the version that serves decides, so
    /// that no client sees it. Beyond the limits of `[plugins.NAME.release]` it is taken back by itself.
    Canary {
        /// The plugin's name
        #[arg(value_name = "NAME")]
        name: String,
        /// Which version: a digest's first digits, or a component's file as the node finds it. Default: the one on trial
        #[arg(value_name = "VERSION")]
        which: Option<String>,
        /// The share, such as 5% or 0.05. Default: `release.share`
        #[arg(long, value_name = "SHARE", value_parser = share)]
        share: Option<f64>,
        #[command(flatten)]
        node: Node,
    },
    /// Let a version take over
    ///
    /// For as long as `release.probation` says it is judged by how the version before it did, and taken back beyond the limits.
    Promote {
        /// The plugin's name
        #[arg(value_name = "NAME")]
        name: String,
        /// Which version: a digest's first digits, or a component's file as the node finds it. Default: the one on trial
        #[arg(value_name = "VERSION")]
        which: Option<String>,
        #[command(flatten)]
        node: Node,
    },
    /// Take back the version on trial, or else the one that serves
    Rollback {
        /// The plugin's name
        #[arg(value_name = "NAME")]
        name: String,
        /// Why; it is kept with the version
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        node: Node,
    },
}

/// `5%` or `0.05`.
fn share(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let share = match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => number(text),
    };
    share
        .filter(|share| *share > 0.0 && *share <= 1.0)
        .ok_or_else(|| "a share is above 0 and at most 1: write 5% or 0.05".to_owned())
}

pub(super) fn run(command: ReleaseCommand, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let asked = match &command {
        ReleaseCommand::List { name, json: as_json, node } => list(node, name.as_deref(), *as_json, out),
        ReleaseCommand::Shadow { name, which, node } => step(node, name, "shadow", json!({ "version": meant(which) }), out, err),
        ReleaseCommand::Canary { name, which, share, node } => {
            step(node, name, "canary", json!({ "version": meant(which), "share": share }), out, err)
        }
        ReleaseCommand::Promote { name, which, node } => {
            step(node, name, "promote", json!({ "version": meant(which) }), out, err)
        }
        ReleaseCommand::Rollback { name, reason, node } => step(node, name, "rollback", json!({ "reason": reason }), out, err),
    };
    match asked {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => failed(err, 1, &error),
        Err(reason) => failed(err, WRONG_INPUT, &reason),
    }
}

/// What is said to the user may not be written.
type Done = Result<io::Result<()>, String>;

/// A file is named to the node by its whole path: the node stands in another folder.
fn meant(version: &Option<String>) -> Option<String> {
    let version = version.as_ref()?;
    let whole = Path::new(version).canonicalize().ok().filter(|path| path.is_file());
    Some(whole.map_or_else(|| version.clone(), |path| path.display().to_string()))
}

fn path_of(name: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    // Names have no others; what is no name is no path of ours either.
    let name: String =
        name.bytes().map(|byte| if safe(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect();
    format!("/api/plugins/{name}")
}

fn list(node: &Node, name: Option<&str>, as_json: bool, out: &mut dyn Write) -> Done {
    let said = node.ask(Method::GET, &name.map_or_else(|| "/api/plugins".to_owned(), path_of), None)?;
    if as_json {
        return Ok(serde_json::to_writer_pretty(&mut *out, &said).map_err(io::Error::from).and_then(|()| writeln!(out)));
    }
    Ok(match name {
        Some(_) => show(&said, true, out),
        None => all(&said, out),
    })
}

fn step(node: &Node, name: &str, step: &str, body: Value, out: &mut dyn Write, err: &mut dyn Write) -> Done {
    let said = node.ask(Method::POST, &format!("{}/{step}", path_of(name)), Some(&body))?;
    if let Some(note) = said["note"].as_str() {
        let _ = writeln!(err, "note: {}", printable(note));
    }
    if said["kept"] == false {
        let _ =
            writeln!(err, "note: the node keeps no state, so this ends with its process; write `state` into its configuration");
    }
    Ok(show(&said, false, out))
}

fn all(said: &Value, out: &mut dyn Write) -> io::Result<()> {
    let none = Vec::new();
    let plugins = said["plugins"].as_array().unwrap_or(&none);
    if plugins.is_empty() {
        writeln!(out, "no plugins")?;
    }
    for plugin in plugins {
        show(plugin, false, out)?;
    }
    problems(said, out)
}

fn problems(said: &Value, out: &mut dyn Write) -> io::Result<()> {
    for problem in said["problems"].as_array().into_iter().flatten() {
        writeln!(out, "problem: {}: {} {}", text(&problem["plugin"]), text(&problem["file"]), text(&problem["reason"]))?;
    }
    Ok(())
}

/// Reasons are other people's, and decisions a plugin's.
fn text(value: &Value) -> Cow<'_, str> {
    printable(value.as_str().unwrap_or_default())
}

fn show(plugin: &Value, whole: bool, out: &mut dyn Write) -> io::Result<()> {
    let none = Vec::new();
    let hooks: Vec<Cow<'_, str>> = plugin["hooks"].as_array().unwrap_or(&none).iter().map(text).collect();
    writeln!(out, "{} ({})", text(&plugin["name"]), hooks.join(", "))?;
    for version in plugin["versions"].as_array().unwrap_or(&none) {
        let digest = text(&version["digest"]);
        let state = match version["share"].as_f64() {
            Some(share) => format!("{} {}%", text(&version["state"]), (share * 10_000.0).round() / 100.0),
            None => text(&version["state"]).into_owned(),
        };
        let since = version["since"].as_u64().map_or_else(String::new, |since| ago(now().saturating_sub(since)));
        write!(out, "  {state:<12} {:.19} {since:>9}", digest)?;
        match version["reason"].as_str() {
            Some(reason) => {
                let again =
                    version["released_again"].as_u64().map(|at| format!("; released again {}", ago(now().saturating_sub(at))));
                writeln!(out, "  {}{}", printable(reason), again.unwrap_or_default())?;
            }
            None => figures(version, out)?,
        }
        trouble(version, whole, out)?;
        if let Some(until) = version["judged_until"].as_u64() {
            writeln!(out, "               judged for another {}", length(until.saturating_sub(now())))?;
        }
        if version["shadow"].is_object() {
            differences(&version["shadow"], whole, out)?;
        }
    }
    // In a list of all of them they stand at its end.
    problems(plugin, out)
}

/// Where a version is left alone, and what it failed of last.
fn trouble(version: &Value, whole: bool, out: &mut dyn Write) -> io::Result<()> {
    let hooks: Vec<Cow<'_, str>> = version["quarantined"].as_array().into_iter().flatten().map(text).collect();
    if !hooks.is_empty() {
        writeln!(out, "               left alone at {}, because it keeps failing there", hooks.join(", "))?;
    }
    let last = &version["last_failure"];
    let Some(at) = last["at"].as_u64().filter(|_| whole || !hooks.is_empty()) else { return Ok(()) };
    let (hook, cause, reason) = (text(&last["hook"]), text(&last["cause"]), text(&last["reason"]));
    writeln!(out, "               failed last at {hook}, {}: {cause}: {reason}", ago(now().saturating_sub(at)))
}

fn figures(version: &Value, out: &mut dyn Write) -> io::Result<()> {
    let failures: u64 = version["failures"].as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum();
    let count = |name: &str| version[name].as_u64().unwrap_or(0);
    write!(out, "  {} calls, {failures} failed", count("calls"))?;
    for (hook, times) in version["times"].as_object().into_iter().flatten() {
        if let (Some(p50), Some(p99)) = (times["p50_us"].as_u64(), times["p99_us"].as_u64()) {
            write!(out, ", {hook} p50 {p50} µs p99 {p99} µs")?;
        }
    }
    write!(out, "; {} exchanges, {} errors", count("exchanges"), count("errors"))?;
    if let Some(cost) = version["mean_cost_micro_usd"].as_f64().filter(|cost| *cost > 0.0) {
        write!(out, ", {cost:.0} micro-dollars each")?;
    }
    writeln!(out)
}

fn differences(shadow: &Value, whole: bool, out: &mut dyn Write) -> io::Result<()> {
    let count = |name: &str| shadow[name].as_u64().unwrap_or(0);
    writeln!(out, "               {} compared, {} differ, {} missed", count("compared"), count("differed"), count("missed"))?;
    for (name, kind) in shadow["differences"].as_object().into_iter().flatten() {
        let times = kind.as_u64().or_else(|| kind["count"].as_u64()).unwrap_or(0);
        writeln!(out, "               {times:>7} {name}")?;
        for example in kind["examples"].as_array().into_iter().flatten().filter(|_| whole) {
            writeln!(out, "                       {}", text(&example["exchange"]))?;
            writeln!(out, "                         served  {}", text(&example["served"]))?;
            writeln!(out, "                         shadow  {}", text(&example["shadow"]))?;
        }
    }
    Ok(())
}

fn ago(ms: u64) -> String {
    format!("{} ago", length(ms))
}

fn length(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (text, expect) in
            [("5%", Some(0.05)), ("0.05", Some(0.05)), ("100%", Some(1.0)), ("0", None), ("101%", None), ("a", None)]
        {
            assert_eq!(share(text).ok(), expect, "{text}");
        }
    }

    #[test]
    fn names_stay_in_their_path() {
        assert_eq!(path_of("by-length_2.0"), "/api/plugins/by-length_2.0");
        assert_eq!(path_of("../x?y"), "/api/plugins/..%2Fx%3Fy");
    }

    #[test]
    fn a_plugin_in_words() {
        let plugin = json!({
            "name": "router", "hooks": ["routing"],
            "versions": [
                { "state": "serving", "digest": "sha256:0123456789abcdef", "since": now() - 61_000, "calls": 3, "failures": { "trap": 1 },
                  "times": { "routing": { "p50_us": 20, "p99_us": 50 } }, "exchanges": 3, "errors": 0, "mean_cost_micro_usd": 12.4 },
                { "state": "canary", "share": 0.05, "digest": "sha256:fedcba9876543210", "since": now(), "calls": 0, "quarantined": ["routing"],
                  "last_failure": { "at": now() - 5_000, "hook": "routing", "cause": "trap", "reason": "a\u{1b}b" } },
                { "state": "rolled-back", "digest": "sha256:00112233445566", "since": 0, "reason": "traps: 3 of 100", "released_again": now() },
            ],
            "problems": [{ "plugin": "router", "file": "r.wasm", "reason": "is no file" }],
        });
        let mut out = Vec::new();
        show(&plugin, false, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("router (routing)\n  serving      sha256:0123456789ab    1m ago  3 calls, 1 failed, routing p50 20 µs p99 50 µs; 3 exchanges, 0 errors, 12 micro-dollars each\n"), "{out}");
        assert!(out.contains("  canary 5%    sha256:fedcba987654    0s ago  0 calls, 0 failed; 0 exchanges"), "{out}");
        assert!(out.contains("d ago  traps: 3 of 100; released again 0s ago\n"), "{out}");
        assert!(out.contains("left alone at routing, because it keeps failing there\n"), "{out}");
        assert!(out.contains("failed last at routing, 5s ago: trap: a\\u{1b}b\n"), "{out}");
        assert!(out.ends_with("problem: router: r.wasm is no file\n"), "{out}");
    }
}
