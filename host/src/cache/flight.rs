//! Who asks upstream for which answer just now, so that whoever asks for the same one can wait for it.
//!
//! All cores share the table: a thousand equal requests come in on all of them. It is touched by misses alone, under a lock that is
//! held for one look into a map, and there are many of them, by key.
//!
//! What it does not do: it knows no answer and wakes nobody. What a flight is, and who may be on it, `gateway/flight` says.
//!
//! **Invariant:** under one key and form there is at most one flight that takes somebody more; who leads another one takes its place.
//! **Invariant:** the key is an exact one, so nobody finds a flight of another tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ExactKey;

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;

/// The form in which an answer comes from upstream: no part of the key, since a stored one can be given in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Whole.
    Plain,
    /// A stream, at its end a chunk about usage where that was asked for.
    Stream {
        /// It was.
        usage: bool,
    },
}

impl Form {
    /// The forms of which an answer serves whoever wants this one, the best first. A stream that has ended is a plain answer too, and no
    /// later one; a plain answer is no stream before it is whole, and whoever asks for a stream wants its beginning early.
    pub fn served_by(self) -> &'static [Self] {
        match self {
            Self::Plain => &[Self::Stream { usage: true }, Self::Plain, Self::Stream { usage: false }],
            Self::Stream { usage: true } => &[Self::Stream { usage: true }],
            Self::Stream { usage: false } => &[Self::Stream { usage: false }],
        }
    }
}

type Shard<F> = HashMap<(ExactKey, Form), Arc<F>>;

/// The flights that others may find.
pub struct Flights<F> {
    shards: [Mutex<Shard<F>>; SHARDS],
}

impl<F> Default for Flights<F> {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()) }
    }
}

/// What somebody finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Found<T, F> {
    /// A place on a flight.
    Place(T),
    /// None, and so this one is his to lead.
    New(F),
}

impl<F> Flights<F> {
    /// A place on a flight that serves this form, if one takes him (`accept`, which is called without the lock); else a flight of his own.
    pub fn board<T>(
        &self,
        key: &ExactKey,
        form: Form,
        mut accept: impl FnMut(&Arc<F>) -> Option<T>,
        new: impl FnOnce() -> F,
    ) -> Found<T, Arc<F>> {
        let mut refused: Vec<Arc<F>> = Vec::new();
        loop {
            let next = {
                let mut shard = self.shard(key);
                let mut others = form.served_by().iter().filter_map(|form| shard.get(&(*key, *form)));
                // The newest of a form is in the table: one that has refused him is there only until he has taken its place.
                match others.find(|other| !refused.iter().any(|known| Arc::ptr_eq(known, other))).cloned() {
                    Some(next) => next,
                    None => {
                        let flight = Arc::new(new());
                        shard.insert((*key, form), flight.clone());
                        return Found::New(flight);
                    }
                }
            };
            if let Some(place) = accept(&next) {
                return Found::Place(place);
            }
            refused.push(next);
        }
    }

    /// Nobody finds this one any more.
    pub fn land(&self, key: &ExactKey, form: Form, flight: &Arc<F>) {
        let mut shard = self.shard(key);
        if shard.get(&(*key, form)).is_some_and(|there| Arc::ptr_eq(there, flight)) {
            shard.remove(&(*key, form));
        }
    }

    /// Is there one under this key, of whatever form?
    pub fn has(&self, key: &ExactKey) -> bool {
        let shard = self.shard(key);
        [Form::Plain, Form::Stream { usage: false }, Form::Stream { usage: true }]
            .iter()
            .any(|form| shard.contains_key(&(*key, *form)))
    }

    /// Is there one that serves this form and would take him? (`takes` is called without the lock.)
    pub fn is_any(&self, key: &ExactKey, form: Form, takes: impl Fn(&F) -> bool) -> bool {
        let found: Vec<Arc<F>> = {
            let shard = self.shard(key);
            form.served_by().iter().filter_map(|form| shard.get(&(*key, *form)).cloned()).collect()
        };
        found.iter().any(|flight| takes(flight))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, key: &ExactKey) -> MutexGuard<'_, Shard<F>> {
        lock(&self.shards[usize::from(key.spread()) % SHARDS])
    }
}

/// Whatever panics while it holds the lock has left a map that is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::key::KeyBuilder;

    const STREAM: Form = Form::Stream { usage: false };
    const WITH_USAGE: Form = Form::Stream { usage: true };

    /// Which flight he is on: its number, and whether he leads it.
    fn board(flights: &Flights<u32>, tenant: &str, form: Form, number: u32, accept: impl Fn(u32) -> bool) -> (u32, bool) {
        let key = KeyBuilder::new(tenant).exact();
        match flights.board(&key, form, |flight| accept(**flight).then_some(**flight), || number) {
            Found::Place(other) => (other, false),
            Found::New(own) => (*own, true),
        }
    }

    #[test]
    fn a_stream_serves_those_who_want_a_plain_answer_and_not_the_other_way_round() {
        for (leads, wants, shared) in [
            (STREAM, STREAM, true),
            (STREAM, Form::Plain, true),
            (STREAM, WITH_USAGE, false),
            (WITH_USAGE, Form::Plain, true),
            (WITH_USAGE, STREAM, false),
            (Form::Plain, Form::Plain, true),
            (Form::Plain, STREAM, false),
            (Form::Plain, WITH_USAGE, false),
        ] {
            let flights = Flights::default();
            assert_eq!(board(&flights, "t", leads, 1, |_| true), (1, true));
            assert_eq!(
                board(&flights, "t", wants, 2, |_| true),
                if shared { (1, false) } else { (2, true) },
                "{leads:?} {wants:?}"
            );
        }
    }

    #[test]
    fn tenants_do_not_meet() {
        let flights = Flights::default();
        assert_eq!(board(&flights, "a", STREAM, 1, |_| true), (1, true));
        assert_eq!(board(&flights, "b", STREAM, 2, |_| true), (2, true));
        assert_eq!(flights.count(), 2);
    }

    #[test]
    fn who_is_refused_takes_its_place() {
        let flights = Flights::default();
        let key = KeyBuilder::new("t").exact();
        let Found::New(first) = flights.board(&key, STREAM, |_| Some(()), || 1) else { panic!("there was none") };
        assert_eq!(board(&flights, "t", STREAM, 2, |number| number != 1), (2, true));
        assert_eq!(board(&flights, "t", STREAM, 3, |_| true), (2, false));
        // The one that was there before lands, and the newer one stays.
        flights.land(&key, STREAM, &first);
        assert_eq!((flights.count(), flights.has(&key)), (1, true));
        assert!(flights.is_any(&key, STREAM, |number| *number == 2) && !flights.is_any(&key, STREAM, |number| *number == 1));
        assert!(flights.is_any(&key, Form::Plain, |_| true) && !flights.is_any(&key, WITH_USAGE, |_| true));
    }

    /// Where a plain request finds a stream that it may not join, a plain flight may still take it.
    #[test]
    fn every_form_that_serves_is_asked() {
        let flights = Flights::default();
        assert_eq!(board(&flights, "t", Form::Plain, 1, |_| true), (1, true));
        assert_eq!(board(&flights, "t", WITH_USAGE, 2, |_| true), (2, true));
        assert_eq!(board(&flights, "t", Form::Plain, 3, |number| number != 2), (1, false));
        assert_eq!(board(&flights, "t", Form::Plain, 4, |_| false), (4, true));
        assert_eq!(flights.count(), 2, "in the place of the one before");
    }
}
