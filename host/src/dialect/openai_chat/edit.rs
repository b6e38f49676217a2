//! Changes to a request that a prompting plugin or a prompt template asks for.
//!
//! **Invariant:** messages that are not named by an edit keep their bytes, fields that nobody knows among them.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde_json::value::RawValue;

use super::is_json;
use crate::dialect::Invalid;
use crate::dialect::json::{Document, Splice, Text, quoted};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// A message before all others.
    Prepend {
        /// Its role.
        role: &'static str,
        /// Its text.
        text: String,
    },
    /// A message after all others.
    Append {
        /// Its role.
        role: &'static str,
        /// Its text.
        text: String,
    },
    /// The text of the first system or developer message; prepends one where there is none.
    ReplaceSystem(String),
    /// The text of one message.
    ReplaceText(u32, String),
    /// Takes a message out.
    Remove(u32),
    /// A top-level field and its value as JSON text.
    SetParameter(String, String),
}

/// Fields that a parameter edit may not touch: they are other edits', or the host's.
const RESERVED: [&str; 5] = ["model", "messages", "prompt", "stream", "stream_options"];

/// The most edits of one request: each is looked at on the core that serves, and no deadline ends that.
const MAX_EDITS: usize = 1_024;

/// New messages (none if they stay as they are) and parameters to set.
type Applied = (Option<String>, Vec<(String, String)>);

/// A message while edits are applied.
struct Message<'a> {
    json: Cow<'a, str>,
    /// The text that it is to have. Only the last one counts, and is written at the end.
    text: Option<&'a str>,
    /// Is it a system or developer message? Read once.
    is_system: Option<bool>,
}

/// Applies edits in order; indexes count the messages as they are at that moment.
pub(super) fn apply(messages: &str, edits: &[Edit]) -> Result<Applied, Invalid> {
    if edits.len() > MAX_EDITS {
        return Err(Invalid::field("messages", format!("There are {} edits, and {MAX_EDITS} may be.", edits.len())));
    }
    let raw: Vec<&RawValue> = match messages {
        "null" => Vec::new(),
        messages => {
            serde_json::from_str(messages).map_err(|_| Invalid::field("messages", "`messages` must be an array of messages."))?
        }
    };
    let mut all: VecDeque<Message<'_>> = raw.iter().map(|message| Message::of(message.get())).collect();
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut changed = false;
    for edit in edits {
        changed |= !matches!(edit, Edit::SetParameter(..));
        match edit {
            Edit::Prepend { role, text } => all.push_front(Message::of(message(role, text))),
            Edit::Append { role, text } => all.push_back(Message::of(message(role, text))),
            Edit::ReplaceSystem(text) => match all.iter_mut().find_map(|message| message.is_system().then_some(message)) {
                Some(message) => message.text = Some(text),
                None => all.push_front(Message::of(message("system", text))),
            },
            Edit::ReplaceText(index, text) => {
                let at = place(*index, all.len())?;
                all[at].text = Some(text);
            }
            Edit::Remove(index) => drop(all.remove(place(*index, all.len())?)),
            Edit::SetParameter(name, value) => {
                if RESERVED.contains(&name.as_str()) {
                    return Err(Invalid::field(name, format!("`{name}` cannot be set as a parameter.")));
                }
                if !is_json(value) {
                    return Err(Invalid::field(name, format!("The value of `{name:.64}` is not JSON text.")));
                }
                // The last one counts, as with a message's text.
                match parameters.iter_mut().find(|(known, _)| known == name) {
                    Some((_, before)) => before.clone_from(value),
                    None => parameters.push((name.clone(), value.clone())),
                }
            }
        }
    }
    if !changed {
        return Ok((None, parameters));
    }
    let written: Vec<Cow<'_, str>> = all.into_iter().map(Message::written).collect::<Result<_, _>>()?;
    Ok((Some(format!("[{}]", written.join(","))), parameters))
}

impl<'a> Message<'a> {
    fn of(json: impl Into<Cow<'a, str>>) -> Self {
        Self { json: json.into(), text: None, is_system: None }
    }

    fn is_system(&mut self) -> bool {
        *self.is_system.get_or_insert_with(|| is_system(&self.json))
    }

    fn written(self) -> Result<Cow<'a, str>, Invalid> {
        match self.text {
            Some(text) => with_text(&self.json, text).map(Cow::Owned),
            None => Ok(self.json),
        }
    }
}

fn message(role: &str, text: &str) -> String {
    format!(r#"{{"role":{},"content":{}}}"#, quoted(role), quoted(text))
}

fn place(index: u32, count: usize) -> Result<usize, Invalid> {
    let at = index as usize;
    if at < count { Ok(at) } else { Err(Invalid::field("messages", format!("There is no message {index}; there are {count}."))) }
}

fn is_system(message: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Role<'a> {
        #[serde(borrow, default)]
        role: Option<Text<'a>>,
    }
    let role = serde_json::from_str::<Role<'_>>(message).ok().and_then(|message| message.role);
    role.is_some_and(|role| role.0 == "system" || role.0 == "developer")
}

/// The message with another text; its other fields keep their bytes.
fn with_text(message: &str, text: &str) -> Result<String, Invalid> {
    let document = Document::parse(message.to_owned().into())?;
    let bytes = document.splice(&[Splice::Set("content", quoted(text).into())]);
    String::from_utf8(bytes.into()).map_err(|_| Invalid::field("messages", "A message is not UTF-8."))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn edits_apply_in_order_and_leave_the_rest() {
        let before = r#"[{"role":"system","content":"s","x":1}, {"role":"user","content":[{"type":"text","text":"hi"}]}]"#;
        let user = r#"{"role":"user","content":[{"type":"text","text":"hi"}]}"#;
        let cases = [
            (vec![Edit::ReplaceSystem("t".into())], format!(r#"[{{"role":"system","content":"t","x":1}},{user}]"#)),
            (vec![Edit::Remove(0), Edit::ReplaceSystem("t".into())], format!(r#"[{{"role":"system","content":"t"}},{user}]"#)),
            (
                vec![Edit::Prepend { role: "developer", text: "d".into() }, Edit::Remove(1)],
                format!(r#"[{{"role":"developer","content":"d"}},{user}]"#),
            ),
            (
                vec![Edit::Remove(0), Edit::Append { role: "assistant", text: "\"".into() }],
                format!(r#"[{user},{{"role":"assistant","content":"\""}}]"#),
            ),
        ];
        for (edits, expect) in cases {
            assert_eq!(apply(before, &edits).unwrap().0.unwrap(), expect);
        }
    }

    /// A plugin that trims a long history took a core for seconds: each edit moved all messages, or read all of them.
    #[test]
    fn many_edits_of_many_messages_are_bounded() {
        let before = format!("[{}]", vec![r#"{"role":"user","content":"hi"}"#; 2_000].join(","));
        let mut edits = vec![Edit::Remove(1); 1_000];
        edits.extend(["a", "b"].map(|text| Edit::ReplaceSystem(text.into())));
        edits.extend(["c", "d"].map(|text| Edit::ReplaceText(1, text.into())));
        let after = apply(&before, &edits).unwrap().0.unwrap();
        let all: Vec<serde_json::Value> = serde_json::from_str(&after).unwrap();
        assert_eq!(
            (all.len(), &all[0]["content"], &all[1]["content"], &all[2]["content"]),
            (1_001, &json!("b"), &json!("d"), &json!("hi"))
        );
        let refused = apply(&before, &vec![Edit::Remove(0); MAX_EDITS + 1]).unwrap_err();
        assert!(refused.message.contains("1025 edits"), "{}", refused.message);
    }

    #[test]
    fn of_two_values_of_a_parameter_the_last_one_counts() {
        let set = |value: &str| Edit::SetParameter("seed".into(), value.into());
        assert_eq!(apply("[]", &[set("1"), set("2")]).unwrap(), (None, vec![("seed".into(), "2".into())]));
    }

    #[test]
    fn what_an_edit_may_not_do() {
        for edit in [
            Edit::Remove(1),
            Edit::ReplaceText(9, String::new()),
            Edit::SetParameter("model".into(), "\"m\"".into()),
            Edit::SetParameter("seed".into(), "1,\"model\":2".into()),
        ] {
            assert!(apply(r#"[{"role":"user"}]"#, std::slice::from_ref(&edit)).is_err(), "{edit:?}");
        }
    }
}
