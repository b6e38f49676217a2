//! What two texts do not have in common, in numbers: the verifier weighs them beside the cosine.
//!
//! What it does not do: it forbids nothing; that is for the guards.
//!
//! **Invariant:** the same for both orders of the texts, finite, and [`Features::NONE`] for a text and itself.

use super::Guard;
use super::text::Text;

/// How many there are.
pub const COUNT: usize = 3;

/// The names, in the order of the numbers.
pub const NAMES: [&str; COUNT] = ["missing", "replaced", "kinds"];

/// What two texts do not have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Features {
    /// No guard would object, were it as strict as can be: the same words in the same order, but for how they are written and how politely
    /// one asks.
    pub same_words: bool,
    /// One number for each name:
    /// - the share of the words that matter which only one of them has, where the other has nothing for them;
    /// - the share for which the other has another word;
    /// - how many kinds of difference there are for which no guard has vetoed, since only one of them says something.
    pub differences: [f32; COUNT],
}

impl Features {
    /// Of a text and itself.
    pub const NONE: Self = Self { same_words: true, differences: [0.0; COUNT] };

    pub(super) fn of(a: &Text, b: &Text, sides: &[(Guard, u8)]) -> Self {
        let (mine, theirs) = (a.content(), b.content());
        let longer = mine.len().max(theirs.len()).max(1) as f32;
        let (only_mine, only_theirs) = (missing(&mine, &theirs), missing(&theirs, &mine));
        let (most, least) = (only_mine.max(only_theirs) as f32, only_mine.min(only_theirs) as f32);
        let kinds = sides.iter().filter(|(_, sides)| *sides == 1).count();
        let same_words = Guard::ALL.into_iter().all(|guard| !guard.objects(a, b));
        Self { same_words, differences: [(most - least) / longer, least / longer, kinds as f32] }
    }
}

/// Words of one list that the other does not have, each as often as it is there.
fn missing(mine: &[&str], theirs: &[&str]) -> usize {
    let mut left: Vec<&str> = theirs.to_vec();
    let is_missing = |word: &&&str| match left.iter().position(|other| other == *word) {
        Some(place) => {
            left.swap_remove(place);
            false
        }
        None => true,
    };
    mine.iter().filter(is_missing).count()
}
