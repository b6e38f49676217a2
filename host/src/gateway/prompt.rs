//! The stage `prompt`: which version of which prompt, rendered into the request; and what else a plugin changes in it.
//!
//! What it does not do: it knows no template (`prompt`) and edits no bytes (`dialect`).
//!
//! **Invariant:** a request without a prompt and without an opinion of a plugin leaves as it came, bytes and all.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::course::Course;
use super::fragments::Part;
use crate::dialect::openai_chat::{ChatRequest, Edit};
use crate::error::{Error, Kind};
use crate::plugin::Plugin;
use crate::plugin::bindings::prompting::{self, Outcome};
use crate::plugin::bindings::types::{PromptRef, Rejection, Role};
use crate::plugin::load::Hook;
use crate::prompt::{self, Messages, PromptError, Rendered};

/// The field whose values a prompt is made with.
const VARIABLES: &str = "prompt.variables";

/// Bytes of the requests for all parts of a prompt. Where they would be more, it is asked as a whole.
const MAX_PARTS: usize = 4 << 20;

/// What is to become of the request.
struct Wish {
    prompt: Option<PromptRef>,
    edits: Vec<Edit>,
    labels: Vec<(String, String)>,
    /// The plugin whose wish it is; none: the client's own.
    by: Option<Arc<Plugin>>,
    /// The plugin may bring the text itself, under a name that the registry does not know.
    may_be_unknown: bool,
}

pub(super) async fn stage(course: &mut Course, request: Arc<ChatRequest>) -> Result<Arc<ChatRequest>, Error> {
    let asked = request.prompt().map(|prompt| PromptRef { name: prompt.id.clone(), version: prompt.version.clone() });
    let mut is_to_be_asked = true;
    while is_to_be_asked {
        is_to_be_asked = false;
        let said = match &mut course.session {
            Some(session) if course.exchange.state.plugins.has(Hook::Prompting) => session.select(&request).await?,
            _ => None,
        };
        if let Some(said) = said.as_ref().filter(|said| matches!(said.what, Outcome::Reject(_))) {
            course.decided(&said.by, Vec::new());
        }
        let Some(wish) = said.map(|said| wish(said.by, said.what, asked.as_ref())).transpose()? else { break };
        match fulfil(course, &request, &wish) {
            Ok(edited) => {
                if let Some(by) = &wish.by {
                    course.record.rewritten = !Arc::ptr_eq(&edited, &request);
                    course.decided(by, wish.labels);
                }
                return Ok(edited);
            }
            // What does not fit the request is the plugin's failure, and falls through like any other.
            Err(reason) if !is_the_clients(&reason, &wish, asked.as_ref()) => {
                if let (Some(session), Some(by)) = (&mut course.session, &wish.by) {
                    is_to_be_asked = session.unfit(by, Hook::Prompting, reason.message())?;
                }
            }
            Err(error) => return Err(error),
        }
    }
    fulfil(course, &request, &Wish { prompt: asked, edits: Vec::new(), labels: Vec::new(), by: None, may_be_unknown: false })
}

/// Is it the client whose prompt there is not, or whose variables do not fit?
fn is_the_clients(reason: &Error, wish: &Wish, asked: Option<&PromptRef>) -> bool {
    let names = |prompt: &PromptRef| (prompt.name.clone(), prompt.version.clone());
    let is_asked = wish.prompt.is_some() && wish.prompt.as_ref().map(names) == asked.map(names);
    is_asked && (reason.kind() == Kind::PromptNotFound || reason.param() == Some(VARIABLES))
}

/// A plugin's outcome as a wish.
fn wish(by: Arc<Plugin>, outcome: Outcome, asked: Option<&PromptRef>) -> Result<Wish, Error> {
    let may_be_unknown = matches!(outcome, Outcome::Rewrite(_));
    let (choice, edits) = match outcome {
        Outcome::Pass => {
            return Ok(Wish { prompt: asked.cloned(), edits: Vec::new(), labels: Vec::new(), by: None, may_be_unknown: false });
        }
        Outcome::Reject(rejection) => return Err(rejected(&by, rejection)),
        Outcome::Choose(choice) => (Some(choice), Vec::new()),
        Outcome::Rewrite(rewrite) => (rewrite.choice, rewrite.edits.into_iter().map(edit).collect()),
    };
    let Some(choice) = choice else {
        // The prompt is the client's own wish then, and so is an error in it.
        return Ok(Wish { prompt: asked.cloned(), edits, labels: Vec::new(), by: Some(by), may_be_unknown: false });
    };
    let mut labels = choice.labels;
    if let Some((experiment, arm)) = choice.experiment {
        labels.extend([("experiment".to_owned(), experiment), ("arm".to_owned(), arm)]);
    }
    Ok(Wish { prompt: Some(choice.prompt), edits, labels, by: Some(by), may_be_unknown })
}

/// The request as it is wished to be.
fn fulfil(course: &mut Course, request: &Arc<ChatRequest>, wish: &Wish) -> Result<Arc<ChatRequest>, Error> {
    // A plugin's edits count the messages that it saw; the prompt's own come before them.
    let mut edits = Cow::Borrowed(&*wish.edits);
    let rendered = wish.prompt.as_ref().map(|prompt| render(course, request, prompt, wish.may_be_unknown)).transpose()?;
    let mut fragments = Vec::new();
    if let Some(Rendered { messages, parts, .. }) = rendered.flatten() {
        fragments = parts;
        edits.to_mut().extend(put_before(messages));
    }
    if edits.is_empty() && request.prompt().is_none() {
        return Ok(request.clone());
    }
    let edited = Arc::new(request.edit(&edits)?);
    // Each part has the whole request but for the other parts.
    if fragments.len() * edited.bytes().len() <= MAX_PARTS {
        let part = |prompt::Part { name, messages }| {
            let edits: Vec<_> = wish.edits.iter().cloned().chain(put_before(messages)).collect();
            Ok(Part { name, request: request.edit(&edits)?.plain()? })
        };
        course.parts = fragments.into_iter().map(part).collect::<Result<_, Error>>()?;
    }
    Ok(edited)
}

/// Messages before the client's own. Each is put before all others, so the last goes first.
fn put_before(messages: Messages) -> impl Iterator<Item = Edit> {
    messages.into_iter().rev().map(|(role, text)| Edit::Prepend { role, text })
}

/// A prompt with its variables in place; none where the plugin brings the text itself.
fn render(
    course: &mut Course,
    request: &ChatRequest,
    prompt: &PromptRef,
    may_be_unknown: bool,
) -> Result<Option<Rendered>, Error> {
    let registry = course.exchange.state.prompts.clone();
    let is_known = registry.as_ref().is_some_and(|registry| registry.has(&prompt.name));
    if may_be_unknown && !is_known {
        // The name is for the record.
        note(course, &prompt.name, prompt.version.as_deref().unwrap_or("-"));
        return Ok(None);
    }
    let Some(registry) = registry else {
        let message = format!(
            "There is no prompt `{:.64}`: this pointsman has no prompts. Its owner can add `[prompts]` with `path`.",
            prompt.name
        );
        return Err(Error::downstream(Kind::PromptNotFound, message).about("prompt.id"));
    };
    let none = serde_json::Map::new();
    let variables = request.prompt().and_then(|asked| asked.variables.as_ref()).unwrap_or(&none);
    let rendered = registry.render(&prompt.name, prompt.version.as_deref(), variables).map_err(|error| match error {
        PromptError::Unknown(reason) => {
            Error::downstream(Kind::PromptNotFound, reason).about(if is_known { "prompt.version" } else { "prompt.id" })
        }
        PromptError::Failed(reason) => Error::bad_request(Some(VARIABLES.to_owned()), format!("{reason}.")),
    })?;
    note(course, &rendered.name, &rendered.version);
    Ok(Some(rendered))
}

fn note(course: &mut Course, name: &str, version: &str) {
    course.record.prompt = Some(format!("{name}@{version}"));
    if let Some(session) = &mut course.session {
        session.set_prompt(name, version);
    }
}

fn edit(edit: prompting::Edit) -> Edit {
    match edit {
        prompting::Edit::Prepend(message) => Edit::Prepend { role: role(message.role), text: message.text },
        prompting::Edit::Append(message) => Edit::Append { role: role(message.role), text: message.text },
        prompting::Edit::ReplaceSystem(text) => Edit::ReplaceSystem(text),
        prompting::Edit::Replace((index, text)) => Edit::ReplaceText(index, text),
        prompting::Edit::Remove(index) => Edit::Remove(index),
        prompting::Edit::SetParameter((name, value)) => Edit::SetParameter(name, value),
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::Developer => "developer",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    }
}

/// A plugin's refusal, for the client.
pub(super) fn rejected(by: &Plugin, rejection: Rejection) -> Error {
    by.numbers.rejections.add(1);
    let after = rejection.retry_after_ms.map(|ms| Duration::from_millis(u64::from(ms)));
    Error::rejected(by.name(), rejection.status, &rejection.code, &rejection.message, after)
}
