//! Checks of `[plugins]`, `[prompts]`, `[examples]`, `[cache]`, `[degrade]` and `[keys]`.
//!
//! Opens no component and renders no prompt: their own rooms do, and tell what they find.

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Check, suggest};
use crate::config::allow::Allowed;
use crate::config::{ByteSize, CacheConfig, Duration, Grant, Plugin, is_digest};

/// Below this a deadline cannot be told from the tick that enforces it.
const MIN_DEADLINE: Duration = Duration::from_millis(2);
/// Each thread keeps instances: more than this is a mistake rather than a need.
const MAX_PLUGIN_MEMORY: ByteSize = ByteSize::mib(64);
/// No component of more is read.
const MAX_COMPONENT: ByteSize = ByteSize::mib(64);

impl Check<'_> {
    pub(super) fn plugins(&mut self) {
        let config = self.config;
        for (name, plugin) in &config.plugins {
            let path = |field: &'static str| ["plugins", name.as_str(), field];
            // It goes into the header x-pointsman-plugin and into file names.
            if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
                self.name_error(
                    &["plugins", name],
                    "a plugin's name has 1 to 64 letters, digits, dots, - and _",
                    "choose another name",
                );
            }
            // Not an error: a build may be replacing it, and while pointsman runs the version before goes on serving.
            if plugin.oci().is_none() && !plugin.component.is_file() {
                let what = if plugin.component.exists() { "is no file" } else { "does not exist" };
                let reason = format!("the file {} {what}", plugin.component.display());
                self.warning(&path("component"), reason, "build it with `pointsman plugin build DIR` before pointsman starts");
            }
            if plugin.hooks.is_empty() && !self.document.has(&["plugins", name, "hooks", "[0]"]) {
                self.error(
                    &path("hooks"),
                    "a plugin without a hook decides nothing",
                    "write at least one of \"routing\", \"prompting\", \"caching\"",
                );
            }
            self.no_doubles(&path("hooks"), &plugin.hooks);
            self.binding(name, plugin);
            self.kept(name, plugin);
            self.outbound(name, plugin);
            self.release(name, plugin);
            self.not_zero(&["plugins", name, "quarantine", "after"], plugin.quarantine.after == 0, "20");
            self.not_zero(&["plugins", name, "quarantine", "lasts"], plugin.quarantine.lasts.is_zero(), "\"10s\"");
            self.origin(name, plugin);
            self.no_doubles(&path("grant"), &plugin.grant);
            if plugin.deadline < MIN_DEADLINE {
                self.error(
                    &path("deadline"),
                    format!("{} is shorter than {MIN_DEADLINE}, the shortest that is kept", plugin.deadline),
                    format!("write at least \"{MIN_DEADLINE}\""),
                );
            }
            self.not_zero(&path("memory"), plugin.memory.bytes() == 0, "\"16MiB\"");
            if plugin.memory > MAX_PLUGIN_MEMORY {
                self.error(
                    &path("memory"),
                    format!("{} is more than a plugin may have", plugin.memory),
                    format!("write at most \"{MAX_PLUGIN_MEMORY}\""),
                );
            }
        }
    }

    /// For whom it is asked: names that are there.
    fn binding(&mut self, name: &str, plugin: &Plugin) {
        for (index, model) in plugin.models.iter().enumerate() {
            self.exists("models", model, &["plugins", name, "models", &format!("[{index}]")]);
        }
        self.no_doubles(&["plugins", name, "models"], &plugin.models);
        let tenants = self.config.keys.values().map(|key| &*key.tenant);
        let of_keys: BTreeSet<&str> = tenants.filter(|tenant| !tenant.trim().is_empty()).collect();
        let written = self.document.names(&["keys"]).len();
        let known: Vec<&str> = if written == 0 { vec!["default"] } else { of_keys.into_iter().collect() };
        // A key that is there and wrong has a tenant all the same, and is another mistake.
        let is_known = |tenant: &str| written != self.config.keys.len() || known.contains(&tenant);
        let strangers = plugin.tenants.iter().enumerate().filter(|(_, tenant)| !is_known(tenant));
        for (index, tenant) in strangers.collect::<Vec<_>>() {
            self.error(
                &["plugins", name, "tenants", &format!("[{index}]")],
                format!("no key is of the tenant {tenant:?}"),
                format!("add one with `pointsman key new NAME --tenant TENANT`, or {}", suggest::choice(tenant, &known)),
            );
        }
        self.no_doubles(&["plugins", name, "tenants"], &plugin.tenants);
    }

    /// What it may keep.
    fn kept(&mut self, name: &str, plugin: &Plugin) {
        let path = |field: &'static str| ["plugins", name, "kv", field];
        let kept = plugin.kv;
        self.not_zero(&path("memory"), kept.memory.bytes() == 0, "\"16MiB\"");
        self.not_zero(&path("tenant_memory"), kept.tenant_memory.bytes() == 0, "\"1MiB\"");
        self.not_zero(&path("tenant_entries"), kept.tenant_entries == 0, "4000");
        if kept.tenant_memory > kept.memory {
            let reason = format!("{} for one tenant is more than {} for all of them", kept.tenant_memory, kept.memory);
            self.error(&path("tenant_memory"), reason, "write at most as much as `memory`");
        }
        if self.document.has(&["plugins", name, "kv"]) && !plugin.grant.contains(&Grant::Kv) {
            let reason = "without the grant it may keep nothing";
            self.warning(&["plugins", name, "kv"], reason, "add \"kv\" to `grant`, or remove this");
        }
    }

    /// Where it may send to.
    fn outbound(&mut self, name: &str, plugin: &Plugin) {
        const MOST: u64 = 1 << 20;
        let granted = plugin.grant.contains(&Grant::Http);
        let Some(http) = &plugin.http else {
            if granted {
                let reason = "it may send nowhere: there is no list of what is allowed";
                let remedy = format!("add `[plugins.{name}.http] allow = [\"https://host/path\"]`, or remove \"http\"");
                self.error(&["plugins", name, "grant"], reason, remedy);
            }
            return;
        };
        if !granted {
            let reason = "without the grant it may send nothing";
            self.warning(&["plugins", name, "http"], reason, "add \"http\" to `grant`, or remove this");
        }
        let path = |field: &'static str| ["plugins", name, "http", field];
        for (index, url) in http.allow.iter().enumerate() {
            if let Err(why) = Allowed::parse(url) {
                let place = format!("[{index}]");
                self.error(
                    &["plugins", name, "http", "allow", &place],
                    format!("this {why}"),
                    "write it as \"https://host[:port][/path]\"",
                );
            }
        }
        if http.allow.is_empty() {
            self.error(&path("allow"), "nothing is allowed", "write one or more of \"https://host[:port][/path]\"");
        }
        self.not_zero(&path("timeout"), http.timeout.get().is_zero(), "\"1s\"");
        self.not_zero(&path("calls"), http.calls == 0, "4");
        self.not_zero(&path("at_once"), http.at_once == 0, "64");
        if http.at_once > 500 {
            self.error(&path("at_once"), "a node has 1000 instances for all plugins", "write 500 or less");
        }
        for (field, size) in [("request", http.request), ("answer", http.answer)] {
            if size.bytes() > MOST {
                self.error(&path(field), format!("{size} is more than a call may move"), "write \"1MiB\" or less");
            }
        }
    }

    /// Where it comes from, and what is asked of it.
    fn origin(&mut self, name: &str, plugin: &Plugin) {
        let path = |field: &'static str| ["plugins", name, field];
        let pin = plugin.digest.as_deref();
        if pin.is_some_and(|pin| !pin.strip_prefix("sha256:").is_some_and(is_digest)) {
            self.error(
                &path("digest"),
                "a digest is `sha256:` and 64 hexadecimal digits in lower case",
                "copy what `pointsman plugin inspect FILE` says",
            );
        }
        match plugin.oci() {
            Some(Err(error)) => self.error(
                &path("component"),
                format!("this is no component of a registry: {error}"),
                "write oci://REGISTRY/REPOSITORY@sha256:DIGEST, as `pointsman plugin push` prints it",
            ),
            Some(Ok(reference)) if reference.digest.is_none() && pin.is_none() => self.error(
                &path("component"),
                "whoever may push can let a tag stand for another component",
                "add @sha256:DIGEST, or `digest` with the component's own",
            ),
            Some(Ok(_)) | None => {}
        }
        for (index, key) in plugin.trust.iter().enumerate() {
            let bytes = key.strip_prefix("ed25519:").and_then(|key| BASE64.decode(key).ok());
            if bytes.is_none_or(|bytes| bytes.len() != 32) {
                self.error(
                    &["plugins", name, "trust", &format!("[{index}]")],
                    "a key is `ed25519:` and 44 characters of base64",
                    "copy what `pointsman plugin key new FILE` prints",
                );
            }
        }
        self.no_doubles(&path("trust"), &plugin.trust);
        if plugin.signed_as.is_some() && plugin.trust.is_empty() {
            let remedy = "name the keys that are trusted in `trust`, or remove this";
            self.error(&path("signed_as"), "nobody looks at who has signed it, and as what", remedy);
        }
        self.not_zero(&path("max_component"), plugin.max_component.bytes() == 0, "\"32MiB\"");
        if plugin.max_component > MAX_COMPONENT {
            self.error(
                &path("max_component"),
                format!("{} is more than any component may have", plugin.max_component),
                format!("write at most \"{MAX_COMPONENT}\""),
            );
        }
    }

    /// How it is released.
    fn release(&mut self, name: &str, plugin: &Plugin) {
        let path = |field: &'static str| ["plugins", name, "release", field];
        let release = &plugin.release;
        if !(release.share > 0.0 && release.share <= 1.0) {
            self.error(&path("share"), "a share is above 0 and at most 1", "write 0.05 for one request of twenty");
        }
        for (field, share) in [("traps", release.traps), ("deadlines", release.deadlines), ("errors", release.errors)] {
            if !(0.0..=1.0).contains(&share) {
                self.error(&path(field), "a share is at least 0 and at most 1", "write 0.01 for one of a hundred");
            }
        }
        if !(release.latency >= 1.0 && release.latency.is_finite()) {
            self.error(&path("latency"), "this is how many times as long, and at least 1", "write 3 for three times as long");
        }
        if !(release.cost >= 0.0 && release.cost.is_finite()) {
            self.error(&path("cost"), "this is how much more, and not below 0", "write 0.25 for a quarter more");
        }
        self.not_zero(&path("window"), release.window.is_zero(), "\"5m\"");
        self.not_zero(&path("min_samples"), release.min_samples == 0, "100");
        if http::HeaderName::from_bytes(release.session_header.as_bytes()).is_err() {
            self.error(&path("session_header"), "this is not a header's name", "write a header's name, such as \"x-session-id\"");
        }
    }

    fn no_doubles<T: PartialEq>(&mut self, path: &[&str; 3], list: &[T]) {
        for index in 1..list.len() {
            if list[..index].contains(&list[index]) {
                let element = format!("[{index}]");
                self.error(&[path[0], path[1], path[2], &element], "this is already in the list", "remove one of the two");
            }
        }
    }

    pub(super) fn prompts_and_examples(&mut self) {
        let config = self.config;
        if let Some(prompts) = &config.prompts {
            if !prompts.path.is_dir() {
                self.error(
                    &["prompts", "path"],
                    format!("the folder {} does not exist", prompts.path.display()),
                    "create it, with prompts as NAME/VERSION.j2",
                );
            }
            for (name, version) in &prompts.pin {
                self.printable(&["prompts", "pin", name], name);
                if version.is_empty() {
                    self.error(&["prompts", "pin", name], "a version is not empty", "write the file's name without .j2");
                }
            }
        }
        for (set, labels) in &config.examples {
            self.printable(&["examples", set], set);
            for (label, texts) in labels {
                self.printable(&["examples", set, label], label);
                if texts.iter().all(|text| text.trim().is_empty()) && !self.document.has(&["examples", set, label, "[0]"]) {
                    self.error(&["examples", set, label], "a label needs an example", "write at least one text");
                }
            }
        }
    }

    pub(super) fn cache(&mut self) {
        let Some(cache) = &self.config.cache else { return };
        self.not_zero(&["cache", "memory"], cache.memory.bytes() == 0, "\"256MiB\" (without [cache] there is no cache)");
        self.not_zero(&["cache", "ttl"], cache.ttl.is_zero(), "\"1h\"");
        self.not_zero(&["cache", "max_entry"], cache.max_entry.bytes() == 0, "\"1MiB\"");
        if cache.max_entry > cache.memory {
            self.error(&["cache", "max_entry"], "one entry may be larger than the whole cache", "write less than `memory`");
        }
        self.tiers(cache);
        if let Some(ahead) = &cache.refresh_ahead {
            let path = |name| ["cache", "refresh_ahead", name];
            if !(ahead.share > 0.0 && ahead.share < 1.0) {
                self.error(&path("share"), format!("{} is not above 0 and below 1", ahead.share), "write a share, such as 0.1");
            }
            if !(ahead.per_second > 0.0 && ahead.per_second <= 1000.0) {
                let reason = format!("{} is not above 0 and at most 1000", ahead.per_second);
                self.error(&path("per_second"), reason, "write a rate, such as 1.0, or remove [cache.refresh_ahead]");
            }
        }
        let Some(semantic) = &cache.semantic else { return };
        if !(semantic.wrong_hits > 0.0 && semantic.wrong_hits <= 0.5) {
            self.error(
                &["cache", "semantic", "wrong_hits"],
                format!("{} is not above 0 and at most 0.5", semantic.wrong_hits),
                "write a share, such as 0.02 for one in fifty",
            );
        }
        if !(0.0..=1.0).contains(&semantic.audit) {
            self.error(
                &["cache", "semantic", "audit"],
                format!("{} is not from 0 to 1", semantic.audit),
                "write a share, such as 0.05 for one in twenty",
            );
        }
        self.not_zero(&["cache", "semantic", "max_entries"], semantic.max_entries == 0, "20000");
        self.embedder(&["cache", "semantic", "embedder"], &semantic.embedder);
    }

    fn tiers(&mut self, cache: &CacheConfig) {
        if let Some(redis) = &cache.redis {
            self.not_zero(&["cache", "redis", "deadline"], redis.deadline.is_zero(), "\"5ms\"");
            if redis.prefix.is_empty() || redis.prefix.len() > 200 || redis.prefix.chars().any(char::is_control) {
                self.error(
                    &["cache", "redis", "prefix"],
                    "a prefix has at least one and at most 200 bytes, and no control characters",
                    "write one such as \"pointsman:\"",
                );
            }
            if !redis.wait.is_zero() && !cache.flights {
                let remedy = "remove it, or `flights = false`";
                self.error(&["cache", "redis", "wait"], "without flights nobody waits for an equal request", remedy);
            }
            if let Some(Err(wrong)) = redis.password.as_ref().map(|password| password.resolve().map(drop)) {
                self.error(&["cache", "redis", "password"], wrong.reason, wrong.remedy);
            }
        }
        let Some(disk) = &cache.disk else { return };
        self.not_zero(&["cache", "disk", "deadline"], disk.deadline.is_zero(), "\"20ms\"");
        if ByteSize::mib(1).max(cache.max_entry) > disk.size {
            self.error(
                &["cache", "disk", "size"],
                "this is less than one entry may have, or than 1MiB",
                "write more, such as \"1GiB\" (without [cache.disk] nothing is kept there)",
            );
        }
        if disk.path.is_file() {
            self.error(&["cache", "disk", "path"], format!("{} is a file", disk.path.display()), "name a folder of its own");
        }
    }

    pub(super) fn degrade(&mut self) {
        let Some(degrade) = &self.config.degrade else { return };
        let levels = [("cached", degrade.cached), ("small", degrade.small), ("stale", degrade.stale), ("shed", degrade.shed)];
        for (name, share) in levels.into_iter().chain([("leave", degrade.leave)]) {
            if !(share > 0.0 && share <= 1.0) {
                self.error(&["degrade", name], "this is a share above 0 and at most 1", "write one such as 0.8");
            }
        }
        for pair in levels.windows(2) {
            let [(before, low), (name, high)] = pair else { continue };
            if high < low {
                self.error(
                    &["degrade", name],
                    format!("this level comes after `{before}`, which is entered at {low}"),
                    format!("write at least {low}"),
                );
            }
        }
        if self.document.has(&["degrade", "stale_for"]) && !self.document.has(&["cache"]) {
            self.warning(&["degrade", "stale_for"], "there is no cache to keep answers in", "add [cache], or remove it");
        }
        self.not_zero(&["degrade", "hold"], degrade.hold.is_zero(), "\"10s\"");
    }

    pub(super) fn keys(&mut self) {
        let config = self.config;
        let mut seen = HashMap::new();
        for (name, key) in &config.keys {
            self.printable(&["keys", name], name);
            match key.digest() {
                // The value is not shown: it may be the key itself.
                None => self.error(
                    &["keys", name, "hash"],
                    "this is not `blake3:` and 64 hexadecimal digits",
                    "run `pointsman key new NAME` and copy the entry that it prints",
                ),
                Some(digest) => {
                    if let Some(other) = seen.insert(digest, name) {
                        self.error(
                            &["keys", name, "hash"],
                            format!("this is the key of {other:?} too"),
                            "give each entry a key of its own with `pointsman key new NAME`",
                        );
                    }
                }
            }
            if key.tenant.trim().is_empty() || key.tenant.len() > 200 || key.tenant.chars().any(char::is_control) {
                self.error(
                    &["keys", name, "tenant"],
                    "a tenant has at least one and at most 200 bytes, and no control characters",
                    "write whose key it is",
                );
            }
            for (index, model) in key.models.iter().flatten().enumerate() {
                self.exists("models", model, &["keys", name, "models", &format!("[{index}]")]);
            }
        }
    }
}
