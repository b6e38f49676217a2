//! A plugin's decision in words: to be compared, counted by kind, and shown to an administrator.
//!
//! What it does not do: it shows no text of a client's. What a plugin writes into a request or a key may be one; it is shown as a digest.
//!
//! **Invariant:** two decisions with the same words are the same decision.

use std::fmt::Debug;

use crate::plugin::bindings::{caching, prompting, routing};

/// Bytes of the words that are kept.
const MAX_WORDS: usize = 512;

/// A decision in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What counts as the same kind: `pass`, `plan small`, `reject 429`, `failed`.
    pub kind: String,
    /// All of it.
    pub words: String,
}

impl Told {
    fn new(kind: impl Into<String>, words: String) -> Self {
        let kind = kind.into();
        // What is cut is told apart all the same.
        let words = match words.len() {
            ..=MAX_WORDS => words,
            _ => format!("{}… {}", &words[..words.floor_char_boundary(MAX_WORDS)], digest(&words)),
        };
        Self { kind, words }
    }

    /// No decision, because of this.
    pub fn failed(cause: &str) -> Self {
        Self::new(format!("failed: {cause}"), String::new())
    }
}

/// What can be told.
pub trait Tell {
    /// It in words.
    fn told(&self) -> Told;
}

impl Tell for routing::Decision {
    fn told(&self) -> Told {
        let kind = match self {
            Self::Pass => "pass".to_owned(),
            Self::Reject(rejection) => format!("reject {}", rejection.status),
            Self::Observe(_) => "observe".to_owned(),
            Self::Plan(plan) => format!("plan {:.64}", plan.targets.first().map_or("", |target| &target.model)),
        };
        Told::new(kind, format!("{self:?}"))
    }
}

impl Tell for routing::NextStep {
    fn told(&self) -> Told {
        let kind = match self {
            Self::Accept => "accept".to_owned(),
            Self::FallBack => "fall back".to_owned(),
            Self::Again(_) => "again".to_owned(),
            Self::Escalate(target) => format!("escalate {:.64}", target.model),
            Self::Reject(rejection) => format!("reject {}", rejection.status),
        };
        Told::new(kind, format!("{self:?}"))
    }
}

impl Tell for prompting::Outcome {
    fn told(&self) -> Told {
        let prompt = |choice: &prompting::PromptChoice| {
            format!("{:.64}@{:.64}", choice.prompt.name, choice.prompt.version.as_deref().unwrap_or("-"))
        };
        match self {
            Self::Pass => Told::new("pass", String::new()),
            Self::Reject(rejection) => Told::new(format!("reject {}", rejection.status), format!("{rejection:?}")),
            Self::Choose(choice) => Told::new(format!("choose {}", prompt(choice)), format!("{choice:?}")),
            Self::Rewrite(rewrite) => {
                let choice = rewrite.choice.as_ref().map_or_else(|| "no prompt".to_owned(), prompt);
                let words = format!("{:?}, {} edits, digest {}", rewrite.choice, rewrite.edits.len(), digest(&rewrite.edits));
                Told::new(format!("rewrite, {choice}"), words)
            }
        }
    }
}

impl Tell for caching::Directive {
    fn told(&self) -> Told {
        let (kind, key) = match self {
            Self::Pass => ("pass", None),
            Self::Bypass => ("bypass", None),
            Self::Key(key) => ("key", Some(key)),
            Self::ReadOnly(key) => ("read-only", Some(key)),
            Self::Refresh(key) => ("refresh", Some(key)),
        };
        let words = key.map(|key| {
            let near = key.semantic.as_ref().map(digest);
            let exact = key.exact.as_ref().map(digest);
            format!(
                "{:?}, exact {exact:?}, near {near:?}, ttl {:?} ms, generation {:?}, admit {}",
                key.scope, key.ttl_ms, key.generation, key.admit
            )
        });
        Told::new(kind, words.unwrap_or_default())
    }
}

impl Tell for caching::Verdict {
    fn told(&self) -> Told {
        let kind = match self {
            Self::Serve => "serve",
            Self::Veto => "veto",
            Self::Evict => "evict",
        };
        Told::new(kind, String::new())
    }
}

/// What may be kept, and for how many milliseconds.
impl Tell for Option<u32> {
    fn told(&self) -> Told {
        match self {
            Some(ms) => Told::new("keep", format!("{ms} ms")),
            None => Told::new("keep not", String::new()),
        }
    }
}

/// Stands for a text that is not to be shown.
fn digest(what: &impl Debug) -> String {
    blake3::hash(format!("{what:?}").as_bytes()).to_hex()[..12].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::bindings::types::{PromptRef, Rejection, Target};

    fn plan(models: &[&str], reason: &str) -> routing::Decision {
        let target = |model: &&str| Target { model: (*model).to_owned(), timeout_ms: None, first_byte_timeout_ms: None };
        routing::Decision::Plan(routing::Plan {
            targets: models.iter().map(target).collect(),
            headers: vec![],
            reason: reason.to_owned(),
            labels: vec![],
            review: None,
            observe: None,
        })
    }

    #[test]
    fn kinds_and_words() {
        assert_eq!(plan(&["small", "large"], "x").told().kind, "plan small");
        assert_ne!(plan(&["small", "large"], "x").told(), plan(&["small"], "x").told());
        assert_ne!(plan(&["small"], "x").told(), plan(&["small"], "y").told());
        let long = "x".repeat(4_000);
        let told = plan(&["small"], &long).told();
        assert!(told.words.len() < 600 && told != plan(&["small"], &format!("{long}y")).told());
        let rejection = Rejection { status: 429, code: "slow".into(), message: "m".into(), retry_after_ms: None };
        assert_eq!(routing::Decision::Reject(rejection).told().kind, "reject 429");
    }

    #[test]
    fn texts_are_not_shown() {
        let rewrite = |text: &str| {
            let edits = vec![prompting::Edit::ReplaceSystem(text.to_owned())];
            let prompt = PromptRef { name: "greet".into(), version: None };
            let choice = prompting::PromptChoice { prompt, labels: vec![], experiment: None };
            prompting::Outcome::Rewrite(prompting::Rewrite { choice: Some(choice), edits }).told()
        };
        let told = rewrite("my secret");
        assert!(!format!("{told:?}").contains("secret"), "{told:?}");
        assert_eq!(told.kind, "rewrite, greet@-");
        assert!(told != rewrite("another") && told == rewrite("my secret"));
    }
}
