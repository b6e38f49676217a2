//! What a tier behind memory counts, and its rows on /metrics.
//!
//! What it does not do: it decides nothing; a breaker has its own count of failures.
//!
//! **Invariant:** a write is counted as `written` once it is there: on disk after it was synced, in Redis after Redis has said so.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Name;
use crate::numbers::{Count, Exposition, Times};

/// An outcome, and where it is counted.
type Outcome = (&'static str, fn(&Numbers) -> &Count);

/// A tier, its entries and bytes, and its numbers.
pub(in crate::cache) type Counted<'a> = (Name, Option<(u64, u64)>, &'a Numbers);

/// One tier's numbers.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Reads that found an entry.
    pub hits: Count,
    /// Reads that found none.
    pub misses: Count,
    /// Reads that were not answered in time.
    pub late: Count,
    /// Reads that were not tried, or failed: the tier is away.
    pub away: Count,
    /// Entries that were not as they had been written.
    pub damaged: Count,
    /// Entries that are there.
    pub written: Count,
    /// Entries that could not be written.
    pub failed: Count,
    /// Entries for which there was no room in the queue.
    pub dropped: Count,
    /// Entries whose time was over, or that were purged, before they were written.
    pub over: Count,
    /// Entries that made room for others.
    pub evicted: Count,
    /// How often all of it was found damaged, and begun anew.
    pub begun_anew: Count,
    /// How long reads took.
    pub took: Times,
    up: AtomicBool,
}

impl Numbers {
    /// Does it answer?
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// It answers, or does not. True: that is a change.
    pub fn turns(&self, up: bool) -> bool {
        self.up.swap(up, Ordering::Relaxed) != up
    }
}

/// Writes the rows of these tiers, each with its entries and bytes where it knows them.
pub(in crate::cache) fn expose(tiers: &[Counted<'_>], text: &mut Exposition) {
    for (name, _, numbers) in tiers {
        let up = f64::from(u8::from(numbers.is_up()));
        text.gauge("pointsman_cache_tier_up", "Whether a tier answers.", &[("tier", name.as_str())], up);
    }
    let sizes = || tiers.iter().filter_map(|(name, size, _)| Some((name.as_str(), (*size)?)));
    for (name, (entries, _)) in sizes() {
        text.gauge("pointsman_cache_tier_entries", "Entries of a tier.", &[("tier", name)], entries as f64);
    }
    for (name, (_, bytes)) in sizes() {
        text.gauge("pointsman_cache_tier_bytes", "Bytes of a tier's entries.", &[("tier", name)], bytes as f64);
    }
    let mut by_outcome = |series: &str, help: &str, outcomes: &[Outcome]| {
        for (name, _, numbers) in tiers {
            for (outcome, count) in outcomes {
                text.counter(series, help, &[("tier", name.as_str()), ("outcome", outcome)], count(numbers).get());
            }
        }
    };
    by_outcome(
        "pointsman_cache_reads_total",
        "Reads of a tier behind memory, by outcome.",
        &[
            ("hit", |numbers| &numbers.hits),
            ("miss", |numbers| &numbers.misses),
            ("late", |numbers| &numbers.late),
            ("away", |numbers| &numbers.away),
            ("damaged", |numbers| &numbers.damaged),
        ],
    );
    by_outcome(
        "pointsman_cache_writes_total",
        "Entries for a tier behind memory, by outcome.",
        &[
            ("written", |numbers| &numbers.written),
            ("failed", |numbers| &numbers.failed),
            ("dropped", |numbers| &numbers.dropped),
            ("over", |numbers| &numbers.over),
        ],
    );
    for (name, _, numbers) in tiers {
        let labels = [("tier", name.as_str())];
        text.counter("pointsman_cache_evicted_total", "Entries that made room in a tier.", &labels, numbers.evicted.get());
    }
    for (name, _, numbers) in tiers {
        let help = "How often a tier was found damaged, and begun anew.";
        text.counter("pointsman_cache_begun_anew_total", help, &[("tier", name.as_str())], numbers.begun_anew.get());
    }
    for (name, _, numbers) in tiers {
        let help = "How long a read of a tier behind memory takes.";
        text.times("pointsman_cache_read_seconds", help, &[("tier", name.as_str())], &numbers.took);
    }
}
