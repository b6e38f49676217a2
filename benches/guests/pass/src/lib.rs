//! A routing plugin that has no opinion on anything: what it costs to ask a plugin at all.

use pointsman_plugin::{Decision, Request, RequestHead, Result, Routing};

struct Pass;

impl Routing for Pass {
    fn route(_: &RequestHead, _: &Request) -> Result<Decision> {
        Ok(Decision::Pass)
    }
}

pointsman_plugin::export!(Pass: routing);
