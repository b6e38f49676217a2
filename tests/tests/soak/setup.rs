//! How the host is configured: three providers of the same endpoints, so that a fault meets all of them.
//!
//! | model | what it has |
//! |---|---|
//! | `small` | the plain pool |
//! | `quick` | its pool hedges |
//! | `steps` | a cascade of `first` and `second` |
//! | `lasting` | nothing of its own |
//!
//! The last two, and what the cascade is made of, are of one pool, with a gate, whose streams are gone on with: a doubted answer and the
//! better one, a stream that broke and the rest of it are after the same places.

use std::path::Path;

use tests::{Host, Plugin};

/// What the providers have in common. Whatever can be tried again is: no budget is to stand between a user and an endpoint that answers.
const COMMON: &str = "retries = 2\nretry_budget = 1.0\ntimeouts = { connect = \"5s\", headers = \"5s\", first_token = \"5s\", between_tokens = \"5s\" }";

/// About as many places as there are streams at a time, from which it grows and shrinks: at worst somebody waits, and nobody is sent away.
/// A gate sends people away where its line has stood for as long as anybody may wait. How long a line of these users stands is a matter of
/// how fast the machine is that is all of them, so they may wait for longer than any line of theirs can take.
const GATE: &str = "concurrency = { start = 256, min = 208, queue = 512, wait = \"2m\" }";

const MODELS: &str = r#"
[models.quick]
provider = "hedging"
name = "tiny-1"
[models.lasting]
provider = "gpus"
name = "tiny-1"
[models.first]
provider = "gpus"
name = "tiny-1"
price = { input = 0.05, output = 0.10 }
[models.second]
provider = "gpus"
name = "giant-1"
price = { input = 2.0, output = 8.0 }
[models.steps]
choose = ["first", "second"]
[models.steps.cascade]
min_logprob = -0.3
tokens = 10
"#;

/// One of four endpoints that is out is no reason for less.
const DEGRADE: &str = "[degrade]\ncached = 0.25\nsmall = 0.5\nstale = 0.75\nshed = 1.0\nhold = \"1s\"\nstale_for = \"1m\"";

/// A host that asks these endpoints.
pub(crate) fn host(endpoints: &[String], handover: &Path, revision: u32) -> Host {
    let provider =
        |name: &str, own: &str| format!("[providers.{name}]\nkind = \"openai\"\nendpoints = {endpoints:?}\n{COMMON}\n{own}");
    let host = Host::new()
        .log("info,pointsman::exchange=warn")
        .listen("drain = \"60s\"\nmax_connections_per_address = 5000")
        .listen(&format!("handover = {handover:?}"))
        // What fails here fails on purpose, and is no version's fault.
        .plugin(Plugin::router(revision).set("release = { rollback = false }"))
        .provider(COMMON)
        .section(&provider("hedging", "hedge = { after = \"p95\", budget = 0.05 }"))
        .section(&provider("gpus", &format!("continuation = \"vllm\"\n{GATE}")))
        .section(MODELS)
        .section("[cache]\nmemory = \"16MiB\"\nttl = \"3s\"")
        .section(DEGRADE);
    endpoints.iter().cloned().fold(host, Host::endpoint)
}
