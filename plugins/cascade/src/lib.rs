//! Routing: a small model answers first; where it was not sure of its words, the next one is asked.
//!
//! ```toml
//! [plugins.cascade]
//! component = "plugins/cascade/cascade.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams"]
//! config = { min_logprob = -0.5, tokens = 32 }
//! ```
//!
//! It has an opinion on requests for a name that stands for several models, such as `[models.auto] choose = ["small", "large"]`, and asks
//! them in that order. `[models.NAME.cascade]` does the same without a plugin; this is the place to start from for a rule of your own.

use pointsman_plugin::{
    Attempt, Decision, NextStep, Plan, PluginError, Request, RequestHead, Response, Result, Routing, config, upstreams,
};

/// The host takes no more targets.
const MOST: usize = 8;

struct Cascade;

/// What the `config` table says.
struct Settings {
    /// The least mean log-probability of the answer's tokens.
    min_logprob: f32,
    /// Tokens of a stream after which it is judged.
    tokens: u32,
}

impl Settings {
    fn read() -> Result<Self> {
        let settings =
            Self { min_logprob: config::parse("min_logprob")?.unwrap_or(-0.5), tokens: config::parse("tokens")?.unwrap_or(32) };
        if settings.min_logprob >= 0.0 || settings.min_logprob.is_nan() {
            return Err(PluginError::setting(
                "min_logprob",
                "is not below 0",
                "write a logarithm of a probability, such as -0.5",
            ));
        }
        Ok(settings)
    }
}

impl Routing for Cascade {
    fn check() -> Result<()> {
        Settings::read().map(drop)
    }

    fn route(_: &RequestHead, _: &Request) -> Result<Decision> {
        let models: Vec<String> = upstreams::candidates().into_iter().take(MOST).map(|candidate| candidate.model).collect();
        let Some(plan) = in_order(models) else { return Ok(Decision::Pass) };
        Ok(plan.reviewed(Settings::read()?.tokens).with_logprobs().because("the small model first").into())
    }

    fn after_attempt(_: &RequestHead, _: &Request, last: &Attempt, answer: Option<&Response>) -> Result<NextStep> {
        let mean = answer.and_then(Response::mean_logprob);
        let goes_on = last.left > 0 && (last.failure.is_some() || is_unsure(mean, Settings::read()?.min_logprob));
        Ok(if goes_on { NextStep::FallBack } else { NextStep::Accept })
    }
}

/// None where there is nothing to choose.
fn in_order(models: Vec<String>) -> Option<Plan> {
    if models.len() < 2 {
        return None;
    }
    let mut models = models.into_iter();
    let first = Plan::to(models.next()?);
    Some(models.fold(first, Plan::then))
}

/// A model that does not say how sure it was is believed.
fn is_unsure(mean: Option<f32>, least: f32) -> bool {
    mean.is_some_and(|mean| mean < least)
}

pointsman_plugin::export!(Cascade: routing);

#[cfg(test)]
mod tests {
    use pointsman_plugin::mock::{Answer, Host, attempt, upstream};

    use super::*;

    #[test]
    fn several_models_are_asked_in_order() {
        let models = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(in_order(models(&[])).is_none() && in_order(models(&["small"])).is_none());
        let plan = in_order(models(&["small", "large", "huge"])).map(|plan| plan.targets).unwrap_or_default();
        assert_eq!(plan.iter().map(|target| target.model.as_str()).collect::<Vec<_>>(), ["small", "large", "huge"]);
    }

    #[test]
    fn what_is_unsure() {
        assert!(is_unsure(Some(-0.6), -0.5));
        assert!(!is_unsure(Some(-0.5), -0.5) && !is_unsure(Some(-0.1), -0.5) && !is_unsure(None, -0.5));
    }

    #[test]
    fn an_unsure_answer_is_followed_by_the_next_model() {
        let host = Host::new().config("min_logprob", -0.4).upstream(upstream("small")).upstream(upstream("large"));
        let Ok(Decision::Plan(plan)) = host.route::<Cascade>() else { panic!("it plans") };
        assert!(plan.targets.len() == 2 && plan.review.is_some_and(|review| review.logprobs && review.tokens == Some(32)));
        let step = |left, mean| {
            let answer = Answer::of("Paris?").mean_logprob(mean);
            host.after_attempt::<Cascade>(&Attempt { left, ..attempt("small") }, Some(&answer))
        };
        assert_eq!(
            [step(1, -0.6), step(1, -0.1), step(0, -0.6)],
            [Ok(NextStep::FallBack), Ok(NextStep::Accept), Ok(NextStep::Accept)]
        );
        assert_eq!(
            host.after_attempt::<Cascade>(&Attempt { left: 1, ..attempt("small") }, Some(&Answer::of("?"))),
            Ok(NextStep::Accept)
        );
    }

    #[test]
    fn a_probability_is_no_logarithm() {
        let refused = Host::new().config("min_logprob", 0.6).check(<Cascade as Routing>::check);
        assert!(matches!(refused, Err(PluginError::Config(why)) if why.contains("`min_logprob` is not below 0")));
    }
}
