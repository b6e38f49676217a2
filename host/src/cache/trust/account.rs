//! Accounts: what is known of each tenant's near hits, and of partitions without credit, for reports and /metrics.
//!
//! What it does not do: it decides nothing.
//!
//! **Invariant:** on /metrics stands no tenant's name: a client's string is no label.

use std::sync::Arc;

use serde_json::{Value, json};

use super::bound::at_any_time;
use super::calibration::Calibration;
use super::ledger::{ALPHA, Bound, Ledger};
use super::levels::Level;
use super::{Partition, Trust, Wrong};
use crate::numbers::Exposition;

/// One tenant, or a partition without credit, for the report.
#[derive(Clone, Debug)]
pub struct Account {
    /// The tenant.
    pub tenant: Arc<str>,
    /// The partition; none: the tenant's own account.
    pub partition: Option<Partition>,
    /// The lowest score that is served; none: nothing is.
    pub cut: Option<f32>,
    /// The bound on wrong hits.
    pub bound: Bound,
    /// Near hits that were served.
    pub hits: u64,
    /// Near misses.
    pub misses: u64,
    /// Audits.
    pub audits: f64,
    /// Audits that found a wrong one.
    pub wrong: f64,
    /// The calibration was found not to be of this traffic.
    pub disowned: bool,
}

impl Trust {
    /// Each tenant, then each partition without credit.
    pub fn accounts(&self) -> Vec<Account> {
        let account = |tenant: &Arc<str>, ledger: &Ledger, calibration: Option<&Calibration>| {
            let (audits, wrong) = ledger.audits();
            Account {
                tenant: tenant.clone(),
                partition: None,
                cut: ledger.cut().map(Level::score),
                bound: ledger.bound(calibration),
                hits: 0,
                misses: 0,
                audits,
                wrong,
                disowned: ledger.has_disowned(),
            }
        };
        let mut all: Vec<Account> = self
            .kept
            .tenants
            .read()
            .iter()
            .flat_map(|tenants| tenants.iter())
            .map(|(tenant, scope)| Account {
                hits: scope.hits.get(),
                misses: scope.misses.get(),
                ..account(tenant, &scope.ledger, self.calibration())
            })
            .collect();
        all.sort_by(|a, b| a.tenant.cmp(&b.tenant));
        for (partition, watched) in &self.kept.partitions.0 {
            if let Ok(watched) = watched.read()
                && let Some(own) = &watched.own
            {
                let account = account(&watched.tenant, own, None);
                all.push(Account { partition: Some(*partition), hits: watched.hits.get(), ..account });
            }
        }
        all
    }

    /// Its numbers for /metrics.
    pub fn expose(&self, text: &mut Exposition) {
        let help = "Near hits that were compared with a fresh answer, by whether they had been served, and what was found.";
        for (place, (of, found)) in
            [("miss", "right"), ("miss", "wrong"), ("hit", "right"), ("hit", "wrong")].into_iter().enumerate()
        {
            let labels: &[(&str, &str)] = &[("of", of), ("found", found)];
            text.counter("pointsman_cache_audits_total", help, labels, self.kept.numbers.audits[place].get());
        }
        text.counter(
            "pointsman_cache_marked_wrong_total",
            "Answers that somebody has marked as wrong.",
            &[],
            self.kept.numbers.marked.get(),
        );
        text.counter(
            "pointsman_cache_unjudged_total",
            "Audits that could not say whether a near hit was right.",
            &[],
            self.kept.numbers.unjudged.get(),
        );
        text.counter(
            "pointsman_cache_audit_cost_micro_usd_total",
            "What audits of hits have cost, in micro-US-dollars.",
            &[],
            self.kept.numbers.paid.get(),
        );
        let help = "Tenants and partitions that lost the right to semantic hits, or got it back.";
        text.counter("pointsman_cache_trust_changes_total", help, &[("to", "off")], self.kept.numbers.switched_off.get());
        text.counter("pointsman_cache_trust_changes_total", help, &[("to", "on")], self.kept.numbers.back.get());
        let accounts = self.accounts();
        let off = accounts.iter().filter(|account| account.cut.is_none()).count();
        text.gauge(
            "pointsman_cache_trust_off",
            "Tenants and partitions that are served no semantic hits, because not enough is known or too many were wrong.",
            &[],
            off as f64,
        );
        let worst =
            accounts.iter().filter(|account| account.cut.is_some()).map(|account| account.bound.upper).fold(0.0, f64::max);
        text.gauge(
            "pointsman_cache_wrong_hits_bound",
            "The highest upper bound on the share of wrong semantic hits among those who are served any; 0 where nobody is.",
            &[],
            worst,
        );
    }

    /// All of it, for the administrator.
    pub fn report(&self) -> Value {
        let numbers = &self.kept.numbers;
        let [_, _, right, wrong] = numbers.audits.each_ref().map(|count| count.get() as f64);
        let upper = at_any_time(wrong, right + wrong, ALPHA);
        let accounts: Vec<Value> = self.accounts().iter().map(Account::told).collect();
        json!({
            "wrong_hits": self.wrong_hits(),
            "confidence": 1.0 - ALPHA,
            "calibration": self.calibration().map(|known| json!({ "embedder": known.embedder, "requests": known.requests })),
            "overall": { "audits": right + wrong, "wrong": wrong, "upper_bound": upper },
            "marked_wrong": numbers.marked.get(),
            "unjudged": numbers.unjudged.get(),
            "audit_micro_usd": numbers.paid.get(),
            "accounts": accounts,
            "worst": self.kept.worst.lock().map(|worst| worst.iter().map(Wrong::told).collect::<Vec<_>>()).unwrap_or_default(),
        })
    }
}

impl Wrong {
    fn told(&self) -> Value {
        json!({ "entry": self.entry.to_string(), "tenant": &*self.tenant, "wrong": self.wrong })
    }
}

impl Account {
    fn told(&self) -> Value {
        json!({
            "tenant": &*self.tenant,
            "partition": self.partition.map(|partition| partition.to_string()),
            "serving": self.cut.is_some(),
            "cut": self.cut,
            "upper_bound": self.bound.upper,
            "evidence": { "of": self.bound.of, "wrong": self.bound.wrong },
            "hits": self.hits,
            "misses": self.misses,
            "audits": self.audits,
            "wrong": self.wrong,
            "disowned": self.disowned,
        })
    }
}
