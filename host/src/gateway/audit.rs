//! Audits of near hits: would the stored answer have been right? Beside the exchange, never in its way.
//!
//! A near miss costs nothing more than the comparison: the fresh answer comes anyway. For a hit it is asked for once more, of the model that had given
//! the stored one, as a batch's request: whoever waits for that provider goes first.
//!
//! The judge: answers that are the same but for how they are written are the same. Of two short ones a guard may say that they are not: another
//! number, a negation, an opposite. Else their vectors say how near they are. Whatever cannot be judged is not counted.
//!
//! What it does not do: it decides nothing about what is served (`cache/trust`).
//!
//! **Invariant:** no exchange waits for an audit, and no audit's failure is an exchange's.
//! **Invariant:** an answer of an audit is stored nowhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Gateway;
use super::course::Course;
use super::exchange::Exchange;
use crate::cache::trust::Ticket;
use crate::cache::verify::Question;
use crate::cache::{Cache, Entry};
use crate::config::Priority;
use crate::dialect::answer::Answer;
use crate::dialect::openai_chat::ChatRequest;
use crate::upstream::balance::Affinity;
use crate::upstream::deadline::{self, Deadline};
use crate::upstream::provider::{Operation, upwards};
use crate::upstream::{self, Attempt, Body, Context};
use crate::vector::cosine;

/// Audits that may ask for a fresh answer at a time. One more is left out: a sample may be smaller.
static AT_ONCE: Semaphore = Semaphore::const_new(8);
/// The same of those that have theirs: what each holds is two answers and a place before the embedder.
static COMPARED: Semaphore = Semaphore::const_new(64);
/// How long a fresh answer may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Vectors of two answers to the same question are at least so near. A model that is asked twice says the same in other words.
const SAME: f32 = 0.8;
/// Answers of fewer bytes are looked at word by word: in long ones a number more or less is wording.
const SHORT: usize = 200;
/// Bytes of an answer that are embedded.
const BEGINNING: usize = 2 << 10;

/// A stored answer that somebody is to find out about.
pub(super) struct Audit {
    pub(super) entry: Arc<Entry>,
    pub(super) ticket: Ticket,
}

/// A hit that was served: asks for a fresh answer beside the exchange.
pub(super) fn hit(course: &Course, request: &Arc<ChatRequest>, audit: Audit) {
    let (Some(drain), Some(cache)) = (course.gateway.drain.get(), course.exchange.state.cache.clone()) else { return };
    let Ok(place) = AT_ONCE.try_acquire() else { return };
    let (exchange, request) = (course.exchange.clone(), request.clone());
    drain.spawn(async move {
        if let Some(fresh) = Box::pin(ask(&exchange, &cache, &request, &audit.entry.model)).await {
            report(&exchange, &cache, &audit, &fresh).await;
        }
        drop(place);
    });
}

/// A near miss whose fresh answer is there, and on its way to the client.
pub(super) fn miss(gateway: &Gateway, exchange: &Arc<Exchange>, cache: &Arc<Cache>, audit: Audit, fresh: &Arc<Answer>) {
    let (Some(drain), Ok(place)) = (gateway.drain.get(), COMPARED.try_acquire()) else { return };
    let (exchange, cache, fresh) = (exchange.clone(), cache.clone(), fresh.clone());
    drain.spawn(async move {
        report(&exchange, &cache, &audit, &fresh).await;
        drop(place);
    });
}

async fn report(exchange: &Exchange, cache: &Cache, audit: &Audit, fresh: &Answer) {
    let Some(trust) = cache.trust() else { return };
    let cached = Answer::read(audit.entry.answer.clone()).and_then(|answer| answer.text());
    let (Some(cached), Some(fresh)) = (cached, fresh.text()) else { return };
    match is_same(exchange, &cached, &fresh).await {
        Some(right) => {
            trust.audited(&audit.ticket, right);
            if !right && audit.ticket.was_served() {
                trust.was_wrong(&audit.entry);
                tracing::info!(exchange = exchange.id, entry = %audit.entry.key, "an audit has found a semantic hit that was wrong");
            }
        }
        None => trust.unjudged(),
    }
}

/// The fresh answer; none where there is none, and then nothing is known.
async fn ask(exchange: &Exchange, cache: &Cache, request: &ChatRequest, model: &str) -> Option<Answer> {
    let model = exchange.state.models.chat(model)?;
    let attempt = Attempt {
        model: model.name.clone(),
        name: model.upstream_name.clone(),
        pool: model.pool.clone(),
        body: plain(request, &model.upstream_name)?,
        affinity: Affinity::None,
        total: None,
        first_byte: None,
        after: None,
    };
    let mut headers: HeaderMap = upwards(&exchange.headers);
    // Nobody waits for it.
    headers.remove(deadline::WHOLE);
    headers.remove(deadline::FIRST_BYTE);
    let context = Context {
        id: &exchange.id,
        worker: exchange.worker,
        deadline: Deadline::new(Instant::now() + PATIENCE),
        operation: Operation::Chat,
        streamed: false,
        tenant: exchange.principal.tenant.clone(),
        priority: Priority::Batch,
        headers,
    };
    let upstream::Reply { status, body: Body::Whole(bytes), .. } = upstream::run(&attempt, &context).await.ok()? else {
        return None;
    };
    let answer = Answer::read(bytes).filter(|_| status.is_success())?;
    if let (Some(usage), Some(price), Some(trust)) = (answer.usage(), model.price, cache.trust()) {
        trust.paid(price.of(usage.into()));
    }
    answer.is_storable(request.choices()).then_some(answer)
}

/// The request, without a wish for a stream.
fn plain(request: &ChatRequest, name: &str) -> Option<Bytes> {
    Some(request.plain().ok()?.to_upstream(name, false))
}

/// Do two answers say the same? None: nobody can tell.
async fn is_same(exchange: &Exchange, cached: &str, fresh: &str) -> Option<bool> {
    if written_alike(cached, fresh) {
        return Some(true);
    }
    if cached.len().max(fresh.len()) <= SHORT && Question::new(fresh).contradicts(cached) {
        return Some(false);
    }
    let embedder = exchange.state.embedder.as_ref()?;
    let beginning = |text: &str| text[..text.floor_char_boundary(BEGINNING)].to_owned();
    let (cached, fresh) = (beginning(cached), beginning(fresh));
    let (cached, fresh) = (embedder.embed(&cached).await.ok()?, embedder.embed(&fresh).await.ok()?);
    Some(cosine(&cached, &fresh) >= SAME)
}

/// The same letters and digits in the same order, whatever stands between them; but for what makes a number another one ("1.5" and "15", "-5" and
/// "5"), and where there are none, the same signs.
fn written_alike(a: &str, b: &str) -> bool {
    let letters = |text: &str| -> String {
        let followed = text.chars().zip(text.chars().skip(1).map(Some).chain([None]));
        let is_digit = |next: Option<char>| next.is_some_and(|next| next.is_ascii_digit());
        let counts = |sign: char, next| sign.is_alphanumeric() || (!sign.is_whitespace() && is_digit(next));
        followed.filter(|(sign, next)| counts(*sign, *next)).flat_map(|(sign, _)| sign.to_lowercase()).collect()
    };
    let (of_a, of_b) = (letters(a), letters(b));
    of_a == of_b && (!of_a.is_empty() || a.trim() == b.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wording_of_marks_does_not_matter() {
        for (a, b, expect) in [
            ("Paris.", "paris", true),
            ("**Paris**\n", " Paris!", true),
            ("It is 12.", "It is 13.", false),
            ("It is 1.5 kg.", "It is 15 kg.", false),
            ("It is -5.", "It is 5!", false),
            ("👍", "👎", false),
            ("👍", " 👍\n", true),
            ("", "...", false),
        ] {
            assert_eq!(written_alike(a, b), expect, "{a} {b}");
        }
    }

    #[test]
    fn the_request_of_an_audit_is_not_streamed() {
        let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}],"seed":1}"#;
        let request = ChatRequest::parse(Bytes::from_static(body.as_bytes())).unwrap();
        let plain: serde_json::Value = serde_json::from_slice(&plain(&request, "n").unwrap()).unwrap();
        assert_eq!((plain.get("stream"), plain.get("stream_options")), (None, None));
        assert_eq!((&plain["model"], &plain["seed"]), (&"n".into(), &1.into()));
    }
}
