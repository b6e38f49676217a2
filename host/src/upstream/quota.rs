//! How much one key may still do at one endpoint, by what the endpoint's answers say of its limits.
//!
//! | header | |
//! |---|---|
//! | `x-ratelimit-{limit,remaining,reset}-{requests,tokens}` | OpenAI and who speaks like it; resets as `6m0s`, `6ms`, or, for a window, seconds |
//! | `anthropic-ratelimit-{requests,tokens}-{limit,remaining,reset}` | Anthropic; resets as a date (RFC 3339) |
//!
//! Both fill continuously: the reset of a token bucket is when it is full, and until then it has ever more. A limit that resets after bare
//! seconds, or of which nobody says how much it is, is taken for a window that fills at its end.
//!
//! What an answer says was true when the server took the request that it answers. So what this node has sent after that one is taken
//! off, and what was sent before it is in the server's count already.
//!
//! What it does not do: it chooses no key (`keys`), and knows nothing of what other nodes send but by the next answer.
//!
//! **Invariant:** pure but for its own state: time is given to it. No lock.
//! **Invariant:** what is used up is full again at its reset, and nothing is left alone for more than [`LONGEST`].
//! **Invariant:** what is no number of things says nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use tokio::time::Instant;

use super::retry::until;

/// The longest that a limit is believed to be used up: a server's clock may be wrong by more.
const LONGEST: Duration = Duration::from_secs(3_600);
/// The part of a limit that one request can need at most: what of a body is a picture is no text.
const PART: u64 = 4;
/// The most that is believed to be a limit, or to remain of one: what is beyond was meant to say that there is none.
const MOST: f64 = 1e15;

/// Requests, or tokens.
#[derive(Default)]
struct Limit {
    /// How much there is when it is full; 0: nobody has said.
    limit: AtomicU64,
    /// How much was left.
    remaining: AtomicU64,
    /// When that was so, in milliseconds since the epoch.
    since: AtomicU64,
    /// How much of it comes back in a millisecond, as the bits of an `f64`; 0: nothing until its reset.
    each: AtomicU64,
    /// When it is full again; 0: nothing is known.
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
        for ((known, kind), mark) in self.limits.iter().zip(KINDS).zip(mark.0) {
            let text = |name: String| headers.get(name)?.to_str().ok().map(str::trim);
            let of = |what: &str| {
                let theirs = text(format!("x-ratelimit-{what}-{kind}"));
                theirs.or_else(|| text(format!("anthropic-ratelimit-{kind}-{what}")))
            };
            let number = |what| of(what).and_then(|text| text.parse::<f64>().ok());
            let is_amount = |number: &f64| (0.0..=MOST).contains(number);
            let Some(remaining) = number("remaining").filter(is_amount) else { continue };
            // Nobody has a limit of nothing: it says that there is none, or that it is not known.
            let limit = number("limit").filter(is_amount).filter(|limit| *limit >= 1.0).map(|limit| limit as u64);
            let resets = of("reset").and_then(reset).unwrap_or_default();
            known.told(limit, remaining as u64, (self.ms(now), resets), mark);
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
        if now < reset {
            return Some((self.remaining.load(Ordering::Relaxed) + self.filled(now)).saturating_sub(self.used()));
        }
        // It was full at that time. Whoever sees it first counts from there; of two at once one is as good as the other.
        let limit = self.limit.load(Ordering::Relaxed);
        if self.reset.compare_exchange(reset, if limit == 0 { 0 } else { u64::MAX }, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.remaining.store(limit, Ordering::Relaxed);
            self.counted.store(self.sent.load(Ordering::Relaxed), Ordering::Relaxed);
            self.each.store(0, Ordering::Relaxed);
        }
        (limit != 0).then_some(limit)
    }

    /// What this node has sent since the answer that told.
    fn used(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.counted.load(Ordering::Relaxed))
    }

    fn each(&self) -> f64 {
        f64::from_bits(self.each.load(Ordering::Relaxed))
    }

    /// What has come back since then.
    fn filled(&self, now: u64) -> u64 {
        (now.saturating_sub(self.since.load(Ordering::Relaxed)) as f64 * self.each()) as u64
    }

    /// When there will be so much, if its reset is not sooner.
    fn has(&self, needed: u64) -> u64 {
        let missing = (needed + self.used()).saturating_sub(self.remaining.load(Ordering::Relaxed));
        // Where nothing comes back that is never.
        self.since.load(Ordering::Relaxed).saturating_add((missing as f64 / self.each()).ceil() as u64)
    }

    /// The share that remains after so much more, or in how many milliseconds there is as much.
    fn room(&self, needed: u64, now: u64) -> Result<f32, u64> {
        let Some(remaining) = self.remaining(now) else { return Ok(1.0) };
        let limit = self.limit.load(Ordering::Relaxed);
        let needed = if limit == 0 { needed } else { needed.min((limit / PART).max(1)) };
        match (remaining.checked_sub(needed), self.reset.load(Ordering::Relaxed)) {
            // Nobody has said anything since it was full: the next answer does.
            (None, u64::MAX) => Ok(0.0),
            (None, reset) => Err(reset.min(self.has(needed)).saturating_sub(now).max(1)),
            (Some(_), _) if limit == 0 => Ok(1.0),
            (Some(left), _) => Ok((left as f32 / limit as f32).min(1.0)),
        }
    }

    fn send(&self, much: u64) -> u64 {
        let limit = self.limit.load(Ordering::Relaxed);
        let much = if limit == 0 { much } else { much.min((limit / PART).max(1)) };
        self.sent.fetch_add(much, Ordering::Relaxed) + much
    }

    fn told(&self, limit: Option<u64>, remaining: u64, (now, reset): (u64, Reset), mark: u64) {
        // An answer to an earlier request may come later; it knows less.
        if self.reset.load(Ordering::Relaxed) != 0 && mark < self.counted.load(Ordering::Relaxed) {
            return;
        }
        if let Some(limit) = limit {
            self.limit.store(limit, Ordering::Relaxed);
        }
        let missing = self.limit.load(Ordering::Relaxed).saturating_sub(remaining);
        let fills = reset.continuous && missing > 0;
        let each = if fills { missing as f64 / reset.time.as_millis().max(1) as f64 } else { 0.0 };
        self.remaining.store(remaining, Ordering::Relaxed);
        self.counted.store(mark, Ordering::Relaxed);
        self.since.store(now, Ordering::Relaxed);
        self.each.store(each.to_bits(), Ordering::Relaxed);
        self.reset.store(now + reset.time.min(LONGEST).as_millis() as u64, Ordering::Relaxed);
    }
}

/// When a limit is full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reset {
    time: Duration,
    /// It has ever more until then.
    continuous: bool,
}

/// `6m0s`, `1.5s` or a date, which are how token buckets are told of; or bare seconds.
fn reset(text: &str) -> Option<Reset> {
    let time = until(text).or_else(|| date(text)?.duration_since(SystemTime::now()).ok())?;
    Some(Reset { time, continuous: text.ends_with(|last: char| last.is_ascii_alphabetic()) })
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
        assert_eq!(quota.room(10, now), Err(Duration::from_millis(7_500)), "eight come back in a minute, and one is missing");
        quota.told(&requests("0"), last, now + SECOND);
        assert_eq!(quota.room(10, now + SECOND), Err(6 * SECOND));
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

    /// What an answer says of ten requests, the time after it in ms, and how many remain then or in how many ms there is one.
    #[tokio::test(start_paused = true)]
    async fn what_a_limit_has_after_a_while() {
        let check = |limit: &str, remaining: &str, reset: &str, after: u64, expect: Result<Option<u64>, u64>| {
            let now = Instant::now();
            let quota = Quota::new(now);
            let all = [
                ("x-ratelimit-limit-requests", limit),
                ("x-ratelimit-remaining-requests", remaining),
                ("x-ratelimit-reset-requests", reset),
            ];
            quota.told(&headers(&all.into_iter().filter(|(_, value)| *value != "-").collect::<Vec<_>>()), Mark::default(), now);
            let later = now + Duration::from_millis(after);
            let found = quota.room(0, later).map(|_| quota.view(later).requests).map_err(|wait| wait.as_millis() as u64);
            assert_eq!(found, expect, "{limit} {remaining} {reset:?} after {after} ms");
        };
        // A bucket fills all the time.
        check("10", "0", "1m0s", 0, Err(6_000));
        check("10", "0", "1m0s", 5_000, Err(1_000));
        check("10", "0", "1m0s", 6_000, Ok(Some(1)));
        check("10", "5", "30s", 0, Ok(Some(5)));
        check("10", "5", "30s", 12_000, Ok(Some(7)));
        check("10", "5", "30s", 30_000, Ok(Some(10)));
        check("150000", "149984", "6ms", 3, Ok(Some(149_992)));
        check("10000", "0", "8.64s", 864, Ok(Some(1_000)));
        check("10000", "0", "24h", 0, Err(8_640));
        check("10000", "0", "24h", 8_640, Ok(Some(1)));
        // A window fills at its end, and so does what nobody knows the size of.
        check("10", "0", "60", 59_000, Err(1_000));
        check("10", "0", "60", 60_000, Ok(Some(10)));
        check("-", "0", "1m0s", 59_000, Err(1_000));
        check("-", "0", "1m0s", 60_000, Ok(None));
        // A reset that is absent, over, or cannot be read is now; one that is too far away is in an hour.
        for reset in ["-", "0s", "-5s", "soon", "1970-01-01T00:00:00Z", "99999999999999999999999999h"] {
            check("10", "0", reset, 0, Ok(Some(10)));
        }
        for reset in ["1000h", "99999999", "9999-01-01T00:00:00Z"] {
            check("10", "0", reset, 0, Err(3_600_000));
            check("10", "0", reset, 3_600_000, Ok(Some(10)));
        }
        // What is no number of requests says nothing.
        for remaining in ["", "many", "NaN", "-1", "-0.5", "inf", "-inf", "1e300", "18446744073709551615"] {
            check("10", remaining, "1m0s", 0, Ok(None));
        }
        // Nor is a limit one that is none: then only what remains is known.
        for limit in ["0", "-1", "NaN", "inf", "1e300"] {
            check(limit, "3", "1m0s", 0, Ok(Some(3)));
        }
        check("10", "1000", "1m0s", 0, Ok(Some(1_000)));
        let quota = Quota::new(Instant::now());
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
