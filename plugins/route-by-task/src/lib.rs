//! Routing: the model that is good at this kind of question, so many times a minute for each tenant. `plugins/route-by-task-js` and
//! `plugins/route-by-task-python` decide alike in TypeScript and Python, and tests hold the three to that.
//!
//! ```toml
//! [plugins.route-by-task]
//! component = "plugins/route-by-task/route-by-task.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams", "embeddings", "kv"]
//! config = { examples = "task", models = { code = "coder" }, min_score = 0.3, per_minute = 100 }
//!
//! [examples.task]                    # label → what such questions look like
//! code = ["Write a function that sorts a list."]
//! talk = ["Good morning, how are you?"]
//! ```
//!
//! It has an opinion on requests for a name that stands for the model that it would choose; the other models of that name follow where
//! that one fails, and come first where the tenant has had its share of the minute.

use std::time::Duration;

use pointsman_plugin::{Decision, Plan, PluginError, Request, RequestHead, Result, Routing, config, embeddings, kv, upstreams};

/// The host takes no more targets.
const MOST: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);

struct ByTask;

/// What the `config` table says.
struct Settings {
    examples: String,
    /// Label and model.
    models: Vec<(String, String)>,
    /// The least likeness.
    min_score: f64,
    per_minute: i64,
}

impl Settings {
    fn read() -> Result<Self> {
        let settings = Self {
            examples: config::require("examples")?,
            models: config::table("models")?,
            min_score: config::parse("min_score")?.unwrap_or(0.3),
            per_minute: config::parse("per_minute")?.unwrap_or(100),
        };
        if settings.models.is_empty() {
            return Err(PluginError::setting("models", "names no specialist", "write one, such as { code = \"coder\" }"));
        }
        if settings.per_minute < 1 {
            return Err(PluginError::setting("per_minute", "is no number of requests", "write 1 or more"));
        }
        Ok(settings)
    }
}

impl Routing for ByTask {
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
        // Where the host cannot embed the question, its kind is not known.
        let nearest = embeddings::classify(&settings.examples, 1).ok().and_then(|found| found.into_iter().next());
        let Some(nearest) = nearest.filter(|nearest| f64::from(nearest.score) >= settings.min_score) else {
            return Ok(Decision::Pass);
        };
        let task = nearest.label;
        let model = settings.models.into_iter().find(|(label, _)| *label == task).map(|(_, model)| model);
        let Some(model) = model.filter(|model| candidates.contains(model)) else { return Ok(Decision::Pass) };

        let is_over = kv::increment(&task, 1, Some(MINUTE))? > settings.per_minute;
        let why = if is_over { format!("{task}, above {} a minute", settings.per_minute) } else { format!("like {task}") };
        Ok(match plan(model, candidates, is_over) {
            Some(plan) => plan.because(why).label("task", task).into(),
            None => Decision::Pass,
        })
    }
}

/// The specialist and then the others, or the others first.
fn plan(model: String, candidates: Vec<String>, others_first: bool) -> Option<Plan> {
    let (chosen, others): (Vec<String>, Vec<String>) = candidates.into_iter().partition(|candidate| *candidate == model);
    let (before, after) = if others_first { (others, chosen) } else { (chosen, others) };
    let mut order = before.into_iter().chain(after).take(MOST);
    let first = order.next()?;
    Some(order.fold(Plan::to(first), Plan::then))
}

pointsman_plugin::export!(ByTask: routing);

#[cfg(test)]
mod tests {
    use super::plan;

    #[test]
    fn the_others_follow_or_come_first() {
        let order = |others_first| {
            let candidates = ["general", "coder", "thinker"].map(str::to_owned).to_vec();
            let plan = plan("coder".to_owned(), candidates, others_first).unwrap();
            plan.targets.into_iter().map(|target| target.model).collect::<Vec<_>>()
        };
        assert_eq!(order(false), ["coder", "general", "thinker"]);
        assert_eq!(order(true), ["general", "thinker", "coder"]);
    }
}
