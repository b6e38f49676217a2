//! By when an exchange must be over: the configuration's bound, or the client's where that is shorter.
//!
//! There are two bounds, because clients have two kinds of patience. Some wait for a whole answer; SDKs wait for its first byte, and
//! then from each byte to the next. A plain answer goes down when it is whole, so for it the two are one.
//!
//! What it does not do: it reads no header of the client's (`gateway/deadline` does), and waits for nothing.
//!
//! **Invariant:** a client makes a bound shorter, never longer.
//! **Invariant:** where the client has said nothing, nothing is computed, and nothing is said upstream.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::error::{Error, Kind, Source};

/// How long the client waits for the whole answer. Sent upstream with what is left of it, so that another pointsman there keeps to it.
pub const WHOLE: &str = "x-pointsman-timeout";
/// How long it waits for the answer's first byte.
pub const FIRST_BYTE: &str = "x-pointsman-first-byte-timeout";

/// By when an exchange must have its answer.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    begins: Bound,
    ends: Bound,
}

/// A bound, and the client's header that has set it; none: the configuration.
#[derive(Clone, Copy, Debug)]
struct Bound {
    at: Instant,
    by: Option<&'static str>,
    /// By so much the client's own clock may be ahead of it.
    behind: Duration,
}

/// What an answer that is there needs to reach the client.
const UNDER_WAY: Duration = Duration::from_millis(250);

impl Bound {
    fn shorten(&mut self, at: Instant, by: &'static str, behind: Duration) {
        if at < self.at {
            *self = Self { at, by: Some(by), behind };
        }
    }

    /// With time for what is in reserve, where somebody waits for it.
    fn with_reserve(self) -> Self {
        let reserve = if self.by.is_some() { self.behind + UNDER_WAY } else { Duration::ZERO };
        Self { at: self.at.checked_sub(reserve).unwrap_or(self.at), ..self }
    }
}

impl Deadline {
    /// The configuration's.
    pub fn new(at: Instant) -> Self {
        let bound = Bound { at, by: None, behind: Duration::ZERO };
        Self { begins: bound, ends: bound }
    }

    /// The client waits until then for all of the answer, as this header of its says.
    pub fn ends_by(&mut self, at: Instant, header: &'static str) {
        self.ends.shorten(at, header, Duration::ZERO);
        self.begins.shorten(at, header, Duration::ZERO);
    }

    /// It waits until then for the first byte, or gives up by so much earlier.
    pub fn begins_by(&mut self, at: Instant, header: &'static str, behind: Duration) {
        self.begins.shorten(at, header, behind);
    }

    /// The same for what is asked for while another answer is there: if it does not come, that one must still reach the client in time.
    #[must_use]
    pub fn with_reserve(self) -> Self {
        Self { begins: self.begins.with_reserve(), ..self }
    }

    /// The same for an answer of which the client has had the first byte.
    #[must_use]
    pub fn begun(self) -> Self {
        Self { begins: self.ends, ..self }
    }

    /// When an answer must have begun.
    pub fn begins(&self) -> Instant {
        self.begins.at
    }

    /// When it must be whole.
    pub fn ends(&self) -> Instant {
        self.ends.at
    }

    /// The header that says when it must be whole; none where the configuration does.
    pub(super) fn ends_as_said_in(&self) -> Option<&'static str> {
        self.ends.by
    }

    /// When it must be whole, where the client has said so.
    pub fn ends_as_said(&self) -> Option<Instant> {
        self.ends.by.map(|_| self.ends.at)
    }

    /// The error that the client gets when its time is over in the middle of an answer.
    pub fn late(&self) -> Error {
        let header = self.ends.by.unwrap_or(WHOLE);
        let message = format!("The time that the client gives is over (`{header}`), and the answer is not finished.");
        Error::new(Kind::UpstreamTimeout, Source::Downstream, message).about(header)
    }

    /// What is left of the client's time until an answer must have begun; none where the client has said nothing.
    pub(super) fn left(&self) -> Option<Duration> {
        self.begins.by.map(|_| self.begins.at.saturating_duration_since(Instant::now()))
    }

    /// The error that the client gets when its own time is over; none where it is not.
    pub fn over(&self) -> Option<Error> {
        let header = self.begins.by.filter(|_| Instant::now() >= self.begins.at)?;
        let message = format!("The time that the client gives is over (`{header}`), and no answer has begun.");
        Some(Error::new(Kind::UpstreamTimeout, Source::Downstream, message).about(header))
    }

    /// What an upstream is told: how long the client will still wait for a try that ends by then.
    pub(super) fn tell(&self, headers: &mut HeaderMap, ends: Instant) {
        let now = Instant::now();
        let mut say = |name, at: Instant| {
            let left = at.saturating_duration_since(now).as_millis().max(1);
            if let Ok(value) = HeaderValue::try_from(format!("{left}ms")) {
                headers.insert(name, value);
            }
        };
        if self.ends.by.is_some() {
            say(WHOLE, ends);
        }
        if self.begins.by.is_some() && self.begins.at < ends {
            say(FIRST_BYTE, self.begins.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_smaller_bound_wins_and_the_upstream_is_told_of_the_clients() {
        let now = Instant::now();
        let second = |seconds| now + Duration::from_secs(seconds);
        let check = |whole: Option<u64>, first: Option<u64>, begins: u64, ends: u64, told: [Option<&str>; 2]| {
            let mut deadline = Deadline::new(second(10));
            whole.into_iter().for_each(|at| deadline.ends_by(second(at), WHOLE));
            first.into_iter().for_each(|at| deadline.begins_by(second(at), FIRST_BYTE, Duration::ZERO));
            assert_eq!((deadline.begins(), deadline.ends()), (second(begins), second(ends)), "{whole:?} {first:?}");
            assert_eq!(deadline.left().is_some(), begins < 10);
            let mut headers = HeaderMap::new();
            deadline.tell(&mut headers, deadline.ends());
            let said = [WHOLE, FIRST_BYTE].map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()));
            assert_eq!(said.each_ref().map(|said| said.as_deref()), told, "{whole:?} {first:?}");
        };
        check(None, None, 10, 10, [None, None]);
        check(Some(20), Some(10), 10, 10, [None, None]);
        check(Some(4), None, 4, 4, [Some("4000ms"), None]);
        check(None, Some(3), 3, 10, [None, Some("3000ms")]);
        check(Some(4), Some(3), 3, 4, [Some("4000ms"), Some("3000ms")]);
        check(Some(3), Some(4), 3, 3, [Some("3000ms"), None]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_in_reserve_comes_before_the_client_gives_up() {
        let now = Instant::now();
        let mut deadline = Deadline::new(now + Duration::from_secs(10));
        assert_eq!(deadline.with_reserve().begins(), deadline.begins(), "nobody waits");
        deadline.ends_by(now + Duration::from_secs(8), WHOLE);
        assert_eq!(deadline.with_reserve().begins(), now + Duration::from_millis(7_750));
        deadline.begins_by(now + Duration::from_secs(7), FIRST_BYTE, Duration::from_secs(1));
        assert_eq!(deadline.with_reserve().begins(), now + Duration::from_millis(5_750));
        assert_eq!(deadline.with_reserve().ends(), deadline.ends());
    }

    #[tokio::test(start_paused = true)]
    async fn it_says_whose_time_is_over() {
        let mut deadline = Deadline::new(Instant::now() + Duration::from_secs(1));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(deadline.over().is_none(), "the configuration's time is no client's");
        deadline.begins_by(Instant::now() - Duration::from_millis(500), FIRST_BYTE, Duration::ZERO);
        let error = deadline.over().unwrap();
        assert_eq!((error.status().as_u16(), error.code(), error.param()), (504, "upstream_timeout", Some(FIRST_BYTE)));
        assert!(deadline.begun().over().is_none());
    }
}
