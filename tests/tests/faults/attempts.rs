//! Upstreams that fail more than once: what the client is told, and that tries stay within their budget.

use std::time::Duration;

use tests::{Act, FakeUpstream, Host, Place, eventually, sse};

use super::cell::{DOORS, allowed, each, policy, start, wrong};
use super::table::{Fault, POLICIES, Policy, THEIR_CODE};

fn kinds() -> [(&'static str, Act); 5] {
    [
        ("silence", Act::silent()),
        ("cut", wrong(Act::answer(), Fault::Cut, Place::Head(25))),
        ("reset", wrong(Act::answer(), Fault::Reset, Place::Piece(0, 0))),
        ("busy", Act::refuse(429, THEIR_CODE).header("retry-after", "1")),
        ("failing", Act::refuse(500, THEIR_CODE)),
    ]
}

fn check(act: &Act, policy: &Policy, streamed: bool) {
    let fake = FakeUpstream::with_doors(DOORS);
    fake.always(act.clone());
    let host = start(policy, fake.addresses());
    let ask = host.ask("hi").model("cell");
    let answer = if streamed { ask.streamed() } else { ask }.send();
    assert!(answer.whole && [429, 500, 502, 503, 504].contains(&answer.status), "{} {}", answer.status, answer.text());
    assert!(!answer.code().is_empty(), "{}", answer.text());
    assert!(!answer.text().contains(".."), "sentences end once: {}", answer.text());
    let allowed = allowed(policy);
    assert!((1..=allowed).contains(&fake.count()), "{} tries of {allowed}", fake.count());
    eventually("the upstreams are let go", || (fake.active() == 0).then_some(()));
    assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
}

#[test]
fn when_all_fail_the_client_is_told_once_the_tries_are_used_up() {
    let mut cells = Vec::new();
    for (name, act) in kinds() {
        cells.extend(POLICIES.iter().flat_map(|policy| [false, true].map(|streamed| (name, act.clone(), policy, streamed))));
    }
    each(
        cells,
        24,
        |(name, _, policy, streamed)| format!("{name}, {}, streamed: {streamed}", policy.name),
        |(_, act, policy, streamed)| check(act, policy, *streamed),
    );
}

/// One failure after another, each mended by what the policy has left: a retry, a hedge, a fallback.
#[test]
fn failures_in_a_row_are_mended_by_what_is_left() {
    let (with_hedge, with_all) = (policy("retry and hedge"), policy("all of them"));
    let silent = Act::silent;
    let failing = || Act::refuse(500, THEIR_CODE);
    let busy = || Act::refuse(429, THEIR_CODE).header("retry-after", "1");
    let cut = || wrong(Act::answer(), Fault::Cut, Place::Piece(0, 0));
    let rows = [
        (with_hedge, [silent(), failing()]),
        (with_hedge, [silent(), silent()]),
        (with_hedge, [failing(), silent()]),
        (with_hedge, [silent(), cut()]),
        (with_all, [silent(), failing()]),
        (with_all, [silent(), silent()]),
        (with_all, [busy(), failing()]),
        (with_all, [failing(), busy()]),
        (with_all, [cut(), cut()]),
    ];
    let rows: Vec<_> =
        rows.into_iter().enumerate().flat_map(|row| [false, true].map(|streamed| (row.clone(), streamed))).collect();
    each(
        rows,
        24,
        |((row, _), streamed)| format!("row {row}, streamed: {streamed}"),
        |((_, (policy, acts)), streamed)| {
            let fake = FakeUpstream::with_doors(DOORS);
            for act in acts {
                fake.next(act.clone());
            }
            let host = start(policy, fake.addresses());
            let ask = host.ask("hi").model("cell");
            let answer = if *streamed { ask.streamed() } else { ask }.send();
            assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
            assert_eq!(answer.content(), "Answer 3 of m to: hi");
            assert!(!streamed || sse::is_done(&answer.body), "{}", answer.text());
            assert_eq!(fake.count(), 3);
            eventually("the upstreams are let go", || (fake.active() == 0).then_some(()));
        },
    );
}

/// Retries and hedges are a share of all requests: an upstream that is down gets hardly more than the requests that there are.
#[test]
fn tries_over_many_requests_stay_within_the_budgets() {
    const REQUESTS: usize = 300;
    let fake = FakeUpstream::with_doors(3);
    fake.always(Act::refuse(500, THEIR_CODE).delay(Duration::from_millis(30)));
    let urls: Vec<String> = fake.addresses().iter().map(|address| format!("http://{address}/v1")).collect();
    let host = Host::new()
        .section(&format!(
            "[providers.p]\nkind = \"openai\"\nendpoints = {urls:?}\nretries = 3\nretry_budget = 0.1\nhedge = {{ after = \"10ms\", budget = 0.1 }}\n\
             breaker = {{ failures = 1000000, success_rate = 0.0 }}\n[models.m]\nprovider = \"p\"\nname = \"m\"\n"
        ))
        .start();
    each((0..REQUESTS).collect(), 8, usize::to_string, |number| {
        assert_eq!(host.ask(&number.to_string()).model("m").send().status, 500);
    });
    // A tenth for each, and the three a second that are free, over the ten seconds for which they are kept.
    let most = REQUESTS + 2 * REQUESTS / 10 + 30 + 10;
    assert!((REQUESTS..=most).contains(&fake.count()), "{} tries for {REQUESTS} requests", fake.count());
}
