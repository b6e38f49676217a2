//! What a virtual model's policy goes by, gathered for it: prices for this request, how soon answers have begun of late, the label of the
//! nearest example.
//!
//! What it does not do: it decides nothing (`route/policy`).
//!
//! **Invariant:** a question is embedded only where a policy asks for its kind.

use crate::dialect::openai_chat::ChatRequest;
use crate::gateway::course::Course;
use crate::gateway::models::Model;
use crate::route::policy::{self, Known, Order, Policy};

/// Tokens of an answer for which a request sets no limit.
const ANSWER: u32 = 256;
/// Bytes of a question that are embedded, as for plugins.
const QUESTION: usize = 8 << 10;

/// The order of `choices`, and why; none where their owner has no policy, or the client no preference.
pub(super) async fn of(course: &Course, request: &ChatRequest, policy: &Policy, choices: &[&Model]) -> Option<Order> {
    match policy {
        Policy::First => None,
        Policy::Specialists(rules) => {
            let nearest = nearest(course, request, &rules.examples).await;
            let names: Vec<&str> = choices.iter().map(|model| &*model.name).collect();
            Some(policy::specialists(rules, nearest.as_ref().map(|(label, score)| (&**label, *score)), &names))
        }
        Policy::Prefer { prefer, first_byte } => {
            let (what, whose) = match (prefer.fixed(), course.preference) {
                (Some(fixed), _) => (fixed, ""),
                (None, Some(preference)) => (preference.what, preference.whose),
                (None, None) => return None,
            };
            let (order, why) = policy::prefer(what, *first_byte, &known(request, choices));
            Some((order, format!("{why}{whose}")))
        }
    }
}

fn known(request: &ChatRequest, choices: &[&Model]) -> Vec<Known> {
    let (prompt, answer) = (f64::from(request.estimated_tokens()), f64::from(request.max_tokens().unwrap_or(ANSWER)));
    let known = |model: &&Model| {
        let view = model.pool.view();
        Known {
            cost: model.price.map_or(0.0, |price| price.input * prompt + price.output * answer),
            first_byte_ms: view.lately_ms,
            is_out: view.open * 2 > view.endpoints,
        }
    };
    choices.iter().map(known).collect()
}

/// The nearest label and its cosine; none where there is no question, or no vector for it.
async fn nearest(course: &Course, request: &ChatRequest, examples: &str) -> Option<(String, f32)> {
    let text = request.last_user_text()?;
    let vector = course.exchange.vector(&text[..text.floor_char_boundary(QUESTION)]).await.ok()?;
    course.exchange.state.examples.classify(examples, &vector, 1)?.into_iter().next()
}
