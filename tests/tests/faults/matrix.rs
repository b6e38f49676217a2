//! The table over HTTP/1.1: each fault in each phase under each policy.

use tests::{Act, FakeUpstream, Host};

use super::cell::{Cell, each, run};
use super::table::{FAULTS, PLAIN, POLICIES, Phase, STREAMED, fate};

/// Cells at a time: most wait for a bound on time to pass.
const AT_A_TIME: usize = 32;

fn cells(phases: &[(Phase, &str)], streamed: bool, is_meant: impl Fn(Phase) -> bool) -> Vec<Cell> {
    let mut cells = Vec::new();
    for (phase, _) in phases.iter().filter(|(phase, _)| is_meant(*phase)) {
        for (fault, _, _) in FAULTS {
            let Some(fate) = fate(fault, *phase) else { continue };
            // A plain answer is not gone on with: it is asked for again.
            let policies = POLICIES.iter().filter(|policy| streamed || !policy.continues);
            cells.extend(policies.map(|policy| Cell::of(fault, *phase, fate, streamed, policy)));
        }
    }
    cells
}

/// Where there is no TLS, nor a need for a door that nobody answers.
fn is_of_an_answer(phase: Phase) -> bool {
    !matches!(phase, Phase::Connect | Phase::Tls | Phase::Sending)
}

fn all(cells: Vec<Cell>, at_a_time: usize) {
    assert!(cells.len() > 100, "only {} cells", cells.len());
    each(cells, at_a_time, |cell| cell.what.clone(), run);
}

#[test]
fn plain_answers() {
    all(cells(&PLAIN, false, is_of_an_answer), AT_A_TIME);
}

#[test]
fn streams() {
    all(cells(&STREAMED, true, is_of_an_answer), AT_A_TIME);
}

/// A request that is longer than what lies between the host and an upstream which does not read it.
#[test]
fn while_the_request_is_sent() {
    let is_meant = |phase| phase == Phase::Sending;
    let mut cells = cells(&PLAIN, false, is_meant);
    cells.extend(self::cells(&STREAMED, true, is_meant));
    // Each has megabytes to send.
    each(cells, 8, |cell| cell.what.clone(), run);
}

/// What is too large to be held until it is whole goes on as it comes: its end is then the only sign that it is not all.
#[test]
fn a_plain_answer_that_is_too_large_to_be_held() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).start();
    let large = Act::body("application/json", [vec![b' '; 1 << 20]]).times(20).length(20 << 20);
    fake.next(large.clone());
    let answer = host.chat("hi");
    assert_eq!((answer.status, answer.whole, answer.body.len()), (200, true, 20 << 20));
    // While it is held another try is made; later there is none.
    fake.next(large.clone().cut_at(10 << 20));
    assert_eq!(host.chat("hi").content(), "Answer 3 of tiny-1 to: hi");
    let before = fake.count();
    fake.next(large.cut_at(19 << 20));
    let answer = host.chat("hi");
    assert_eq!((answer.status, answer.whole, fake.count()), (200, false, before + 1));
}
