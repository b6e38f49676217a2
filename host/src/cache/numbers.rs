//! What the cache counts, and its rows on /metrics.
//!
//! What it does not do: tiers behind memory count for themselves (`tier/numbers`).
//!
//! **Invariant:** a count on the way of a hit is one `fetch_add`.

use super::Cache;
use crate::numbers::{Count, Exposition};

/// Counts.
#[derive(Default)]
pub(super) struct Numbers {
    pub(super) stored: Count,
    pub(super) refused: Count,
}

impl Cache {
    /// Its numbers for /metrics.
    pub fn expose(&self, text: &mut Exposition) {
        let (entries, bytes) = self.held.memory.sums();
        let numbers = &self.held.numbers;
        text.gauge("pointsman_cache_entries", "Entries in memory.", &[], entries as f64);
        text.gauge("pointsman_cache_bytes", "Bytes of the entries in memory.", &[], bytes as f64);
        for (outcome, count) in [("stored", &numbers.stored), ("refused", &numbers.refused)] {
            let labels = [("outcome", outcome)];
            text.counter("pointsman_cache_fills_total", "Answers by whether they were stored.", &labels, count.get());
        }
        if let Some(semantic) = &self.semantic {
            semantic.expose(text);
        }
        for (from, count) in [("here", &self.purges.here), ("elsewhere", &self.purges.elsewhere)] {
            let labels = [("from", from)];
            text.counter("pointsman_cache_purges_total", "Purges, by whether they were asked for here.", &labels, count.get());
        }
        // Rows of one series stand together, whichever tier they are of.
        let further: Vec<_> = self.further().collect();
        let counted: Vec<_> = further.iter().filter_map(|tier| Some((tier.name(), tier.size(), tier.numbers()?))).collect();
        super::tier::numbers::expose(&counted, text);
    }
}
