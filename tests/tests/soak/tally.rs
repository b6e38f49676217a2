//! What all users have seen, counted.
//!
//! What it does not do: it judges nothing (`judge`).
//!
//! **Invariant:** each exchange counts once as whole, broken, refused or wrong.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::questions::Question;

/// Something that a user can tell of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sign {
    Whole,
    /// A stream that ended with an error event.
    Broken,
    /// 429 or 503, typed.
    Refused,
    /// A connection that was kept turned out to be closed when the next request went out on it.
    Stale,
    /// The small model's answer was doubted, and the big one has answered.
    Escalated,
    /// The small model's answer was doubted, and nothing better came.
    Kept,
    /// Another endpoint has gone on with it.
    Continued,
    /// It came from the cache, in time or not.
    Cached,
    /// A level has made it another one.
    Degraded,
}

/// What became of an exchange.
pub(crate) enum Verdict {
    Answered(Vec<Sign>),
    /// With this status and code.
    Refused(String),
}

/// The users' account.
#[derive(Default)]
pub(crate) struct Tally {
    seen: Mutex<BTreeMap<Sign, usize>>,
    /// By model, status and code.
    refusals: Mutex<BTreeMap<String, usize>>,
    wrong: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Tally {
    pub(crate) fn note(&self, user: u64, asked: &Question, seen: Result<Verdict, String>) {
        match seen {
            Ok(Verdict::Refused(told)) => {
                self.add(Sign::Refused);
                *self.refusals.lock().unwrap().entry(format!("{}: {told}", asked.model)).or_default() += 1;
            }
            Ok(Verdict::Answered(signs)) => signs.into_iter().for_each(|sign| self.add(sign)),
            Err(what) => self.wrong.lock().unwrap().push(format!("user {user}, {asked:?}: {what}")),
        }
    }

    pub(crate) fn add(&self, sign: Sign) {
        *self.seen.lock().unwrap().entry(sign).or_default() += 1;
    }

    pub(crate) fn count(&self, sign: Sign) -> usize {
        self.seen.lock().unwrap().get(&sign).copied().unwrap_or_default()
    }

    /// All of it, in a line.
    pub(crate) fn told(&self) -> String {
        format!("{:?}, refused: {:?}", self.seen.lock().unwrap(), self.refusals.lock().unwrap())
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.wrong.lock().unwrap().is_empty()
    }

    /// What must not be seen, and how much of it there was.
    pub(crate) fn wrong(&self) -> Option<String> {
        let wrong = self.wrong.lock().unwrap();
        (!wrong.is_empty())
            .then(|| format!("{} in all; the first of them:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n")))
    }

    /// Nobody asks any more.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Sleeps, but not beyond the end.
    pub(crate) fn pause(&self, time: Duration) {
        let ends = Instant::now() + time;
        while !self.is_over() && Instant::now() < ends {
            std::thread::sleep(Duration::from_millis(200).min(ends.saturating_duration_since(Instant::now())));
        }
    }
}
