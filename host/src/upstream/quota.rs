//! How much one key may still do at one endpoint, by what the endpoint's answers say of its limits.
//!
//! | header | |
//! |---|---|
//! | `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` | OpenAI and who speaks like it; resets as `6m0s`, `1.5s`, seconds |
//! | `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}` | Anthropic; resets as a date (RFC 3339) |
//!
//! What an answer says was true when the server took the request that it answers. So what this node has sent after that one is taken
//! off, and what was sent before it is in the server's count already.
//!
//! What it does not do: it chooses no key (`keys`), and knows nothing of what other nodes send but by the next answer.
//!
//! **Invariant:** pure but for its own state: time is given to it. No lock.
//! **Invariant:** what is used up is full again at its reset, and nothing is left alone for more than [`LONGEST`].

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::time::Instant;

use super::retry::until;

/// The longest that a limit is believed to be used up: a server's clock may be wrong by more.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The part of a limit that one request can need at most: what of a body is a picture is no text.
const PART: u64 = 4;

/// Requests, or tokens.
#[derive(Default)]
struct Limit {
    /// How much there is when it is full; 0: nobody has said.
    limit: AtomicU64,
    /// How much was left.
    remaining: AtomicU64,
    /// When it is full again, in milliseconds since the epoch; 0: nothing is known.
    reset: AtomicU64,
    /// All that this node has sent, and how much of that is in `remaining`.
    sent: AtomicU64,
    counted: AtomicU64,
}

/// What this node had sent when a request was, with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark([u64; 2]);

/// One key at one endpoint.
pub struct Quota {
    epoch: Instant,
    limits: [Limit; 2],
    /// An endpoint has refused it: it is left alone until then, in milliseconds since the epoch.
    left_until: AtomicU64,
    /// It was not accepted when it was last used.
    denied: AtomicBool,
}

/// What may be seen of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Requests that remain; none: nobody has said.
    pub requests: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// For how long it is left alone; 0: it is not.
    pub left: Duration,
}

const KINDS: [&str; 2] = ["requests", "tokens"];

/// Does an answer say anything of limits?
pub(super) fn is_told(headers: &HeaderMap) -> bool {
    const NAMES: [&str; 4] = [
        "x-ratelimit-remaining-requests",
        "x-ratelimit-remaining-tokens",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-tokens-remaining",
    ];
    NAMES.iter().any(|name| headers.contains_key(*name))
}

impl Quota {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            // So that 0 means never.
            epoch: now.checked_sub(Duration::from_millis(1)).unwrap_or(now),
            limits: Default::default(),
            left_until: AtomicU64::new(0),
            denied: AtomicBool::new(false),
        }
    }

    /// The share of its limits that would remain after a request of so many tokens.
    ///
    /// # Errors
    /// It is used up, or left alone, for so long.
    pub(super) fn room(&self, tokens: u64, now: Instant) -> Result<f32, Duration> {
        let now = self.ms(now);
        let left_until = self.left_until.load(Ordering::Relaxed);
        if now < left_until {
            return Err(Duration::from_millis(left_until - now));
        }
        let (mut share, mut used_up) = (1.0_f32, None);
        for (limit, needed) in self.limits.iter().zip([1, tokens]) {
            match limit.room(needed, now) {
                Ok(left) => share = share.min(left),
                Err(wait) => used_up = used_up.max(Some(wait)),
            }
        }
        used_up.map_or(Ok(share), |wait| Err(Duration::from_millis(wait)))
    }

    /// A request of so many tokens is sent.
    pub(super) fn send(&self, tokens: u64) -> Mark {
        let [requests, all] = &self.limits;
        Mark([requests.send(1), all.send(tokens)])
    }

    /// What the answer to a request says.
    pub(super) fn told(&self, headers: &HeaderMap, mark: Mark, now: Instant) {
        for ((limit, kind), mark) in self.limits.iter().zip(KINDS).zip(mark.0) {
            let text = |name: String| headers.get(name)?.to_str().ok().map(str::trim);
            let of = |what: &str| {
                let theirs = text(format!("x-ratelimit-{what}-{kind}"));
                theirs.or_else(|| text(format!("anthropic-ratelimit-{kind}-{what}")))
            };
            let number = |what| of(what).and_then(|text| text.parse::<f64>().ok()).map(|number| number.max(0.0) as u64);
            if let Some(remaining) = number("remaining") {
                let reset = of("reset").and_then(reset).unwrap_or_default().min(LONGEST);
                limit.told(number("limit"), remaining, self.ms(now + reset), mark);
            }
        }
    }

    /// The endpoint has refused it for so long.
    pub(super) fn leave(&self, time: Duration, now: Instant) {
        self.left_until.fetch_max(self.ms(now + time.min(LONGEST)), Ordering::Relaxed);
    }

    /// Whether it is accepted. Is that news?
    pub(super) fn denied(&self, denied: bool) -> bool {
        self.denied.load(Ordering::Relaxed) != denied && self.denied.swap(denied, Ordering::Relaxed) != denied
    }

    pub(super) fn view(&self, now: Instant) -> View {
        let [requests, tokens] = self.limits.each_ref().map(|limit| limit.remaining(self.ms(now)));
        View { requests, tokens, left: self.room(1, now).err().unwrap_or_default() }
    }

    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64
    }
}

impl Limit {
    /// How much remains; none where nothing is known.
    fn remaining(&self, now: u64) -> Option<u64> {
        let reset = self.reset.load(Ordering::Relaxed);
        if reset == 0 {
            return None;
        }
        let used = self.sent.load(Ordering::Relaxed).saturating_sub(self.counted.load(Ordering::Relaxed));
        if now < reset {
            return Some(self.remaining.load(Ordering::Relaxed).saturating_sub(used));
        }
        // It was full at that time. Whoever sees it first counts from there; of two at once one is as good as the other.
        let limit = self.limit.load(Ordering::Relaxed);
        if self.reset.compare_exchange(reset, if limit == 0 { 0 } else { u64::MAX }, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.remaining.store(limit, Ordering::Relaxed);
            self.counted.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        (limit != 0).then_some(limit)
    }

    /// The share that remains after so much more, or in how many milliseconds there is as much.
    fn room(&self, needed: u64, now: u64) -> Result<f32, u64> {
        let Some(remaining) = self.remaining(now) else { return Ok(1.0) };
        let limit = self.limit.load(Ordering::Relaxed);
        let needed = if limit == 0 { needed } else { needed.min((limit / PART).max(1)) };
        match (remaining.checked_sub(needed), self.reset.load(Ordering::Relaxed)) {
            // Nobody has said anything since it was full: the next answer does.
            (None, u64::MAX) => Ok(0.0),
            (None, reset) => Err(reset.saturating_sub(now)),
            (Some(_), _) if limit == 0 => Ok(1.0),
            (Some(left), _) => Ok(left as f32 / limit as f32),
        }
    }

    fn send(&self, much: u64) -> u64 {
        let limit = self.limit.load(Ordering::Relaxed);
        let much = if limit == 0 { much } else { much.min((limit / PART).max(1)) };
        self.sent.fetch_add(much, Ordering::Relaxed) + much
    }

    fn told(&self, limit: Option<u64>, remaining: u64, reset: u64, mark: u64) {
        // An answer to an earlier request may come later; it knows less.
        if self.reset.load(Ordering::Relaxed) != 0 && mark < self.counted.load(Ordering::Relaxed) {
            return;
        }
        if let Some(limit) = limit {
            self.limit.store(limit, Ordering::Relaxed);
        }
        self.remaining.store(remaining, Ordering::Relaxed);
        self.counted.store(mark, Ordering::Relaxed);
        self.reset.store(reset, Ordering::Relaxed);
    }
}

/// When a limit is full again: `6m0s`, `1.5s`, seconds, or a date.
fn reset(text: &str) -> Option<Duration> {
    until(text).or_else(|| date(text)?.duration_since(SystemTime::now()).ok())
}

/// `2026-01-31T10:00:00Z`, with or without a part of a second: as Anthropic writes it, and nothing else.
fn date(text: &str) -> Option<SystemTime> {
    let (day, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, between: char| -> Option<[u64; 3]> {
        let numbers: Vec<u64> = text.split(between).map(|part| part.parse().ok()).collect::<Option<_>>()?;
        numbers.try_into().ok()
    };
    let [year, month, day] = numbers(day, '-')?;
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?;
    if !(1970..10_000).contains(&year)
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour.max(minute).max(second) > 60
    {
        return None;
    }
    // Years begin in March, so that a leap day is a year's last (Howard Hinnant, `days_from_civil`).
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    /// Ten requests a minute, of which so many remain.
    fn requests(remaining: &str) -> HeaderMap {
        headers(&[
            ("x-ratelimit-limit-requests", "10"),
            ("x-ratelimit-remaining-requests", remaining),
            ("x-ratelimit-reset-requests", "1m0s"),
        ])
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_since_is_taken_off() {
        let now = Instant::now();
        let quota = Quota::new(now);
        assert_eq!(quota.room(1_000_000, now), Ok(1.0), "nobody has said anything");
        let first = quota.send(10);
        let second = quota.send(10);
        quota.told(&requests("2"), second, now);
        quota.told(&requests("9"), first, now);
        assert_eq!(quota.view(now).requests, Some(2), "what an earlier request was told is older");
        assert_eq!(quota.room(10, now), Ok(0.1));
        quota.send(10);
        assert_eq!(quota.room(10, now), Ok(0.0), "this one is the last");
        let last = quota.send(10);
        assert_eq!(quota.room(10, now), Err(60 * SECOND));
        quota.told(&requests("0"), last, now + SECOND);
        assert_eq!(quota.room(10, now + SECOND), Err(60 * SECOND));
        // It is full again, and counted from there.
        let later = now + 61 * SECOND;
        assert_eq!(quota.room(10, later), Ok(0.9));
        (0..10).for_each(|_| _ = quota.send(10));
        assert_eq!(quota.view(later).requests, Some(0));
        assert_eq!(quota.room(10, later), Ok(0.0), "nobody has said so since");
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_estimated_and_one_request_needs_at_most_a_part() {
        let now = Instant::now();
        let quota = Quota::new(now);
        let tokens = |remaining: &str| {
            headers(&[
                ("anthropic-ratelimit-tokens-limit", "1000"),
                ("anthropic-ratelimit-tokens-remaining", remaining),
                ("anthropic-ratelimit-tokens-reset", "9999-01-01T00:00:00Z"),
            ])
        };
        assert!(is_told(&tokens("1")) && !is_told(&HeaderMap::new()));
        quota.told(&tokens("300"), quota.send(0), now);
        assert_eq!(quota.room(200, now), Ok(0.1));
        assert_eq!(quota.room(1_000_000, now), Ok(0.05), "a picture, perhaps: a quarter of the limit");
        quota.send(200);
        assert_eq!(quota.room(200, now), Err(LONGEST), "and no reset is believed that is further away");
        assert_eq!(quota.view(now).tokens, Some(100));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_refused_is_left_for_as_long() {
        let now = Instant::now();
        let quota = Quota::new(now);
        quota.leave(2 * SECOND, now);
        quota.leave(SECOND, now);
        assert_eq!(quota.view(now).left, 2 * SECOND);
        assert_eq!(quota.room(1, now + 2 * SECOND), Ok(1.0));
        assert_eq!([true, true, false, false, true].map(|denied| quota.denied(denied)), [true, false, true, false, true]);
    }

    #[test]
    fn what_is_no_number_says_nothing() {
        let quota = Quota::new(Instant::now());
        for remaining in ["", "many", "NaN"] {
            quota.told(&headers(&[("x-ratelimit-remaining-requests", remaining)]), Mark::default(), quota.epoch);
        }
        quota.told(&headers(&[("x-ratelimit-limit-requests", "10")]), Mark::default(), quota.epoch);
        assert_eq!(quota.room(1, quota.epoch), Ok(1.0));
    }

    #[test]
    fn dates() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(date(text).map(|at| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()), seconds, "{text}");
        };
        check("1970-01-01T00:00:00Z", Some(0));
        check("2024-02-29T12:34:56.789Z", Some(1_709_210_096));
        check("2026-12-31T23:59:59Z", Some(1_798_761_599));
        for wrong in ["", "Z", "2024-01-01", "2024-01-01T00:00Z", "2024-13-01T00:00:00Z", "2024-01-01T00:00:00+01:00"] {
            check(wrong, None);
        }
    }
}
