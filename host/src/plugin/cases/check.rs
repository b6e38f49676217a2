//! What a type cannot say of a file of cases: what does not go together, and what the component does not have.
//!
//! What it does not do: it runs nothing.
//!
//! **Invariant:** a case without a finding can be asked.

use std::collections::HashSet;

use super::file::{Call, Case, CaseFile, Given};
use super::stand_in::{StandIn, allowed};
use crate::config::Finding;
use crate::plugin::inspect::Inspection;
use crate::plugin::load::Hook;

impl Call {
    /// The hook whose function it is; none: every plugin has it.
    pub(super) fn hook(self) -> Option<Hook> {
        match self {
            Self::Route | Self::AfterAttempt | Self::OnChunk => Some(Hook::Routing),
            Self::Select => Some(Hook::Prompting),
            Self::Key | Self::Confirm | Self::Admit => Some(Hook::Caching),
            Self::Check => None,
        }
    }
}

/// All that is wrong.
pub(super) fn check(file: &CaseFile, inspection: &Inspection) -> Vec<Finding> {
    let mut found = Vec::new();
    if file.cases.is_empty() {
        found.push(Finding::new(&["case"], "there is none", "write [[case]] with a `name`, a `hook` and what to `expect`"));
    }
    let mut names = HashSet::new();
    for (index, case) in file.cases.iter().enumerate() {
        let place = format!("[{index}]");
        let mut wrong = |key: &[&str], reason: String, remedy: &str| {
            let mut path = vec!["case", place.as_str()];
            path.extend(key);
            found.push(Finding::new(&path, reason, remedy));
        };
        if !names.insert(case.name.as_str()) {
            wrong(&["name"], format!("there are two cases `{}`", case.name), "give each a name of its own");
        }
        if let Some(hook) = case.hook.hook().map(Hook::name).filter(|hook| !inspection.hooks.iter().any(|own| own == hook)) {
            let has = inspection.hooks.join(", ");
            wrong(&["hook"], format!("the component has no hook `{hook}`"), &format!("it has {has}"));
        } else if !case.expect.fits(case.hook) {
            wrong(&["expect"], "this hook does not decide that".to_owned(), &format!("write one of {}", case.hook.answers()));
        }
        for (key, reason, remedy) in parts(case, &case.given.over(&file.given)) {
            wrong(&key, reason, remedy);
        }
    }
    found
}

type Wrong = (Vec<&'static str>, String, &'static str);

/// What is given to one call.
fn parts(case: &Case, given: &Given) -> Vec<Wrong> {
    let mut found: Vec<Wrong> = Vec::new();
    if given.request.message.is_some() && given.request.messages.is_some() {
        found.push((vec!["given", "request"], "has both `message` and `messages`".to_owned(), "write one of them"));
    }
    if given.answer.as_ref().is_some_and(|answer| answer.text.is_some() && answer.body.is_some()) {
        found.push((vec!["given", "answer"], "has both `text` and `body`".to_owned(), "write one of them"));
    }
    if given.batch.as_ref().is_some_and(|batch| batch.texts.is_some() && batch.events.is_some()) {
        found.push((vec!["given", "batch"], "has both `texts` and `events`".to_owned(), "write one of them"));
    }
    for url in given.services.keys() {
        if let Err(wrong) = allowed(url) {
            found.push((
                vec!["given", "services"],
                format!("`{url}` {wrong}"),
                "write a URL such as \"https://prices.example.com/v1/list\"",
            ));
        }
    }
    let has_failed = given.attempt.as_ref().is_some_and(|attempt| attempt.failure.is_some());
    match case.hook {
        Call::AfterAttempt if given.answer.is_none() && !has_failed => {
            found.push((
                vec!["given"],
                "says neither what was answered nor what failed".to_owned(),
                "add `answer = { text = \"…\" }`, or `attempt.failure`",
            ));
        }
        Call::AfterAttempt if given.answer.is_some() && has_failed => {
            found.push((vec!["given"], "has both an answer and a failure".to_owned(), "write one of them"));
        }
        Call::OnChunk if given.batch.is_none() => {
            found.push((vec!["given"], "has no part of an answer".to_owned(), "add `batch = { texts = [\"…\"] }`"));
        }
        Call::Admit if given.answer.is_none() => {
            found.push((vec!["given"], "has no answer".to_owned(), "add `answer = { text = \"…\" }`"));
        }
        Call::Confirm if given.hit.is_none() => {
            found.push((vec!["given"], "has no near hit".to_owned(), "add `hit = { text = \"…\", answer = \"…\" }`"));
        }
        _ => {}
    }
    match StandIn::new(given.clone()) {
        Err(reason) => found.push((vec!["given", "request", "headers"], reason, "write a header's name and its value")),
        Ok(stand_in) => {
            if let Err(reason) = stand_in.request() {
                found.push((vec!["given", "request"], reason, "write a request as OpenAI's API has it"));
            }
        }
    }
    found
}
