//! Reads JSON values that hold no others: what a `config` table mostly has, and the scalars of a request.
//!
//! What it does not do: nesting. Whoever needs that parses `config::document()` with a JSON crate of their own; those that do not
//! are spared 30 KB of component.
//!
//! Texts are split with checks and not by indexing: the panic of a bad index brings 6 KB of formatting into a component.
//!
//! **Invariant:** `None` for text that is no such value. The host writes correct JSON; this reads no other.

/// A string without its quotes and escapes; a number, a boolean or null as it is written.
pub(crate) fn scalar(json: &str) -> Option<String> {
    let (value, rest) = one(json.trim_start())?;
    rest.trim_start().is_empty().then_some(value)
}

/// `[…]`.
pub(crate) fn list(json: &str) -> Option<Vec<String>> {
    items(json, '[', ']', one)
}

/// `{…}`, in the order of the text.
pub(crate) fn table(json: &str) -> Option<Vec<(String, String)>> {
    items(json, '{', '}', |text| {
        let (key, rest) = string(text)?;
        let (value, rest) = one(rest.trim_start().strip_prefix(':')?.trim_start())?;
        Some(((key, value), rest))
    })
}

fn items<T>(json: &str, open: char, close: char, item: impl Fn(&str) -> Option<(T, &str)>) -> Option<Vec<T>> {
    let mut rest = json.trim_start().strip_prefix(open)?.trim_start();
    let mut found = Vec::new();
    loop {
        match rest.strip_prefix(close) {
            Some(after) if found.is_empty() => return after.trim_start().is_empty().then_some(found),
            _ => {}
        }
        let (value, after) = item(rest)?;
        found.push(value);
        let after = after.trim_start();
        match after.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None => return after.strip_prefix(close)?.trim_start().is_empty().then_some(found),
        }
    }
}

/// A scalar at the beginning of a text, and what comes after it.
fn one(text: &str) -> Option<(String, &str)> {
    if text.starts_with('"') {
        return string(text);
    }
    let end = text.find(|c: char| matches!(c, ',' | ']' | '}') || c.is_ascii_whitespace()).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    let is_number = word.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    (is_number || matches!(word, "true" | "false" | "null")).then(|| (word.to_owned(), rest))
}

fn string(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.strip_prefix('"')?;
    loop {
        let (plain, special) = rest.split_at_checked(rest.find(['"', '\\'])?)?;
        value.push_str(plain);
        if let Some(rest) = special.strip_prefix('"') {
            return Some((value, rest));
        }
        let mut escape = special.strip_prefix('\\')?.chars();
        let named = escape.next()?;
        rest = escape.as_str();
        value.push(match named {
            '"' | '\\' | '/' => named,
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let (character, after) = unicode(rest)?;
                rest = after;
                character
            }
            _ => return None,
        });
    }
}

/// What follows `\u`: four digits, or eight in two halves.
fn unicode(text: &str) -> Option<(char, &str)> {
    let (first, rest) = half(text)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, rest));
    }
    let (second, rest) = half(rest.strip_prefix("\\u")?)?;
    let is_pair = (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second);
    let code = is_pair.then(|| 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some((char::from_u32(code)?, rest))
}

fn half(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    Some((is_hex.then(|| u32::from_str_radix(digits, 16).ok())??, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars() {
        let cases = [
            (r#""plain""#, Some("plain")),
            (r#" "a \"b\" \\ \/ \n \u00e9 \ud83d\ude00" "#, Some("a \"b\" \\ / \n é 😀")),
            ("-1.5e3", Some("-1.5e3")),
            ("true", Some("true")),
            ("null", Some("null")),
            ("", None),
            ("nonsense", None),
            (r#""open"#, None),
            (r#""a" "b""#, None),
            (r#""\ud83d""#, None),
            (r#""\ud83dA""#, None),
            (r#""\u12""#, None),
            (r#""\u+123""#, None),
            (r#""\x""#, None),
            ("[1]", None),
        ];
        for (json, expect) in cases {
            assert_eq!(scalar(json).as_deref(), expect, "{json}");
        }
    }

    #[test]
    fn lists() {
        let cases: [(&str, Option<&[&str]>); 9] = [
            ("[]", Some(&[])),
            (" [ ] ", Some(&[])),
            (r#"["a",1 , false]"#, Some(&["a", "1", "false"])),
            (r#"["é,]"]"#, Some(&["é,]"])),
            ("[1,]", None),
            ("[1", None),
            ("[1 2]", None),
            ("[[1]]", None),
            ("1", None),
        ];
        for (json, expect) in cases {
            let found = list(json);
            assert_eq!(found, expect.map(|items| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>()), "{json}");
        }
    }

    #[test]
    fn tables_keep_their_order() {
        let found = table(r#"{"v2": 50, "v1":"50","":true}"#).unwrap();
        let pairs: Vec<(&str, &str)> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("v2", "50"), ("v1", "50"), ("", "true")]);
        assert_eq!(table("{}"), Some(vec![]));
        for broken in ["{", "{,}", "{1:2}", r#"{"a"}"#, r#"{"a":{}}"#, r#"{"a":1}}"#, r#"{"a":1,}"#] {
            assert_eq!(table(broken), None, "{broken}");
        }
    }
}
