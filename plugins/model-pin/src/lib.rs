//! Routing: a name is pinned to one model, and goes back to the one before it by itself when the pinned one fails.
//!
//! ```toml
//! [plugins.model-pin]
//! component = "plugins/model-pin/model-pin.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams", "kv"]
//! config = { pin = { auto = "large-2026-11" }, before = { auto = "large-2026-05" }, failing = 0.2, back_for_s = 600 }
//! ```
//!
//! While the pinned model works, it alone is asked first, and the one before it where an attempt fails. When more than the share `failing` of its
//! last requests have failed, the one before it is asked first for `back_for_s` seconds, for each tenant whose requests met that; then the pin is tried again. Both must be
//! among the choices of the name that is pinned. The labels `pin` and `model` say what was done, and `pointsman explain` shows them.

use std::time::Duration;

use pointsman_plugin::upstreams::{self, Upstream};
use pointsman_plugin::{Decision, Plan, PluginError, Request, RequestHead, Result, Routing, config, kv};

struct ModelPin;

fn named(table: &str, name: &str) -> Result<Option<String>> {
    Ok(config::table::<String>(table)?.into_iter().find(|(own, _)| own == name).map(|(_, model)| model))
}

fn share() -> Result<f32> {
    Ok(config::parse("failing")?.unwrap_or(0.2))
}

impl Routing for ModelPin {
    fn check() -> Result<()> {
        if config::table::<String>("pin")?.is_empty() {
            return Err(PluginError::setting("pin", "is missing", "write one such as { auto = \"large\" }"));
        }
        let before = config::table::<String>("before")?;
        if let Some((name, _)) = before.iter().find(|(name, _)| !matches!(named("pin", name), Ok(Some(_)))) {
            return Err(PluginError::setting("before", format!("has `{name}`, which is not pinned"), "pin it, or take it out"));
        }
        if !(0.0..=1.0).contains(&share()?) {
            return Err(PluginError::setting("failing", "is no share", "write a number from 0 to 1, such as 0.2"));
        }
        config::parse::<u32>("back_for_s").map(drop)
    }

    fn route(head: &RequestHead, _: &Request) -> Result<Decision> {
        let Some(pin) = named("pin", &head.model)? else { return Ok(Decision::Pass) };
        let models = upstreams::candidates();
        let find = |name: &str| models.iter().find(|model| model.model == name);
        // One that may not answer (switched off, say) is no pin.
        let Some(pinned) = find(&pin) else { return Ok(Decision::Pass) };
        let before = named("before", &head.model)?.filter(|name| *name != pin && find(name).is_some());
        let Some(before) = before else { return Ok(Plan::to(pin).because("pinned").label("pin", "held").into()) };
        if is_back(&head.model, pinned)? {
            return Ok(Plan::to(before).then(pin).because("the pinned model fails").label("pin", "back").into());
        }
        Ok(Plan::to(pin).then(before).because("pinned").label("pin", "held").into())
    }
}

/// Is the pin taken back? From the moment on at which too much fails, for as long as the owner says: else the first success, after which the share
/// is smaller, would bring it back at once.
fn is_back(name: &str, pinned: &Upstream) -> Result<bool> {
    let key = format!("back/{name}/{}", pinned.model);
    if kv::get(&key)?.is_some() {
        return Ok(true);
    }
    let is_failing = pinned.failing > share()?;
    if is_failing {
        let seconds: u32 = config::parse("back_for_s")?.unwrap_or(600);
        kv::set(&key, b"1", Some(Duration::from_secs(seconds.into())))?;
    }
    Ok(is_failing)
}

pointsman_plugin::export!(ModelPin: routing);

#[cfg(test)]
mod tests {
    use pointsman_plugin::mock::{Host, json, upstream};

    use super::*;

    fn host(failing: f32) -> Host {
        Host::new()
            .config("pin", json!({ "auto": "new" }))
            .config("before", json!({ "auto": "old" }))
            .config("back_for_s", 60)
            .upstream(upstream("small"))
            .upstream(Upstream { failing, ..upstream("new") })
            .upstream(upstream("old"))
    }

    fn order(host: &Host) -> String {
        match host.route::<ModelPin>() {
            Ok(Decision::Plan(plan)) => plan.targets.iter().map(|target| &*target.model).collect::<Vec<_>>().join(","),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_pin_holds_while_it_works() {
        assert_eq!(order(&host(0.1)), "new,old");
        assert_eq!(order(&host(0.1).model("other")), "Ok(Decision::Pass)");
        assert_eq!(order(&host(0.1).config("pin", json!({ "auto": "gone" }))), "Ok(Decision::Pass)");
        assert_eq!(order(&host(0.9).config("before", json!({}))), "new", "there is nothing to go back to");
    }

    #[test]
    fn it_is_taken_back_for_a_while() {
        let failing = host(0.5);
        assert_eq!(order(&failing), "old,new");
        failing.advance(Duration::from_secs(59));
        assert_eq!(order(&failing), "old,new");
        assert_eq!(order(&host(0.1).kept("back/auto/new", 1)), "old,new", "though it has recovered meanwhile");
    }

    #[test]
    fn settings_that_make_no_sense() {
        assert!(host(0.0).check(ModelPin::check).is_ok());
        assert!(Host::new().check(ModelPin::check).is_err());
        assert!(host(0.0).config("before", json!({ "other": "old" })).check(ModelPin::check).is_err());
        assert!(host(0.0).config("failing", 1.5).check(ModelPin::check).is_err());
    }
}
