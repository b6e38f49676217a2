//! Takes out of a text what says no more than that an answer is wanted: greetings, "please tell me", "what is the best way to".
//!
//! What it does not do: it looks only at the beginnings of sentences, and for a "please" at their ends. In "how do I say please"
//! or a "hello world program" nothing is politeness.
//!
//! **Invariant:** a text that is nothing but politeness stays as it is.

use super::text::Word;
use super::words::FRAMES;

/// Leaves out what only asks for an answer, at the beginning of sentences, and a "please" at their end.
pub(super) fn without_frames(words: &[Word]) -> Vec<Word> {
    let mut out: Vec<Word> = Vec::with_capacity(words.len());
    let mut rest = words;
    let mut begins = true;
    while let Some(word) = rest.first() {
        begins |= word.begins_sentence;
        if begins
            && let Some((length, put)) = FRAMES.iter().find_map(|(frame, put, keep)| Some((matched(frame, rest)? - keep, *put)))
        {
            let put = if put == "=" { &word.key } else { put };
            begins = put.is_empty();
            if !begins {
                out.push(Word::new(put, put).at_beginning(true));
            }
            rest = &rest[length..];
            continue;
        }
        rest = &rest[1..];
        let goes =
            matches!(word.key.as_str(), "please" | "pls") && word.ends_clause && (rest.is_empty() || rest[0].begins_sentence);
        if !goes {
            out.push(word.clone().at_beginning(begins));
        }
        begins = false;
    }
    // A text that is nothing but politeness stays as it is.
    if out.is_empty() { words.to_vec() } else { out }
}

/// How many words the frame takes, if the words begin with it. Alternatives are separated by `|`; a word with a full stop
/// must end a clause.
fn matched(frame: &str, words: &[Word]) -> Option<usize> {
    let mut count = 0;
    for slot in frame.split(' ') {
        let word = words.get(count)?;
        let (slot, ends) = slot.strip_suffix('.').map_or((slot, false), |slot| (slot, true));
        if !slot.split('|').any(|one| one == word.key) || (ends && !word.ends_clause) {
            return None;
        }
        count += 1;
    }
    Some(count)
}
