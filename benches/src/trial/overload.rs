//! A pool behind a gate, at 80 % and at twice of what it bears.
//!
//! Two mixtures: interactive requests alone, and as many interactive ones at both loads with a batch beside them that makes up the rest.
//! Two kinds of answers: all alike, and such as differ much in length and in when they begin. What is asked of a gate with one of
//! these alone can be had by tuning.
//!
//! What it does not do: it takes no average over mixtures; each has its own rows.
//!
//! **Invariant:** the loads of a mixture are measured in turn, at one gateway, whose gate remembers the one before.

use std::io::Write;
use std::time::Duration;

use super::{Desk, Gateway, say};
use crate::Result;
use crate::driver::{self, Target};
use crate::figure::Figure;
use crate::gpu::{Model, Pool};
use crate::report::{Summary, Tally, Times};
use crate::request::{Mix, Template};
use crate::schedule::{Arrivals, Schedule};
use crate::upstream::Wish;

/// Of each driver; what waits in the gateway must not keep others from being sent.
const CONNECTIONS: usize = 400;
/// What a gateway keeps for a moment is given back by then.
const REST: Duration = Duration::from_secs(2);

const LANES: [&str; 2] = ["interactive", "batch"];

#[derive(Debug, clap::Args)]
pub(super) struct Overload {
    /// Seconds of one measurement
    #[arg(long, default_value_t = 12.0)]
    seconds: f64,
    /// Seconds of load before a measurement begins
    #[arg(long, default_value_t = 5.0)]
    settle: f64,
    /// Measurements of each load
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Servers
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Requests at a time at each
    #[arg(long, default_value_t = 8)]
    slots: usize,
    /// `concurrency` of the provider
    #[arg(long, default_value = "{ wait = \"250ms\" }")]
    concurrency: String,
    /// Only mixtures whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// Loads as shares of what the pool bears, by lane: at 80 %, and at twice.
const MIXTURES: [(&str, [[f64; 2]; 2]); 2] =
    [("interactive alone", [[0.8, 0.0], [2.0, 0.0]]), ("a batch beside", [[0.5, 0.3], [0.5, 1.5]])];

/// Who asks, and how much of it is how much.
struct Lanes<'a> {
    gateway: &'a Gateway,
    keys: [String; 2],
    /// Requests a second that the pool bears.
    bears: f64,
}

/// What was found of one lane at one load, over the rounds.
struct Row {
    offered: f64,
    measured: f64,
    tally: Tally,
    rounds: Vec<[Summary; 2]>,
    refused: Times,
}

impl Overload {
    pub(super) fn run(&self, desk: &Desk, out: &mut dyn Write, err: &mut dyn Write) -> Result<()> {
        writeln!(
            out,
            "{} servers of {} slots; `concurrency = {}`; {} rounds of {} s at each load, after {} s that are not counted.",
            self.servers, self.slots, self.concurrency, self.rounds, self.seconds, self.settle
        )?;
        for (kind, model) in self.models() {
            for (mixture, loads) in MIXTURES {
                let name = format!("{kind} answers, {mixture}");
                if self.only.as_ref().is_none_or(|part| name.contains(part.as_str())) {
                    self.mixture(&name, model, loads, desk, out, err)?;
                }
            }
        }
        Ok(())
    }

    fn models(&self) -> [(&'static str, Model); 2] {
        let even = Model {
            slots: self.slots,
            first: Duration::from_millis(40),
            spread: Duration::ZERO,
            stragglers: 0.0,
            straggle: Duration::ZERO,
            events: 30,
            varied: false,
            pause: Duration::from_millis(10),
        };
        let varied = Model { first: Duration::from_millis(20), spread: Duration::from_millis(40), varied: true, ..even };
        [("even", even), ("varied", varied)]
    }

    fn mixture(
        &self,
        name: &str,
        model: Model,
        loads: [[f64; 2]; 2],
        desk: &Desk,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<()> {
        let bears = model.capacity() * self.servers as f64;
        let pool = Pool::start(self.servers, model, 7)?;
        let keys = [desk.key(LANES[0], "")?, desk.key(LANES[1], "priority = \"batch\"\n")?];
        let provider = format!("concurrency = {}", self.concurrency);
        let gateway = desk.start("overload", &pool, &provider, &keys.each_ref().map(|key| key.1.as_str()).concat())?;
        let lanes = Lanes { gateway: &gateway, keys: keys.map(|key| key.0), bears };
        self.load(&lanes, [0.3, 0.3], 1_000)?;
        let idle = gateway.process.resident()?;
        let mut rows: [[Option<Row>; 2]; 2] = Default::default();
        let mut after = 0;
        for round in 0..self.rounds {
            for (place, shares) in loads.into_iter().enumerate() {
                say(
                    err,
                    format_args!("{name}, round {} of {}, {:.0} %", round + 1, self.rounds, 100.0 * (shares[0] + shares[1])),
                )?;
                let found = self.load(&lanes, shares, (round * 2 + place) as u64)?;
                for (lane, tally) in found.into_iter().enumerate() {
                    if let Some(tally) = tally {
                        let row = rows[place][lane].get_or_insert(Row::new(bears * shares[lane])?);
                        row.add(&tally, self.seconds)?;
                    }
                }
            }
            std::thread::sleep(REST);
            after = gateway.process.resident()?;
        }
        writeln!(out, "\n### {}{}\n", name[..1].to_uppercase(), &name[1..])?;
        writeln!(out, "It bears {bears:.0} requests a second.\n")?;
        write_rows(&rows, out)?;
        writeln!(
            out,
            "\nResident memory: {} MiB warm, {} MiB at most, {} MiB after the last round.",
            idle >> 10,
            gateway.process.peak()? >> 10,
            after >> 10
        )?;
        Ok(())
    }

    /// Both lanes at once.
    fn load(&self, lanes: &Lanes<'_>, shares: [f64; 2], seed: u64) -> Result<[Option<Tally>; 2]> {
        let settle = Duration::try_from_secs_f64(self.settle)?;
        let length = settle + Duration::try_from_secs_f64(self.seconds)?;
        let send = |lane: usize| -> Result<Option<Tally>> {
            if shares[lane] == 0.0 {
                return Ok(None);
            }
            let seed = seed * 2 + lane as u64;
            let address = lanes.gateway.address;
            let template = Template::new(address, Some(&Wish::default()));
            let template = template.header("authorization", &format!("Bearer {}", lanes.keys[lane]));
            let target = Target { address, connections: CONNECTIONS, template, mix: Mix::new(0.0, seed), streams: true };
            let schedule = Schedule::new(Arrivals::Poisson, lanes.bears * shares[lane], length, seed);
            Ok(Some(driver::send_when_due(&target, &schedule, settle)?.0))
        };
        std::thread::scope(|scope| {
            let batch = scope.spawn(|| send(1));
            let interactive = send(0)?;
            Ok([interactive, batch.join().map_err(|_| "the batch's driver panicked")??])
        })
    }
}

impl Row {
    fn new(offered: f64) -> Result<Self> {
        Ok(Self { offered, measured: 0.0, tally: Tally::new()?, rounds: Vec::new(), refused: Times::new()? })
    }

    fn add(&mut self, tally: &Tally, seconds: f64) -> Result<()> {
        self.measured += seconds;
        self.tally.add(tally)?;
        self.refused.add(&tally.refused)?;
        let of = |times: &Times| times.summary();
        self.rounds.extend(of(&tally.first_byte).zip(of(&tally.latency)).map(|(first, whole)| [first, whole]));
        Ok(())
    }

    fn figure(&self, value: impl Fn(&[Summary; 2]) -> f64) -> Option<Figure> {
        Figure::of(self.rounds.iter().map(|round| value(round) / 1e3))
    }
}

fn write_rows(rows: &[[Option<Row>; 2]; 2], out: &mut dyn Write) -> Result<()> {
    writeln!(
        out,
        "| load | lane | asked /s | answered /s | refused /s | refused in ms, p50, p99 | TTFT p50 ms | p99 | to 80 % | whole p99 | to 80 % | other errors |"
    )?;
    writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")?;
    let p99 = |row: &Row, which: usize| row.figure(|round| round[which].p99).map(|figure| figure.median);
    for (place, load) in ["80 %", "200 %"].into_iter().enumerate() {
        for (lane, name) in LANES.into_iter().enumerate() {
            let Some(row) = &rows[place][lane] else { continue };
            let ratio = |which| {
                let before = rows[0][lane].as_ref().and_then(|row| p99(row, which));
                p99(row, which).zip(before).map_or("–".to_owned(), |(now, before)| format!("{:.2} ×", now / before))
            };
            let refused =
                row.refused.summary().map_or("–".to_owned(), |times| format!("{:.2}, {:.2}", times.p50 / 1e3, times.p99 / 1e3));
            let count = row.refused.count();
            writeln!(
                out,
                "| {load} | {name} | {:.0} | {:.1} | {:.1} | {refused} | {} | {} | {} | {} | {} | {} |",
                row.offered,
                row.tally.answered as f64 / row.measured,
                count as f64 / row.measured,
                Figure::show(row.figure(|round| round[0].p50), 0),
                Figure::show(row.figure(|round| round[0].p99), 0),
                ratio(0),
                Figure::show(row.figure(|round| round[1].p99), 0),
                ratio(1),
                row.tally.errors.values().sum::<u64>() - count,
            )?;
        }
    }
    Ok(())
}
