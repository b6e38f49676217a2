//! BERT's uncased tokenizer: words and punctuation, lower-cased, without accents; then the longest pieces that the
//! vocabulary has, greedily.
//!
//! Written by hand because the built-in model must cost nothing at start: the general tokenizer builds its tables from a
//! JSON file, which takes tens of milliseconds and megabytes.
//!
//! **Invariant:** the same tokens as the tokenizer that the model was fitted with; a fixture holds it to that.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Words longer than this are unknown, as in BERT.
const MAX_WORD: usize = 100;

/// What stands before a piece that does not begin a word.
const GO_ON: &str = "##";

/// The vocabulary, sorted by bytes, and how to cut text into it.
pub(super) struct Tokenizer {
    /// Little-endian `u32`: where each token's text begins; one more for the end of the last.
    offsets: &'static [u8],
    texts: &'static [u8],
    /// Where the tokens lie that begin a word with each byte.
    begin: Ranges,
    /// Where those lie that go on with it: `##` and the byte.
    go_on: Ranges,
    unknown: usize,
}

type Ranges = Box<[Range<usize>; 256]>;

impl Tokenizer {
    /// None if the vocabulary has no `[UNK]`.
    pub(super) fn new(offsets: &'static [u8], texts: &'static [u8]) -> Option<Self> {
        let empty = || Box::new([const { 0..0 }; 256]);
        let mut tokenizer = Self { offsets, texts, begin: empty(), go_on: empty(), unknown: 0 };
        for place in 0..offsets.len() / 4 - 1 {
            let token = tokenizer.text(place);
            for (ranges, text) in
                [(&mut tokenizer.begin, Some(token)), (&mut tokenizer.go_on, token.strip_prefix(GO_ON.as_bytes()))]
            {
                let Some(first) = text.and_then(|text| text.first()) else { continue };
                let range = &mut ranges[usize::from(*first)];
                *range = if range.start == range.end { place..place + 1 } else { range.start..place + 1 };
            }
        }
        tokenizer.unknown = tokenizer.longest("[UNK]", false).filter(|(_, length)| *length == 5)?.0;
        Some(tokenizer)
    }

    /// Hands the numbers of a text's tokens to `token`, at most `limit` of them.
    pub(super) fn tokens(&self, text: &str, limit: usize, token: &mut dyn FnMut(usize)) {
        let mut left = limit;
        let mut word = String::with_capacity(32);
        let mut end = |word: &mut String| {
            if !word.is_empty() {
                self.pieces(word, &mut left, token);
                word.clear();
            }
            left > 0
        };
        for character in text.chars() {
            let separate = is_punctuation(character) || is_ideograph(character);
            if (character.is_whitespace() || separate) && !end(&mut word) {
                return;
            }
            if separate {
                word.push(character);
                if !end(&mut word) {
                    return;
                }
            } else if character.is_ascii() {
                if !character.is_ascii_control() && character != ' ' {
                    word.push(character.to_ascii_lowercase());
                }
            } else if !character.is_whitespace() && !is_dropped(character) {
                let plain =
                    std::iter::once(character).nfd().filter(|part| part.general_category() != GeneralCategory::NonspacingMark);
                word.extend(plain.flat_map(char::to_lowercase));
            }
        }
        end(&mut word);
    }

    /// A word's pieces: the longest beginning that is known, then `##` and the longest that goes on, and so forth. A word
    /// that cannot be cut up is unknown as a whole.
    fn pieces(&self, word: &str, left: &mut usize, token: &mut dyn FnMut(usize)) {
        let mut found = [0_usize; MAX_WORD];
        let mut count = 0;
        let mut rest = word;
        if word.chars().count() > MAX_WORD {
            rest = "";
            found[0] = self.unknown;
            count = 1;
        }
        while !rest.is_empty() {
            match self.longest(rest, count > 0) {
                Some((place, length)) => {
                    found[count] = place;
                    count += 1;
                    rest = &rest[length..];
                }
                None => {
                    found[0] = self.unknown;
                    count = 1;
                    break;
                }
            }
        }
        for place in &found[..count] {
            if *left == 0 {
                return;
            }
            *left -= 1;
            token(*place);
        }
    }

    /// The place of the longest token that `text` begins with, and its length in `text`; with `goes_on`, among those that do
    /// not begin a word.
    fn longest(&self, text: &str, goes_on: bool) -> Option<(usize, usize)> {
        let (ranges, prefix) = if goes_on { (&self.go_on, GO_ON.len()) } else { (&self.begin, 0) };
        let mut text = text.as_bytes();
        let range = &ranges[usize::from(*text.first()?)];
        loop {
            // A token that `text` begins with sorts before it, and the longest of them last. What sorts in between has a
            // beginning in common with `text`, and no token that is sought is longer than that.
            let (mut low, mut high) = (range.start, range.end);
            while low < high {
                let middle = low.midpoint(high);
                if self.text(middle).get(prefix..).unwrap_or_default() <= text { low = middle + 1 } else { high = middle }
            }
            let place = low.checked_sub(1).filter(|place| range.contains(place))?;
            let token = self.text(place).get(prefix..).unwrap_or_default();
            let common = token.iter().zip(text).take_while(|(one, other)| one == other).count();
            if common == token.len() {
                return Some((place, common));
            }
            text = &text[..common];
        }
    }

    fn text(&self, place: usize) -> &'static [u8] {
        let offset = |at: usize| {
            self.offsets
                .get(at * 4..at * 4 + 4)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
        };
        self.texts.get(offset(place)..offset(place + 1)).unwrap_or_default()
    }
}

/// ASCII symbols count as punctuation in BERT, and so does what Unicode calls it.
fn is_punctuation(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_punctuation();
    }
    matches!(u32::from(character),
        0xa1 | 0xa7 | 0xab | 0xb6 | 0xb7 | 0xbb | 0xbf | 0x37e | 0x387 | 0x55a..=0x55f | 0x589 | 0x58a | 0x5be | 0x5c0 | 0x5c3 | 0x5c6
        | 0x5f3 | 0x5f4 | 0x609 | 0x60a | 0x60c | 0x60d | 0x61b | 0x61d..=0x61f | 0x66a..=0x66d | 0x6d4 | 0x964 | 0x965 | 0x970
        | 0xe4f | 0xe5a | 0xe5b | 0x2010..=0x2027 | 0x2030..=0x2043 | 0x2045..=0x2051 | 0x2053..=0x205e | 0x207d | 0x207e | 0x208d | 0x208e
        | 0x2308..=0x230b | 0x2329 | 0x232a | 0x2768..=0x2775 | 0x27c5 | 0x27c6 | 0x27e6..=0x27ef | 0x2983..=0x2998 | 0x29d8..=0x29db
        | 0x29fc | 0x29fd | 0x2e00..=0x2e2e | 0x2e30..=0x2e4f | 0x2e52..=0x2e5d | 0x3001..=0x3003 | 0x3008..=0x3011 | 0x3014..=0x301f
        | 0x3030 | 0x303d | 0x30a0 | 0x30fb | 0xfe10..=0xfe19 | 0xfe30..=0xfe52 | 0xfe54..=0xfe61 | 0xfe63 | 0xfe68 | 0xfe6a | 0xfe6b
        | 0xff01..=0xff03 | 0xff05..=0xff0a | 0xff0c..=0xff0f | 0xff1a | 0xff1b | 0xff1f | 0xff20 | 0xff3b..=0xff3d | 0xff3f | 0xff5b
        | 0xff5d | 0xff5f..=0xff65)
}

/// Chinese characters stand alone; kana and hangul are written in words.
fn is_ideograph(character: char) -> bool {
    matches!(u32::from(character), 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x2a6df | 0x2a700..=0x2ceaf | 0x2f800..=0x2fa1f)
}

/// Control and format characters, which BERT takes out.
fn is_dropped(character: char) -> bool {
    character.is_control()
        || matches!(u32::from(character), 0xfffd | 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x2064 | 0x2066..=0x206f | 0xfeff | 0xe000..=0xf8ff | 0xe0001..=0xe007f)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts and what the teacher's own tokenizer makes of them; `host/model/README.md` says how the file was made.
    fn tokenizer() -> Tokenizer {
        let file: &'static [u8] = include_bytes!("../../model/built-in.bin");
        let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
        let (tokens, dimensions) = (number(8), number(12));
        let offsets = &file[20..20 + (tokens + 1) * 4];
        let texts = &file[20 + (tokens + 1) * 4 + tokens * 2 + tokens * dimensions / 2..];
        Tokenizer::new(offsets, texts).unwrap()
    }

    /// Beside a search that tries every length, from the longest to the shortest.
    #[test]
    fn no_longer_token_is_missed() {
        let tokenizer = tokenizer();
        let count = tokenizer.offsets.len() / 4 - 1;
        let all: std::collections::HashMap<&[u8], usize> = (0..count).map(|place| (tokenizer.text(place), place)).collect();
        let text = |place: usize| String::from_utf8_lossy(tokenizer.text(place)).trim_start_matches('#').to_owned();
        for step in 0..count {
            let word = text(step) + &text(step * 31 % count) + &text(step * 17 % count);
            for goes_on in [false, true] {
                let prefix = if goes_on { GO_ON } else { "" };
                let expect = (1..=word.len())
                    .rev()
                    .filter(|end| word.is_char_boundary(*end))
                    .find_map(|end| all.get(format!("{prefix}{}", &word[..end]).as_bytes()).map(|place| (*place, end)));
                assert_eq!(tokenizer.longest(&word, goes_on), expect, "{word} {goes_on}");
            }
        }
    }

    #[test]
    fn the_same_tokens_as_the_teachers_tokenizer() {
        let tokenizer = tokenizer();
        let golden: Vec<(String, Vec<String>)> = serde_json::from_str(include_str!("../../model/tokens.json")).unwrap();
        assert!(golden.len() >= 50);
        for (text, expect) in golden {
            let mut seen = Vec::new();
            tokenizer.tokens(&text, 256, &mut |token| seen.push(String::from_utf8_lossy(tokenizer.text(token)).into_owned()));
            assert_eq!(seen, expect, "{text:?}");
        }
    }
}
