//! `GET /metrics`: the numbers of every room, in Prometheus' text format.
//!
//! What it does not do: it counts nothing itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::header;
use axum::response::IntoResponse;
use tokio::time::Instant;

use super::Admin;
use crate::config::Priority;
use crate::embed;
use crate::limit::ladder::Level;
use crate::numbers::Exposition;
use crate::plugin::Plugin;
use crate::plugin::hooks::Cause;
use crate::plugin::kv::REFUSALS;
use crate::plugin::load::Hook;
use crate::plugin::numbers::Value;
use crate::plugin::release::{Role, Slot, WHOLE};
use crate::upstream::breaker::Standing;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::gauges::Report;
use crate::upstream::pool::Pool;
use crate::upstream::tally::Fault;

pub(super) async fn metrics(Shared(admin): Shared<Admin>) -> impl IntoResponse {
    let state = admin.gateway.state();
    let mut text = Exposition::default();
    admin.gateway.numbers().expose(&mut text);
    listener(&admin, &mut text);
    if state.cache.is_some() {
        admin.gateway.flights.expose(&mut text);
        admin.gateway.refreshes.expose(&mut text);
    }
    let versions: Vec<_> = state.plugins.versions().cloned().collect();
    plugins(&versions, &mut text);
    kept(state.plugins.all(), &mut text);
    releases(&admin, state.plugins.slots(), &mut text);
    for (provider, pool) in &state.pools {
        let view = pool.view();
        text.gauge(
            "pointsman_upstream_in_flight",
            "Requests running at a provider's endpoints.",
            &[("provider", provider)],
            f64::from(view.in_flight),
        );
    }
    let gates: Vec<_> = state.pools.iter().filter_map(|(provider, pool)| Some((provider, pool.gate.as_ref()?))).collect();
    for (provider, gate) in &gates {
        let limit = f64::from(gate.view().0);
        text.gauge(
            "pointsman_upstream_limit",
            "Requests that a provider gets at a time just now.",
            &[("provider", provider)],
            limit,
        );
    }
    for (provider, gate) in &gates {
        let waiting = f64::from(gate.view().2);
        text.gauge("pointsman_upstream_waiting", "Requests that wait for a provider.", &[("provider", provider)], waiting);
    }
    for (provider, gate) in &gates {
        for priority in Priority::ALL {
            let labels = [("provider", provider.as_str()), ("priority", priority.name())];
            let shed = gate.shed[priority as usize].get();
            text.counter("pointsman_upstream_shed_total", "Requests sent away because too many wait.", &labels, shed);
        }
    }
    text.gauge(
        "pointsman_memory_pressure",
        "Whom too much memory shuts out: 0 nobody, 1 batch, 2 all.",
        &[],
        f64::from(admin.gateway.memory.pressure() as u8),
    );
    for priority in Priority::ALL {
        let refused = admin.gateway.memory.refused[priority as usize].get();
        let labels = [("priority", priority.name())];
        text.counter("pointsman_memory_refused_total", "Requests refused because memory is full.", &labels, refused);
    }
    breakers(&state.pools, &mut text);
    endpoints(&state.pools, &mut text);
    degradation(&admin, &mut text);
    probes(&state.pools, &mut text);
    keys(&state.pools, &mut text);
    if let Some(cache) = &state.cache {
        cache.expose(&mut text);
    }
    embed::numbers::expose(&state.embedders.all(), &mut text);
    if let Some(recording) = &state.recording {
        recording.counts().expose(&mut text);
    }
    let reloads = admin.gateway.reloads();
    text.counter("pointsman_reloads_total", "Reloads by outcome.", &[("outcome", "done")], reloads.done);
    text.counter("pointsman_reloads_total", "Reloads by outcome.", &[("outcome", "failed")], reloads.failed);
    text.gauge(
        "pointsman_plugin_load_problems",
        "Components that could not be loaded; an older version serves.",
        &[],
        (state.problems.len() + state.plugins.taken_back().count()) as f64,
    );
    if let Some(lost) = admin.gateway.log.get() {
        let lines = lost.dropped_lines() as u64;
        text.counter("pointsman_log_lines_dropped_total", "Log lines that nobody took off in time.", &[], lines);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text.finish())
}

/// Levels, and what they have changed; nothing where `[degrade]` is absent.
fn degradation(admin: &Admin, text: &mut Exposition) {
    let degrade = &admin.gateway.degrade;
    let (_, pools) = degrade.view();
    for (provider, view) in &pools {
        let help = "How far answers of a provider's models are degraded: 0 full, 1 cached, 2 small, 3 stale, 4 shed.";
        text.gauge("pointsman_degradation_level", help, &[("provider", provider)], f64::from(view.level as u8));
    }
    for (provider, view) in &pools {
        let pressure = view.pressure.get().into();
        text.gauge("pointsman_pressure", "The pressure on a provider, from 0 to 1.", &[("provider", provider)], pressure);
    }
    for level in Level::ALL.into_iter().skip(1).filter(|_| !pools.is_empty()) {
        let count = degrade.counts[level as usize].get();
        let help = "Exchanges whose answer was another one because of a level of degradation.";
        text.counter("pointsman_degraded_total", help, &[("level", level.name())], count);
    }
}

/// All endpoints of these pools, with the provider's name and their own.
fn each<'a>(pools: impl Iterator<Item = (&'a String, &'a Arc<Pool>)>) -> Vec<(&'a str, Cow<'a, str>, &'a Endpoint)> {
    let of = |(name, pool): (&'a String, &'a Arc<Pool>)| {
        pool.endpoints().iter().enumerate().map(move |(place, endpoint)| (name.as_str(), pool.label(place), &**endpoint))
    };
    pools.flat_map(of).collect()
}

/// What endpoints were asked, what failed there, and whether they are left alone.
fn breakers(pools: &BTreeMap<String, Arc<Pool>>, text: &mut Exposition) {
    let (now, all) = (Instant::now(), each(pools.iter()));
    for (provider, name, endpoint) in &all {
        let state = match endpoint.breaker.standing(now) {
            Standing::Closed => 0.0,
            Standing::Probation => 1.0,
            Standing::Open(_) => 2.0,
        };
        let help = "An endpoint's breaker: 0 closed (in service), 1 on probation (one request decides), 2 open (left alone).";
        text.gauge("pointsman_endpoint_breaker", help, &[("provider", provider), ("endpoint", name)], state);
    }
    for (provider, name, endpoint) in &all {
        let labels = [("provider", *provider), ("endpoint", &**name)];
        text.counter("pointsman_endpoint_requests_total", "Tries sent to an endpoint.", &labels, endpoint.tally.requests.get());
    }
    for (provider, name, endpoint) in &all {
        for fault in Fault::ALL {
            let labels = [("provider", *provider), ("endpoint", &**name), ("kind", fault.name())];
            text.counter(
                "pointsman_endpoint_failures_total",
                "Tries at an endpoint that failed.",
                &labels,
                endpoint.tally.failures(fault),
            );
        }
    }
}

/// What endpoints say of themselves, where they are asked.
fn endpoints(pools: &BTreeMap<String, Arc<Pool>>, text: &mut Exposition) {
    let now = Instant::now();
    let all = each(pools.iter().filter(|(_, pool)| pool.settings().metrics.is_some()));
    let mut gauge = |name: &str, help: &str, value: fn(Report) -> f64| {
        for (provider, endpoint, known) in &all {
            if let Some(report) = known.gauges.get(now) {
                text.gauge(name, help, &[("provider", provider), ("endpoint", endpoint)], value(report));
            }
        }
    };
    gauge("pointsman_endpoint_waiting", "Requests that an endpoint says wait there.", |report| report.waiting.into());
    gauge("pointsman_endpoint_running", "Requests that an endpoint says run there.", |report| report.running.into());
    gauge("pointsman_endpoint_kv_usage", "The share of its KV memory that an endpoint says is used.", |report| report.kv.into());
    for (provider, endpoint, known) in &all {
        text.counter(
            "pointsman_endpoint_metrics_failures_total",
            "Times that an endpoint's own metrics could not be read.",
            &[("provider", provider), ("endpoint", endpoint)],
            known.gauges.failures.get(),
        );
    }
}

/// How endpoints are, where they are asked.
fn probes(pools: &BTreeMap<String, Arc<Pool>>, text: &mut Exposition) {
    let all = each(pools.iter().filter(|(_, pool)| pool.settings().probe.is_some()));
    for (provider, endpoint, known) in &all {
        text.gauge(
            "pointsman_endpoint_healthy",
            "0 while an endpoint is left alone because its probes fail.",
            &[("provider", provider), ("endpoint", endpoint)],
            f64::from(u8::from(!known.health.is_ill())),
        );
    }
    for (provider, endpoint, known) in &all {
        text.counter(
            "pointsman_endpoint_probe_failures_total",
            "Probes that an endpoint did not answer well.",
            &[("provider", provider), ("endpoint", endpoint)],
            known.health.failures.get(),
        );
    }
}

/// What keys may still do, where answers tell; they are named by where they were found.
fn keys(pools: &BTreeMap<String, Arc<Pool>>, text: &mut Exposition) {
    let now = Instant::now();
    let mut all = Vec::new();
    for (provider, pool) in pools {
        for place in 0..pool.endpoints().len() {
            let labels = |key| (provider.as_str(), pool.label(place), key);
            all.extend(pool.keys.view(place, now).into_iter().map(|(key, view)| (labels(key), view)));
        }
    }
    for ((provider, endpoint, key), view) in &all {
        for (limit, remaining) in [("requests", view.requests), ("tokens", view.tokens)] {
            if let Some(remaining) = remaining {
                text.gauge(
                    "pointsman_key_remaining",
                    "What a key may still do at an endpoint, by what its answers say.",
                    &[("provider", provider), ("endpoint", endpoint), ("key", key), ("limit", limit)],
                    remaining as f64,
                );
            }
        }
    }
    for ((provider, endpoint, key), view) in &all {
        text.gauge(
            "pointsman_key_left",
            "1 while a key is left alone at an endpoint: used up, refused, or not accepted.",
            &[("provider", provider), ("endpoint", endpoint), ("key", key)],
            f64::from(u8::from(!view.left.is_zero())),
        );
    }
}

fn listener(admin: &Admin, text: &mut Exposition) {
    let Some(counters) = admin.gateway.counters.get() else { return };
    let counted = [
        ("accepted", &counters.accepted),
        ("refused_global", &counters.refused_global),
        ("refused_per_address", &counters.refused_per_address),
        ("first_request_timeout", &counters.first_request_timeouts),
    ];
    for (event, count) in counted {
        let value = count.load(std::sync::atomic::Ordering::Relaxed);
        text.counter("pointsman_connections_total", "Connections by what became of them at accept.", &[("event", event)], value);
    }
    let open = counters.open.load(std::sync::atomic::Ordering::Relaxed);
    text.gauge("pointsman_connections_open", "Connections that are open.", &[], open as f64);
}

fn plugins(plugins: &[Arc<Plugin>], text: &mut Exposition) {
    for plugin in plugins {
        for hook in &plugin.settings().hooks {
            let times = &plugin.numbers.calls[*hook as usize];
            text.times(
                "pointsman_plugin_call_seconds",
                "Calls of a plugin's hook.",
                &[("plugin", plugin.label()), ("hook", Hook::name(*hook))],
                times,
            );
        }
    }
    for plugin in plugins {
        for cause in Cause::ALL {
            let value = plugin.numbers.failures[cause as usize].get();
            text.counter(
                "pointsman_plugin_failures_total",
                "Failed calls by cause.",
                &[("plugin", plugin.label()), ("cause", cause.name())],
                value,
            );
        }
    }
    for plugin in plugins {
        let quarantined = plugin.quarantine.hooks();
        for hook in &plugin.settings().hooks {
            text.gauge(
                "pointsman_plugin_quarantined",
                "1 while a plugin is left alone at a hook, for some tenant at least, because of its failures.",
                &[("plugin", plugin.label()), ("hook", hook.name())],
                f64::from(u8::from(quarantined.contains(hook))),
            );
        }
    }
    for plugin in plugins {
        text.counter(
            "pointsman_plugin_skipped_total",
            "Calls not made because of a quarantine.",
            &[("plugin", plugin.label())],
            plugin.numbers.skipped.get(),
        );
    }
    for plugin in plugins {
        text.counter(
            "pointsman_plugin_fall_throughs_total",
            "Calls that requests went on without: they failed, or were not made.",
            &[("plugin", plugin.label())],
            plugin.numbers.fell_through.get(),
        );
    }
    for plugin in plugins {
        text.counter(
            "pointsman_plugin_instances_total",
            "Instances that were made; far fewer than calls where they are reused.",
            &[("plugin", plugin.label())],
            plugin.numbers.instances.get(),
        );
    }
    for plugin in plugins {
        text.gauge(
            "pointsman_plugin_memory_bytes",
            "The most memory that one instance of a plugin has had.",
            &[("plugin", plugin.label())],
            plugin.numbers.memory.get() as f64,
        );
    }
    for plugin in plugins {
        text.counter(
            "pointsman_plugin_rejections_total",
            "Requests that a plugin has refused.",
            &[("plugin", plugin.label())],
            plugin.numbers.rejections.get(),
        );
    }
    for plugin in plugins {
        text.counter(
            "pointsman_plugin_vetoes_total",
            "Near hits that were not served because a plugin said so, or could not say.",
            &[("plugin", plugin.label())],
            plugin.numbers.vetoes.get(),
        );
    }
    for plugin in plugins {
        let numbers = &plugin.numbers;
        for (what, count) in [("log line", &numbers.dropped_log_lines), ("metric", &numbers.guest.dropped)] {
            text.counter(
                "pointsman_plugin_dropped_total",
                "What a plugin wanted to log or count, beyond its limits or against the rules.",
                &[("plugin", plugin.label()), ("what", what)],
                count.get(),
            );
        }
    }
    guests(plugins, text);
}

/// Versions on trial, what shadows do otherwise, and what was taken back.
fn releases(admin: &Admin, slots: &[Slot], text: &mut Exposition) {
    let trials: Vec<_> = slots.iter().filter_map(|slot| slot.trial.as_ref()).collect();
    for trial in &trials {
        let share = match trial.role {
            Role::Canary(share) => f64::from(share) / f64::from(WHOLE),
            _ => 0.0,
        };
        let labels = [("plugin", trial.plugin.label()), ("role", trial.role.name())];
        text.gauge("pointsman_plugin_trial", "Versions on trial, with the share of traffic that they get.", &labels, share);
    }
    let shadows = trials.iter().filter_map(|trial| match &trial.role {
        Role::Shadow(shadow) => Some((trial.plugin.label(), shadow)),
        _ => None,
    });
    for (label, shadow) in shadows {
        for (outcome, count) in
            [("compared", &shadow.found.compared), ("differed", &shadow.found.differed), ("missed", &shadow.found.missed)]
        {
            text.counter(
                "pointsman_plugin_shadow_total",
                "Decisions of shadows: compared, not the same, and missed because too many waited.",
                &[("plugin", label), ("outcome", outcome)],
                count.get(),
            );
        }
    }
    for ((plugin, why), count) in admin.gateway.taken_back.read() {
        text.counter(
            "pointsman_plugin_rollbacks_total",
            "Versions that were taken back by themselves, by the limit that they exceeded.",
            &[("plugin", &plugin), ("why", why)],
            count,
        );
    }
}

/// What plugins keep. It belongs to a name, not to a version.
fn kept(plugins: &[Arc<Plugin>], text: &mut Exposition) {
    let all: Vec<_> = plugins.iter().filter_map(|plugin| Some((plugin.name(), plugin.kv.as_ref()?))).collect();
    for (name, kv) in &all {
        text.gauge("pointsman_plugin_kv_bytes", "Memory of what a plugin keeps in kv.", &[("plugin", name)], kv.sums().0 as f64);
    }
    for (name, kv) in &all {
        text.gauge("pointsman_plugin_kv_entries", "Entries that a plugin keeps in kv.", &[("plugin", name)], kv.sums().1 as f64);
    }
    for (name, kv) in &all {
        for (why, count) in REFUSALS.iter().zip(&kv.refused) {
            text.counter(
                "pointsman_plugin_kv_refused_total",
                "Calls of kv refused: a key or value too large, the tenant's bounds, the plugin's memory.",
                &[("plugin", name), ("why", why)],
                count.get(),
            );
        }
    }
}

/// What plugins count themselves. All of one name stand together and are of one kind: that of the first plugin that uses it.
fn guests(plugins: &[Arc<Plugin>], text: &mut Exposition) {
    let own =
        |plugin: &Arc<Plugin>| plugin.numbers.guest.read().into_iter().map(|series| (plugin.clone(), series)).collect::<Vec<_>>();
    let mut all: Vec<_> = plugins.iter().flat_map(own).collect();
    all.sort_by(|(_, a), (_, b)| a.0.cmp(&b.0));
    for series in all.chunk_by(|(_, a), (_, b)| a.0 == b.0) {
        let kind = series.first().map(|(_, (_, _, value))| std::mem::discriminant(value));
        for (plugin, (name, labels, value)) in series {
            if Some(std::mem::discriminant(value)) != kind {
                continue;
            }
            let name = format!("pointsman_plugin_{name}");
            let mut all = vec![("plugin", plugin.name())];
            all.extend(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            match value {
                Value::Counter(sum) => text.counter(&name, "Counted by a plugin.", &all, *sum),
                Value::Gauge(now) => text.gauge(&name, "Set by a plugin.", &all, *now),
                Value::Histogram(buckets, sum) => {
                    let buckets = buckets.iter().map(|(power, count)| (f64::from(*power).exp2(), *count));
                    text.histogram(&name, "Observed by a plugin.", &all, buckets, 0, *sum);
                }
            }
        }
    }
}
