//! Routing: the node's own GPUs answer as long as they keep up; at peak hours, what they have no room for goes elsewhere.
//!
//! ```toml
//! [plugins.peak-hours]
//! component = "plugins/peak-hours/peak-hours.wasm"
//! hooks = ["routing"]
//! grant = ["config", "upstreams", "clock"]
//! config = { own = ["local"], from = 8, to = 18, utc_offset = 1, busy = 6, busy_off_peak = 24, first_byte_ms = 1500 }
//! ```
//!
//! `own` are the providers of the node's own models. They are busy where each of their endpoints has on average `busy` requests or more (from the hour
//! `from` to the hour `to`, by the clock of `utc_offset`), or `busy_off_peak` outside of them; or where a first byte takes longer than `first_byte_ms`. Then the other choices come first, and the own ones
//! are left as their fallback. It has an opinion on names that stand for own models and others.

use pointsman_plugin::upstreams::{self, Upstream};
use pointsman_plugin::{Decision, Plan, PluginError, Request, RequestHead, Result, Routing, clock, config};

/// The host takes no more targets.
const MOST: usize = 8;
const HOUR_MS: i64 = 3_600_000;

struct PeakHours;

/// What the `config` table says.
struct Settings {
    own: Vec<String>,
    hours: (i64, i64),
    utc_offset: i64,
    busy: u32,
    busy_off_peak: u32,
    first_byte_ms: Option<u32>,
}

impl Settings {
    fn read() -> Result<Self> {
        let busy = config::parse("busy")?.unwrap_or(8);
        Ok(Self {
            own: config::list("own")?,
            hours: (config::parse("from")?.unwrap_or(8), config::parse("to")?.unwrap_or(18)),
            utc_offset: config::parse("utc_offset")?.unwrap_or(0),
            busy,
            busy_off_peak: config::parse("busy_off_peak")?.unwrap_or(busy),
            first_byte_ms: config::parse("first_byte_ms")?,
        })
    }

    /// From one hour to another, over midnight where the second is the smaller one.
    fn is_peak(&self, now_ms: u64) -> bool {
        let hour = (i64::try_from(now_ms).unwrap_or(0) / HOUR_MS + self.utc_offset).rem_euclid(24);
        let (from, to) = self.hours;
        if from <= to { (from..to).contains(&hour) } else { hour >= from || hour < to }
    }

    fn is_busy(&self, model: &Upstream, is_peak: bool) -> bool {
        let most = if is_peak { self.busy } else { self.busy_off_peak };
        let is_full = model.in_flight >= most.saturating_mul(model.endpoints.max(1));
        is_full || self.first_byte_ms.zip(model.first_byte_ms).is_some_and(|(most, is)| is > most)
    }
}

impl Routing for PeakHours {
    fn check() -> Result<()> {
        let settings = Settings::read()?;
        if settings.own.is_empty() {
            return Err(PluginError::setting("own", "is missing", "name the providers of your own models, such as [\"local\"]"));
        }
        if [settings.hours.0, settings.hours.1].iter().any(|hour| !(0..=24).contains(hour)) {
            return Err(PluginError::setting("from", "and `to` are hours of a day", "write numbers from 0 to 24"));
        }
        if !(-12..=14).contains(&settings.utc_offset) {
            return Err(PluginError::setting("utc_offset", "is no time zone's", "write hours from -12 to 14"));
        }
        if settings.busy == 0 || settings.busy_off_peak == 0 {
            return Err(PluginError::setting("busy", "is 0, so nothing would ever be asked", "write at least 1"));
        }
        Ok(())
    }

    fn route(_: &RequestHead, _: &Request) -> Result<Decision> {
        let (settings, now) = (Settings::read()?, clock::now());
        let (own, others): (Vec<_>, Vec<_>) =
            upstreams::candidates().into_iter().partition(|model| settings.own.contains(&model.provider));
        if own.is_empty() || others.is_empty() {
            return Ok(Decision::Pass);
        }
        let is_peak = settings.is_peak(now);
        let (busy, free): (Vec<_>, Vec<_>) = own.into_iter().partition(|model| settings.is_busy(model, is_peak));
        let reason = match (free.is_empty(), is_peak) {
            (false, _) => "our own have room",
            (true, true) => "peak, and our own are busy",
            (true, false) => "our own are busy",
        };
        let mut names = free.into_iter().chain(others).chain(busy).take(MOST).map(|model| model.model);
        let Some(first) = names.next() else { return Ok(Decision::Pass) };
        Ok(names.fold(Plan::to(first), Plan::then).because(reason).into())
    }
}

pointsman_plugin::export!(PeakHours: routing);

#[cfg(test)]
mod tests {
    use pointsman_plugin::mock::{Host, json, upstream};

    use super::*;

    const NOON: u64 = 20_000 * 24 * HOUR_MS as u64 + 12 * HOUR_MS as u64;

    fn host(in_flight: u32, first_byte_ms: Option<u32>) -> Host {
        let own = Upstream { provider: "local".into(), endpoints: 2, in_flight, first_byte_ms, ..upstream("own") };
        let cloud = Upstream { provider: "vendor".into(), ..upstream("cloud") };
        Host::new()
            .config("own", json!(["local"]))
            .config("busy", 4)
            .config("busy_off_peak", 10)
            .config("first_byte_ms", 900)
            .upstream(cloud)
            .upstream(own)
    }

    fn order(host: &Host) -> String {
        match host.route::<PeakHours>() {
            Ok(Decision::Plan(plan)) => plan.targets.iter().map(|target| &*target.model).collect::<Vec<_>>().join(","),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn our_own_come_first_while_they_keep_up() {
        assert_eq!(order(&host(7, None).now(NOON)), "own,cloud");
        assert_eq!(order(&host(8, None).now(NOON)), "cloud,own", "eight at two endpoints");
        assert_eq!(order(&host(8, None).now(NOON + 10 * HOUR_MS as u64)), "own,cloud", "at night more may wait");
        assert_eq!(order(&host(20, None).now(NOON + 10 * HOUR_MS as u64)), "cloud,own");
        assert_eq!(order(&host(0, Some(901)).now(NOON)), "cloud,own", "slow is busy");
        assert_eq!(order(&host(0, None).config("own", json!(["other"])).now(NOON)), "Ok(Decision::Pass)");
    }

    #[test]
    fn hours_go_over_midnight() {
        let at = |from, to, offset, hour: i64| {
            let settings =
                Settings { own: vec![], hours: (from, to), utc_offset: offset, busy: 1, busy_off_peak: 1, first_byte_ms: None };
            settings.is_peak((hour * HOUR_MS) as u64)
        };
        for (from, to, offset, hour, expect) in [
            (8, 18, 0, 8, true),
            (8, 18, 0, 18, false),
            (22, 6, 0, 23, true),
            (22, 6, 0, 3, true),
            (22, 6, 0, 6, false),
            (8, 18, 2, 7, true),
            (8, 18, -8, 8, false),
        ] {
            assert_eq!(at(from, to, offset, hour), expect, "{from}-{to}{offset:+} at {hour}");
        }
    }

    #[test]
    fn settings_that_make_no_sense() {
        assert!(host(0, None).check(PeakHours::check).is_ok());
        assert!(Host::new().check(PeakHours::check).is_err());
        for (key, value) in [("from", 25), ("to", -1), ("utc_offset", 20), ("busy", 0)] {
            assert!(host(0, None).config(key, value).check(PeakHours::check).is_err(), "{key}");
        }
    }
}
