//! What two texts do not have in common, in numbers: the verifier weighs them beside the cosine.
//!
//! What it does not do: it forbids nothing; that is for the guards.
//!
//! **Invariant:** the same for both orders of the texts, finite, and nothing where the texts have the same words in the same order.

use super::Guard;
use super::text::Text;

/// How many there are.
pub const COUNT: usize = 3;

/// The names, in the order of the numbers.
pub const NAMES: [&str; COUNT] = ["missing", "replaced", "kinds"];

/// One number for each name:
/// - the share of the words that matter which only one of them has, where the other has nothing for them;
/// - the share for which the other has another word;
/// - how many kinds of difference there are for which no guard has vetoed, since only one of them says something.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Features(pub [f32; COUNT]);

impl Features {
    pub(super) fn of(a: &Text, b: &Text, sides: &[(Guard, u8)]) -> Self {
        let (mine, theirs) = (a.content(), b.content());
        let longer = mine.len().max(theirs.len()).max(1) as f32;
        let (only_mine, only_theirs) = (missing(&mine, &theirs), missing(&theirs, &mine));
        let (most, least) = (only_mine.max(only_theirs) as f32, only_mine.min(only_theirs) as f32);
        let kinds = sides.iter().filter(|(_, sides)| *sides == 1).count();
        Self([(most - least) / longer, least / longer, kinds as f32])
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
