//! `pointsman cache purge`: takes entries out of the cache of a node that runs, and of all that it shares a Redis with.
//!
//! What it does not do: it decides nothing; the node does, and says why not.

use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::{Map, Value};

use super::node::Node;
use super::{WRONG_INPUT, failed};

#[derive(Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(super) struct Arguments {
    /// All entries
    #[arg(long, group = "what", conflicts_with_all = ["key", "tag", "partition", "tenant", "model", "prompt"])]
    all: bool,
    /// The entry under this key, as `pointsman explain ID` shows it
    #[arg(long, value_name = "KEY", group = "what")]
    key: Option<String>,
    /// Entries with this tag, which requests name in the header `x-pointsman-cache-tags`
    #[arg(long, value_name = "TAG", group = "what")]
    tag: Option<String>,
    /// Entries of this partition, as `pointsman explain ID` shows it
    #[arg(long, value_name = "PARTITION", group = "what")]
    partition: Option<String>,
    /// Entries of this tenant
    #[arg(long, value_name = "TENANT", group = "what")]
    tenant: Option<String>,
    /// Answers of this model, by its name in the configuration
    #[arg(long, value_name = "MODEL", group = "what")]
    model: Option<String>,
    /// Answers to this prompt, or to this version of it
    #[arg(long, value_name = "NAME[@VERSION]", group = "what")]
    prompt: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    node: Node,
}

pub(super) fn purge(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let Arguments { all: _, key, tag, partition, tenant, model, prompt, json, node } = arguments;
    let said = [("key", key), ("tag", tag), ("partition", partition), ("tenant", tenant), ("model", model), ("prompt", prompt)];
    let selector: Map<_, _> =
        said.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value.as_deref()?)))).collect();
    let answer = match node.ask(Method::POST, "/api/cache/purge", Some(&Value::Object(selector))) {
        Ok(answer) => answer,
        Err(reason) => return failed(err, WRONG_INPUT, &reason),
    };
    let written = if *json {
        writeln!(out, "{answer}")
    } else {
        let others = match answer["told"].as_bool() {
            None => "",
            Some(true) => "; other nodes are told",
            Some(false) => "; Redis is away, other nodes are told when it is back",
        };
        writeln!(out, "purged; it took {} entries out of this node's memory{others}", answer["entries"])
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(err, 1, &error),
    }
}
