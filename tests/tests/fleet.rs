//! The balancing code against a fleet in simulated time: what it is worth beside round robin, random and least connections, and
//! what it does when servers turn slow or fail.
//!
//! The fleets are small, so that a build without optimisation runs them in seconds; `cargo run --release -p tests --example fleet`
//! does larger ones, and makes docs/balancing.md.

use tests::fleet::policy::Policy;
use tests::fleet::trace::{Shape, trace};
use tests::fleet::{Figures, Setting, Trouble, run};

const SERVERS: usize = 12;
/// Requests a second for each server at which, with least connections, the median time to the first token is about a second; a little
/// more, and queues grow without end.
const SATURATED: f64 = 2.8;

fn figures(setting: &Setting, load: f64, policy: Policy) -> Figures {
    run(setting, policy, &trace(&Shape::chat(SERVERS, load * SATURATED * SERVERS as f64, 150.0), 11), 5)
}

#[test]
fn prompts_find_their_caches() {
    let setting = Setting::of(SERVERS, 75.0);
    let others: Vec<Figures> = Policy::OTHERS.iter().map(|policy| figures(&setting, 0.8, *policy)).collect();
    let ours = figures(&setting, 0.8, Policy::Prefix);
    let (mean, hits) = others.iter().fold((f64::MAX, 0.0_f64), |(mean, hits), f| (mean.min(f.mean()), hits.max(f.hits)));
    assert!(ours.mean() <= 0.5 * mean, "TTFT: {} s against {mean} s", ours.mean());
    assert!(ours.hits >= 2.0 * hits, "from the cache: {} against {hits}", ours.hits);
    assert!(ours.done > 0.999 && ours.failed == 0);
    // That was 80 % of something: a quarter more, and the best of the others is at its end.
    let beyond = figures(&setting, 1.1, Policy::LeastConnections);
    assert!(beyond.mean() > 1.5, "{}", beyond.mean());
}

#[test]
fn gateways_that_know_nothing_of_one_another_agree_on_homes() {
    let setting = Setting { gateways: 4, ..Setting::of(SERVERS, 75.0) };
    let (ours, least) = (figures(&setting, 0.8, Policy::Prefix), figures(&setting, 0.8, Policy::LeastConnections));
    assert!(ours.mean() <= 0.5 * least.mean(), "{} against {}", ours.mean(), least.mean());
    assert!(ours.hits >= 1.8 * least.hits, "{} against {}", ours.hits, least.hits);
}

#[test]
fn who_turns_slow_gets_less() {
    let slow = Setting { troubles: vec![(60.0, Trouble::Slow(3, 4.0))], ..Setting::of(SERVERS, 75.0) };
    let (whole, hurt) = (figures(&Setting::of(SERVERS, 75.0), 0.7, Policy::Prefix), figures(&slow, 0.7, Policy::Prefix));
    assert!(hurt.percentile(99.0) < 4.0 * whole.percentile(99.0), "{} {}", hurt.percentile(99.0), whole.percentile(99.0));
    let usual = hurt.shares.iter().sum::<usize>() / SERVERS;
    assert!(hurt.shares[3] < usual * 3 / 4, "{:?}", hurt.shares);
}

#[test]
fn who_fails_is_left_and_comes_back() {
    let troubles = vec![(60.0, Trouble::Down(3)), (70.0, Trouble::Up(3))];
    let setting = Setting { troubles, ..Setting::of(SERVERS, 60.5) };
    let ours = figures(&setting, 0.7, Policy::Prefix);
    assert_eq!(ours.failed, 0, "requests that came after the failure found another server");
    let usual = ours.shares.iter().sum::<usize>() / SERVERS;
    assert!(ours.shares[3] > usual / 3, "back again: {:?}", ours.shares);
    let round = figures(&setting, 0.7, Policy::RoundRobin);
    assert!(round.percentile(99.0) > ours.percentile(99.0));
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let twice = [(); 2].map(|()| figures(&Setting::of(SERVERS, 100.0), 0.4, Policy::Prefix));
    assert_eq!(twice[0].ttft, twice[1].ttft);
    assert_eq!(twice[0].shares, twice[1].shares);
}
