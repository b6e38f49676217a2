//! Routing: the cheapest model whose answers begin soon enough; the quickest if there is none.
//!
//! ```toml
//! [plugins.cheapest-in-time]
//! component = "plugins/cheapest-in-time/cheapest-in-time.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams", "random"]
//! config = { first_byte_ms = 800, look_again = 64 }
//! ```
//!
//! It has an opinion on requests for a name that stands for several models. What one costs goes by its `price` and by the request's
//! tokens; how soon it answers is what the host has measured. A model that was slow and is asked no more would be slow for ever, so one
//! request of `look_again` goes by the price alone. `prefer = "cost"` with `first_byte` does the same without a plugin.

use pointsman_plugin::upstreams::{self, Upstream};
use pointsman_plugin::{Decision, Plan, PluginError, Request, RequestHead, Result, Routing, config, random};

/// Tokens of an answer for which a request sets no limit.
const ANSWER: u32 = 256;
/// The host takes no more targets.
const MOST: usize = 8;

struct CheapestInTime;

/// What the `config` table says.
struct Settings {
    first_byte_ms: u32,
    /// One request of so many does not look at the time; 0: none.
    look_again: u64,
}

impl Settings {
    fn read() -> Result<Self> {
        let settings =
            Self { first_byte_ms: config::require("first_byte_ms")?, look_again: config::parse("look_again")?.unwrap_or(64) };
        if settings.first_byte_ms == 0 {
            return Err(PluginError::setting("first_byte_ms", "is 0", "write milliseconds, such as 800"));
        }
        Ok(settings)
    }
}

impl Routing for CheapestInTime {
    fn check() -> Result<()> {
        Settings::read().map(drop)
    }

    fn route(head: &RequestHead, _: &Request) -> Result<Decision> {
        let settings = Settings::read()?;
        let mut models = upstreams::candidates();
        if models.len() < 2 {
            return Ok(Decision::Pass);
        }
        let looks_again = settings.look_again > 0 && random::u64().is_multiple_of(settings.look_again);
        let limit = if looks_again { u32::MAX } else { settings.first_byte_ms };
        let reason = sort(&mut models, limit, head.prompt_tokens, head.max_tokens.unwrap_or(ANSWER));
        let mut names = models.into_iter().take(MOST).map(|model| model.model);
        let Some(first) = names.next() else { return Ok(Decision::Pass) };
        Ok(names.fold(Plan::to(first), Plan::then).because(reason).into())
    }
}

/// The one to ask first comes first. A model of which nothing is known counts as quick, one without a price costs nothing.
fn sort(models: &mut [Upstream], limit_ms: u32, prompt: u32, answer: u32) -> &'static str {
    let cost = |model: &Upstream| {
        let tokens = |price: u64, count: u32| u128::from(price) * u128::from(count);
        model.price.as_ref().map_or(0, |price| tokens(price.input, prompt) + tokens(price.output, answer))
    };
    let is_failing = |model: &Upstream| model.failing > 0.5;
    let is_in_time = |model: &Upstream| !is_failing(model) && model.first_byte_ms.is_none_or(|ms| ms <= limit_ms);
    if models.iter().any(is_in_time) {
        models.sort_by_key(|model| (!is_in_time(model), is_failing(model), cost(model)));
        "cheapest in time"
    } else {
        models.sort_by_key(|model| (is_failing(model), model.first_byte_ms));
        "none in time, quickest"
    }
}

pointsman_plugin::export!(CheapestInTime: routing);

#[cfg(test)]
mod tests {
    use pointsman_plugin::mock::{Host, upstream};
    use pointsman_plugin::upstreams::Price;

    use super::*;

    fn model(name: &str, price: u64, first_byte_ms: Option<u32>, failing: f32) -> Upstream {
        let price = Some(Price { input: price, output: 2 * price });
        Upstream { price, failing, first_byte_ms, ..upstream(name) }
    }

    fn check(models: &[Upstream], limit_ms: u32, reason: &str, order: &[&str]) {
        let mut models = models.to_vec();
        assert_eq!(sort(&mut models, limit_ms, 100, 50), reason);
        assert_eq!(models.iter().map(|model| &*model.model).collect::<Vec<_>>(), order);
    }

    #[test]
    fn price_and_time() {
        let (slow, quick) = (model("slow", 1, Some(2_000), 0.0), model("quick", 5, Some(100), 0.0));
        let (new, down) = (model("new", 3, None, 0.0), model("down", 1, Some(50), 0.9));
        check(&[slow.clone(), quick.clone()], 800, "cheapest in time", &["quick", "slow"]);
        check(&[quick.clone(), slow.clone()], 5_000, "cheapest in time", &["slow", "quick"]);
        check(&[quick.clone(), new, slow.clone()], 800, "cheapest in time", &["new", "quick", "slow"]);
        check(&[down.clone(), quick.clone()], 800, "cheapest in time", &["quick", "down"]);
        check(&[down, slow, quick], 10, "none in time, quickest", &["quick", "slow", "down"]);
    }

    #[test]
    fn what_is_long_in_answers_costs_more_where_answers_do() {
        let priced = |name, input, output| Upstream { price: Some(Price { input, output }), ..model(name, 0, None, 0.0) };
        let mut models = [priced("reads", 1, 10), priced("writes", 4, 1)];
        sort(&mut models, 800, 1_000, 10);
        assert_eq!(models[0].model, "reads");
        sort(&mut models, 800, 10, 1_000);
        assert_eq!(models[0].model, "writes");
    }

    #[test]
    fn one_request_of_some_looks_again_at_a_slow_one() {
        let host = Host::new().config("first_byte_ms", 800).config("look_again", 4);
        let host = host.upstream(model("slow", 1, Some(2_000), 0.0)).upstream(model("quick", 5, Some(100), 0.0));
        let first = || match host.route::<CheapestInTime>() {
            Ok(Decision::Plan(plan)) => plan.targets[0].model.clone(),
            other => panic!("{other:?}"),
        };
        let slow = (0..400).filter(|_| first() == "slow").count();
        assert!((60..140).contains(&slow), "{slow} of 400");
    }
}
