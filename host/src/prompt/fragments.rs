//! Fragments: named parts of a prompt, each of which asks for a part of the answer that can be kept, and used again, by itself.
//!
//! `{% fragment "title" %} … {% endfragment %}` becomes two functions that Jinja knows, each of which says a mark; after the rendering the text is cut
//! at the marks. A mark has a number that is drawn anew for each template, so no variable's value can make one. (A filter's block would be held
//! as a whole before the bound on what is rendered could see it.)
//!
//! What it does not do: it asks for nothing (`gateway/fragments`).
//!
//! **Invariant:** what one part asks for has no word of another part in it.

use super::render::Messages;
use crate::config::unit::Wrong;

/// The names under which Jinja knows their beginnings and ends.
pub(super) const BEGIN: &str = "fragment_begin";
pub(super) const END: &str = "fragment_end";
/// The most parts of a prompt: each is a request of its own.
const MOST: usize = 32;
/// Bytes of a part's name.
const MAX_NAME: usize = 64;

/// A part of a prompt, as messages of their own.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// What its part of the answer is called.
    pub name: String,
    /// The prompt's messages, without its other parts.
    pub messages: Messages,
}

/// The marks of one template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks(u64);

/// A message, cut at the marks.
enum Piece<'a> {
    Text(&'a str),
    Part(&'a str, &'a str),
}

impl Marks {
    pub(super) fn new() -> Self {
        Self(fastrand::u64(..))
    }

    /// The mark before a part's text.
    pub(super) fn begins(self, name: &str) -> Result<String, String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
            return Err(format!(
                "a fragment is called {name:.64?}; a name has at most {MAX_NAME} letters, digits, hyphens, points and underscores"
            ));
        }
        Ok(format!("{}{name}\u{F8F1}", self.begin()))
    }

    /// The mark behind it.
    pub(super) fn ends(self) -> String {
        format!("\u{F8F2}{:x} ", self.0)
    }

    fn begin(self) -> String {
        format!("\u{F8F0}{:x} ", self.0)
    }

    /// The messages with all parts in them, and each part by itself.
    pub(super) fn cut(self, messages: Messages) -> Result<(Messages, Vec<Part>), String> {
        let (begin, end) = (self.begin(), self.ends());
        if !messages.iter().any(|(_, text)| text.contains(&begin) || text.contains(&end)) {
            return Ok((messages, Vec::new()));
        }
        let mut cut = Vec::with_capacity(messages.len());
        for (role, text) in &messages {
            cut.push((*role, pieces(text, &begin, &end)?));
        }
        let mut names: Vec<&str> = Vec::new();
        for piece in cut.iter().flat_map(|(_, pieces)| pieces) {
            if let Piece::Part(name, _) = piece {
                if names.contains(name) {
                    return Err(format!("two fragments are called `{name}`"));
                }
                names.push(name);
            }
        }
        if names.len() > MOST {
            return Err(format!("it has {} fragments; at most {MOST} can be asked for", names.len()));
        }
        let of = |wanted: Option<&str>| -> Messages {
            let texts = cut.iter().map(|(role, pieces)| (*role, joined(pieces, wanted)));
            texts.filter(|(_, text)| !text.trim().is_empty()).collect()
        };
        let parts = names.iter().map(|name| Part { name: (*name).to_owned(), messages: of(Some(name)) }).collect();
        Ok((of(None), parts))
    }
}

fn pieces<'a>(text: &'a str, begin: &str, end: &str) -> Result<Vec<Piece<'a>>, String> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once(begin) {
        let (name, after) = after.split_once('\u{F8F1}').unwrap_or((after, ""));
        let Some((part, behind)) = after.split_once(end) else {
            return Err(format!("the fragment `{name}` does not end in its message"));
        };
        if part.contains(begin) {
            return Err(format!("the fragment `{name}` has another one in it; end it first"));
        }
        pieces.extend([Piece::Text(before), Piece::Part(name, part)]);
        rest = behind;
    }
    if rest.contains(end) {
        return Err("a fragment ends that has not begun".to_owned());
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// With all parts, or with one alone. Where one is left out, so is the room behind it: another part more or less changes nothing for the others.
fn joined(pieces: &[Piece<'_>], wanted: Option<&str>) -> String {
    let (mut out, mut left_out) = (String::new(), false);
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.push_str(if left_out { text.trim_start() } else { text }),
            Piece::Part(name, text) if wanted.is_none_or(|wanted| wanted == *name) => out.push_str(text),
            Piece::Part(..) => {
                left_out = true;
                continue;
            }
        }
        left_out = false;
    }
    if wanted.is_some() { out.trim_end().to_owned() } else { out }
}

/// A message's text with what Jinja knows in the place of fragments. `begins`: its first line in the file.
pub(super) fn written_out(text: &str, begins: usize) -> Result<String, Wrong> {
    let (mut out, mut rest, mut open) = (String::with_capacity(text.len()), text, 0_usize);
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        let Some(end) = tag.find("%}") else { break };
        out.push_str(before);
        let (tag, behind) = tag.split_at(end + 2);
        let line = || text[..text.len() - rest.len() + at].matches('\n').count() + begins;
        let inner = tag[2..tag.len() - 2].trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        let (head, tail) = (
            if tag[2..].starts_with('-') { "{{-" } else { "{{" },
            if tag[..tag.len() - 2].ends_with('-') { "-}}" } else { "}}" },
        );
        match inner.trim().split_once(char::is_whitespace).unwrap_or((inner.trim(), "")) {
            ("fragment", name) => {
                if name.trim().is_empty() {
                    return Err(Wrong::new(
                        format!("has a fragment without a name in line {}", line()),
                        "write `{% fragment \"title\" %}`",
                    ));
                }
                open += 1;
                out.push_str(&format!("{head} {BEGIN}({}) {tail}", name.trim()));
            }
            ("endfragment", _) => {
                if open == 0 {
                    return Err(Wrong::new(
                        format!("ends a fragment in line {} that has not begun", line()),
                        "write `{% fragment \"title\" %}` before it",
                    ));
                }
                open -= 1;
                out.push_str(&format!("{head} {END}() {tail}"));
            }
            _ => out.push_str(tag),
        }
        rest = behind;
    }
    out.push_str(rest);
    if open > 0 {
        return Err(Wrong::new("has a fragment that does not end in its message", "write `{% endfragment %}`"));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_written_out() {
        let cases = [
            (r#"a {% fragment "t" %}b{% endfragment %} c"#, r#"a {{ fragment_begin("t") }}b{{ fragment_end() }} c"#),
            ("{%- fragment 'a' ~ n -%}\nb\n{%-endfragment-%}", "{{- fragment_begin('a' ~ n) -}}\nb\n{{- fragment_end() -}}"),
            ("{% if x %}{% fragments %}{% endif %} {% ", "{% if x %}{% fragments %}{% endif %} {% "),
        ];
        for (text, expect) in cases {
            assert_eq!(written_out(text, 1).unwrap(), expect);
        }
        for (text, expect) in [
            ("{% fragment %}b{% endfragment %}", "without a name in line 1"),
            ("a\n{% endfragment %}", "in line 2 that has not begun"),
            ("{% fragment \"a\" %}b", "does not end"),
        ] {
            assert!(written_out(text, 1).unwrap_err().reason.contains(expect), "{text}");
        }
    }

    #[test]
    fn a_part_has_nothing_of_the_others() {
        let marks = Marks::new();
        let around = |name, text| format!("{}{text}{}", marks.begins(name).unwrap(), marks.ends());
        let user = format!("About it:\n\n{}\n\n{}\n\nBe short.", around("title", "A title."), around("text", "A text."));
        let alone = vec![("system", "You write.".to_owned()), ("assistant", around("more", "More?"))];
        let (whole, parts) = marks.cut([alone, vec![("user", user)]].concat()).unwrap();
        assert_eq!(whole[2], ("user", "About it:\n\nA title.\n\nA text.\n\nBe short.".to_owned()));
        let of = |name: &str| parts.iter().find(|part| part.name == name).unwrap().messages.clone();
        let owned = |messages: &[(&'static str, &str)]| -> Messages {
            messages.iter().map(|(role, text)| (*role, (*text).to_owned())).collect()
        };
        assert_eq!(of("title"), owned(&[("system", "You write."), ("user", "About it:\n\nA title.\n\nBe short.")]));
        assert_eq!(of("text"), owned(&[("system", "You write."), ("user", "About it:\n\nA text.\n\nBe short.")]));
        assert_eq!(of("more"), owned(&[("system", "You write."), ("assistant", "More?"), ("user", "About it:\n\nBe short.")]));
        assert_eq!(parts.iter().map(|part| &*part.name).collect::<Vec<_>>(), ["more", "title", "text"]);
    }

    #[test]
    fn what_cannot_be_a_part_says_why() {
        let marks = Marks::new();
        assert!(marks.begins("").is_err() && marks.begins("a b").is_err() && marks.begins(&"x".repeat(65)).is_err());
        let (begin, end) = (|name: &str| marks.begins(name).unwrap(), marks.ends());
        for (text, reason) in [
            (format!("{}x{end}", begin("a")).repeat(2), "two fragments are called `a`"),
            (format!("{}x{}y{end}{end}", begin("a"), begin("b")), "`a` has another one in it"),
            (format!("{}x", begin("a")), "`a` does not end"),
            (format!("x{end}"), "has not begun"),
        ] {
            assert!(marks.cut(vec![("user", text)]).unwrap_err().contains(reason), "{reason}");
        }
        // A value of another template's marks is text.
        let other = Marks::new();
        let foreign = format!("{}x{}", other.begins("a").unwrap(), other.ends());
        assert_eq!(marks.cut(vec![("user", foreign.clone())]).unwrap(), (vec![("user", foreign)], Vec::new()));
    }
}
