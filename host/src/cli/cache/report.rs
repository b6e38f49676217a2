//! `pointsman cache report` and `cache wrong`: what a node's cache saves, how far its near hits are trusted, and one that was wrong.
//!
//! What it does not do: it knows nothing that `GET /api/cache/report` does not say.

use std::fmt::Write as _;

use http::Method;
use serde_json::Value;

use super::Failed;
use crate::cli::node::Node;

/// What the command line says.
#[derive(clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    node: Node,
    /// As JSON, as the admin API says it
    #[arg(long)]
    json: bool,
}

/// An answer that was wrong.
#[derive(clap::Args)]
pub(in crate::cli) struct Wrong {
    /// The entry's id, as in the header `x-pointsman-cache-entry`
    #[arg(value_name = "ENTRY")]
    entry: String,
    #[command(flatten)]
    node: Node,
}

pub(super) fn report(arguments: &Arguments) -> Result<String, Failed> {
    let said = arguments.node.ask(Method::GET, "/api/cache/report", None).map_err(Failed::system)?;
    if said.is_null() {
        return Err(Failed::system("the node has no [cache]"));
    }
    Ok(if arguments.json { format!("{said:#}\n") } else { page(&said) })
}

pub(super) fn wrong(arguments: &Wrong) -> Result<String, Failed> {
    let entry = &arguments.entry;
    // What an id is not is no part of a path.
    if entry.is_empty() || !entry.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failed::input("an entry's id has hexadecimal digits, as in the header x-pointsman-cache-entry"));
    }
    let said = arguments.node.ask(Method::POST, &format!("/api/cache/entries/{entry}/wrong"), None).map_err(Failed::system)?;
    let counted = match (said["counted"] == true, said["found"] == true) {
        (true, _) => "and counted as a wrong semantic hit",
        (false, true) => "and was served to nobody but its own question",
        (false, false) => "wherever it is; it was not in this node's memory",
    };
    Ok(format!("{entry} is purged, {counted}\n"))
}

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_default()
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn page(said: &Value) -> String {
    let mut page = String::new();
    let lookups = &said["lookups"];
    let (exact, semantic) = (number(lookups, "exact"), number(lookups, "semantic"));
    let all = exact + semantic + number(lookups, "stale") + number(lookups, "miss");
    let share = |part: f64| if all > 0.0 { percent(part / all) } else { "-".to_owned() };
    let _ = writeln!(
        page,
        "lookups    {all}: {} exact, {} semantic, {} missed",
        share(exact),
        share(semantic),
        share(number(lookups, "miss"))
    );
    let saved = &said["saved"];
    let dollars = number(saved, "micro_usd") / 1e6;
    let _ = writeln!(page, "saved      {dollars:.4} US dollars, {:.1} s of waiting", number(saved, "seconds"));
    let semantic = &said["semantic"];
    if semantic.is_null() {
        return page;
    }
    let _ = writeln!(
        page,
        "semantic   {} may be wrong; {} audits of hits found {} wrong, so at most {} are, with 95 % confidence; audits cost {:.4} US dollars",
        percent(number(semantic, "wrong_hits")),
        semantic["overall"]["audits"],
        semantic["overall"]["wrong"],
        percent(number(&semantic["overall"], "upper_bound")),
        number(semantic, "audit_micro_usd") / 1e6,
    );
    for account in semantic["accounts"].as_array().into_iter().flatten() {
        let whose = account["tenant"].as_str().unwrap_or_default();
        let partition =
            account["partition"].as_str().map(|partition| format!(", partition {partition:.12}…")).unwrap_or_default();
        let serving = if account["serving"] == true { "served" } else { "not served" };
        let disowned = if account["disowned"] == true { "; the calibration is not of this traffic" } else { "" };
        let _ = writeln!(
            page,
            "  {whose}{partition}: {serving}, {} hits, {} near misses, {} audits with {} wrong, at most {} wrong{disowned}",
            account["hits"],
            account["misses"],
            account["audits"],
            account["wrong"],
            percent(number(account, "upper_bound")),
        );
    }
    for entry in semantic["worst"].as_array().into_iter().flatten() {
        let id = entry["entry"].as_str().unwrap_or_default();
        let _ =
            writeln!(page, "  worst: {id} of {}: wrong {} times", entry["tenant"].as_str().unwrap_or_default(), entry["wrong"]);
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_reads_like_one() {
        let said = json!({
            "lookups": { "exact": 60, "semantic": 10, "miss": 30, "stale": 0 },
            "saved": { "micro_usd": 1_500_000, "seconds": 90.5 },
            "semantic": {
                "wrong_hits": 0.02, "audit_micro_usd": 20, "overall": { "audits": 8, "wrong": 1, "upper_bound": 0.5 },
                "accounts": [{ "tenant": "acme", "partition": null, "serving": false, "hits": 10, "misses": 4, "audits": 8, "wrong": 1, "upper_bound": 0.5, "disowned": true }],
                "worst": [{ "entry": "ab12", "tenant": "acme", "wrong": 2 }],
            },
        });
        let page = page(&said);
        for expect in [
            "lookups    100: 60.00 % exact, 10.00 % semantic, 30.00 % missed",
            "saved      1.5000 US dollars, 90.5 s of waiting",
            "2.00 % may be wrong; 8 audits of hits found 1 wrong, so at most 50.00 % are",
            "acme: not served, 10 hits, 4 near misses, 8 audits with 1 wrong, at most 50.00 % wrong; the calibration is not of this traffic",
            "worst: ab12 of acme: wrong 2 times",
        ] {
            assert!(page.contains(expect), "{expect}\n{page}");
        }
    }
}
