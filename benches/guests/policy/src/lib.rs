//! A policy with all three hooks in one component: what a call of a plugin costs when the plugin does something, but nothing slow.
//!
//! Each hook reads a little of the request, asks the host once or twice, and returns a record with strings in it. It embeds
//! nothing, and has no loop.
//!
//! **Invariant:** it has an opinion on every chat request, so a bench sees a full answer cross the border; on any other operation
//! it passes at once, so a bench sees what a call costs in itself.

use std::time::Duration;

use pointsman_plugin::{
    CacheKey, Caching, Decision, Directive, Edit, Operation, Outcome, Plan, PromptChoice, Prompting, Request, RequestHead,
    Result, Rewrite, Routing, Scope, SemanticKey, config, random, upstreams,
};

/// Bytes of the question that are searched for what must not be kept.
const LOOK_AT: u32 = 512;

struct Policy;

impl Routing for Policy {
    fn check() -> Result<()> {
        config::require::<u32>("limit").map(drop)
    }

    /// Two headers, one setting and the models: the small model for short requests and for those who pay for speed.
    fn route(head: &RequestHead, request: &Request) -> Result<Decision> {
        if head.operation != Operation::Chat {
            return Ok(Decision::Pass);
        }
        let headers = request.headers(&["x-tier", "x-difficulty"]);
        let [tier, difficulty] = [0, 1].map(|place| headers.get(place).and_then(Option::as_deref));
        let is_short = head.prompt_tokens < config::require("limit")?;
        let first = if is_short || tier == Some("fast") { "small" } else { "large" };
        let models = upstreams::candidates().len();
        let plan = Plan::to(first).first_byte_within(Duration::from_secs(30)).then("large");
        let reason = format!("tier {}, {}, {models} models", tier.unwrap_or("free"), difficulty.unwrap_or("unknown"));
        Ok(plan.because(reason).into())
    }
}

impl Prompting for Policy {
    /// One of two versions by a sticky split, and a system message of its own.
    fn select(head: &RequestHead, _: &Request) -> Result<Outcome> {
        if head.operation != Operation::Chat {
            return Ok(Outcome::Pass);
        }
        let (version, arm) = match random::bucket("bench", &head.tenant, 2) {
            0 => ("v1", "plain"),
            _ => ("v2", "brief"),
        };
        let text = "You are a helpful assistant of a shop. Answer briefly.".to_owned();
        Ok(Rewrite::by([Edit::ReplaceSystem(text)]).of(PromptChoice::of("bench", version).arm("bench", arm)).into())
    }
}

impl Caching for Policy {
    /// Shared inside the tenant, near hits within one language; nothing that looks private.
    fn key(head: &RequestHead, request: &Request) -> Result<Directive> {
        if head.operation != Operation::Chat {
            return Ok(Directive::Pass);
        }
        if request.last_user_text(LOOK_AT).contains("social security") {
            return Ok(Directive::Bypass);
        }
        let key = CacheKey::of(Scope::Tenant).near(SemanticKey::new().within("en"));
        Ok(key.ttl(Duration::from_secs(3_600)).generation("v1").into())
    }
}

pointsman_plugin::export!(Policy: routing, prompting, caching);
