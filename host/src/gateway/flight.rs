//! Flights: equal requests that are under way share one upstream call.
//!
//! Whoever misses the cache first **leads**: he goes down the line as ever. Whoever comes with the same key while he does **follows**:
//! he waits for the leader's answer to begin, gets a stream from its first byte as it comes, and reads it at his own pace (`log`).
//! A leader without an answer that can be shared hands over: one follower leads in his place, and when he has none either, each of
//! the others asks for himself. After the commit point there is nothing to hand over, and all get the event that says what happened.
//!
//! What it costs a miss that nobody else waits for: an entry in a table, made and taken out (`cache::flight`), this flight
//! and its line on the heap, and a lock that nobody else holds for each piece. Nothing is copied and no task is spawned: the leader's
//! own connection polls the upstream. That changes when somebody follows. From then on a task on the leader's core does (`keeper`),
//! as far ahead of the quickest listener as `keeper::AHEAD`, and the leader listens like the others: so a client that reads slowly, or
//! leaves, be it the leader's, delays and ends nothing for anybody else; and where all read slowly, the upstream waits.
//!
//! What it does not do: it decides neither what one key is (`key`) nor what is stored (`fill`), and shares nothing that could not be:
//! nothing of which a plugin is to say at its end whether it may be stored, or that plugins look at as it passes, and no answer that a
//! failure or a level of degradation has made another one.
//!
//! **Invariant:** a follower has the leader's exact key, so his tenant too.
//! **Invariant:** whoever comes after a purge follows nobody whose answer it means: he gets what he could have found in the cache, or newer.
//! **Invariant:** an answer with which another endpoint went on is what those get who hear it as it comes, and nobody else.
//! **Invariant:** the upstream call goes on while anybody listens, and is cancelled when nobody does.
//! **Invariant:** what it used is booked once, in the leader's record, which is booked when the call is over.

pub(super) mod board;
mod bodies;
mod keeper;
mod line;
mod listener;
mod log;
mod nodes;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Gateway;
use super::body::Stream;
use super::course::Course;
use super::key::Keys;
use crate::cache::flight::{Flights, Form};
use crate::cache::tier::redis::lease::Lease;
use crate::cache::{Cache, Entry, ExactKey};
use crate::config::Priority;
use crate::error::Kind;
use crate::numbers::{Count, Exposition};
use crate::record::Ending;
pub(super) use bodies::{Follows, Leads};
pub(super) use line::Line;
pub(super) use listener::Listener;
use log::{Log, Place};

/// How many may lead one flight, one after the other. When the second has no answer to share either, it is nobody's turn: those who
/// wait would wait for each failure in turn.
const LEADERS: u32 = 2;

/// All flights of a process, and what became of them.
#[derive(Default)]
pub struct Board {
    flights: Flights<Flight>,
    /// Leaders without an answer to share, in whose place a follower leads.
    handed_over: Count,
    /// Answers too long for anybody to begin with them at their beginning.
    full: Count,
    /// Listeners that were so slow that what they had not read was gone.
    lost: Count,
    /// Answers that another node has got, for whoever has waited here.
    elsewhere: Count,
    /// Leaders that have waited for another node's answer, and then asked.
    in_vain: Count,
    /// Followers that wait or read.
    followers: AtomicUsize,
}

impl Board {
    /// Its numbers for /metrics.
    pub fn expose(&self, text: &mut Exposition) {
        text.gauge("pointsman_flights", "Upstream calls that equal requests would share now.", &[], self.flights.count() as f64);
        text.gauge(
            "pointsman_flight_followers",
            "Requests that wait for the answer to an equal one, or read it.",
            &[],
            self.followers.load(Ordering::Relaxed) as f64,
        );
        let events = [
            ("handed-over", &self.handed_over),
            ("full", &self.full),
            ("lost", &self.lost),
            ("elsewhere", &self.elsewhere),
            ("in-vain", &self.in_vain),
        ];
        for (event, count) in events {
            text.counter(
                "pointsman_flight_events_total",
                "What happened on flights other than that an answer was shared.",
                &[("event", event)],
                count.get(),
            );
        }
    }
}

/// One upstream call, and all who wait for its answer.
pub struct Flight {
    key: ExactKey,
    form: Form,
    began: Instant,
    /// Bytes of an answer that are held for those who come later, and for those who read slowly.
    limit: usize,
    gateway: Arc<Gateway>,
    /// The answer as it comes; none before and after. Locked before `state`, never behind it.
    driven: Mutex<Option<Box<Driven>>>,
    state: Mutex<State>,
}

/// An answer, and the exchange that has asked for it.
struct Driven {
    stream: Box<Stream>,
    course: Box<Course>,
    /// The leader's connection, while it is what polls the stream.
    waker: Option<Waker>,
    /// The leader's ear, from when on he listens like the others, until he knows.
    ear: Option<u32>,
    /// How it ended for the leader's client, where that is not how the answer ended.
    own: Option<Ending>,
}

struct State {
    phase: Phase,
    /// The leader's core.
    runtime: Handle,
    urgency: Priority,
    /// What it will be purged by, of which the model is known when it has begun.
    coming: Entry,
    /// Other nodes know that it is asked for here.
    lease: Option<Lease>,
    /// The leader's client is there.
    leads: bool,
    /// Leaders that had no answer.
    fallen: u32,
    ears: BTreeMap<u32, Ear>,
    next_ear: u32,
    /// The keeper polls the stream, and what comes is in the log.
    shared: bool,
    log: Log,
    over: Option<Over>,
    /// The task that goes on without the leader's connection.
    keeper: Option<Waker>,
}

/// How far one has read, and how to wake him.
#[derive(Default)]
struct Ear {
    place: Place,
    waker: Option<Waker>,
}

enum Phase {
    /// The leader asks.
    Asking,
    /// He had no answer, and the next who looks leads.
    Vacant,
    /// An answer has begun.
    Live(Head),
    /// Nobody will get anything from it.
    Gone(Instead),
}

/// What a follower does who gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Instead {
    /// He asks for himself, and shares nothing.
    Alone,
    /// He looks once more: the cache has it by now.
    Again,
}

/// What a follower needs to know of an answer that has begun.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) content_type: HeaderValue,
    pub(super) model: Arc<str>,
    /// It is a stream of events.
    pub(super) streamed: bool,
}

impl Head {
    pub(super) fn of(course: &Course, headers: &HeaderMap, streamed: bool) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE)?.clone();
        Some(Self { content_type, model: course.record.model.clone()?, streamed })
    }
}

/// How an answer ended, for all who have read to its end.
#[derive(Clone, Debug)]
struct Over {
    ending: Ending,
    error: Option<String>,
    kind: Option<Kind>,
    /// One endpoint went on with what another had said: it is no answer for whoever has not followed it from its beginning.
    halves: bool,
}

/// The leader's seat: whoever has it must bring an answer, and dropping it without one hands over.
pub(super) struct Seat {
    flight: Arc<Flight>,
    is_left: bool,
}

impl Flight {
    fn new(course: &Course, keys: &Keys, form: Form, limit: usize, runtime: Handle) -> Self {
        Self {
            key: keys.exact,
            form,
            began: Instant::now(),
            limit,
            gateway: course.gateway.clone(),
            driven: Mutex::new(None),
            state: Mutex::new(State {
                phase: Phase::Asking,
                runtime,
                urgency: course.priority,
                coming: keys.coming(course),
                lease: None,
                leads: true,
                fallen: 0,
                ears: BTreeMap::new(),
                next_ear: 0,
                shared: false,
                // What is read ahead of the quickest must not push out what he has not read.
                log: Log::new(limit.max(4 * keeper::AHEAD as usize)),
                over: None,
                keeper: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn driven(&self) -> MutexGuard<'_, Option<Box<Driven>>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of what has come, is there something that nobody else should get? Then nobody finds it any more.
    fn mended(self: &Arc<Self>, course: &Course) {
        if course.record.continued > 0 {
            self.land();
        }
    }

    /// Nobody finds it any more, nor waits for it on another node.
    fn land(self: &Arc<Self>) {
        let lease = self.state().lease.take();
        drop(lease);
        self.gateway.flights.flights.land(&self.key, self.form, self);
    }
}

impl State {
    /// Nobody waits for anything more of it.
    fn is_deserted(&self) -> bool {
        !self.leads && self.ears.is_empty()
    }

    /// There is an answer.
    fn begins(&mut self, head: Head) {
        self.coming.model = head.model.clone();
        self.phase = Phase::Live(head);
    }

    /// May it be given to somebody who comes now? As an entry that it would make: not if it was purged.
    fn is_spared(&self, cache: &Cache) -> bool {
        match self.phase {
            Phase::Live(_) => cache.spares(&self.coming),
            _ => cache.spares_coming(&self.coming),
        }
    }

    fn enter(&mut self, place: Place) -> u32 {
        let ear = self.next_ear;
        self.next_ear += 1;
        self.ears.insert(ear, Ear { place, waker: None });
        ear
    }

    /// Those who sleep. They are woken when the lock is free again.
    #[must_use]
    fn sleepers(&mut self) -> Vec<Waker> {
        self.ears.values_mut().filter_map(|ear| ear.waker.take()).collect()
    }
}

fn wake(sleepers: impl IntoIterator<Item = Waker>) {
    sleepers.into_iter().for_each(Waker::wake);
}

impl Seat {
    fn new(flight: Arc<Flight>) -> Self {
        Self { flight, is_left: false }
    }

    /// Nobody shall share what he gets.
    pub(super) fn dissolve(self) {
        self.gives_up(Instead::Alone);
    }

    fn gives_up(mut self, instead: Instead) {
        self.is_left = true;
        self.flight.land();
        let sleepers = {
            let mut state = self.flight.state();
            state.phase = Phase::Gone(instead);
            state.sleepers()
        };
        wake(sleepers);
    }

    /// His answer is all there: whoever follows gets the same bytes.
    pub(super) fn lands(mut self, head: Head, bytes: Bytes) {
        self.is_left = true;
        let sleepers = {
            let mut state = self.flight.state();
            state.log.whole(bytes);
            state.begins(head);
            state.shared = true;
            state.over = Some(Over { ending: Ending::Whole, error: None, kind: None, halves: false });
            state.sleepers()
        };
        // Who comes later finds it in the cache.
        self.flight.land();
        wake(sleepers);
    }

    /// His answer has begun.
    pub(super) fn flies(mut self, head: Head, stream: Box<Stream>, course: Box<Course>) -> Leads {
        self.is_left = true;
        let flight = self.flight.clone();
        let deadline = course.exchange.deadline;
        let mut driven = Box::new(Driven { stream, course, waker: None, ear: None, own: None });
        let (sleepers, shared) = {
            let mut place = flight.driven();
            let mut state = flight.state();
            state.begins(head);
            state.shared = !state.leads || !state.ears.is_empty();
            if state.shared {
                driven.stream.serves_several();
                driven.ear = state.leads.then(|| state.enter(Place::default()));
            }
            *place = Some(driven);
            (state.sleepers(), state.shared)
        };
        if shared {
            flight.kept();
        }
        wake(sleepers);
        Leads::new(flight, deadline)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.is_left {
            return;
        }
        let (sleepers, is_over) = {
            let mut state = self.flight.state();
            state.leads = false;
            state.fallen += 1;
            let is_over = state.ears.is_empty() || state.fallen >= LEADERS;
            state.phase = if is_over { Phase::Gone(Instead::Alone) } else { Phase::Vacant };
            (state.sleepers(), is_over)
        };
        if is_over {
            self.flight.land();
        } else {
            self.flight.gateway.flights.handed_over.add(1);
        }
        wake(sleepers);
    }
}
