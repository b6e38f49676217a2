//! Routing: answers are seen before the client has them, and end before words that are not to be said.
//!
//! ```toml
//! [plugins.guard]
//! component = "plugins/guard/guard.wasm"
//! hooks = ["routing"]
//! grant = ["config"]
//! on_failure = "fail"
//! config = { words = ["project aurora", "passphrase"], instead = "large" }
//! ```
//!
//! It has no opinion on models: whoever is chosen, by another plugin or the configuration, is observed. Where one of the words is in the
//! beginning of an answer and `instead` names a model, that one answers; its own answer is observed as well, and ends at such a word. Later
//! words end the answer with `content_filter`. With `on_failure = "fail"` nothing passes that it has not seen.
//!
//! A word may come in two batches. So the end of a batch that could be the beginning of a word is remembered; but it has gone to the client by
//! then: what is ended is never more than a word too late.

use pointsman_plugin::{
    Batch, Chunk, ChunkStep, Decision, Ending, Observe, Observed, PluginError, Request, RequestHead, Result, Routing, config,
};

/// Events that are looked at together.
const EVENTS: u32 = 16;
/// The longest word, in bytes: what the host keeps from batch to batch is bounded.
const LONGEST: usize = 256;

struct Guard;

/// Words in lower case.
fn words() -> Result<Vec<String>> {
    let words: Vec<String> = config::list("words")?;
    if words.is_empty() || words.iter().any(|word| word.trim().is_empty() || word.len() > LONGEST) {
        return Err(PluginError::setting(
            "words",
            "is empty, or has a word that is empty or too long",
            "write one or more words, of at most 256 bytes each",
        ));
    }
    Ok(words.iter().map(|word| word.to_lowercase()).collect())
}

impl Routing for Guard {
    fn check() -> Result<()> {
        words().map(drop)
    }

    fn route(_: &RequestHead, _: &Request) -> Result<Decision> {
        Ok(Observe::every(EVENTS).into())
    }

    fn on_chunk(_: &RequestHead, request: &Request, part: &Batch, chunk: &Chunk, state: &[u8]) -> Result<Observed> {
        let words = words()?;
        // What cannot be read might be anything.
        if part.missed {
            return Ok(ChunkStep::Stop(Ending::ContentFilter).into());
        }
        let text = joined(state, &chunk.text(u32::MAX));
        let Some(word) = first(&words, &text) else { return Ok(ChunkStep::GoOn.keeping(rest(&words, &text))) };
        request.label("guard", word);
        Ok(match config::get("instead") {
            Some(model) if !part.committed && part.model != model => ChunkStep::escalate_to(model),
            _ => ChunkStep::Stop(Ending::ContentFilter),
        }
        .into())
    }
}

/// What was kept of the batch before, and this one.
fn joined(state: &[u8], text: &str) -> String {
    let mut joined = String::from_utf8_lossy(state).into_owned();
    joined.push_str(&text.to_lowercase());
    joined
}

fn first<'a>(words: &'a [String], text: &str) -> Option<&'a str> {
    words.iter().map(String::as_str).find(|word| text.contains(word))
}

/// The end of a text, as long as it could be the beginning of a word.
fn rest(words: &[String], text: &str) -> String {
    let most = words.iter().map(String::len).max().unwrap_or(0).min(text.len());
    let is_beginning = |at: &usize| {
        let end = text.get(*at..);
        end.is_some_and(|end| words.iter().any(|word| word.starts_with(end)))
    };
    let at = (text.len() - most..text.len()).find(is_beginning).unwrap_or(text.len());
    text.get(at..).unwrap_or_default().to_owned()
}

pointsman_plugin::export!(Guard: routing);

#[cfg(test)]
mod tests {
    use super::{first, joined, rest};

    fn words() -> Vec<String> {
        ["project aurora", "passphrase", "é"].map(str::to_owned).to_vec()
    }

    #[test]
    fn a_word_is_found_wherever_it_is_cut() {
        let text = "It is about Project Aurora, I think.";
        for at in 0..=text.len() {
            let (a, b) = text.split_at(at);
            let words = words();
            let before = joined(b"", a);
            let found = first(&words, &before).is_some();
            let after = joined(rest(&words, &before).as_bytes(), b);
            assert!(found || first(&words, &after) == Some("project aurora"), "cut at {at}");
        }
    }

    #[test]
    fn no_more_is_kept_than_could_be_a_word() {
        for (text, kept) in
            [("nothing", ""), ("a pass", "pass"), ("passphras", "passphras"), ("pro", "pro"), ("ééx", ""), ("", "")]
        {
            assert_eq!(rest(&words(), text), kept, "{text}");
        }
    }
}
