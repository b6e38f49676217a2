//! docs/balancing.md: what is simulated, and what came of it.

use std::fmt::Write as _;

use tests::fleet::policy::Policy;

use super::Case;

pub(super) fn text(cases: &[Case], saturated: f64) -> String {
    let mut page = HEAD.replace("SATURATED", &format!("{saturated:.1}"));
    for Case { what, servers, rate, figures } in cases {
        writeln!(page, "\n### {}{}\n", what[..1].to_uppercase(), &what[1..]).expect("a string takes it");
        writeln!(page, "{servers} servers, {rate:.0} requests a second.\n").expect("a string takes it");
        page.push_str("| policy | mean TTFT | median | p99 | from the cache |\n|---|---|---|---|---|\n");
        for (policy, figures) in Policy::ALL.iter().zip(figures) {
            let ms = |seconds: f64| format!("{:.0} ms", seconds * 1e3);
            writeln!(
                page,
                "| {} | {} | {} | {} | {:.0} % |",
                policy.name(),
                ms(figures.mean()),
                ms(figures.percentile(50.0)),
                ms(figures.percentile(99.0)),
                figures.hits * 100.0
            )
            .expect("a string takes it");
        }
        let others = || Policy::ALL.iter().zip(figures).filter(|(policy, _)| Policy::OTHERS.contains(policy)).map(|(_, f)| f);
        let (mean, hits) = (others().map(|f| f.mean()).fold(f64::MAX, f64::min), others().map(|f| f.hits).fold(0.0, f64::max));
        if let Some(ours) = figures.last() {
            let (times, share) = (mean / ours.mean(), ours.hits / hits);
            writeln!(
                page,
                "\nAgainst the best of the other three: {times:.1} times as quick, {share:.1} times as much from the cache."
            )
            .expect("a string takes it");
        }
    }
    page
}

const HEAD: &str = "# Balancing

Made by `cargo run --release -p tests --example fleet`; not edited by hand. `[providers.NAME]` in
[configuration.md](configuration.md) has the keys, and [upstreams.md](upstreams.md#who-gets-a-request) what to write; `host/src/upstream/balance.rs` has the rule.

![Mean time to the first token, and the share of prompts from the cache, by load](balancing.svg)

## What is simulated

The gateway's own code (pool, balance, breaker, who holds which prefix) at simulated instants, in front of servers that do what
an iteration of vLLM's scheduler does: continuous batching, prompts in chunks of at most 2,048 tokens a step, a prefix cache in
blocks that are forgotten oldest first, a KV memory of 400,000 tokens, a queue. A server reads 8,000 tokens a second and takes
20 ms a step and 25 ns for each token that is attended to: about a 70B model on four H100s.

Requests are conversations of twenty tenants a server, whose popularity follows Zipf's law (exponent 1). System prompts are
lognormal with a median of 1,000 tokens, what users say 120, answers 200; five turns on average, twenty seconds apart. All policies
get the same requests at the same times. Two minutes go before the two that are counted.

**80 % load** is 80 % of the rate at which, with least connections, half of the requests still get their first token within a
second (with 128 servers that rate is SATURATED requests a second for each server). That load is less for who reads less: with prefix
affinity the same fleet bears more than half as much again, as the plot shows. Least connections sees the pending requests of the whole
fleet exactly. Nothing is on the way between gateway and servers, and nobody's metrics are read.

## What came of it, at 80 % load

Without affinity the rule is worse than least connections here: it compares two endpoints and not all, and the time until an answer
begins says more of a prompt's length than of its server. It is made for servers that are unlike one another. Where all servers
hold every prefix there is nothing to gain, and prefix affinity costs some: a gateway remembers eight holders of a block, and takes
the others for empty.
";
