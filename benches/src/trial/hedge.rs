//! Hedging off and on, before the same servers of which a share of the answers straggles.
//!
//! What it does not do: it does not say which of two calls was the hedge; the servers say which were left before their first event, and
//! whether those were late ones.
//!
//! **Invariant:** both gateways get the same schedule of the same round, one after the other; which is first alternates.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Desk, Gateway, say};
use crate::Result;
use crate::driver::{self, Target};
use crate::figure::Figure;
use crate::gpu::{Counters, Model, Pool};
use crate::report::{Summary, Tally};
use crate::request::{Mix, Template};
use crate::schedule::{Arrivals, Schedule};
use crate::upstream::Wish;

/// Connections of the driver: what waits for stragglers must not keep others from being sent.
const CONNECTIONS: usize = 128;

#[derive(Debug, clap::Args)]
pub(super) struct Hedge {
    /// Requests a second
    #[arg(long, default_value_t = 120.0)]
    rate: f64,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 12.0)]
    seconds: f64,
    /// Measurements of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Servers
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// The share of answers that straggle
    #[arg(long, default_value_t = 0.02)]
    stragglers: f64,
    /// After how long a straggler begins, in milliseconds; others after 20 at least and 5 more in the mean
    #[arg(long, default_value_t = 500)]
    straggle_ms: u64,
    /// When a second server is asked
    #[arg(long, default_value = "p95")]
    after: String,
    /// The share of requests for which one may be
    #[arg(long, default_value_t = 0.05)]
    budget: f64,
}

/// What one way of doing it came to.
struct Side {
    name: &'static str,
    gateway: Gateway,
    first_byte: Vec<Summary>,
    tally: Tally,
    calls: u64,
    left: u64,
    left_late: u64,
}

impl Hedge {
    pub(super) fn run(&self, desk: &Desk, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
        let model = Model {
            slots: 1_024,
            first: Duration::from_millis(20),
            spread: Duration::from_millis(5),
            stragglers: self.stragglers,
            straggle: Duration::from_millis(self.straggle_ms),
            events: 4,
            varied: false,
            pause: Duration::from_millis(2),
        };
        let pool = Pool::start(self.servers, model, 1)?;
        let hedge = format!("hedge = {{ after = \"{}\", budget = {:?} }}", self.after, self.budget);
        let mut sides = [self.side(desk, &pool, "off", "")?, self.side(desk, &pool, "on", &hedge)?];
        for side in &mut sides {
            // Connections, and what the gateway knows of how long answers take.
            driver::open_loop(&target(side, 0), &Schedule::new(Arrivals::Poisson, self.rate, Duration::from_secs(3), 99))?;
        }
        for round in 0..self.rounds {
            say(err, format_args!("round {} of {}", round + 1, self.rounds))?;
            let schedule = Schedule::new(Arrivals::Poisson, self.rate, Duration::try_from_secs_f64(self.seconds)?, round as u64);
            for place in [round % 2, 1 - round % 2] {
                measure(&mut sides[place], &pool.counters, &schedule, round as u64 + 1)?;
            }
        }
        self.write(&sides, out)
    }

    fn side(&self, desk: &Desk, pool: &Pool, name: &'static str, provider: &str) -> Result<Side> {
        let gateway = desk.start(name, pool, provider, "")?;
        Ok(Side { name, gateway, first_byte: Vec::new(), tally: Tally::new()?, calls: 0, left: 0, left_late: 0 })
    }

    fn write(&self, sides: &[Side; 2], out: &mut dyn Write) -> Result<()> {
        writeln!(
            out,
            "{} servers; answers begin after 20 ms and 5 more in the mean, {:.1} % of them after {} ms; {} requests a second \
             (Poisson), {} rounds of {} s; `hedge = {{ after = \"{}\", budget = {} }}`.\n",
            self.servers,
            self.stragglers * 100.0,
            self.straggle_ms,
            self.rate,
            self.rounds,
            self.seconds,
            self.after,
            self.budget
        )?;
        writeln!(
            out,
            "| hedging | TTFT p50 ms | p99 ms | p99.9 ms, all rounds | calls per request | calls left: late, other | errors |"
        )?;
        writeln!(out, "|---|---:|---:|---:|---:|---:|---:|")?;
        for side in sides {
            let of =
                |value: fn(&Summary) -> f64| Figure::show(Figure::of(side.first_byte.iter().map(|times| value(times) / 1e3)), 1);
            let all = side.tally.first_byte.summary().map_or(0.0, |times| times.p999 / 1e3);
            writeln!(
                out,
                "| {} | {} | {} | {all:.1} | {:.4} | {}, {} | {} |",
                side.name,
                of(|times| times.p50),
                of(|times| times.p99),
                side.calls as f64 / side.tally.sent.max(1) as f64,
                side.left_late,
                side.left,
                side.tally.errors.values().sum::<u64>(),
            )?;
        }
        let [off, on] = sides;
        let ratios = off.first_byte.iter().zip(&on.first_byte).map(|(off, on)| on.p99 / off.p99);
        let late = on.tally.late.summary().map_or(0.0, |late| late.p99 / 1e3);
        writeln!(
            out,
            "\np99 with hedging to p99 without, within a round: {} (aim: at most 0.5). Hedged: {} of {} requests, the warm-up's \
             among them. The driver itself was late by {late:.2} ms at p99.",
            Figure::show(Figure::of(ratios), 3),
            on.gateway.metric("pointsman_hedges_total")?,
            on.gateway.metric("pointsman_exchanges_total")?,
        )?;
        Ok(())
    }
}

fn target(side: &Side, seed: u64) -> Target {
    let address = side.gateway.address;
    let template = Template::new(address, Some(&Wish::default()));
    Target { address, connections: CONNECTIONS, template, mix: Mix::new(0.0, seed), streams: true }
}

fn measure(side: &mut Side, counters: &Counters, schedule: &Schedule, seed: u64) -> Result<()> {
    let read = || [&counters.asked, &counters.left, &counters.left_late].map(|counter| counter.load(Ordering::Relaxed));
    let before = read();
    let (tally, _) = driver::send_when_due(&target(side, seed), schedule, Duration::ZERO)?;
    // A call that was left may be noticed after the answer that overtook it.
    std::thread::sleep(Duration::from_millis(200));
    let [calls, left, left_late] = read();
    side.calls += calls - before[0];
    side.left += left - before[1];
    side.left_late += left_late - before[2];
    side.first_byte.push(tally.first_byte.summary().ok_or_else(|| format!("nothing was answered: {:?}", tally.errors))?);
    side.tally.add(&tally)
}
