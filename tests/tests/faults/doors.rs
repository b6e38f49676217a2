//! Endpoints that cannot be connected to. They stay as they are, so another try there does not help; and which endpoint is asked
//! first is chance, so each cell asks until it was the one that is not there.

use tests::{Deaf, FakeUpstream, Host, Nobody, Running, eventually};

use super::cell::{DOORS, each, section};
use super::table::{FAULTS, Fault, POLICIES, Phase, Policy, Sees, fate, is_mended, sees};

fn tries_beyond_the_first(host: &Running) -> f64 {
    host.metrics().sum("pointsman_retries_total", &[]) + host.metrics().sum("pointsman_hedges_total", &[])
}

fn check(fault: Fault, policy: &'static Policy, streamed: bool) {
    let deaf = (fault == Fault::Silence).then(Deaf::new);
    let absent = Nobody::new();
    let nobody = deaf.as_ref().map_or_else(|| absent.url(), Deaf::url);
    let fake = FakeUpstream::with_doors(DOORS);
    let urls: Vec<String> = fake.addresses().iter().map(|address| format!("http://{address}/v1")).collect();
    let fate = fate(fault, Phase::Connect).expect("it happens there");
    // Where another endpoint is to mend it, there is a good one; else nobody is anywhere.
    let mends = is_mended(fate, policy, 0) && policy.endpoints > 1;
    let mut pool = vec![nobody.clone()];
    pool.extend(
        (1..policy.endpoints).map(|door| if mends { urls[door].clone() } else { nobody.replace("/v1", &format!("/{door}/v1")) }),
    );
    let host = Host::new().section(&section("cell", policy, &pool, &urls[DOORS - 1])).start();
    let ask = |number: usize| {
        let ask = host.ask(&format!("hi {number}")).model("cell");
        if streamed { ask.streamed() } else { ask }.send()
    };
    match sees(fate, policy, 0) {
        Sees::Told(status, code) => {
            let answer = ask(0);
            assert_eq!((answer.status, answer.code().as_str()), (status, code), "{}", answer.text());
        }
        _ => {
            let mended = (0..60).find(|number| {
                let answer = ask(*number);
                assert_eq!(answer.status, 200, "{}", answer.text());
                assert!(answer.content().ends_with(&format!("of m to: hi {number}")), "{}", answer.text());
                tries_beyond_the_first(&host) > 0.0
            });
            assert!(mended.is_some(), "it was never met");
        }
    }
    // Who has answered is done a moment later than the client is.
    let is_quiet = || fake.active() == 0 && host.metrics().sum("pointsman_upstream_in_flight", &[]) == 0.0;
    eventually("nothing in flight", || is_quiet().then_some(()));
}

#[test]
fn nobody_is_there() {
    let mut cells = Vec::new();
    for (fault, _, _) in FAULTS {
        if fate(fault, Phase::Connect).is_some() {
            cells.extend(POLICIES.iter().flat_map(|policy| [false, true].map(|streamed| (fault, policy, streamed))));
        }
    }
    each(
        cells,
        16,
        |(fault, policy, streamed)| format!("{fault:?}, {}, streamed: {streamed}", policy.name),
        |(fault, policy, streamed)| check(*fault, policy, *streamed),
    );
}
