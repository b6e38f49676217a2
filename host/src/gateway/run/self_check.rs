//! A model is asked whether an answer is good.
//!
//! **Invariant:** whoever cannot say so does not say no: a check that fails lets the answer pass.

use serde_json::json;

use crate::config::SelfCheck;
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::dialect::tokens;
use crate::gateway::course::Course;
use crate::route::judge::Doubt;
use crate::upstream::balance::Affinity;
use crate::upstream::{self, Attempt, Body, Context};

/// Tokens of the check's own answer. It is to say one word.
const MAX_TOKENS: u32 = 8;

/// What the model says; none where it does not.
pub(super) async fn ask(
    course: &mut Course,
    context: &Context<'_>,
    check: &SelfCheck,
    request: &ChatRequest,
    answer: &str,
) -> Option<Option<Doubt>> {
    let exchange = course.exchange.clone();
    let model = exchange.state.models.chat(&check.model)?;
    // The answer last: what it says of `{question}` stays as it is.
    let (before, after) = check.ask.split_once("{answer}")?;
    let question = request.last_user_text().unwrap_or_default();
    let asked = [&before.replace("{question}", question), answer, &after.replace("{question}", question)].concat();
    let body = json!({
        "model": &*model.upstream_name,
        "messages": [{ "role": "user", "content": &asked }],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    });
    let attempt = Attempt {
        model: model.name.clone(),
        name: model.upstream_name.clone(),
        pool: model.pool.clone(),
        body: body.to_string().into(),
        affinity: Affinity::None,
        total: Some(check.timeout.get()),
        first_byte: None,
        after: None,
    };
    let context = Context { streamed: false, headers: context.headers.clone(), tenant: context.tenant.clone(), ..*context };
    let reply = upstream::run(&attempt, &context).await;
    if reply.as_ref().is_ok_and(|reply| reply.cancelled) {
        course.overtaken(&model.name, tokens::estimate(asked.len()).into());
    }
    let said = match reply {
        Ok(upstream::Reply { status, body: Body::Whole(bytes), .. }) if status.is_success() => Answer::read(bytes),
        _ => None,
    };
    let Some(said) = said else {
        tracing::warn!(
            exchange = exchange.id,
            model = &*model.name,
            "the self-check gave no answer; what it was to judge passes"
        );
        return None;
    };
    if let Some(usage) = said.usage() {
        course.discard(&model.name, usage.into());
    }
    Some((!is_yes(&said.text().unwrap_or_default())).then_some(Doubt::SelfCheck))
}

/// Is its first word yes? Models write it as they write all else: `**Yes**`, "yes", - Yes.
fn is_yes(said: &str) -> bool {
    let said = said.trim_start_matches(|letter: char| !letter.is_alphanumeric());
    said.split(|letter: char| !letter.is_alphanumeric()).next().is_some_and(|word| word.eq_ignore_ascii_case("yes"))
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    /// `**Yes**` counted as no, and the larger model was asked for nothing.
    #[test]
    fn yes_is_yes_however_it_is_written() {
        for (said, expect) in [
            ("yes", true),
            (" Yes.", true),
            ("**Yes**", true),
            ("\"YES\", it does", true),
            ("- yes", true),
            ("> **Yes, but", true),
            ("Yesterday", false),
            ("No, not yes", false),
            ("**No**", false),
            ("", false),
            ("\u{2026}", false),
        ] {
            assert_eq!(is_yes(said), expect, "{said}");
        }
    }
}
