//! A cascade's judge: is the small model's answer good enough, or is the next one asked?
//!
//! Every rule is a sign that costs nothing but the answer itself. None of them knows whether an answer is right; together they find
//! those of which the model itself was not sure, that it refused to give, or that are of no use to a program.
//!
//! What it does not do: it asks no model (`gateway` does, for a self-check).
//!
//! **Invariant:** of the beginning of an answer only that is held against it which its rest cannot mend.

use serde::de::IgnoredAny;

/// What an owner demands of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rules {
    /// The least mean log-probability of its tokens. An answer without any is not judged by it.
    pub min_logprob: Option<f32>,
    /// The least length of its text in characters.
    pub min_chars: usize,
    /// No refusal.
    pub refusals: bool,
    /// Where JSON was asked for, JSON.
    pub json: bool,
}

/// An answer, or its beginning.
#[derive(Clone, Debug, Default)]
pub struct Draft<'a> {
    /// The first choice's text.
    pub text: &'a str,
    /// The mean log-probability of its tokens so far, where the model has said it.
    pub mean_logprob: Option<f32>,
    /// It says itself that it is a refusal.
    pub refused: bool,
    /// It calls tools, so it need have no text.
    pub calls: bool,
    /// Nothing follows.
    pub whole: bool,
}

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The model was not sure of its words.
    Logprob,
    /// There is too little of it.
    Short,
    /// It refuses.
    Refusal,
    /// It is not the JSON that was asked for.
    Json,
    /// A model that was asked about it said no.
    SelfCheck,
    /// A plugin said so.
    Plugin,
    /// The prompt is too long for the model.
    TooLong,
}

impl Doubt {
    /// All, in the order of the counters.
    pub const ALL: [Self; 7] =
        [Self::Logprob, Self::Short, Self::Refusal, Self::Json, Self::SelfCheck, Self::Plugin, Self::TooLong];

    /// The name in headers, logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logprob => "logprob",
            Self::Short => "short",
            Self::Refusal => "refusal",
            Self::Json => "json",
            Self::SelfCheck => "self-check",
            Self::Plugin => "plugin",
            Self::TooLong => "too-long",
        }
    }
}

impl Rules {
    /// What is wrong with the answer; none if nothing is. `wants_json`: the request demands it.
    pub fn doubt(&self, draft: &Draft<'_>, wants_json: bool) -> Option<Doubt> {
        let text = draft.text.trim();
        if self.refusals && (draft.refused || refuses(text)) {
            return Some(Doubt::Refusal);
        }
        if self.min_logprob.zip(draft.mean_logprob).is_some_and(|(least, mean)| mean < least) {
            return Some(Doubt::Logprob);
        }
        if draft.calls {
            return None;
        }
        if self.json && wants_json && !is_json(text, draft.whole) {
            return Some(Doubt::Json);
        }
        (draft.whole && text.chars().take(self.min_chars).count() < self.min_chars).then_some(Doubt::Short)
    }
}

/// Is it JSON, or, of a beginning, may it become so?
fn is_json(text: &str, whole: bool) -> bool {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(IgnoredAny) => true,
        Err(error) => !whole && error.is_eof(),
    }
}

/// Does it begin as models begin that will not answer? Later on the same words may be part of an answer.
fn refuses(text: &str) -> bool {
    const BEGINNINGS: [&str; 16] = [
        "i can't",
        "i cannot",
        "i can not",
        "i am unable",
        "i'm unable",
        "i am not able",
        "i'm not able",
        "i won't",
        "i will not",
        "i do not have enough information",
        "i don't have enough information",
        "i don't know",
        "i do not know",
        "as an ai",
        "unfortunately, i can",
        "i must decline",
    ];
    let begin: String =
        text.chars().take(64).map(|char| if char == '\u{2019}' { '\'' } else { char.to_ascii_lowercase() }).collect();
    // An apology before it does not change it.
    let rest = ["i'm sorry", "i am sorry", "sorry", "i apologize"]
        .iter()
        .find_map(|apology| begin.strip_prefix(apology))
        .map(|rest| rest.trim_start_matches([',', '.', ' ', '!']).trim_start_matches("but "));
    let is_refusal = |text: &str| BEGINNINGS.iter().any(|beginning| text.starts_with(beginning));
    is_refusal(&begin) || rest.is_some_and(is_refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Rules = Rules { min_logprob: Some(-0.5), min_chars: 3, refusals: true, json: true };

    fn whole(text: &str) -> Draft<'_> {
        Draft { text, whole: true, ..Draft::default() }
    }

    #[test]
    fn answers_and_what_is_wrong_with_them() {
        let cases = [
            (whole("Paris."), None),
            (whole(" x \n"), Some(Doubt::Short)),
            (Draft { whole: false, ..whole("x") }, None),
            (Draft { calls: true, ..whole("") }, None),
            (Draft { mean_logprob: Some(-0.6), ..whole("Paris.") }, Some(Doubt::Logprob)),
            (Draft { mean_logprob: Some(-0.4), ..whole("Paris.") }, None),
            (Draft { refused: true, ..whole("") }, Some(Doubt::Refusal)),
            (whole("I'm sorry, but I can\u{2019}t help with that."), Some(Doubt::Refusal)),
            (whole("As an AI language model, I have no opinion."), Some(Doubt::Refusal)),
            (whole("I know that I can't be wrong here."), None),
            (whole("Sorry is a word of five letters."), None),
        ];
        for (draft, expect) in cases {
            assert_eq!(ALL.doubt(&draft, false), expect, "{draft:?}");
            assert_eq!(Rules::default().doubt(&draft, true), None);
        }
    }

    #[test]
    fn json_is_held_against_a_beginning_only_where_nothing_mends_it() {
        for (text, so_far, whole) in [
            (r#"{"a": 1}"#, true, true),
            (r#"{"a": [1, "x"#, true, false),
            ("", true, false),
            (r#"{"a": x"#, false, false),
            ("Here it is: {", false, false),
            ("```json\n{", false, false),
        ] {
            assert_eq!((is_json(text, false), is_json(text, true)), (so_far, whole), "{text}");
        }
    }
}
