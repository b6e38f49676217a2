//! Routing: the model that is good at this kind of question, by the example that it is nearest to in meaning.
//!
//! ```toml
//! [plugins.specialists]
//! component = "plugins/specialists/specialists.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams", "embeddings"]
//! config = { examples = "task", models = { code = "coder" }, min_score = 0.3 }
//!
//! [examples.task]                    # label → what such questions look like
//! code = ["Write a function that sorts a list."]
//! talk = ["Good morning, how are you?"]
//! ```
//!
//! It has an opinion on requests for a name that stands for the model that it would choose; the other models of that name follow where
//! that one fails. `[models.NAME.specialists]` does the same without a plugin.

use pointsman_plugin::{Decision, Plan, PluginError, Request, RequestHead, Result, Routing, config, embeddings, upstreams};

/// The host takes no more targets.
const MOST: usize = 8;

struct Specialists;

/// What the `config` table says.
struct Settings {
    examples: String,
    /// Label and model.
    models: Vec<(String, String)>,
    /// The least likeness.
    min_score: f32,
}

impl Settings {
    fn read() -> Result<Self> {
        let settings = Self {
            examples: config::require("examples")?,
            models: config::table("models")?,
            min_score: config::parse("min_score")?.unwrap_or(0.3),
        };
        if settings.models.is_empty() {
            return Err(PluginError::setting("models", "names no specialist", "write one, such as { code = \"coder\" }"));
        }
        Ok(settings)
    }

    /// The model for a question that is so much like the examples of this label.
    fn model(&self, label: &str, score: f32) -> Option<&str> {
        let model = self.models.iter().find(|(known, _)| known == label).map(|(_, model)| &**model);
        model.filter(|_| score >= self.min_score)
    }
}

impl Routing for Specialists {
    fn check() -> Result<()> {
        Settings::read().map(drop)
    }

    fn route(_: &RequestHead, _: &Request) -> Result<Decision> {
        // Whoever asks for one model by its name gets that one; the question is not embedded for nothing.
        let candidates: Vec<String> = upstreams::candidates().into_iter().map(|candidate| candidate.model).collect();
        if candidates.len() < 2 {
            return Ok(Decision::Pass);
        }
        let settings = Settings::read()?;
        // Where the host cannot embed the question, its kind is not known: an error here is an answer like "no".
        let nearest = embeddings::classify(&settings.examples, 1).ok().and_then(|found| found.into_iter().next());
        let Some(nearest) = nearest else { return Ok(Decision::Pass) };
        Ok(match settings.model(&nearest.label, nearest.score).and_then(|model| plan(model, &candidates)) {
            Some(plan) => plan.because(format!("like {}", nearest.label)).label("task", nearest.label).into(),
            None => Decision::Pass,
        })
    }
}

/// This model, then the others; none where the request does not stand for it.
fn plan(model: &str, candidates: &[String]) -> Option<Plan> {
    if !candidates.iter().any(|candidate| candidate == model) {
        return None;
    }
    let others = candidates.iter().filter(|candidate| *candidate != model).take(MOST - 1);
    Some(others.fold(Plan::to(model), Plan::then))
}

pointsman_plugin::export!(Specialists: routing);

#[cfg(test)]
mod tests {
    use super::{Settings, plan};

    #[test]
    fn a_label_near_enough_has_its_model() {
        let models = [("code", "coder"), ("maths", "thinker")].map(|(label, model)| (label.to_owned(), model.to_owned()));
        let settings = Settings { examples: "task".to_owned(), models: models.into(), min_score: 0.3 };
        assert_eq!(settings.model("code", 0.3), Some("coder"));
        assert_eq!(settings.model("maths", 0.9), Some("thinker"));
        assert_eq!((settings.model("code", 0.29), settings.model("talk", 0.9)), (None, None));
    }

    #[test]
    fn the_others_follow() {
        let candidates = ["general", "coder", "thinker"].map(str::to_owned);
        let models = |name| plan(name, &candidates).map(|plan| plan.targets.into_iter().map(|target| target.model).collect());
        assert_eq!(models("coder"), Some(vec!["coder".to_owned(), "general".to_owned(), "thinker".to_owned()]));
        assert_eq!(models("elsewhere"), None::<Vec<String>>);
    }
}
