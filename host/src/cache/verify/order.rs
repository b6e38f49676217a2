//! The order of the words that two texts have in common: does one say it the other way round?
//!
//! "Do dogs chase cats" and "do cats chase dogs" have the same words; so have "the closest planet" and "the planet that is closest",
//! "a git branch" and "a branch in git". The first is another question, the others are not.
//!
//! What it does not do: it knows no grammar. Where it cannot tell, the order is another one.
//!
//! **Invariant:** the same for both orders of the texts.

use super::text::Text;

/// Words by which a compound is turned round: "a branch in git", "the population of Iceland", "exercises that are good".
const LINKS: [&str; 14] = ["of", "in", "for", "with", "from", "using", "on", "is", "are", "was", "were", "that", "which", "as"];

/// Pairs of words that both texts have, and those of them that stand the other way round so that it may matter.
pub(super) fn turned(a: &Text, b: &Text) -> (usize, usize) {
    let (mine, theirs) = (a.placed(), b.placed());
    let once = |words: &[(usize, &str)], word: &str| words.iter().filter(|(_, other)| *other == word).count() == 1;
    let common: Vec<(usize, usize, &str)> = mine
        .iter()
        .filter(|(_, word)| once(&mine, word) && once(&theirs, word))
        .filter_map(|(place, word)| Some((*place, theirs.iter().find(|(_, other)| other == word)?.0, *word)))
        .collect();
    let (mut all, mut turned) = (0, 0);
    for (at, (here, there, first)) in common.iter().enumerate() {
        for (next, other, second) in &common[at + 1..] {
            all += 1;
            let is_turned = other < there;
            turned += usize::from(is_turned && !is_harmless(a, b, (*here, *next), (*other, *there), first, second));
        }
    }
    (all, turned)
}

/// Two words at `here` in one text, the first of them first, and at `there` in the other, the second of them first.
fn is_harmless(a: &Text, b: &Text, here: (usize, usize), there: (usize, usize), first: &str, second: &str) -> bool {
    let superlative = |word: &str| word.ends_with("est") || matches!(word, "best" | "worst" | "most" | "least");
    if superlative(first) != superlative(second) {
        return true;
    }
    let together = |(from, to): (usize, usize)| to == from + 1;
    let linked = |text: &Text, (from, to): (usize, usize)| {
        let between: Vec<&str> = text.keys().skip(from + 1).take(to - from - 1).collect();
        between.iter().any(|word| LINKS.contains(word)) && between.iter().all(|word| is_small(word))
    };
    (together(here) && linked(b, there)) || (together(there) && linked(a, here))
}

fn is_small(word: &str) -> bool {
    LINKS.contains(&word) || matches!(word, "a" | "an" | "the" | "my" | "your" | "this")
}
