//! Opposites: words of which one says the contrary of the other.
//!
//! Three sources: a list of our own ([`ANTONYMS`]), WordNet's (`antonyms.txt`, written by `host/model/antonyms.py`; its notice is in
//! `host/model/README.md`), and prefixes that turn a word
//! round: "happy" and "unhappy", "advantages" and "disadvantages".
//!
//! What it does not do: whether a difference of two texts is one of opposites is for the texts to say.
//!
//! **Invariant:** the same for both orders of the words.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::words::ANTONYMS;

static KNOWN: LazyLock<HashSet<(&'static str, &'static str)>> = LazyLock::new(|| {
    let of_wordnet = include_str!("antonyms.txt").lines().filter_map(|line| line.split_once(' '));
    ANTONYMS.iter().copied().chain(of_wordnet).flat_map(|(a, b)| [(a, b), (b, a)]).collect()
});

/// What turns a word round, written before it.
const PREFIXES: [&str; 9] = ["un", "in", "im", "ir", "il", "dis", "non", "mis", "de"];
/// Letters that must be left of a word without its prefix: "unit" is not the contrary of "it".
const LEAST: usize = 4;

/// Is one of these words the opposite of one of those? Both as they stand, and without their endings.
pub(super) fn are(these: &[&str], those: &[&str]) -> bool {
    let known = |a: &str, b: &str| roots(a).iter().any(|a| roots(b).iter().any(|b| KNOWN.contains(&(a.as_str(), b.as_str()))));
    these.iter().any(|a| those.iter().any(|b| turned(a, b) || turned(b, a) || known(a, b)))
}

fn turned(a: &str, b: &str) -> bool {
    let is_rest = |prefix: &&str| a.strip_prefix(*prefix).is_some_and(|rest| rest == b && rest.len() >= LEAST);
    PREFIXES.iter().any(is_rest)
}

/// A word, and what it may be without the ending of a verb's form or a plural.
fn roots(word: &str) -> Vec<String> {
    let mut roots = vec![word.to_owned()];
    for ending in ["s", "es", "ed", "d", "ing"] {
        if let Some(rest) = word.strip_suffix(ending).filter(|rest| rest.len() >= 3) {
            roots.push(rest.to_owned());
            if ending == "ing" {
                roots.push(format!("{rest}e"));
            }
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opposites_are_found_in_any_form() {
        for (a, b, expect) in [
            ("on", "off", true),
            ("happy", "unhappy", true),
            ("disadvantages", "advantages", true),
            ("accepted", "rejected", true),
            ("opening", "closing", true),
            ("firing", "hires", true),
            ("it", "unit", false),
            ("cat", "dog", false),
        ] {
            assert_eq!((are(&[a], &[b]), are(&[b], &[a])), (expect, expect), "{a} {b}");
        }
    }
}
