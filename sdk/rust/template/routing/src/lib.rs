//! Routing: the small model for short questions, the large one for long ones.
//!
//! ```toml
//! [plugins.{{name}}]
//! component = "{{name}}.wasm"
//! hooks = ["routing"]
//! grant = ["config"]
//! config = { limit = 400 }
//! ```

use pointsman_plugin::{Decision, Plan, PluginError, Request, RequestHead, Result, Routing, config};

struct Policy;

impl Routing for Policy {
    // Asked once, when the plugin is loaded: a wrong setting never meets a request.
    fn check() -> Result<()> {
        limit().map(drop)
    }

    fn route(head: &RequestHead, _: &Request) -> Result<Decision> {
        // Whoever asks for a model by its name gets that one.
        if head.model != "auto" {
            return Ok(Decision::Pass);
        }
        let (first, second) = if head.prompt_tokens <= limit()? { ("small", "large") } else { ("large", "small") };
        Ok(Plan::to(first).then(second).because("length").into())
    }
}

/// Tokens up to which a question is short.
fn limit() -> Result<u32> {
    let limit = config::parse("limit")?.unwrap_or(400);
    if limit == 0 {
        return Err(PluginError::setting("limit", "is 0", "write a number of tokens, such as 400"));
    }
    Ok(limit)
}

pointsman_plugin::export!(Policy: routing);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::{Role, mock::Host};

    #[test]
    fn the_limit_is_a_setting() {
        let host = Host::new().config("limit", 3).message(Role::User, "Hello");
        assert_eq!(host.route::<Policy>(), Ok(Plan::to("large").then("small").because("length").into()));
        assert_eq!(host.model("small").route::<Policy>(), Ok(Decision::Pass));
    }

    #[test]
    fn a_wrong_setting_is_refused() {
        let refused = Host::new().config("limit", 0).check(<Policy as Routing>::check).unwrap_err();
        assert_eq!(refused, PluginError::Config("`limit` is 0: write a number of tokens, such as 400".into()));
    }
}
