//! Which models are on, and who answers in the place of one that is off.
//!
//! A model is on as the configuration says, unless the administrator has said otherwise since the start. A virtual one is off too
//! where each of its choices is.
//!
//! What it does not do: it does not ask whether a client may have the substitute (`gateway` does).
//!
//! **Invariant:** who answers in another's place is on.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::Gateway;
use super::state::State;
use crate::config;

/// The switches of `[models]`.
#[derive(Clone, Default)]
pub(super) struct Switches {
    models: BTreeMap<Arc<str>, Switch>,
    /// Those that are off, and who answers.
    off: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

#[derive(Clone)]
struct Switch {
    enabled: bool,
    substitute: Option<Arc<str>>,
    /// A virtual model's; none of a concrete one's.
    choices: Vec<String>,
}

impl Switches {
    /// As the configuration says.
    pub(super) fn new<'a>(models: impl Iterator<Item = (&'a String, &'a config::Model)>) -> Self {
        let switch = |model: &config::Model| Switch {
            enabled: model.switch().enabled,
            substitute: model.switch().substitute.as_deref().map(Arc::from),
            choices: model.choices().unwrap_or_default().to_vec(),
        };
        let models = models.map(|(name, model)| (name.as_str().into(), switch(model))).collect();
        let mut switches = Self { models, off: BTreeMap::new() };
        switches.set(&BTreeMap::new());
        switches
    }

    /// As the administrator says, where he says something.
    pub(super) fn set(&mut self, said: &BTreeMap<String, bool>) {
        let enabled = |name: &str| {
            let here = self.models.get(name).is_some_and(|model| model.enabled);
            said.get(name).copied().unwrap_or(here)
        };
        let is_on = |name: &str, switch: &Switch| {
            enabled(name) && (switch.choices.is_empty() || switch.choices.iter().any(|choice| enabled(choice)))
        };
        let instead = |switch: &Switch| {
            let mut next = switch.substitute.as_ref();
            // The configuration has no circles; a bound all the same.
            for _ in 0..self.models.len() {
                let (name, model) = self.models.get_key_value(next?)?;
                if is_on(name, model) {
                    return Some(name.clone());
                }
                next = model.substitute.as_ref();
            }
            None
        };
        let off = self.models.iter().filter(|(name, switch)| !is_on(name, switch));
        self.off = off.map(|(name, switch)| (name.clone(), instead(switch))).collect();
    }

    /// Is it on? So is what nobody has heard of: there is another error for that.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.off.is_empty() || !self.off.contains_key(name)
    }

    /// The name itself, or who answers in its place; none where nobody does.
    pub(super) fn resolve<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self.off.get(name) {
            None => Some(name),
            Some(instead) => instead.as_deref(),
        }
    }

    /// Who would answer in its place.
    pub(super) fn substitute(&self, name: &str) -> Option<&str> {
        self.models.get(name)?.substitute.as_deref()
    }
}

/// There is no model of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoModel;

impl Gateway {
    /// Switches a model on or off, or leaves that to the configuration again, for the exchanges that begin from now on.
    ///
    /// # Errors
    /// There is no such model.
    pub fn switch(&self, model: &str, on: Option<bool>) -> Result<(), NoModel> {
        let mut switched = self.switched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = State::clone(&self.state());
        if state.models.get(model).is_none() {
            return Err(NoModel);
        }
        match on {
            Some(on) => _ = switched.insert(model.to_owned(), on),
            None => _ = switched.remove(model),
        }
        let enabled = match on {
            Some(true) => "true",
            Some(false) => "false",
            None => "as configured",
        };
        tracing::warn!(model, enabled, "a model was switched; this lasts until the next start");
        state.models.switch(&switched);
        self.state.store(Arc::new(state));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers() {
        let text = r#"
[providers.p]
kind = "openai"
endpoints = ["http://127.0.0.1:1/v1"]
[models]
a = { provider = "p", name = "a", enabled = false, substitute = "b" }
b = { provider = "p", name = "b", substitute = "c" }
c = { provider = "p", name = "c" }
alone = { provider = "p", name = "d", enabled = false }
either = { choose = ["a", "b"], substitute = "c" }
"#;
        let config = config::load_text(text, std::path::Path::new("x.toml")).unwrap().config;
        let mut switches = Switches::new(config.models.iter());
        let names = ["a", "b", "c", "alone", "either"];
        for (said, expect) in [
            (&[][..], [Some("b"), Some("b"), Some("c"), None, Some("either")]),
            (&[("b", false)], [Some("c"), Some("c"), Some("c"), None, Some("c")]),
            (&[("b", false), ("c", false)], [None, None, None, None, None]),
            (&[("a", true), ("alone", true), ("b", false)], [Some("a"), Some("c"), Some("c"), Some("alone"), Some("either")]),
        ] {
            switches.set(&said.iter().map(|(name, on)| ((*name).to_owned(), *on)).collect());
            assert_eq!(names.map(|name| switches.resolve(name)), expect, "{said:?}");
        }
    }
}
