//! Does a version do harm that the other one does not? Pure: figures in, a reason out.
//!
//! A difference counts where it is larger than its limit and larger than chance: a canary sees few requests, and is looked at again and
//! again. What is rare and plain (a trap) needs less proof than what varies by itself (errors of upstreams, costs).
//!
//! What it does not do: it follows nothing from its verdict.
//!
//! **Invariant:** fewer samples than the owner asks for are judged only where nearly every call fails.
//! **Invariant:** without another version's figures only failures of the plugin itself are judged.
//! **Invariant:** how an upstream fares is held against a version only where another one has sent there at the same time.

use std::time::Duration;

use super::figures::Figures;

/// Failures of the plugin itself, below which nothing is said.
const A_FEW: u64 = 3;
/// A version that has failed so often, and more often than not, need not be asked further.
const PLAIN: u64 = 10;
/// Standard deviations by which failures differ: one in twenty by chance.
const FAILS: f64 = 1.64;
/// The same for what varies by itself: one in seven hundred by chance, and looks are many.
const VARIES: f64 = 3.0;
/// Quantile of the calls' time that is compared.
const SLOW: f64 = 0.9;
/// Microseconds that nobody notices.
const UNNOTICED: f64 = 200.0;

/// Beyond what a version does harm; see the configuration, `[plugins.NAME.release]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// How far back is looked.
    pub window: Duration,
    /// Calls, or exchanges, of each version.
    pub min_samples: u64,
    /// A share of calls.
    pub traps: f64,
    /// A share of calls.
    pub deadlines: f64,
    /// So many times as long.
    pub latency: f64,
    /// A share of exchanges.
    pub errors: f64,
    /// So much more.
    pub cost: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(300),
            min_samples: 100,
            traps: 0.005,
            deadlines: 0.02,
            latency: 3.0,
            errors: 0.02,
            cost: 0.25,
        }
    }
}

/// Why a version is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The limit's name.
    pub what: &'static str,
    /// In words, with the figures.
    pub text: String,
}

/// The other version's figures.
#[derive(Clone, Copy, Debug)]
pub enum Other<'a> {
    /// There are none any more.
    Unknown,
    /// Of the same time.
    Beside(&'a Figures),
    /// Of an earlier time.
    Before(&'a Figures),
}

/// What there is to say against a version, by its figures and those of the other one.
pub fn judge(limits: &Limits, new: &Figures, old: Other<'_>) -> Option<Reason> {
    let none = Figures::default();
    let (base, is_earlier) = match old {
        Other::Unknown => (&none, true),
        Other::Beside(base) => (base, false),
        Other::Before(base) => (base, true),
    };
    let share = |what, part: fn(&Figures) -> (u64, u64), words, limit, sure| {
        let (of_new, of_old) = (Share::of(part(new)), Share::of(part(base)));
        let harms = of_new.exceeds(&of_old, limit, sure);
        harms.then(|| Reason {
            what,
            text: format!("{what}: {of_new} {words}, of the other version {of_old}; {} more are allowed", percent(limit)),
        })
    };
    let bad = new.failed + new.late;
    if bad >= PLAIN
        && bad * 2 > new.calls
        && Share::of((bad, new.calls)).exceeds(&Share::of((base.failed + base.late, base.calls)), 0.5, 0.0)
    {
        let (what, count) = if new.failed >= new.late { ("traps", new.failed) } else { ("deadlines", new.late) };
        return Some(Reason { what, text: format!("{what}: {count} of {} calls failed", new.calls) });
    }
    let enough = |of: fn(&Figures) -> u64| of(new) >= limits.min_samples && of(base) >= limits.min_samples;
    let mut found = None;
    if new.calls >= limits.min_samples && new.failed >= A_FEW {
        found = share("traps", |figures| (figures.failed, figures.calls), "calls failed", limits.traps, FAILS);
    }
    if found.is_none() && new.calls >= limits.min_samples && new.late >= A_FEW {
        let late = |figures: &Figures| (figures.late, figures.calls);
        found = share("deadlines", late, "calls missed their deadline", limits.deadlines, VARIES);
    }
    if found.is_none() && enough(|figures| figures.calls) {
        found = latency(limits, new, base);
    }
    if found.is_none() && enough(|figures| figures.exchanges) {
        let of_all = |figures: &Figures| (figures.errors, figures.exchanges);
        // An outage in just these minutes is no version's fault.
        let but_upstreams = |figures: &Figures| (figures.errors.saturating_sub(figures.upstream), figures.exchanges);
        let errors = if is_earlier { but_upstreams } else { of_all };
        found = share("errors", errors, "exchanges ended in an error", limits.errors, VARIES).or_else(|| cost(limits, new, base));
    }
    found
}

fn latency(limits: &Limits, new: &Figures, old: &Figures) -> Option<Reason> {
    let (of_new, of_old) = (new.quantile(SLOW)?, old.quantile(SLOW)?);
    (of_new > of_old * limits.latency && of_new > of_old + UNNOTICED).then(|| Reason {
        what: "latency",
        text: format!(
            "latency: nine tenths of its {} calls took up to {of_new:.0} µs, of the other version {of_old:.0} µs; {} times as long is allowed",
            new.calls, limits.latency
        ),
    })
}

fn cost(limits: &Limits, new: &Figures, old: &Figures) -> Option<Reason> {
    let ((of_new, spread_new), (of_old, spread_old)) = (new.mean_cost()?, old.mean_cost()?);
    let error = (spread_new / new.exchanges as f64 + spread_old / old.exchanges as f64).sqrt();
    (of_new > of_old * (1.0 + limits.cost) && of_new - of_old > VARIES * error).then(|| Reason {
        what: "cost",
        text: format!(
            "cost: {} exchanges cost {of_new:.0} micro-dollars in the mean, with the other version {of_old:.0}; {} more is allowed",
            new.exchanges,
            percent(limits.cost)
        ),
    })
}

/// So many of so many.
struct Share {
    part: u64,
    of: u64,
}

impl Share {
    fn of((part, of): (u64, u64)) -> Self {
        Self { part, of }
    }

    fn get(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.part as f64 / self.of as f64 }
    }

    /// Is it larger than the other by more than `limit`, and by more than `sure` standard deviations of chance?
    fn exceeds(&self, other: &Self, limit: f64, sure: f64) -> bool {
        let together = (self.part + other.part) as f64 / (self.of + other.of).max(1) as f64;
        let inverse = |count: u64| if count == 0 { 0.0 } else { 1.0 / count as f64 };
        let error = (together * (1.0 - together) * (inverse(self.of) + inverse(other.of))).sqrt();
        let more = self.get() - other.get();
        more > limit && more >= sure * error
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} of {} ({})", self.part, self.of, percent(self.get()))
    }
}

fn percent(share: f64) -> String {
    // As many digits as say something: 0.5 %, 25 %.
    let text = format!("{:.2}", share * 100.0);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(calls: u64, failed: u64, late: u64, exchanges: u64, errors: u64, cost: u64) -> Figures {
        let mut times = Figures::default().times;
        times[2] = calls;
        let (cost, squares) = (exchanges * cost, exchanges * cost * cost);
        Figures { calls, failed, late, times, exchanges, errors, upstream: 0, cost, squares }
    }

    fn check(new: Figures, old: Figures, expect: Option<&str>) {
        let said = judge(&Limits::default(), &new, Other::Beside(&old));
        assert_eq!(said.as_ref().map(|reason| reason.what), expect, "{new:?} {old:?} {said:?}");
    }

    #[test]
    fn what_fails_more_than_the_other() {
        let good = figures(10_000, 0, 0, 10_000, 100, 500);
        check(good, good, None);
        // One in a hundred, found with the third.
        check(figures(290, 3, 0, 290, 0, 500), good, Some("traps"));
        check(figures(290, 2, 0, 290, 0, 500), good, None);
        check(figures(99, 9, 0, 99, 0, 500), good, None);
        check(figures(12, 10, 0, 12, 0, 500), good, Some("traps"));
        check(figures(12, 0, 10, 12, 0, 500), good, Some("deadlines"));
        // The other one fails as often.
        let weak = figures(10_000, 100, 0, 10_000, 100, 500);
        check(figures(290, 3, 0, 290, 0, 500), weak, None);
        check(figures(290, 9, 0, 290, 0, 500), weak, Some("traps"));
        let broken = figures(1_000, 990, 0, 1_000, 0, 500);
        check(figures(1_000, 1_000, 0, 1_000, 0, 500), broken, Some("traps"));
        check(figures(15, 15, 0, 15, 0, 500), broken, None);
        check(figures(1_000, 0, 30, 1_000, 0, 500), good, Some("deadlines"));
        check(figures(1_000, 0, 15, 1_000, 0, 500), good, None);
    }

    #[test]
    fn what_exchanges_come_to() {
        let good = figures(10_000, 0, 0, 10_000, 100, 500);
        check(figures(400, 0, 0, 400, 24, 500), good, Some("errors"));
        // Within the limit; beyond it, and perhaps by chance.
        check(figures(400, 0, 0, 400, 10, 500), good, None);
        check(figures(100, 0, 0, 100, 4, 500), good, None);
        check(figures(400, 0, 0, 400, 4, 700), good, Some("cost"));
        check(figures(400, 0, 0, 400, 4, 600), good, None);
        let mut scattered = figures(400, 0, 0, 400, 4, 700);
        scattered.squares *= 50;
        check(scattered, good, None);
        // Where nothing cost anything, anything is more.
        check(figures(400, 0, 0, 400, 4, 0), figures(400, 0, 0, 400, 4, 0), None);
    }

    /// Beside another version it counts: whoever chooses a model that fails is told from whoever does not.
    #[test]
    fn an_outage_is_held_against_nobody_who_was_alone() {
        let good = figures(10_000, 0, 0, 10_000, 100, 500);
        let outage = Figures { upstream: 390, ..figures(400, 0, 0, 400, 394, 500) };
        let said = |new: &Figures, old| judge(&Limits::default(), new, old).map(|reason| reason.what);
        assert_eq!(said(&outage, Other::Before(&good)), None);
        assert_eq!(said(&outage, Other::Beside(&good)), Some("errors"));
        let own = Figures { upstream: 300, ..outage };
        assert_eq!(said(&own, Other::Before(&good)), Some("errors"));
    }

    #[test]
    fn what_takes_longer() {
        let good = figures(10_000, 0, 0, 10_000, 100, 500);
        let mut slow = good;
        slow.times.swap(2, 4);
        check(slow, good, None);
        slow.times.swap(4, 6);
        check(slow, good, Some("latency"));
    }

    #[test]
    fn alone_it_is_judged_by_its_failures() {
        let said = |new: &Figures| judge(&Limits::default(), new, Other::Unknown).map(|reason| reason.what);
        assert_eq!(said(&figures(300, 4, 0, 300, 300, 1 << 20)), Some("traps"));
        assert_eq!(said(&figures(300, 0, 0, 300, 300, 1 << 20)), None);
    }

    #[test]
    fn the_reason_has_the_figures() {
        let said = judge(&Limits::default(), &figures(300, 3, 0, 0, 0, 0), Other::Beside(&figures(6_000, 6, 0, 0, 0, 0)));
        let said = said.unwrap();
        assert_eq!(
            said.text,
            "traps: 3 of 300 (1 %) calls failed, of the other version 6 of 6000 (0.1 %); 0.5 % more are allowed"
        );
    }
}
