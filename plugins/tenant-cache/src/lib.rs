//! Caching: who may share an answer, when two questions are the same, and what is never kept.
//!
//! - Answers are shared inside a tenant; with `user`, among the requests of one user.
//! - The same question may be written with other spaces and capitals.
//! - Requests with an e-mail address, a card's number or one of the words in `private` go past the cache, as do those with the
//!   header `x-no-cache`.
//! - A question of nearly the same meaning may get the answer too: in the same language, and with the same numbers.
//! - Apologies and empty answers are not kept: whoever asks next may have more luck.
//!
//! ```toml
//! [plugins.tenant-cache]
//! component = "plugins/tenant-cache/tenant-cache.wasm"
//! hooks = ["caching"]
//! grant = ["config"]
//! config = { user = "x-user-id", private = ["internal only"] }
//! ```

use pointsman_plugin::{
    Admission, CacheKey, Caching, Candidate, Directive, PluginError, Request, RequestHead, Response, Result, Scope, SemanticKey,
    Verdict, config,
};

struct TenantCache;

impl Caching for TenantCache {
    fn check() -> Result<()> {
        let words: Vec<String> = config::list("private")?;
        let empty = PluginError::setting("private", "has an empty word, which every text has in it", "take it out");
        if words.iter().any(String::is_empty) { Err(empty) } else { Ok(()) }
    }

    fn key(_: &RequestHead, request: &Request) -> Result<Directive> {
        // One crossing for all headers. The host puts the tenant before every key, whatever is said here.
        let user_header = config::get("user");
        let names = ["x-no-cache", "accept-language", user_header.as_deref().unwrap_or_default()];
        let mut values = request.headers(&names).into_iter().map(|value| value.filter(|value| !value.is_empty()));
        let [opt_out, language, user] = std::array::from_fn(|_| values.next().flatten());
        let scope = match (user_header, user) {
            (None, _) => Scope::Tenant,
            (Some(_), Some(user)) => Scope::Custom(user),
            // Nobody knows whose request it is, so nobody may share it.
            (Some(_), None) => return Ok(Directive::Bypass),
        };
        let words: Vec<String> = config::list("private")?;
        if opt_out.is_some() || request.messages().any(|message| is_private(&message.text, &words)) {
            return Ok(Directive::Bypass);
        }
        let near = SemanticKey::new().within(primary(language.as_deref().unwrap_or_default())).confirm();
        Ok(CacheKey::of(scope).text(normalised(&request.last_user_text(u32::MAX))).near(near).admit().into())
    }

    // A near hit has passed the host's own guards. This one knows what matters to its owner: amounts, dates, versions.
    fn confirm(_: &RequestHead, request: &Request, hit: &Candidate) -> Result<Verdict> {
        let same = numbers(&request.last_user_text(u32::MAX)).eq(numbers(&hit.text));
        Ok(if same { Verdict::Serve } else { Verdict::Veto })
    }

    fn admit(_: &RequestHead, _: &Request, response: &Response) -> Result<Admission> {
        Ok(if is_worth_keeping(&response.text(200)) { Admission::Keep } else { Admission::Refuse })
    }
}

/// The question as everybody would write it.
///
/// To keep two questions apart that are one costs a hit; to take two for one gives a wrong answer. So spaces go only where they
/// mean nothing: code, tables and quotations stay as they are, and lines stay lines. And a capital goes only where it is a matter
/// of form, at the beginning of a sentence or in a text that is all capitals; "US", "Polish" and "iPhone" inside one mean
/// something else than "us", "polish" and "iphone". Letters beyond a to z keep theirs: the tables for them would be a third of the
/// component.
fn normalised(text: &str) -> String {
    let is_mark = |byte| matches!(byte, b'"' | b'`' | b'{' | b'}' | b'<' | b'>' | b'=' | b'\\' | b'|' | b'_' | b'\t');
    if text.bytes().any(is_mark) || [" '", "“", "\n "].iter().any(|mark| text.contains(mark)) {
        return text.to_owned();
    }
    let is_shouted = !text.contains(char::is_lowercase) && text.split_whitespace().nth(2).is_some();
    let mut written = String::with_capacity(text.len());
    for (number, line) in text.trim().lines().enumerate() {
        if number > 0 {
            written.push('\n');
        }
        let mut begins = true;
        for (place, word) in line.split_whitespace().enumerate() {
            if place > 0 {
                written.push(' ');
            }
            let is_form = begins && word.chars().nth(1).is_some() && !word.chars().skip(1).any(char::is_uppercase);
            begins = word.ends_with(['.', '!', '?']);
            let start = written.len();
            written.push_str(word);
            if is_shouted || is_form {
                written[start..].make_ascii_lowercase();
            }
        }
    }
    written
}

/// An address, a card, or one of the words, with capitals or not (those beyond A to Z count as written).
fn is_private(text: &str, words: &[String]) -> bool {
    let has_word = || words.iter().any(|word| text.to_ascii_lowercase().contains(&word.to_ascii_lowercase()));
    has_address(text) || has_card(text) || has_word()
}

/// An e-mail address: a word, an @, and a name with a dot in it.
fn has_address(text: &str) -> bool {
    // Most texts have no @, and need not be cut into words to see it.
    text.contains('@')
        && text.split_whitespace().filter_map(|word| word.split_once('@')).any(|(user, host)| {
            let host = host.trim_end_matches(|c: char| !c.is_alphanumeric());
            user.ends_with(char::is_alphanumeric)
                && host.split_once('.').is_some_and(|(name, end)| !name.is_empty() && !end.is_empty())
        })
}

/// 13 to 19 digits, in groups or not, whose last one is the check digit of those before (ISO/IEC 7812).
fn has_card(text: &str) -> bool {
    let has_digits = text.bytes().filter(u8::is_ascii_digit).nth(12).is_some();
    has_digits
        && text.split(|c: char| !c.is_ascii_digit() && c != ' ' && c != '-').any(|run| {
            let groups: Vec<&str> = run.split([' ', '-']).filter(|group| !group.is_empty()).collect();
            (0..groups.len()).any(|first| {
                let mut digits = String::new();
                groups[first..].iter().take(19).any(|group| {
                    digits.push_str(group);
                    (13..=19).contains(&digits.len()) && has_check_digit(&digits)
                })
            })
        })
}

fn has_check_digit(digits: &str) -> bool {
    let double = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let values = digits.bytes().rev().map(|digit| u32::from(digit - b'0')).enumerate();
    values.map(|(place, digit)| if place % 2 == 1 { double(digit) } else { digit }).sum::<u32>() % 10 == 0
}

/// The numbers of a text, in order, as they are written.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_numeric() && c != '.' && c != ',')
        .map(|part| part.trim_matches(['.', ',']))
        .filter(|part| !part.is_empty())
}

/// `de` of `de-AT,en;q=0.8`.
fn primary(languages: &str) -> String {
    languages.split([',', ';', '-']).next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_worth_keeping(answer: &str) -> bool {
    let begins = answer.trim_start().to_ascii_lowercase().replace('’', "'");
    let apologies = ["i'm sorry", "i am sorry", "sorry", "i apolog", "i can't", "i cannot", "i'm unable", "as an ai"];
    !begins.is_empty() && !apologies.iter().any(|apology| begins.starts_with(apology))
}

pointsman_plugin::export!(TenantCache: caching);

#[cfg(test)]
mod tests;
