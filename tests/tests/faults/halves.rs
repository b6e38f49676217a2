//! A stream that is gone on with, and fails again: in its second half at each of its events, or because nobody goes on.

use tests::{Act, FakeUpstream, Host, Nobody, Place};

use super::cell::{Cell, DOORS, each, policy, run, section, wrong};
use super::seen::is_seen;
use super::table::{EVENTS, FINISH, Fate, Fault, NONE, Policy, Sees, THEIR_CODE};

/// Two further tries, and three endpoints.
static TWICE: Policy = Policy { name: "continuation, twice", endpoints: 3, retries: 2, continues: true, ..NONE };

/// The first half breaks off behind so many events, and the second one, too.
fn cell((first, second): (usize, usize), (fault, breaks, code): (Fault, Fate, &'static str), policy: &'static Policy) -> Cell {
    let what = format!("{fault:?} behind {first} events and {second} more, policy: {}", policy.name);
    let act = |events| wrong(Act::answer(), fault, Place::Piece(events, 0));
    let passed = first + second;
    // Both halves have an event for the role.
    let finished = passed > FINISH + 1;
    let seams = usize::from(second > 0);
    let again = policy.retries > 1 && !finished;
    Cell {
        acts: vec![act(first), act(second)],
        passed,
        seams,
        expected: if again { Sees::Continued } else { Sees::Cut(code) },
        tries: if again { 3 } else { 2 },
        // The words of each half that another one went on with.
        lost: (if seams > 0 { first - 1 } else { 0 }) + if again { [first, second][seams] - 1 } else { 0 },
        ..Cell::with(what, None, breaks, first, true, policy)
    }
}

/// Within what is left another one goes on; else it ends in an error, and never in a reason to finish that nobody gave.
#[test]
fn a_second_half_that_fails_as_well() {
    let (cut, silence) = ((Fault::Cut, Fate::Breaks, "upstream_broken"), (Fault::Silence, Fate::Stops, "upstream_timeout"));
    let mut cells = Vec::new();
    for first in 1..=FINISH {
        // What is left of the words, an event for the role, and the end.
        for second in 0..=EVENTS - first {
            cells.extend([policy("continuation"), &TWICE].map(|policy| cell((first, second), cut, policy)));
            if first == 4 {
                cells.extend([policy("continuation"), &TWICE].map(|policy| cell((first, second), silence, policy)));
            }
        }
    }
    each(cells, 24, |cell| cell.what.clone(), run);
}

/// The client is told of what it has seen happen, once the tries are used up.
#[test]
fn nobody_goes_on() {
    let fails = || {
        [
            Act::silent(),
            wrong(Act::answer(), Fault::Cut, Place::Piece(0, 10)),
            Act::refuse(429, THEIR_CODE).header("retry-after", "1"),
            Act::refuse(500, THEIR_CODE),
            Act::refuse(400, THEIR_CODE),
        ]
    };
    let mut cells = Vec::new();
    for policy in [policy("continuation"), &TWICE] {
        for (number, act) in fails().into_iter().enumerate() {
            let first = wrong(Act::answer(), Fault::Reset, Place::Piece(4, 0));
            // A request that is refused is not sent again.
            let tries = if number == 4 { 2 } else { 1 + policy.retries };
            let acts = [first].into_iter().chain(std::iter::repeat_n(act, tries - 1)).collect();
            let what = format!("failure {number}, policy: {}", policy.name);
            let expected = Sees::Cut("upstream_broken");
            cells.push(Cell { acts, expected, tries, lost: 0, ..Cell::with(what, None, Fate::Breaks, 4, true, policy) });
        }
    }
    each(cells, 24, |cell| cell.what.clone(), run);
}

/// Whichever of the two is asked first: the one that breaks off, or the one where nobody is.
#[test]
fn nobody_else_is_there() {
    let (fake, nobody) = (FakeUpstream::with_doors(DOORS), Nobody::new());
    let policy = policy("continuation");
    let url = |door: usize| format!("http://{}/v1", fake.addresses()[door]);
    let host = Host::new().section(&section("cell", policy, &[url(0), nobody.url()], &url(DOORS - 1))).start();
    let act = wrong(Act::answer(), Fault::Cut, Place::Piece(4, 0));
    fake.next(act);
    let answer = host.ask("hi").model("cell").streamed().send();
    let what = "nobody else is there".to_owned();
    is_seen(&Cell::with(what, None, Fate::Breaks, 4, true, policy), &answer, Sees::Cut("upstream_broken"));
    assert_eq!(fake.count(), 1);
}
