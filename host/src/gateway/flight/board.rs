//! The stage `flight`: who waits for the answer that an equal request is getting just now, and who leads.
//!
//! It comes where the plan would be made: so whoever follows is asked for nothing by plugins that route, as on a hit, and uses nothing
//! upstream.
//!
//! What it does not do: it looks nothing up, but for a leader who may have come a moment too late.
//!
//! **Invariant:** each follower keeps to his own time, whatever the leader's is.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::timeout_at;

use super::listener::Begun;
use super::{Board, Flight, Head, Instead, Listener, Seat, nodes};
use crate::cache::flight::{Form, Found};
use crate::cache::tier::Name;
use crate::cache::{Cache, ExactKey};
use crate::dialect::openai_chat::ChatRequest;
use crate::error::{Error, Kind, Source};
use crate::gateway::course::Course;
use crate::gateway::fill;
use crate::gateway::key::{self, Keys};
use crate::gateway::reply::{self, Reply};
use crate::record::{CacheOutcome, Stage};

/// How often somebody looks for a flight. One that broke off, or came to nothing that can be given to him, is not the last.
const LOOKS: u32 = 3;

/// What becomes of a request that the cache has nothing for.
pub(in crate::gateway) enum Boarded {
    /// It has its answer.
    Answered(Reply),
    /// It asks, and others may wait for it.
    Leads(Seat),
    /// It asks for itself.
    Alone,
}

/// The form in which a request's answer can be shared; none where it cannot.
fn form(request: &ChatRequest, keys: &Keys, cache: &Cache) -> Option<Form> {
    let may_be = cache.has_flights() && keys.look_up && keys.store && !keys.admit;
    // A call of a tool acts on the world, for each who has asked for it. Whether one comes is known at the end.
    if !may_be || request.has_tools() {
        return None;
    }
    match request.stream() {
        false => Some(Form::Plain),
        true if request.has_other_stream_options() => None,
        true => Some(Form::Stream { usage: request.include_usage() }),
    }
}

/// # Errors
/// When his time is over before the answer that he waits for has begun.
pub(in crate::gateway) async fn stage(
    course: &mut Course,
    request: &Arc<ChatRequest>,
    keys: Option<&Keys>,
) -> Result<Boarded, Error> {
    let (Some(keys), Some(cache)) = (keys, course.exchange.state.cache.clone()) else { return Ok(Boarded::Alone) };
    let Some(form) = form(request, keys, &cache).filter(|_| course.gateway.drain.get().is_some()) else {
        return Ok(Boarded::Alone);
    };
    let Ok(runtime) = Handle::try_current() else { return Ok(Boarded::Alone) };
    let boarded = board(course, request, keys, &cache, form, &runtime).await;
    course.done(Stage::Flight);
    boarded
}

impl Board {
    /// Is there one that it could follow, as far as can be said before it boards?
    pub(in crate::gateway) fn takes(&self, course: &Course, request: &ChatRequest, keys: &Keys, cache: &Cache) -> bool {
        // Whoever wants nobody asked waits for nobody either.
        if keys.wanted.only_if_cached || !self.flights.has(&keys.exact) {
            return false;
        }
        let takes = |flight: &Flight| flight.takes(course.priority, keys.wanted.max_age, cache);
        form(request, keys, cache).is_some_and(|form| self.flights.is_any(&keys.exact, form, takes))
    }

    /// A seat for somebody who waits for nobody, though others may wait for him; none where they may not.
    pub(in crate::gateway) fn lead(&self, course: &Course, request: &ChatRequest, keys: &Keys) -> Option<Seat> {
        let cache = course.exchange.state.cache.as_deref()?;
        let (form, runtime) = (form(request, keys, cache)?, Handle::try_current().ok()?);
        let new = || Flight::new(course, keys, form, fill::most(cache), runtime);
        match self.flights.board(&keys.exact, form, |_| None::<Listener>, new) {
            Found::New(flight) => Some(Seat::new(flight)),
            Found::Place(_) => None,
        }
    }

    /// Is somebody asking for an answer to this key?
    pub(in crate::gateway) fn has(&self, key: &ExactKey) -> bool {
        self.flights.has(key)
    }
}

async fn board(
    course: &mut Course,
    request: &Arc<ChatRequest>,
    keys: &Keys,
    cache: &Cache,
    form: Form,
    runtime: &Handle,
) -> Result<Boarded, Error> {
    let gateway = course.gateway.clone();
    for _ in 0..LOOKS {
        let accept = |flight: &Arc<Flight>| flight.accept(course.priority, keys.wanted.max_age, cache);
        let new = || Flight::new(course, keys, form, fill::most(cache), runtime.clone());
        let mut listener = match gateway.flights.flights.board(&keys.exact, form, accept, new) {
            Found::New(flight) => return Ok(leads(course, request, keys, cache, Seat::new(flight)).await),
            Found::Place(listener) => listener,
        };
        let begins = course.exchange.deadline.begins();
        let begun = listener.begun(course.priority, runtime, keys.coming(course));
        let begun = timeout_at(begins, begun).await.map_err(|_| late(course))?;
        match begun {
            Begun::Leads(seat) => return Ok(leads(course, request, keys, cache, seat).await),
            Begun::Gone(Instead::Alone) => return Ok(Boarded::Alone),
            // Without boarding: all who have waited come at once, and would meet one another.
            Begun::Gone(Instead::Again) => {
                if let Some(hit) = key::again(course, request, keys, cache) {
                    return Ok(Boarded::Answered(hit));
                }
            }
            Begun::Live(head) => {
                let answer = timeout_at(begins, follow(course, request, head, form, listener)).await.map_err(|_| late(course))?;
                if let Some(reply) = answer {
                    return Ok(Boarded::Answered(reply));
                }
            }
        }
    }
    Ok(Boarded::Alone)
}

/// He asks, unless the answer is there: one may have landed since the cache was looked at, or another node may get it just now.
async fn leads(course: &mut Course, request: &Arc<ChatRequest>, keys: &Keys, cache: &Cache, seat: Seat) -> Boarded {
    let mut hit = key::again(course, request, keys, cache);
    if hit.is_none()
        && !cache.waits().is_zero()
        && let Some(entry) = Box::pin(nodes::stage(course, keys, cache, &seat)).await
    {
        hit = key::hit(course, request, &entry, Name::Redis);
    }
    match hit {
        None => Boarded::Leads(seat),
        Some(hit) => {
            seat.gives_up(Instead::Again);
            Boarded::Answered(hit)
        }
    }
}

/// The leader's answer in the form that was asked for; none where it came to none that can be given.
async fn follow(course: &mut Course, request: &ChatRequest, head: Head, form: Form, mut listener: Listener) -> Option<Reply> {
    let reply = match (form, head.streamed) {
        (Form::Stream { .. }, true) => reply::shared(&head, listener),
        // Somebody who wants no stream leads in the place of one who did, or a provider does not stream though it was asked to.
        (Form::Stream { .. }, false) => reply::stored(course, request, &listener.whole().await?)?,
        (Form::Plain, false) => reply::whole(&head, listener.whole().await?),
        (Form::Plain, true) => reply::json(fill::put_together(listener.whole().await?).await?.into()),
    };
    course.record.cache = CacheOutcome::Flight;
    course.record.model = Some(head.model);
    Some(reply)
}

fn late(course: &Course) -> Error {
    course.exchange.deadline.over().unwrap_or_else(|| {
        let message = "The answer to an equal request, which this one waits for, has not begun in time. Ask again.";
        Error::new(Kind::UpstreamTimeout, Source::Gateway, message)
    })
}
