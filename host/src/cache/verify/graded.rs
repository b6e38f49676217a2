//! The guards as they stand beside a verifier: a difference that no likeness makes up for is a veto, another one is only a feature.
//!
//! Numbers, units, negation, opposites, times and names are held to as strictly as ever. Of questions, pronouns and the order of words, what
//! turns the meaning is a veto: when for why, he for she, who does it to whom. What may be wording (what for how, can for could, "you" in
//! "how do you", another word) is left to the verifier.
//!
//! What it does not do: it weighs nothing.
//!
//! **Invariant:** the same for both orders of its arguments.

use super::Guard;
use super::order::turned;
use super::text::Text;
use super::words::{TIMES, WHO_ASKS};

/// What asks for one thing alone: no likeness makes when the same as why.
const DEFINITE: [&[&str]; 5] = [&["who", "whom"], &["whose"], &["when"], &["where"], &["why"]];
/// What is asked for by "how" and such a word: how many is not how long.
const MEASURES: [&[&str]; 13] = [
    &["many", "much"],
    &["often"],
    &["far"],
    &["old"],
    &["long"],
    &["tall", "high"],
    &["deep"],
    &["big", "large"],
    &["heavy"],
    &["fast", "quickly", "quick", "soon"],
    &["wide"],
    &["hot", "warm"],
    &["cold"],
];
/// Verbs with which a question begins that is answered by yes or no.
const WHETHER: [&str; 24] = [
    "is", "are", "am", "was", "were", "do", "does", "did", "can", "could", "will", "would", "shall", "should", "may", "might",
    "must", "have", "had", "whether", "isn't", "aren't", "ought", "being",
];

/// Kinds of difference, and on how many sides each is: 0, 1 (something more) or 2 (something else).
pub(super) fn sides(a: &Text, b: &Text) -> [(Guard, u8); 13] {
    let both = |mine: bool, theirs: bool| u8::from(mine) + u8::from(theirs);
    let only = |mine: &[&str], theirs: &[&str]| mine.iter().any(|one| !theirs.contains(one));
    let only_places = |mine: &[usize], theirs: &[usize]| mine.iter().any(|one| !theirs.contains(one));
    let (numbers, others) = (a.numbers(), b.numbers());
    let says_one = |text: &Text| text.keys().any(|key| key == "one" || key == "single");
    let one_of_them = u8::from((numbers.is_empty() && says_one(a)) || (others.is_empty() && says_one(b)));
    let (units, other_units) = (a.units(), b.units());
    let (times, other_times) = (a.those_in(TIMES), b.those_in(TIMES));
    let (persons, other_persons) = (a.persons(), b.persons());
    [
        (
            Guard::Number,
            match both(only(&numbers, &others), only(&others, &numbers)) {
                1 => 1 + one_of_them,
                sides => sides,
            },
        ),
        (Guard::Number, both(only_places(&units, &other_units), only_places(&other_units, &units))),
        (Guard::Negation, 2 * u8::from(Guard::Negation.objects(a, b))),
        (Guard::Antonym, 2 * u8::from(Guard::Antonym.objects(a, b))),
        (Guard::Time, both(only(&times, &other_times), only(&other_times, &times))),
        (Guard::Name, both(a.names_missing_in(b) > 0, b.names_missing_in(a) > 0)),
        (Guard::Name, signs(a, b)),
        (Guard::Question, asks_otherwise(a, b)),
        (Guard::Pronoun, persons_differ(&persons, &other_persons)),
        (Guard::Pronoun, 2 * u8::from((a.points_outside() || b.points_outside()) && !a.has_the_words_of(b))),
        (Guard::Tense, tense(a, b)),
        (Guard::Word, either(a, b)),
        (Guard::Order, order(a, b)),
    ]
}

/// Brackets and operators are code. A slash may be "and/or".
fn signs(a: &Text, b: &Text) -> u8 {
    let code = |text: &Text| -> String { text.signs().chars().filter(|sign| *sign != '/').collect() };
    if code(a) == code(b) { u8::from(a.signs() != b.signs()) } else { 2 }
}

/// Whether something is, and whether it was, are two questions; elsewhere another mood may be wording.
fn tense(a: &Text, b: &Text) -> u8 {
    let is_past = |text: &Text| text.keys().any(|key| matches!(key, "was" | "were" | "did" | "had" | "used"));
    let whether = asks(a) == Asks::Whether && asks(b) == Asks::Whether;
    if whether && is_past(a) != is_past(b) { 2 } else { u8::from(Guard::Tense.objects(a, b)) }
}

/// One or the other is not both.
fn either(a: &Text, b: &Text) -> u8 {
    let has = |text: &Text, word: &str| text.keys().any(|key| key == word);
    let turned = |a: &Text, b: &Text| has(a, "or") && !has(a, "and") && has(b, "and") && !has(b, "or");
    if turned(a, b) || turned(b, a) { 2 } else { 0 }
}

fn persons_differ(mine: &[usize], theirs: &[usize]) -> u8 {
    let only = |mine: &[usize], theirs: &[usize]| mine.iter().any(|one| !theirs.contains(one));
    // Whoever speaks of himself alone might as well have left himself out.
    let alone = |persons: &[usize]| persons.iter().all(|person| *person == WHO_ASKS);
    match (only(mine, theirs), only(theirs, mine)) {
        (true, false) if theirs.is_empty() && alone(mine) => 0,
        (false, true) if mine.is_empty() && alone(theirs) => 0,
        (true, true) => 2,
        // The same ones in another order: who does it to whom?
        (false, false) => 2 * u8::from(mine != theirs),
        _ => 1,
    }
}

fn order(a: &Text, b: &Text) -> u8 {
    if turned(a, b).1 == 0 {
        0
    } else if Guard::Word.objects(a, b) {
        1
    } else {
        2
    }
}

/// What a text asks for.
#[derive(PartialEq)]
enum Asks {
    /// The groups of [`DEFINITE`], and after those of [`MEASURES`].
    For(Vec<usize>),
    /// What, which, how; or it tells somebody to do something.
    Openly(bool),
    /// Yes or no.
    Whether,
}

fn asks(text: &Text) -> Asks {
    let mut definite: Vec<usize> =
        (0..DEFINITE.len()).filter(|group| DEFINITE[*group].iter().any(|word| text.keys().any(|key| key == *word))).collect();
    let mut before = "";
    for key in text.keys() {
        let measure = MEASURES.iter().position(|group| before == "how" && group.contains(&key));
        definite.extend(measure.map(|group| DEFINITE.len() + group));
        before = key;
    }
    let has = |word: &str| text.keys().any(|key| key == word);
    if !definite.is_empty() {
        Asks::For(definite)
    } else if has("what") || has("how") {
        Asks::Openly(has("what"))
    } else if text.keys().next().is_some_and(|first| WHETHER.contains(&first)) {
        Asks::Whether
    } else {
        Asks::Openly(true)
    }
}

fn asks_otherwise(a: &Text, b: &Text) -> u8 {
    match (asks(a), asks(b)) {
        (Asks::For(mine), Asks::For(theirs)) if mine == theirs => 0,
        (Asks::For(mine), Asks::For(theirs)) => {
            let only = |mine: &[usize], theirs: &[usize]| mine.iter().any(|one| !theirs.contains(one));
            1 + u8::from(only(&mine, &theirs) && only(&theirs, &mine))
        }
        // "Who is the author" is "which author is it"; it is not "how".
        (Asks::For(_), Asks::Openly(what)) | (Asks::Openly(what), Asks::For(_)) => 2 - u8::from(what),
        (Asks::Openly(mine), Asks::Openly(theirs)) => u8::from(mine != theirs),
        (Asks::Whether, Asks::Whether) => 0,
        _ => 2,
    }
}
