//! The cache of answers, in the order in which a request meets it: exact (memory, Redis, disk), then near.
//!
//! What it does not do: it embeds nothing and reads no request; keys, vectors and texts are brought by `gateway`, which also
//! decides what may be stored.
//!
//! **Invariant:** an entry is found only under the tenant that stored it ([`key`] sees to that).
//! **Invariant:** a near hit has passed every guard, and the cut that its tenant's evidence allows.
//! **Invariant:** an entry whose time is over is found by [`Cache::stale`] alone, and so never as a near hit.
//! **Invariant:** an entry that was purged is found by nobody, in whichever tier it is.
//! **Invariant:** a hit in memory allocates nothing and asks no other tier.

pub mod carry;
pub mod entry;
pub mod flight;
pub mod index;
pub mod key;
pub mod near;
mod numbers;
pub mod purge;
pub mod semantic;
pub mod tier;
pub mod trial;
pub mod trust;
pub mod verify;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

pub use entry::Entry;
pub use key::{ExactKey, Partition};
use near::Near;
use numbers::Numbers;
use purge::{Purges, Read, Rule, Selector, Stamp, Sweep};
use semantic::{Asked, Candidate, Semantic};
use tier::disk::{self, Disk, Vectors};
use tier::memory::Memory;
use tier::redis::lease::Claim;
use tier::redis::{self, Redis};
use tier::{Name, Tier};
use trust::Trust;
use trust::calibration::Calibration;
use trust::levels::Level;
use verify::Verifier;

/// How long whoever purges waits for other nodes to be told, and for the disk.
const TOLD: Duration = Duration::from_secs(1);

/// What the owner has written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of all entries in memory.
    pub memory: u64,
    /// How long an entry is served.
    pub ttl: Duration,
    /// How long it is kept after that, for those who have no other answer.
    pub stale_for: Duration,
    /// How long after that it is served while it is asked for anew.
    pub revalidates_for: Duration,
    /// Bytes of the largest answer that is kept.
    pub max_entry: usize,
    /// Tokens in a second of a stored answer that is asked for as a stream; 0: as fast as it is read.
    pub replay_rate: u32,
    /// Entries of one partition that near hits are looked for in; 0: none.
    pub max_near: usize,
    /// What is known of near hits; none: none are looked for.
    pub near: Option<NearSettings>,
    /// Equal requests that are under way share one upstream call.
    pub flights: bool,
    /// The tier that nodes share.
    pub redis: Option<redis::Settings>,
    /// The tier that outlives the process.
    pub disk: Option<disk::Settings>,
}

/// What the owner has written about near hits, and what is known of them.
#[derive(Clone, Debug)]
pub struct NearSettings {
    /// The id of the model file that vectors come from.
    pub embedder: String,
    /// What may be wrong, and what is audited.
    pub trust: trust::Settings,
    /// What is known beforehand; none: they start cold.
    pub calibration: Option<Calibration>,
}

/// The cache.
pub struct Cache {
    settings: Settings,
    held: Arc<Held>,
    /// Near hits; none where none are looked for.
    semantic: Option<Semantic>,
    purges: Arc<Purges>,
    redis: Option<Arc<Redis>>,
    disk: Option<Arc<Disk>>,
}

/// What is in memory. It outlives a change of settings that does not touch it.
struct Held {
    memory: Memory,
    near: Arc<Near>,
    numbers: Numbers,
}

impl Sweep for Held {
    fn sweep(&self, rule: &Rule, own: bool) {
        self.memory.sweep(rule, own);
        if rule.selector.is_all() {
            self.near.clear();
        }
    }
}

impl Vectors for Held {
    fn of(&self, entry: &Arc<Entry>) -> Option<Vec<f32>> {
        self.near.vector(entry)
    }

    fn back(&self, entry: Entry, vector: Vec<f32>) -> bool {
        let is_wanted = entry.is_fresh() && !entry.left().is_zero() && self.memory.find(&entry.key).is_none();
        let Some(partition) = entry.partition.filter(|_| is_wanted) else { return false };
        let entry = Arc::new(Entry { vector_bytes: size_of_val(&*vector), ..entry });
        self.near.insert(partition, &vector, &entry);
        self.memory.put(&entry);
        true
    }
}

/// What became of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Entries in memory that it took.
    pub entries: u64,
    /// Whether other nodes are told; none where there are none that could be. Not yet: Redis is away, they will be when it is back.
    pub told: Option<bool>,
}

impl Cache {
    /// A cache that has not started; with what goes on of the one before. `keeps_memory`: its vectors are of the same model.
    ///
    /// # Errors
    /// What the client of Redis finds wrong.
    pub fn new(settings: Settings, before: Option<&Self>, keeps_memory: bool) -> Result<Self, String> {
        let purges = before.map(|before| before.purges.clone()).unwrap_or_default();
        let held = before.filter(|before| keeps_memory && before.goes_with(&settings)).map(|before| before.held.clone());
        let known = before.filter(|_| held.is_some()).and_then(|before| before.semantic.as_ref());
        let held = held.unwrap_or_else(|| {
            let held = Arc::new(Held {
                memory: Memory::new(settings.memory),
                near: Arc::new(Near::new(settings.max_near, settings.ttl)),
                numbers: Numbers::default(),
            });
            purges.tell(Arc::downgrade(&held) as _);
            held
        });
        let redis = match &settings.redis {
            None => None,
            Some(wanted) => {
                let same = before.and_then(|before| before.redis.clone()).filter(|redis| redis.settings() == wanted);
                let new = || Redis::new(wanted.clone(), purges.clone()).map(Arc::new).map_err(|error| error.to_string());
                Some(same.map_or_else(new, Ok)?)
            }
        };
        let disk = settings.disk.as_ref().map(|wanted| {
            let same = before.and_then(|before| before.disk.clone()).filter(|disk| disk.is_in(&wanted.path));
            same.inspect(|disk| disk.adjust(wanted)).unwrap_or_else(|| Arc::new(Disk::new(wanted.clone(), purges.clone())))
        });
        let near = settings.near.as_ref().filter(|_| settings.max_near > 0);
        let semantic = near.map(|near| match known {
            Some(known) => known.under(near.trust, near.calibration.clone()),
            None => {
                let trust = Trust::new(near.trust, near.calibration.clone());
                Semantic::new(held.near.clone(), Verifier::of(&near.embedder), trust)
            }
        });
        let cache = Self { settings, held, semantic, purges, redis, disk };
        for tier in cache.further() {
            cache.purges.tell(Arc::downgrade(&tier) as _);
        }
        Ok(cache)
    }

    /// Begins the work of the tiers behind memory. Again: nothing.
    pub fn start(&self) {
        if let Some(disk) = &self.disk {
            disk.stands_behind(self.semantic.is_some().then(|| self.held.clone() as _));
        }
        self.further().for_each(|tier| tier.start());
    }

    /// Do the entries in memory go with these settings? Not where it has another size, or they are there for longer than they may be now.
    /// (Indexes of near hits last as long as their entries, so they go with one `ttl` alone.)
    fn goes_with(&self, settings: &Settings) -> bool {
        let own = &self.settings;
        let lasts = if own.max_near > 0 { settings.ttl == own.ttl } else { settings.ttl >= own.ttl };
        settings.memory == own.memory && settings.max_near == own.max_near && lasts
    }

    /// The tiers behind memory, in their order.
    fn further(&self) -> impl Iterator<Item = Arc<dyn Tier>> {
        let redis = self.redis.clone().map(|redis| redis as Arc<dyn Tier>);
        redis.into_iter().chain(self.disk.clone().map(|disk| disk as Arc<dyn Tier>))
    }

    /// How long an entry is served, where nobody says otherwise.
    pub fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    /// How long an entry is kept after its time.
    pub fn kept_for(&self) -> Duration {
        self.settings.stale_for.max(self.settings.revalidates_for)
    }

    /// How long after its time an entry may take the place of an error.
    pub fn stale_for(&self) -> Duration {
        self.settings.stale_for
    }

    /// How long after its time an entry is served while it is asked for anew.
    pub fn revalidates_for(&self) -> Duration {
        self.settings.revalidates_for
    }

    /// Bytes of the largest answer that is kept.
    pub fn max_entry(&self) -> usize {
        self.settings.max_entry
    }

    /// Tokens in a second of a stored answer that is asked for as a stream; 0: as fast as it is read.
    pub fn replay_rate(&self) -> u32 {
        self.settings.replay_rate
    }

    /// Do equal requests that are under way share one upstream call?
    pub fn has_flights(&self) -> bool {
        self.settings.flights
    }

    /// Are near hits looked for at all?
    pub fn has_near(&self) -> bool {
        self.settings.max_near > 0
    }

    /// Are there tiers behind memory?
    pub fn is_tiered(&self) -> bool {
        self.redis.is_some() || self.disk.is_some()
    }

    /// The last purge that is known: the stamp of an entry that is asked for now.
    pub fn stamp(&self) -> Stamp {
        self.purges.known()
    }

    /// Was nothing purged since that may mean this entry, which is still to come? Its model, which is not known yet, may be any.
    pub fn spares_coming(&self, entry: &Entry) -> bool {
        self.purges.spare_coming(entry)
    }

    /// Was nothing purged since that means this entry?
    pub fn spares(&self, entry: &Entry) -> bool {
        self.purges.spare(entry)
    }

    /// The answer to the very same request, where it is in memory.
    pub fn exact(&self, key: &ExactKey) -> Option<Arc<Entry>> {
        let entry = self.held.memory.find(key).filter(|entry| entry.is_fresh() && self.purges.spare(entry))?;
        entry.served();
        Some(entry)
    }

    /// The answer to the very same request out of the tiers behind memory, which those before it get too. What is there past its time is
    /// found by [`Self::stale`] from now on.
    pub async fn fetch(&self, key: &ExactKey, core: usize) -> Option<(Arc<Entry>, Name)> {
        // What a disk has may have been purged elsewhere while this node was away. It is served once that was asked for, if in vain.
        let is_asked = |name| name != Name::Disk || self.redis.is_none() || self.purges.read() > Read::NotYet;
        let mut before: Vec<Arc<dyn Tier>> = Vec::new();
        let mut old: Option<(Arc<Entry>, usize)> = None;
        for tier in self.further() {
            if is_asked(tier.name())
                && let Some(entry) = tier.get(key, core).await.filter(|entry| self.purges.spare(entry))
            {
                if entry.is_fresh() {
                    self.refill(&entry, &before);
                    entry.served();
                    return Some((entry, tier.name()));
                }
                // A tier behind may have a newer one: this one was away perhaps when that was stored.
                if old.as_ref().is_none_or(|(known, _)| known.created_at < entry.created_at) {
                    old = Some((entry, before.len()));
                }
            }
            before.push(tier);
        }
        if let Some((old, place)) = old {
            self.refill(&old, &before[..place]);
        }
        None
    }

    /// How long somebody waits for an answer that another node asks for.
    pub fn waits(&self) -> Duration {
        self.redis.as_ref().map_or(Duration::ZERO, |redis| redis.settings().wait)
    }

    /// Which node asks upstream for what `coming` will be? This one from now on, unless another does or has. Whose answer was purged is as if
    /// he did not ask.
    pub async fn claim(&self, coming: &Entry, core: usize) -> Claim {
        let Some(redis) = &self.redis else { return Claim::Unknown };
        let (claim, entry) = redis.claim(&coming.key, coming.stamp, core).await;
        if let Some(entry) = entry.filter(|entry| entry.is_fresh() && self.purges.spare(entry)) {
            self.refill(&entry, &[]);
            entry.served();
            return Claim::Stored(entry);
        }
        match claim {
            Claim::Others(other) if !self.purges.spare_since(other.stamp, coming) => Claim::Unknown,
            claim => claim,
        }
    }

    /// Into the tiers before the one that has it. In memory there may be a newer one, if somebody has stored it meanwhile.
    fn refill(&self, entry: &Arc<Entry>, before: &[Arc<dyn Tier>]) {
        let is_newer = |there: Arc<Entry>| there.created_at > entry.created_at && there.is_fresh() && self.purges.spare(&there);
        if !self.held.memory.find(&entry.key).is_some_and(is_newer) {
            self.held.memory.put(entry);
        }
        before.iter().for_each(|tier| tier.put(entry));
    }

    /// The answer to the very same request whose time is over, for whoever has no other.
    pub fn stale(&self, key: &ExactKey) -> Option<Arc<Entry>> {
        self.aged(key, self.settings.stale_for)
    }

    /// The same, if its time has been over for less than so long.
    pub fn aged(&self, key: &ExactKey, most: Duration) -> Option<Arc<Entry>> {
        // A reload may have shortened what an entry was stored with.
        let most = most.min(self.kept_for());
        let may_be = |entry: &Arc<Entry>| entry.stored.elapsed() < entry.ttl + entry.stale.min(most);
        self.held.memory.find(key).filter(|entry| may_be(entry) && self.purges.spare(entry))
    }

    /// Was an answer to this key stored since?
    pub fn was_stored_since(&self, key: &ExactKey, since: Instant) -> bool {
        self.held.memory.find(key).is_some_and(|entry| entry.stored >= since)
    }

    /// The best answer to a question that means about the same, and whether it may be served. Whoever serves it says so with
    /// [`Cache::served`].
    pub fn near(&self, asked: &Asked<'_>) -> Option<Candidate> {
        self.semantic.as_ref()?.find(asked, &|entry| self.purges.spare(entry))
    }

    /// A candidate was served.
    pub fn served(&self, asked: &Asked<'_>, candidate: &Candidate) {
        if let Some(semantic) = &self.semantic {
            semantic.served(asked, candidate);
        }
    }

    /// A candidate is not to be found again.
    pub fn evict(&self, partition: &Partition, candidate: &Candidate) {
        self.held.near.forget(partition, &candidate.entry);
    }

    /// Somebody says that an answer was wrong: nobody is served it any more. True: it was a near hit, and counts as one that was wrong; none:
    /// no such entry is in memory.
    pub async fn wrong(&self, key: &ExactKey) -> Option<bool> {
        let entry = self.held.memory.find(key);
        let counted = entry.as_ref().map(|entry| {
            let level = entry.near_level.load(Ordering::Relaxed).checked_sub(1).map(Level::at);
            let known = self.trust().zip(entry.partition).zip(level);
            if let Some(((trust, partition), level)) = known {
                trust.marked(entry, &partition, level);
            }
            known.is_some()
        });
        self.purge(Selector { key: Some(*key), ..Selector::default() }).await;
        counted
    }

    /// What is known of near hits; none where none are looked for.
    pub fn trust(&self) -> Option<&Trust> {
        self.semantic.as_ref().map(Semantic::trust)
    }

    /// Stores an answer in all tiers; with a vector it can be found by near hits in its partition too. False if it is too large, or was
    /// purged before it came.
    pub fn fill(&self, entry: Entry, vector: Option<&[f32]>) -> bool {
        if entry.answer.len() > self.settings.max_entry || entry.ttl.is_zero() || !self.purges.spare(&entry) {
            self.held.numbers.refused.add(1);
            return false;
        }
        self.take(Arc::new(entry), vector);
        self.held.numbers.stored.add(1);
        true
    }

    fn take(&self, entry: Arc<Entry>, vector: Option<&[f32]>) {
        if let (Some(partition), Some(vector)) = (entry.partition, vector) {
            self.held.near.insert(partition, vector, &entry);
        }
        self.held.memory.put(&entry);
        self.further().for_each(|tier| tier.put(&entry));
    }

    /// From now on nobody is served what the selector means: here at once, on other nodes within a second.
    pub async fn purge(&self, selector: Selector) -> Purged {
        let before = self.held.memory.sums().0;
        let rule = self.purges.make(selector, tier::now());
        let entries = before.saturating_sub(self.held.memory.sums().0);
        if let Some(disk) = &self.disk {
            disk.settle(TOLD).await;
        }
        let told = match &self.redis {
            None => None,
            Some(redis) => {
                redis.settle(TOLD).await;
                let is_told = async {
                    while !self.purges.is_told(&rule) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                Some(tokio::time::timeout(TOLD, is_told).await.is_ok())
            }
        };
        tracing::info!(selector = ?rule.selector, entries, told, "purged");
        Purged { entries, told }
    }

    /// Waits until the tiers behind memory have what was stored, at most so long each.
    pub async fn settle(&self, at_most: Duration) {
        for tier in self.further() {
            tier.settle(at_most).await;
        }
    }

    /// What it holds, for the administrator.
    pub fn report(&self) -> Value {
        let (entries, bytes) = self.held.memory.sums();
        let tier = |tier: Arc<dyn Tier>| {
            let (entries, bytes) = tier.size().unzip();
            let up = tier.numbers().map(tier::numbers::Numbers::is_up);
            (tier.name().as_str().to_owned(), json!({ "up": up, "entries": entries, "bytes": bytes }))
        };
        let tiers: serde_json::Map<_, _> = self.further().map(tier).collect();
        json!({ "entries": entries, "bytes": bytes, "partitions": self.held.near.partitions(), "stored": self.held.numbers.stored.get(), "refused": self.held.numbers.refused.get(), "tiers": tiers })
    }
}

#[cfg(test)]
mod tests;
