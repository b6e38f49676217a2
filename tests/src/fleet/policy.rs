//! Who gets a request: the gateway's own pool, at simulated instants, and three policies that know less.
//!
//! What it does not do: it decides nothing that a gateway decides; pool, balance, breaker and holders are the real ones.
//!
//! **Invariant:** a request counts as pending at one server, from the choice to its last token.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use pointsman::upstream::balance::{Affinity, Rule};
use pointsman::upstream::endpoint::{Endpoint, Permit};
use pointsman::upstream::pool::{Address, Ask, Pool, Settings};
use pointsman::upstream::provider;
use tokio::time::Instant;

use super::trace::Request;

/// How a gateway balances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// One after the other.
    RoundRobin,
    /// By chance.
    Random,
    /// Where the fewest requests are pending, by chance among equals.
    LeastConnections,
    /// As pointsman does without affinity.
    Cost,
    /// As pointsman does with `affinity = "prefix"`.
    Prefix,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::RoundRobin, Self::Random, Self::LeastConnections, Self::Cost, Self::Prefix];
    /// Those that it is compared with.
    pub const OTHERS: [Self; 3] = [Self::RoundRobin, Self::Random, Self::LeastConnections];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "round robin",
            Self::Random => "random",
            Self::LeastConnections => "least connections",
            Self::Cost => "pointsman, no affinity",
            Self::Prefix => "pointsman, prefix affinity",
        }
    }
}

/// One gateway.
pub struct Balancer {
    policy: Policy,
    random: fastrand::Rng,
    next: usize,
    pending: Vec<usize>,
    places: HashMap<usize, usize>,
    epoch: Instant,
    pool: Pool,
    permits: HashMap<usize, Permit>,
    avoid: HashMap<usize, Vec<Arc<Endpoint>>>,
}

/// A pool of so many endpoints, which are asked nothing.
pub fn pool(endpoints: usize, affinity: Rule, now: Instant) -> Pool {
    let addresses = (0..endpoints).map(|at| Address::new(format!("http://10.0.{}.{}:8000/v1", at / 250, at % 250))).collect();
    let settings = Settings { affinity, ..Settings::new("fleet", provider::named("openai").expect("it is spoken"), addresses) };
    Pool::build_at(settings, 1, None, now).expect("the addresses are URLs")
}

impl Balancer {
    /// A gateway that knows nothing yet.
    pub fn new(policy: Policy, servers: usize, seed: u64) -> Self {
        // The pool draws from the thread's own numbers.
        fastrand::seed(seed);
        let epoch = Instant::now();
        Self {
            policy,
            random: fastrand::Rng::with_seed(seed),
            next: seed as usize,
            pending: vec![0; servers],
            places: HashMap::new(),
            epoch,
            pool: pool(servers, if policy == Policy::Prefix { Rule::Prefix } else { Rule::None }, epoch),
            permits: HashMap::new(),
            avoid: HashMap::new(),
        }
    }

    fn at(&self, micros: u64) -> Instant {
        self.epoch + Duration::from_micros(micros)
    }

    /// A server for a request.
    pub fn choose(&mut self, id: usize, request: &Request, now: u64) -> Option<usize> {
        let count = self.pending.len();
        let place = match self.policy {
            Policy::RoundRobin => {
                self.next += 1;
                self.next % count
            }
            Policy::Random => self.random.usize(..count),
            Policy::LeastConnections => {
                let least = self.pending.iter().min().copied()?;
                let all: Vec<usize> = (0..count).filter(|place| self.pending[*place] == least).collect();
                all[self.random.usize(..all.len())]
            }
            Policy::Cost | Policy::Prefix => {
                let affinity =
                    if self.policy == Policy::Prefix { Affinity::Prefix(request.prefix.clone()) } else { Affinity::None };
                let avoid = self.avoid.get(&id).map(Vec::as_slice).unwrap_or_default();
                let ask = Ask { avoid, again: false, last: true, affinity: &affinity, tokens: 0, model: "" };
                let permit = self.pool.choose(ask, self.at(now)).ok()?;
                let place = self.pool.endpoints().iter().position(|endpoint| Arc::ptr_eq(endpoint, permit.endpoint()))?;
                self.permits.insert(id, permit);
                place
            }
        };
        self.pending[place] += 1;
        self.places.insert(id, place);
        Some(place)
    }

    /// The first token has come from there; is it the first one of this request?
    pub fn began(&mut self, id: usize, place: usize, now: u64) -> bool {
        let at = self.at(now);
        let Some(permit) = self.permits.get_mut(&id) else { return self.places.contains_key(&id) };
        let since = permit.since();
        permit.begun_at(at);
        self.pool.endpoints()[place].answered_at(since, true, at);
        true
    }

    /// A try has failed there.
    pub fn failed(&mut self, id: usize, place: usize, now: u64) {
        let at = self.at(now);
        self.places.remove(&id);
        self.pending[place] -= 1;
        if self.permits.remove(&id).is_some() {
            let endpoint = &self.pool.endpoints()[place];
            endpoint.failed_at(at, None, at);
            self.avoid.entry(id).or_default().push(endpoint.clone());
        }
    }

    /// It is over, one way or another.
    pub fn gone(&mut self, id: usize) {
        if let Some(place) = self.places.remove(&id) {
            self.pending[place] -= 1;
        }
        self.permits.remove(&id);
        self.avoid.remove(&id);
    }
}
