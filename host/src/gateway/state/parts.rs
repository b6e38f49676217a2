//! The parts of a snapshot, each made anew or taken over from the one before.
//!
//! **Invariant:** a part that cannot be made is told with the key that it comes from, and does not keep the others from being tried.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

use super::{Lasting, State};
use crate::cache::trust::calibration::{self, Calibration};
use crate::cache::{self, Cache, NearSettings};
use crate::config::{self, Config, Finding};
use crate::embed::Embedder;
use crate::embed::examples::ExampleSets;
use crate::gateway::explain::{self, Stories};
use crate::gateway::models::Models;
use crate::gateway::recording::Recording;
use crate::identity::Keys;
use crate::plugin::load::{Hook, LoadError, Settings, Source};
use crate::plugin::release::judge::Limits;
use crate::plugin::release::{OnChange, Rules, Sticky, WHOLE};
use crate::plugin::{PluginSet, http as outbound, kv, quarantine};
use crate::prompt::{Problem, Registry};

/// What keeps a part from being made.
type Findings = Vec<Finding>;

fn one(key: &[&str], reason: impl std::fmt::Display, remedy: &str) -> Findings {
    vec![Finding::new(key, reason, remedy)]
}

/// `[keys]`.
pub(super) fn keys(config: &Config) -> Result<Keys, Findings> {
    Keys::new(config).map_err(|error| one(&["keys"], error, "copy the entry that `pointsman key new NAME` prints"))
}

/// `[examples]`, embedded.
pub(super) async fn examples(config: &Config, embedder: Option<&dyn Embedder>) -> Result<ExampleSets, Findings> {
    let Some(embedder) = embedder.filter(|_| !config.examples.is_empty()) else { return Ok(ExampleSets::default()) };
    let sets = config
        .examples
        .iter()
        .map(|(set, labels)| (set.clone(), labels.iter().map(|(label, texts)| (label.clone(), texts.clone())).collect()));
    ExampleSets::build(embedder, sets.collect())
        .await
        .map_err(|error| one(&["examples"], error, "write texts with words in them"))
}

/// `[plugins]`: those that are in force, and those that did not load but have a version before them.
pub(super) fn plugins(
    lasting: &Lasting,
    config: &Config,
    previous: Option<&State>,
) -> Result<(PluginSet, Vec<LoadError>), Findings> {
    let settings = settings(config);
    if settings.is_empty() {
        return Ok(Default::default());
    }
    let engine = lasting.engine().map_err(|finding| vec![finding])?;
    let before = previous.map(|previous| &*previous.plugins);
    let (plugins, problems) = PluginSet::build(engine, &settings, lasting.shelves(), before);
    let is_without = |problem: &&LoadError| plugins.all().iter().all(|plugin| plugin.name() != problem.plugin);
    let missing: Findings = problems.iter().filter(is_without).map(unloaded).collect();
    if missing.is_empty() { Ok((plugins, problems)) } else { Err(missing) }
}

fn unloaded(problem: &LoadError) -> Finding {
    let LoadError { plugin, file, refusal } = problem;
    Finding::new(&["plugins", plugin, refusal.key], format!("{} {}", file.display(), refusal.reason), &*refusal.remedy)
}

/// `[prompts]`, and what is wrong with single ones.
pub(super) fn prompts(config: &Config, previous: Option<&State>) -> Result<(Option<Arc<Registry>>, Vec<Problem>), Findings> {
    let Some(prompts) = &config.prompts else { return Ok(Default::default()) };
    let pins: BTreeMap<String, String> = prompts.pin.iter().map(|(name, version)| (name.clone(), version.clone())).collect();
    let before = previous.and_then(|previous| previous.prompts.as_deref());
    let (registry, problems) = Registry::load(&prompts.path, &pins, before)
        .map_err(|error| one(&["prompts", "path"], error, "name a folder that can be read, with prompts as NAME/VERSION.j2"))?;
    Ok((Some(Arc::new(registry)), problems))
}

/// A prompt that cannot be read, at its pin or at the folder that it is in.
pub(super) fn unread(problem: &Problem) -> Finding {
    let key = match &problem.pin {
        Some(name) => vec!["prompts", "pin", name],
        None => vec!["prompts", "path"],
    };
    Finding::new(&key, &problem.reason, &*problem.remedy)
}

/// `[recording]`: the writer of the snapshot before goes on where it is told the same.
pub(super) fn recording(
    config: &Config,
    plugins: &PluginSet,
    models: &Models,
    previous: Option<&State>,
) -> Result<Option<Recording>, Findings> {
    let Some(wanted) = &config.recording else { return Ok(None) };
    // At its own key, where `validate` has told it already.
    let wrong = wanted.redact.patterns.iter().position(|pattern| regex::Regex::new(pattern).is_err());
    if let Some(index) = wrong {
        let key = ["recording", "redact", "patterns", &format!("[{index}]")];
        return Err(one(&key, "this is no regular expression", "mend it"));
    }
    let before = previous.and_then(|previous| previous.recording.as_ref());
    Recording::new(wanted, plugins, models, before)
        .map(Some)
        .map_err(|error| one(&["recording", "path"], error, "name a folder that can be written to"))
}

/// The stories of the last exchanges, for whoever can ask for them: those of the snapshot before go on where they are kept alike.
pub(super) fn stories(config: &Config, cores: usize, previous: Option<&State>) -> Option<Arc<Stories>> {
    let wanted = config.admin.as_ref().map(|admin| (admin.explain.as_usize(), admin.explain_texts));
    explain::stories(wanted, cores, previous.and_then(|previous| previous.stories.as_ref()))
}

/// `[plugins]` in the words of the plugin room.
pub(super) fn settings(config: &Config) -> Vec<Settings> {
    let hook = |hook: &config::Hook| match hook {
        config::Hook::Routing => Hook::Routing,
        config::Hook::Prompting => Hook::Prompting,
        config::Hook::Caching => Hook::Caching,
    };
    let grant = |grant: &config::Grant| {
        serde_json::to_value(grant).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
    };
    config
        .plugins
        .iter()
        .map(|(name, plugin)| Settings {
            name: name.clone(),
            component: plugin.component.clone(),
            hooks: plugin.hooks.iter().map(hook).collect(),
            tenants: plugin.tenants.clone(),
            models: plugin.models.clone(),
            grants: plugin.grant.iter().map(grant).collect(),
            fail: plugin.on_failure == config::OnFailure::Fail,
            deadline: plugin.deadline.get(),
            memory: plugin.memory.as_usize(),
            reuse: plugin.reuse,
            kv: kv::Limits {
                memory: plugin.kv.memory.as_usize(),
                tenant_memory: plugin.kv.tenant_memory.as_usize(),
                tenant_entries: plugin.kv.tenant_entries,
            },
            http: plugin.http.as_ref().map(|own| outbound::Limits {
                // `validate` has read them.
                allow: own.allow.iter().filter_map(|url| config::allow::Allowed::parse(url).ok()).collect(),
                timeout: own.timeout.get(),
                request: own.request.as_usize(),
                answer: own.answer.as_usize(),
                calls: own.calls,
                at_once: own.at_once,
            }),
            source: source(plugin),
            quarantine: quarantine::Rules { after: plugin.quarantine.after, lasts: plugin.quarantine.lasts.get() },
            release: rules(&plugin.release),
            config: plugin.config.as_object().cloned().unwrap_or_default(),
        })
        .collect()
}

/// Where a component comes from. `config` has checked what cannot be read here.
fn source(plugin: &config::Plugin) -> Source {
    Source {
        oci: plugin.oci().and_then(Result::ok),
        pin: plugin.digest.as_deref().and_then(|pin| pin.strip_prefix("sha256:")).map(str::to_owned),
        trust: plugin.trust.iter().filter_map(|key| key.parse().ok()).collect(),
        signed_as: plugin.signed_as.clone(),
        max_size: Some(plugin.max_component.bytes()),
    }
}

/// `[plugins.NAME.release]` in the words of the plugin room. `config` has checked ranges and names.
fn rules(release: &config::Release) -> Rules {
    let own = Rules::default();
    Rules {
        on_change: match release.on_change {
            config::OnChange::Promote => OnChange::Promote,
            config::OnChange::Canary => OnChange::Canary,
            config::OnChange::Shadow => OnChange::Shadow,
            config::OnChange::Hold => OnChange::Hold,
        },
        share: ((release.share * f64::from(WHOLE)).round() as u32).clamp(1, WHOLE),
        sticky: match release.sticky {
            config::Sticky::Session => {
                HeaderName::from_bytes(release.session_header.as_bytes()).map_or(own.sticky, Sticky::Session)
            }
            config::Sticky::Key => Sticky::Key,
            config::Sticky::Tenant => Sticky::Tenant,
        },
        rollback: release.rollback,
        probation: release.probation.get(),
        limits: Limits {
            window: release.window.get(),
            min_samples: release.min_samples,
            traps: release.traps,
            deadlines: release.deadlines,
            latency: release.latency,
            errors: release.errors,
            cost: release.cost,
        },
    }
}

/// `[cache]`: entries stay over a reload that they go with.
pub(super) fn cache(
    config: &Config,
    cores: usize,
    embedder: Option<&dyn Embedder>,
    previous: Option<&State>,
) -> Result<Option<Arc<Cache>>, Findings> {
    let Some(wanted) = &config.cache else { return Ok(None) };
    let settings = cache::Settings {
        memory: wanted.memory.bytes(),
        ttl: wanted.ttl.get(),
        stale_for: config
            .degrade
            .as_ref()
            .map_or(Duration::ZERO, |degrade| degrade.stale_for.get())
            .max(wanted.stale_if_error.get()),
        revalidates_for: wanted.stale_while_revalidate.get(),
        max_entry: wanted.max_entry.as_usize(),
        replay_rate: wanted.replay_rate,
        max_near: wanted.semantic.as_ref().map_or(0, |semantic| semantic.max_entries),
        near: match wanted.semantic.as_ref().zip(embedder) {
            Some((semantic, embedder)) => Some(near(semantic, embedder.id())?),
            None => None,
        },
        flights: wanted.flights,
        redis: wanted.redis.as_ref().map(|redis| self::redis(redis, cores)).transpose()?,
        disk: wanted.disk.as_ref().map(|disk| cache::tier::disk::Settings {
            path: disk.path.clone(),
            size: disk.size.bytes(),
            deadline: disk.deadline.get(),
        }),
    };
    let id = |embedder: Option<&dyn Embedder>| embedder.map(|embedder| embedder.id().to_owned());
    let is_same = previous.is_some_and(|previous| id(previous.embedder.as_deref()) == id(embedder));
    let before = previous.and_then(|previous| previous.cache.as_deref());
    let cache = Cache::new(settings, before, is_same)
        .map_err(|error| one(&["cache", "redis", "url"], error, "write redis://HOST:PORT, or rediss://HOST:PORT with TLS"))?;
    Ok(Some(Arc::new(cache)))
}

/// `[cache.redis]`.
fn redis(wanted: &config::Redis, cores: usize) -> Result<cache::tier::redis::Settings, Findings> {
    let password = match &wanted.password {
        None => None,
        Some(secret) => Some(
            secret.resolve().map_err(|wrong| vec![Finding::new(&["cache", "redis", "password"], wrong.reason, wrong.remedy)])?,
        ),
    };
    let url = &wanted.url;
    Ok(cache::tier::redis::Settings {
        address: (url.host.clone(), url.port),
        tls: url.tls,
        database: url.database,
        username: wanted.username.clone(),
        password,
        deadline: wanted.deadline.get(),
        prefix: wanted.prefix.clone(),
        wait: wanted.wait.get(),
        cores,
    })
}

/// What is known of an embedder's near hits beforehand: the owner's calibration, or the one that is shipped.
fn near(semantic: &config::Semantic, embedder: &str) -> Result<NearSettings, Findings> {
    let calibration = match &semantic.calibration {
        Some(file) => {
            let fail = |reason: String| {
                let remedy = "write the file anew: pointsman cache calibrate --pairs PAIRS.tsv --embedder EMBEDDER --out FILE";
                one(&["cache", "semantic", "calibration"], format!("{}: {reason}", file.display()), remedy)
            };
            let text = std::fs::read_to_string(file).map_err(|error| fail(error.to_string()))?;
            Some(Calibration::read(&text, embedder).map_err(|unfit| fail(unfit.to_string()))?)
        }
        None => calibration::shipped(embedder),
    };
    let allowed = semantic.wrong_hits;
    match &calibration {
        None => tracing::warn!("no calibration is known for {embedder}: no semantic hit is served before audits allow it"),
        Some(known) if known.cut(allowed).is_none() => tracing::warn!(
            "the calibration of {embedder} has no cut at which at most {allowed} of the hits are wrong (cache.semantic.wrong_hits): no semantic hit is served before audits allow it"
        ),
        Some(_) => {}
    }
    let trust = cache::trust::Settings { wrong_hits: allowed, audit: semantic.audit };
    Ok(NearSettings { embedder: embedder.to_owned(), trust, calibration })
}
