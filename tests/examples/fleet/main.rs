//! Makes docs/balancing.md and docs/balancing.svg: what the gateway's balancing is worth in fleets of a hundred servers and more, in
//! simulated time, beside round robin, random and least connections.
//!
//! ```sh
//! cargo run --release -p tests --example fleet
//! ```
//!
//! The figures come from seeds and simulated time, so they are the same on every machine.

mod page;
mod plot;

use std::path::Path;

use tests::fleet::policy::Policy;
use tests::fleet::trace::{Shape, trace};
use tests::fleet::{Figures, Setting, Trouble, run};

/// Seconds of a trace, and those before the figures begin.
const SECONDS: f64 = 240.0;
const WARM: f64 = 120.0;
/// The fleet of the plot.
const SERVERS: usize = 128;
/// Loads of the plot, in percent of what least connections can bear.
const LOADS: [u32; 8] = [30, 50, 65, 80, 90, 100, 120, 150];

/// A row of the page: one fleet, one kind of traffic, all policies.
struct Case {
    what: String,
    servers: usize,
    rate: f64,
    figures: Vec<Figures>,
}

fn main() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let chat = |servers: usize| move |rate: f64| Shape::chat(servers, rate, SECONDS);
    let mut cases = Vec::new();
    for servers in [SERVERS, 300] {
        cases.push(case(format!("chat, {servers} servers"), &Setting::of(servers, WARM), chat(servers)));
    }
    let four = Setting { gateways: 4, ..Setting::of(SERVERS, WARM) };
    cases.push(case("four gateways that know nothing of one another".into(), &four, chat(SERVERS)));
    let troubles = (0..SERVERS / 8).map(|server| (60.0, Trouble::Slow(server, 3.0))).collect();
    let slow = Setting { troubles, ..Setting::of(SERVERS, WARM) };
    cases.push(case("every eighth server three times as slow".into(), &slow, chat(SERVERS)));
    let once = |rate| Shape { turns: 1.0, ..Shape::chat(SERVERS, rate, SECONDS) };
    cases.push(case("one turn, no conversations".into(), &Setting::of(SERVERS, WARM), once));
    let few = |rate| Shape { turns: 1.0, tenants: 10, ..Shape::chat(SERVERS, rate, SECONDS) };
    cases.push(case("one turn, ten tenants: every server holds every prefix".into(), &Setting::of(SERVERS, WARM), few));
    let saturated = cases[0].rate / 0.8;
    let curves: Vec<(Policy, Vec<Figures>)> = Policy::ALL
        .iter()
        .map(|policy| {
            let at =
                |load: &u32| measure(&Setting::of(SERVERS, WARM), *policy, &chat(SERVERS)(saturated * f64::from(*load) / 100.0));
            (*policy, LOADS.iter().map(at).collect())
        })
        .collect();
    let written = std::fs::write(docs.join("balancing.svg"), plot::svg(&LOADS, &curves))
        .and_then(|()| std::fs::write(docs.join("balancing.md"), page::text(&cases, saturated / SERVERS as f64)));
    written.expect("docs/ can be written to");
}

fn measure(setting: &Setting, policy: Policy, shape: &Shape) -> Figures {
    run(setting, policy, &trace(shape, 1), 1)
}

/// All policies at 80 % of the load that least connections can bear.
fn case(what: String, setting: &Setting, shape: impl Fn(f64) -> Shape) -> Case {
    let rate = 0.8 * saturation(setting, &shape);
    let figures = Policy::ALL.iter().map(|policy| measure(setting, *policy, &shape(rate))).collect();
    Case { what, servers: setting.servers, rate, figures }
}

/// The requests a second up to which, with least connections, half of the requests have their first token within a second.
fn saturation(setting: &Setting, shape: &impl Fn(f64) -> Shape) -> f64 {
    let bears =
        |rate: f64| measure(setting, Policy::LeastConnections, &shape(rate * setting.servers as f64)).percentile(50.0) <= 1.0;
    // A fleet that is far beyond what it bears takes long to simulate: from below, then between the last two.
    let (mut low, mut high) = (1.5, 1.8);
    while bears(high) {
        (low, high) = (high, high * 1.2);
    }
    for _ in 0..3 {
        let middle = (low + high) / 2.0;
        *(if bears(middle) { &mut low } else { &mut high }) = middle;
    }
    low * setting.servers as f64
}
