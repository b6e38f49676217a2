//! Routing: quality, speed or cost, as the client says in a header, or another plugin before this one in a label.
//!
//! ```toml
//! [plugins.prefer]
//! component = "plugins/prefer/prefer.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams"]
//! config = { header = "x-pointsman-prefer", label = "prefer" }
//! ```
//!
//! It has an opinion on requests for a name that stands for several models, whose `choose` is in order from the smallest to the best.
//! `prefer = "client"` does the same without a plugin, and asks the key as well.
//!
//! The cache tells requests apart by `x-pointsman-prefer`, by no other header and by no label: where you take another, have a caching
//! plugin put it into the key (`CacheKey`), or who asks for quality may get an answer that was made for speed.

use pointsman_plugin::upstreams::{self, Upstream};
use pointsman_plugin::{Decision, Plan, PluginError, Rejection, Request, RequestHead, Result, Routing, config};

/// The host takes no more targets.
const MOST: usize = 8;

struct ByPreference;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Preference {
    Quality,
    Speed,
    Cost,
}

impl Preference {
    fn named(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "quality" => Some(Self::Quality),
            "speed" => Some(Self::Speed),
            "cost" => Some(Self::Cost),
            _ => None,
        }
    }

    /// The one to ask first comes first.
    fn sort(self, models: &mut [Upstream]) -> &'static str {
        match self {
            Self::Quality => {
                models.reverse();
                "best"
            }
            // Nobody measured yet counts as quick: that is how it is measured.
            Self::Speed => {
                models.sort_by_key(|model| model.first_byte_ms);
                "quickest"
            }
            Self::Cost => {
                models.sort_by_key(|model| model.price.as_ref().map_or(0, |price| price.input + price.output));
                "cheapest"
            }
        }
    }
}

impl Routing for ByPreference {
    fn check() -> Result<()> {
        let header = setting("header", "x-pointsman-prefer");
        let is_name = !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if is_name {
            return Ok(());
        }
        Err(PluginError::setting("header", "is not a header's name", "write one such as \"x-pointsman-prefer\""))
    }

    fn route(_: &RequestHead, request: &Request) -> Result<Decision> {
        let mut models = upstreams::candidates();
        if models.len() < 2 {
            return Ok(Decision::Pass);
        }
        let header = setting("header", "x-pointsman-prefer");
        let said = request.header(&header);
        let preference = match said.or_else(|| request.metadata(&setting("label", "prefer"))) {
            None => return Ok(Decision::Pass),
            Some(name) => match Preference::named(&name) {
                Some(preference) => preference,
                None => return Ok(unknown(&header).into()),
            },
        };
        let reason = preference.sort(&mut models);
        let mut names = models.into_iter().take(MOST).map(|model| model.model);
        let Some(first) = names.next() else { return Ok(Decision::Pass) };
        Ok(names.fold(Plan::to(first), Plan::then).because(reason).into())
    }
}

fn setting(key: &str, default: &str) -> String {
    config::get(key).unwrap_or_else(|| default.to_owned())
}

fn unknown(header: &str) -> Rejection {
    let message = format!("{header} is none of quality, speed and cost. Send one of them, or none.");
    Rejection { status: 400, code: "unknown_preference".to_owned(), message, retry_after_ms: None }
}

pointsman_plugin::export!(ByPreference: routing);

#[cfg(test)]
mod tests {
    use pointsman_plugin::mock::{Host, upstream};
    use pointsman_plugin::upstreams::Price;

    use super::*;

    #[test]
    fn names() {
        assert_eq!(Preference::named("Quality"), Some(Preference::Quality));
        assert_eq!(Preference::named("speed"), Some(Preference::Speed));
        assert_eq!(Preference::named("cost"), Some(Preference::Cost));
        assert!(Preference::named("").is_none() && Preference::named("best").is_none());
    }

    #[test]
    fn orders() {
        let model = |name: &str, price, first_byte_ms| Upstream {
            price: Some(Price { input: price, output: price }),
            first_byte_ms,
            ..upstream(name)
        };
        let models = [model("small", 2, Some(90)), model("middle", 1, None), model("large", 9, Some(30))];
        for (preference, order) in [
            (Preference::Quality, ["large", "middle", "small"]),
            (Preference::Speed, ["middle", "large", "small"]),
            (Preference::Cost, ["middle", "small", "large"]),
        ] {
            let mut sorted = models.to_vec();
            preference.sort(&mut sorted);
            assert_eq!(sorted.iter().map(|model| &*model.model).collect::<Vec<_>>(), order, "{preference:?}");
        }
    }

    #[test]
    fn the_header_comes_before_the_label() {
        let first = |host: &Host| match host.route::<ByPreference>() {
            Ok(Decision::Plan(plan)) => plan.targets[0].model.clone(),
            Ok(Decision::Reject(refusal)) => refusal.code,
            other => format!("{other:?}"),
        };
        let host = Host::new().upstream(upstream("small")).upstream(upstream("large"));
        assert_eq!(host.route::<ByPreference>(), Ok(Decision::Pass));
        let host = host.label("prefer", "quality");
        assert_eq!(first(&host), "large");
        let host = host.header("x-pointsman-prefer", "cost");
        assert_eq!(first(&host), "small");
        assert_eq!(
            first(&Host::new().upstream(upstream("a")).upstream(upstream("b")).header("x-pointsman-prefer", "all")),
            "unknown_preference"
        );
    }
}
