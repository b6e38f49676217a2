//! Text of others as one line of ours: in a log, on a terminal.
//!
//! **Invariant:** a leaf: it uses no other module of the crate.
//! **Invariant:** what comes out begins no line, moves no cursor and turns no text around.

use std::borrow::Cow;
use std::fmt::Write;

/// The text with whatever is not to be seen, or makes other text look different, written as an escape.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push(' '),
            hidden if is_hidden(hidden) => drop(write!(shown, "\\u{{{:x}}}", u32::from(hidden))),
            other => shown.push(other),
        }
    }
    shown.into()
}

/// Controls, separators of lines, and marks that turn the direction of writing.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_and_nothing_hidden() {
        for (text, shown) in [
            ("plain, naïve 你好", "plain, naïve 你好"),
            ("a\nERROR forged", "a\\nERROR forged"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("ab\u{202e}cd\t.", "ab\\u{202e}cd ."),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
