//! Checks of `[providers]` and `[models]`: endpoints, secrets, and who refers to whom.
//!
//! Connects to nothing: an endpoint that is down is a matter of health, not of configuration.

use http::Uri;

use super::Check;
use crate::config::unit::Wrong;
use crate::config::{
    Affinity, BUILT_IN, Cascade, ConcreteModel, Duration, Endpoint, Model, ModelKind, Provider, SecretOrString, VirtualModel,
};

/// Headers whose value is a credential: it is referred to, like every secret.
const CREDENTIALS: [&str; 7] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token"];
/// Headers that the exchange itself sets.
const OURS: [&str; 7] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];

impl Check<'_> {
    pub(super) fn providers(&mut self) {
        let config = self.config;
        for (name, provider) in &config.providers {
            let path = ["providers", name.as_str()];
            self.printable(&path, name);
            if name == BUILT_IN {
                self.name_error(&path, "this name stands for the embedder inside pointsman", "choose another name");
            }
            self.endpoints(name, provider);
            self.balance(name, provider);
            self.provider_keys(name, provider);
            self.headers(name, provider);
            let times = &provider.timeouts;
            for (field, time) in [
                ("connect", times.connect),
                ("tls", times.tls),
                ("headers", times.headers),
                ("first_token", times.first_token),
                ("between_tokens", times.between_tokens),
                ("total", times.total),
            ] {
                self.not_zero(&["providers", name, "timeouts", field], time.is_zero(), "\"2s\"");
            }
            self.resilience(name, provider);
            self.not_zero(&["providers", name, "in_flight"], provider.in_flight == Some(0), "64");
            if provider.retries > 10 {
                self.error(&["providers", name, "retries"], "more than 10 retries multiply an outage", "write at most 10");
            }
        }
    }

    fn provider_keys(&mut self, name: &str, provider: &Provider) {
        if let Some(Err(wrong)) = provider.key.as_ref().map(|key| key.resolve().map(drop)) {
            self.error(&["providers", name, "key"], wrong.reason, wrong.remedy);
        }
        let path = ["providers", name, "keys"];
        if self.document.has(&path) && self.document.has(&["providers", name, "key"]) {
            self.error(&path, "`keys` stands beside `key`", "move that key into `keys`, or remove one of the two");
        } else if provider.keys.is_empty() && self.document.has(&path) && !self.document.has(&[&path[..], &["[0]"]].concat()) {
            self.error(&path, "there is no key", "write at least one, such as [\"env:OPENAI_API_KEY\"], or remove `keys`");
        }
        for (index, key) in provider.keys.iter().enumerate() {
            let element = format!("[{index}]");
            let path = ["providers", name, "keys", &element];
            if provider.keys[..index].contains(key) {
                self.error(&path, "this key is already in the list", "remove one of the two");
            } else if let Err(wrong) = key.resolve() {
                self.error(&path, wrong.reason, wrong.remedy);
            }
        }
    }

    /// Breaker, budgets, hedging.
    fn resilience(&mut self, name: &str, provider: &Provider) {
        let breaker = &provider.breaker;
        for (field, time) in [("window", breaker.window), ("open", breaker.open)] {
            self.not_zero(&["providers", name, "breaker", field], time.is_zero(), "\"10s\"");
        }
        self.not_zero(&["providers", name, "breaker", "failures"], breaker.failures == 0, "5");
        if let Some(concurrency) = &provider.concurrency {
            let path = |field| ["providers", name, "concurrency", field];
            self.not_zero(&path("min"), concurrency.min == 0, "4");
            if concurrency.max < concurrency.min {
                self.error(&path("max"), "this is less than `min`", "write a number that is at least as large");
            }
        }
        let shares: [(&[&str], f64, f64); 4] = [
            (&["retry_budget"], provider.retry_budget, 0.2),
            (&["panic"], provider.panic, 0.25),
            (&["breaker", "success_rate"], breaker.success_rate, 0.5),
            (&["hedge", "budget"], provider.hedge.map_or(0.0, |hedge| hedge.budget), 0.05),
        ];
        for (field, share, usual) in shares {
            if !(0.0..=1.0).contains(&share) {
                let path = [&["providers", name], field].concat();
                self.error(&path, "this is a share, from 0 to 1", format!("write one such as {usual}"));
            }
        }
    }

    fn endpoints(&mut self, name: &str, provider: &Provider) {
        if provider.endpoints.is_empty() {
            // An element that was wrong has been reported, and taken out.
            if !self.document.has(&["providers", name, "endpoints", "[0]"]) {
                self.error(
                    &["providers", name, "endpoints"],
                    "there is no endpoint",
                    "write at least one, such as \"http://10.0.0.7:8000/v1\"",
                );
            }
            return;
        }
        for (index, endpoint) in provider.endpoints.iter().enumerate() {
            let element = format!("[{index}]");
            let mut path = vec!["providers", name, "endpoints", &element];
            self.weight_and_zone(&path, endpoint);
            if self.document.has(&[&path[..], &["url"]].concat()) {
                path.push("url");
            }
            match url(&endpoint.url) {
                Err(wrong) => self.error(&path, wrong.reason, wrong.remedy),
                Ok(uri) => {
                    if provider.endpoints[..index]
                        .iter()
                        .filter_map(|known| url(&known.url).ok())
                        .any(|known| is_same(&known, &uri))
                    {
                        self.error(&path, "this endpoint is already in the list", "remove one of the two");
                    }
                    if provider.all_keys().next().is_some() && in_the_clear(&uri) {
                        self.warning(
                            &path,
                            "the key travels unencrypted",
                            "use https, unless the network between is yours alone",
                        );
                    }
                }
            }
        }
    }

    fn weight_and_zone(&mut self, path: &[&str], endpoint: &Endpoint) {
        if !(endpoint.weight > 0.0 && endpoint.weight <= 1_000.0) {
            self.error(
                &[path, &["weight"]].concat(),
                "a weight is above 0 and at most 1000",
                "write how many requests it gets compared with the others, such as 2, or remove the endpoint",
            );
        }
        if let Some(zone) = &endpoint.zone {
            let path = [path, &["zone"]].concat();
            if zone.trim().is_empty() {
                self.error(&path, "a zone has a name", "write one such as \"a\", or remove it");
            } else if !self.document.has(&["zone"]) {
                self.warning(
                    &path,
                    "this has no effect, since our own zone is unknown",
                    "write `zone = \"…\"` before all sections",
                );
            }
        }
    }

    /// Affinity, metrics and probes.
    fn balance(&mut self, name: &str, provider: &Provider) {
        let path = |field| ["providers", name, field];
        if http::HeaderName::from_bytes(provider.session_header.as_bytes()).is_err() {
            self.error(&path("session_header"), "this is not a header's name", "use letters, digits and -");
        } else if self.document.has(&path("session_header")) && provider.affinity != Affinity::Session {
            self.warning(&path("session_header"), "nobody asks for sessions", "write `affinity = \"session\"`, or remove it");
        }
        if let Some(metrics) = &provider.metrics {
            self.watched(&path("metrics"), metrics, &path("metrics_interval"), provider.metrics_interval);
        }
        let Some(probe) = &provider.probe else { return };
        let path = |field| ["providers", name, "probe", field];
        self.watched(&path("path"), &probe.path, &path("interval"), probe.interval);
        self.not_zero(&path("timeout"), probe.timeout.is_zero(), "\"2s\"");
        self.not_zero(&path("healthy"), probe.healthy == 0, "2");
        self.not_zero(&path("unhealthy"), probe.unhealthy == 0, "3");
    }

    /// What endpoints are asked again and again.
    fn watched(&mut self, at: &[&str], path: &str, every: &[&str], interval: Duration) {
        if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
            self.error(at, "this is no path", "write a path at the endpoint's host, such as \"/metrics\" or \"/health\"");
        }
        if interval < Duration::from_millis(100) {
            self.error(every, "a server is asked at most ten times a second", "write at least \"100ms\"");
        }
    }

    fn headers(&mut self, name: &str, provider: &Provider) {
        for (header, value) in &provider.headers {
            let path = ["providers", name, "headers", header.as_str()];
            let small = header.to_ascii_lowercase();
            if http::HeaderName::from_bytes(header.as_bytes()).is_err() {
                self.name_error(&path, "this is not a header's name", "use letters, digits and -");
            } else if OURS.contains(&small.as_str()) {
                self.name_error(&path, "pointsman sets this header itself", "remove it");
            }
            match value {
                SecretOrString::Secret(reference) => {
                    if let Err(wrong) = reference.resolve() {
                        self.error(&path, wrong.reason, wrong.remedy);
                    }
                }
                SecretOrString::Plain(_) if CREDENTIALS.contains(&small.as_str()) => {
                    self.error(
                        &path,
                        "a secret is not written into the configuration",
                        "put the header's whole value into an environment variable and write \"env:NAME\", or into a file and write \"file:PATH\"",
                    );
                }
                SecretOrString::Plain(text) if http::HeaderValue::from_str(text).is_err() => {
                    self.error(&path, "a header's value holds no control characters", "remove them");
                }
                SecretOrString::Plain(_) => {}
            }
        }
    }

    pub(super) fn models(&mut self) {
        let config = self.config;
        for (name, model) in &config.models {
            self.printable(&["models", name], name);
            match model {
                Model::Concrete(model) => self.concrete(name, model),
                Model::Virtual(model) => {
                    self.choices(name, &model.choose);
                    self.cascade(name, model);
                    self.policy(name, model);
                }
            }
            self.substitute(name, model);
        }
    }

    fn substitute(&mut self, name: &str, model: &Model) {
        let config = self.config;
        let Some(other) = &model.switch().substitute else { return };
        let path = ["models", name, "substitute"];
        if !self.exists("models", other, &path) {
            return;
        }
        let concrete = |model: &ConcreteModel| model.kind == ModelKind::Chat;
        let is_chat = |model: &Model| match model {
            Model::Concrete(model) => concrete(model),
            Model::Virtual(model) => model.choose.iter().filter_map(|name| config.models.get(name)?.concrete()).all(concrete),
        };
        if !is_chat(model) || config.models.get(other).is_some_and(|other| !is_chat(other)) {
            self.error(
                &path,
                "only a chat model takes the place of one: vectors of two models are not of one space",
                "name a chat model for a chat model",
            );
        }
        // From one to the next, until there is none, or it is this one again. Others' circles are told at their own entries.
        let mut next = Some(other);
        for _ in 0..config.models.len() {
            let Some(at) = next else { return };
            if at == name {
                let remedy = "remove one of them, so that the last has none";
                return self.error(&path, format!("substitutes lead from {name:?} back to itself"), remedy);
            }
            next = config.models.get(at).and_then(|model| model.switch().substitute.as_ref());
        }
    }

    fn concrete(&mut self, name: &str, model: &ConcreteModel) {
        if model.is_built_in() {
            if model.kind != ModelKind::Embedding {
                self.error(
                    &["models", name, "kind"],
                    "what is inside pointsman makes embeddings",
                    "write `kind = \"embedding\"`, or name a provider",
                );
            }
            self.embeds_here(&["models", name, "name"], &model.name);
        } else {
            self.exists("providers", &model.provider, &["models", name, "provider"]);
        }
        if model.name.is_empty() || model.name.chars().any(char::is_control) {
            self.error(
                &["models", name, "name"],
                "a model's name is not empty and has no control characters",
                "write the provider's name for it",
            );
        }
        self.fallback(name, model);
        let Some(price) = &model.price else { return };
        let fields = [("input", Some(price.input)), ("output", Some(price.output)), ("cached_input", price.cached_input)];
        for (field, amount) in fields {
            if amount.is_some_and(|amount| !amount.is_finite() || amount < 0.0) {
                self.error(
                    &["models", name, "price", field],
                    "a price is at least 0",
                    "write USD per million tokens, such as 0.05",
                );
            }
        }
    }

    fn fallback(&mut self, name: &str, model: &ConcreteModel) {
        for (index, other) in model.fallback.iter().enumerate() {
            let element = format!("[{index}]");
            let path = ["models", name, "fallback", &element];
            if other == name || model.fallback[..index].contains(other) {
                self.error(&path, "this model has been asked already", "remove it");
            } else if self.exists("models", other, &path) {
                let other = self.config.models.get(other);
                if other.is_some_and(|other| other.concrete().is_none()) {
                    self.error(&path, "this model is a virtual one, and chooses anew", "name one of its `choose`");
                    continue;
                }
                let is_chat = |model: &ConcreteModel| model.kind == ModelKind::Chat;
                if !is_chat(model) || !other.and_then(Model::concrete).is_some_and(is_chat) {
                    self.error(
                        &path,
                        "only a concrete chat model takes the place of one: vectors of two models are not of one space",
                        "name a chat model that has a `provider`",
                    );
                }
            }
        }
    }

    fn choices(&mut self, name: &str, choose: &[String]) {
        if choose.is_empty() {
            self.error(
                &["models", name, "choose"],
                "there is nothing to choose among",
                "write at least one model, such as [\"small\"]",
            );
        }
        let mut kind = None;
        for (index, choice) in choose.iter().enumerate() {
            let element = format!("[{index}]");
            let path = ["models", name, "choose", &element];
            if choose[..index].contains(choice) {
                self.error(&path, "this model is already in the list", "remove one of the two");
            }
            if !self.exists("models", choice, &path) {
                continue;
            }
            match self.config.models.get(choice) {
                Some(Model::Virtual(_)) => {
                    self.error(&path, format!("{choice:?} is virtual too"), "choose among concrete models")
                }
                Some(Model::Concrete(model)) if *kind.get_or_insert(model.kind) != model.kind => {
                    self.error(
                        &path,
                        format!("{choice:?} is of another kind than the first"),
                        "choose among chat models, or among embedding models",
                    );
                }
                _ => {}
            }
        }
    }
}

/// What an owner demands of an answer.
impl Check<'_> {
    fn cascade(&mut self, name: &str, model: &VirtualModel) {
        let Some(cascade) = &model.cascade else { return };
        let path = |field| ["models", name, "cascade", field];
        if model.choose.len() < 2 {
            self.error(
                &["models", name, "cascade"],
                "the last model's answer is not judged, and there is only one",
                "name a larger model after it in `choose`",
            );
        }
        let Cascade { min_logprob, min_chars, refusals, json, self_check, tokens } = cascade;
        if min_logprob.is_none() && *min_chars == 0 && !refusals && !json && self_check.is_none() {
            self.error(
                &["models", name, "cascade"],
                "nothing is demanded of an answer",
                "write a rule, such as `min_logprob = -0.5` or `refusals = true`",
            );
        }
        if min_logprob.is_some_and(|least| !(least.is_finite() && least < 0.0)) {
            self.error(&path("min_logprob"), "the logarithm of a probability is below 0", "write one such as -0.5");
        }
        if !(1..=4_096).contains(tokens) {
            self.error(&path("tokens"), "a stream is held back for 1 to 4096 events", "write a number such as 64");
        }
        let Some(check) = self_check else { return };
        let place = ["models", name, "cascade", "self_check", "model"];
        if self.exists("models", &check.model, &place) {
            let asked = self.config.models.get(&check.model).and_then(Model::concrete);
            if asked.is_none_or(|asked| asked.kind != ModelKind::Chat || asked.is_built_in()) {
                self.error(&place, "only a concrete chat model can be asked", "name a chat model that has a `provider`");
            }
        }
        if !check.ask.contains("{answer}") {
            self.error(
                &["models", name, "cascade", "self_check", "ask"],
                "the answer is not in it",
                "write `{answer}` where it is to stand",
            );
        }
    }
}

/// An absolute http or https URL with nothing but a host, a port and a path. The URL is not in the error: it may hold a password.
pub(super) fn url(text: &str) -> Result<Uri, Wrong> {
    let wrong = |reason: &str| Wrong::new(reason, "write an absolute URL, such as \"https://api.openai.com/v1\"");
    let uri: Uri = text.parse().map_err(|_| wrong("this is not a URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("an endpoint begins with http:// or https://"));
    }
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(Wrong::new(
            "an endpoint holds no user or password",
            "remove what is before the @, and write `key = \"env:NAME\"`",
        ));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(wrong("this URL has no host"));
    }
    let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(wrong("this URL's port is not a number from 0 to 65535"));
    }
    if uri.query().is_some() || text.contains('#') {
        return Err(Wrong::new("an endpoint has neither ? nor #", "remove them and what follows"));
    }
    Ok(uri)
}

/// Whether requests to both would go to the same place.
fn is_same(a: &Uri, b: &Uri) -> bool {
    let path = |uri: &Uri| uri.path().trim_end_matches('/').to_owned();
    // Schemes and authorities compare without regard to case.
    a.scheme() == b.scheme() && a.authority() == b.authority() && path(a) == path(b)
}

/// Whether a secret sent there can be read on the way.
fn in_the_clear(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    uri.scheme_str() == Some("http") && !local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, fine) in [
            ("http://10.0.0.7:8000/v1", true),
            ("https://api.openai.com/v1/", true),
            ("https://[::1]:8443", true),
            ("https://[::1]", true),
            ("HTTP://localhost", true),
            ("localhost:8000", false),
            ("/v1", false),
            ("ftp://host/", false),
            ("http://", false),
            ("http://:80/", false),
            ("http://host:99999/", false),
            ("http://user:pass@host/", false),
            ("http://host/?a=b", false),
            ("http://host/#a", false),
            ("http://ho st/", false),
            ("", false),
        ] {
            assert_eq!(url(text).is_ok(), fine, "{text}");
        }
    }
}
