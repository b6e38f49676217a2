//! Routing: easy questions go to the small model, hard ones to the large one.
//!
//! A question is hard if its request is long, if it has code in it, or if the example that it is nearest to in meaning is a hard
//! one. Where the chosen model fails, the other one is tried.
//!
//! ```toml
//! [plugins.route-by-complexity]
//! component = "plugins/route-by-complexity/route-by-complexity.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams", "embeddings"]
//! config = { small = "small", large = "large", limit = 400, examples = "complexity" }
//!
//! [examples.complexity]              # the labels are "simple" and "complex"
//! simple = ["What is the capital of France?"]
//! complex = ["Prove that the algorithm terminates."]
//! ```
//!
//! It has an opinion only on requests for a name that stands for both models, such as `[models.auto] choose = ["small", "large"]`.

use pointsman_plugin::{Decision, Plan, PluginError, Request, RequestHead, Result, Routing, config, embeddings, upstreams};

/// Bytes of the question that are looked at. Code, if there is any, begins before that.
const LOOK_AT: u32 = 16 << 10;

struct ByComplexity;

/// What the `config` table says.
struct Settings {
    small: String,
    large: String,
    /// Requests of more tokens than this are hard.
    limit: u32,
    /// The set of examples; without one, meaning is not asked for.
    examples: Option<String>,
}

impl Settings {
    fn read() -> Result<Self> {
        let settings = Self {
            small: config::require("small")?,
            large: config::require("large")?,
            limit: config::parse("limit")?.unwrap_or(400),
            examples: config::get("examples"),
        };
        if settings.small == settings.large {
            return Err(PluginError::setting(
                "large",
                "is the same model as `small`",
                "name another one, or take this plugin out",
            ));
        }
        Ok(settings)
    }
}

impl Routing for ByComplexity {
    // Asked once, when the plugin is loaded: a wrong setting never meets a request.
    fn check() -> Result<()> {
        Settings::read().map(drop)
    }

    fn route(head: &RequestHead, request: &Request) -> Result<Decision> {
        let settings = Settings::read()?;
        // Whoever asks for one model by its name gets that one: there is nothing to choose.
        let candidates = upstreams::candidates();
        let may_choose = |model: &str| candidates.iter().any(|candidate| candidate.model == model);
        if !may_choose(&settings.small) || !may_choose(&settings.large) {
            return Ok(Decision::Pass);
        }
        // Cheapest first. The text crosses into the plugin only if the length leaves the question open, and the embedding,
        // which costs most, is asked for last.
        let reason = long(head, &settings)
            .or_else(|| has_code(&request.last_user_text(LOOK_AT)).then_some("code"))
            .or_else(|| settings.examples.as_deref().and_then(like_a_hard_one));
        Ok(match reason {
            Some(why) => Plan::to(settings.large).then(settings.small).because(why).label("complexity", "complex").into(),
            None => Plan::to(settings.small).then(settings.large).because("simple").label("complexity", "simple").into(),
        })
    }
}

fn long(head: &RequestHead, settings: &Settings) -> Option<&'static str> {
    (head.prompt_tokens > settings.limit).then_some("long")
}

/// A fence, or as many braces and semicolons as prose does not have.
fn has_code(text: &str) -> bool {
    let marks = text.bytes().filter(|byte| matches!(byte, b'{' | b'}' | b';')).count();
    text.contains("```") || (marks >= 3 && marks * 30 >= text.len())
}

/// Is the nearest example a hard one? The host embeds the question, and shares the vector with the cache. Where it cannot, the
/// other signs have to do: an error here is an answer like "no".
fn like_a_hard_one(examples: &str) -> Option<&'static str> {
    let nearest = embeddings::classify(examples, 1).ok()?.into_iter().next()?;
    (nearest.label == "complex").then_some("like complex examples")
}

pointsman_plugin::export!(ByComplexity: routing);

#[cfg(test)]
mod tests {
    use pointsman_plugin::Role;
    use pointsman_plugin::mock::{Host, upstream};

    use super::*;

    #[test]
    fn code_and_prose() {
        let code = [
            "What does this do?\n```\nprint(1)\n```",
            "for (let i = 0; i < n; i++) { sum += a[i]; }",
            "Fix it: fn main() { let x = 1; x = 2; }",
            "{\"a\": {\"b\": {}}}",
        ];
        let prose = [
            "",
            "What is the capital of France?",
            "He came; he saw; he won. Who was it, and what did he mean by it? Please answer at some length; I have the time.",
            "Use {name} in the letter.",
        ];
        assert!(code.iter().all(|text| has_code(text)));
        assert!(!prose.iter().any(|text| has_code(text)));
    }

    #[test]
    fn what_makes_a_question_hard() {
        let asked = |text: &str, nearest: &str| {
            let host =
                Host::new().config("small", "small").config("large", "large").config("limit", 100).config("examples", "set");
            let host = host.upstream(upstream("small")).upstream(upstream("large")).example("set", &[(nearest, 0.8)]);
            match host.message(Role::User, text).route::<ByComplexity>() {
                Ok(Decision::Plan(plan)) => (plan.targets[0].model.clone(), plan.reason),
                other => (String::new(), format!("{other:?}")),
            }
        };
        let is = |model: &str, reason: &str| (model.to_owned(), reason.to_owned());
        assert_eq!(asked("What is this?", "simple"), is("small", "simple"));
        assert_eq!(asked("What is this?", "complex"), is("large", "like complex examples"));
        assert_eq!(asked("What is ```x```?", "simple"), is("large", "code"));
        assert_eq!(asked(&"And then? ".repeat(50), "simple"), is("large", "long"));
    }
}
