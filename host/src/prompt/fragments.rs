//! Fragments: named parts of a prompt, each of which asks for a part of the answer that can be kept, and used again, by itself.
//!
//! `{% fragment "title" %} … {% endfragment %}` becomes a filter that Jinja knows, which puts marks around the text; after the rendering the text is cut
//! at the marks. A mark has a number that is drawn anew for each template, so no variable's value can make one.
//!
//! What it does not do: it asks for nothing (`gateway/fragments`).
//!
//! **Invariant:** what one part asks for has no word of another part in it.

use super::render::Messages;
use crate::config::unit::Wrong;

/// The name under which Jinja knows them.
pub(super) const FILTER: &str = "fragment";
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

    /// A part's text between its marks.
    pub(super) fn around(self, name: &str, text: &str) -> Result<String, String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
            return Err(format!(
                "a fragment is called {name:.64?}; a name has at most {MAX_NAME} letters, digits, hyphens, points and underscores"
            ));
        }
        if text.contains(&self.begin()) {
            return Err(format!("the fragment `{name}` has another one in it; end it first"));
        }
        Ok(format!("{}{name}\u{F8F1}{text}{}", self.begin(), self.end()))
    }

    fn begin(self) -> String {
        format!("\u{F8F0}{:x} ", self.0)
    }

    fn end(self) -> String {
        format!("\u{F8F2}{:x} ", self.0)
    }

    /// The messages with all parts in them, and each part by itself.
    pub(super) fn cut(self, messages: Messages) -> Result<(Messages, Vec<Part>), String> {
        let (begin, end) = (self.begin(), self.end());
        if !messages.iter().any(|(_, text)| text.contains(&begin)) {
            return Ok((messages, Vec::new()));
        }
        let cut: Vec<_> = messages.iter().map(|(role, text)| (*role, cut(text, &begin, &end))).collect();
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

fn cut<'a>(text: &'a str, begin: &str, end: &str) -> Vec<Piece<'a>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once(begin) {
        let Some(((name, part), behind)) =
            after.split_once(end).and_then(|(part, behind)| Some((part.split_once('\u{F8F1}')?, behind)))
        else {
            break;
        };
        pieces.extend([Piece::Text(before), Piece::Part(name, part)]);
        rest = behind;
    }
    pieces.push(Piece::Text(rest));
    pieces
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

/// A template's text with what Jinja knows in the place of fragments.
pub(super) fn written_out(text: &str) -> Result<String, Wrong> {
    let (mut out, mut rest, mut open) = (String::with_capacity(text.len()), text, 0_usize);
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let Some(end) = tag.find("%}") else { break };
        let (tag, behind) = tag.split_at(end + 2);
        let line = || text[..text.len() - rest.len() + at].matches('\n').count() + 1;
        let inner = tag[2..tag.len() - 2].trim_start_matches(['-', '+']).trim_end_matches(['-', '+']);
        let (head, tail) = (
            &tag[..2 + usize::from(tag[2..].starts_with(['-', '+']))],
            if tag[..tag.len() - 2].ends_with('-') { "-%}" } else { "%}" },
        );
        match inner.trim().split_once(char::is_whitespace).unwrap_or((inner.trim(), "")) {
            (FILTER, name) => {
                if name.trim().is_empty() {
                    return Err(Wrong::new(
                        format!("has a fragment without a name in line {}", line()),
                        "write `{% fragment \"title\" %}`",
                    ));
                }
                open += 1;
                out.push_str(&format!("{head} filter {FILTER}({}) {tail}", name.trim()));
            }
            ("endfragment", _) => {
                if open == 0 {
                    return Err(Wrong::new(
                        format!("ends a fragment in line {} that has not begun", line()),
                        "write `{% fragment \"title\" %}` before it",
                    ));
                }
                open -= 1;
                out.push_str(&format!("{head} endfilter {tail}"));
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
            (r#"a {% fragment "t" %}b{% endfragment %} c"#, r#"a {% filter fragment("t") %}b{% endfilter %} c"#),
            ("{%- fragment 'a' ~ n -%}\nb\n{%-endfragment-%}", "{%- filter fragment('a' ~ n) -%}\nb\n{%- endfilter -%}"),
            ("{% if x %}{% fragments %}{% endif %} {% ", "{% if x %}{% fragments %}{% endif %} {% "),
        ];
        for (text, expect) in cases {
            assert_eq!(written_out(text).unwrap(), expect);
        }
        for (text, expect) in [
            ("{% fragment %}b{% endfragment %}", "without a name in line 1"),
            ("a\n{% endfragment %}", "in line 2 that has not begun"),
            ("{% fragment \"a\" %}b", "does not end"),
        ] {
            assert!(written_out(text).unwrap_err().reason.contains(expect), "{text}");
        }
    }

    #[test]
    fn a_part_has_nothing_of_the_others() {
        let marks = Marks::new();
        let around = |name, text| marks.around(name, text).unwrap();
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
        assert!(
            marks.around("", "x").is_err() && marks.around("a b", "x").is_err() && marks.around(&"x".repeat(65), "").is_err()
        );
        assert!(marks.around("a", &marks.around("b", "x").unwrap()).unwrap_err().contains("another one in it"));
        let twice = marks.around("a", "x").unwrap().repeat(2);
        assert!(marks.cut(vec![("user", twice)]).unwrap_err().contains("two fragments are called `a`"));
        // A value of another template's marks is text.
        let foreign = Marks::new().around("a", "x").unwrap();
        assert_eq!(marks.cut(vec![("user", foreign.clone())]).unwrap(), (vec![("user", foreign)], Vec::new()));
    }
}
