//! `docs/faults.md`, made of the table.
//!
//! What it does not do: it knows nothing of its own about the host; `tests/docs.rs` writes it and holds it to the table.

use std::fmt::Write as _;

use super::table::{
    Cascade, EVENTS, FAULTS, Fate, PLAIN, POLICIES, Phase, Policy, STREAMED, Sees, THEIR_CODE, fate, is_after_first, sees,
};

const FATES: [(Fate, &str, &str); 11] = [
    (Fate::Fine, "fine", "it is no fault, or comes when all has been said"),
    (Fate::Gone, "gone", "nobody is there, and nobody will be in a moment"),
    (Fate::Unreachable, "unreachable", "there is no connection; another try may make one"),
    (Fate::Broken, "broken", "no answer will come from this connection; the next one may be good"),
    (Fate::Slow, "slow", "a bound on time was passed; the upstream may still be at work, and is not asked again"),
    (Fate::Busy, "busy", "the upstream asks to be left alone"),
    (Fate::Failing, "failing", "the upstream's own error, which another try may not meet"),
    (Fate::Early, "early", "the first event is the upstream's own error, which another try may not meet"),
    (Fate::Breaks, "*breaks*", "after the commit point: the answer broke off"),
    (Fate::Stops, "*stops*", "after the commit point: no more came in time"),
    (Fate::Theirs, "*theirs*", "after the commit point: the upstream says itself that it failed"),
];

/// The page.
pub(crate) fn page() -> String {
    let mut page = String::from(
        "# What a client sees when an upstream fails\n\nMade from `tests/tests/faults/table.rs`, which the tests of that theme hold the host to: they let each of these faults happen in each of\nthese phases, plain and streamed, over HTTP/1.1 and HTTP/2, under each policy. For the codes see [errors.md](errors.md), for the settings\n`[providers.NAME]` and `[models.NAME]` in [configuration.md](configuration.md).\n\nThe **commit point** of a stream is its first whole event, that of a plain answer its last byte: a plain answer is passed on when it is whole.\nBefore it a failure may be mended by another try, of which the client sees nothing; after it nobody starts over. Where a cascade's judge\nholds a stream back, its commit point is the first event behind that.\n\n| fault | what goes wrong |\n|---|---|\n",
    );
    for (_, name, about) in FAULTS {
        writeln!(page, "| {name} | {about} |").unwrap();
    }
    page.push_str("\n## What becomes of a try\n\n| | |\n|---|---|\n");
    for (_, name, about) in FATES {
        writeln!(page, "| {name} | {about} |").unwrap();
    }
    by_phase(&mut page, "Plain answers", &PLAIN);
    by_phase(&mut page, "Streams", &STREAMED);
    page.push_str("\n## What the client sees\n\nWhole: 200, one answer from its beginning to its end, from one upstream. A status and a code: an error as in [errors.md](errors.md),\nor, where the upstream said itself that it is busy or failing, its own words. An event: 200, whole events, then one with `error`;\nno `[DONE]`, and a `finish_reason` only where the upstream had sent it.\n\n");
    let (plain, others) = POLICIES.split_at(7);
    by_policy(&mut page, plain);
    page.push_str("\nA hedge asks a second endpoint when the first is late, and so mends what is slow, not what breaks. Tries upstream are at most one, and one\nfor each of `retries`, a hedge, a fallback, and a cascade's second model. The upstream that lost is let go at once: its connection is closed,\nor its stream reset.\n\n## Cascades and continuation\n\nIn a [cascade](cascades.md) of two models the first or the second one fails. What its judge holds back is mended by the second model as if it had not\nbegun; an answer that was doubted before the second model failed is given whole. With [continuation](upstreams.md#a-stream-that-breaks-off)\nthe rest of a stream comes from another endpoint behind a seam, until the event with `finish_reason` has come; where that one fails,\ntoo, it is the same again within `retries`, and then an event. *Then* is behind what is held back, and behind `finish_reason`.\n\n");
    by_policy(&mut page, others);
    page.push_str("\n## The policies\n\n| policy | endpoints | `retries` | `hedge` | `fallback` | `cascade` | `continuation` |\n|---|---|---|---|---|---|---|\n");
    let yes = |has: bool| if has { "yes" } else { "" };
    for Policy { name, endpoints, retries, hedge, fallback, cascade, continues } in &POLICIES {
        let cascade = match cascade {
            None => String::new(),
            Some(Cascade::First(held)) => format!("`tokens = {held}`, the first fails"),
            Some(Cascade::Second) => "the first is doubted, the second fails".to_owned(),
        };
        let (hedge, fallback, continues) = (yes(*hedge), yes(*fallback), yes(*continues));
        writeln!(page, "| {name} | {endpoints} | {retries} | {hedge} | {fallback} | {cascade} | {continues} |").unwrap();
    }
    page
}

/// What becomes of each fate under these policies.
fn by_policy(page: &mut String, policies: &[Policy]) {
    page.push('|');
    for policy in policies {
        write!(page, " | {}", policy.name).unwrap();
    }
    page.push_str(&format!(" |\n|---{}|\n", "|---".repeat(policies.len())));
    for (fate, name, _) in FATES {
        write!(page, "| {name}").unwrap();
        for policy in policies {
            let passed = if is_after_first(fate) { 1..EVENTS } else { 0..1 };
            let mut seen: Vec<Sees> = passed.map(|passed| sees(fate, policy, passed)).collect();
            seen.dedup();
            write!(page, " | {}", seen.into_iter().map(words).collect::<Vec<_>>().join("; then ")).unwrap();
        }
        page.push_str(" |\n");
    }
}

fn words(sees: Sees) -> String {
    match sees {
        Sees::Whole => "whole".to_owned(),
        Sees::Kept => "the doubted answer".to_owned(),
        Sees::Continued => "whole, with a seam".to_owned(),
        Sees::Told(status, THEIR_CODE) => format!("{status}, theirs"),
        Sees::Told(status, code) => format!("{status} `{code}`"),
        Sees::Cut(code) => format!("event `{code}`"),
        Sees::Theirs => "their event".to_owned(),
    }
}

fn by_phase(page: &mut String, title: &str, phases: &[(Phase, &str)]) {
    write!(page, "\n## {title}\n\n| when").unwrap();
    for (_, name, _) in FAULTS {
        write!(page, " | {name}").unwrap();
    }
    page.push_str(&format!(" |\n|---{}|\n", "|---".repeat(FAULTS.len())));
    for (phase, name) in phases {
        write!(page, "| {name}").unwrap();
        for (fault, _, _) in FAULTS {
            let fate = fate(fault, *phase);
            let name = FATES.iter().find(|(known, _, _)| Some(*known) == fate).map_or("", |(_, name, _)| name);
            write!(page, " | {name}").unwrap();
        }
        page.push_str(" |\n");
    }
}
