//! Prompting: two or more versions of a prompt at once, each for its share of the users.
//!
//! The split is sticky: a user sees the same version in every request, on every node, also after a restart. Experiment and arm are
//! recorded with each answer, so that the versions can be compared.
//!
//! ```toml
//! [plugins.prompt-ab]
//! component = "plugins/prompt-ab/prompt-ab.wasm"
//! hooks = ["prompting"]
//! grant = ["config", "random"]
//! config = { prompt = "support", arms = { v1 = 90, v2 = 10 }, sticky = "x-user-id", experiment = "support-2026-11" }
//! ```
//!
//! The arms are versions, `prompts/support/v1.j2` and so on, and their weights. It has an opinion only where a client asks for
//! that prompt and leaves the version open: `"prompt": {"id": "support"}`.

use pointsman_plugin::{Outcome, PluginError, PromptChoice, Prompting, Request, RequestHead, Result, config, random};

struct PromptAb;

/// What the `config` table says.
struct Settings {
    prompt: String,
    /// Another name deals the users anew: those who saw the new version last time are not always the same.
    experiment: String,
    /// Versions and weights, in the order in which they are written.
    arms: Vec<(String, u32)>,
    /// The header whose value stays with a version.
    sticky: Option<String>,
}

impl Settings {
    fn read() -> Result<Self> {
        let prompt: String = config::require("prompt")?;
        let settings = Self {
            experiment: config::get("experiment").unwrap_or_else(|| prompt.clone()),
            arms: config::table("arms")?,
            sticky: config::get("sticky").map(|name| name.to_ascii_lowercase()),
            prompt,
        };
        match total(&settings.arms) {
            Some(1..) => Ok(settings),
            Some(0) => Err(PluginError::setting("arms", "gives no version any weight", "write { v1 = 50, v2 = 50 }, say")),
            None => Err(PluginError::setting("arms", "has weights too large to add up", "write shares of a hundred")),
        }
    }
}

impl Prompting for PromptAb {
    // Asked once, when the plugin is loaded: a wrong setting never meets a request.
    fn check() -> Result<()> {
        Settings::read().map(drop)
    }

    fn select(head: &RequestHead, request: &Request) -> Result<Outcome> {
        // Most requests have no prompt: they pass before anything is read.
        let Some(asked) = &head.prompt else { return Ok(Outcome::Pass) };
        let settings = Settings::read()?;
        if asked.name != settings.prompt || asked.version.is_some() {
            return Ok(Outcome::Pass);
        }
        let user = settings.sticky.as_deref().and_then(|name| request.header(name));
        let key = sticky_key(user, head);
        // The host's bucket is the same for a salt and key everywhere and always; the plugin keeps no table of users.
        let bucket = random::bucket(&settings.experiment, &key, total(&settings.arms).unwrap_or(0));
        let Some(version) = arm(&settings.arms, bucket) else { return Ok(Outcome::Pass) };
        Ok(PromptChoice::of(settings.prompt, version).arm(settings.experiment, version).into())
    }
}

/// Whose requests stay together: the user's, or else those made with one key, or else the tenant's. The first letter keeps a user
/// from sharing a bucket with a key of the same name.
fn sticky_key(user: Option<String>, head: &RequestHead) -> String {
    match (user.filter(|user| !user.is_empty()), &head.principal) {
        (Some(user), _) => format!("u:{}:{user}", head.tenant),
        (None, Some(principal)) => format!("k:{principal}"),
        (None, None) => format!("t:{}", head.tenant),
    }
}

/// The sum of the weights; none if it is too large.
fn total(arms: &[(String, u32)]) -> Option<u32> {
    arms.iter().try_fold(0u32, |sum, (_, weight)| sum.checked_add(*weight))
}

/// The arm that a bucket lies in: the first has buckets 0 to its weight - 1, and so on.
fn arm(arms: &[(String, u32)], bucket: u32) -> Option<&str> {
    let mut end = 0u32;
    arms.iter()
        .find(|(_, weight)| {
            end = end.saturating_add(*weight);
            bucket < end
        })
        .map(|(version, _)| version.as_str())
}

pointsman_plugin::export!(PromptAb: prompting);

#[cfg(test)]
mod tests {
    use pointsman_plugin::mock::{Host, json};

    use super::*;

    fn arms(weights: &[(&str, u32)]) -> Vec<(String, u32)> {
        weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()
    }

    #[test]
    fn each_arm_has_as_many_buckets_as_its_weight_says() {
        let arms = arms(&[("v1", 90), ("off", 0), ("v2", 10)]);
        let count = |name: &str| (0..100).filter(|bucket| arm(&arms, *bucket) == Some(name)).count();
        assert_eq!((total(&arms), count("v1"), count("off"), count("v2")), (Some(100), 90, 0, 10));
        assert_eq!(arm(&arms, 100), None);
    }

    #[test]
    fn a_user_stays_with_a_version() {
        let experiment = || {
            let host = Host::new()
                .config("prompt", "support")
                .config("arms", json!({ "v1": 50, "v2": 50 }))
                .config("sticky", "x-user-id");
            host.body(json!({ "model": "auto", "prompt": { "id": "support" } }))
        };
        let version = |host: &Host| match host.select::<PromptAb>() {
            Ok(Outcome::Choose(choice)) => choice.prompt.version.unwrap_or_default(),
            other => format!("{other:?}"),
        };
        let of = |user: usize| version(&experiment().header("x-user-id", &format!("user-{user}")));
        let first: Vec<String> = (0..200).map(of).collect();
        assert_eq!((0..200).map(of).collect::<Vec<_>>(), first);
        let second = first.iter().filter(|version| *version == "v2").count();
        assert!((70..130).contains(&second), "{second} of 200");
        // Whoever names a version gets it.
        let named = experiment().body(json!({ "model": "auto", "prompt": { "id": "support", "version": "v1" } }));
        assert_eq!(named.select::<PromptAb>(), Ok(Outcome::Pass));
    }

    #[test]
    fn weights_that_say_nothing_are_seen() {
        assert_eq!(total(&arms(&[("v1", 0)])), Some(0));
        assert_eq!(total(&arms(&[("v1", u32::MAX), ("v2", 1)])), None);
    }
}
