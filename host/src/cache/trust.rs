//! Trust: which near hits may be served so that no more of them are wrong than the owner allows.
//!
//! A near hit has a score, the verifier's; whether it is served says the cut of its tenant, and that of its partition where that one has lost
//! its credit. Cuts follow from a calibration and from audits: of a sample of near hits, served or not, somebody finds out whether the
//! stored answer would have been right, and says so here.
//!
//! Evidence never crosses tenants: nobody's traffic lowers another's cut. A partition whose own hits are wrong too often serves none until
//! its own near misses, all of which are then audited, have shown a cut that holds.
//!
//! What it does not do: it embeds nothing, asks no model and compares no answers.
//!
//! **Invariant:** while a cut is in force every near hit of its scope is audited with the same chance, so that counts are a fair sample.
//! **Invariant:** without a calibration nothing is served before its own audits allow it.

mod account;
pub mod bound;
pub mod calibration;
pub mod ledger;
pub mod levels;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use moka::sync::Cache;

use super::{Entry, ExactKey, Partition};
use crate::numbers::Count;
pub use account::Account;
use bound::distrust;
use calibration::Calibration;
use ledger::{ALPHA, Ledger};
use levels::Level;

/// Tenants whose ledgers are kept. Whoever comes later than that is served no near hits: their audits could not be counted.
const MAX_TENANTS: usize = 10_000;
/// Partitions that are watched; one that was not used for longest is forgotten, and is judged by its tenant's ledger again.
const MAX_PARTITIONS: u64 = 20_000;
/// Entries that were wrong, for the report: those that were most often.
const MAX_WORST: usize = 50;

/// What the owner has written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The share of near hits that may be wrong.
    pub wrong_hits: f64,
    /// The share of near hits that is audited.
    pub audit: f64,
}

/// What is known of all near hits, under what the owner has written.
pub struct Trust {
    wish: Arc<Wish>,
    kept: Arc<Kept>,
}

/// What the owner has written, and the calibration that goes with it.
struct Wish {
    /// Tells one from another: a ledger's cut is of the wish under which it was looked for.
    id: u64,
    settings: Settings,
    calibration: Option<Calibration>,
}

/// What outlives a change of settings.
#[derive(Default)]
struct Kept {
    tenants: RwLock<HashMap<Arc<str>, Scope>>,
    partitions: Partitions,
    numbers: Numbers,
    worst: Mutex<Vec<Wrong>>,
}

/// An entry that was wrong.
struct Wrong {
    entry: ExactKey,
    tenant: Arc<str>,
    wrong: u32,
}

struct Partitions(Cache<Partition, Arc<RwLock<Watched>>>);

impl Default for Partitions {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_PARTITIONS).build())
    }
}

/// A tenant.
struct Scope {
    ledger: Ledger,
    /// The wish that its cut is of.
    of: u64,
    hits: Count,
    misses: Count,
}

/// A partition: its hits that were audited, and its own ledger where it has lost its credit.
struct Watched {
    tenant: Arc<str>,
    hits: Count,
    wrong: f64,
    of: f64,
    own: Option<Ledger>,
}

#[derive(Default)]
struct Numbers {
    audits: [Count; 4],
    switched_off: Count,
    back: Count,
    marked: Count,
    unjudged: Count,
    paid: Count,
}

/// What is to become of a near hit.
#[derive(Clone, Debug)]
pub struct Decision {
    /// It may be served.
    pub serve: bool,
    /// Somebody is to find out whether it is right, and to say so with this.
    pub audit: Option<Ticket>,
}

/// For whoever audits.
#[derive(Clone, Debug)]
pub struct Ticket {
    tenant: Arc<str>,
    partition: Partition,
    level: Level,
    hit: bool,
    /// It is one of its tenant's fair sample; else it is only its partition's.
    fair: bool,
}

impl Ticket {
    /// It was served, and a fresh answer has to be asked for; else one is on its way anyway.
    pub fn was_served(&self) -> bool {
        self.hit
    }
}

impl Trust {
    /// What a calibration knows, and nothing more yet.
    pub fn new(settings: Settings, calibration: Option<Calibration>) -> Self {
        Self { wish: Wish::new(settings, calibration), kept: Arc::default() }
    }

    /// The same ledgers under other settings.
    #[must_use]
    pub fn under(&self, settings: Settings, calibration: Option<Calibration>) -> Self {
        let same = self.wish.settings == settings && self.wish.calibration == calibration;
        let wish = if same { self.wish.clone() } else { Wish::new(settings, calibration) };
        Self { wish, kept: self.kept.clone() }
    }

    /// The share that may be wrong.
    pub fn wrong_hits(&self) -> f64 {
        self.wish.settings.wrong_hits
    }

    /// The calibration that it rests on.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.wish.calibration.as_ref()
    }

    /// May a near hit of this score be served, and is it to be audited?
    pub fn decide(&self, tenant: &Arc<str>, partition: &Partition, score: f32) -> Decision {
        let level = Level::of(score);
        let Some((cut, chance)) = self.in_force(tenant) else { return Decision { serve: false, audit: None } };
        let asked = self.wish.settings.audit;
        // What is in force for the partition: its tenant's cut, or its own where it has one.
        let its_own = |watched: &Watched| watched.own.as_ref().map(|own| (own.cut(), own.chance(None, asked)));
        let own = self.kept.partitions.0.get(partition).and_then(|watched| its_own(&*watched.read().ok()?));
        let in_force = match own {
            Some((own, _)) => cut.zip(own).map(|(cut, own)| cut.max(own)),
            None => cut,
        };
        let serve = in_force.is_some_and(|cut| level >= cut);
        let drawn = fastrand::f64();
        let (fair, wanted) = (drawn < chance, own.is_some_and(|(_, chance)| drawn < chance));
        let ticket = || Ticket { tenant: tenant.clone(), partition: *partition, level, hit: serve, fair };
        Decision { serve, audit: (fair || wanted).then(ticket) }
    }

    /// A tenant's cut, and the share of its near hits that is audited; the outer none: there is no room for its ledger.
    fn in_force(&self, tenant: &Arc<str>) -> Option<(Option<Level>, f64)> {
        let Wish { id, settings, calibration } = &*self.wish;
        let of = |scope: &Scope| (scope.ledger.cut(), scope.ledger.chance(calibration.as_ref(), settings.audit));
        let known = self.kept.tenants.read().ok()?.get(tenant).filter(|scope| scope.of == *id).map(of);
        if let Some(known) = known {
            return Some(known);
        }
        let mut tenants = self.kept.tenants.write().ok()?;
        if tenants.len() >= MAX_TENANTS && !tenants.contains_key(tenant) {
            return None;
        }
        let scope = tenants.entry(tenant.clone()).or_insert_with(|| Scope {
            ledger: Ledger::default(),
            of: 0,
            hits: Count::default(),
            misses: Count::default(),
        });
        if scope.of != *id {
            scope.ledger.recut(calibration.as_ref(), settings.wrong_hits);
            scope.of = *id;
        }
        Some(of(scope))
    }

    /// A near hit was served, or one was not that could have been.
    pub fn seen(&self, tenant: &Arc<str>, partition: &Partition, served: bool) {
        if let Ok(tenants) = self.kept.tenants.read()
            && let Some(scope) = tenants.get(tenant)
        {
            if served { scope.hits.add(1) } else { scope.misses.add(1) }
        }
        if served && let Ok(watched) = self.watched(tenant, partition).read() {
            watched.hits.add(1);
        }
    }

    fn watched(&self, tenant: &Arc<str>, partition: &Partition) -> Arc<RwLock<Watched>> {
        let fresh = || Watched { tenant: tenant.clone(), hits: Count::default(), wrong: 0.0, of: 0.0, own: None };
        self.kept.partitions.0.get_with(*partition, || Arc::new(RwLock::new(fresh())))
    }

    /// Somebody has found out whether a near hit was right.
    pub fn audited(&self, ticket: &Ticket, right: bool) {
        self.kept.numbers.audits[usize::from(ticket.hit) * 2 + usize::from(!right)].add(1);
        if ticket.fair {
            self.tenant_audited(ticket, right);
        }
        self.partition_audited(ticket, right);
    }

    fn tenant_audited(&self, ticket: &Ticket, right: bool) {
        let Wish { id, settings, calibration } = &*self.wish;
        let Ok(mut tenants) = self.kept.tenants.write() else { return };
        let Some(scope) = tenants.get_mut(&ticket.tenant) else { return };
        let before = scope.ledger.cut();
        scope.ledger.audited(calibration.as_ref(), settings.wrong_hits, ticket.level, ticket.hit, right);
        scope.of = *id;
        let (after, tenant) = (scope.ledger.cut(), &*ticket.tenant);
        match (before, after) {
            (Some(_), None) => {
                self.kept.numbers.switched_off.add(1);
                let bound = scope.ledger.bound(calibration.as_ref());
                tracing::warn!(
                    tenant,
                    wrong_hits = settings.wrong_hits,
                    upper_bound = bound.upper,
                    audits = bound.of,
                    wrong = bound.wrong,
                    "more semantic hits may be wrong than are allowed: none is served to this tenant until audits show a cut that holds"
                );
            }
            (None, Some(cut)) => {
                self.kept.numbers.back.add(1);
                tracing::info!(tenant, cut = cut.score(), "audits have shown a cut that holds: semantic hits are served");
            }
            _ => {}
        }
    }

    fn partition_audited(&self, ticket: &Ticket, right: bool) {
        let wrong_hits = self.wish.settings.wrong_hits;
        let watched = self.watched(&ticket.tenant, &ticket.partition);
        let Ok(mut watched) = watched.write() else { return };
        let tenant = &*ticket.tenant;
        let partition = ticket.partition.to_string();
        if let Some(own) = &mut watched.own {
            let before = own.cut();
            own.audited(None, wrong_hits, ticket.level, ticket.hit, right);
            if before.is_none() && own.cut().is_some() {
                self.kept.numbers.back.add(1);
                tracing::info!(tenant, partition, "this partition's audits have shown a cut that holds: it is served again");
            }
            return;
        }
        if !ticket.hit {
            return;
        }
        watched.of += 1.0;
        watched.wrong += f64::from(u8::from(!right));
        if distrust(watched.wrong, watched.of, wrong_hits) >= -ALPHA.ln() {
            self.kept.numbers.switched_off.add(1);
            tracing::warn!(
                tenant,
                partition,
                wrong_hits,
                audits = watched.of,
                wrong = watched.wrong,
                "more semantic hits of this partition are wrong than are allowed: none is served from it until its own audits show a cut that holds"
            );
            watched.own = Some(Ledger::default());
        }
    }

    /// Somebody says that a near hit of this level was wrong. That is no sample, and counts all the same: against the cut.
    pub fn marked(&self, entry: &Entry, partition: &Partition, level: Level) {
        self.kept.numbers.marked.add(1);
        self.audited(&Ticket { tenant: entry.tenant.clone(), partition: *partition, level, hit: true, fair: true }, false);
        self.was_wrong(entry);
    }

    /// A near hit on this entry was wrong.
    pub fn was_wrong(&self, entry: &Entry) {
        let wrong = entry.wrong.fetch_add(1, Ordering::Relaxed) + 1;
        let Ok(mut worst) = self.kept.worst.lock() else { return };
        worst.retain(|known| known.entry != entry.key);
        worst.push(Wrong { entry: entry.key, tenant: entry.tenant.clone(), wrong });
        worst.sort_by_key(|known| std::cmp::Reverse(known.wrong));
        worst.truncate(MAX_WORST);
    }

    /// An audit could not say whether a near hit was right.
    pub fn unjudged(&self) {
        self.kept.numbers.unjudged.add(1);
    }

    /// An audit has cost so many micro-US-dollars.
    pub fn paid(&self, micros: u64) {
        self.kept.numbers.paid.add(micros);
    }
}

impl Wish {
    fn new(settings: Settings, calibration: Option<Calibration>) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), settings, calibration })
    }
}
