//! How often and how soon a request is sent again: a budget over all requests of a pool, and a pause before the same endpoint is
//! asked again.
//!
//! Without a budget, retries multiply what an overloaded pool gets. Tower keeps it: each request pays in, each further try takes out,
//! and a few a second are free, so that a pool with little traffic can retry at all.
//!
//! **Invariant:** over ten seconds, tries beyond the first are at most the budget's share of requests, and the few that are free.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use tower::retry::budget::{Budget as _, TpsBudget};

/// For how long what was paid in can be taken out.
const REMEMBERS: Duration = Duration::from_secs(10);

/// A share of requests that may be sent a second time.
pub struct Budget {
    /// Thousandths that a request pays in, and what has been paid that is not whole yet.
    share: u32,
    part: AtomicU32,
    paid: TpsBudget,
}

impl Budget {
    /// `share`: further tries per request, 0 to 1; `free`: further tries a second in any case.
    pub fn new(share: f32, free: u32) -> Self {
        // Tower counts in whole numbers, and only shares of one in so many would come out right: here thousandths are added up, and
        // whole ones paid in.
        let share = (share * 1e3).round() as u32;
        Self { share, part: AtomicU32::new(0), paid: TpsBudget::new(REMEMBERS, free, 1.0) }
    }

    /// A request has come.
    pub fn pay_in(&self) {
        let before = self.part.fetch_add(self.share, Ordering::Relaxed);
        if before / 1_000 != before.wrapping_add(self.share) / 1_000 {
            self.paid.deposit();
        }
    }

    /// May one be sent again?
    pub fn take_out(&self) -> Option<Token<'_>> {
        self.paid.withdraw().then(|| Token(Some(self)))
    }
}

/// The right to one further try. It goes back where none was made: no endpoint could be chosen, or the client has left.
#[must_use]
pub struct Token<'a>(Option<&'a Budget>);

impl Token<'_> {
    /// The try is made.
    pub fn spent(mut self) {
        self.0 = None;
    }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        if let Some(budget) = self.0 {
            budget.paid.deposit();
        }
    }
}

/// The pause before the same endpoint is asked again: up to 25 ms, then twice as much each time, at most a second. By chance, so
/// that those who failed together do not come back together.
pub fn pause(again: u32) -> Duration {
    let most = Duration::from_millis(25 << again.min(6)).min(Duration::from_secs(1));
    most.mul_f32(fastrand::f32())
}

/// For how long an endpoint asks to be left alone, by whichever header it says so: `retry-after-ms`, `retry-after` (seconds or a
/// date), or, where it has refused a request over a limit, when that limit is full again (`x-ratelimit-reset-*`).
pub fn asked(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let ms = text("retry-after-ms").and_then(|text| text.parse().ok()).map(Duration::from_millis);
    let after = || {
        let text = text("retry-after")?;
        let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        seconds.or_else(|| httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok())
    };
    let reset = || {
        if status != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        let used_up = |kind: &str| text(&format!("x-ratelimit-remaining-{kind}")) == Some("0");
        let resets = ["requests", "tokens"].into_iter().filter(|kind| used_up(kind));
        resets.filter_map(|kind| until(text(&format!("x-ratelimit-reset-{kind}"))?)).max()
    };
    ms.or_else(after).or_else(reset)
}

/// `6m0s`, `1.5s`, `250ms`, or seconds.
pub(super) fn until(text: &str) -> Option<Duration> {
    let mut sum = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let unit = behind.find(|character: char| character.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let seconds = match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return None,
        };
        sum += number.parse::<f64>().ok()? * seconds;
        rest = behind;
    }
    Duration::try_from_secs_f64(sum).ok().filter(|pause| !pause.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn further_tries_are_a_share_of_requests() {
        for share in [0.0, 0.05, 0.2, 0.34, 0.6, 1.0] {
            let budget = Budget::new(share, 1);
            let mut taken = 0.0;
            for _ in 0..10_000 {
                budget.pay_in();
                taken += f32::from(u8::from(budget.take_out().map(Token::spent).is_some()));
            }
            // And one a second over ten seconds.
            assert!((taken - 10.0 - 10_000.0 * share).abs() < 15.0, "{taken} for {share}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_spent_goes_back() {
        let budget = Budget::new(0.5, 0);
        (0..4).for_each(|_| budget.pay_in());
        (0..10).for_each(|_| drop(budget.take_out().expect("none was spent")));
        let both = [budget.take_out(), budget.take_out()];
        assert!(both.iter().all(Option::is_some) && budget.take_out().is_none());
        both.into_iter().flatten().for_each(Token::spent);
        assert!(budget.take_out().is_none());
    }

    #[test]
    fn pauses_grow() {
        for again in 0..40 {
            assert!(pause(again) <= Duration::from_millis(25 << again.min(6)).min(Duration::from_secs(1)));
        }
    }

    #[test]
    fn how_long_an_endpoint_asks_to_be_left_alone() {
        let check = |status: u16, headers: &[(&'static str, &str)], expect: Option<u64>| {
            let map = headers.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect();
            let found = asked(StatusCode::from_u16(status).unwrap(), &map);
            assert_eq!(found.map(|pause| pause.as_millis() as u64), expect, "{status} {headers:?}");
        };
        check(429, &[], None);
        check(429, &[("retry-after", "17")], Some(17_000));
        check(503, &[("retry-after", "0.5")], Some(500));
        check(503, &[("retry-after", "soon")], None);
        check(503, &[("retry-after", "-1")], None);
        check(429, &[("retry-after-ms", "250"), ("retry-after", "1")], Some(250));
        check(429, &[("retry-after", "Thu, 01 Jan 1970 00:00:00 GMT")], None);
        let (used_up, reset) = (("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0.5s"));
        check(429, &[used_up, reset], Some(360_500));
        check(429, &[("x-ratelimit-remaining-tokens", "12"), reset], None);
        check(500, &[used_up, reset], None);
        assert_eq!(
            [until("250ms"), until("2"), until("x"), until("")].map(|pause| pause.map(|pause| pause.as_millis())),
            [Some(250), Some(2_000), None, None]
        );
    }
}
