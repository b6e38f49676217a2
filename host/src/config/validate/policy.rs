//! Checks of `prefer`, `specialists` and `first_byte` of a virtual model.
//!
//! Does not check `choose` and `cascade`: `upstream` does.

use super::Check;
use crate::config::{Model, Prefer, Specialists, VirtualModel, suggest};

impl Check<'_> {
    pub(super) fn policy(&mut self, name: &str, model: &VirtualModel) {
        let ways = [
            ("cascade", model.cascade.is_some()),
            ("specialists", model.specialists.is_some()),
            ("prefer", model.prefer.is_some()),
        ];
        let mut said = ways.iter().filter(|(_, is_there)| *is_there).map(|(way, _)| *way);
        if let (Some(first), Some(second)) = (said.next(), said.next()) {
            self.name_error(
                &["models", name, second],
                format!("`{first}` says already in which order the models are asked"),
                format!("remove one of `{first}` and `{second}`, or give it to a virtual model of its own"),
            );
        }
        if let Some(specialists) = &model.specialists {
            self.specialists(name, model, specialists);
        }
        if let Some(first_byte) = model.first_byte {
            let path = ["models", name, "first_byte"];
            self.not_zero(&path, first_byte.is_zero(), "\"800ms\"");
            if !matches!(model.prefer, Some(Prefer::Cost | Prefer::Client)) {
                self.name_error(
                    &path,
                    "this bounds the choice of the cheapest model, which nobody asks for",
                    "write `prefer = \"cost\"` beside it, or remove it",
                );
            }
        }
        if matches!(model.prefer, Some(Prefer::Cost | Prefer::Client)) {
            self.prices(name, model);
        }
    }

    fn specialists(&mut self, name: &str, model: &VirtualModel, specialists: &Specialists) {
        let Specialists { examples, models, min_score } = specialists;
        let path = |field| ["models", name, "specialists", field];
        if !(0.0..=1.0).contains(min_score) {
            self.error(&path("min_score"), "a likeness is from 0 to 1", "write one such as 0.3");
        }
        if models.is_empty() && self.document.names(&path("models")).is_empty() {
            self.error(&path("models"), "there is no specialist", "write at least one, such as { code = \"coder\" }");
        }
        let known = self.exists("examples", examples, &path("examples"));
        for (label, specialist) in models {
            let place = ["models", name, "specialists", "models", label];
            if known && !self.document.has(&["examples", examples, label]) {
                let labels = self.document.names(&["examples", examples]);
                let remedy = format!("add examples of it, or {}", suggest::choice(label, &labels));
                self.name_error(&place, format!("[examples.{examples}] has no label {label:?}"), remedy);
            }
            if !model.choose.contains(specialist) {
                let choices: Vec<&str> = model.choose.iter().map(String::as_str).collect();
                let remedy = format!("add it to `choose`, or {}", suggest::choice(specialist, &choices));
                self.error(&place, format!("{specialist:?} is not one of `choose`"), remedy);
            }
        }
    }

    /// A model without a price costs nothing, and so is the cheapest.
    fn prices(&mut self, name: &str, model: &VirtualModel) {
        for choice in &model.choose {
            let priceless = self.config.models.get(choice).and_then(Model::concrete).is_some_and(|choice| choice.price.is_none());
            if priceless {
                self.warning(
                    &["models", name, "prefer"],
                    format!("{choice:?} has no `price`, so it counts as the cheapest"),
                    "write its price, or `price = { input = 0 }` where it costs nothing",
                );
            }
        }
    }
}
