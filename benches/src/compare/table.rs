//! The rounds as Markdown: medians, the range over the rounds, and ratios to nginx.
//!
//! A ratio, and what a gateway adds to the direct way, is taken within a round, whose measurements lie seconds apart; the median
//! is taken of these. So a machine that becomes slower half-way changes both sides of each.
//!
//! What it does not do: it leaves no round out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::case::{self, DIRECT, NGINX};
use super::measure::{Effort, Memory, Sample, StreamSample};
use super::start::Starts;
use crate::figure::Figure;

/// What a whole run found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Results {
    pub(super) machine: String,
    pub(super) effort: Effort,
    /// By case, round after round.
    pub(super) plain: Vec<BTreeMap<&'static str, Sample>>,
    pub(super) streams: Vec<BTreeMap<&'static str, StreamSample>>,
    pub(super) memory: BTreeMap<&'static str, Memory>,
    /// Why a case's memory could not be read while it held the streams.
    pub(super) not_held: BTreeMap<&'static str, String>,
    pub(super) starts: Starts,
}

/// A case's value and another's, of each round that has both.
fn pairs<T>(rounds: &[BTreeMap<&'static str, T>], name: &str, other: &str, value: impl Fn(&T) -> Option<f64>) -> Vec<(f64, f64)> {
    rounds.iter().filter_map(|round| value(round.get(name)?).zip(value(round.get(other)?))).collect()
}

fn each<T>(rounds: &[BTreeMap<&'static str, T>], name: &str, value: impl Fn(&T) -> Option<f64>) -> Option<Figure> {
    Figure::of(rounds.iter().filter_map(|round| value(round.get(name)?)))
}

fn to_nginx<T>(rounds: &[BTreeMap<&'static str, T>], name: &str, value: impl Fn(&T) -> Option<f64>) -> Option<Figure> {
    Figure::of(pairs(rounds, name, NGINX, value).into_iter().map(|(own, nginx)| own / nginx))
}

/// Over the direct way; for the direct way itself there is nothing to say.
fn added<T>(rounds: &[BTreeMap<&'static str, T>], name: &str, value: impl Fn(&T) -> Option<f64>) -> Option<Figure> {
    if name == DIRECT {
        None
    } else {
        Figure::of(pairs(rounds, name, DIRECT, value).into_iter().map(|(own, direct)| own - direct))
    }
}

/// All of it.
pub(super) fn markdown(results: &Results) -> String {
    let mut text = format!("{}\n\n", results.machine);
    plain(&mut text, results);
    streams(&mut text, results);
    memory(&mut text, results);
    starts(&mut text, results);
    noise(&mut text, results);
    text
}

fn plain(text: &mut String, results: &Results) {
    let (rounds, rate) = (&results.plain, results.effort.rate);
    let _ = writeln!(
        text,
        "Plain answers: {rate:.0} requests a second (Poisson), and as many as possible. Median of {} rounds (range).\n",
        rounds.len()
    );
    text.push_str("| gateway | CPU µs/request | to nginx | added p50 µs | added p99 µs | full load: req/s | CPU µs/request | to nginx |\n|---|---|---|---|---|---|---|---|\n");
    for case in case::PLAIN.iter().filter(|case| rounds.iter().any(|round| round.contains_key(case.name))) {
        let name = case.name;
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            Figure::show(each(rounds, name, |sample| sample.cpu_us), 1),
            Figure::ratio(to_nginx(rounds, name, |sample| sample.cpu_us)),
            Figure::show(added(rounds, name, |sample| Some(sample.p50_us)), 0),
            Figure::show(added(rounds, name, |sample| Some(sample.p99_us)), 0),
            Figure::show(each(rounds, name, |sample| Some(sample.full_rate)), 0),
            Figure::show(each(rounds, name, |sample| sample.full_cpu_us), 1),
            Figure::ratio(to_nginx(rounds, name, |sample| sample.full_cpu_us)),
        );
    }
    let direct = |value: fn(&Sample) -> f64| Figure::show(each(rounds, DIRECT, |sample| Some(value(sample))), 0);
    let _ = writeln!(
        text,
        "\nThe direct way itself: p50 {} µs, p99 {} µs.\n",
        direct(|sample| sample.p50_us),
        direct(|sample| sample.p99_us)
    );
}

fn streams(text: &mut String, results: &Results) {
    let rounds = &results.streams;
    if rounds.is_empty() {
        return;
    }
    let _ = writeln!(text, "Streams: {:.0} a second.\n", results.effort.stream_rate);
    text.push_str("| gateway | first byte: added p50 µs | added p99 µs | CPU µs/stream | to nginx |\n|---|---|---|---|---|\n");
    for case in case::STREAMS.iter().filter(|case| rounds.iter().any(|round| round.contains_key(case.name))) {
        let name = case.name;
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} |",
            Figure::show(added(rounds, name, |sample| Some(sample.first_byte_p50_us)), 0),
            Figure::show(added(rounds, name, |sample| Some(sample.first_byte_p99_us)), 0),
            Figure::show(each(rounds, name, |sample| sample.cpu_us), 1),
            Figure::ratio(to_nginx(rounds, name, |sample| sample.cpu_us)),
        );
    }
    text.push('\n');
}

fn memory(text: &mut String, results: &Results) {
    if results.memory.is_empty() && results.not_held.is_empty() {
        return;
    }
    text.push_str("| gateway | idle RSS MiB | idle CPU ms/s | RSS MiB after load | streams held | KiB per held stream |\n|---|---|---|---|---|---|\n");
    let mib = |kib: u64| kib as f64 / 1024.0;
    for case in &case::MEMORY {
        let Some(found) = results.memory.get(case.name) else { continue };
        let Memory { idle_kib, idle_cpu_ms, warm_kib, streams, stream_kib } = *found;
        let _ = writeln!(
            text,
            "| {} | {:.1} | {idle_cpu_ms:.1} | {:.1} | {streams} | {stream_kib:.1} |",
            case.name,
            mib(idle_kib),
            mib(warm_kib)
        );
    }
    text.push('\n');
    for (name, error) in &results.not_held {
        let _ = writeln!(text, "**Not measured:** {name}: {}\n", error.trim().replace('\n', "; "));
    }
}

fn starts(text: &mut String, results: &Results) {
    let Starts { warm_ms, cold_ms } = &results.starts;
    let show = |times: &[f64]| format!("{} ms ({} times)", Figure::show(Figure::of(times.iter().copied()), 1), times.len());
    if !warm_ms.is_empty() {
        let _ = writeln!(
            text,
            "Start with three plugins, from fork to ready: {}; with nothing compiled yet: {}.\n",
            show(warm_ms),
            show(cold_ms)
        );
    }
}

fn noise(text: &mut String, results: &Results) {
    let samples = || results.plain.iter().flat_map(BTreeMap::values);
    let percent = |figure: Option<Figure>| figure.map_or((0.0, 0.0), |figure| (figure.median * 100.0, figure.high * 100.0));
    let (median, most) = percent(Figure::of(samples().map(|sample| sample.foreign)));
    let late = Figure::of(samples().map(|sample| sample.late_us)).map_or(0.0, |figure| figure.median);
    let _ = writeln!(
        text,
        "Noise: others took {median:.1} % of the gateway's core (at most {most:.1} %); the driver sent {late:.0} µs late at its median."
    );
    if most > 5.0 {
        text.push_str("**Disturbed:** something else ran on the gateway's core. Run it again on a quiet machine before you believe these figures.\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_us: Option<f64>, p50_us: f64) -> Sample {
        Sample { cpu_us, p50_us, p99_us: p50_us * 2.0, full_cpu_us: cpu_us, full_rate: 1_000.0, foreign: 0.01, late_us: 5.0 }
    }

    fn results(rounds: &[(f64, f64, f64)]) -> Results {
        let round = |(nginx, own, direct): &(f64, f64, f64)| {
            BTreeMap::from([
                (DIRECT, sample(None, *direct)),
                (NGINX, sample(Some(*nginx), direct + 70.0)),
                ("no plugin", sample(Some(*own), direct + 90.0)),
            ])
        };
        let effort = Effort { rate: 3_000.0, stream_rate: 300.0, open: 1.0, closed: 1.0 };
        let starts = Starts { warm_ms: vec![20.0, 30.0], cold_ms: vec![200.0] };
        Results {
            machine: "A machine.".into(),
            effort,
            plain: rounds.iter().map(round).collect(),
            streams: vec![],
            memory: BTreeMap::new(),
            not_held: BTreeMap::new(),
            starts,
        }
    }

    /// The machine is twice as slow in the second round: the ratio and what is added do not notice.
    #[test]
    fn ratios_are_taken_within_rounds() {
        let text = markdown(&results(&[(20.0, 30.0, 100.0), (40.0, 60.0, 200.0), (20.0, 30.0, 100.0)]));
        assert!(
            text.contains("| no plugin | 30.0 (30.0–60.0) | 1.50 × | 90 | 180 | 1000 | 30.0 (30.0–60.0) | 1.50 × |"),
            "{text}"
        );
        assert!(text.contains("| direct | – | – | – | – | 1000 | – | – |"), "{text}");
        assert!(text.contains("p50 100 (100–200) µs"), "{text}");
        assert!(text.contains("25.0 (20.0–30.0) ms (2 times); with nothing compiled yet: 200.0 ms (1 times)"), "{text}");
        assert!(!text.contains("Disturbed"), "{text}");
    }

    #[test]
    fn a_disturbed_run_says_so() {
        let mut results = results(&[(20.0, 30.0, 100.0)]);
        if let Some(sample) = results.plain[0].get_mut(NGINX) {
            sample.foreign = 0.2;
        }
        assert!(markdown(&results).contains("at most 20.0 %"));
        assert!(markdown(&results).contains("Disturbed"));
    }

    #[test]
    fn what_could_not_be_held_is_named() {
        let mut results = results(&[(20.0, 30.0, 100.0)]);
        results.not_held.insert("no plugin", "stream 7: status 500\nit said why\n".into());
        let text = markdown(&results);
        assert!(text.contains("**Not measured:** no plugin: stream 7: status 500; it said why\n"), "{text}");
    }

    #[test]
    fn medians() {
        assert_eq!(Figure::of([]), None);
        assert_eq!(Figure::of([3.0, 1.0, 2.0]), Some(Figure { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Figure::of([4.0, 1.0]).map(|figure| figure.median), Some(2.5));
    }
}
