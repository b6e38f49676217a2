//! `pointsman explain ID`: why did this exchange go as it went? Asks the admin API of a host that runs.
//!
//! What it does not do: it knows nothing that `GET /api/exchanges` does not say.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use http::Method;
use serde_json::Value;

use super::node::Node;
use super::{WRONG_INPUT, failed};
use crate::printable::printable;

/// What the command line says.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The exchange's id, as in `x-request-id`. Without one: the last exchanges
    #[arg(value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    node: Node,
    /// As JSON, as the admin API says it
    #[arg(long)]
    json: bool,
}

/// Exit code 0; 1 where the host does not answer, or knows no such exchange.
pub(super) fn explain(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let path = match &arguments.id {
        // What an id is not is no part of a path.
        Some(id) if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
            return failed(err, WRONG_INPUT, &"an id has letters, digits and hyphens, as in the header x-request-id");
        }
        Some(id) => format!("/api/exchanges/{id}"),
        None => "/api/exchanges".to_owned(),
    };
    let said = match arguments.node.ask(Method::GET, &path, None) {
        Ok(said) => said,
        Err(reason) => return failed(err, 1, &reason),
    };
    let text = match (arguments.json, &arguments.id) {
        (true, _) => format!("{said:#}\n"),
        (false, Some(_)) => story(&said),
        (false, None) => list(&said),
    };
    match out.write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => failed(err, 1, &error),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    match value.get(name)? {
        Value::Null => None,
        // A client's words and a plugin's are not to do anything to a terminal.
        Value::String(text) => Some(printable(text)),
        other => Some(other.to_string().into()),
    }
}

fn or_none(value: &Value, name: &str) -> String {
    text(value, name).map_or_else(|| "-".to_owned(), std::borrow::Cow::into_owned)
}

/// Microseconds as milliseconds.
fn ms(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_u64().map(|us| format!("{:.1} ms", us as f64 / 1e3))
}

fn list(said: &Value) -> String {
    let mut page = String::new();
    for story in said["exchanges"].as_array().into_iter().flatten() {
        let [id, tenant, asked, model, status, cache] =
            ["id", "tenant", "asked", "model", "status", "cache"].map(|name| or_none(story, name));
        let took = ms(story, "total_us").unwrap_or_default();
        let reason = text(story, "reason").or_else(|| text(story, "error")).unwrap_or_default();
        let _ = writeln!(page, "{id}  {status}  {took:>10}  {tenant}  {asked} → {model}  cache {cache}  {reason}");
    }
    page
}

/// One exchange, in the order in which it went.
fn story(said: &Value) -> String {
    let mut page = String::new();
    let mut line = |what: &str, text: String| {
        let _ = writeln!(page, "{what:<9} {}", text.trim_end());
    };
    line("exchange", or_none(said, "id"));
    let key = text(said, "key").map(|key| format!(", key {key}")).unwrap_or_default();
    let instead = text(said, "substitute_for").map(|other| format!(" in the place of {other}, which is off")).unwrap_or_default();
    line("asked", format!("{} by tenant {}{key}{instead}", or_none(said, "asked"), or_none(said, "tenant")));
    if let Some(question) = text(said, "question") {
        line("question", question.into_owned());
    }
    if let Some(prompt) = text(said, "prompt") {
        line("prompt", prompt.into_owned());
    }
    for call in said["plugins"].as_array().into_iter().flatten() {
        let took = call["took_us"].as_u64().unwrap_or_default();
        let what = match (text(call, "decision"), text(call, "failed")) {
            (_, Some(failed)) => format!("failed: {failed}"),
            (Some(decision), None) => decision.into_owned(),
            (None, None) => "no".to_owned(),
        };
        let unfit = text(call, "unfit").map(|unfit| format!(" (did not fit: {unfit})")).unwrap_or_default();
        line("plugin", format!("{} {} in {took} µs: {what}{unfit}", or_none(call, "plugin"), or_none(call, "function")));
        if let Some(labels) = text(call, "labels") {
            line("", format!("labels {labels}"));
        }
    }
    let cache = &said["cache"];
    let key = text(cache, "key").map(|key| format!(", key {key}")).unwrap_or_default();
    let score = text(cache, "score").map(|score| format!(", score {score}")).unwrap_or_default();
    let tier = text(cache, "tier").map(|tier| format!(" in {tier}")).unwrap_or_default();
    let partition = text(cache, "partition").map(|partition| format!(", partition {partition}")).unwrap_or_default();
    line("cache", format!("{}{tier}{key}{partition}{score}", or_none(cache, "outcome")));
    if let Some(plan) = said["plan"].as_array() {
        let names: Vec<&str> = plan.iter().filter_map(Value::as_str).collect();
        let reason =
            text(said, "reason").filter(|reason| !reason.is_empty()).map(|reason| format!(": {reason}")).unwrap_or_default();
        line("plan", format!("{}{reason}", names.join(", then ")));
    }
    for attempt in said["attempts"].as_array().into_iter().flatten() {
        let endpoint = text(attempt, "endpoint").map(|endpoint| format!(" at {endpoint}")).unwrap_or_default();
        let came = ["status", "failure"].into_iter().filter_map(|name| text(attempt, name)).collect::<Vec<_>>().join(", then ");
        let took = ms(attempt, "took_us").unwrap_or_default();
        let cost = text(attempt, "cost").map(|cost| format!(", {cost} µ$")).unwrap_or_default();
        let doubt = text(attempt, "doubt").map(|doubt| format!(", doubted: {doubt}")).unwrap_or_default();
        line("attempt", format!("{}{endpoint}: {came} after {took}{cost}{doubt}", or_none(attempt, "model")));
    }
    let answer = &said["answer"];
    let mut parts = vec![format!("{} {}", or_none(answer, "status"), or_none(answer, "ending"))];
    parts.extend(text(answer, "model").map(|model| format!("from {model}")));
    parts.extend(text(answer, "error").map(|error| format!("error {error}")));
    parts.extend(text(answer, "degraded").map(|level| format!("degraded: {level}")));
    if let (Some(prompt), Some(completion)) = (text(answer, "prompt_tokens"), text(answer, "completion_tokens")) {
        parts.push(format!("{prompt} + {completion} tokens"));
    }
    parts.extend(text(answer, "cost").map(|cost| format!("{cost} µ$")));
    parts.extend(ms(answer, "first_byte_us").map(|ms| format!("first byte after {ms}")));
    parts.extend(ms(answer, "total_us").map(|ms| format!("{ms} in all")));
    line("answer", parts.join(", "));
    if let Some(detail) = text(answer, "detail") {
        line("", detail.into_owned());
    }
    page
}
