//! Warnings about settings that can do nothing, or not what they seem to say.
//!
//! What it does not do: it finds no errors. What is written here is served as it is.
//!
//! **Invariant:** a warning goes away when its remedy is followed.

use super::Check;
use super::upstream::url;
use crate::config::{ByteSize, Duration, Model, Plugin, Provider};

/// Below this the process itself has no room, and every request with a body is refused.
const LEAST_MEMORY: ByteSize = ByteSize::mib(64);
/// The longest of the beginnings of a refusal that are known has about so many tokens.
const REFUSAL: u32 = 16;
/// A component of more bytes brings an interpreter: it takes milliseconds to begin, and more memory than others.
pub(crate) const INTERPRETER: u64 = 4 << 20;
/// What an interpreter has room in.
const INTERPRETERS_MEMORY: ByteSize = ByteSize::mib(32);
/// By then an interpreter has begun, on a machine that has other things to do as well.
const BEGINS: Duration = Duration::from_millis(50);
/// A story with the decisions of a few plugins.
const STORY: u64 = 8 << 10;
/// What pointsman adds to a base URL itself.
const OPERATIONS: [&str; 4] = ["/chat/completions", "/completions", "/embeddings", "/models"];

impl Check<'_> {
    pub(super) fn idle(&mut self) {
        let config = self.config;
        for (name, provider) in &config.providers {
            self.idle_endpoints(name, provider);
            self.idle_resilience(name, provider);
            self.idle_watching(name, provider);
        }
        for (name, model) in &config.models {
            if let Model::Virtual(model) = model
                && let Some(cascade) = &model.cascade
            {
                if cascade.refusals && cascade.tokens < REFUSAL {
                    let reason = format!("a refusal needs about {REFUSAL} events of a stream to be known as one");
                    self.warning(
                        &["models", name, "cascade", "tokens"],
                        reason,
                        format!("write at least {REFUSAL}, or remove it"),
                    );
                }
                if let Some(unknown) = cascade.self_check.as_ref().and_then(|check| placeholder(&check.ask)) {
                    self.warning(
                        &["models", name, "cascade", "self_check", "ask"],
                        format!("`{unknown}` stands for nothing, and is sent as it is"),
                        "write `{question}` or `{answer}`",
                    );
                }
            }
        }
        self.idle_zone();
        self.idle_degrade();
        if config.admin.as_ref().is_some_and(|admin| admin.explain_texts && admin.explain.bytes() == 0) {
            let remedy = "write `explain = \"2MiB\"` beside it, or remove it";
            self.warning(&["admin", "explain_texts"], "no stories are kept that texts could be in", remedy);
        }
        for (name, plugin) in &config.plugins {
            self.idle_interpreter(name, plugin);
        }
        self.idle_stories();
        if let Some(memory) = config.listen.memory.filter(|memory| memory.bytes() > 0 && *memory < LEAST_MEMORY) {
            let reason = format!("{memory} is less than the process itself takes, so that requests with a body are all refused");
            self.warning(&["listen", "memory"], reason, "write what the machine can give, such as \"2GiB\", or remove it");
        }
    }

    /// Of a plugin whose interpreter does not get what it needs calls are lost, and nothing but a number says so.
    fn idle_interpreter(&mut self, name: &str, plugin: &Plugin) {
        let size = std::fs::metadata(&plugin.component).map_or(0, |file| file.len());
        if plugin.oci().is_some() || size <= INTERPRETER {
            return;
        }
        let path = |field: &'static str| ["plugins", name, field];
        if !plugin.reuse && plugin.deadline < BEGINS {
            let reason = format!(
                "the component brings an interpreter, which begins anew for each request, within the `deadline` of {}: some calls will miss it",
                plugin.deadline
            );
            let remedy = format!(
                "write `reuse = true`; or, where no tenant's request may meet an instance of another's, a `deadline` of at least \"{BEGINS}\""
            );
            self.warning(&path("reuse"), reason, remedy);
        }
        if plugin.memory < INTERPRETERS_MEMORY {
            let reason =
                format!("the component brings an interpreter, for which {} are little: calls may run out of it", plugin.memory);
            self.warning(&path("memory"), reason, format!("write at least \"{INTERPRETERS_MEMORY}\""));
        }
    }

    /// Each core has a share of its own.
    fn idle_stories(&mut self) {
        let config = self.config;
        let cores =
            config.listen.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1) as u64;
        // One more is the process's own.
        let least = (cores + 1) * STORY;
        let few = config.admin.as_ref().map(|admin| admin.explain).filter(|explain| (1..least).contains(&explain.bytes()));
        if let Some(explain) = few {
            let reason = format!("{explain} are shared by {cores} cores, so that a story may find no room");
            self.warning(
                &["admin", "explain"],
                reason,
                format!("write at least \"{}KiB\", or \"2MiB\" for some hundred stories", least >> 10),
            );
        }
    }

    fn idle_endpoints(&mut self, name: &str, provider: &Provider) {
        for (index, endpoint) in provider.endpoints.iter().enumerate() {
            let base = endpoint.url.trim_end_matches('/');
            let Some(operation) = OPERATIONS.iter().find(|operation| base.ends_with(**operation)).filter(|_| url(base).is_ok())
            else {
                continue;
            };
            let element = format!("[{index}]");
            let mut path = vec!["providers", name, "endpoints", &element];
            if self.document.has(&[&path[..], &["url"]].concat()) {
                path.push("url");
            }
            let short = base.trim_end_matches(operation).to_owned();
            self.warning(
                &path,
                format!("requests would go to {base}/chat/completions"),
                format!("write the base URL, \"{short}\""),
            );
        }
    }

    fn idle_resilience(&mut self, name: &str, provider: &Provider) {
        let path = |field| ["providers", name, field];
        if provider.hedge.is_some() && provider.endpoints.len() == 1 {
            self.warning(&path("hedge"), "there is no second endpoint to ask", "add one to `endpoints`, or remove this");
        }
        if provider.continuation.is_some() && provider.retries == 0 {
            let reason = "nothing is gone on with, since `retries` is 0";
            self.warning(&path("continuation"), reason, "write `retries = 1`, or remove this");
        }
        let breaker = &provider.breaker;
        if breaker.open > breaker.open_max {
            let reason = format!("this is longer than `open_max`, {}, which holds", breaker.open_max);
            self.warning(&["providers", name, "breaker", "open"], reason, "write less, or `open_max` as well");
        }
        if let Some(concurrency) = provider.concurrency.filter(|concurrency| concurrency.start > concurrency.max) {
            let said = if self.document.has(&["providers", name, "concurrency", "start"]) { "start" } else { "max" };
            self.warning(
                &["providers", name, "concurrency", said],
                format!("`start`, {}, is more than `max`, {}, which holds from the first", concurrency.start, concurrency.max),
                format!("write `start = {}`, or less", concurrency.max),
            );
        }
    }

    fn idle_watching(&mut self, name: &str, provider: &Provider) {
        let path = ["providers", name, "metrics_interval"];
        if provider.metrics.is_none() && self.document.has(&path) && !self.document.has(&["providers", name, "metrics"]) {
            self.warning(&path, "nobody asks for metrics", "write `metrics = \"/metrics\"`, or remove this");
        }
        if let Some(probe) = provider.probe.as_ref().filter(|probe| probe.timeout > probe.interval) {
            let said = if self.document.has(&["providers", name, "probe", "timeout"]) { "timeout" } else { "interval" };
            self.warning(
                &["providers", name, "probe", said],
                format!(
                    "a probe that takes its `timeout`, {}, is over after the next one's time, {}",
                    probe.timeout, probe.interval
                ),
                "write a `timeout` that is at most `interval`",
            );
        }
    }

    fn idle_zone(&mut self) {
        let Some(zone) = &self.config.zone else { return };
        let mut zones = self.config.providers.values().flat_map(|provider| &provider.endpoints).map(|endpoint| &endpoint.zone);
        if !zones.any(|other| other.as_ref() == Some(zone)) {
            let remedy = "write `zone` at those endpoints that stand there, or remove this";
            self.warning(&["zone"], format!("no endpoint is in the zone {zone:?}"), remedy);
        }
    }

    fn idle_degrade(&mut self) {
        let Some(degrade) = &self.config.degrade else { return };
        let has_cache = self.document.has(&["cache"]);
        // `stale_for` has a warning of its own.
        if !has_cache && !degrade.stale_for.is_zero() && !self.document.has(&["degrade", "stale_for"]) {
            self.warning(
                &["degrade"],
                "without [cache] the levels `cached` and `stale` change nothing",
                "add [cache], or write `stale_for = \"0s\"`",
            );
        }
    }
}

/// The first word in braces that is neither of the two that stand for something. Other braces are text.
fn placeholder(ask: &str) -> Option<&str> {
    ask.match_indices('{').find_map(|(at, _)| {
        let inner = ask[at + 1..].split('}').next().filter(|inner| at + 1 + inner.len() < ask.len())?;
        let is_word = !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        (is_word && !["question", "answer"].contains(&inner)).then(|| &ask[at..at + inner.len() + 2])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_braces() {
        for (ask, found) in [
            ("{question} {answer}", None),
            ("{q}: {answer}", Some("{q}")),
            ("{answer} {Frage}", Some("{Frage}")),
            ("{answer} in {\"json\": 1}, {}, { x }, {", None),
        ] {
            assert_eq!(placeholder(ask), found, "{ask}");
        }
    }
}
