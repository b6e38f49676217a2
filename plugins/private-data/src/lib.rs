//! Routing and caching: what is private goes to the providers that may see it and to no others, and is kept in no cache.
//!
//! ```toml
//! [plugins.private-data]
//! component = "plugins/private-data/private-data.wasm"
//! hooks = ["caching", "routing"]
//! on_failure = "fail"
//! grant = ["config", "upstreams"]
//! config = { providers = ["local"], header = "x-private", words = ["confidential"], private_tenants = ["clinic"] }
//! ```
//!
//! A request is private where its client says so (`header`, with any value but `false` and `0`), where it has one of `words` in any message, whatever its
//! capitals, or where all of its tenant's are (`private_tenants`). Where none of the models that it may be answered by is of one of
//! `providers`, it is refused: an error is better than a leak. For the same reason a failure of this plugin is to fail the request.

use pointsman_plugin::upstreams;
use pointsman_plugin::{
    Caching, Decision, Directive, Plan, PluginError, Rejection, Request, RequestHead, Result, Routing, config,
};

/// The host takes no more targets.
const MOST: usize = 8;

struct PrivateData;

fn check() -> Result<()> {
    if config::list::<String>("providers")?.is_empty() {
        return Err(PluginError::setting("providers", "is missing", "name those that may see private data, such as [\"local\"]"));
    }
    if config::list::<String>("words")?.iter().any(|word| word.trim().is_empty()) {
        return Err(PluginError::setting("words", "has an empty word, which every text has in it", "take it out"));
    }
    config::list::<String>("private_tenants").map(drop)
}

/// Why it is private; none: it is not.
fn why(head: &RequestHead, request: &Request) -> Result<Option<&'static str>> {
    let header = config::get("header").unwrap_or_else(|| "x-private".to_owned());
    if request.header(&header).is_some_and(|value| !matches!(value.trim(), "" | "0" | "false")) {
        return Ok(Some("private, as the client says"));
    }
    if config::list::<String>("private_tenants")?.contains(&head.tenant) {
        return Ok(Some("private, as all of this tenant"));
    }
    let words: Vec<String> = config::list::<String>("words")?.iter().map(|word| word.to_lowercase()).collect();
    let has = |text: String| words.iter().any(|word| text.contains(word));
    let is_said = !words.is_empty() && request.messages().any(|message| has(message.text.to_lowercase()));
    Ok(is_said.then_some("private, by its words"))
}

impl Caching for PrivateData {
    fn check() -> Result<()> {
        check()
    }

    fn key(head: &RequestHead, request: &Request) -> Result<Directive> {
        Ok(if why(head, request)?.is_some() { Directive::Bypass } else { Directive::Pass })
    }
}

impl Routing for PrivateData {
    fn check() -> Result<()> {
        check()
    }

    fn route(head: &RequestHead, request: &Request) -> Result<Decision> {
        let Some(why) = why(head, request)? else { return Ok(Decision::Pass) };
        let may_see = config::list::<String>("providers")?;
        let models = upstreams::candidates().into_iter().filter(|model| may_see.contains(&model.provider));
        let mut names = models.take(MOST).map(|model| model.model);
        let Some(first) = names.next() else {
            let message = "The request is private, and none of the models that may answer it may see private data.";
            return Ok(Rejection::new(403, "private_data", message).into());
        };
        Ok(names.fold(Plan::to(first), Plan::then).because(why).label("private", "yes").into())
    }
}

pointsman_plugin::export!(PrivateData: caching, routing);

#[cfg(test)]
mod tests {
    use pointsman_plugin::Role;
    use pointsman_plugin::mock::{Host, json, upstream};
    use pointsman_plugin::upstreams::Upstream;

    use super::*;

    fn host() -> Host {
        let of = |model: &str, provider: &str| Upstream { provider: provider.to_owned(), ..upstream(model) };
        Host::new()
            .config("providers", json!(["local"]))
            .config("words", json!(["Confidential"]))
            .config("private_tenants", json!(["clinic"]))
            .upstream(of("cloud", "vendor"))
            .upstream(of("own", "local"))
    }

    fn told(host: &Host) -> String {
        match host.route::<PrivateData>() {
            Ok(Decision::Plan(plan)) => {
                format!("{}: {}", plan.targets.iter().map(|target| &*target.model).collect::<Vec<_>>().join(","), plan.reason)
            }
            Ok(Decision::Reject(refusal)) => refusal.code,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn what_is_private_stays() {
        let plain = host().message(Role::User, "hello");
        assert_eq!((told(&plain), plain.key::<PrivateData>()), ("Ok(Decision::Pass)".into(), Ok(Directive::Pass)));
        let unset = host().header("x-private", "false");
        assert_eq!(unset.key::<PrivateData>(), Ok(Directive::Pass));
        for (private, why) in [
            (host().header("x-private", "1"), "own: private, as the client says"),
            (host().tenant("clinic"), "own: private, as all of this tenant"),
            (host().message(Role::System, "Strictly CONFIDENTIAL.").message(Role::User, "hi"), "own: private, by its words"),
        ] {
            assert_eq!((told(&private).as_str(), private.key::<PrivateData>()), (why, Ok(Directive::Bypass)));
        }
    }

    #[test]
    fn where_nobody_may_see_it_nobody_does() {
        let nobody = host().config("providers", json!(["other"])).header("x-private", "1");
        assert_eq!(told(&nobody), "private_data");
        assert!(Host::new().check(check).is_err() && host().check(check).is_ok());
        assert!(host().config("words", json!(["a", " "])).check(check).is_err());
    }
}
