//! Plugins that fail again and again are left alone for a while: at the hook where they fail, and for the tenant whose requests
//! they fail on. So a tenant who knows how to break a plugin breaks it for nobody else.
//!
//! What it does not do: it does not say what follows for a request; that is the plugin's `on_failure` (`hooks`).
//!
//! **Invariant:** it keeps at most one entry per hook and configured tenant, and takes no lock while nothing fails.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::load::Hook;

/// When, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures in a row after which a plugin is left alone.
    pub after: u32,
    /// For how long. Then its calls are tried again; the first failure sends it back.
    pub lasts: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self { after: 20, lasts: Duration::from_secs(10) }
    }
}

/// What has become of a call's success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Back {
    /// It was not left alone.
    Never,
    /// It was, and its time of probation is over with this call.
    Now,
}

/// The failures of one plugin version.
#[derive(Debug, Default)]
pub struct Quarantine {
    rules: Rules,
    /// Entries in `rows`.
    entries: AtomicUsize,
    rows: Mutex<[HashMap<Box<str>, Row>; 3]>,
}

#[derive(Debug, Default)]
struct Row {
    /// Without a success between them.
    failures: u32,
    until: Option<Instant>,
}

impl Row {
    fn is_left_alone(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }
}

impl Quarantine {
    /// By these rules.
    pub fn new(rules: Rules) -> Self {
        Self { rules, ..Self::default() }
    }

    /// Is it to be left alone, here and for this tenant?
    pub fn holds(&self, hook: Hook, tenant: &str) -> bool {
        self.entries.load(Ordering::Relaxed) > 0 && self.rows()[hook as usize].get(tenant).is_some_and(Row::is_left_alone)
    }

    /// At which hooks is it left alone, for anybody?
    pub fn hooks(&self) -> Vec<Hook> {
        let rows = self.rows();
        Hook::ALL.into_iter().filter(|hook| rows[*hook as usize].values().any(Row::is_left_alone)).collect()
    }

    /// A call has failed. Is it left alone from now on?
    pub(super) fn failed(&self, hook: Hook, tenant: &str) -> bool {
        let mut rows = self.rows();
        let rows = &mut rows[hook as usize];
        if !rows.contains_key(tenant) {
            rows.insert(tenant.into(), Row::default());
            self.entries.fetch_add(1, Ordering::Relaxed);
        }
        let Some(row) = rows.get_mut(tenant) else { return false };
        row.failures += 1;
        if row.failures >= self.rules.after {
            row.until = Some(Instant::now() + self.rules.lasts);
        }
        row.until.is_some()
    }

    /// A call has succeeded: the row of failures is over.
    pub(super) fn succeeded(&self, hook: Hook, tenant: &str) -> Back {
        if self.entries.load(Ordering::Relaxed) == 0 {
            return Back::Never;
        }
        let Some(row) = self.rows()[hook as usize].remove(tenant) else { return Back::Never };
        self.entries.fetch_sub(1, Ordering::Relaxed);
        if row.until.is_some() { Back::Now } else { Back::Never }
    }

    fn rows(&self) -> MutexGuard<'_, [HashMap<Box<str>, Row>; 3]> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_row_of_failures_counts_for_its_hook_and_tenant_alone() {
        let rules = Rules { after: 5, lasts: Duration::from_secs(3) };
        let (here, all) = (Hook::Routing, Quarantine::new(rules));
        for count in 1..=rules.after {
            assert!(!all.holds(here, "a"));
            assert_eq!(all.failed(here, "a"), count == rules.after);
            all.succeeded(Hook::Caching, "a");
            assert_eq!(all.succeeded(here, "b"), Back::Never);
        }
        assert!(all.holds(here, "a") && !all.holds(here, "b") && !all.holds(Hook::Caching, "a"));
        assert_eq!(all.hooks(), [here]);
        // After its time it is on probation: one failure is enough, one success clears it.
        tokio::time::advance(rules.lasts).await;
        assert!(!all.holds(here, "a") && all.hooks().is_empty());
        assert!(all.failed(here, "a") && all.holds(here, "a"));
        tokio::time::advance(rules.lasts).await;
        assert_eq!(all.succeeded(here, "a"), Back::Now);
        assert!(!all.failed(here, "a"));
    }
}
