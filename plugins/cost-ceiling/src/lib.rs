//! Routing: a ceiling a day for what each tenant spends or asks. Near it the cheapest model answers, above it nobody.
//!
//! ```toml
//! [plugins.cost-ceiling]
//! component = "plugins/cost-ceiling/cost-ceiling.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams", "clock", "kv"]
//! config = { dollars = 5.0, calls = 10000, careful = 0.8 }
//! ```
//!
//! `dollars` and `calls` are ceilings, one of them is enough; from the share `careful` of one on the cheapest model is asked first. The
//! request's cost is estimated and taken before it is asked, and given back where it does not fit: so two requests at once cannot both have
//! what is left. A day is UTC's. The tenant is no part of the key: the host keeps each tenant's counters apart.

use std::time::Duration;

use pointsman_plugin::upstreams::{self, Upstream};
use pointsman_plugin::{Decision, Plan, PluginError, Rejection, Request, RequestHead, Result, Routing, clock, config, kv};

/// Tokens of an answer for which a request sets no limit.
const ANSWER: u32 = 256;
/// The host takes no more targets.
const MOST: usize = 8;
const DAY_MS: u64 = 86_400_000;
/// A day's counters are gone when nobody can ask for them any more.
const KEPT: Duration = Duration::from_secs(2 * 86_400);

struct CostCeiling;

/// What the `config` table says.
struct Settings {
    /// What is counted, and how much of it a day has: calls, millionths of dollars.
    ceilings: Vec<(&'static str, i64)>,
    careful: f64,
}

impl Settings {
    fn read() -> Result<Self> {
        let (calls, dollars) = (config::parse::<u32>("calls")?, config::parse::<f64>("dollars")?);
        let micros = dollars.map(|dollars| (dollars * 1e6) as i64);
        let ceilings = [("calls", calls.map(i64::from)), ("micros", micros)];
        let careful = config::parse("careful")?.unwrap_or(0.8);
        Self { ceilings: ceilings.into_iter().filter_map(|(what, most)| Some((what, most?))).collect(), careful }.sound()
    }

    fn sound(self) -> Result<Self> {
        if self.ceilings.is_empty() {
            return Err(PluginError::setting("dollars", "is missing, and so is `calls`", "write one of them, or both"));
        }
        if let Some((what, _)) = self.ceilings.iter().find(|(_, most)| *most <= 0) {
            let key = if *what == "calls" { "calls" } else { "dollars" };
            return Err(PluginError::setting(key, "is no ceiling", "write a number above 0"));
        }
        if !(0.0..=1.0).contains(&self.careful) {
            return Err(PluginError::setting("careful", "is no share", "write a number from 0 to 1, such as 0.8"));
        }
        Ok(self)
    }

    /// Would a ceiling's careful part be reached with so much more?
    fn is_careful(&self, sums: &[i64], amounts: &[i64]) -> bool {
        let all = self.ceilings.iter().zip(sums).zip(amounts);
        all.into_iter().any(|(((_, most), sum), amount)| (sum + amount) as f64 > *most as f64 * self.careful)
    }

    /// What a request takes of each ceiling.
    fn amounts(&self, cost: i64) -> Vec<i64> {
        self.ceilings.iter().map(|(what, _)| if *what == "calls" { 1 } else { cost }).collect()
    }

    /// Takes the amounts, or says that one of them is not there; then nothing is taken.
    fn take(&self, keys: &[String], amounts: &[i64]) -> Result<bool> {
        for (index, (_, most)) in self.ceilings.iter().enumerate() {
            if kv::increment(&keys[index], amounts[index], Some(KEPT))? > *most {
                for taken in 0..=index {
                    kv::increment(&keys[taken], -amounts[taken], Some(KEPT))?;
                }
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Routing for CostCeiling {
    fn check() -> Result<()> {
        Settings::read().map(drop)
    }

    fn route(head: &RequestHead, _: &Request) -> Result<Decision> {
        let (settings, now) = (Settings::read()?, clock::now());
        let mut models = upstreams::candidates();
        let cost = |model: &Upstream| cost(model, head.prompt_tokens, head.max_tokens.unwrap_or(ANSWER));
        let Some(first) = models.first() else { return Ok(Decision::Pass) };
        let keys: Vec<String> = settings.ceilings.iter().map(|(what, _)| format!("{what}/{}", now / DAY_MS)).collect();
        let sums = keys.iter().map(|key| Ok(kv::parse(key)?.unwrap_or(0))).collect::<Result<Vec<i64>>>()?;
        let is_careful = settings.is_careful(&sums, &settings.amounts(cost(first)));
        if is_careful {
            models.sort_by_key(cost);
        }
        if !settings.take(&keys, &settings.amounts(models.first().map_or(0, cost)))? {
            let refusal =
                Rejection::new(429, "ceiling_reached", "What you may use in a day is used up. It begins anew at midnight, UTC.");
            return Ok(refusal.retry_after(until_midnight(now)).into());
        }
        let reason = if is_careful { "near the ceiling, cheapest" } else { "below the ceiling" };
        let mut names = models.into_iter().take(MOST).map(|model| model.model);
        let Some(first) = names.next() else { return Ok(Decision::Pass) };
        Ok(names.fold(Plan::to(first), Plan::then).because(reason).into())
    }
}

/// Millionths of dollars, rounded up. A model without a price costs nothing.
fn cost(model: &Upstream, prompt: u32, answer: u32) -> i64 {
    let tokens = |price: u64, count: u32| u128::from(price) * u128::from(count);
    let cost = model.price.as_ref().map_or(0, |price| tokens(price.input, prompt) + tokens(price.output, answer));
    i64::try_from(cost.div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

fn until_midnight(now: u64) -> Duration {
    Duration::from_millis(DAY_MS - now % DAY_MS)
}

pointsman_plugin::export!(CostCeiling: routing);

#[cfg(test)]
mod tests {
    use pointsman_plugin::mock::{Host, upstream};
    use pointsman_plugin::upstreams::Price;

    use super::*;

    fn settings(ceilings: &[(&'static str, i64)], careful: f64) -> Result<Settings> {
        Settings { ceilings: ceilings.to_vec(), careful }.sound()
    }

    #[test]
    fn careful_is_who_is_near_one_of_the_ceilings() {
        let both = settings(&[("calls", 10), ("micros", 1_000)], 0.8).unwrap();
        assert_eq!(both.amounts(50), [1, 50]);
        assert!(!both.is_careful(&[7, 750], &[1, 50]));
        assert!(both.is_careful(&[8, 0], &[1, 50]) && both.is_careful(&[0, 751], &[1, 50]));
    }

    #[test]
    fn settings_that_make_no_sense() {
        for (ceilings, careful, key) in [
            (vec![], 0.8, "dollars"),
            (vec![("calls", 0)], 0.8, "calls"),
            (vec![("micros", -1)], 0.8, "dollars"),
            (vec![("calls", 1)], 1.5, "careful"),
        ] {
            let said = settings(&ceilings, careful).err().unwrap().to_string();
            assert!(said.contains(&format!("`{key}`")), "{said}");
        }
    }

    #[test]
    fn what_a_request_costs() {
        let mut model = upstream("m");
        assert_eq!(cost(&model, 1_000, 1_000), 0);
        model.price = Some(Price { input: 2_000_000, output: 8_000_000 });
        assert_eq!((cost(&model, 1_000, 100), cost(&model, 0, 0)), (2_800, 0));
        model.price = Some(Price { input: 1, output: u64::MAX });
        assert_eq!((cost(&model, 1, 0), cost(&model, 0, u32::MAX)), (1, i64::MAX));
    }

    #[test]
    fn a_day_ends_at_midnight() {
        assert_eq!(until_midnight(20_000 * DAY_MS), Duration::from_millis(DAY_MS));
        assert_eq!(until_midnight(20_000 * DAY_MS + DAY_MS - 1), Duration::from_millis(1));
    }

    fn first(host: &Host) -> String {
        match host.route::<CostCeiling>() {
            Ok(Decision::Plan(plan)) => plan.targets[0].model.clone(),
            Ok(Decision::Reject(refusal)) => refusal.code,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn near_the_ceiling_the_cheapest_above_it_nobody_and_a_new_day_begins_anew() {
        let priced = |name, price| Upstream { price: Some(Price { input: price, output: price }), ..upstream(name) };
        let host = Host::new().config("calls", 4).config("careful", 0.5);
        let host = host.upstream(priced("large", 9_000_000)).upstream(priced("small", 1_000_000));
        let asked: Vec<String> = (0..5).map(|_| first(&host)).collect();
        assert_eq!(asked, ["large", "large", "small", "small", "ceiling_reached"]);
        let host = host.tenant("other");
        assert_eq!(first(&host), "large", "each tenant has its own");
        let host = host.tenant("default");
        assert_eq!(first(&host), "ceiling_reached");
        host.advance(Duration::from_secs(86_400));
        assert_eq!(first(&host), "large");
    }

    #[test]
    fn what_does_not_fit_is_given_back() {
        let host = Host::new()
            .config("calls", 9)
            .config("dollars", 0.001)
            .upstream(Upstream { price: Some(Price { input: 0, output: 1_000_000 }), ..upstream("small") });
        let host = host.head(|head| head.max_tokens = Some(900));
        assert_eq!((first(&host), first(&host)), ("small".to_owned(), "ceiling_reached".to_owned()));
        let day = format!("/{}", host.run(|_, _| clock::now()) / DAY_MS);
        let kept = ["calls", "micros"].map(|what| host.stored(&format!("{what}{day}")).unwrap_or_default());
        assert_eq!(kept, ["1", "900"]);
    }
}
