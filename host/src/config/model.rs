//! `[models.NAME]`: what a client may ask for. One table has two shapes, which one flat TOML table cannot tell apart by a tag:
//! a concrete model names its provider, a virtual one the models to choose among.
//!
//! Does not check that the names refer to something: `validate` does.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::BUILT_IN;
use super::cascade::Cascade;
use super::policy::{Prefer, Specialists};
use super::unit::{Duration, Wrong};

/// What a client may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "ModelTable", into = "ModelTable")]
pub enum Model {
    /// One model of one provider.
    Concrete(ConcreteModel),
    /// A name for several, of which a routing plugin chooses one.
    Virtual(VirtualModel),
}

/// One model of one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcreteModel {
    /// The entry of `[providers]`, or [`BUILT_IN`].
    pub provider: String,
    /// The provider's name for it.
    pub name: String,
    /// What it costs. `None`: unknown, counted as nothing.
    pub price: Option<Price>,
    /// What it does.
    pub kind: ModelKind,
    /// The models that answer where it does not, in this order.
    pub fallback: Vec<String>,
    /// Whether it answers at all.
    pub switch: Switch,
}

impl ConcreteModel {
    /// Whether an embedder inside pointsman answers, and no upstream.
    pub fn is_built_in(&self) -> bool {
        self.provider == BUILT_IN
    }
}

/// A name for several models.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualModel {
    /// Concrete models, at least one. Without a routing plugin's choice the first.
    pub choose: Vec<String>,
    /// Without a plugin's choice they answer in this order until one answers well enough.
    pub cascade: Option<Cascade>,
    /// A model for each kind of question.
    pub specialists: Option<Specialists>,
    /// By what else the choice is made.
    pub prefer: Option<Prefer>,
    /// How soon an answer is to begin where the cheapest model is preferred.
    pub first_byte: Option<Duration>,
    /// Whether it answers at all.
    pub switch: Switch,
}

/// On or off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// It answers.
    pub enabled: bool,
    /// The model that answers in its place where it does not.
    pub substitute: Option<String>,
}

/// USD per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// USD per million tokens of input.
    pub input: f64,
    /// USD per million tokens of output. Default 0 (embeddings have none).
    #[serde(default)]
    pub output: f64,
    /// USD per million tokens of input that the provider had cached. Default: as `input`.
    #[serde(default)]
    pub cached_input: Option<f64>,
}

/// What a model does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// It answers a conversation.
    #[default]
    Chat,
    /// It turns text into vectors.
    Embedding,
}

impl Model {
    /// The concrete model, or `None` for a virtual one.
    pub fn concrete(&self) -> Option<&ConcreteModel> {
        match self {
            Self::Concrete(model) => Some(model),
            Self::Virtual(_) => None,
        }
    }

    /// Whether it is on, and who takes its place.
    pub fn switch(&self) -> &Switch {
        match self {
            Self::Concrete(model) => &model.switch,
            Self::Virtual(model) => &model.switch,
        }
    }

    /// The names to choose among, or `None` for a concrete model.
    pub fn choices(&self) -> Option<&[String]> {
        match self {
            Self::Concrete(_) => None,
            Self::Virtual(model) => Some(&model.choose),
        }
    }
}

/// A model: either `provider` and `name`, or `choose`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct ModelTable {
    /// The entry of `[providers]` that answers, or `built-in` for an embedder inside pointsman.
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// The provider's name for the model. With `provider = "built-in"` the embedder: absent for the model inside pointsman, or `minilm`, another that
    /// is installed, or an entry of `[embedders]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// USD per million tokens. Absent: unknown, counted as nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<Price>,
    /// What the model does. Default chat, or embedding with `provider = "built-in"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<ModelKind>,
    /// Models that answer where no endpoint of this one does, in this order; their own `fallback` does not count. A
    /// key that may not ask for a model is not answered by it either. Answers of theirs are not cached. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<Vec<String>>,
    /// A virtual model: the concrete models that routing plugins choose among. Without a choice the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    choose: Option<Vec<String>>,
    /// Of a virtual model: without a plugin's choice its models are asked in the order of `choose`, and an answer that these rules
    /// doubt is dropped for the next one's. The last one's is not judged. Absent: the first one answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    cascade: Option<Cascade>,
    /// Whether the model answers. False: requests for it go to its `substitute`, and without one it is as if it were not there; a
    /// choice that is off is not chosen. The admin API can say otherwise until the next start. Default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    /// The chat model that answers in its place while it is off, and, where that one is cheaper, while its provider is degraded to
    /// `small`. A key that may not ask for a model is not answered by it either. Absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    substitute: Option<String>,
    /// Of a virtual model: without a plugin's choice the kind of the question chooses. The others of `choose` follow where it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    specialists: Option<Specialists>,
    /// Of a virtual model: by what the choice is made without a plugin's. `choose` is then in order from the smallest model to the best;
    /// those that are not chosen follow where the chosen one fails. Absent: the first answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    prefer: Option<Prefer>,
    /// With `prefer = "cost"` or `"client"`: the cheapest model is one whose answers have begun within this time of late, or of which nothing
    /// is known; if there is none, the quickest. Absent: whatever the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte: Option<Duration>,
}

impl TryFrom<ModelTable> for Model {
    type Error = Wrong;

    fn try_from(table: ModelTable) -> Result<Self, Wrong> {
        let ModelTable {
            provider,
            name,
            price,
            kind,
            fallback,
            choose,
            cascade,
            specialists,
            prefer,
            first_byte,
            enabled,
            substitute,
        } = table;
        let switch = Switch { enabled: enabled.unwrap_or(true), substitute };
        match (choose, provider) {
            (Some(choose), None) if name.is_none() && price.is_none() && kind.is_none() && fallback.is_none() => {
                Ok(Self::Virtual(VirtualModel { choose, cascade, specialists, prefer, first_byte, switch }))
            }
            (Some(_), _) => Err(Wrong::new(
                "a model that has `choose` is virtual and has nothing else but what says how the choice is made, `enabled` and `substitute`",
                "leave only those, or remove `choose` and keep `provider` and `name`",
            )),
            (None, _) if cascade.is_some() => Err(Wrong::new(
                "`cascade` is for a virtual model",
                "move it to one that has `choose`, first the small model, last the large one",
            )),
            (None, _) if specialists.is_some() || prefer.is_some() || first_byte.is_some() => Err(Wrong::new(
                "`specialists`, `prefer` and `first_byte` are for a virtual model",
                "move them to one that has `choose`, first the smallest model, last the best",
            )),
            (None, Some(provider)) => {
                let built_in = provider == BUILT_IN;
                let name = match name {
                    Some(name) => name,
                    None if built_in => BUILT_IN.to_owned(),
                    None => {
                        return Err(Wrong::new("`name` is missing", "add `name = \"…\"`, the provider's name for the model"));
                    }
                };
                let kind = kind.unwrap_or(if built_in { ModelKind::Embedding } else { ModelKind::Chat });
                let fallback = fallback.unwrap_or_default();
                Ok(Self::Concrete(ConcreteModel { provider, name, price, kind, fallback, switch }))
            }
            (None, None) => Err(Wrong::new(
                "`provider` is missing",
                "add `provider = \"…\"` and `name = \"…\"`, or `choose = [\"…\"]` for a virtual model",
            )),
        }
    }
}

impl From<Model> for ModelTable {
    fn from(model: Model) -> Self {
        let Switch { enabled, substitute } = model.switch().clone();
        let enabled = (!enabled).then_some(false);
        match model {
            Model::Concrete(ConcreteModel { provider, name, price, kind, fallback, switch: _ }) => Self {
                provider: Some(provider),
                name: Some(name),
                price,
                kind: Some(kind),
                fallback: (!fallback.is_empty()).then_some(fallback),
                enabled,
                substitute,
                ..Self::default()
            },
            Model::Virtual(VirtualModel { choose, cascade, specialists, prefer, first_byte, switch: _ }) => {
                Self { choose: Some(choose), cascade, specialists, prefer, first_byte, enabled, substitute, ..Self::default() }
            }
        }
    }
}
