//! The tiers of the cache behind memory: what each of them must do, what becomes of exchanges when one of them fails, what outlives a process,
//! what is purged everywhere, how stale an answer may be, and flights.
//!
//! Redis is Debian's redis-server, started and stopped by the tests; the disk is a temporary folder.

mod carry;
mod contract;
mod damage;
mod disk;
mod flights;
mod freshness;
mod load;
mod nodes;
mod purge;
mod redis;

use tests::{Door, eventually};

/// Waits until a tier has written all that was stored since its process began.
fn written(door: &Door, tier: &str) {
    let label = format!("tier=\"{tier}\"");
    eventually(&format!("entries are in {tier}"), || {
        let metrics = door.metrics();
        let stored = metrics.sum("pointsman_cache_fills_total", &["outcome=\"stored\""]);
        (metrics.sum("pointsman_cache_writes_total", &[&label]) >= stored).then_some(())
    });
}

/// Waits until a tier answers.
fn up(door: &Door, tier: &str) {
    eventually(&format!("{tier} answers"), || {
        (door.metrics().sum("pointsman_cache_tier_up", &[&format!("tier=\"{tier}\"")]) == 1.0).then_some(())
    });
}
