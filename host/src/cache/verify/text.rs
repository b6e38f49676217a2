//! A text as the guards see it: words, how they are compared, and which of them matter.
//!
//! Contractions are written out, spellings made one, and phrases that only say "please answer this" left out, so that what
//! differs afterwards is a difference in what is asked.
//!
//! What it does not do: it knows no grammar. Whether two texts may share an answer is for the guards to say.
//!
//! **Invariant:** nothing is left out of a text so that nothing remains.

use super::frames::without_frames;
use super::opposites;
use super::words::{CONTRACTED, NUMBERS, POINTERS, PRONOUNS, QUESTIONS, SAME, STOP, UNITS, WHO_ASKS};

/// A word as it is written, and as it is compared.
#[derive(Clone)]
pub(super) struct Word {
    written: String,
    /// Lower case; another spelling of a word has the same key. What matters of it is its stem.
    pub(super) key: String,
    stem: String,
    pub(super) begins_sentence: bool,
    /// Something like a comma or a full stop follows, or nothing.
    pub(super) ends_clause: bool,
}

pub(super) struct Text {
    words: Vec<Word>,
    /// All keys, sorted.
    keys: Vec<String>,
    /// Places of the words that matter.
    content: Vec<usize>,
    signs: String,
}

impl Text {
    pub(super) fn read(text: &str) -> Self {
        let text = text.replace(['’', '‘'], "'").replace(['–', '−'], "-");
        let read = without_frames(&words(&text));
        let mut keys: Vec<String> = read.iter().map(|word| word.key.clone()).collect();
        keys.sort_unstable();
        let content = (0..read.len()).filter(|place| matters(&read, *place)).collect();
        Self { words: read, keys, content, signs: signs(&text) }
    }

    /// Numbers, with whatever is written together with one; sorted.
    pub(super) fn numbers(&self) -> Vec<&str> {
        let mut numbers: Vec<&str> =
            self.words.iter().map(|word| word.stem.as_str()).filter(|stem| stem.contains(char::is_numeric)).collect();
        numbers.sort_unstable();
        numbers
    }

    pub(super) fn count(&self, list: &[&str]) -> usize {
        self.words.iter().filter(|word| list.contains(&word.key.as_str())).count()
    }

    pub(super) fn those_in<'a>(&self, list: &[&'a str]) -> Vec<&'a str> {
        list.iter().copied().filter(|item| self.has(item)).collect()
    }

    fn has(&self, key: &str) -> bool {
        self.keys.binary_search_by(|candidate| candidate.as_str().cmp(key)).is_ok()
    }

    /// Who is meant, in order, as numbers of groups of pronouns.
    pub(super) fn pronouns(&self) -> Vec<usize> {
        self.words.iter().filter_map(|word| PRONOUNS.iter().position(|group| group.contains(&word.key.as_str()))).collect()
    }

    /// Who is meant, as groups of pronouns in the order in which they come, each once. "You" in "how do you" is whoever asks, where the text
    /// speaks of nobody else; "it" is nobody.
    pub(super) fn persons(&self) -> Vec<usize> {
        let group = |word: &Word| match word.key.as_str() {
            "my" | "mine" => Some(WHO_ASKS),
            "it" => None,
            key => PRONOUNS.iter().position(|group| group.contains(&key)),
        };
        let mut persons: Vec<usize> = Vec::new();
        for person in self.words.iter().filter_map(group) {
            if !persons.contains(&person) {
                persons.push(person);
            }
        }
        if let [only] = &mut *persons
            && self.asks_of_anybody()
        {
            *only = WHO_ASKS;
        }
        persons
    }

    /// "How do you", "where can we", "what should one".
    fn asks_of_anybody(&self) -> bool {
        self.words.windows(3).any(|three| {
            matches!(three[0].key.as_str(), "how" | "where" | "what" | "when" | "why")
                && matches!(three[1].key.as_str(), "do" | "can" | "could" | "should" | "would" | "will")
                && matches!(three[2].key.as_str(), "you" | "we" | "one")
        })
    }

    /// Speaks of this or these: what that is may be outside the text, and need not be the same for two who ask.
    pub(super) fn points_outside(&self) -> bool {
        POINTERS.iter().any(|word| self.has(word))
    }

    /// The very same words, however they are written.
    pub(super) fn has_the_words_of(&self, other: &Self) -> bool {
        self.words.iter().map(|word| &word.key).eq(other.words.iter().map(|word| &word.key))
    }

    /// Every name and identifier here is a word there, in whatever case, and signs are the same.
    pub(super) fn names_are_in(&self, other: &Self) -> bool {
        self.signs == other.signs && self.words.iter().filter(|word| word.is_name()).all(|word| other.has(&word.key))
    }

    /// The stems of the words that matter, in order.
    pub(super) fn content(&self) -> Vec<&str> {
        self.content.iter().filter_map(|place| self.words.get(*place)).map(|word| word.stem.as_str()).collect()
    }

    /// Names and identifiers that the other does not have, in whatever case.
    pub(super) fn names_missing_in(&self, other: &Self) -> usize {
        self.words.iter().filter(|word| word.is_name() && !other.has(&word.key)).count()
    }

    /// Brackets, operators and the like.
    pub(super) fn signs(&self) -> &str {
        &self.signs
    }

    /// Units, as numbers of groups, sorted.
    pub(super) fn units(&self) -> Vec<usize> {
        let group = |word: &Word| UNITS.iter().position(|group| group.contains(&word.key.as_str()));
        let mut units: Vec<usize> = self.words.iter().filter_map(group).collect();
        units.sort_unstable();
        units.dedup();
        units
    }

    /// Its words, as they are compared.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|word| word.key.as_str())
    }

    /// Stems of the words that matter, with their places among all words.
    pub(super) fn placed(&self) -> Vec<(usize, &str)> {
        self.content.iter().filter_map(|place| Some((*place, self.words.get(*place)?.stem.as_str()))).collect()
    }

    /// A word that only one has is the opposite of a word that only the other has, as they stand or without an ending.
    pub(super) fn says_the_opposite_of(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.own_words(other), other.own_words(self));
        opposites::are(&mine, &theirs)
    }

    fn own_words(&self, other: &Self) -> Vec<&str> {
        let own = self.words.iter().filter(|word| !other.has(&word.key));
        own.flat_map(|word| [word.key.as_str(), word.stem.as_str()]).collect()
    }
}

impl Word {
    pub(super) fn new(written: &str, key: &str) -> Self {
        let key = SAME.iter().find(|(other, _)| *other == key).map_or(key, |(_, one)| one);
        Self { written: written.to_owned(), key: key.to_owned(), stem: stem(key), begins_sentence: false, ends_clause: false }
    }

    pub(super) fn at_beginning(self, begins_sentence: bool) -> Self {
        Self { begins_sentence, ..self }
    }

    /// Capitals inside a sentence, or anywhere but at the beginning of the word; signs inside it.
    fn is_name(&self) -> bool {
        let mut characters = self.written.chars();
        let first = characters.next().is_some_and(char::is_uppercase);
        let inside = characters.any(char::is_uppercase);
        let sign = self.written.contains(['_', '@', '/', '.', '\\', ':', '#', '+'])
            || (self.written.starts_with('-') && self.written.contains(char::is_alphabetic));
        let shouted = !self.written.chars().any(char::is_lowercase);
        self.key != "i" && ((first && !self.begins_sentence) || (inside && !shouted) || sign)
    }
}

/// Punctuation that says nothing about what is asked.
fn is_plain(character: char) -> bool {
    ".,!?;:'\"()[]{}-–—…`*~“”«»¿¡。，！？、；：（）「」".contains(character)
}

/// Cuts a text into words.
fn words(text: &str) -> Vec<Word> {
    // "IT" is not "it", unless everything is in capitals.
    let shouted = !text.chars().any(char::is_lowercase);
    let mut words: Vec<Word> = Vec::new();
    let mut begins_sentence = true;
    for piece in text.split_whitespace() {
        let before = words.len();
        let is_face = piece.starts_with([':', ';', '=']) && piece.chars().count() > 1 && !piece.contains(char::is_alphanumeric);
        if is_face {
            words.push(Word::new(piece, piece));
        } else {
            // A minus in front stays, of a number or an option.
            let core = piece.trim_end_matches(is_plain).trim_start_matches(|character| is_plain(character) && character != '-');
            split(core).for_each(|part| expand(part, shouted, &mut words));
        }
        if let Some(first) = words.get_mut(before) {
            first.begins_sentence = begins_sentence;
            begins_sentence = false;
        }
        if let Some(last) = words.last_mut() {
            last.ends_clause |= piece.ends_with(is_plain);
        }
        begins_sentence |= piece.ends_with(['.', '!', '?', ':']);
    }
    if let Some(last) = words.last_mut() {
        last.ends_clause = true;
    }
    words
}

/// Words that are joined by a hyphen or slash are looked at one by one, unless they are an identifier, an option, a number, or
/// of one letter, as in a formula.
fn split(core: &str) -> impl Iterator<Item = &str> {
    let joins = |character: char| matches!(character, '-' | '/' | ',' | ';' | '(' | ')' | '"');
    let whole = core.starts_with('-')
        || core.contains(['_', '@', '.', ':', '\\'])
        || core.contains(char::is_numeric)
        || core.split(joins).any(|part| part.chars().count() == 1);
    core.split(move |character: char| !whole && joins(character)).filter(|part| !part.is_empty())
}

/// Brackets, calls, operators and indentation, in order: what code and formulas differ in when their words are the same.
fn signs(text: &str) -> String {
    let mut signs = String::new();
    for line in text.lines().skip(1) {
        let code = line.trim_start();
        if !code.is_empty() && code.len() < line.len() {
            signs.push_str(&line[..line.len() - code.len()]);
            signs.push('\n');
        }
    }
    // A minus between two terms is not a dash between two clauses.
    let is_term = |piece: &str| {
        let mut characters = piece.trim_matches(is_plain).chars();
        let first = characters.next();
        first.is_some_and(char::is_numeric) || (first.is_some() && characters.next().is_none())
    };
    let pieces: Vec<&str> = text.split_whitespace().collect();
    let minuses = pieces.windows(3).filter(|pieces| pieces[1] == "-" && is_term(pieces[0]) && is_term(pieces[2]));
    signs.extend(minuses.map(|_| '-'));
    let mut before = ' ';
    for character in text.chars() {
        let is_call = character == '(' && (before.is_alphanumeric() || before == '_');
        let is_not = before == '!' && (character.is_alphanumeric() || matches!(character, '(' | '='));
        if is_not {
            signs.push('!');
        }
        if is_call || matches!(character, '[' | ']' | '{' | '}' | '*' | '/' | '\\' | '~') {
            signs.push(character);
        }
        before = character;
    }
    signs
}

/// "don't" is "do not", "what's" is "what is", and "Ann's" is "Ann".
fn expand(part: &str, shouted: bool, words: &mut Vec<Word>) {
    let lower = part.to_lowercase();
    if !shouted && part.len() > 1 && part == part.to_uppercase() && STOP.contains(&lower.as_str()) {
        return words.push(Word::new(part, part));
    }
    if let Some((_, full)) = CONTRACTED.iter().find(|(short, _)| *short == lower) {
        return words.extend(full.split(' ').map(|word| Word::new(word, word)));
    }
    if let Some(stem) = lower.strip_suffix("n't") {
        return words.extend([stem, "not"].map(|word| Word::new(word, word)));
    }
    let endings = [("'re", "are"), ("'ve", "have"), ("'ll", "will"), ("'d", "would"), ("'m", "am")];
    let ending = endings.iter().find_map(|(ending, word)| Some((lower.strip_suffix(ending)?, Some(*word))));
    let (bare, more) = ending.or_else(|| Some((lower.strip_suffix("'s")?, None))).unwrap_or((&lower, None));
    words.push(Word::new(part, bare.trim_end_matches('\'')));
    words.extend(more.map(|word| Word::new(word, word)));
}

/// Whether a word says something that no other guard looks at. "Do" does, where it is what somebody does.
fn matters(words: &[Word], place: usize) -> bool {
    let key = |at: usize| words.get(at).map_or("", |word| word.key.as_str());
    let is_pronoun = |key: &str| PRONOUNS.iter().any(|group| group.contains(&key)) || key == "i";
    match key(place) {
        "do" | "does" | "did" => {
            let helps =
                place == 0 || words[place].begins_sentence || QUESTIONS.contains(&key(place - 1)) || key(place - 1) == "and";
            !(helps || key(place + 1) == "not" || is_pronoun(key(place + 1))) || place + 1 == words.len()
        }
        other => !STOP.contains(&other),
    }
}

/// Takes the ending of the plural, and of the third person, off. Numbers become digits.
fn stem(word: &str) -> String {
    if word.contains(char::is_numeric) {
        let grouped =
            word.split(',').skip(1).all(|group| group.len() >= 3 && group.bytes().take(3).all(|byte| byte.is_ascii_digit()));
        return if grouped { word.replace(',', "") } else { word.to_owned() };
    }
    if let Some((_, digits)) = NUMBERS.iter().find(|(name, _)| *name == word) {
        return (*digits).to_owned();
    }
    let cut = |ending: &str, least: usize| word.strip_suffix(ending).filter(|rest| rest.chars().count() >= least);
    if let Some(rest) = cut("ies", 2) {
        return format!("{rest}y");
    }
    let hisses = |rest: &&str| rest.ends_with(['s', 'x', 'z', 'o']) || rest.ends_with("ch") || rest.ends_with("sh");
    let rest = cut("es", 2).filter(hisses).or_else(|| cut("s", 3).filter(|rest| !rest.ends_with(['s', 'u', 'i'])));
    rest.unwrap_or(word).to_owned()
}
