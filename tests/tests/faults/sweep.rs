//! A stream that fails at each of its events, and at several bytes inside each, with no means to mend it and with every.

use tests::{Act, Place};

use super::cell::{Cell, each, policy, run, wrong};
use super::table::{EVENTS, Fate, Fault, Policy};

/// Nothing, everything, and what moves the commit point or goes on behind it.
const SWEPT: [&str; 4] = ["none", "all of them", "continuation", "cascade, first model, and continuation"];

/// Bytes inside an event: the first ones, the field's name, and the data.
const INSIDE: [usize; 5] = [1, 3, 6, 60, 150];

fn cells(fault: Fault, breaks: Fate) -> Vec<Cell> {
    let mut places: Vec<(usize, usize)> = (0..=EVENTS).map(|event| (event, 0)).collect();
    if fault != Fault::Failing {
        places.extend((0..EVENTS - 1).flat_map(|event| INSIDE.map(|byte| (event, byte))));
        // `data: [DONE]`, a line feed, and not the other.
        places.extend([1, 6, 10, 12, 13].map(|byte| (EVENTS - 1, byte)));
    }
    let of = |(event, byte): (usize, usize), policy: &'static Policy| {
        let place = Place::Piece(event, byte);
        let fate = match (event, breaks) {
            (EVENTS, _) => Fate::Fine,
            (0, Fate::Breaks) => Fate::Broken,
            (0, Fate::Stops) => Fate::Slow,
            (0, Fate::Theirs) => Fate::Early,
            _ => breaks,
        };
        let what = format!("{fault:?} at byte {byte} of event {event}, policy: {}", policy.name);
        Cell::with(what, Some(wrong(Act::answer(), fault, place)), fate, event, true, policy)
    };
    let policies = SWEPT.map(policy);
    places.into_iter().flat_map(|place| policies.map(|policy| of(place, policy))).collect()
}

fn check(fault: Fault, breaks: Fate) {
    each(cells(fault, breaks), 24, |cell| cell.what.clone(), run);
}

#[test]
fn cut() {
    check(Fault::Cut, Fate::Breaks);
}

#[test]
fn reset() {
    check(Fault::Reset, Fate::Breaks);
}

#[test]
fn half_open() {
    check(Fault::HalfOpen, Fate::Breaks);
}

#[test]
fn garbage() {
    check(Fault::Garbage, Fate::Breaks);
}

#[test]
fn silence() {
    check(Fault::Silence, Fate::Stops);
}

#[test]
fn slow() {
    check(Fault::Dribble, Fate::Fine);
}

#[test]
fn an_error_of_the_upstreams_own() {
    let mut cells = cells(Fault::Failing, Fate::Theirs);
    // What follows `[DONE]` belongs to nobody.
    cells.retain(|cell| cell.passed < EVENTS);
    each(cells, 24, |cell| cell.what.clone(), run);
}
