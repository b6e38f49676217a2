//! Prompting: a note to the model for each audience, which a header names.
//!
//! ```toml
//! [plugins.{{name}}]
//! component = "{{name}}.wasm"
//! hooks = ["prompting"]
//! grant = ["config"]
//! config = { notes = { children = "Answer so that a child of eight understands." } }
//! ```

use pointsman_plugin::{
    Edit, Message, Outcome, PluginError, Prompting, Rejection, Request, RequestHead, Result, Rewrite, Role, config,
};

struct Policy;

impl Prompting for Policy {
    // Asked once, when the plugin is loaded: a wrong setting never meets a request.
    fn check() -> Result<()> {
        if notes()?.is_empty() {
            return Err(PluginError::setting("notes", "names no audience", "write one, such as { children = \"Be simple.\" }"));
        }
        Ok(())
    }

    fn select(_: &RequestHead, request: &Request) -> Result<Outcome> {
        let Some(audience) = request.header("x-audience") else { return Ok(Outcome::Pass) };
        let Some((_, note)) = notes()?.into_iter().find(|(name, _)| *name == audience) else {
            return Ok(Rejection::new(400, "unknown_audience", format!("There is no audience `{audience}`.")).into());
        };
        // Recorded with the exchange, and seen by later plugins.
        request.label("audience", &audience);
        Ok(Rewrite::by([Edit::Prepend(Message::new(Role::Developer, note))]).into())
    }
}

/// Audience and note.
fn notes() -> Result<Vec<(String, String)>> {
    config::table("notes")
}

pointsman_plugin::export!(Policy: prompting);

#[cfg(test)]
mod tests {
    use super::*;
    use pointsman_plugin::mock::{Host, json};

    #[test]
    fn a_note_comes_first() {
        let host = Host::new().config("notes", json!({ "children": "Be simple." })).message(Role::User, "Why is the sky blue?");
        assert_eq!(host.select::<Policy>(), Ok(Outcome::Pass));
        let host = host.header("x-audience", "children");
        let note = Edit::Prepend(Message::new(Role::Developer, "Be simple."));
        assert_eq!(host.select::<Policy>(), Ok(Rewrite::by([note]).into()));
        assert_eq!(host.labels(), [("audience".to_owned(), "children".to_owned())]);
    }

    #[test]
    fn no_audience_is_a_wrong_setting() {
        assert!(matches!(Host::new().check(<Policy as Prompting>::check), Err(PluginError::Config(_))));
    }
}
