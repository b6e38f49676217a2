//! Guards: reasons why two texts that lie near one another must not share an answer.
//!
//! No threshold on a cosine tells "turn it on" from "turn it off". Each guard looks at the words for one kind of difference, and where one text says
//! something else than the other (another number, the opposite, he for she) that is a veto. Where only one of them says something (a year more,
//! another word) it is left to the verifier, beside the cosine: [`Question::compare`].
//!
//! [`Question::veto`] is stricter: any difference is one. What passes it is the same words in the same order, but for how they are written
//! and how politely one asks.
//!
//! What it does not do: it finds no likeness; that is the vectors' work.
//!
//! **Invariant:** pure, and the same for both orders of its arguments.

pub mod features;
mod frames;
mod graded;
mod opposites;
mod order;
mod text;
mod verifier;
mod words;

use features::Features;
use text::Text;
pub use verifier::{SAME_WORDS, VERIFIER, Verifier};
use words::{MOODS, NEGATIONS, QUESTIONS, TIMES};

/// A kind of difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Other numbers or units.
    Number,
    /// One says not, the other does not.
    Negation,
    /// One says the opposite of the other.
    Antonym,
    /// Other names, identifiers, operators.
    Name,
    /// Who, when, where, how many; or one asks what, and the other whether.
    Question,
    /// He or she, mine or yours, this one or any; or both mean something that only whoever asks can see.
    Pronoun,
    /// Other days, months, times.
    Time,
    /// What is, was, will be, can be or should be.
    Tense,
    /// A word that matters has no counterpart.
    Word,
    /// The same words in another order.
    Order,
}

impl Guard {
    /// All guards, in the order in which they are asked: those that say most come first.
    pub const ALL: [Self; 10] = [
        Self::Number,
        Self::Negation,
        Self::Antonym,
        Self::Time,
        Self::Name,
        Self::Question,
        Self::Pronoun,
        Self::Tense,
        Self::Word,
        Self::Order,
    ];

    /// The label on /metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Negation => "negation",
            Self::Antonym => "antonym",
            Self::Name => "name",
            Self::Question => "question",
            Self::Pronoun => "pronoun",
            Self::Time => "time",
            Self::Tense => "tense",
            Self::Word => "word",
            Self::Order => "order",
        }
    }

    fn objects(self, a: &Text, b: &Text) -> bool {
        match self {
            Self::Number => a.numbers() != b.numbers(),
            Self::Negation => a.count(NEGATIONS) != b.count(NEGATIONS),
            Self::Antonym => a.says_the_opposite_of(b),
            Self::Name => !a.names_are_in(b) || !b.names_are_in(a),
            Self::Question => a.those_in(QUESTIONS) != b.those_in(QUESTIONS),
            Self::Pronoun => a.pronouns() != b.pronouns() || (a.points_outside() && !a.has_the_words_of(b)),
            Self::Time => a.those_in(TIMES) != b.those_in(TIMES),
            Self::Tense => MOODS.iter().any(|mood| (a.count(mood) > 0) != (b.count(mood) > 0)),
            Self::Word => sorted(a.content()) != sorted(b.content()),
            Self::Order => a.content() != b.content(),
        }
    }
}

/// A question, read once for all stored ones that it is compared with.
pub struct Question<'a> {
    written: &'a str,
    text: Text,
}

impl<'a> Question<'a> {
    /// Reads a question.
    pub fn new(written: &'a str) -> Self {
        Self { written, text: Text::read(written) }
    }

    /// What a verifier weighs, unless a guard objects to giving one the other's answer.
    ///
    /// # Errors
    /// The guard that objects.
    pub fn compare(&self, other: &str) -> Result<Features, Guard> {
        if other == self.written {
            return Ok(Features::NONE);
        }
        let other = Text::read(other);
        let sides = graded::sides(&other, &self.text);
        match sides.iter().find(|(_, sides)| *sides == 2) {
            Some((guard, _)) => Err(*guard),
            None => Ok(Features::of(&other, &self.text, &sides)),
        }
    }

    /// The words that matter, as they are compared: texts that have the same words have these in common.
    pub fn words(&self) -> String {
        self.text.content().join(" ")
    }

    /// Does one text say another number, a negation or an opposite of what the other says?
    pub fn contradicts(&self, other: &str) -> bool {
        let other = Text::read(other);
        [Guard::Number, Guard::Negation, Guard::Antonym].into_iter().any(|guard| guard.objects(&other, &self.text))
    }

    /// The guard that keeps another question's answer from being given to this one, if there is one.
    pub fn veto(&self, other: &str) -> Option<Guard> {
        if other == self.written {
            return None;
        }
        let other = Text::read(other);
        Guard::ALL.into_iter().find(|guard| guard.objects(&other, &self.text))
    }
}

fn sorted(mut words: Vec<&str>) -> Vec<&str> {
    words.sort_unstable();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veto(a: &str, b: &str) -> Option<Guard> {
        Question::new(b).veto(a)
    }

    /// Pairs of our own: the guard that must veto, or `-` for texts that may share an answer, and the texts.
    #[test]
    fn hard_pairs() {
        let pairs = include_str!("verify/pairs.tsv");
        let (mut vetoed, mut shared) = (0, 0);
        for line in pairs.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let fields: Vec<_> = line.split('\t').collect();
            let [expect, a, b] = fields[..] else { panic!("{line:?}") };
            let found = veto(a, b);
            assert_eq!(found, veto(b, a), "order of arguments: {line}");
            assert_eq!(found.map_or("-", Guard::name), expect, "{line}");
            if found.is_some() { vetoed += 1 } else { shared += 1 }
        }
        assert!(vetoed >= 100 && shared >= 40, "{vetoed} {shared}");
    }

    #[test]
    fn code_is_told_apart_by_its_indentation() {
        let inside = "what does this print?\nfor x in y:\n  a(x)\n  b(x)";
        assert_eq!(veto(inside, &inside.replace("\n  b", "\nb")), Some(Guard::Name));
        assert_eq!(veto("How do I\nbake bread?", "How do I bake\nbread?"), None);
    }

    #[test]
    fn every_guard_is_needed_by_a_pair() {
        let pairs = include_str!("verify/pairs.tsv");
        for guard in Guard::ALL {
            let rows = pairs.lines().filter(|line| line.split('\t').next() == Some(guard.name())).count();
            assert!(rows >= 5, "{} has {rows} pairs", guard.name());
        }
    }

    #[test]
    fn a_text_shares_with_itself_and_with_nothing_when_it_is_empty() {
        for text in ["", "  ", "?", "🎉", "SELECT * FROM t WHERE a >= 1;", "你好，世界！", "How do I say please?"] {
            assert_eq!(veto(text, text), None);
            assert_eq!(veto(text, "How do I reset my password?").is_some(), veto("How do I reset my password?", text).is_some());
            assert!(veto(text, "How do I reset my password?").is_some(), "{text:?}");
        }
    }
}
