//! One case: the plugin is loaded as a host loads it, asked once, and what it said is compared.
//!
//! What it does not do: it reads no file (`cases`) and knows no shape of a decision (`expect`).
//!
//! **Invariant:** the call goes through [`Session`], so what a host would not accept of a plugin fails here too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::compare::{self, Difference};
use super::expect::{Expect, Fails};
use super::file::{Call, Case, Given};
use super::stand_in::{StandIn, allowed};
use crate::config::Map;
use crate::plugin::bindings::routing;
use crate::plugin::engine::{Engine, MAX_MEMORY};
use crate::plugin::hooks::{Observer, Session};
use crate::plugin::http;
use crate::plugin::inspect::Inspection;
use crate::plugin::kv;
use crate::plugin::load::{Hook, Plugin, Refusal, Settings};
use crate::plugin::registry::PluginSet;
use crate::plugin::release::Rules;

/// Time for one call. A case is about what is decided; a guest without end is ended all the same.
const DEADLINE: Duration = Duration::from_secs(2);
/// As much as a plugin may keep by default.
const KEPT: kv::Limits = kv::Limits { memory: 16 << 20, tenant_memory: 1 << 20, tenant_entries: 4_000 };

/// A component, and what a host would have beside it.
pub(super) struct Bench<'a> {
    engine: &'a Engine,
    aot: Option<&'a Path>,
    settings: Settings,
}

impl<'a> Bench<'a> {
    /// Everything that the component asks for is granted.
    pub(super) fn new(engine: &'a Engine, component: &Path, inspection: &Inspection, aot: Option<&'a Path>) -> Self {
        let hooks = Hook::ALL.into_iter().filter(|hook| inspection.hooks.iter().any(|own| own == hook.name()));
        let settings = Settings {
            name: component.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            component: component.to_owned(),
            hooks: hooks.collect(),
            tenants: Vec::new(),
            models: Vec::new(),
            grants: inspection.grants.clone(),
            // What fails says so, and does not pass.
            fail: true,
            deadline: DEADLINE,
            memory: MAX_MEMORY,
            kv: KEPT,
            http: None,
            source: Default::default(),
            quarantine: Default::default(),
            release: Rules::default(),
            config: serde_json::Map::new(),
        };
        Self { engine, aot, settings }
    }

    /// Where the case is not as expected.
    pub(super) fn ask(&self, case: &Case, given: &Given) -> Vec<Difference> {
        let config = given.config.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let settings = Settings { config, http: services(given), ..self.settings.clone() };
        let (set, mut errors) = PluginSet::build(self.engine, &[settings], self.aot, None);
        match (set.all().first().cloned(), errors.pop()) {
            (None, None) => vec![Difference::new("plugin", "one that loads", "none")],
            (_, Some(error)) if error.refusal.key == "config" => judged(case, refused(&error.refusal)),
            (_, Some(error)) => vec![Difference::new("plugin", "one that loads", error.refusal.to_string())],
            (Some(_), None) if case.hook == Call::Check => judged(case, Expect::Good),
            (Some(plugin), None) => self.call(case, given, set, &plugin).unwrap_or_else(|reason| vec![unasked(&reason)]),
        }
    }

    fn call(&self, case: &Case, given: &Given, set: PluginSet, plugin: &Arc<Plugin>) -> Result<Vec<Difference>, String> {
        let around = Arc::new(StandIn::new(given.clone())?);
        let request = around.request()?;
        let head = around.head(&request);
        let tenant = head.tenant.clone();
        keep(plugin, &tenant, &given.kv)?;
        let mut session = Session::new(Arc::new(set), around.clone(), head);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|error| error.to_string())?;
        let mut kept = None;
        let said = runtime.block_on(async {
            match case.hook {
                Call::Route => session.route(&request).await.ok().map(|routed| match (routed.said, routed.observers.first()) {
                    (Some(said), _) => said.what.into(),
                    (None, Some(observer)) => Expect::Observe(observer.how().into()),
                    (None, None) => Expect::Pass,
                }),
                Call::Select => {
                    session.select(&request).await.ok().map(|said| said.map_or(Expect::Pass, |said| said.what.into()))
                }
                Call::Key => session.key(&request).await.ok().map(|said| said.map_or(Expect::Pass, |said| said.what.into())),
                Call::AfterAttempt => {
                    let (last, seen) = (around.attempt(), around.reviewed());
                    session.after_attempt(plugin, &request, &last, seen.as_ref()).await.ok().flatten().map(Expect::from)
                }
                Call::OnChunk => match around.batch() {
                    Some((batch, part, state)) => {
                        let how = routing::Observe { events: None, ms: None };
                        let mut observer = Observer::new(plugin.clone(), how).keeping(state);
                        let said = if batch.committed {
                            session.on_next_chunk(&mut observer, &request, &batch, &part).await.ok().map(Expect::from)
                        } else {
                            session.on_first_chunk(&mut observer, &request, &batch, &part).await.ok().map(Expect::from)
                        };
                        kept = Some(String::from_utf8_lossy(observer.state()).into_owned());
                        said
                    }
                    None => None,
                },
                Call::Confirm => match around.hit() {
                    Some(hit) => Some(session.confirm(plugin, &request, &hit).await.into()),
                    None => None,
                },
                Call::Admit => match around.reviewed() {
                    Some(seen) => Some(admitted(session.admit(plugin, &request, &seen.answer).await)),
                    None => None,
                },
                Call::Check => Some(Expect::Good),
            }
        });
        // What guards the cache answers "no" where it fails, so a failure is looked for first.
        let failure = session.failures().first();
        let said = match (failure, said) {
            (Some(failure), _) => {
                Expect::Fails(Fails { cause: Some(failure.cause.name().to_owned()), reason: Some(failure.reason.clone()) })
            }
            (None, Some(said)) => said,
            (None, None) => return Err("the engine gave no answer".to_owned()),
        };
        let mut found = judged(case, said);
        found.extend(left(case, &around, plugin, &tenant));
        if let Some(expected) = case.leaves.state.as_ref().filter(|expected| kept.as_ref() != Some(*expected)) {
            let shown = |text: &String| compare::shown(&Value::String(text.clone()));
            found.push(Difference::new(
                "leaves.state",
                shown(expected),
                kept.as_ref().map_or_else(|| "nothing".to_owned(), shown),
            ));
        }
        Ok(found)
    }
}

/// What a plugin may send to: what the case says of services, and nothing else. None: it may not send at all.
fn services(given: &Given) -> Option<http::Limits> {
    if given.services.is_empty() {
        return None;
    }
    let allow = given.services.keys().filter_map(|url| allowed(url).ok()).collect();
    Some(http::Limits { allow, timeout: DEADLINE, request: 1 << 20, answer: 1 << 20, calls: 64, at_once: 64 })
}

fn unasked(reason: &str) -> Difference {
    Difference::new("given", "what a plugin can be asked about", reason)
}

fn refused(refusal: &Refusal) -> Expect {
    Expect::Fails(Fails { cause: Some("config".to_owned()), reason: Some(refusal.reason.clone()) })
}

fn admitted(said: Option<u32>) -> Expect {
    match said {
        Some(u32::MAX) => Expect::Keep,
        Some(ms) => Expect::KeepFor(ms),
        None => Expect::Refuse,
    }
}

/// What the plugin finds kept.
fn keep(plugin: &Plugin, tenant: &str, given: &Map<Value>) -> Result<(), String> {
    if given.is_empty() {
        return Ok(());
    }
    let Some(kv) = &plugin.kv else { return Err("`kv` is given, and the component does not import it".to_owned()) };
    for (key, value) in given {
        let kept = kv.set(&KEPT, tenant, key, text(value).into_bytes(), None);
        kept.map_err(|error| format!("`{key}` cannot be kept: {error:?}"))?;
    }
    Ok(())
}

/// The decision beside the one that is expected.
fn judged(case: &Case, said: Expect) -> Vec<Difference> {
    let (Ok(expected), Ok(got)) = (serde_json::to_value(&case.expect), serde_json::to_value(&said)) else {
        return vec![unasked("the decision has no JSON")];
    };
    let mut found = compare::differences(compare::ROOT, &expected, &got);
    found.extend(case.absent.iter().filter_map(|path| compare::present(path, &got)));
    found
}

/// What the call has left beside what it should have.
fn left(case: &Case, around: &StandIn, plugin: &Plugin, tenant: &str) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut same = |field: String, expected: String, got: Option<String>| {
        if got.as_ref() != Some(&expected) {
            let shown = |text: String| compare::shown(&Value::String(text));
            found.push(Difference::new(&field, shown(expected), got.map_or_else(|| "nothing".to_owned(), shown)));
        }
    };
    let labels = around.labels();
    for (name, value) in &case.leaves.labels {
        let got = labels.iter().rev().find(|(label, _)| label == name).map(|(_, value)| value.clone());
        same(format!("leaves.labels.{name}"), value.clone(), got);
    }
    for (key, value) in &case.leaves.kv {
        let bytes = plugin.kv.as_ref().and_then(|kv| kv.get(tenant, key).ok().flatten());
        same(format!("leaves.kv.{key}"), text(value), bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    }
    found
}

/// As a plugin would have written it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
